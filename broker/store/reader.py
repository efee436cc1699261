"""Reading committed messages: by queue offset, by physical offset, by time."""

import os
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from ledgermq.broker.metadata import Metadata
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError, StorageError
from ledgermq.remoting.message_record import peek_record

from .consume_queue import ConsumeQueue, Unit
from .pulls import PullResult, PullStatus, extent, outside, runs, select, window
from .queue_table import ConsumeQueues
from .record_check import Check

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MEMORY_BYTES = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
_RECENT_SHARE = 0.4


class RecordSource(Protocol):
    """A log that holds records.

    Attributes:
        head_bytes: what lies before each record and is read with it, because its check needs it.
        segment_bytes: size of the log's files.
        end_pos: byte after the last record.
    """

    head_bytes: int
    segment_bytes: int

    @property
    def end_pos(self) -> int:
        """See above."""

    def read_nowait(self, pos: int, size: int) -> bytes | None:
        """Bytes of the log if they are in memory, else None."""

    async def read_at(self, pos: int, size: int) -> bytes:
        """Bytes of the log, in a thread when the disk must be asked."""

    def check(self, topic: str, queue_id: int) -> Check:
        """Tells whether bytes are messages of this queue."""

    async def bears_out(self, unit: Unit, offset: int, check: Check) -> bool:
        """Whether the message of a unit is where it says; by the slow way that is sure.

        Raises:
            PeerError: the log itself is broken there; the refusal for who has asked.
        """

    async def read_record(self, physical_offset: int) -> bytes | None:
        """The visible record at exactly this offset, or None; see `QueueReader.read_record`."""


class Dispatched(Protocol):
    """What dispatch has made of a log.

    Attributes:
        metadata: topics and their settings.
        queues: of all topics; whole only while `serving`.
        serving: whether reads may be answered.
    """

    metadata: Metadata
    queues: ConsumeQueues
    serving: bool

    def give_up_queues(self, what: str) -> None:
        """A queue leads to something else than its message: nothing is served from now on."""


