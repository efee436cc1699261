"""The plain commitlog: records one after the other, in files named by their start offset.

Not thread safe, but for `sync`, `read` and `first_store_ms`, which may run in a thread.
`recovery.open_commit_log` makes one.
"""

from bisect import bisect_right
from collections.abc import Iterable
from concurrent.futures import Executor
from operator import itemgetter

from ledgermq.dledger.errors import CallerError, DamagedError, InvariantError
from ledgermq.dledger.store.clean_writes import CleanWrites
from ledgermq.dledger.store.segments import Segments
from ledgermq.dledger.store.zero_ahead import ZeroAhead

from . import scan

_RECENT_BYTES = 16 << 20
_PHYSICAL_OFFSET = slice(28, 36)
_start_of = itemgetter(0)


class CommitLog:
    """Append, read, drop at the begin.

    `reserve` tells where the next record lies, `stage` takes it; everything staged is one write.

    Attributes:
        segments: the files.
        begin_pos: first byte kept.
        end_pos: byte after the last record; the next one lands here or starts the next file.
    """

    def __init__(self, segments: Segments, end_pos: int) -> None:
        """A log whose last record ends at `end_pos`; behind it there are zeros only."""
        self.segments = segments
        self.segment_bytes = segments.segment_bytes
        self.begin_pos = min(segments.bases, default=end_pos)
        self.end_pos = end_pos
        self._recent = _Recent(self.segment_bytes)
        self._writes = CleanWrites(segments)
        self._zero_ahead: ZeroAhead | None = None
        # What was staged: whole runs and the parts of the last one, each run within one file.
        self._runs: list[tuple[int, bytes]] = []
        self._parts: list[bytes] = []
        self._run_start = end_pos
        self._staged_end = end_pos

    def zero_ahead_in(self, executor: Executor) -> None:
        """Have a thread write zeros ahead of the end: for logs whose every write is synced."""
        self._zero_ahead = ZeroAhead(self.segments, executor)

    # --- appending ----------------------------------------------------------------------------

    def reserve(self, record_bytes: int) -> int:
        """Physical offset of the next record, which is to be staged then.

        Raises:
            CallerError: no file can hold it.
        """
        longest = self.segment_bytes - scan.BLANK_BYTES
        if record_bytes > longest:
            raise CallerError(
                f"a record of {record_bytes} bytes cannot be stored; one has at most {longest}"
                " (mappedFileSizeCommitLog)"
            )
        return scan.place(self._staged_end, record_bytes, self.segment_bytes)

    def reserve_run(self, sizes: Iterable[int]) -> list[int]:
        """`reserve` for records that follow each other."""
        end, places = self._staged_end, []
        for size in sizes:
            if size > self.segment_bytes - scan.BLANK_BYTES:
                self.reserve(size)
            pos = scan.place(end, size, self.segment_bytes)
            places.append(pos)
            end = pos + size
        return places

    def stage(self, record: bytes) -> None:
        """Prepare one record at the place `reserve` named; `write_staged` writes it.

        Raises:
            InvariantError: it was made for another place.
        """
        pos = self.reserve(len(record))
        if int.from_bytes(record[_PHYSICAL_OFFSET]) != pos:
            raise InvariantError(f"a record that is not made for its place {pos} was staged")
        if pos != self._staged_end:
            self._parts.append(scan.blank(pos - self._staged_end))
            self._close_run()
            self._run_start = pos
        self._parts.append(record)
        self._staged_end = pos + len(record)

    def _close_run(self) -> None:
        if self._parts:
            self._runs.append((self._run_start, b"".join(self._parts)))
            self._parts = []

    def write_staged(self) -> int:
        """Write what was staged (not synced); the new end.

        Raises:
            DiskFullError: nothing was appended.
            StorageError: the disk failed; stop the node.
        """
        self._close_run()
        if self._zero_ahead is not None:
            self._zero_ahead.before_write(self._staged_end)
        try:
            self._writes.write(self._runs)
        except BaseException:
            self.drop_staged()
            raise
        for start, data in self._runs:
            self._recent.add(start, data)
        self._runs = []
        self.end_pos = self._run_start = self._staged_end
        if self._zero_ahead is not None:
            self._zero_ahead.after_write(self.end_pos)
        return self.end_pos

    def drop_staged(self) -> None:
        """Forget what was staged and not written."""
        self._runs, self._parts = [], []
        self._run_start = self._staged_end = self.end_pos

    def sync(self) -> None:
        """Put everything written so far on disk. May run in a thread.

        Raises:
            StorageError: it may not be there; stop the node.
        """
        self.segments.sync()

    # --- reading ------------------------------------------------------------------------------

    def cached(self, pos: int, max_bytes: int) -> bytes | None:
        """What lies from the record at `pos` on in its file, from memory; None: not there.

        Whole records: at least one, up to `max_bytes`. Behind the last one of a file comes the
        blank, as in the file: what begins with one (`scan.is_blank`) goes on in the next file.
        """
        return self._recent.get(pos, max_bytes)

    def read(self, pos: int, size: int) -> bytes:
        """Up to `size` bytes at `pos`, fewer at the end of a file; b"" if there is none.

        May wait for the disk.
        """
        return self.segments.read(pos, size)

    def read_records(self, pos: int) -> bytes:
        """What lies from the record at `pos` on in its file, as `cached`; may wait for the disk."""
        data = self.segments.read(pos, scan.CHUNK_BYTES)
        size = scan.size_at(data)
        return data if size <= len(data) else self.segments.read(pos, size)

    def read_nowait(self, pos: int, size: int) -> bytes | None:
        """`size` bytes at `pos` of one file if the page cache has them all, else None."""
        return self.segments.read_nowait(pos, size)

    def damaged(self, pos: int, what: str) -> DamagedError:
        """The error for what was not found at `pos`: says file, byte, and what to do."""
        return damage(self.segments, pos, what)

    # --- files --------------------------------------------------------------------------------

    def file_starts(self) -> list[int]:
        """Start offsets of the files, ascending."""
        return self.segments.bases

    def first_store_ms(self, base: int) -> int | None:
        """See the function of this name. May run in a thread."""
        return first_store_ms(self.segments, base)

    def drop_below(self, base: int) -> None:
        """Remove the files that start before `base`, which must be the start of a kept file.

        Raises:
            InvariantError: the log does not go on there.
            OSError: the disk failed; stop the node.
        """
        if base not in self.segments.bases or base > self.end_pos:
            raise InvariantError(f"{self.segments.folder}: no file of the log starts at {base}")
        gone = [b for b in self.segments.bases if b < base]
        self.begin_pos = base
        for start in gone:
            # One by one, each on disk before the next: a loss of power must leave no gap.
            self.segments.drop_below(start + self.segment_bytes)

    def close(self) -> None:
        """Close the files; what was not synced stays in the page cache."""
        try:
            if self._zero_ahead is not None:
                self._zero_ahead.settle()
        finally:
            self.segments.close()


