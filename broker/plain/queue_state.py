"""Where the queues of a plain broker begin and end: as it kept it, or as the files say.

Kept in `snapshot/` beside the queues: their bounds at a place of the log. It counts only with a
mark in the checkpoint that names the same place; without one, Java has run since, or nobody knows.
Then the files tell: units are written from the front, and what was never written is zero.
"""

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from ledgermq.broker.store.consume_queue import UNIT_BYTES, Unit, unit_of
from ledgermq.broker.store.queue_snapshot import (
    Progress,
    QueueSnapshot,
    decode_payload,
    encode_head,
    encode_queues,
)
from ledgermq.broker.store.queue_table import QueueRow
from ledgermq.dledger.disk import Disk
from ledgermq.dledger.store.snapshots import Snapshot, SnapshotStore
from ledgermq.remoting.errors import StorageError

_FILLER_BYTES = 0x7FFFFFFF
_NAME_DIGITS = 20


class QueueState:
    """The bounds of all queues at one place of the log.

    Attributes:
        given_up: the queues were found to be wrong.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        """Read what was kept last.

        Raises:
            CallerError: a newer program wrote it.
        """
        self._store = SnapshotStore(folder, disk)
        newest = self._store.newest
        self.given_up = newest is not None and not newest.complete

    def rows_at(self, pos: int) -> list[QueueRow] | None:
        """The bounds as kept at this place of the log; None: they were not, or cannot be read."""
        newest, state = self._store.newest, self.last
        if newest is None or not newest.complete or state is None:
            return None
        return state.rows if state.end_pos == pos else None

    @property
    def last(self) -> QueueSnapshot | None:
        """What was kept last, at whatever place, right or given up; None: nothing to be read."""
        newest = self._store.newest
        try:
            return decode_payload(newest.payload) if newest is not None else None
        except StorageError:
            return None

    def save(self, pos: int, rows: list[QueueRow], store_ms: int) -> None:
        """Keep the bounds at a place of the log; may run in a thread.

        Raises:
            DiskFullError: no room.
            StorageError: the disk failed.
        """
        self._save(Progress(end_pos=pos, store_ms=store_ms), rows, complete=True)
        self.given_up = False

    def give_up(self) -> None:
        """Have the next start make all queues anew.

        The bounds are kept all the same: where the messages of a queue have expired, nothing else
        tells where its offsets go on.

        Raises:
            DiskFullError: no room.
            StorageError: the disk failed.
        """
        self.given_up = True
        last = self.last
        progress = Progress(end_pos=last.end_pos if last is not None else 0)
        self._save(progress, last.rows if last is not None else [], complete=False)

    def _save(self, progress: Progress, rows: list[QueueRow], *, complete: bool) -> None:
        payload = b"".join((encode_head(b""), *encode_queues(progress, rows)))
        # By a number of its own: a log that lost its end goes through the same places again.
        number = self._store.index + 1
        self._store.save(Snapshot(number, 0, payload, complete=complete))


def rows_in(folder: Path, segment_bytes: int, disk: Disk, end_pos: int) -> list[QueueRow]:
    """The bounds of the queues in a folder, without the units of `end_pos` and later.

    For queues that nobody kept the bounds of. May wait for the disk for long.

    Args:
        folder: with a folder for each topic, and in it one for each queue.
        segment_bytes: size of a queue file.
        disk: where the folder is.
        end_pos: a place in the log.
    """
    rows: list[QueueRow] = []
    for topic in disk.names(folder):
        try:
            names = disk.names(folder / topic)
        except NotADirectoryError:
            continue  # somebody's file
        for name in names:
            if not name.isdecimal() or str(int(name)) != name:
                continue
            files = _Files(folder / topic / name, segment_bytes, disk)
            bounds = files.bounds(end_pos)
            if bounds is not None:
                rows.append(QueueRow(topic, int(name), *bounds))
    return rows


class _Files:
    """The files of one queue."""

    def __init__(self, folder: Path, segment_bytes: int, disk: Disk) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._disk = disk
        names = [n for n in disk.names(folder) if len(n) == _NAME_DIGITS and n.isdigit()]
        self._starts = sorted(int(n) for n in names)

    def bounds(self, end_pos: int) -> tuple[int, int] | None:
        """(first offset, next offset) of the units below `end_pos`; None: there are none."""
        first, end = None, 0
        per_file = self._segment_bytes // UNIT_BYTES
        for start in self._whole_run():
            low, high = self._used(start, end_pos)
            end = start // UNIT_BYTES + high
            if first is None and low < high:
                first = start // UNIT_BYTES + low
            if high < per_file:
                break
        return None if first is None else (first, end)

    def _used(self, start: int, end_pos: int) -> tuple[int, int]:
        """(first unit, unit after the last) of those in a file that lie below `end_pos`."""
        count = self._segment_bytes // UNIT_BYTES
        fd = self._disk.open(self._folder / f"{start:0{_NAME_DIGITS}d}")

        def unit(number: int) -> Unit:
            data = self._disk.pread(fd, UNIT_BYTES, number * UNIT_BYTES)
            return unit_of(data.ljust(UNIT_BYTES, b"\0"))

        def is_used(number: int) -> bool:
            return unit(number).size != _FILLER_BYTES

        def is_over(number: int) -> bool:
            offset, size, _ = unit(number)
            return size <= 0 or not 0 <= offset < end_pos

        try:
            low = bisect_left(range(count), True, key=is_used)
            return low, bisect_left(range(count), True, lo=low, key=is_over)
        finally:
            self._disk.close(fd)

    def _whole_run(self) -> Iterator[int]:
        """Starts of the files up to the first gap, or the first of another size."""
        expected = self._starts[0] if self._starts else 0
        for start in self._starts:
            if start != expected or start % self._segment_bytes:
                return
            yield start
            expected += self._segment_bytes
