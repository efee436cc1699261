"""Removes old files of a plain commitlog, and says when the disk is too full to write.

The age of a file is the time since it was written last, as the file system tells it; the rules are
those of `broker.retention`. Source: broker-behaviour §11.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.retention import DiskGauge, RetentionRules, local_hour
from ledgermq.dledger.errors import StorageError
from ledgermq.dledger.host import Host
from ledgermq.dledger.store.segments import Segments, translated

log = logging.getLogger(__name__)


class LogFiles(Protocol):
    """What is asked of a commitlog."""

    segments: Segments

    def drop_below(self, base: int) -> None:
        """Remove the files that start before `base`; one whose name is gone already is fine."""


class ReadsUnderWay:
    """Counts, on the event loop, the reads that threads are doing, by the file they are in."""

    def __init__(self, segment_bytes: int) -> None:
        self._segment_bytes = segment_bytes
        self._counts: Counter[int] = Counter()

    @contextmanager
    def reading(self, pos: int) -> Iterator[None]:
        """Around a read at `pos`, until its thread is done."""
        base = pos - pos % self._segment_bytes
        self._counts[base] += 1
        try:
            yield
        finally:
            self._counts[base] -= 1
            if not self._counts[base]:
                del self._counts[base]

    def __contains__(self, base: int) -> bool:
        """Whether the file that starts at `base` is being read."""
        return base in self._counts


class Retention:
    """A look at the files every `cleanResourceInterval`.

    The oldest file goes first, one after the other, and the rules are asked again after each: once
    there is room, forced removal stops. A file that is being read is left for the next look, until
    that has gone on for `destroyMapedFileIntervalForcibly`; then it is emptied, and the read finds
    nothing more.

    Attributes:
        gauge: how full the disk is; a node refuses sends while `gauge.is_full`.
    """

    def __init__(
        self,
        commit_log: LogFiles,
        config: BrokerConfig,
        host: Host,
        *,
        disk_used_ratio: Callable[[], float],
        dispatched: Callable[[], int],
        on_begin_moved: Callable[[int], None],
        on_stop: Callable[[Exception], None],
        reads: ReadsUnderWay,
        mtime_ms: Callable[[int], int] | None = None,
        hour_of: Callable[[int], int] = local_hour,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nothing happens before `start`.

        Args:
            commit_log: the log.
            config: of this broker.
            host: clocks.
            disk_used_ratio: how full the fullest disk is, 0 to 1.
            dispatched: the records below this physical offset are in the queues; a file that holds
                others stays.
            on_begin_moved: the log begins at this physical offset now.
            on_stop: the node must stop, for this reason.
            reads: those under way in the log.
            mtime_ms: when the file that starts at an offset was written last, in ms since 1970;
                as the file system knows it unless given.
            hour_of: ms since 1970 -> hour of the day, local.
            pause: waits for so many seconds.
        """
        self._rules = RetentionRules.of(config)
        self.gauge = DiskGauge(disk_used_ratio, self._rules.full_ratio)
        self._log = commit_log
        self._config = config
        self._host = host
        self._dispatched = dispatched
        self._on_begin_moved = on_begin_moved
        self._on_stop = on_stop
        self._reads = reads
        self._mtime_ms = mtime_ms or self._file_time_ms
        self._hour_of = hour_of
        self._pause = pause
        # Both are about the oldest file, by the clock that never steps.
        self._retry_ms = 0
        self._read_since_ms: int | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look at the disk now, and at the files after an interval."""
        self.gauge.measure()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self._pause(self._config.clean_resource_interval_ms / 1000)
            try:
                await self.check()
            except StorageError as e:
                self._on_stop(e)
                return

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def check(self) -> None:
        """Remove what is due, `deleteCommitLogFilesInterval` apart.

        Raises:
            StorageError: the disk failed; stop the node.
        """
        self.gauge.measure()
        for _ in range(self._rules.max_files):
            base = self._due()
            if base is None or not self._remove(base):
                return
            await self._pause(self._config.delete_commit_log_files_interval_ms / 1000)
            self.gauge.measure()

    def _due(self) -> int | None:
        """Start of the oldest file, if that is to go."""
        segments = self._log.segments
        dispatched = self._dispatched()
        oldest = segments.bases[:2]
        if len(oldest) < 2 or oldest[1] > dispatched:
            return None
        now_ms = self._host.wall_ms()
        # Of two files, the second never goes.
        times = [self._mtime_ms(oldest[0]), now_ms]
        due = self._rules.files_to_go(times, now_ms, self._hour_of(now_ms), self.gauge.used_ratio)
        return oldest[0] if due else None

    def _file_time_ms(self, base: int) -> int:
        path = self._log.segments.path_of(base)
        try:
            return path.stat().st_mtime_ns // 1_000_000
        except FileNotFoundError:
            return 0  # somebody removed it; it is of no use any more
        except OSError as e:
            raise translated(e, path, "look") from e

    def _remove(self, base: int) -> bool:
        now_ms = self._host.mono_ms()
        if now_ms < self._retry_ms or self._is_held(base, now_ms):
            return False
        segments = self._log.segments
        path = segments.path_of(base)
        try:
            # The name first: if that fails, the log has lost nothing.
            segments.disk.remove(path)
        except OSError as e:
            retry_ms = self._config.redelete_hanged_file_interval_ms
            self._retry_ms = now_ms + retry_ms
            log.warning("%s cannot be removed: %s. Next try in %d ms", path, e.strerror, retry_ms)
            return False
        following = base + segments.segment_bytes
        try:
            self._log.drop_below(following)
        except OSError as e:
            raise translated(e, path, "removal") from e
        self._read_since_ms = None
        log.info("%s removed: the log begins at %d", path, following)
        self._on_begin_moved(following)
        return True

    def _is_held(self, base: int, now_ms: int) -> bool:
        """Whether a read is under way that is still waited for."""
        if base not in self._reads:
            self._read_since_ms = None
            return False
        if self._read_since_ms is None:
            self._read_since_ms = now_ms
        waited_ms = now_ms - self._read_since_ms
        return waited_ms < self._config.destroy_mapped_file_interval_forcibly_ms
