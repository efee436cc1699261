"""Entry index -> place: 32-byte units in `index/`, derived from the data.

Unit, big-endian: magic i32, pos i64, size i32, index i64, term i64, at byte index * 32.
Source: DLedger 0.3.1.2, DLedgerEntryCoder.encodeIndex.
"""

import logging
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ledgermq.dledger.disk import Disk, OsDisk
from ledgermq.dledger.errors import CallerError, DamagedError

from .entry import MAGIC, EntryHeader
from .segments import Segments

log = logging.getLogger(__name__)

UNIT_BYTES = 32
UNITS_PER_SEGMENT = 5_242_880
UNIT = struct.Struct(">iqiqq")
# Units wait in memory so that an append costs one system call, not two.
_BUFFER_BYTES = 64 << 10


class IndexUnit(NamedTuple):
    """Where an entry is; `size` in bytes with its header."""

    pos: int
    size: int
    log_index: int
    term: int


class EntryIndex:
    """Units up to the end of the log; those past the last write are in memory."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        """Open; files that cannot be of this index are removed, since it can be made anew."""
        disk = disk or OsDisk()
        size = UNIT_BYTES * UNITS_PER_SEGMENT
        try:
            self.segments = Segments(folder, size, mend_size=True, disk=disk)
        except CallerError as e:
            log.warning("%s is made anew: %s", folder, e)
            disk.remove_folder(folder)
            self.segments = Segments(folder, size, mend_size=True, disk=disk)
        # First index that is only in memory, and the units from there on. Replaced as one: `get`
        # may run in a thread.
        self._tail: tuple[int, bytearray] = (0, bytearray())

    def start_at(self, index: int) -> None:
        """Units below `index` are on file; the next one appended is `index`."""
        self._tail = (index, bytearray())

    def append(self, pos: int, size: int, index: int, term: int) -> None:
        """Add the unit of the next entry."""
        self._tail[1].extend(UNIT.pack(MAGIC, pos, size, index, term))

    def extend(self, units: bytes) -> None:
        """Add the units of the next entries, as `Walked.units` makes them."""
        self._tail[1].extend(units)

    @property
    def needs_flush(self) -> bool:
        """Whether enough is buffered for a write."""
        return len(self._tail[1]) >= _BUFFER_BYTES

    def flush(self, stop: int | None = None) -> None:
        """Write the buffered units, those of `stop` and behind it left out (not synced)."""
        flushed, buffer = self._tail
        size = len(buffer) if stop is None else max(stop - flushed, 0) * UNIT_BYTES
        data = memoryview(bytes(buffer[:size]))
        pos = flushed * UNIT_BYTES
        while data:
            room = self.segments.segment_bytes - pos % self.segments.segment_bytes
            self.segments.write(pos, data[:room])
            pos += min(room, len(data))
            data = data[room:]
        self._tail = (pos // UNIT_BYTES, buffer[size:])

    def truncate(self, index: int, end: int) -> None:
        """Drop units index..end (exclusive)."""
        flushed, buffer = self._tail
        if index >= flushed:
            self._tail = (flushed, buffer[: (index - flushed) * UNIT_BYTES])
            return
        self._tail = (index, bytearray())
        self.segments.zero(index * UNIT_BYTES, min(end, flushed) * UNIT_BYTES)

    def clear_after(self, index: int) -> None:
        """Drop whatever lies in the files from `index` on; nothing is buffered there."""
        pos, size = index * UNIT_BYTES, self.segments.segment_bytes
        self.segments.drop_from(pos - pos % size + size)
        self.segments.clear_after(pos)

    def drop_below(self, index: int) -> None:
        """Remove the files that hold only units below `index`."""
        pos = index * UNIT_BYTES
        self.segments.drop_below(pos - pos % self.segments.segment_bytes)

    def get(self, index: int) -> IndexUnit | None:
        """The unit of `index`, or None when it is missing or not one. May read from the disk."""
        flushed, buffer = self._tail
        at = (index - flushed) * UNIT_BYTES
        if at >= 0:
            data = bytes(buffer[at : at + UNIT_BYTES])
        else:
            data = self.segments.read(index * UNIT_BYTES, UNIT_BYTES)
        if len(data) < UNIT_BYTES:
            return None
        magic, pos, size, found, term = UNIT.unpack(data)
        if magic != MAGIC or found != index:
            return None
        return IndexUnit(pos, size, index, term)

    def check_all(self, headers: Sequence[EntryHeader]) -> None:
        """Compare the units of consecutive entries with the entries.

        Raises:
            DamagedError: one says something else; it can be made anew.
        """
        at = 0
        while at < len(headers):
            units = self._units(headers[at].log_index, len(headers) - at)
            for header, unit in zip(headers[at:], UNIT.iter_unpack(units), strict=False):
                if unit != (MAGIC, header.pos, header.size, header.log_index, header.term):
                    raise self.damage(header.log_index)
                at += 1
            if not units:
                raise self.damage(headers[at].log_index)

    def check(self, header: EntryHeader) -> None:
        """`check_all` for one."""
        self.check_all((header,))

    def _units(self, first: int, count: int) -> bytes:
        """Units from `first` on, up to `count`, as many as lie together."""
        flushed, buffer = self._tail
        if first >= flushed:
            begin = (first - flushed) * UNIT_BYTES
            return bytes(buffer[begin : begin + count * UNIT_BYTES])
        data = self.segments.read(first * UNIT_BYTES, min(count, flushed - first) * UNIT_BYTES)
        return data[: len(data) - len(data) % UNIT_BYTES]

    def damage(self, index: int) -> DamagedError:
        """The error that says that the unit of `index` is wrong."""
        place = index * UNIT_BYTES
        return DamagedError(
            self.segments.path_of(place),
            place % self.segments.segment_bytes,
            f"no unit of entry {index}. Restart the node: the entry index is made anew from the"
            " data",
        )

    def close(self) -> None:
        """Close the files; what is buffered and not flushed is rebuilt from the data."""
        self.segments.close()
