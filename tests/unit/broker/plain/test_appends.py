"""When a message is seen and answered: after the disk, before it, or not at all."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.plain.appends import _does_not_wait
from ledgermq.broker.writer import AppendResult, OutgoingRecord
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message import pack_host
from tests.support import until
from tests.support.brokers import send_request
from tests.support.plain import Held, PlainBroker

SYNC = {"flush_disk_type": "SYNC_FLUSH"}


def outgoing(body: bytes = b"x", properties: bytes = b"", topic: str = "T") -> OutgoingRecord:
    return OutgoingRecord(topic, 0, body, properties, 0, 0, 1, pack_host("1.2.3.4:5"))


def sending(
    broker: PlainBroker, body: bytes = b"x", **more: Any
) -> "asyncio.Task[RemotingCommand]":
    return asyncio.create_task(broker.ask(send_request("T", body, **more)))


async def with_topic(broker: PlainBroker) -> Held:
    await broker.create_topic("T")
    assert isinstance(broker.disk, Held)
    return broker.disk


# --- SYNC_FLUSH -----------------------------------------------------------------------------------


async def test_nothing_is_seen_or_answered_before_it_is_on_the_disk(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), **SYNC) as broker:
        disk = await with_topic(broker)
        await broker.send("T", b"before")
        disk.hold()
        answer = sending(broker, b"held")
        await until(lambda: disk.waiting)
        later = sending(broker, b"later")
        await until(lambda: broker.app.node.pending_count == 2)
        assert await broker.bodies() == [b"before"]
        assert broker.app.reader.max_offset("T", 0) == 1
        assert not answer.done()
        assert not later.done()
        syncs = len(disk.syncs)
        disk.release()
        assert [(await a).ext["queueOffset"] for a in (answer, later)] == ["1", "2"]
        assert await broker.bodies() == [b"before", b"held", b"later"]
        assert any("commitlog" in path for path in disk.syncs[syncs:])


@pytest.mark.parametrize(
    ("properties", "waits"),
    [
        (b"", True),
        (b"WAIT\x01true\x02", True),
        (b"WAIT\x01TRUE\x02", True),
        (b"KEYS\x01a\x02WAIT\x01false\x02TAGS\x01b\x02", False),
        (b"WAIT\x01False", False),
        (b"WAIT\x01no\x02", False),
        (b"WAIT\x01false\x02WAIT\x01true\x02", True),
        (b"AWAIT\x01false\x02", True),
        (b"KEYS\x01WAIT\x02", True),
    ],
)
def test_who_waits_for_the_disk(properties: bytes, waits: bool) -> None:
    assert _does_not_wait(properties) is not waits


async def test_who_does_not_wait_is_answered_once_it_is_written(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), **SYNC) as broker:
        disk = await with_topic(broker)
        disk.hold()
        reply = await broker.ask(send_request("T", b"w", properties="WAIT\x01false\x02"))
        assert (reply.code, reply.ext["queueOffset"]) == (0, "0")
        await until(lambda: disk.waiting)
        assert await broker.bodies() == []
        disk.release()
        await until(lambda: broker.app.reader.max_offset("T", 0) == 1)
        assert await broker.bodies() == [b"w"]


async def test_one_that_waits_too_long_is_told_so_and_is_there_later(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), sync_flush_timeout_ms=60, **SYNC) as broker:
        disk = await with_topic(broker)
        await broker.send("T", b"0")
        disk.hold()
        replies = await asyncio.gather(sending(broker, b"1"), sending(broker, b"2"))
        assert {r.code for r in replies} == {ResponseCode.FLUSH_DISK_TIMEOUT}
        assert [r.ext["queueOffset"] for r in replies] == ["1", "2"]
        assert all(r.ext["msgId"] for r in replies)
        assert await broker.bodies() == [b"0"]
        disk.release()
        assert await broker.send("T", b"3") == 3
        assert await broker.bodies() == [b"0", b"1", b"2", b"3"]
        assert not broker.app.failed.done()
        assert not broker.master._appends._waiters


async def test_a_fast_disk_times_nobody_out(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, sync_flush_timeout_ms=2000, **SYNC) as broker:
        await broker.create_topic("T")
        replies = await asyncio.gather(*(sending(broker, b"%d" % i) for i in range(200)))
        assert {r.code for r in replies} == {0}
        assert not broker.master._appends._waiters
        assert broker.app.node.pending_count == 0


# --- ASYNC_FLUSH ----------------------------------------------------------------------------------


async def test_without_sync_flush_what_is_written_is_seen_and_answered(tmp_path: Path) -> None:
    disk = Held()
    config: dict[str, Any] = {
        "flush_interval_commit_log_ms": 10,
        "flush_commit_log_least_pages": 0,
    }
    async with PlainBroker(tmp_path, disk=disk, **config) as broker:
        await with_topic(broker)
        disk.hold()
        assert await broker.send("T", b"a") == 0
        await until(lambda: disk.waiting, what="a flush by the interval")
        assert await broker.send("T", b"b") == 1
        assert await broker.bodies() == [b"a", b"b"]
        assert broker.master._appends.flusher.synced_pos < broker.master.end_pos
        disk.release()
        await until(lambda: broker.master._appends.flusher.synced_pos == broker.master.end_pos)


async def test_few_pages_wait_for_the_thorough_flush(tmp_path: Path) -> None:
    config = {
        "flush_interval_commit_log_ms": 10,
        "flush_commit_log_thorough_interval_ms": 3_600_000,
        "flush_interval_consume_queue_ms": 3_600_000,
    }
    async with PlainBroker(tmp_path, disk=Held(), **config) as broker:
        disk = await with_topic(broker)
        disk.syncs.clear()
        await broker.send("T", bytes(5000))
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not [path for path in disk.syncs if "commitlog" in path]
        for _ in range(4):
            await broker.send("T", bytes(5000))
        await until(lambda: [path for path in disk.syncs if "commitlog" in path])


# --- trouble --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SYNC_FLUSH", "ASYNC_FLUSH"])
async def test_a_full_disk_refuses_and_offsets_stay_dense(tmp_path: Path, kind: str) -> None:
    async with PlainBroker(tmp_path, disk=Held(), flush_disk_type=kind) as broker:
        disk = await with_topic(broker)
        await broker.create_group("CG")
        await broker.send("T", b"0")
        disk.room = 100
        replies = await asyncio.gather(*(sending(broker, b"lost") for _ in range(5)))
        assert {r.code for r in replies} == {ResponseCode.SERVICE_NOT_AVAILABLE}
        assert "no room left" in replies[0].remark
        assert await broker.bodies() == [b"0"]
        disk.room = None
        assert [await broker.send("T", b"%d" % i) for i in (1, 2)] == [1, 2]
        assert await broker.bodies() == [b"0", b"1", b"2"]
        assert broker.master._appends.placing.pending_bytes == 0
        await broker.restart(kill=True)
        assert await broker.bodies() == [b"0", b"1", b"2"]


async def test_after_a_full_disk_offsets_go_on_behind_what_waits(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), **SYNC) as broker:
        disk = await with_topic(broker)
        disk.hold()
        first = sending(broker, b"0")
        await until(lambda: disk.waiting)
        disk.room = 0
        assert (await sending(broker, b"lost")).code == ResponseCode.SERVICE_NOT_AVAILABLE
        disk.room = None
        second = sending(broker, b"1")
        await until(lambda: broker.app.node.pending_count == 2)
        disk.release()
        assert [(await a).ext["queueOffset"] for a in (first, second)] == ["0", "1"]
        assert await broker.bodies() == [b"0", b"1"]
        assert not broker.app.failed.done()


async def test_on_a_full_disk_who_does_not_wait_is_refused_once(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), **SYNC) as broker:
        disk = await with_topic(broker)
        disk.room = 0
        told: list[AppendResult | PeerError] = []
        broker.app.node.append(outgoing(properties=b"WAIT\x01false\x02"), told.append)
        broker.app.node.append(outgoing(), told.append)
        await until(lambda: len(told) == 2)
        disk.room = None
        await broker.send("T")
        assert [isinstance(t, PeerError) for t in told] == [True, True]


async def test_a_sync_that_fails_stops_the_broker(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), **SYNC) as broker:
        disk = await with_topic(broker)
        await broker.send("T", b"0")
        disk.broken = "commitlog"
        reply = await broker.ask(send_request("T", b"1"))
        assert reply.code == ResponseCode.SYSTEM_ERROR
        assert "may be stored" in reply.remark
        assert "fdatasync failed" in str(await broker.app.failed)
        assert broker.app.node.pending_count == 0
        told: list[Any] = []
        broker.app.node.append(outgoing(), told.append)
        assert told[0].code == ResponseCode.SERVICE_NOT_AVAILABLE
        await broker.stop()
        assert broker.app.config.abort_path.exists(), "that was no clean stop"
        disk.broken = ""
        await broker.start()
        assert (await broker.bodies())[0] == b"0"


async def test_a_stop_between_two_writes_answers_what_was_staged(tmp_path: Path) -> None:
    broker = PlainBroker(tmp_path)
    await broker.start()
    await broker.create_topic("T")
    await broker.send("T", b"0")
    told: list[Any] = []
    node = broker.app.node
    node.append(outgoing(b"staged"), told.append)
    deletion = asyncio.create_task(node.delete_topic("T"))
    await asyncio.sleep(0)
    node.halt("it stops")
    assert told[0].code == ResponseCode.SYSTEM_ERROR
    assert broker.master._appends.staged_end == broker.master.end_pos
    await broker.stop()
    assert deletion.done(), "nothing waits for what is never written"
    await deletion
    await broker.start()
    assert "T" not in broker.app.metadata.topics
    await broker.__aexit__()


async def test_a_stop_while_all_is_put_on_disk_is_clean(tmp_path: Path) -> None:
    broker = PlainBroker(tmp_path, disk=Held(), flush_interval_commit_log_ms=3_600_000)
    await broker.start()
    disk = await with_topic(broker)
    await broker.send("T", b"0")
    disk.hold()
    saving = asyncio.create_task(broker.master._keeper.save())
    await until(lambda: disk.waiting)
    broker.app.node.halt("it stops")
    disk.release()
    await saving
    await broker.stop()
    assert not broker.app.failed.done()
    assert not broker.app.config.abort_path.exists()
    await broker.__aexit__()
