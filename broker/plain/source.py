"""A plain commitlog as a source of records."""

import asyncio
import logging
from concurrent.futures import Executor

from ledgermq.broker.store.consume_queue import Unit
from ledgermq.broker.store.queue_table import ConsumeQueues
from ledgermq.broker.store.record_check import Check
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message_record import RecordError, peek_record

from . import scan
from .commit_log import CommitLog
from .dispatch import PlainDispatcher
from .record_check import PlainCheck
from .retention import ReadsUnderWay

log = logging.getLogger(__name__)


class PlainSource:
    """Implements `RecordSource`: what is dispatched can be read.

    A record that has changed on the disk is refused and the rest goes on: nobody could repair it.
    """

    head_bytes = 0

    def __init__(
        self,
        commit_log: CommitLog,
        dispatcher: PlainDispatcher,
        threads: Executor,
        reads: ReadsUnderWay,
    ) -> None:
        """Read what `dispatcher` has dispatched; `reads` counts what threads are doing."""
        self._log = commit_log
        self._dispatcher = dispatcher
        self._queues: ConsumeQueues = dispatcher.queues
        self._threads = threads
        self._reads = reads
        self.segment_bytes = commit_log.segment_bytes
        # By the place of a unit: what was found broken there, so that it is looked for once.
        self._broken: dict[int, str] = {}

    @property
    def end_pos(self) -> int:
        """Byte after the last record."""
        return self._log.end_pos

    def read_nowait(self, pos: int, size: int) -> bytes | None:
        """See `RecordSource.read_nowait`."""
        return self._log.read_nowait(pos, size)

    async def read_at(self, pos: int, size: int) -> bytes:
        """See `RecordSource.read_at`."""
        data = self._log.read_nowait(pos, size)
        if data is not None:
            return data
        loop = asyncio.get_running_loop()
        with self._reads.reading(pos):
            return await loop.run_in_executor(self._threads, self._log.read, pos, size)

    def check(self, topic: str, queue_id: int) -> Check:
        """See `RecordSource.check`."""
        return PlainCheck(topic, queue_id, self._dispatcher.applied)

    async def bears_out(self, unit: Unit, offset: int, check: Check) -> bool:
        """See `RecordSource.bears_out`.

        The records of a file lead from one to the next, so that they tell where one begins.
        """
        pos = unit.physical_offset
        if 0 <= pos < self._log.begin_pos:
            # Removed a moment ago; the queues follow.
            raise PeerError(ResponseCode.SYSTEM_ERROR, "the message was removed; try again")
        if not 0 <= pos < self._dispatcher.applied:
            return False
        if pos in self._broken:
            raise PeerError(ResponseCode.SYSTEM_ERROR, self._broken[pos])
        loop = asyncio.get_running_loop()
        reached = await loop.run_in_executor(self._threads, self._record_at_or_before, pos)
        head = await self.read_at(reached, scan.HEAD_BYTES)
        data = await self.read_at(reached, scan.size_at(head))
        try:
            scan.check(data, reached, self.segment_bytes - reached % self.segment_bytes)
        except RecordError as e:
            raise self._refusal(pos, reached, e.remark) from e
        return reached == pos and check.records(data, pos, [unit], [offset]) is not None

    def _record_at_or_before(self, pos: int) -> int:
        """Where the record that holds byte `pos` begins, or one before it that is broken."""
        start = pos - pos % self.segment_bytes
        while True:
            at = start
            for offset, size in scan.walk(self._log.read_records(start), start):
                at = start + offset
                if at + size > pos:
                    return at
                at += size
            if at == start:
                return at
            start = at

    def _refusal(self, unit_pos: int, pos: int, what: str) -> PeerError:
        """For a unit that leads to `unit_pos`; the record that is broken lies at `pos`."""
        text = str(self._log.damaged(pos, what))
        if self._log.begin_pos <= unit_pos:
            log.error("a message cannot be read: %s", text)
            self._broken[unit_pos] = text
        return PeerError(ResponseCode.SYSTEM_ERROR, text)

    async def read_record(self, physical_offset: int) -> bytes | None:
        """See `RecordSource.read_record`.

        The bytes of a message may look like a record: its queue knows better.
        """
        if not self._log.begin_pos <= physical_offset < self._dispatcher.applied:
            return None
        size = scan.size_at(await self.read_at(physical_offset, scan.HEAD_BYTES))
        if not 0 < size <= self.segment_bytes - physical_offset % self.segment_bytes:
            return None
        record = await self.read_at(physical_offset, size)
        try:
            peek = peek_record(record, check_crc=True)
            queue = self._queues.find(peek.topic.decode(), peek.queue_id)
        except (PeerError, UnicodeDecodeError):
            return None
        if queue is None:
            return None
        units = await queue.read_later(peek.queue_offset, 1)
        is_it = units and units[0].physical_offset == physical_offset and units[0].size == size
        return record if is_it else None