def first_store_ms(segments: Segments, base: int) -> int | None:
    """Store time (ms since 1970) of the first record in the file that starts at `base`.

    None: there is none. May wait for the disk.
    """
    return scan.store_time_ms(segments.read(base, scan.HEAD_BYTES))


def damage(segments: Segments, pos: int, what: str) -> DamagedError:
    """The error for something durable that is not at `pos` any more."""
    path = segments.path_of(pos)
    return DamagedError(
        path,
        pos % segments.segment_bytes,
        f"{what}. It was on disk once, and a broker without a group has nobody to repair it from:"
        f" restore a copy of the store; or, to keep what lies before {path.name}, move it and the"
        " files after it away, and the file `checkpoint` too",
    )


class _Recent:
    """The newest bytes of the log, as they lie in the files.

    Invariant: runs are in order, each within one file, and the last ends at the log's end.
    """

    def __init__(self, segment_bytes: int, max_bytes: int = _RECENT_BYTES) -> None:
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._runs: list[tuple[int, bytes]] = []
        self._bytes = 0

    def add(self, start: int, data: bytes) -> None:
        self._runs.append((start, data))
        self._bytes += len(data)
        if self._bytes > self._max_bytes:
            self._trim()

    def _trim(self) -> None:
        """Drop the oldest, more than must be: taking each out alone would move all others."""
        count = 0
        while self._bytes > self._max_bytes * 3 // 4 and count < len(self._runs) - 1:
            self._bytes -= len(self._runs[count][1])
            count += 1
        del self._runs[:count]

    def get(self, pos: int, max_bytes: int) -> bytes | None:
        runs = self._runs
        if not runs or pos < runs[0][0]:
            return None
        at = len(runs) - 1 if pos >= runs[-1][0] else bisect_right(runs, pos, key=_start_of) - 1
        start, data = runs[at]
        if pos >= start + len(data):
            return None
        parts: list[bytes] = []
        size, begin = 0, pos - start
        while True:
            length = len(data) - begin
            if size + length > max_bytes:
                length = _whole(data, begin, start, max_bytes - size, must=not parts)
            parts.append(data[begin : begin + length] if length < len(data) else data)
            size += length
            at += 1
            if begin + length < len(data) or at == len(runs) or not self._goes_on(at, pos + size):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            start, data = runs[at]
            begin = 0

    def _goes_on(self, at: int, pos: int) -> bool:
        """Whether run `at` starts at `pos`, in the same file as what is before it."""
        return self._runs[at][0] == pos and pos % self._segment_bytes != 0


def _whole(data: bytes, begin: int, start: int, max_bytes: int, *, must: bool) -> int:
    """Bytes of the whole records from byte `begin` on that fit; at least one if `must`."""
    length = 0
    for at, size in scan.walk(memoryview(data)[begin:], start + begin):
        if at + size > max_bytes and not (must and at == 0):
            break
        length = at + size
    return length or (scan.BLANK_BYTES if must else 0)
