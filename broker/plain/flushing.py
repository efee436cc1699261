"""When what was written goes to the disk: at once and together, or now and then.

Source of the rules: broker-behaviour §5; GroupCommitService and FlushRealTimeService of CommitLog.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from ledgermq.dledger.group_commit import GroupCommit
from ledgermq.dledger.host import Host
from ledgermq.remoting.errors import StorageError

from .commit_log import CommitLog

PAGE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """Asynchronous flush: of a log, or of one consume queue.

    Attributes:
        interval_ms: how often it is asked.
        least_pages: fewer dirty pages are left for later; 0: any dirty byte is enough.
        thorough_interval_ms: after this long any dirty byte is enough.
    """

    interval_ms: int
    least_pages: int
    thorough_interval_ms: int

    def flush_now(self, flushed_pos: int, end_pos: int, waited_ms: int) -> bool:
        """Whether the bytes from `flushed_pos` to `end_pos` are to be flushed.

        `waited_ms`: since the last flush began.
        """
        if end_pos <= flushed_pos:
            return False
        pages = end_pos // PAGE_BYTES - flushed_pos // PAGE_BYTES
        return pages >= self.least_pages or waited_ms >= self.thorough_interval_ms


class Flusher(GroupCommit):
    """Flushes the commitlog.

    Without a policy it is synchronous: what is requested while a sync is under way joins the next.
    With one, requests wait for the policy.

    Invariant: a sync proves only what was written before it began.
    """

    def __init__(
        self,
        log: CommitLog,
        *,
        on_durable: Callable[[int], None],
        on_failure: Callable[[StorageError], None],
        policy: FlushPolicy | None = None,
        synced_pos: int | None = None,
        host: Host | None = None,
    ) -> None:
        """Nothing is under way.

        Args:
            log: everything in it is on disk already, unless `synced_pos` says how far.
            on_durable: gets the position up to which the log is on disk now.
            on_failure: gets the reason why nothing is certain any more; stop the node.
            policy: of an asynchronous flush.
            synced_pos: up to where the log is on disk.
            host: clock and threads.
        """
        host = host or Host()
        super().__init__(log.sync, on_failure=on_failure, host=host)
        self._log = log
        self._on_durable = on_durable
        self._policy = policy
        self._mono_ms = host.mono_ms
        self._synced = log.end_pos if synced_pos is None else synced_pos
        self._begun_ms = host.mono_ms()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def synced_pos(self) -> int:
        """The log is on disk up to here."""
        return self._synced

    def request(self) -> None:
        """See to it that what is written now gets flushed, in its time."""
        if self._policy is None:
            self.flush()
        elif self._timer is None and not self._closed and self._is_dirty:
            delay_s = self._policy.interval_ms / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._due, self._policy)

    def flush(self) -> None:
        """See to it that what is written now gets flushed as soon as can be."""
        if self._closed or self._running is not None or not self._is_dirty:
            return
        target = self._log.end_pos
        self._begun_ms = self._mono_ms()
        self._begin(lambda f: self._done(f, target))

    @property
    def _is_dirty(self) -> bool:
        return self._log.end_pos > self._synced

    def _due(self, policy: FlushPolicy) -> None:
        self._timer = None
        waited_ms = self._mono_ms() - self._begun_ms
        if policy.flush_now(self._synced, self._log.end_pos, waited_ms):
            self.flush()
        self.request()

    def _done(self, future: Future[None], target: int) -> None:
        self._running = None
        if self._failed(future, "sync"):
            self._closed = True  # another one would prove nothing
            return
        self._synced = target
        self._on_durable(target)
        self.request()

    def close(self) -> None:
        """Finish the sync under way and stop; what is not flushed by then stays so."""
        super().close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
