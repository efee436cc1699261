"""From entries of a log to what their queues get, many records at a time."""

from typing import NamedTuple

from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.compiled import twin_in
from ledgermq.dledger.store import entry
from ledgermq.remoting.message_record import RecordError, peek_record

from .consume_queue import pack_unit
from .placed import PlacedRecord
from .tags_codes import TagsCodes, is_queued

_INTERNAL = INTERNAL_TOPIC.encode()

# Topic and queue id.
QueueKey = tuple[str, int]


class QueueRun(NamedTuple):
    """Messages that follow each other in one queue.

    Attributes:
        log_index: of the first one's entry.
        queue_offset: of the first one.
        units: as they lie in the queue's file.
        tags_codes: of each.
    """

    log_index: int
    queue_offset: int
    units: bytes
    tags_codes: list[int]


class QueueRuns(NamedTuple):
    """What some entries, all of them messages of users, bring to the queues.

    Attributes:
        runs: by queue.
        log_index: of the last entry.
        end_pos: byte of the log after it.
        term: of it.
        store_ms: latest store time, ms since 1970.
    """

    runs: dict[QueueKey, QueueRun]
    log_index: int
    end_pos: int
    term: int
    store_ms: int


def runs_of(placed: list[PlacedRecord], term: int) -> tuple[QueueRuns, int]:
    """The first of these records, at least one, and how many they are; the last is of `term`.

    They end before a record that does not follow the one before it in its queue.
    """
    by_queue = _by_queue(placed)
    count = sum(map(len, by_queue.values()))
    return _runs(by_queue, placed[:count], term), count


def _by_queue(placed: list[PlacedRecord]) -> dict[QueueKey, list[PlacedRecord]]:
    by_queue: dict[QueueKey, list[PlacedRecord]] = {}
    for record in placed:
        records = by_queue.get(record.queue)
        if records is None:
            by_queue[record.queue] = [record]
        elif record.queue_offset == records[0].queue_offset + len(records):
            records.append(record)
        else:
            break
    return by_queue


def _runs(
    by_queue: dict[QueueKey, list[PlacedRecord]], placed: list[PlacedRecord], term: int
) -> QueueRuns:
    runs = {
        queue: QueueRun(
            records[0].log_index,
            records[0].queue_offset,
            b"".join([record.unit for record in records]),
            [record.tags_code for record in records],
        )
        for queue, records in by_queue.items()
    }
    store_ms = max([record.store_ms for record in placed])
    return QueueRuns(runs, placed[-1].log_index, placed[-1].end_pos, term, store_ms)


@twin_in("_queue_runs")
def read_runs(
    data: bytes, at: int, log_index: int, codes: TagsCodes
) -> tuple[QueueRuns, int] | None:
    """The messages of the entries from byte `at` on, and where they end; None: there is none.

    They end before an entry that is another than the next one, no message of a user, longer than
    its record, or not the next of its queue: somebody must look at that one.

    Args:
        data: whole entries, one behind the other.
        at: where to begin.
        log_index: of the first entry.
        codes: knows tags.
    """
    placed: list[PlacedRecord] = []
    # Of each of them.
    terms_and_ends: list[tuple[int, int]] = []
    try:
        for here, header in entry.walk(data, at):
            record = _placed(data, here, header, codes)
            if record is None or record.log_index != log_index + len(placed):
                break
            placed.append(record)
            terms_and_ends.append((header.term, here + header.size))
    except (entry.EntryError, RecordError, UnicodeDecodeError):
        pass
    if not placed:
        return None
    by_queue = _by_queue(placed)
    count = sum(map(len, by_queue.values()))
    term, end = terms_and_ends[count - 1]
    return _runs(by_queue, placed[:count], term), end


def _placed(
    data: bytes, at: int, header: entry.EntryHeader, codes: TagsCodes
) -> PlacedRecord | None:
    """The message of the entry at `at`; None: it is something else."""
    peek = peek_record(data, at + entry.HEADER_BYTES)
    if peek.topic == _INTERNAL or peek.size != header.body_len or not is_queued(peek.sys_flag):
        return None
    code = codes.of(peek.properties)
    return PlacedRecord(
        header.log_index,
        header.pos + header.size,
        peek.store_timestamp_ms,
        (peek.topic.decode(), peek.queue_id),
        peek.queue_offset,
        code,
        pack_unit(header.pos + entry.HEADER_BYTES, peek.size, code),
    )
