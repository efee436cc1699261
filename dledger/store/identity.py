"""Whose store a folder is: refuses two processes on one store, and a store of another node."""

import fcntl
import json
import os
import secrets
from pathlib import Path

from ledgermq.dledger.errors import CallerError, DamagedError

from .segments import sync_folder

FORMAT_VERSION = 1


class StoreIdentity:
    """`identity.json` beside the log, and a lock held while the process lives.

    Attributes:
        store_id: random, made with the store; a wiped store gets another.
    """

    def __init__(
        self,
        folder: Path,
        *,
        group: str,
        self_id: str,
        segment_bytes: int,
        data_folder: Path | None = None,
    ) -> None:
        """Open or create.

        Args:
            folder: of the store.
            group: name of its group.
            self_id: of the node.
            segment_bytes: size of its log files.
            data_folder: where those lie, when not in `folder`; two nodes must not share it.

        Raises:
            CallerError: locked by another process, or made for another node.
        """
        self._locks: list[int] = []
        wanted = {"group": group, "selfId": self_id, "segmentBytes": segment_bytes}
        path = folder / "identity.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock(os.open(folder / "lock", flags, 0o644), folder, "storePathRootDir")
            if data_folder is not None:
                data_folder.mkdir(parents=True, exist_ok=True)
                fd = os.open(data_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._lock(fd, data_folder, "storePathDLedgerCommitLog")
            self.store_id = _check(path, wanted) if path.exists() else _create(path, wanted)
        except BaseException:
            self.close()
            raise

    def _lock(self, fd: int, folder: Path, key: str) -> None:
        self._locks.append(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise CallerError(
                f"{folder} is in use by another process. Stop that one, or give this node a"
                f" {key} of its own"
            ) from e

    def close(self) -> None:
        """Release the locks."""
        while self._locks:
            os.close(self._locks.pop())


def _create(path: Path, wanted: dict[str, object]) -> str:
    store_id = secrets.token_hex(8)
    text = json.dumps({"version": FORMAT_VERSION, "storeId": store_id, **wanted}, indent=2)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as f:
        f.write(text + "\n")
        f.flush()
        os.fsync(f.fileno())
    temporary.rename(path)
    sync_folder(path.parent)
    return store_id


def _check(path: Path, wanted: dict[str, object]) -> str:
    try:
        found = json.loads(path.read_text())
        store_id = str(found["storeId"])
    except (ValueError, KeyError, TypeError) as e:
        raise DamagedError(path, 0, f"not what this program writes ({e})") from e
    if found.get("version") != FORMAT_VERSION:
        raise CallerError(
            f"{path}: the store has format version {found.get('version')}; this program reads"
            f" version {FORMAT_VERSION}. Use the program that wrote it"
        )
    for key, value in wanted.items():
        if found.get(key) != value:
            raise CallerError(
                f"{path}: the store belongs to {key} {found.get(key)!r}, this node is configured"
                f" as {value!r}. Correct the configuration or choose another storePathRootDir"
            )
    return store_id
