"""A unit's record is the one it promises, in every field that says so."""

from typing import Any

import pytest

from ledgermq.broker.plain.record_check import PlainCheck
from ledgermq.broker.store.consume_queue import Unit
from ledgermq.remoting.message import pack_host
from tests.unit.remoting.messages import record

POS = 5000


def made(**fields: Any) -> bytes:
    return record(topic=b"T", queue_id=3, queue_offset=11, physical_offset=POS, **fields)


def found(data: bytes, unit: Unit | None = None, offset: int = 11, **check: Any) -> Any:
    values: dict[str, Any] = {"topic": "T", "queue_id": 3, "end_pos": 1 << 40, **check}
    unit = unit or Unit(POS, len(made()), 0)
    return PlainCheck(**values).records(data, POS, [unit], [offset])


@pytest.mark.parametrize(
    "hosts",
    [
        {},
        {"born_host": pack_host("[2001:db8::1]:80"), "sys_flag": 0x10},
        {"store_host": pack_host("[2001:db8::1]:80"), "sys_flag": 0x20},
    ],
)
def test_the_right_one(hosts: dict[str, Any]) -> None:
    data = made(**hosts)
    unit = Unit(POS, len(data), 0)
    assert found(data, unit) == [data]
    assert found(data + b"more", unit) == [data]
    assert found(data, unit, end_pos=POS + len(data)) == [data]
    assert found(data, unit, end_pos=POS + len(data) - 1) is None
    assert found(data, unit, queue_id=4) is None
    assert found(data, unit, topic="U") is None
    assert found(data, unit, topic="TT") is None
    assert found(data, unit, offset=12) is None
    body_at = data.index(b"hello")
    assert found(data[:body_at] + b"j" + data[body_at + 1 :], unit) is None


def test_a_long_name_of_a_topic() -> None:
    name = "%RETRY%" + "x" * 200
    data = record(topic=name.encode(), queue_id=3, queue_offset=11, physical_offset=POS)
    assert found(data, Unit(POS, len(data), 0), topic=name) == [data]
    assert found(data, Unit(POS, len(data), 0), topic=name + "x") is None


@pytest.mark.parametrize("at", range(0, 88))
def test_each_changed_bit_of_the_head_counts_or_says_nothing(at: int) -> None:
    """What no field of the unit or of its queue speaks of may differ: flags, times, hosts."""
    data = made()
    changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    free = {*range(16, 20), *range(36, 84)}
    if at not in free:
        assert found(changed) is None, "size, magic, CRC, queue, offsets, length of the body"


@pytest.mark.parametrize("size", [0, 1, 40, 88, 100])
def test_a_record_that_is_cut_short(size: int) -> None:
    assert found(made()[:size]) is None


@pytest.mark.parametrize("unit", [Unit(POS, 10, 0), Unit(POS + 1, 100, 0), Unit(POS - 1, 100, 0)])
def test_a_unit_of_something_else(unit: Unit) -> None:
    assert found(made(), unit) is None


def test_all_or_none() -> None:
    first = made()
    second = record(
        topic=b"T", queue_id=3, queue_offset=12, physical_offset=POS + len(first), body=b"2"
    )
    units = [Unit(POS, len(first), 0), Unit(POS + len(first), len(second), 0)]
    check = PlainCheck("T", 3, 1 << 40)
    assert check.records(first + second, POS, units, [11, 12]) == [first, second]
    assert check.records(first + second, POS, units, [11, 13]) is None
    assert check.records(first + second[:-1], POS, units, [11, 12]) is None
    assert check.records(first, POS, [], []) == []
