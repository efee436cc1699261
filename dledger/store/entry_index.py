"""Entry index -> place: 32-byte units in `index/`, derived from the data.

Unit, big-endian: magic i32, pos i64, size i32, index i64, term i64, at byte index * 32.
Source: DLedger 0.3.1.2, DLedgerEntryCoder.encodeIndex.
"""

import struct
from pathlib import Path
from typing import NamedTuple

from .entry import MAGIC
from .segments import Segments

UNIT_BYTES = 32
UNITS_PER_SEGMENT = 5_242_880
_UNIT = struct.Struct(">iqiqq")
# Units wait in memory so that an append costs one system call, not two.
_BUFFER_BYTES = 64 << 10


class IndexUnit(NamedTuple):
    """Where an entry is; `size` in bytes with its header."""

    pos: int
    size: int
    log_index: int
    term: int


class EntryIndex:
    """Units 0..end; those past the last write are in memory."""

    def __init__(self, folder: Path) -> None:
        self.segments = Segments(folder, UNIT_BYTES * UNITS_PER_SEGMENT, mend_size=True)
        # First index that is only in memory, and the units from there on. Replaced as one: `get`
        # may run in a thread.
        self._tail: tuple[int, bytearray] = (0, bytearray())

    def start_at(self, index: int) -> None:
        """Units below `index` are on file; the next one appended is `index`."""
        self._tail = (index, bytearray())

    def append(self, pos: int, size: int, index: int, term: int) -> None:
        """Add the unit of the next entry."""
        self._tail[1].extend(_UNIT.pack(MAGIC, pos, size, index, term))

    @property
    def needs_flush(self) -> bool:
        """Whether enough is buffered for a write."""
        return len(self._tail[1]) >= _BUFFER_BYTES

    def flush(self) -> None:
        """Write the buffered units (not synced)."""
        flushed, buffer = self._tail
        data = memoryview(bytes(buffer))
        pos = flushed * UNIT_BYTES
        while data:
            room = self.segments.segment_bytes - pos % self.segments.segment_bytes
            self.segments.write(pos, data[:room])
            pos += min(room, len(data))
            data = data[room:]
        self._tail = (pos // UNIT_BYTES, bytearray())

    def truncate(self, index: int, end: int) -> None:
        """Drop units index..end (exclusive)."""
        flushed, buffer = self._tail
        if index >= flushed:
            self._tail = (flushed, buffer[: (index - flushed) * UNIT_BYTES])
            return
        self._tail = (index, bytearray())
        self.segments.zero(index * UNIT_BYTES, min(end, flushed) * UNIT_BYTES)

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
        magic, pos, size, found, term = _UNIT.unpack(data)
        if magic != MAGIC or found != index:
            return None
        return IndexUnit(pos, size, index, term)

    def close(self) -> None:
        """Close the files; what is buffered and not flushed is rebuilt from the data."""
        self.segments.close()
