"""Consume queues: for each queue of a topic, where its messages lie in the log.

Unit of 20 bytes, big-endian: physical offset i64, record size i32, tags code i64, unit n at byte
n * 20 of `consumequeue/<topic>/<queue>/<start byte>`. Derived from the log: what is missing is
dispatched again. Source: RocketMQ ConsumeQueue.
"""

import errno
import os
import shutil
import struct
from collections import OrderedDict
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.errors import StorageError

UNIT_BYTES = 20
_UNIT = struct.Struct(">qiq")
# Units wait in memory for the next flush; a queue with more is written at once.
_TAIL_BYTES = 64 << 10
_MAX_OPEN_FILES = 256
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Unit(NamedTuple):
    """Where a message lies; `size` in bytes."""

    physical_offset: int
    size: int
    tags_code: int


class _Files:
    """Open files, the longest unused closed first."""

    def __init__(self, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self._fds: OrderedDict[Path, int] = OrderedDict()

    def get(self, path: Path, *, create: bool) -> int | None:
        fd = self._fds.get(path)
        if fd is not None:
            self._fds.move_to_end(path)
            return fd
        try:
            fd = self._open(path, create=create)
        except OSError as e:
            raise _translate(e, path, "open") from e
        if fd is None:
            return None
        self._fds[path] = fd
        if len(self._fds) > _MAX_OPEN_FILES:
            os.close(self._fds.popitem(last=False)[1])
        return fd

    def _open(self, path: Path, *, create: bool) -> int | None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            fd = os.open(path, flags, 0o644)
        except FileNotFoundError:
            if not create:
                return None
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, flags, 0o644)
        if create and os.fstat(fd).st_size < self.segment_bytes:
            os.ftruncate(fd, self.segment_bytes)
        return fd

    def forget(self, folder: Path) -> None:
        for path in [p for p in self._fds if p.is_relative_to(folder)]:
            os.close(self._fds.pop(path))

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


class ConsumeQueue:
    """One queue.

    Attributes:
        max_offset: offset of the next message. Invariant: units 0..max_offset are dense.
    """

    __slots__ = ("_files", "_flushed", "_folder", "_tail", "max_offset")

    def __init__(self, folder: Path, files: _Files, end_pos: int) -> None:
        """Open; units that point to `end_pos` or beyond do not count."""
        self._folder = folder
        self._files = files
        self._tail = bytearray()
        self._flushed = self._find_end(end_pos)
        self.max_offset = self._flushed

    def _find_end(self, end_pos: int) -> int:
        """Number of leading units that point below `end_pos`: they are in order, so halve."""
        if not self._folder.is_dir():
            return 0
        bases = sorted(int(p.name) for p in self._folder.iterdir() if p.name.isdigit())
        if not bases:
            return 0
        low, high = 0, (bases[-1] + self._files.segment_bytes) // UNIT_BYTES
        while low < high:
            middle = (low + high) // 2
            data = self._read_file(middle * UNIT_BYTES, UNIT_BYTES)
            unit = Unit._make(_UNIT.unpack(data)) if len(data) == UNIT_BYTES else Unit(0, 0, 0)
            if unit.size > 0 and unit.physical_offset < end_pos:
                low = middle + 1
            else:
                high = middle
        return low

    def append(self, physical_offset: int, size: int, tags_code: int) -> bool:
        """Add the unit of message `max_offset`; True when enough waits for a write."""
        self._tail += _UNIT.pack(physical_offset, size, tags_code)
        self.max_offset += 1
        # Now and then only: on a full disk every try fails.
        return len(self._tail) % _TAIL_BYTES < UNIT_BYTES

    def read(self, offset: int, count: int) -> list[Unit]:
        """Units from `offset` on, up to `count` and the end."""
        count = min(count, self.max_offset - offset)
        if count <= 0 or offset < 0:
            return []
        parts: list[bytes] = []
        at, left = offset, count
        while left and at < self._flushed:
            data = self._read_file(at * UNIT_BYTES, min(left, self._flushed - at) * UNIT_BYTES)
            if not data:
                raise StorageError(f"{self._folder}: unit {at} is missing")
            parts.append(data)
            at += len(data) // UNIT_BYTES
            left -= len(data) // UNIT_BYTES
        if left:
            begin = (at - self._flushed) * UNIT_BYTES
            parts.append(bytes(self._tail[begin : begin + left * UNIT_BYTES]))
        return [Unit._make(u) for u in _UNIT.iter_unpack(b"".join(parts))]

    def _path(self, position: int) -> Path:
        return self._folder / f"{position - position % self._files.segment_bytes:020d}"

    def _read_file(self, position: int, size: int) -> bytes:
        fd = self._files.get(self._path(position), create=False)
        if fd is None:
            return b""
        offset = position % self._files.segment_bytes
        try:
            return os.pread(fd, min(size, self._files.segment_bytes - offset), offset)
        except OSError as e:
            raise _translate(e, self._path(position), "read") from e

    def flush(self) -> list[Path]:
        """Write what waits; the files that were written to.

        Raises:
            DiskFullError: no room; everything waits on.
        """
        written: list[Path] = []
        data = memoryview(bytes(self._tail))
        position = self._flushed * UNIT_BYTES
        while data:
            path = self._path(position)
            offset = position % self._files.segment_bytes
            room = self._files.segment_bytes - offset
            self._write_file(path, data[:room], offset)
            written.append(path)
            position += min(room, len(data))
            data = data[room:]
        self._flushed = position // UNIT_BYTES
        self._tail.clear()
        return written

    def _write_file(self, path: Path, data: memoryview, offset: int) -> None:
        fd = self._files.get(path, create=True)
        if fd is None:
            raise StorageError(f"{path}: cannot be opened")
        try:
            while data:
                done = os.pwrite(fd, data, offset)
                data, offset = data[done:], offset + done
        except OSError as e:
            raise _translate(e, path, "write") from e