class MessageReader:
    """Only committed and dispatched messages are seen, and only while the queues are whole."""

    def __init__(self, source: RecordSource, dispatched: Dispatched) -> None:
        self._source = source
        self._dispatched = dispatched

    def min_offset(self, topic: str, queue_id: int) -> int:
        """Oldest queue offset kept; that of the next message when none is."""
        return self._queue(topic, queue_id).min_offset

    def max_offset(self, topic: str, queue_id: int) -> int:
        """Queue offset of the next message."""
        return self._queue(topic, queue_id).max_offset

    def first_in_memory(self, topic: str, queue_id: int) -> bool:
        """Whether the queue's message 0 lies in the newest part of the log, or there is none."""
        queue = self._queue(topic, queue_id)
        if queue.max_offset == 0:
            return True
        # Where even the unit is not in memory, the message is old.
        units = self._guard(lambda: queue.read_nowait(0, 1)) or []
        return any(self.is_recent(u.physical_offset) for u in units)

    def _queue(self, topic: str, queue_id: int) -> ConsumeQueue:
        """The queue; an empty one that nobody keeps when the topic has no such queue.

        Names come from requests: an unknown one must leave no trace here.
        """
        config = self._dispatched.metadata.topics.get(topic)
        if (
            config is None
            or not self._dispatched.serving
            or not 0 <= queue_id < max(config.read_queue_nums, config.write_queue_nums)
        ):
            return self._dispatched.queues.nothing
        return self._dispatched.queues.get(topic, queue_id)

    # --- pulls --------------------------------------------------------------------------------

    def find(
        self,
        topic: str,
        queue_id: int,
        offset: int,
        *,
        max_count: int,
        max_bytes: int,
        codes: Collection[int] | None,
    ) -> PullResult | None:
        """Which messages a pull gets: up to the limits, the first one always.

        Args:
            topic: of the queue.
            queue_id: 0-based.
            offset: queue offset wanted.
            max_count: most messages.
            max_bytes: most bytes of records.
            codes: tags codes that match, None for all.

        Returns:
            None: the disk must be asked, see `find_later`.
        """
        queue = self._queue(topic, queue_id)
        beyond = outside(queue, offset)
        if beyond is not None:
            return beyond
        units = self._guard(lambda: queue.read_nowait(offset, window(max_count, codes)))
        return None if units is None else select(queue, offset, units, max_count, max_bytes, codes)

    async def find_later(
        self,
        topic: str,
        queue_id: int,
        offset: int,
        *,
        max_count: int,
        max_bytes: int,
        codes: Collection[int] | None,
    ) -> PullResult:
        """`find`, in a thread when the disk must be asked."""
        queue = self._queue(topic, queue_id)
        beyond = outside(queue, offset)
        if beyond is None:
            units = await self._units(queue, offset, window(max_count, codes))
            # The begin may have moved meanwhile.
            beyond = outside(queue, offset)
        if beyond is not None:
            return beyond
        return select(queue, offset, units, max_count, max_bytes, codes)

    async def _units(self, queue: ConsumeQueue, offset: int, count: int) -> list[Unit]:
        try:
            return await queue.read_later(offset, count)
        except StorageError as e:
            raise self._give_up(str(e)) from e

    def _guard(self, read: Callable[[], list[Unit] | None]) -> list[Unit] | None:
        try:
            return read()
        except StorageError as e:
            raise self._give_up(str(e)) from e

    def _give_up(self, what: str) -> PeerError:
        """The queues are broken: the node stops; the refusal for who has asked."""
        self._dispatched.give_up_queues(what)
        return PeerError(ResponseCode.SYSTEM_ERROR, f"this broker stops: {what}")

    # --- the records of a pull ----------------------------------------------------------------

    def read_nowait(self, topic: str, queue_id: int, found: PullResult) -> bytes | None:
        """The records found, back to back, when they are in memory and right; else None."""
        source = self._source
        check = source.check(topic, queue_id)
        parts: list[bytes] = []
        at = 0
        for run in runs(found.units, source.segment_bytes):
            start, size = extent(run, source.segment_bytes, source.head_bytes)
            data = source.read_nowait(start, size)
            if data is None:
                return None
            records = check.records(data, start, run, found.offsets[at : at + len(run)])
            if records is None:
                return None
            parts += records
            at += len(run)
        return b"".join(parts)

    async def read(self, topic: str, queue_id: int, found: PullResult) -> bytes | None:
        """The records found, back to back, in a thread when the disk must be asked.

        Returns:
            None: some are gone, the log's begin or a deletion has overtaken the pull.

        Raises:
            PeerError: some are not what was written; the node stops.
        """
        queue = self._queue(topic, queue_id)
        source = self._source
        check = source.check(topic, queue_id)
        parts: list[bytes] = []
        at = 0
        for run in runs(found.units, source.segment_bytes):
            offsets = found.offsets[at : at + len(run)]
            start, size = extent(run, source.segment_bytes, source.head_bytes)
            data = await source.read_at(start, size)
            records = check.records(data, start, run, offsets)
            if records is None:
                if self._is_gone(queue, offsets[0]):
                    return None
                raise await self._blame(check, queue, run, offsets)
            parts += records
            at += len(run)
        return b"".join(parts)

    def _is_gone(self, queue: ConsumeQueue, offset: int) -> bool:
        return queue.dropped or offset < queue.min_offset or not self._dispatched.serving

    async def _blame(
        self, check: Check, queue: ConsumeQueue, run: list[Unit], offsets: Sequence[int]
    ) -> PeerError:
        """Find out what is broken, the queue or the log; the refusal for who has asked.

        The log vouches for itself.
        """
        for unit, offset in zip(run, offsets, strict=True):
            try:
                is_right = await self._source.bears_out(unit, offset, check)
            except PeerError as e:
                return e
            if self._is_gone(queue, offset):
                break
            if not is_right:
                return self._give_up(
                    f"{queue.folder}: unit {offset} leads to byte {unit.physical_offset} of the"
                    " log, where its message is not"
                )
        return PeerError(ResponseCode.SYSTEM_ERROR, "the log changed while it was read; try again")

    def is_recent(self, physical_offset: int) -> bool:
        """Whether a message lies in the newest part of the log, likely in memory."""
        return self._source.end_pos - physical_offset <= _MEMORY_BYTES * _RECENT_SHARE

    # --- single records -----------------------------------------------------------------------

    async def read_record(self, physical_offset: int) -> bytes | None:
        """The committed record at exactly this offset, or None."""
        return await self._source.read_record(physical_offset)

    async def store_time_at(self, topic: str, queue_id: int, queue_offset: int) -> int | None:
        """Store time of a message, ms since 1970; None: no such message."""
        queue = self._queue(topic, queue_id)
        units = await self._units(queue, queue_offset, 1)
        if not units:
            return None
        one = PullResult(PullStatus.FOUND, units, 0, 0, 0, [queue_offset])
        record = await self.read(topic, queue_id, one)
        return peek_record(record).store_timestamp_ms if record else None

    async def offset_by_time(
        self, topic: str, queue_id: int, timestamp_ms: int, upper: bool
    ) -> int:
        """First message stored at or after `timestamp_ms`; with `upper` the last not after it.

        Store times never fall within the log, so the queue can be halved.
        """
        begin = low = self.min_offset(topic, queue_id)
        high = self.max_offset(topic, queue_id)
        while low < high:
            middle = (low + high) // 2
            stored_ms = await self.store_time_at(topic, queue_id, middle)
            if stored_ms is None:
                break
            if stored_ms < timestamp_ms or (upper and stored_ms == timestamp_ms):
                low = middle + 1
            else:
                high = middle
        return max(low - 1, begin) if upper else low
