"""Puts the queues of a plain broker on disk, and says in the checkpoint how far they are.

One task does one thing after the other, so that no file is removed while it is synced.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.store.consume_queue import UNIT_BYTES, Unit
from ledgermq.broker.store.index_view import IndexView
from ledgermq.broker.store.queue_table import ConsumeQueues
from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.errors import LedgerMQError

from .appends import PlainAppends
from .checkpoint import Checkpoint, Mark, StoreTimes
from .commit_log import CommitLog
from .dispatch import PlainDispatcher
from .flushing import FlushPolicy
from .queue_state import QueueState

log = logging.getLogger(__name__)

# After so many units the state is kept at once: what is behind it is gone through at a start.
_MOST_UNITS = 200_000


class PlainKeeper:
    """Writes queues, and their state when much has happened.

    Attributes:
        saved_pos: the queues are on disk up to this byte of the log, and the checkpoint says so.
    """

    def __init__(
        self,
        config: BrokerConfig,
        commit_log: CommitLog,
        appends: PlainAppends,
        dispatcher: PlainDispatcher,
        state: QueueState,
        checkpoint: Checkpoint,
        *,
        index: IndexView | None,
        on_failure: Callable[[Exception], None],
    ) -> None:
        """Nothing happens before `run`.

        Args:
            config: of this broker.
            commit_log: the log.
            appends: its flusher.
            dispatcher: the queues.
            state: where their bounds are kept.
            checkpoint: of the store.
            index: of the keys, None without one.
            on_failure: the node must stop.
        """
        self._log = commit_log
        self._appends = appends
        self._dispatcher = dispatcher
        self._queues: ConsumeQueues = dispatcher.queues
        self._state = state
        self._checkpoint = checkpoint
        self._index = index
        self._on_failure = on_failure
        self._interval_s = config.flush_interval_consume_queue_ms / 1000
        self._policy = FlushPolicy(
            config.flush_interval_consume_queue_ms,
            config.flush_consume_queue_least_pages,
            config.flush_consume_queue_thorough_interval_ms,
        )
        self._thorough_s = config.flush_consume_queue_thorough_interval_ms / 1000
        self.saved_pos = dispatcher.applied
        self._saved_units = self._synced_units = dispatcher.units
        self._saved_s = self._synced_s = 0.0
        self._told_full = False
        self._pause_s = config.delete_consume_queue_files_interval_ms / 1000
        self._stopping = False
        self._wake = asyncio.Event()
        # Held while queue files go, one after the other.
        self._trimming = asyncio.Lock()
        # Held while files are written, synced or removed.
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        """Keep, until stopped or a failure."""
        self._saved_s = self._synced_s = self._now_s()
        while not self._stopping:
            await self._pause(self._interval_s)
            try:
                async with self._busy:
                    await self._round()
                self._told_full = False
            except DiskFullError as e:
                if not self._told_full:
                    log.error("queue units wait in memory: %s", e)
                self._told_full = True
            except (LedgerMQError, OSError) as e:
                self._on_failure(e)
                return

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until the stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def stop(self) -> None:
        """Let `run` and `trim` end after what they are doing."""
        self._stopping = True
        self._wake.set()

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def _round(self) -> None:
        await self._queues.flush_all()
        fresh = self._dispatcher.units - self._saved_units
        waited_s = self._now_s() - self._saved_s
        is_new = self._dispatcher.applied > self.saved_pos
        if fresh >= _MOST_UNITS or (is_new and waited_s >= self._thorough_s):
            await self._save()
            return
        units, waited_s = self._dispatcher.units, self._now_s() - self._synced_s
        synced, dispatched = self._synced_units * UNIT_BYTES, units * UNIT_BYTES
        if self._policy.flush_now(synced, dispatched, int(waited_s * 1000)):
            await self._sync(units)

    async def _sync(self, units: int) -> None:
        await self._queues.sync()
        self._synced_units, self._synced_s = units, self._now_s()

    async def save(self) -> None:
        """Put all queues on disk, and say so."""
        async with self._busy:
            await self._queues.flush_all()
            await self._save()

    async def _save(self) -> None:
        dispatcher = self._dispatcher
        # As they are now; what comes while they are written is not in it.
        await self._queues.flush_all()
        pos, units, store_ms = dispatcher.applied, dispatcher.units, dispatcher.last_store_ms
        rows = self._queues.rows()
        self._queues.flush(len(self._queues.dirty))
        await self._sync(units)
        await self._appends.durable(pos)
        flushed = self._appends.flusher.synced_pos
        times = self._times(pos, store_ms)
        if dispatcher.given_up:
            return  # nobody is to rely on these queues
        await self._queues.in_thread(self._state.save, pos, rows, store_ms)
        await self._queues.in_thread(self._checkpoint.save, times, Mark(flushed, pos))
        self.saved_pos, self._saved_units, self._saved_s = pos, units, self._now_s()

    def _times(self, pos: int, store_ms: int) -> StoreTimes:
        """What upstream goes by after a kill.

        It goes through the log again where queues or index may lack something, and looks only at
        the first two times for that.
        """
        if self._index is None:
            return StoreTimes(physic_ms=store_ms, logics_ms=store_ms)
        complete_ms = self._index.complete_ms(pos, store_ms)
        return StoreTimes(store_ms, complete_ms, self._index.index.durable_ms)

    # --- letting go ---------------------------------------------------------------------------

    async def trim(self) -> None:
        """The log has lost its oldest files: so do the queues.

        Their new bounds are kept before: a start must not look for units that are gone. The files
        go one by one, `deleteConsumeQueueFilesInterval` apart.
        """
        async with self._trimming:
            async with self._busy:
                await trim(self._queues, self._log.begin_pos)
                gone = await self._queues.files_below()
                if gone:
                    # On a full disk they go all the same: the next start may have more to do.
                    with suppress(DiskFullError):
                        await self._save()
            for queue, path in gone:
                if self._stopping:
                    return
                await self._queues.remove_file(queue, path)
                await self._pause(self._pause_s)

    def held(self) -> AbstractAsyncContextManager[None]:
        """While it is entered, nothing is written, kept or removed here."""
        return self._busy


async def trim(queues: ConsumeQueues, begin_pos: int) -> None:
    """Let every queue begin where the log does; what is before cannot be looked at any more."""

    async def accept(_topic: str, _queue_id: int, _offset: int, _unit: Unit) -> bool:
        return True

    await queues.trim(begin_pos, accept)