class ConsumeQueues:
    """All queues below one folder, opened when first asked for.

    Attributes:
        dirty: queues with units that are in memory only.
    """

    def __init__(self, folder: Path, segment_bytes: int, end_pos: int) -> None:
        """Open; units that point to `end_pos` or beyond do not count, they will come again."""
        self._folder = folder
        self._files = _Files(segment_bytes)
        self._end_pos = end_pos
        self._queues: dict[tuple[str, int], ConsumeQueue] = {}
        self.dirty: set[ConsumeQueue] = set()
        self._unsynced: set[Path] = set()
        # What readers get for a queue that does not exist.
        self.nothing = ConsumeQueue(folder / "nothing" / "here", self._files, 0)
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, topic: str, queue_id: int) -> ConsumeQueue:
        """The queue; one without files is empty."""
        key = (topic, queue_id)
        queue = self._queues.get(key)
        if queue is None:
            folder = self._folder / topic / str(queue_id)
            queue = self._queues[key] = ConsumeQueue(folder, self._files, self._end_pos)
        return queue

    def append(self, queue: ConsumeQueue, physical_offset: int, size: int, tags_code: int) -> None:
        """Add a unit; it is on file after the next `flush`."""
        is_much = queue.append(physical_offset, size, tags_code)
        self.dirty.add(queue)
        if is_much:
            with suppress(DiskFullError):  # it stays among those that wait
                self._write(queue)

    def flush(self, limit: int) -> None:
        """Write the waiting units of up to `limit` queues.

        Raises:
            DiskFullError: no room; what is not written waits on and can be read.
        """
        for queue in list(islice(self.dirty, limit)):
            self._write(queue)

    def _write(self, queue: ConsumeQueue) -> None:
        for path in queue.flush():
            self._unsynced.update((path, path.parent, path.parent.parent, self._folder))
        self.dirty.discard(queue)

    def take_unsynced(self) -> list[Path]:
        """Files written since the last call, and their folders; sync them with `sync_files`."""
        paths, self._unsynced = list(self._unsynced), set()
        return paths

    def drop_topic(self, topic: str) -> None:
        """Remove all queues of a topic."""
        for key in [k for k in self._queues if k[0] == topic]:
            self.dirty.discard(self._queues.pop(key))
        folder = self._folder / topic
        self._files.forget(folder)
        self._unsynced = {p for p in self._unsynced if not p.is_relative_to(folder)}
        shutil.rmtree(folder, ignore_errors=True)

    def drop_unknown(self, topics: set[str]) -> None:
        """Remove what a crash left of topics that were deleted."""
        for folder in [p for p in self._folder.iterdir() if p.name not in topics]:
            self.drop_topic(folder.name)

    def close(self) -> None:
        """Write everything and close.

        Raises:
            DiskFullError: what is not written will be dispatched again.
        """
        try:
            self.flush(len(self.dirty))
        finally:
            self._files.close()


def _translate(e: OSError, path: Path, what: str) -> Exception:
    if e.errno in _NO_ROOM:
        return DiskFullError(f"{path}: no room left on the device; free some or move the store")
    return StorageError(f"{path}: {what} failed: {e.strerror}")


def sync_files(paths: list[Path]) -> None:
    """Put files and folders on disk; one removed meanwhile needs none. May run in a thread."""
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fdatasync(fd)
        except OSError as e:
            raise StorageError(f"{path}: fdatasync failed: {e.strerror}") from e
        finally:
            os.close(fd)
