"""Which keys records bring to the index, and what is no record."""

import pytest

from ledgermq.broker.store.index_keys import key_hash
from ledgermq.broker.store.record_keys import keys_in
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.remoting.message_record import encode_record


def record(topic: str, properties: str, sys_flag: int = 0, ms: int = 7) -> bytes:
    return encode_record(
        topic=topic.encode(),
        queue_id=0,
        flag=0,
        queue_offset=0,
        physical_offset=0,
        sys_flag=sys_flag,
        born_timestamp_ms=1,
        born_host=bytes(8),
        store_timestamp_ms=ms,
        store_host=bytes(8),
        reconsume_times=0,
        prepared_transaction_offset=0,
        body=b"body",
        properties=properties.encode(),
    )


def test_a_record_that_cannot_be_read_costs_the_others_nothing() -> None:
    records = [record("T", "KEYS\x01a b"), b"no record", record("主题", "UNIQ_KEY\x01键\x02", ms=9)]
    data = b"".join(records)
    places, at = [], 0
    for n, each in enumerate(records):
        places.append((100 * n, at, at + len(each)))
        at += len(each)
    found = keys_in(data, places)
    assert found.keys == [
        (key_hash("T", "a"), 0, 7),
        (key_hash("T", "b"), 0, 7),
        (key_hash("主题", "键"), 200, 9),
    ]
    assert [offset for offset, _ in found.unreadable] == [100]
    assert "too few" in found.unreadable[0][1]


@pytest.mark.parametrize(
    ("made", "keys"),
    [
        (record(INTERNAL_TOPIC, "KEYS\x01a"), []),
        (record("T", "KEYS\x01a", sys_flag=0xC), []),
        (record("T", "KEYS\x01a", sys_flag=0x4), ["a"]),
        (record("T", ""), []),
        (record("T", "XKEYS\x01a\x02UNIQ_KEYS\x01b"), []),
        (record("T", "KEYS\x01a  b \x02UNIQ_KEY\x01u\x02"), ["u", "a", "b"]),
        (record("T", "KEYS\x01a\x02KEYS\x01b\x02"), ["b"]),
        (record("T", "UNIQ_KEY\x01u\x02UNIQ_KEY\x01\x02KEYS\x01k\x02"), ["u", "k"]),
    ],
)
def test_keys_of_one_record(made: bytes, keys: list[str]) -> None:
    found = keys_in(b"before" + made, [(50, 6, 6 + len(made))])
    assert found.keys == [(key_hash("T", key), 50, 7) for key in keys]
    assert not found.unreadable
