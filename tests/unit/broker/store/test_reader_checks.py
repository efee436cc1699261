"""Nothing but the stored message at its offset is ever read; what is gone is told from damage."""

import asyncio
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.store import keeper
from ledgermq.broker.store.consume_queue import Unit
from ledgermq.broker.store.pulls import PullStatus
from ledgermq.broker.store.record_check import RecordCheck
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.store import entry
from ledgermq.remoting.errors import PeerError, StorageError
from ledgermq.remoting.message import encode_record, pack_host

from .replicas import SEGMENT_BYTES, FakeLog, Replica, fill, move_begin, put_topic

# --- one record -------------------------------------------------------------------------------

POS, INDEX = 5000, 7


def stored(java: bool = False, **more: Any) -> bytes:
    """An entry at POS whose record is message 3 of queue T/1."""
    fields: dict[str, Any] = {
        "topic": b"T",
        "queue_id": 1,
        "flag": 0,
        "queue_offset": 3,
        "physical_offset": POS + entry.HEADER_BYTES,
        "sys_flag": 0,
        "born_timestamp_ms": 0,
        "born_host": pack_host("1.2.3.4:5"),
        "store_timestamp_ms": 0,
        "store_host": pack_host("1.2.3.4:5"),
        "reconsume_times": 0,
        "prepared_transaction_offset": 0,
        "body": b"the body",
        "properties": b"",
        **more,
    }
    record = encode_record(**fields)
    head, _ = entry.encode(INDEX, 1, POS, record, 0)
    if java:  # neither of its checksums
        head = head[:36] + bytes(8) + head[44:]
    return head + record


def check(data: bytes, topic: str = "T", **more: int) -> list[bytes] | None:
    at = {"queue_id": 1, "offset": 3, "last_index": INDEX, "physical": POS + 48, **more}
    unit = Unit(at["physical"], at.get("size", len(data) - 48), 0)
    found = RecordCheck(topic, at["queue_id"], at["last_index"])
    return found.records(data, POS, [unit], [at["offset"]])


V6 = pack_host("[2001:db8::1]:5")


@pytest.mark.parametrize("java", [False, True], ids=["ours", "Java's"])
@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="IPv4"),
        pytest.param({"born_host": V6, "store_host": V6}, id="IPv6"),
        pytest.param({"topic": b"L" * 200}, id="long topic"),
        pytest.param({"body": b"", "properties": b"a\x01b\x02"}, id="no body"),
    ],
)
def test_what_was_stored_is_right(more: dict[str, Any], java: bool) -> None:
    data = stored(java, **more)
    topic = more.get("topic", b"T").decode()
    assert check(data, topic) == [data[48:]]
    assert check(data, topic + "x") is None
    assert check(data, topic, offset=4) is None
    assert check(data, topic, queue_id=0) is None
    assert check(data, topic, last_index=INDEX - 1) is None
    assert check(data, topic, physical=POS + 49) is None
    assert check(data, topic, size=len(data) - 47) is None
    assert check(data[:-1], topic, size=len(data) - 48) is None


@pytest.mark.parametrize("size", [-(1 << 31), -49, -1, 0, 1, 90])
def test_a_size_that_nobody_wrote_is_wrong(size: int) -> None:
    assert check(stored(), size=size) is None


@pytest.mark.parametrize("more", [{}, {"born_host": V6}], ids=["IPv4", "IPv6"])
def test_no_changed_byte_passes(more: dict[str, Any]) -> None:
    data = stored(**more)
    for at in range(len(data)):
        # Not part of the message, nor of where it lies: term, channel, chain.
        if 16 <= at < 24 or 32 <= at < 40:
            continue
        harmed = bytearray(data)
        harmed[at] ^= 0x10
        assert check(bytes(harmed), last_index=INDEX) is None, at


# --- a replica --------------------------------------------------------------------------------


@pytest.fixture
async def replica(tmp_path: Path) -> Any:
    log = FakeLog(tmp_path / "dledger")
    found = Replica(tmp_path, log)
    put_topic(log, "T")
    fill(log, 60)
    await found.start()
    await found.dispatcher.queues.flush_all()
    yield found
    await found.crash()


def write_unit(replica: Replica, offset: int, unit: Unit, queue_id: int = 0) -> None:
    """Change a unit in its file."""
    at = offset * 20
    folder = replica.folder / "consumequeue/T" / str(queue_id)
    with (folder / f"{at - at % replica.queue_bytes:020d}").open("r+b") as f:
        f.seek(at % replica.queue_bytes)
        f.write(struct.pack(">qiq", *unit))


