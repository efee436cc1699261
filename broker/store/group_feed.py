"""The records of a group's log, for the key index."""

import struct
from collections.abc import Callable

from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry

from .index_view import Records

_CHUNK_BYTES = 512 << 10
# Size and position of an entry.
_PLACE = struct.Struct(">4xi16xq")


class GroupFeed:
    """Implements `Feed`: what is dispatched here."""

    def __init__(self, log_server: LogServer, *, applied: Callable[[], int]) -> None:
        """Read one member's log up to the index that `applied` tells."""
        self._log = log_server
        self._applied = applied
        # Where the last chunk ended: a physical offset, and the log index of the entry there.
        self._pos = -1
        self._index = 0

    @property
    def begin_pos(self) -> int:
        """See `Feed.begin_pos`."""
        return self._log.begin.pos + entry.HEADER_BYTES

    async def records(self, pos: int, end: int) -> tuple[Records, int]:
        """See `Feed.records`."""
        if pos != self._pos or self._index < self._log.begin.index:
            self._index = await self._index_at(pos)
            self._pos = pos
        last = self._applied()
        if self._index > last:
            return Records(), pos
        found = self._log.cached_entries(self._index, last, _CHUNK_BYTES)
        if found is None:
            found = await self._log.read_entries(self._index, last, _CHUNK_BYTES)
        return self._cut(found[0], end)

    def _cut(self, data: bytes, end: int) -> tuple[Records, int]:
        """The records of these entries that begin below `end`."""
        places: list[tuple[int, int, int]] = []
        head_bytes, unpack = entry.HEADER_BYTES, _PLACE.unpack_from
        at = 0
        while at < len(data):
            size, pos = unpack(data, at)
            offset = pos + head_bytes
            if offset >= end:
                break
            places.append((offset, at + head_bytes, at + size))
            at += size
            self._pos = offset + size
        self._index += len(places)
        return Records(data, places), self._pos

    async def _index_at(self, pos: int) -> int:
        """Log index of the first entry whose record begins at `pos` or above."""
        low, high = self._log.begin.index, self._applied() + 1
        while low < high:
            middle = (low + high) // 2
            data, _ = await self._log.read_entries(middle, middle, 1)
            if entry.decode(data).pos + entry.HEADER_BYTES < pos:
                low = middle + 1
            else:
                high = middle
        return low
