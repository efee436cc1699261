"""Key-value pairs by namespace, kept in kvConfig.json (upstream's name and format).

The one thing a name server keeps on disk. Its main use: namespace ORDER_TOPIC_CONFIG, which tells
brokers and clients the queues of an ordered topic.
"""

import asyncio
import os
from pathlib import Path

import aiofiles
import aiofiles.os
import msgspec

from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError

from .errors import KvStoreError

ORDER_TOPIC_NAMESPACE = "ORDER_TOPIC_CONFIG"
MAX_TEXT_BYTES = 65_536


class _File(msgspec.Struct, rename="camel"):
    config_table: dict[str, dict[str, str]] = {}


class KvConfig:
    """The pairs in memory and their file.

    Args:
        path: where kvConfig.json is or will be; read by `load`.
        max_entries: bound on pairs over all namespaces; a further one is refused.
    """

    def __init__(self, path: Path, *, max_entries: int = 10_000) -> None:
        self.max_entries = max_entries
        self._path = path
        self._table: dict[str, dict[str, str]] = {}
        self._writing = asyncio.Lock()

    def load(self) -> None:
        """Read the file; a missing one is an empty one.

        Raises:
            KvStoreError: it is there and cannot be read or understood.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as e:
            raise KvStoreError(
                f"cannot read {self._path}: {e.strerror}. Make it readable for this user, or name"
                " another file by kvConfigPath."
            ) from e
        try:
            self._table = msgspec.json.decode(data, type=_File).config_table if data else {}
        except msgspec.DecodeError as e:
            raise KvStoreError(
                f"{self._path} is no kvConfig.json: {e}. Repair it, or move it away to start"
                " without its pairs."
            ) from e

    def get(self, namespace: str, key: str) -> str | None:
        """One value, or None."""
        return self._table.get(namespace, {}).get(key)

    def namespace(self, namespace: str) -> dict[str, str]:
        """A copy of all pairs of a namespace; empty when it has none."""
        return dict(self._table.get(namespace, {}))

    async def put(self, namespace: str, key: str, value: str) -> None:
        """Set a pair and write the file.

        Raises:
            PeerError: the table is full, or the texts are too long.
            OSError: the file could not be written; the pair holds in memory only.
        """
        if len((namespace + key + value).encode()) > MAX_TEXT_BYTES:
            raise PeerError(
                ResponseCode.INVALID_PARAMETER,
                f"namespace, key and value have more than {MAX_TEXT_BYTES} bytes together",
            )
        new = key not in self._table.get(namespace, {})
        if new and sum(map(len, self._table.values())) >= self.max_entries:
            raise PeerError(
                ResponseCode.SYSTEM_ERROR,
                f"this name server holds {self.max_entries} pairs already; delete some or raise"
                " maxKvEntries in its configuration",
            )
        self._table.setdefault(namespace, {})[key] = value
        await self._save()

    async def delete(self, namespace: str, key: str) -> None:
        """Drop a pair, if it is there, and write the file.

        Raises:
            OSError: the file could not be written; the change holds in memory only.
        """
        pairs = self._table.get(namespace, {})
        if pairs.pop(key, None) is None:
            return
        if not pairs:
            del self._table[namespace]
        await self._save()

    async def _save(self) -> None:
        """Write tmp, sync, rename: a crash leaves the old file or the new one."""
        async with self._writing:
            data = msgspec.json.format(msgspec.json.encode(_File(self._table)), indent=2)
            await aiofiles.os.makedirs(self._path.parent, exist_ok=True)
            temporary = self._path.with_name(self._path.name + ".tmp")
            async with aiofiles.open(temporary, "wb") as file:
                await file.write(data)
                await file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await aiofiles.os.replace(temporary, self._path)
