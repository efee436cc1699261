"""Reading by queue offset, by place and by time."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from ledgermq.broker.app import BrokerApp
from ledgermq.broker.store import pulls as pulls_module
from ledgermq.broker.store.consume_queue import Unit
from ledgermq.broker.store.pulls import PullResult, PullStatus
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.store import entry
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.message import decode_records, encode_record, pack_host
from tests.support.brokers import Brokers, pull_all, pull_request, send_request


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Brokers]:
    async with Brokers(tmp_path, mapped_file_size_commit_log=64 << 10) as group:
        await group.create_topic("T")
        await group.create_topic("U")
        yield group


def units(app: BrokerApp, topic: str = "T") -> list[Unit]:
    return app.dispatcher.queues.get(topic, 0).read(0, 100_000)


def found(at: list[Unit], offsets: Sequence[int] | None = None) -> PullResult:
    """A pull that found these units, from offset 0 on."""
    return PullResult(PullStatus.FOUND, at, 0, 0, 0, offsets or range(len(at)))


# --- places -----------------------------------------------------------------------------------


async def test_a_record_is_read_at_its_offset_and_nowhere_else(group: Brokers) -> None:
    for i in range(3):
        await group.send("T", b"body %d" % i)
    app = await group.leader()
    places = {u.physical_offset for u in units(app)}
    end = app.log.ledger.end_pos
    found = {o for o in range(-60, end + 60) if await app.reader.read_record(o) is not None}
    assert found == places
    for unit in units(app):
        record = await app.reader.read_record(unit.physical_offset)
        assert record == await app.log.read_at(unit.physical_offset, unit.size)


@pytest.mark.parametrize("index", [0, 3, 13, -1, 1 << 40])
async def test_an_entry_inside_a_message_is_none(group: Brokers, index: int) -> None:
    """A client can write bytes that look like an entry at exactly the place where they will lie."""
    await group.send("T")
    app = await group.leader()
    start = app.log.ledger.end_pos + entry.HEADER_BYTES + 88  # where the body will begin
    forged = encode_record(
        topic=b"T",
        queue_id=0,
        flag=0,
        queue_offset=0,
        physical_offset=start + entry.HEADER_BYTES,
        sys_flag=0,
        born_timestamp_ms=0,
        born_host=pack_host("1.2.3.4:5"),
        store_timestamp_ms=0,
        store_host=pack_host("1.2.3.4:5"),
        reconsume_times=0,
        prepared_transaction_offset=0,
        body=b"forged",
        properties=b"",
    )
    head, _ = entry.encode(index, 1, start, forged, 0)
    await group.send("T", head + forged)
    at = start + entry.HEADER_BYTES
    assert await app.log.read_at(at, len(forged)) == forged
    assert await app.reader.read_record(at) is None
    assert not app.failed.done()


async def test_the_internal_topic_is_not_read(group: Brokers) -> None:
    app = await group.leader()
    for unit in app.dispatcher.queues.get(INTERNAL_TOPIC, 0).read(0, 100):
        assert await app.reader.read_record(unit.physical_offset) is None
    assert app.reader.max_offset(INTERNAL_TOPIC, 0) == 0


async def test_unknown_queues_leave_no_trace(group: Brokers) -> None:
    app = await group.leader()
    known = set(app.dispatcher.queues._queues)
    for topic, queue_id in (("Nowhere", 0), ("T", 1), ("T", -1), ("../../etc", 0)):
        assert app.reader.max_offset(topic, queue_id) == 0
        assert app.reader.min_offset(topic, queue_id) == 0
        assert await app.reader.store_time_at(topic, queue_id, 0) is None
        assert await app.reader.offset_by_time(topic, queue_id, 5, False) == 0
    assert set(app.dispatcher.queues._queues) == known


@pytest.mark.parametrize("size", [10, 9000, 30_000], ids=["close", "gaps", "large gaps"])
async def test_records_with_others_between_and_across_files(group: Brokers, size: int) -> None:
    app = await group.leader()
    for i in range(12):
        await group.send("T", b"%d" % i * 300)
        await group.send("U", b"u" * size)
    wanted = units(app)
    assert app.log.ledger.end_pos > 65536 or size == 10
    body = await app.reader.read("T", 0, found(wanted))
    assert [m.body for m in decode_records(body)] == [b"%d" % i * 300 for i in range(12)]
    assert body == b"".join([await app.log.read_at(u.physical_offset, u.size) for u in wanted])
    assert app.reader.read_nowait("T", 0, found(wanted)) in (body, None)
    picked = found(wanted[1::3], range(1, 12, 3))
    expected = b"".join([await app.log.read_at(u.physical_offset, u.size) for u in picked.units])
    assert await app.reader.read("T", 0, picked) == expected
    assert await app.reader.read("T", 0, found([])) == b""


def test_neighbours_are_read_in_one_piece_within_a_file() -> None:
    far = pulls_module._MAX_GAP_BYTES
    a, b = Unit(48, 100, 0), Unit(148, 100, 0)
    near, too_far = Unit(248 + far, 10, 0), Unit(249 + far, 10, 0)
    segment = 1 << 20
    assert pulls_module.runs([a, b], segment) == [[a, b]]
    assert pulls_module.runs([b, near], segment) == [[b, near]]
    assert pulls_module.runs([b, too_far], segment) == [[b], [too_far]]
    next_file = Unit(segment + 48, 5, 0)
    last = Unit(segment - 20, 10, 0)
    assert pulls_module.runs([last, next_file], segment) == [[last], [next_file]]


async def test_pages_that_are_not_in_memory_are_read_in_a_thread(
    group: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await group.send("T", b"cold")
    app = await group.leader()
    monkeypatch.setattr(app.log.ledger.data, "read_nowait", lambda *_: None)
    assert app.reader.read_nowait("T", 0, found(units(app))) is None
    body = await app.reader.read("T", 0, found(units(app))) or b""
    assert [m.body for m in decode_records(body)] == [b"cold"]


# --- pulls that must ask the disk --------------------------------------------------------------


async def test_a_pull_of_cold_messages(group: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    app = await group.leader()
    for i in range(12):
        await group.send("T", b"%d" % i)
    await app.dispatcher.queues.flush_all()
    monkeypatch.setattr(app.dispatcher.queues._files.disk, "pread_cached", lambda *_: None)
    monkeypatch.setattr(app.log.ledger.data, "read_nowait", lambda *_: None)
    assert [m.body for m in await pull_all(group, "T")] == [b"%d" % i for i in range(12)]
    # None of them matches: the consumer goes on behind them.
    reply = await group.ask(app, pull_request("T", 0, subscription="Other"))
    assert (reply.code, reply.ext["nextBeginOffset"]) == (20, "12")


@pytest.mark.parametrize("gone", [True, False], ids=["the queue too", "the records only"])
async def test_a_pull_overtaken_by_the_begin(
    group: Brokers, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    app = await group.leader()
    for i in range(4):
        await group.send("T", b"%d" % i)

    async def removed(*_: object) -> None:
        if gone:
            app.dispatcher.queues.get("T", 0).min_offset = 3

    monkeypatch.setattr(app.log.ledger.data, "read_nowait", lambda *_: None)
    monkeypatch.setattr(app.reader, "read", removed)
    reply = await group.ask(app, pull_request("T", 1))
    assert (reply.code, reply.ext["nextBeginOffset"]) == ((21, "3") if gone else (20, "1"))
    assert reply.body == b""


# --- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "lower", "upper"),
    [
        pytest.param(-5, 0, 0, id="before all"),
        pytest.param(0, 0, 0, id="the first"),
        pytest.param(5, 1, 0, id="between"),
        pytest.param(10, 1, 3, id="three of one time"),
        pytest.param(11, 4, 3, id="right after them"),
        pytest.param(20, 4, 4, id="the last"),
        pytest.param(21, 5, 4, id="after all"),
    ],
)
async def test_offset_by_time(
    group: Brokers, monkeypatch: pytest.MonkeyPatch, at: int, lower: int, upper: int
) -> None:
    base = wall_ms() + 10_000_000
    app = await group.leader()
    for ms in (0, 10, 10, 10, 20):
        monkeypatch.setattr(app.node._records, "_wall_ms", lambda ms=ms: base + ms)
        assert (await group.ask(app, send_request("T"))).code == 0
    reader = app.reader
    assert await reader.offset_by_time("T", 0, base + at, False) == lower
    assert await reader.offset_by_time("T", 0, base + at, True) == upper
    assert await reader.store_time_at("T", 0, 4) == base + 20
    assert await reader.store_time_at("T", 0, 5) is None
    assert await reader.offset_by_time("U", 0, base + at, False) == 0
    assert await reader.offset_by_time("U", 0, base + at, True) == 0
