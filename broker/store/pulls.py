"""What a pull finds in a queue, from its bounds and units; nothing here reads a file."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum

from .consume_queue import ConsumeQueue, Unit

# Units looked through for a match before a pull returns empty-handed. Source: 16,000 bytes of
# consume queue, 20 bytes a unit.
_SCAN_UNITS = 800
# Records with gaps between them are read in one piece while the gaps stay below this.
_MAX_GAP_BYTES = 64 << 10


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


def outside(queue: ConsumeQueue, offset: int) -> PullResult | None:
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


def window(max_count: int, codes: Collection[int] | None) -> int:
    """How many units to look through for so many messages."""
    return max_count if codes is None else max(_SCAN_UNITS, max_count)


def select(
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


def extent(run: list[Unit], segment_bytes: int, head_bytes: int) -> tuple[int, int]:
    """(first byte, length) of what holds these records and the `head_bytes` before them.

    Length 0 for units that nobody can have written.
    """
    start, last = run[0].physical_offset - head_bytes, run[-1]
    size = last.physical_offset + last.size - start
    return max(start, 0), size if start >= 0 and 0 < size <= segment_bytes else 0


def runs(units: list[Unit], segment_bytes: int) -> list[list[Unit]]:
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
