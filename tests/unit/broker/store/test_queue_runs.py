"""What entries bring to queues: runs of messages, up to the entry that somebody must look at."""

import pytest

from ledgermq.broker.store.consume_queue import pack_unit
from ledgermq.broker.store.queue_runs import QueueRun, read_runs
from ledgermq.broker.store.tags_codes import TagsCodes
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.store import entry
from ledgermq.remoting.message_properties import java_hash
from ledgermq.remoting.message_record import encode_record

ROLLBACK = 0xC


def record(topic: str, queue_id: int, offset: int, *, sys_flag: int = 0, ms: int = 5) -> bytes:
    return encode_record(
        topic=topic.encode(),
        queue_id=queue_id,
        flag=0,
        queue_offset=offset,
        physical_offset=0,
        sys_flag=sys_flag,
        born_timestamp_ms=1,
        born_host=bytes(8),
        store_timestamp_ms=ms,
        store_host=bytes(20),
        reconsume_times=0,
        prepared_transaction_offset=0,
        body=b"b" * offset,
        properties=f"TAGS\x01tag{queue_id}\x02".encode(),
    )


def chunk(records: list[bytes], indexes: list[int] | None = None) -> bytes:
    """Entries from index 7 on, of terms 3, 3, 4, 4, 5 …, the first at byte 1000."""
    data = b""
    for n, body in enumerate(records):
        index = indexes[n] if indexes else 7 + n
        data += entry.encode(index, 3 + n // 2, 1000 + len(data), body, 0)[0] + body
    return data


def test_messages_of_three_queues() -> None:
    records = [
        record("T", 0, 4, ms=9), record("U", 0, 0, ms=30), record("T", 0, 5, ms=10),
        record("T", 1, 8, ms=11), record("U", 0, 1, ms=12),
    ]  # fmt: skip
    data = chunk(records)
    found = read_runs(data, 0, 7, TagsCodes())
    assert found is not None
    runs, end = found
    assert end == len(data)
    assert (runs.log_index, runs.term, runs.store_ms, runs.end_pos) == (11, 5, 30, 1000 + len(data))
    codes = [java_hash("tag0"), java_hash("tag1")]
    at = [1000 + 48 + sum(48 + len(r) for r in records[:n]) for n in range(5)]
    unit = [pack_unit(at[n], len(records[n]), codes[n == 3]) for n in range(5)]
    assert runs.runs == {
        ("T", 0): QueueRun(7, 4, unit[0] + unit[2], [codes[0]] * 2),
        ("U", 0): QueueRun(8, 0, unit[1] + unit[4], [codes[0]] * 2),
        ("T", 1): QueueRun(10, 8, unit[3], [codes[1]]),
    }


@pytest.mark.parametrize(
    "third",
    [
        pytest.param(record(INTERNAL_TOPIC, 0, 0), id="a change of the metadata"),
        pytest.param(record("T", 0, 2, sys_flag=ROLLBACK), id="in no queue"),
        pytest.param(record("T", 0, 3), id="not the next of its queue"),
        pytest.param(record("T", 0, 1), id="an offset twice"),
        pytest.param(record("T", 0, 2) + b"more", id="shorter than its entry"),
        pytest.param(record("T", 0, 2)[:-1], id="longer than its entry"),
        pytest.param(record("T", 0, 2).replace(b"\x01T", b"\x01\xff", 1), id="a topic in no UTF-8"),
        pytest.param(b"no record", id="no record"),
    ],
)
def test_it_ends_before_what_somebody_must_look_at(third: bytes) -> None:
    before = [record("T", 0, 0), record("T", 0, 1)]
    data = chunk([*before, third, record("T", 0, 2)])
    found = read_runs(data, 0, 7, TagsCodes())
    assert found is not None
    runs, end = found
    assert end == len(chunk(before))
    assert (runs.log_index, runs.term) == (8, 3)
    assert len(runs.runs["T", 0].tags_codes) == 2


@pytest.mark.parametrize("indexes", [[7, 8, 10], [7, 8, 8]])
def test_it_ends_before_an_entry_that_is_not_the_next(indexes: list[int]) -> None:
    records = [record("T", 0, n) for n in range(3)]
    found = read_runs(chunk(records, indexes), 0, 7, TagsCodes())
    assert found is not None
    assert found[0].log_index == 8


def test_nothing_for_the_queues() -> None:
    data = chunk([record(INTERNAL_TOPIC, 0, 0), record("T", 0, 0)])
    assert read_runs(data, 0, 7, TagsCodes()) is None
    assert read_runs(data, len(data), 9, TagsCodes()) is None
    assert read_runs(data, entry.decode(data).size, 7, TagsCodes()) is None
    found = read_runs(data, entry.decode(data).size, 8, TagsCodes())
    assert found is not None
    assert found[1] == len(data)


def test_bytes_that_end_inside_of_an_entry() -> None:
    data = chunk([record("T", 0, 0), record("T", 0, 1)])
    found = read_runs(data[:-1], 0, 7, TagsCodes())
    assert found is not None
    assert found[0].log_index == 7
