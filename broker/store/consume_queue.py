"""Consume queues: for each queue of a topic, where its messages lie in the log.

Unit of 20 bytes, big-endian: physical offset i64, record size i32, tags code i64, unit n at byte
n * 20 of `consumequeue/<topic>/<queue>/<start byte>`. Derived from the log; a snapshot says where
a queue begins and ends, its files only hold the units. Source: RocketMQ ConsumeQueue.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ledgermq.remoting.errors import StorageError
from ledgermq.remoting.message_record import MIN_RECORD_BYTES

from .queue_files import QueueFiles

UNIT_BYTES = 20
_UNIT = struct.Struct(">qiq")
# Stands for a unit that never was. Source: message-format §5, pre-fill.
_NO_UNIT = _UNIT.pack(0, 0x7FFFFFFF, 0)
# Units wait in memory for the next flush; a queue with more is written at once.
_TAIL_BYTES = 64 << 10


class Unit(NamedTuple):
    """Where a message lies; `size` in bytes."""

    physical_offset: int
    size: int
    tags_code: int


class ConsumeQueue:
    """One queue.

    Attributes:
        min_offset: offset of the oldest message kept.
        max_offset: offset of the next message. Invariant: units min_offset..max_offset are dense.
        dropped: its topic was deleted: nothing is read any more, the files may be gone.
    """

    __slots__ = (
        "_files", "_flushed", "_is_fresh", "_tail", "dropped", "folder", "max_offset", "min_offset",
    )  # fmt: skip

    def __init__(
        self, folder: Path, files: QueueFiles, min_offset: int = 0, max_offset: int = 0
    ) -> None:
        """A queue whose units between the two offsets are in its files."""
        self.folder = folder
        self._files = files
        self._tail = bytearray()
        self._flushed = max_offset
        # Begun in the middle of a file that nobody has written to.
        self._is_fresh = False
        self.min_offset = min_offset
        self.max_offset = max_offset
        self.dropped = False

    def reset(self, offset: int) -> None:
        """Be empty, and go on at `offset`."""
        self._tail.clear()
        self._flushed = self.min_offset = self.max_offset = offset
        self._is_fresh = True

    # --- reading ------------------------------------------------------------------------------

    def read(self, offset: int, count: int) -> list[Unit]:
        """Units from `offset` on, up to `count` and the end, none before the begin.

        May wait for the disk.

        Raises:
            StorageError: units are missing.
        """
        stored, tail = self._span(offset, count)
        return _units(self._read_stored(stored) + tail)

    def read_nowait(self, offset: int, count: int) -> list[Unit] | None:
        """`read` if all of it is in memory, else None."""
        stored, tail = self._span(offset, count)
        if not stored:
            return _units(tail)
        parts: list[bytes] = []
        for path, size, position in self._pieces(stored):
            data = self._files.read_cached(path, size, position)
            if data is None:
                return None
            parts.append(data)
        parts.append(tail)
        return _units(b"".join(parts))

    async def read_later(self, offset: int, count: int) -> list[Unit]:
        """`read`, in a thread when the disk must be asked."""
        found = self.read_nowait(offset, count)
        if found is not None:
            return found
        stored, tail = self._span(offset, count)
        try:
            return _units(await self._files.in_thread(self._read_stored, stored) + tail)
        except StorageError:
            if self.dropped or offset < self.min_offset:
                return []  # removed while the thread was looking
            raise

    def _span(self, offset: int, count: int) -> tuple[range, bytes]:
        """Which of the units wanted are in files, and those that are in memory."""
        end = min(offset + count, self.max_offset)
        if self.dropped or not self.min_offset <= offset < end:
            return range(0), b""
        low = max(offset, self._flushed)
        begin = (low - self._flushed) * UNIT_BYTES
        tail = bytes(self._tail[begin : begin + max(end - low, 0) * UNIT_BYTES])
        return range(offset, min(end, self._flushed)), tail

    def _pieces(self, units: range) -> Iterable[tuple[Path, int, int]]:
        """(file, bytes, byte in it) that hold these units."""
        position, end = units.start * UNIT_BYTES, units.stop * UNIT_BYTES
        while position < end:
            within = position % self._files.segment_bytes
            size = min(end - position, self._files.segment_bytes - within)
            yield self._path(position), size, within
            position += size

    def _read_stored(self, units: range) -> bytes:
        return b"".join(
            self._whole(path, self._files.read(path, size, position), size, position)
            for path, size, position in self._pieces(units)
        )

    def _whole(self, path: Path, data: bytes, size: int, position: int) -> bytes:
        if len(data) != size:
            raise StorageError(
                f"{path}: {size} bytes of queue units at byte {position} are missing"
            )
        return data

    def _path(self, position: int) -> Path:
        return self.folder / f"{position - position % self._files.segment_bytes:020d}"

    # --- writing ------------------------------------------------------------------------------

    def append(self, physical_offset: int, size: int, tags_code: int) -> bool:
        """Add the unit of message `max_offset`; True when enough waits for a write."""
        return self.append_packed(_UNIT.pack(physical_offset, size, tags_code), 1)

    def append_packed(self, units: bytes, count: int) -> bool:
        """`append` of `count` units that are packed already."""
        before = len(self._tail) // _TAIL_BYTES
        self._tail += units
        self.max_offset += count
        # Now and then only: on a full disk every try fails.
        return len(self._tail) // _TAIL_BYTES > before

    def flush(self) -> list[Path]:
        """Write what waits; the files that were written to.

        Raises:
            DiskFullError: no room; everything waits on.
        """
        written: list[Path] = []
        if self._is_fresh:
            self._fill_before(self._flushed * UNIT_BYTES)
        data = memoryview(bytes(self._tail))
        units = range(self._flushed, self._flushed + len(data) // UNIT_BYTES)
        for path, size, position in self._pieces(units):
            self._files.write(path, data[:size], position)
            written.append(path)
            data = data[size:]
        self._flushed = units.stop
        self._tail.clear()
        return written

    def _fill_before(self, position: int) -> None:
        """Mark what lies before the first unit of a fresh file, as upstream's recovery wants it.

        Without that it takes the queue for an empty one.
        """
        within = position % self._files.segment_bytes
        self._files.write(self._path(position), memoryview(_NO_UNIT * (within // UNIT_BYTES)), 0)
        self._is_fresh = False

    # --- the begin ----------------------------------------------------------------------------

    async def first_at(self, begin_pos: int) -> int:
        """Offset of the first unit that does not point below `begin_pos`.

        The units are in the order of the log, so halve; broken ones may mislead.
        """
        low, high = self.min_offset, self.max_offset
        while low < high:
            middle = (low + high) // 2
            found = await self.read_later(middle, 1)
            if not found:
                break  # the topic was deleted meanwhile
            if found[0].physical_offset < begin_pos:
                low = middle + 1
            else:
                high = middle
        return low

    def files_below(self) -> list[Path]:
        """The files that hold no unit from the begin on; may wait for the disk."""
        size, position = self._files.segment_bytes, self.min_offset * UNIT_BYTES
        names = self._files.disk.names(self.folder) if position >= size else []
        return [self.folder / n for n in names if n.isdigit() and int(n) + size <= position]

    def problem(self, begin_pos: int, end_pos: int) -> str | None:
        """Why the files cannot hold this queue of a log of these bounds; None: they may.

        A look at its ends only: each unit is checked when it leads to a message.
        """
        if self.min_offset == self.max_offset:
            return None
        for path, _, _ in self._pieces(range(self.min_offset, self.max_offset)):
            if self._files.size(path) != self._files.segment_bytes:
                return f"{path} is missing or has another size"
        first, last = (self.read(at, 1)[0] for at in (self.min_offset, self.max_offset - 1))
        least = (self.max_offset - 1 - self.min_offset) * MIN_RECORD_BYTES
        if min(first.size, last.size) < MIN_RECORD_BYTES:
            return f"{self.folder} has no units at its ends"
        if (
            first.physical_offset < begin_pos
            or last.physical_offset + last.size > end_pos
            or last.physical_offset - first.physical_offset < least
        ):
            return f"{self.folder} holds units of another log"
        return None


def pack_unit(physical_offset: int, size: int, tags_code: int) -> bytes:
    """The unit of a message, as it lies in the file."""
    return _UNIT.pack(physical_offset, size, tags_code)


def unit_of(data: bytes) -> Unit:
    """The unit that these 20 bytes are."""
    return Unit._make(_UNIT.unpack(data))


def _units(data: bytes) -> list[Unit]:
    return [Unit._make(u) for u in _UNIT.iter_unpack(data)]
