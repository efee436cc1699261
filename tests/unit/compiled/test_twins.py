"""Every compiled twin gives what its pure function gives, for good input and for flipped bytes."""

from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledgermq.broker import record_builder
from ledgermq.broker.store import index_builder, queue_runs, record_keys
from ledgermq.broker.store.tags_codes import TagsCodes
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.broker.writer import OutgoingRecord
from ledgermq.compiled import PAIRS, Pair
from ledgermq.dledger.store import entry, walked
from ledgermq.remoting import message_record
from ledgermq.remoting.errors import LedgerMQError
from tests.support.fuzz import fuzzing

pytestmark = pytest.mark.compiled

I32 = st.integers(-(1 << 31), (1 << 31) - 1)
I64 = st.integers(-(1 << 63), (1 << 63) - 1)
INDEX = st.integers(0, 1 << 62)
CRC = st.integers(0, (1 << 32) - 1)
BODY = st.binary(min_size=1, max_size=90)


def pair_of(chosen: object) -> Pair:
    """The pure one and its twin, by what modules import."""
    return next(pair for pair in PAIRS if pair.twin is chosen)


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call gives, or how it refuses."""
    try:
        return function(*args, **kwargs)
    except LedgerMQError as e:
        return type(e), str(e)


def same(chosen: object, *args: Any, **kwargs: Any) -> Any:
    """What both give."""
    pair = pair_of(chosen)
    assert callable(pair.pure)
    assert callable(pair.twin)
    pure, twin = outcome(pair.pure, *args, **kwargs), outcome(pair.twin, *args, **kwargs)
    assert twin == pure
    return twin


def test_all_of_them_are_here() -> None:
    names = {getattr(pair.twin, "__name__", "") for pair in PAIRS}
    assert names == {
        "Walked", "chained", "encode", "encode_record", "encode_records", "encode_run", "keys_in",
        "read_runs",
    }  # fmt: skip


# --- entries --------------------------------------------------------------------------------------


@fuzzing(200)
@given(INDEX, INDEX, INDEX, BODY, CRC)
def test_an_entry(index: int, term: int, pos: int, body: bytes, chain: int) -> None:
    same(entry.encode, index, term, pos, body, chain)


@fuzzing(200)
@given(INDEX, INDEX, INDEX, st.lists(BODY, min_size=1, max_size=9), CRC)
def test_a_run_of_entries(index: int, term: int, pos: int, bodies: list[bytes], chain: int) -> None:
    same(walked.encode_run, index, term, pos, bodies, chain)


def spoiled(data: bytes, flips: list[tuple[int, int]], cut: int) -> bytes:
    """The bytes with some flipped, and without their last."""
    changed = bytearray(data)
    for at, bit in flips:
        if changed:
            changed[at % len(changed)] ^= 1 << bit
    return bytes(changed[: max(len(changed) - cut, 0)])


FLIPS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 7)), max_size=2)
CUT = st.just(0) | st.integers(0, 200)


@fuzzing(400)
@given(
    st.lists(st.tuples(st.lists(BODY, max_size=4), st.integers(1, 3)), max_size=4),
    st.integers(0, 1 << 40),
    CRC,
    FLIPS,
    CUT,
    st.integers(0, 9),
    st.integers(-1, 1),
    st.integers(0, 900),
)
def test_walked_entries(
    parts: list[tuple[list[bytes], int]],
    first: int,
    chain: int,
    flips: list[tuple[int, int]],
    cut: int,
    n: int,
    off: int,
    room: int,
) -> None:
    data, index, pos, value = b"", first, 8 * first, chain
    for bodies, term in parts:
        run, _, value = walked.encode_run(index, term, pos, bodies, value)
        data, index, pos = data + run, index + len(bodies), pos + len(run)
    data = spoiled(data, flips, cut)
    pure, twin = (outcome(each, data) for each in pair_of(walked.Walked))
    if isinstance(pure, tuple):
        assert twin == pure
        return
    assert len(twin) == len(pure)
    assert list(twin) == list(pure) == [twin[at] for at in range(len(twin))]
    assert twin.data == data
    assert twin.runs() == pure.runs()
    assert twin.gap(first) == pure.gap(first)
    assert twin.gap(first + off) == pure.gap(first + off)
    assert twin.units(n, 3) == pure.units(n, 3)
    for begin in (0, n):
        at = 8 * first + sum(header.size for _, header in list(pure)[:begin])
        asked = (begin, first + begin + off * (begin > 4), at, room, chain)
        assert twin.plain_run(*asked) == pure.plain_run(*asked)
    with pytest.raises(IndexError):
        twin[len(twin)]


@pytest.mark.parametrize("bodies", [[None], [b"x", None], ["text"]])
def test_what_is_no_body_is_not_read(bodies: list[Any]) -> None:
    with pytest.raises(TypeError):
        walked.encode_run(0, 1, 0, bodies, 0)


def test_bodies_that_are_made_while_they_are_read() -> None:
    bodies = [b"one", b"two"]
    assert walked.encode_run(0, 1, 0, iter(bodies), 0) == walked.encode_run(0, 1, 0, bodies, 0)  # type: ignore[arg-type]


# --- records --------------------------------------------------------------------------------------

HOSTS = st.sampled_from([b"\x7f\0\0\x01\0\0\x2a\x9f", bytes(range(20))])
WORDS = st.sampled_from(["", "a", "TagB", "Größe", "键", "0" * 40, "x y", " ", "  z", "\x01"])
NAMES = st.sampled_from(["TAGS", "KEYS", "UNIQ_KEY", "WAIT", "XTAGS", "", "KEYS2", "标"])
PROPERTIES = st.lists(st.tuples(NAMES, WORDS), max_size=6).map(
    lambda pairs: "\x02".join(f"{name}\x01{value}" for name, value in pairs).encode()
) | st.binary(max_size=40)
TOPICS = st.sampled_from([b"T", b"Topic-2", "主题".encode(), b"L" * 130, INTERNAL_TOPIC.encode()])


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """What `encode_record` takes, hardly ever out of range."""
    number = I32 | st.just(1 << 31) if draw(st.integers(0, 20)) == 0 else st.integers(0, 3)
    return {
        "topic": draw(TOPICS),
        "queue_id": draw(number),
        "flag": draw(I32),
        "queue_offset": draw(st.integers(0, 2)),
        "physical_offset": draw(I64),
        "sys_flag": draw(st.sampled_from([0, 0, 0, 1, 0x4, 0x8, 0xC, 0x30, 0x101])),
        "born_timestamp_ms": draw(I64),
        "born_host": draw(HOSTS),
        "store_timestamp_ms": draw(I64),
        "store_host": draw(HOSTS),
        "reconsume_times": draw(I32),
        "prepared_transaction_offset": draw(I64),
        "body": draw(st.binary(max_size=40)),
        "properties": draw(PROPERTIES),
    }


NOTHING: dict[str, Any] = {
    "topic": b"", "queue_id": 0, "flag": 0, "queue_offset": 0, "physical_offset": 0, "sys_flag": 0,
    "born_timestamp_ms": 0, "born_host": bytes(8), "store_timestamp_ms": 0, "store_host": bytes(8),
    "reconsume_times": 0, "prepared_transaction_offset": 0, "body": b"", "properties": b"",
}  # fmt: skip


@fuzzing(300)
@given(fields())
@example(NOTHING | {"properties": bytes(32767)})
@example(NOTHING | {"properties": bytes(32768)})
@example(NOTHING | {"topic": bytes(32768)})
def test_a_record(values: dict[str, Any]) -> None:
    pure, twin = (outcome(each, **values) for each in pair_of(message_record.encode_record))
    if isinstance(pure, tuple):
        assert twin[0] is pure[0]  # the number is described in other words
        assert twin[1].split(":")[:2] == pure[1].split(":")[:2]
    else:
        assert twin == pure


@pytest.mark.parametrize("name", ["topic", "born_host", "store_host", "body", "properties"])
def test_a_record_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(TypeError):
        message_record.encode_record(**NOTHING | {name: None})
    message = OutgoingRecord("T", 0, None, b"", 0, 0, 0, bytes(8))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        record_builder.encode_records([message], [b"T"], [0], [0], 0, bytes(8))


@fuzzing(60)
@given(st.lists(fields(), min_size=1, max_size=4), INDEX, st.integers(0, 1 << 40))
def test_records_of_a_run(many: list[dict[str, Any]], first: int, store_ms: int) -> None:
    messages = [
        OutgoingRecord(
            "T",
            0,
            values["body"],
            values["properties"],
            values["flag"],
            values["sys_flag"],
            values["born_timestamp_ms"],
            values["born_host"],
            values["reconsume_times"],
            values["prepared_transaction_offset"],
        )
        for values in many
    ]
    topics, offsets = [v["topic"] for v in many], [v["physical_offset"] for v in many]
    places = [first + 3 * n for n in range(len(many))]
    same(record_builder.encode_records, messages, topics, places, offsets, store_ms, bytes(8))
    with pytest.raises(ValueError, match="zip"):
        record_builder.encode_records(messages, topics, places, offsets[1:], store_ms, bytes(8))


@st.composite
def chunks(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int, int]]]:
    """Entries with records of which most continue their queues, and where the records are."""
    data, places, pos, ends = b"", [], draw(st.integers(0, 1 << 40)), {}
    for n, values in enumerate(draw(st.lists(fields(), max_size=8))):
        values["queue_id"] %= 3
        queue = values["topic"], values["queue_id"]
        values["queue_offset"] = ends.get(queue, values["queue_offset"])
        if draw(st.integers(0, 15)) == 0:
            values["queue_offset"] += 1
        ends[queue] = values["queue_offset"] + 1
        record = message_record.encode_record(**values) + b"+" * (draw(st.integers(0, 15)) == 0)
        head, _ = entry.encode(n, 1 + n // 3, pos, record, 0)
        begin = len(data) + len(head)
        places.append((pos + len(head), begin, begin + len(record)))
        data, pos = data + head + record, pos + len(head) + len(record)
    return data, places


@fuzzing(600)
@given(chunks(), FLIPS, CUT, st.integers(0, 2))
def test_what_entries_bring_to_queues(
    chunk: tuple[bytes, list[tuple[int, int, int]]],
    flips: list[tuple[int, int]],
    cut: int,
    skipped: int,
) -> None:
    data, places = chunk
    data = spoiled(data, flips, cut)
    at = places[skipped][1] - entry.HEADER_BYTES if skipped < len(places) else 0
    same(queue_runs.read_runs, data, at, skipped, TagsCodes())
    same(queue_runs.read_runs, data, at, skipped + 1, TagsCodes())


@fuzzing(600)
@given(chunks(), FLIPS, CUT)
def test_the_keys_of_records(
    chunk: tuple[bytes, list[tuple[int, int, int]]], flips: list[tuple[int, int]], cut: int
) -> None:
    data, places = chunk
    data = spoiled(data, flips, cut)
    same(record_keys.keys_in, data, [place for place in places if place[2] <= len(data)])


@fuzzing(200)
@given(
    st.lists(st.tuples(st.integers(0, (1 << 31) - 1), INDEX, st.integers(0, 1 << 45)), max_size=40),
    st.sampled_from([1, 7, 1024, 1025, 5000]),
    st.integers(1, 1000),
    st.sampled_from([0, 1, 1 << 40]),
)
def test_chains_of_keys(
    keys: list[tuple[int, int, int]], slots: int, number: int, begin_ms: int
) -> None:
    results = []
    for chained in pair_of(index_builder.chained):
        assert callable(chained)
        numbers, dirty = array("i", [0] * slots), bytearray(-(-slots // index_builder.PAGE_SLOTS))
        made = chained(keys, memoryview(numbers), dirty, number, begin_ms)
        results.append((made, numbers, dirty))
    assert results[0] == results[1]


@pytest.mark.parametrize("bad", [([(-1, 0, 0)], 1), ([(5, 0, 0)], 0)])
def test_nothing_is_written_beside_the_slots(bad: tuple[list[tuple[int, int, int]], int]) -> None:
    keys, pages = bad
    twin = pair_of(index_builder.chained).twin
    assert callable(twin)
    with pytest.raises(ValueError, match=r"hash|pages"):
        twin(keys, memoryview(array("i", [0] * 7)), bytearray(pages), 1, 0)
