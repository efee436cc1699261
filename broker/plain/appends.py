"""From staged records to answers: what arrives in one turn of the loop is one write.

SYNC_FLUSH: a message is seen and answered once it is on the disk; one that waits longer than
`syncFlushTimeout` is answered FLUSH_DISK_TIMEOUT, and one that says WAIT=false as soon as it is
written. ASYNC_FLUSH: all that is written is seen and answered. Source: broker-behaviour §5.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.placing import Placing
from ledgermq.broker.record_builder import RecordBuilder
from ledgermq.broker.writer import AppendResult, OnDone, OutgoingRecord
from ledgermq.dledger.errors import DiskFullError
from ledgermq.dledger.host import Host
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError, StorageError

from .commit_log import CommitLog
from .flushing import Flusher, FlushPolicy
from .places import Places

log = logging.getLogger(__name__)

_WAIT = b"WAIT\x01"


class View(Protocol):
    """Shows records to readers."""

    def reach(self, pos: int) -> None:
        """Records up to byte `pos` may be seen."""

    def dropped(self, end: int) -> None:
        """What was staged behind `end` will never be there."""


class PlainAppends:
    """Appends to a plain commitlog.

    Attributes:
        placing: appends that wait for their answer; settle them when they can be read.
        staged_end: byte after the last record that was given a place.
    """

    def __init__(
        self,
        config: BrokerConfig,
        commit_log: CommitLog,
        records: RecordBuilder,
        queue_end: Callable[[str, int], int],
        *,
        view: View,
        on_failure: Callable[[Exception], None],
        host: Host,
    ) -> None:
        """Append to `commit_log`, all of which is on disk and can be seen.

        Args:
            config: of this broker.
            commit_log: the log.
            records: builds records.
            queue_end: see `Placing`.
            view: is told what may be seen.
            on_failure: the node must stop.
            host: clock and threads.
        """
        self._log = commit_log
        self._view = view
        self._on_failure = on_failure
        self._mono_ms = host.mono_ms
        self._is_sync = config.sync_flush
        self._timeout_ms = config.sync_flush_timeout_ms
        self.placing = Placing(records, self, queue_end)
        # Of what waits for the disk each sender says for itself whether it does.
        self.place_each = None if config.sync_flush else self.placing.place_each
        self.staged_end = commit_log.end_pos
        policy = FlushPolicy(
            config.flush_interval_commit_log_ms,
            config.flush_commit_log_least_pages,
            config.flush_commit_log_thorough_interval_ms,
        )
        self.flusher = Flusher(
            commit_log,
            on_durable=self._on_durable,
            on_failure=on_failure,
            policy=None if self._is_sync else policy,
            host=host,
        )
        # Both in the order of the log: those that are answered when written, and those that wait.
        self._early: list[_Waiter] = []
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._closed = False
        self._syncing = Places()

    @property
    def written_end(self) -> int:
        """Byte after the last record that is written."""
        return self._log.end_pos

    # --- appending ----------------------------------------------------------------------------

    def reserve(self, record_bytes: int) -> int:
        """See `RecordLog.reserve`."""
        return self._log.reserve(record_bytes)

    def stage(self, record: bytes) -> int:
        """See `RecordLog.stage`; the mark is the byte after the record."""
        self.staged_end = self._log.reserve(len(record)) + len(record)
        self._log.stage(record)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write)
        return self.staged_end

    def reserve_run(self, sizes: Sequence[int]) -> list[int]:
        """See `RecordLog.reserve_run`."""
        return self._log.reserve_run(sizes)

    def stage_run(self, records: Sequence[bytes]) -> int:
        """See `RecordLog.stage_run`."""
        return [self.stage(record) for record in records][-1]

    def place_all(self, messages: Sequence[OutgoingRecord], on_done: OnDone) -> list[AppendResult]:
        """`place` a batch; `on_done` is called once, for all of it."""
        if not self._is_sync:
            return self.placing.place_all(messages, on_done)
        waiter = _Waiter(on_done, self._mono_ms() + self._timeout_ms)
        results = self.placing.place_all(messages, waiter)
        self._wait(waiter, results[-1], messages[-1])
        return results

    def place(self, message: OutgoingRecord, on_done: OnDone) -> AppendResult:
        """Append a message; `on_done` is called once, by the rules above."""
        if not self._is_sync:
            return self.placing.place(message, on_done)
        waiter = _Waiter(on_done, self._mono_ms() + self._timeout_ms)
        result = self.placing.place(message, waiter)
        self._wait(waiter, result, message)
        return result

    def _wait(self, waiter: "_Waiter", result: AppendResult, last: OutgoingRecord) -> None:
        """Let a sender wait for the disk, unless the last message says that it does not."""
        waiter.result = result
        if _does_not_wait(last.properties):
            self._early.append(waiter)
        else:
            self._waiters.append(waiter)
            self._arm()

    def _write(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        try:
            end = self._log.write_staged()
        except DiskFullError as e:
            refusal = PeerError(ResponseCode.SERVICE_NOT_AVAILABLE, f"service not available: {e}")
            self.placing.fail_after(self._log.end_pos, refusal)
            self._forget_staged()
            return
        except StorageError as e:
            self._on_failure(e)
            return
        self.flusher.request()
        if not self._is_sync:
            self._view.reach(end)
            return
        early, self._early = self._early, []
        for waiter in early:
            waiter.answer()

    def _forget_staged(self) -> None:
        self._log.drop_staged()
        self.staged_end = self._log.end_pos
        self._early.clear()
        self._view.dropped(self.staged_end)

    # --- what becomes of it -------------------------------------------------------------------

    def _on_durable(self, pos: int) -> None:
        if self._is_sync:
            self._view.reach(pos)
        self._syncing.reached(pos)

    async def durable(self, pos: int) -> None:
        """Have the log on disk up to `pos`, which is written; soon, whatever the policy.

        Raises:
            StorageError: the node stops before that.
        """
        while self.flusher.synced_pos < pos:
            self.flusher.flush()
            await self._syncing.wait(min(pos, self.flusher.synced_pos + 1))

    def visible(self, pos: int) -> None:
        """Records up to `pos` can be read: answer."""
        self.placing.reached(pos)
        while self._waiters and self._waiters[0].is_done:
            self._waiters.popleft()

    def _arm(self) -> None:
        if self._timer is None and self._waiters and not self._closed:
            left_ms = max(self._waiters[0].deadline_ms - self._mono_ms(), 0)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(left_ms / 1000 + 0.001, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        now_ms = self._mono_ms()
        late = 0
        while self._waiters and self._waiters[0].deadline_ms <= now_ms:
            waiter = self._waiters.popleft()
            if not waiter.is_done:
                late += 1
                waiter.answer(timed_out=True)
        if late:
            log.warning("the disk is slow: %d messages wait for longer than syncFlushTimeout", late)
        self._arm()

    def halt(self) -> None:
        """Write and answer nothing more; what is written is still put on disk."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiters.clear()
        self._forget_staged()

    def fail(self) -> None:
        """Nothing more gets to the disk."""
        self._syncing.stop()

    def close(self) -> None:
        """Finish the sync under way, after `halt`."""
        self.flusher.close()
        self._syncing.stop()


def _does_not_wait(properties: bytes) -> bool:
    """Whether the producer does not care for the disk. Source: Message.isWaitStoreMsgOK.

    There a value that is not "true" counts as false; of a repeated name the last one counts.
    """
    at = properties.rfind(b"\x02" + _WAIT) + 1
    if at == 0 and not properties.startswith(_WAIT):
        return False
    value = properties[at + len(_WAIT) :].split(b"\x02", 1)[0]
    return value.lower() != b"true"


class _Waiter:
    """Tells a producer once: when its message can be read, or before."""

    __slots__ = ("_on_done", "deadline_ms", "is_done", "result")

    def __init__(self, on_done: OnDone, deadline_ms: int) -> None:
        self._on_done = on_done
        self.deadline_ms = deadline_ms
        self.is_done = False
        self.result = AppendResult(0, 0)

    def __call__(self, result: AppendResult | PeerError) -> None:
        if not self.is_done:
            self.is_done = True
            self._on_done(result)

    def answer(self, *, timed_out: bool = False) -> None:
        """Do not wait until it can be read."""
        if not self.is_done:
            self.is_done = True
            where = self.result
            self._on_done(
                AppendResult(where.queue_offset, where.physical_offset, sync_timed_out=timed_out)
            )
