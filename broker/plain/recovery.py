"""Opening a plain commitlog after any kind of stop.

Our mark in the checkpoint says how far the log is on disk for certain. What lies behind is taken
record by record, each checked, and written again: after a failed sync the page cache shows what
the disk lacks. The first thing that is no record ends the log:

- below the mark that is damage, and the start is refused: one node has nobody to repair it from;
- behind it, after an unclean stop, it is a torn tail, which is cut;
- but a record that was on disk by the checkpoint, by a clean stop or by the length of what
  follows was no part of a tail: that is damage too. So is one with an intact one behind it when
  the machine has not lost power.

A store of Java has no mark. After a clean stop the last three files are checked; after an unclean
one all from the newest file whose first message was on disk by the checkpoint's times.

Source: message-format §7; recoverNormally and recoverAbnormally of CommitLog.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ledgermq.dledger.disk import Disk, OsDisk
from ledgermq.dledger.store.segments import Segments
from ledgermq.remoting import clock
from ledgermq.remoting.message_record import RecordError

from . import scan
from .checkpoint import Checkpoint
from .commit_log import CommitLog, damage, first_store_ms

log = logging.getLogger(__name__)

_READ_BYTES = 4 << 20
_CLEAN_FILES = 3
# By so much the checkpoint's times may be ahead of the disk. Source: getMinTimestamp.
_TIMES_AHEAD_MS = 3000
# How far behind a broken record an intact one is looked for.
_LOOK_AHEAD_BYTES = 8 << 20
# More than lies between two syncs, at any rate that a disk has.
_LONGEST_TAIL_BYTES = 1 << 30
_PROGRESS_MS = 1000
# So many bytes at the end of a record are never all zero: a topic lies in them, or properties.
_SURE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found.

    Attributes:
        dispatch_from: queues and index may lack what lies from here on.
        was_clean: the process before this one stopped cleanly.
        truncated_bytes: length of the torn tail that was cut.
        checked_from: from here on every record was checked.
    """

    dispatch_from: int
    was_clean: bool
    truncated_bytes: int
    checked_from: int


def open_commit_log(
    folder: Path,
    segment_bytes: int,
    disk: Disk | None = None,
    *,
    checkpoint: Checkpoint,
    was_aborted: bool,
    lost_power: bool = True,
    mono_ms: Callable[[], int] = clock.mono_ms,
) -> tuple[CommitLog, Recovered]:
    """Open or create the log in `folder`. Blocks, for long after an unclean stop.

    Args:
        folder: of the files, made when missing.
        segment_bytes: size of each file.
        disk: of this machine unless given.
        checkpoint: what is known about the log; what is saved in it from now on is about this one.
        was_aborted: the process before this one did not stop cleanly.
        lost_power: nor perhaps did the machine. Only then can bytes be missing with later ones
            behind them: a process that is killed leaves what it has written.
        mono_ms: clock that tells when to report progress.

    Raises:
        DamagedError: something is missing that was on disk once.
        CallerError: made with another segment size.
        DiskFullError: what was not known to be on disk could not be written again.
    """
    # A loss of power can take the length of a file that was not synced yet.
    mend_size = checkpoint.segment_bytes == segment_bytes
    segments = Segments(folder, segment_bytes, mend_size=mend_size, disk=disk or OsDisk())
    try:
        opened = _Recovery(
            segments, checkpoint, mono_ms, clean=not was_aborted, lost_power=lost_power
        ).run()
    except BaseException:
        segments.close()
        raise
    checkpoint.segment_bytes = segment_bytes
    return opened


