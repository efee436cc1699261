"""Whose store a folder is: refuses two processes on one store, and a store of another node."""

import json
from pathlib import Path
from typing import Any
from zlib import crc32

from ledgermq.dledger.disk import Disk, ensure_folder, read_file, replace_file
from ledgermq.dledger.errors import CallerError, DamagedError
from ledgermq.dledger.host import Host

from .segments import naming
from .slots import refuse_newer

# Version 1 had no "check".
FORMAT_VERSION = 2


class StoreIdentity:
    """`identity.json` beside the log, and a lock held while the process lives.

    Attributes:
        store_id: random, made with the store; a wiped store gets another.
        found: the file was there.
        damage: it was there, and nobody can read it: `store_id` is a new one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        group: str,
        self_id: str,
        segment_bytes: int,
        data_folder: Path | None = None,
        host: Host | None = None,
    ) -> None:
        """Lock and read; `save` makes what is not there.

        Args:
            folder: of the store.
            group: name of its group.
            self_id: of the node.
            segment_bytes: size of its log files.
            data_folder: where those lie, when not in `folder`; two nodes must not share it.
            host: this machine unless given.

        Raises:
            CallerError: locked by another process, made for another node, or by a newer program.
        """
        host = host or Host()
        self._disk: Disk = host.disk
        self._locks: list[int] = []
        self._path = folder / "identity.json"
        self._wanted = {"group": group, "selfId": self_id, "segmentBytes": segment_bytes}
        self.store_id = ""
        self.damage: DamagedError | None = None
        try:
            self._lock(folder, "storePathRootDir", file="lock")
            if data_folder is not None:
                self._lock(data_folder, "storePathDLedgerCommitLog")
            with naming(self._path, "read"):
                data = read_file(self._disk, self._path)
            self.found = data is not None
            if data is not None:
                self._check(data)
        except BaseException:
            self.close()
            raise
        self.store_id = self.store_id or host.new_id()

    def _lock(self, folder: Path, key: str, *, file: str = "") -> None:
        with naming(folder, "open"):
            ensure_folder(self._disk, folder)
            try:
                self._locks.append(self._disk.lock(folder / file, folder=not file))
            except BlockingIOError as e:
                raise CallerError(
                    f"{folder} is in use by another process. Stop that one, or give this node a"
                    f" {key} of its own"
                ) from e

    def _check(self, data: bytes) -> None:
        try:
            found: dict[str, Any] = json.loads(data)
            version, check = int(found["version"]), found.pop("check", None)
            store_id = str(found["storeId"])
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            self.damage = DamagedError(self._path, 0, f"not what this program writes ({e})")
            return
        refuse_newer(self._path, version, FORMAT_VERSION)
        if version != 1 and check != _sum_of(found):
            self.damage = DamagedError(self._path, 0, "its check does not fit its values")
            return
        for key, value in self._wanted.items():
            if found.get(key) != value:
                raise CallerError(
                    f"{self._path}: the store belongs to {key} {found.get(key)!r}, this node is"
                    f" configured as {value!r}. Correct the configuration or choose another"
                    " storePathRootDir"
                )
        self.store_id = store_id

    def save(self) -> None:
        """Write the file, durably.

        Raises:
            DiskFullError: no room.
        """
        values = {"version": FORMAT_VERSION, "storeId": self.store_id, **self._wanted}
        text = json.dumps({**values, "check": _sum_of(values)}, indent=2)
        with naming(self._path, "write"):
            replace_file(self._disk, self._path, text.encode() + b"\n")
        self.found, self.damage = True, None

    def close(self) -> None:
        """Release the locks."""
        while self._locks:
            self._disk.close(self._locks.pop())


def _sum_of(values: dict[str, Any]) -> int:
    return crc32(json.dumps(values, sort_keys=True).encode())
