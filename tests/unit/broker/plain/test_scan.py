"""Records of a commitlog as bytes."""

from typing import Any

import pytest

from ledgermq.broker.plain import scan
from ledgermq.remoting.message import RecordError, pack_host
from tests.unit.remoting.messages import record

SIZE = 1024
V6_HOST = pack_host("[::1]:10911")


def made(pos: int, **fields: Any) -> bytes:
    return record(physical_offset=pos, **fields)


def test_a_blank_is_as_upstream_writes_it() -> None:
    assert scan.blank(16475) == bytes.fromhex("0000405bcbd43194")
    assert scan.is_blank(scan.blank(8))
    assert scan.is_blank(b"-" + scan.blank(8), 1)


@pytest.mark.parametrize(
    "data", [b"", scan.blank(8)[:7], bytes(8), made(0)], ids=["none", "cut", "zeros", "a record"]
)
def test_what_is_no_blank(data: bytes) -> None:
    assert not scan.is_blank(data)


@pytest.mark.parametrize(
    ("pos", "size", "expected"),
    [
        pytest.param(0, SIZE - 8, 0, id="it and a blank fill the file"),
        pytest.param(SIZE, SIZE - 8, SIZE, id="likewise in another file"),
        pytest.param(100, SIZE - 108, 100, id="they fill the rest"),
        pytest.param(100, SIZE - 107, SIZE, id="one byte too long"),
        pytest.param(SIZE - 8, 1, SIZE, id="room for the blank only"),
    ],
)
def test_a_record_and_a_blank_must_fit_the_file(pos: int, size: int, expected: int) -> None:
    assert scan.place(pos, size, SIZE) == expected


def test_the_next_file() -> None:
    assert [scan.next_file(p, SIZE) for p in (0, SIZE - 1, SIZE)] == [SIZE, SIZE, 2 * SIZE]


# --- walking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(b"", id="the end of the data"),
        pytest.param(bytes(100), id="zeros"),
        pytest.param(scan.blank(100) + made(0), id="a blank"),
        pytest.param(made(500), id="a record of another place"),
        pytest.param(made(400, body=b"x" * 50)[:-1], id="a record that is cut short"),
        pytest.param(made(400)[:20], id="less than a head"),
        pytest.param(b"\0\0\0\x10" + made(400)[4:], id="a size that is too small"),
    ],
)
def test_walking_stops_where_no_record_begins(behind: bytes) -> None:
    first = made(100)
    second = made(100 + len(first), topic=b"t" * 200)
    data = first + second + behind.replace((400).to_bytes(8), _place(first, second))
    assert list(scan.walk(data, 100)) == [(0, len(first)), (len(first), len(second))]
    assert list(scan.walk(memoryview(data), 101)) == []


def _place(first: bytes, second: bytes) -> bytes:
    return (100 + len(first) + len(second)).to_bytes(8)


def test_the_size_of_what_begins_there() -> None:
    one = made(0)
    assert scan.size_at(one) == scan.size_at(b"-" + one, 1) == len(one)
    assert scan.size_at(one[:36]) == len(one)
    for none in (b"", one[:35], bytes(50), scan.blank(50) + bytes(50), b"\0\0\0\x10" + one[4:]):
        assert scan.size_at(none) == 0


# --- checking -------------------------------------------------------------------------------------


def changed(data: bytes, at: int, to: bytes) -> bytes:
    return data[:at] + to + data[at + len(to) :]


def test_a_good_record() -> None:
    data = made(4096)
    peek = scan.check(data + b"more", 4096, len(data) + 8)
    assert (peek.size, peek.topic, peek.physical_offset) == (len(data), b"GoldTopic", 4096)


@pytest.mark.parametrize(
    ("data", "left", "problem"),
    [
        pytest.param(bytes(100), SIZE, "none begins there", id="zeros"),
        pytest.param(scan.blank(100) + bytes(92), SIZE, "none begins there", id="a blank"),
        pytest.param(made(0)[:-1], SIZE, "does not fit", id="cut short"),
        pytest.param(made(7), SIZE, "it says that it lies at 7, not at 0", id="another place"),
        pytest.param(changed(made(0), 88, b"H"), SIZE, "CRC", id="another body"),
        pytest.param(made(0), len(made(0)) + 7, "left in the file", id="no room for a blank"),
        pytest.param(made(0, topic=b""), SIZE, "topic b'' is none", id="no topic"),
        pytest.param(made(0, topic=b"a\0b"), SIZE, "is none", id="a torn topic"),
        pytest.param(changed(made(0), 3, b"\xff"), SIZE, "not fit", id="another size"),
    ],
)
def test_what_is_not_what_was_written(data: bytes, left: int, problem: str) -> None:
    with pytest.raises(RecordError, match=problem):
        scan.check(data, 0, left)


@pytest.mark.parametrize(
    ("properties", "end", "lost"),
    [
        pytest.param(b"A\x01b\x02", 700, False, id="all there"),
        pytest.param(b"A\x01b\0\0\x02", 700, False, id="zeros in a value"),
        pytest.param(b"A\x01b" + bytes(10), 522, True, id="the last sector"),
        pytest.param(b"A\x01b" + bytes(10), 523, False, id="not all of the last sector"),
        pytest.param(bytes(10) + b"b\x02", 514, True, id="the first sector"),
        pytest.param(b"A" + bytes(512) + b"B", 1025, True, id="a sector between"),
        pytest.param(b"A" + bytes(512) + b"B", 1026, False, id="zeros in two sectors"),
        pytest.param(b"", 512, False, id="none"),
    ],
)
def test_a_sector_that_was_never_written(properties: bytes, end: int, lost: bool) -> None:
    assert scan.lost_sector(properties, end) is lost


@pytest.mark.parametrize("host", [pack_host("127.0.0.1:48026"), V6_HOST])
def test_the_store_time_of_a_head(host: bytes) -> None:
    data = made(0, store_timestamp_ms=1234567, born_host=host)
    assert scan.store_time_ms(data[: scan.HEAD_BYTES]) == 1234567
    assert scan.store_time_ms(bytes(scan.HEAD_BYTES)) is None
    assert scan.store_time_ms(b"") is None
    assert scan.store_time_ms(made(0, store_timestamp_ms=0)) is None


# --- looking for a record -------------------------------------------------------------------------


def test_an_intact_record_is_found_anywhere() -> None:
    for fields in ({}, {"topic": b"t" * 200}):
        data = b"rubbish" + made(27, **fields) + made(900)
        assert scan.find_intact(data, 20, SIZE) == 27


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(made(0)[4:], id="without its size"),
        pytest.param(made(1), id="of another place"),
        pytest.param(made(0)[:-1], id="cut short"),
        pytest.param(changed(made(0), 88, b"H"), id="with another body"),
    ],
)
def test_what_looks_like_a_record_is_none(data: bytes) -> None:
    assert scan.find_intact(data, 0, SIZE) is None


def test_the_first_of_several_magics_that_begins_a_record() -> None:
    magic = made(0)[4:8]
    data = b"1234" + magic + made(8, body=magic * 3)
    assert scan.find_intact(data, 0, SIZE) == 8