class _Recovery:
    """The files of a log on their way to a CommitLog."""

    def __init__(
        self,
        segments: Segments,
        checkpoint: Checkpoint,
        mono_ms: Callable[[], int],
        *,
        clean: bool,
        lost_power: bool,
    ) -> None:
        self.segments = segments
        self.checkpoint = checkpoint
        self.clean = clean
        self.lost_power = lost_power
        self.begin = min(segments.bases, default=0)
        # Below, everything was on disk once.
        self.flushed = checkpoint.mark.flushed_pos if checkpoint.mark else 0
        self._mono_ms = mono_ms
        self._reported_ms = mono_ms()

    def run(self) -> tuple[CommitLog, Recovered]:
        self._check_files()
        start = self._start()
        end, broken_at, why = self._scan(start)
        if end < self.flushed:
            raise damage(self.segments, broken_at, why)
        truncated = 0
        if self.segments.bases:
            truncated = self._used_end(end) - end
            if truncated:
                self._refuse_damage(broken_at, why)
                self._warn(end, truncated, why)
            self._cut(end)
            self.segments.sync()
        mark = self.checkpoint.mark
        dispatched = start if mark is None else min(max(mark.dispatched_pos, self.begin), end)
        return CommitLog(self.segments, end), Recovered(dispatched, self.clean, truncated, start)

    # --- before the scan ----------------------------------------------------------------------

    def _check_files(self) -> None:
        """No file may be missing between the first and the last that is known of."""
        segments, size, flushed = self.segments, self.segments.segment_bytes, self.flushed
        bases = segments.bases
        reached = bases[-1] + size if bases else 0
        if flushed > reached:
            gone = reached if bases else (flushed - 1) // size * size
            what = f"the file is gone; the checkpoint says that the log reached byte {flushed}"
            raise damage(segments, gone, what)
        for base in range(self.begin, reached, size):
            if base not in bases:
                last = segments.path_of(bases[-1])
                raise damage(segments, base, f"the file is gone, but {last} is there")
        last_bytes = segments.read(flushed - _SURE_BYTES, _SURE_BYTES) if flushed % size else b"-"
        if flushed > self.begin and not any(last_bytes):
            what = f"the checkpoint says that the log reached byte {flushed}; there are zeros"
            raise damage(segments, flushed - _SURE_BYTES, what)

    def _start(self) -> int:
        """Where to begin: nothing is wrong before, as far as anybody knows."""
        mark, bases = self.checkpoint.mark, self.segments.bases
        if mark is not None:
            # What has lost its end may have lost more.
            cut_short = [b for b in bases if b not in self.segments.whole]
            return max(min(mark.flushed_pos, mark.dispatched_pos, *cut_short), self.begin)
        if not bases:
            return 0
        if self.clean:
            return bases[-_CLEAN_FILES:][0]
        on_disk_ms = self._on_disk_ms
        for base in reversed(bases):
            first_ms = first_store_ms(self.segments, base)
            if first_ms is not None and first_ms <= on_disk_ms:
                return base
        return bases[0]

    @property
    def _on_disk_ms(self) -> int:
        """Messages of this store time and before are on disk, in the log and in the queues."""
        times = self.checkpoint.times
        return min(times.physic_ms, times.logics_ms) - _TIMES_AHEAD_MS

    # --- the scan -----------------------------------------------------------------------------

    def _scan(self, start: int) -> tuple[int, int, str]:
        """Check records from `start` on, and write again what may not be on disk.

        Returns:
            The end of the last one; where the next one should be; why it is none.
        """
        segments = self.segments
        end = pos = start
        wanted = _READ_BYTES
        while True:
            data = segments.read(pos, wanted)
            taken, why = self._whole_records(data, pos)
            if taken:
                self._write_again(pos, data[:taken])
                end = pos = pos + taken
                wanted = _READ_BYTES
                self._report(pos)
                continue
            left = self._left(pos)
            if data[: scan.BLANK_BYTES] == scan.blank(left) and pos + left in segments.bases:
                self._write_again(pos, data[: scan.BLANK_BYTES])
                pos += left
            elif len(data) < min(scan.size_at(data), left):
                # One record that is larger than a read.
                wanted = scan.size_at(data)
            else:
                return end, pos, why

    def _whole_records(self, data: bytes, pos: int) -> tuple[int, str]:
        """(bytes of the good records that `data` begins with, why there is not one more)."""
        view, at = memoryview(data), 0
        file_at, left = pos % self.segments.segment_bytes, self._left(pos)
        try:
            while True:
                peek = scan.check(view[at:], pos + at, left - at)
                end = at + peek.size
                # Only where a write may have been torn: by itself, such a record is not broken.
                may_be_torn = not self.clean and pos + end > self.flushed
                if may_be_torn and scan.lost_sector(peek.properties, file_at + end):
                    return at, "the end of a record is not there"
                at = end
        except RecordError as e:
            return at, e.remark

    def _left(self, pos: int) -> int:
        """Bytes from `pos` to the end of its file."""
        return scan.next_file(pos, self.segments.segment_bytes) - pos

    def _write_again(self, pos: int, data: bytes) -> None:
        """Have these bytes synced, unless a sync is known to have succeeded.

        A clean stop of Java is one, too: hours of its log need not be written again.
        """
        known = max(self.flushed - pos, 0)
        if known < len(data) and not (self.clean and self.checkpoint.mark is None):
            self.segments.write(pos + known, memoryview(data)[known:])

    def _report(self, pos: int) -> None:
        now_ms = self._mono_ms()
        if now_ms - self._reported_ms >= _PROGRESS_MS:
            self._reported_ms = now_ms
            last = self.segments.bases[-1] + self.segments.segment_bytes
            log.info("%s: checked up to %d of at most %d", self.segments.folder, pos, last)

    # --- the end ------------------------------------------------------------------------------

    def _used_end(self, end: int) -> int:
        """Byte after the last one from `end` on that is not zero."""
        used = end
        for base in self.segments.bases:
            if base + self.segments.segment_bytes > end:
                for pos, size in self.segments.written_after(max(base, end)):
                    written = len(self.segments.read(pos, size).rstrip(b"\0"))
                    used = pos + written if written else used
        return used

    def _refuse_damage(self, broken_at: int, why: str) -> None:
        """A torn tail was not on disk yet: what cannot be one is not cut.

        Raises:
            DamagedError: cutting it would lose messages that were safe.
        """
        later = [b for b in self.segments.bases if b > broken_at]
        for start in (broken_at, *later[:1]):
            data = self.segments.read(start, _LOOK_AHEAD_BYTES)
            found = scan.find_intact(data, start, self.segments.segment_bytes)
            if found is not None and (self.clean or not self.lost_power or self._is_old(found)):
                raise damage(
                    self.segments, broken_at, f"{why}, but at {found} behind it lies an intact one"
                )
        for base in later:
            if (
                base - broken_at > _LONGEST_TAIL_BYTES
                and first_store_ms(self.segments, base) is not None
            ):
                path = self.segments.path_of(base)
                raise damage(self.segments, broken_at, f"{why}, but {path} behind it holds records")

    def _is_old(self, pos: int) -> bool:
        """Whether the record at `pos` was on disk by the checkpoint's times."""
        store_ms = scan.store_time_ms(self.segments.read(pos, scan.HEAD_BYTES))
        return store_ms is not None and store_ms <= self._on_disk_ms

    def _warn(self, end: int, truncated: int, why: str) -> None:
        log.warning(
            "%s: the log ends at byte %d of this file; %d bytes behind it were cut off: %s",
            self.segments.path_of(end),
            end % self.segments.segment_bytes,
            truncated,
            why,
        )

    def _cut(self, end: int) -> None:
        """Leave nothing behind the end."""
        for base in reversed([b for b in self.segments.bases if b > end]):
            # One by one, each on disk before the next: a loss of power must leave no gap.
            self.segments.drop_from(base)
        self.segments.clear_after(end)
