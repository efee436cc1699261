"""Reading committed messages: by queue offset, by physical offset, by time."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum

from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError, StorageError
from ledgermq.remoting.message_record import peek_record

from .consume_queue import ConsumeQueue, Unit
from .dispatch import Dispatcher
from .record_check import RecordCheck

# Units looked through for a match before a pull returns empty-handed. Source: 16,000 bytes of
# consume queue, 20 bytes a unit.
_SCAN_UNITS = 800
# Records with gaps between them are read in one piece while the gaps stay below this.
_MAX_GAP_BYTES = 64 << 10
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MEMORY_BYTES = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
_RECENT_SHARE = 0.4


class PullStatus(Enum):
    """How a read of a queue went; the names travel as remarks."""

    FOUND = "FOUND"
    NO_MATCHED_MESSAGE = "NO_MATCHED_MESSAGE"
    NO_MESSAGE_IN_QUEUE = "NO_MESSAGE_IN_QUEUE"
    OFFSET_OVERFLOW_ONE = "OFFSET_OVERFLOW_ONE"
    OFFSET_OVERFLOW_BADLY = "OFFSET_OVERFLOW_BADLY"
    OFFSET_TOO_SMALL = "OFFSET_TOO_SMALL"


@dataclass(slots=True)
class PullResult:
    """What a pull found.

    Attributes:
        units: places of the matching messages, in order.
        next_offset: queue offset to pull next.
        offsets: queue offsets of the matching messages.
    """

    status: PullStatus
    units: list[Unit]
    next_offset: int
    min_offset: int
    max_offset: int
    offsets: Sequence[int] = field(default_factory=list)


class MessageReader:
    """Only committed and dispatched messages are seen, and only while the queues are whole."""

    def __init__(self, log_server: LogServer, dispatcher: Dispatcher) -> None:
        self._log = log_server
        self._dispatcher = dispatcher

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
        config = self._dispatcher.metadata.topics.get(topic)
        if (
            config is None
            or not self._dispatcher.serving
            or not 0 <= queue_id < max(config.read_queue_nums, config.write_queue_nums)
        ):
            return self._dispatcher.queues.nothing
        return self._dispatcher.queues.get(topic, queue_id)

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
        outside = _outside(queue, offset)
        if outside is not None:
            return outside
        units = self._guard(lambda: queue.read_nowait(offset, _window(max_count, codes)))
        return None if units is None else _select(queue, offset, units, max_count, max_bytes, codes)

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
        outside = _outside(queue, offset)
        if outside is None:
            units = await self._units(queue, offset, _window(max_count, codes))
            # The begin may have moved meanwhile.
            outside = _outside(queue, offset)
        if outside is not None:
            return outside
        return _select(queue, offset, units, max_count, max_bytes, codes)

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
        self._dispatcher.give_up_queues(what)
        return PeerError(ResponseCode.SYSTEM_ERROR, f"this broker stops: {what}")

    # --- the records of a pull ----------------------------------------------------------------

    def read_nowait(self, topic: str, queue_id: int, found: PullResult) -> bytes | None:
        """The records found, back to back, when they are in memory and right; else None."""
        check = RecordCheck(topic, queue_id, self._dispatcher.applied)
        read = self._log.ledger.data.read_nowait
        parts: list[bytes] = []
        at = 0
        for run in _runs(found.units, self._log.config.segment_bytes):
            start, size = _extent(run, self._log.config.segment_bytes)
            data = read(start, size)
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
        check = RecordCheck(topic, queue_id, self._dispatcher.applied)
        parts: list[bytes] = []
        at = 0
        for run in _runs(found.units, self._log.config.segment_bytes):
            offsets = found.offsets[at : at + len(run)]
            start, size = _extent(run, self._log.config.segment_bytes)
            data = await self._log.read_at(start, size)
            records = check.records(data, start, run, offsets)
            if records is None:
                if self._is_gone(queue, offsets[0]):
                    return None
                raise await self._blame(check, queue, run, offsets)
            parts += records
            at += len(run)
        return b"".join(parts)

    def _is_gone(self, queue: ConsumeQueue, offset: int) -> bool:
        return queue.dropped or offset < queue.min_offset or not self._dispatcher.serving

    async def _blame(
        self, check: RecordCheck, queue: ConsumeQueue, run: list[Unit], offsets: Sequence[int]
    ) -> PeerError:
        """Find out what is broken, the queue or the log, and stop; the refusal for who has asked.

        The log vouches for itself: each of its entries is read with checksum and place.
        """
        for unit, offset in zip(run, offsets, strict=True):
            start = unit.physical_offset - entry.HEADER_BYTES
            try:
                data, pos = await self._entry_around(start)
            except StorageError as e:
                self._dispatcher.fail(e)
                return PeerError(ResponseCode.SYSTEM_ERROR, f"this broker stops: {e}")
            if self._is_gone(queue, offset):
                break
            if pos != start or check.records(data, start, [unit], [offset]) is None:
                return self._give_up(
                    f"{queue.folder}: unit {offset} leads to byte {unit.physical_offset} of the"
                    " log, where its message is not"
                )
        return PeerError(ResponseCode.SYSTEM_ERROR, "the log changed while it was read; try again")

    async def _entry_around(self, pos: int) -> tuple[bytes, int]:
        """(the last dispatched entry that begins at `pos` or before, where it begins)."""
        low, high = self._log.begin.index, self._dispatcher.applied
        data, found = b"", -1
        while low <= high:
            middle = (low + high) // 2
            entry_bytes, _ = await self._log.read_entries(middle, middle, 1)
            its_pos = entry.decode(entry_bytes).pos
            if its_pos <= pos:
                data, found, low = entry_bytes, its_pos, middle + 1
            else:
                high = middle - 1
        return data, found

    def is_recent(self, physical_offset: int) -> bool:
        """Whether a message lies in the newest part of the log, likely in memory."""
        return self._log.ledger.end_pos - physical_offset <= _MEMORY_BYTES * _RECENT_SHARE

    # --- single records -----------------------------------------------------------------------

    async def read_record(self, physical_offset: int) -> bytes | None:
        """The committed record at exactly this offset, or None."""
        pos = physical_offset - entry.HEADER_BYTES
        if pos < self._log.begin.pos or physical_offset >= self._log.ledger.end_pos:
            return None
        try:
            header = entry.decode(await self._log.read_at(pos, entry.HEADER_BYTES))
            index = header.log_index
            if header.pos != pos or not self._log.begin.index <= index <= self._dispatcher.applied:
                return None
            # The bytes of a message may look like an entry: the index of the log knows better.
            data, _ = await self._log.read_entries(index, index, 1)
            header = entry.decode(data)
            if header.pos != pos:
                return None
            record = data[entry.HEADER_BYTES :]
            peek = peek_record(record, check_crc=header.body_crc == 0)
        except StorageError as e:
            self._dispatcher.fail(e)
            raise PeerError(ResponseCode.SYSTEM_ERROR, f"this broker stops: {e}") from e
        except PeerError:
            return None
        if peek.topic == INTERNAL_TOPIC.encode():
            return None
        return record if peek.physical_offset == physical_offset else None

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


def _outside(queue: ConsumeQueue, offset: int) -> PullResult | None:
    """The result of a pull at an offset that the queue does not hold; None: it does."""
    low, high = queue.min_offset, queue.max_offset
    status = _out_of_range(offset, low, high)
    if status is None:
        return None
    following = {
        PullStatus.NO_MESSAGE_IN_QUEUE: 0,
        PullStatus.OFFSET_TOO_SMALL: low,
        PullStatus.OFFSET_OVERFLOW_BADLY: high,
    }.get(status, offset)
    return PullResult(status, [], following, low, high)


def _window(max_count: int, codes: Collection[int] | None) -> int:
    return max_count if codes is None else max(_SCAN_UNITS, max_count)


def _select(
    queue: ConsumeQueue,
    offset: int,
    units: list[Unit],
    max_count: int,
    max_bytes: int,
    codes: Collection[int] | None,
) -> PullResult:
    """Those of the units from `offset` on that match, up to the limits."""
    found: list[Unit] = []
    offsets: list[int] = []
    size, following = 0, offset
    for unit in units:
        if codes is None or unit.tags_code in codes:
            if found and (len(found) >= max_count or size + unit.size > max_bytes):
                break
            found.append(unit)
            offsets.append(following)
            size += unit.size
        following += 1
    status = PullStatus.FOUND if found else PullStatus.NO_MATCHED_MESSAGE
    return PullResult(status, found, following, queue.min_offset, queue.max_offset, offsets)


def _out_of_range(offset: int, low: int, high: int) -> PullStatus | None:
    if high == 0:
        return PullStatus.NO_MESSAGE_IN_QUEUE
    if offset < low:
        return PullStatus.OFFSET_TOO_SMALL
    if offset == high:
        return PullStatus.OFFSET_OVERFLOW_ONE
    return PullStatus.OFFSET_OVERFLOW_BADLY if offset > high else None


def _extent(run: list[Unit], segment_bytes: int) -> tuple[int, int]:
    """(first byte, length) of what holds these records and the entry headers before them.

    Length 0 for units that nobody can have written.
    """
    start, last = run[0].physical_offset - entry.HEADER_BYTES, run[-1]
    size = last.physical_offset + last.size - start
    return max(start, 0), size if start >= 0 and 0 < size <= segment_bytes else 0


def _runs(units: list[Unit], segment_bytes: int) -> list[list[Unit]]:
    """Group neighbours that one read can get: in one file, with small gaps between them."""
    runs: list[list[Unit]] = []
    for unit in units:
        if runs:
            last = runs[-1][-1]
            gap = unit.physical_offset - last.physical_offset - last.size
            same = last.physical_offset // segment_bytes == unit.physical_offset // segment_bytes
            if same and 0 <= gap <= _MAX_GAP_BYTES:
                runs[-1].append(unit)
                continue
        runs.append([unit])
    return runs
