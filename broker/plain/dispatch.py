"""From the records of a plain commitlog to queues, in the order of the log.

Invariants: each record is dispatched once; nothing is dispatched that must not be seen yet; a
record's queue offset is its queue's next, or the node stops. Only while the queues are brought up
to an older log may a queue begin anew, at 0: so upstream numbers a topic that is deleted and made
again, and the log remembers both. Another offset means that the queues are wrong, unless they are
made from the whole log.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress

from ledgermq.broker.metadata import Metadata
from ledgermq.broker.store.consume_queue import ConsumeQueue
from ledgermq.broker.store.dispatch import Arrivals
from ledgermq.broker.store.queue_table import ConsumeQueues
from ledgermq.broker.store.tags_codes import TagsCodes, is_queued
from ledgermq.broker.topics import topic_name_problem
from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.errors import LedgerMQError, StorageError
from ledgermq.remoting.message_record import RecordPeek, peek_record

from . import scan
from .commit_log import CommitLog
from .places import Places

log = logging.getLogger(__name__)

_PROGRESS_S = 2.0
# Units that wait in memory for a write, all queues together, while they are brought up.
_WAITING_UNITS = 500_000


class WrongQueuesError(StorageError):
    """The queues do not go on where the log does: they must be made from the whole log."""


class PlainDispatcher:
    """Puts records into their queues.

    Attributes:
        queues: whole up to `applied`, while `serving`.
        metadata: topics and their settings.
        applied: byte of the log up to which records are dispatched.
        last_store_ms: latest store time dispatched, ms since 1970.
        serving: whether the queues may be read.
        given_up: the queues are wrong; the next start is to make them anew.
        units: added to queues since the start.
    """

    def __init__(
        self,
        commit_log: CommitLog,
        queues: ConsumeQueues,
        metadata: Metadata,
        deleted: Callable[[str], int],
        threads: Executor,
        *,
        applied: int,
        last_store_ms: int,
        on_applied: Callable[[int, Arrivals], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """Go on at `applied`.

        Args:
            commit_log: the log.
            queues: as they are at `applied`.
            metadata: of this broker.
            deleted: place in the log below which records of a topic are not dispatched.
            threads: read what is not in memory.
            applied: byte of the log.
            last_store_ms: store time of a record before that.
            on_applied: everything up to this byte is visible; the arrivals by queue.
            on_failure: the node must stop.
        """
        self._log = commit_log
        self.queues = queues
        self.metadata = metadata
        self._deleted = deleted
        self._threads = threads
        self.applied = applied
        self.last_store_ms = last_store_ms
        self.serving = False
        self.given_up = False
        self._on_applied = on_applied
        self._on_failure = on_failure
        self._is_whole = False
        self._codes = TagsCodes()
        self._target = applied
        self._scheduled = False
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._waiting = Places()
        # Units added since the start.
        self.units = 0

    # --- the start ----------------------------------------------------------------------------

    async def catch_up(self, *, is_whole: bool) -> None:
        """Dispatch what the log holds already, then serve.

        Args:
            is_whole: from the log's begin on, into empty queues.

        Raises:
            WrongQueuesError: the queues are not those of this log.
            StorageError: the log cannot be read.
        """
        self._is_whole = is_whole
        loop = asyncio.get_running_loop()
        start, told_s, written = self.applied, loop.time(), self.units
        self._target = self._log.end_pos
        while self.applied < self._target:
            data = await loop.run_in_executor(self._threads, self._log.read_records, self.applied)
            self._apply(data, {})
            if self.units - written > _WAITING_UNITS:
                written = self.units
                with suppress(DiskFullError):  # they wait on
                    self.queues.flush(len(self.queues.dirty))
            if loop.time() - told_s > _PROGRESS_S:
                told_s = loop.time()
                done, size = self.applied - start, self._target - start
                log.info("queues are brought up to the log: %d of %d bytes", done, size)
        self.serving = True

    # --- following ----------------------------------------------------------------------------

    def reach(self, pos: int) -> None:
        """Records up to byte `pos` may be seen."""
        self._target = max(self._target, pos)
        if not self._scheduled and not self._stopped and self._task is None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        if self._stopped or not self.serving or self.applied >= self._target:
            return
        data = self._log.cached(self.applied, min(scan.CHUNK_BYTES, self._target - self.applied))
        if data is None:
            self._task = asyncio.get_running_loop().create_task(self._read_and_apply())
        else:
            self._dispatch(data)

    async def _read_and_apply(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            data = await loop.run_in_executor(self._threads, self._log.read_records, self.applied)
        except (LedgerMQError, OSError, RuntimeError) as e:
            self.fail(e)
            return
        self._task = None
        self._dispatch(data)

    def _dispatch(self, data: bytes) -> None:
        arrivals: Arrivals = {}
        try:
            self._apply(data, arrivals)
        except (LedgerMQError, OSError, ValueError) as e:
            self.fail(e)
            return
        self._on_applied(self.applied, arrivals)
        self._waiting.reached(self.applied)
        if self.applied < self._target:
            self.reach(self._target)

    def _apply(self, data: bytes, arrivals: Arrivals) -> None:
        start = self.applied
        if scan.is_blank(data):
            self.applied = scan.next_file(start, self._log.segment_bytes)
            return
        for at, size in scan.walk(data, start):
            pos = start + at
            if pos + size > self._target:
                break
            self._place(pos, peek_record(data, at), arrivals)
            self.applied = pos + size
        if self.applied == start:
            raise self._log.damaged(start, "no record begins here")

    def _place(self, pos: int, peek: RecordPeek, arrivals: Arrivals) -> None:
        self.last_store_ms = max(self.last_store_ms, peek.store_timestamp_ms)
        if not is_queued(peek.sys_flag):
            return
        topic = peek.topic.decode(errors="replace")
        if pos < self._deleted(topic):
            return
        if not self.serving and not self._can_be(topic, peek.queue_id):
            log.warning("the record at byte %d is in no queue: topic %.100r", pos, topic)
            return
        queue = self.queues.get(topic, peek.queue_id)
        if peek.queue_offset != queue.max_offset:
            self._begin_anew(queue, pos, peek.queue_offset)
        code = self._codes.of(peek.properties)
        self.queues.append(queue, pos, peek.size, code)
        self.units += 1
        arrivals.setdefault((topic, peek.queue_id), []).append(code)

    def _can_be(self, topic: str, queue_id: int) -> bool:
        """Whether there can be such a queue; its name becomes that of a folder."""
        known = topic in self.metadata.topics
        return queue_id >= 0 and (known or topic_name_problem(topic) is None)

    def _begin_anew(self, queue: ConsumeQueue, pos: int, offset: int) -> None:
        """The record at `pos` does not have its queue's next offset."""
        what = (
            f"the record at byte {pos} has offset {offset}, queue"
            f" {queue.folder.parent.name}/{queue.folder.name} goes on at {queue.max_offset}"
        )
        if self.serving:
            raise StorageError(f"{what}. Start this broker again: it looks at its queues")
        if queue.max_offset == 0 and self._is_whole:
            pass  # what was before it is removed
        elif offset == 0:
            log.warning("%s: its topic was deleted and made again", what)
        elif self._is_whole:
            log.error("%s: messages are missing, those before them cannot be read", what)
        else:
            raise WrongQueuesError(what)
        queue.reset(offset)

    def dropped(self, end: int) -> None:
        """See `View.dropped`."""
        self._waiting.nothing_behind(end)
        self._waiting.reached(self.applied)

    async def dispatched(self, pos: int) -> None:
        """Wait until the records up to byte `pos` are in their queues.

        Raises:
            StorageError: the node stops before that.
        """
        if self.applied < pos:
            await self._waiting.wait(pos)

    # --- the end ------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        """Dispatch no more; the node must stop."""
        if not self._stopped:
            self._stop()
            self._on_failure(error)

    def _stop(self) -> None:
        self._stopped = True
        self._waiting.stop()

    def give_up_queues(self, what: str) -> None:
        """A queue led to something else than its message: the next start makes all of them anew."""
        if not self._stopped:
            self.serving = False
            self.given_up = True
            self.fail(
                StorageError(f"{what}. Start this broker again: its queues are made from the log")
            )

    async def close(self) -> None:
        """Stop dispatching."""
        self._stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