async def read(replica: Replica, offset: int) -> bytes | None:
    found = await replica.pull("T", 0, offset, max_count=1)
    body = replica.reader.read_nowait("T", 0, found)
    return body if body is not None else await replica.reader.read("T", 0, found)


async def test_a_unit_of_another_message_stops_the_node(replica: Replica) -> None:
    other = replica.dispatcher.queues.get("T", 0).read(4, 1)[0]
    assert await read(replica, 9)
    write_unit(replica, 9, other)
    assert await read(replica, 8)
    with pytest.raises(PeerError, match="T/0: unit 9 leads to byte"):
        await read(replica, 9)
    assert isinstance(replica.failures[0], StorageError)
    assert "its queues are made anew" in str(replica.failures[0])
    await replica.crash()
    await replica.start()
    assert len(await replica.messages("T", 0)) == 30
    assert not replica.failures


async def test_queues_that_were_given_up_stay_so(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No snapshot that is taken, or on its way, may vouch for them again."""
    await replica.snapshot()
    fill(replica.log, 4)
    await replica.follow()
    write_unit(replica, 9, replica.dispatcher.queues.get("T", 0).read(4, 1)[0])
    saving = asyncio.create_task(replica.snapshot())
    await asyncio.sleep(0)
    with pytest.raises(PeerError):
        await read(replica, 9)
    await saving
    monkeypatch.setattr(keeper, "_SNAPSHOT_S", 0)
    await replica.dispatcher._keeper._round()
    assert not replica.dispatcher._mark_file.reliable
    await replica.stop()
    await replica.start()
    assert len(await replica.messages("T", 0)) == 32


async def test_no_snapshot_of_a_half_applied_entry(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica.snapshot()
    fill(replica.log, 2)
    replica.log.append(INTERNAL_TOPIC, 0, b"no operation")
    await replica.follow()
    assert "damaged" in str(replica.failures[0]) or "version" in str(replica.failures[0])
    saves = replica.log.saves
    monkeypatch.setattr(keeper, "_SNAPSHOT_S", 0)
    await replica.dispatcher._keeper._round()
    await replica.stop()
    assert replica.log.saves == saves
    await replica.start()


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(Unit(0, 0, 0), id="zeros"),
        pytest.param(Unit(-5, 100, 0), id="before the log"),
        pytest.param(Unit(1 << 50, 100, 0), id="behind the log"),
        pytest.param(Unit(48, 1 << 30, 0), id="long"),
        pytest.param(Unit(48, -100, 0), id="negative"),
    ],
)
async def test_units_that_make_no_sense(replica: Replica, unit: Unit) -> None:
    write_unit(replica, 5, unit)
    with pytest.raises(PeerError, match="unit 5 leads to byte"):
        await read(replica, 5)
    assert await replica.messages("T", 0) == []  # nothing is served any more


async def test_store_time_and_search_do_not_trust_a_unit_either(replica: Replica) -> None:
    write_unit(replica, 15, replica.dispatcher.queues.get("T", 0).read(4, 1)[0])
    with pytest.raises(PeerError, match="unit 15 leads"):
        await replica.reader.offset_by_time("T", 0, 1 << 50, False)
    assert replica.failures


async def test_a_broken_entry_is_the_logs_damage_not_the_queues(replica: Replica) -> None:
    unit = replica.dispatcher.queues.get("T", 0).read(9, 1)[0]
    replica.log.data[unit.physical_offset + 95] ^= 1
    with pytest.raises(PeerError, match="damaged"):
        await read(replica, 9)
    assert isinstance(replica.failures[0], DamagedError)
    assert replica.dispatcher._mark_file.reliable is False  # no snapshot yet
    with pytest.raises(PeerError, match="damaged"):
        await replica.reader.read_record(unit.physical_offset)


async def test_a_missing_queue_file_stops_the_node(replica: Replica) -> None:
    replica.dispatcher.queues._files.close()
    (replica.folder / "consumequeue/T/0/00000000000000000100").unlink()
    wanted: dict[str, Any] = {"max_count": 1, "max_bytes": 1, "codes": None}
    assert replica.reader.find("T", 0, 6, **wanted) is None, "the disk must be asked"
    with pytest.raises(PeerError, match="are missing"):
        await replica.reader.find_later("T", 0, 6, **wanted)
    assert "are missing" in str(replica.failures[0])
    assert not replica.dispatcher.serving
    assert replica.reader.max_offset("T", 0) == 0


async def test_a_log_that_is_right_when_read_again_stops_nobody(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(_pos: int, size: int) -> bytes:
        return bytes(size)

    monkeypatch.setattr(replica.log, "read_at", wrong)
    found = await replica.pull("T", 0, 3)
    with pytest.raises(PeerError, match="try again"):
        await replica.reader.read("T", 0, found)
    assert not replica.failures


# --- cold pages -------------------------------------------------------------------------------


async def test_units_that_are_not_in_memory_are_not_waited_for(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica.log.host.disk, "pread_cached", lambda *_: None)
    limits: Any = {"max_count": 32, "max_bytes": 1 << 20, "codes": None}
    reader = replica.reader
    assert reader.find("T", 0, 3, **limits) is None
    # What needs no unit is answered at once.
    assert reader.find("T", 0, 30, **limits).status is PullStatus.OFFSET_OVERFLOW_ONE
    found = await reader.find_later("T", 0, 3, **limits)
    assert found.status is PullStatus.FOUND
    assert found.offsets == list(range(3, 30))
    assert not reader.first_in_memory("T", 0)
    assert reader.first_in_memory("U", 0)


# --- the begin --------------------------------------------------------------------------------


async def test_below_the_begin(replica: Replica) -> None:
    log, reader = replica.log, replica.reader
    first = await reader.read_record(replica.dispatcher.queues.get("T", 0).read(0, 1)[0][0])
    assert first is not None
    old = await replica.pull("T", 0, 2)
    index = move_begin(log, 2)
    await replica.follow()
    await replica.snapshot()
    begin = reader.min_offset("T", 0)
    assert log.begin.index == index > 0
    assert 0 < begin < 30 == reader.max_offset("T", 0)
    pulled = await replica.pull("T", 0, begin - 1)
    assert (pulled.status, pulled.next_offset) == (PullStatus.OFFSET_TOO_SMALL, begin)
    assert (pulled.min_offset, pulled.max_offset) == (begin, 30)
    assert (await replica.pull("T", 0, begin)).status is PullStatus.FOUND
    # A pull that was on its way learns that its messages are gone; the node goes on.
    assert reader.read_nowait("T", 0, old) is None
    assert await reader.read("T", 0, old) is None
    assert not replica.failures
    assert await reader.store_time_at("T", 0, begin - 1) is None
    assert await reader.store_time_at("T", 0, begin) is not None
    assert await reader.offset_by_time("T", 0, 0, False) == begin
    assert await reader.offset_by_time("T", 0, 0, True) == begin
    assert await reader.offset_by_time("T", 0, 1 << 50, False) == 30
    assert await reader.read_record(48) is None
    assert not reader.first_in_memory("T", 0)


@pytest.mark.parametrize("anew", [False, True], ids=["as it was", "made anew"])
async def test_a_queue_whose_messages_are_all_gone_keeps_its_end(
    replica: Replica, anew: bool
) -> None:
    put_topic(replica.log, "Other")
    fill(replica.log, 200, "Other")
    move_begin(replica.log, -1)
    await replica.follow()
    await replica.snapshot()
    assert replica.reader.min_offset("T", 0) == replica.reader.max_offset("T", 0) == 30
    assert (await replica.pull("T", 0, 0)).status is PullStatus.OFFSET_TOO_SMALL
    assert (await replica.pull("T", 0, 30)).status is PullStatus.OFFSET_OVERFLOW_ONE
    assert await replica.reader.store_time_at("T", 0, 30) is None
    await replica.stop()
    if anew:
        shutil.rmtree(replica.folder / "consumequeue")
    await replica.start()
    assert replica.reader.min_offset("T", 0) == replica.reader.max_offset("T", 0) == 30
    replica.log.append("T", 0, b"goes on")
    await replica.follow()
    assert [(m.queue_offset, m.body) for m in await replica.messages("T", 0)] == [(30, b"goes on")]
    assert replica.log.begin.pos >= SEGMENT_BYTES


async def test_the_internal_topic_has_a_begin_too(replica: Replica) -> None:
    move_begin(replica.log, 2)
    await replica.follow()
    await replica.snapshot()
    assert replica.dispatcher.queues.get(INTERNAL_TOPIC, 0).min_offset == 1
