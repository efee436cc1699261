"""Reading committed messages: by queue offset, by physical offset, by time."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message_record import peek_record

from .consume_queue import ConsumeQueue, Unit
from .dispatch import Dispatcher

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
    """

    status: PullStatus
    units: list[Unit]
    next_offset: int
    min_offset: int
    max_offset: int


class MessageReader:
    """Only committed and dispatched messages are seen."""

    def __init__(self, log_server: LogServer, dispatcher: Dispatcher) -> None:
        self._log = log_server
        self._dispatcher = dispatcher

    def min_offset(self, topic: str, queue_id: int) -> int:  # noqa: ARG002
        """Oldest queue offset kept; the log keeps everything so far."""
        return 0

    def max_offset(self, topic: str, queue_id: int) -> int:
        """Queue offset of the next message."""
        return self._queue(topic, queue_id).max_offset

    def first_in_memory(self, topic: str, queue_id: int) -> bool:
        """Whether the queue's first message lies in the newest part of the log."""
        units = self._queue(topic, queue_id).read(0, 1)
        return not units or self.is_recent(units[0].physical_offset)

    def _queue(self, topic: str, queue_id: int) -> ConsumeQueue:
        """The queue; an empty one that nobody keeps when the topic has no such queue.

        Names come from requests: an unknown one must leave no trace here.
        """
        config = self._dispatcher.metadata.topics.get(topic)
        if config is None or not 0 <= queue_id < max(
            config.read_queue_nums, config.write_queue_nums
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
    ) -> PullResult:
        """Which messages a pull gets: up to the limits, the first one always.

        Args:
            topic: of the queue.
            queue_id: 0-based.
            offset: queue offset wanted.
            max_count: most messages.
            max_bytes: most bytes of records.
            codes: tags codes that match, None for all.
        """
        queue = self._queue(topic, queue_id)
        low, high = 0, queue.max_offset
        status = _out_of_range(offset, low, high)
        if status is not None:
            following = high if status is PullStatus.OFFSET_OVERFLOW_BADLY else offset
            following = low if status is PullStatus.OFFSET_TOO_SMALL else following
            if status is PullStatus.NO_MESSAGE_IN_QUEUE:
                following = 0
            return PullResult(status, [], following, low, high)
        found: list[Unit] = []
        size, following = 0, offset
        window = max_count if codes is None else max(_SCAN_UNITS, max_count)
        for unit in queue.read(offset, window):
            if codes is None or unit.tags_code in codes:
                if found and (len(found) >= max_count or size + unit.size > max_bytes):
                    break
                found.append(unit)
                size += unit.size
            following += 1
        status = PullStatus.FOUND if found else PullStatus.NO_MATCHED_MESSAGE
        return PullResult(status, found, following, low, high)

    async def read_units(self, units: list[Unit]) -> bytes:
        """The records at these places, back to back."""
        parts: list[bytes] = []
        for run in _runs(units, self._log.config.segment_bytes):
            start, last = run[0].physical_offset, run[-1]
            size = last.physical_offset + last.size - start
            data = await self._log.read_at(start, size)
            parts.append(data if len(run) == 1 else _pick(data, run))
        return b"".join(parts)

    def read_units_nowait(self, units: list[Unit]) -> bytes | None:
        """`read_units` when the page cache has it all, else None."""
        parts: list[bytes] = []
        for run in _runs(units, self._log.config.segment_bytes):
            start, last = run[0].physical_offset, run[-1]
            size = last.physical_offset + last.size - start
            data = self._log.ledger.data.read_nowait(start, size)
            if data is None:
                return None
            parts.append(data if len(run) == 1 else _pick(data, run))
        return b"".join(parts)

    def is_recent(self, physical_offset: int) -> bool:
        """Whether a message lies in the newest part of the log, likely in memory."""
        return self._log.ledger.end_pos - physical_offset <= _MEMORY_BYTES * _RECENT_SHARE

    # --- single records -----------------------------------------------------------------------

    async def read_record(self, physical_offset: int) -> bytes | None:
        """The committed record at exactly this offset, or None."""
        pos = physical_offset - entry.HEADER_BYTES
        if pos < 0 or physical_offset >= self._log.ledger.end_pos:
            return None
        try:
            header = entry.decode(await self._log.read_at(pos, entry.HEADER_BYTES))
            index = header.log_index
            if header.pos != pos or not 0 <= index <= self._dispatcher.applied:
                return None
            # The bytes of a message may look like an entry: the index of the log knows better.
            data, _ = await self._log.read_entries(index, index, 1)
            if entry.decode(data).pos != pos:
                return None
            record = data[entry.HEADER_BYTES :]
            peek = peek_record(record)
        except PeerError:
            return None
        if peek.topic == INTERNAL_TOPIC.encode():
            return None
        return record if peek.physical_offset == physical_offset else None

    async def store_time_at(self, topic: str, queue_id: int, queue_offset: int) -> int | None:
        """Store time of a message, ms since 1970; None: no such message."""
        units = self._queue(topic, queue_id).read(queue_offset, 1)
        if not units:
            return None
        record = await self._log.read_at(units[0].physical_offset, units[0].size)
        return peek_record(record).store_timestamp_ms

    async def offset_by_time(
        self, topic: str, queue_id: int, timestamp_ms: int, upper: bool
    ) -> int:
        """First message stored at or after `timestamp_ms`; with `upper` the last not after it.

        Store times never fall within the log, so the queue can be halved.
        """
        low, high = 0, self.max_offset(topic, queue_id)
        while low < high:
            middle = (low + high) // 2
            stored_ms = await self.store_time_at(topic, queue_id, middle)
            if stored_ms is None:
                break
            if stored_ms < timestamp_ms or (upper and stored_ms == timestamp_ms):
                low = middle + 1
            else:
                high = middle
        return max(low - 1, 0) if upper and low > 0 else low


def _out_of_range(offset: int, low: int, high: int) -> PullStatus | None:
    if high == 0:
        return PullStatus.NO_MESSAGE_IN_QUEUE
    if offset < low:
        return PullStatus.OFFSET_TOO_SMALL
    if offset == high:
        return PullStatus.OFFSET_OVERFLOW_ONE
    return PullStatus.OFFSET_OVERFLOW_BADLY if offset > high else None


def _pick(data: bytes, run: list[Unit]) -> bytes:
    """The records of `run` out of the bytes from its first to its last."""
    start = run[0].physical_offset
    return b"".join(
        data[u.physical_offset - start : u.physical_offset - start + u.size] for u in run
    )


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
