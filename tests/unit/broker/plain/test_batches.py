"""Batches on a plain commitlog: placed as one, answered once, refused as a whole."""

from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.writer import OutgoingRecord
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.message import pack_host
from tests.support import until
from tests.support.plain import Held, PlainBroker

SYNC = {"flush_disk_type": "SYNC_FLUSH"}
KINDS = pytest.mark.parametrize("kind", ["SYNC_FLUSH", "ASYNC_FLUSH"])


def outgoing(body: bytes, properties: bytes = b"", host: str = "1.2.3.4:5") -> OutgoingRecord:
    sys_flag = 0x10 if host.startswith("[") else 0
    return OutgoingRecord("T", 0, body, properties, 0, sys_flag, 1, pack_host(host))


def batch(*bodies: bytes, last: bytes = b"") -> list[OutgoingRecord]:
    """Messages of a batch, the last one with these properties."""
    return [outgoing(body, last if body == bodies[-1] else b"") for body in bodies]


async def with_topic(broker: PlainBroker) -> Held:
    await broker.create_topic("T")
    assert isinstance(broker.disk, Held)
    return broker.disk


@KINDS
async def test_a_batch_across_files_between_single_sends(tmp_path: Path, kind: str) -> None:
    config: dict[str, Any] = {"mapped_file_size_commit_log": 4096, "flush_disk_type": kind}
    async with PlainBroker(tmp_path, disk=Held(), **config) as broker:
        await with_topic(broker)
        outcomes: list[Any] = []
        bodies = [b"%d " % n + bytes(250 * n) for n in range(9)]
        placed = broker.app.node.append_all([outgoing(b) for b in bodies], outcomes.append)
        broker.app.node.append(outgoing(b"one"), outcomes.append)
        await until(lambda: len(outcomes) == 2)
        assert [p.queue_offset for p in placed] == list(range(9))
        assert len({p.physical_offset // 4096 for p in placed}) == 3
        assert outcomes[0] == placed[-1], "answered once, with the place of the last"
        assert outcomes[1].queue_offset == 9
        assert await broker.bodies() == [*bodies, b"one"]
        assert broker.app.node.pending_count == 0
        await broker.restart(kill=True)
        assert await broker.bodies() == [*bodies, b"one"]


async def test_a_batch_is_answered_once_all_of_it_is_on_the_disk(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), **SYNC) as broker:
        disk = await with_topic(broker)
        disk.hold()
        outcomes: list[Any] = []
        broker.app.node.append_all(batch(b"a", b"b", b"c"), outcomes.append)
        await until(lambda: disk.waiting)
        assert not outcomes
        assert await broker.bodies() == []
        disk.release()
        await until(lambda: outcomes)
        assert [(o.queue_offset, o.sync_timed_out) for o in outcomes] == [(2, False)]
        assert await broker.bodies() == [b"a", b"b", b"c"]


async def test_whether_a_batch_waits_says_its_last_message(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), **SYNC) as broker:
        disk = await with_topic(broker)
        disk.hold()
        outcomes: list[Any] = []
        broker.app.node.append_all(batch(b"a", b"b", last=b"WAIT\x01false\x02"), outcomes.append)
        await until(lambda: outcomes)
        assert [o.queue_offset for o in outcomes] == [1]
        assert await broker.bodies() == []
        disk.release()
        await until(lambda: broker.app.reader.max_offset("T", 0) == 2)


async def test_a_batch_that_waits_too_long_is_told_so_once(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), sync_flush_timeout_ms=60, **SYNC) as broker:
        disk = await with_topic(broker)
        disk.hold()
        outcomes: list[Any] = []
        broker.app.node.append_all(batch(b"a", b"b"), outcomes.append)
        await until(lambda: outcomes)
        assert [(o.queue_offset, o.sync_timed_out) for o in outcomes] == [(1, True)]
        disk.release()
        assert await broker.send("T", b"c") == 2
        assert await broker.bodies() == [b"a", b"b", b"c"]
        assert len(outcomes) == 1


@KINDS
async def test_a_batch_that_finds_no_room_leaves_no_hole(tmp_path: Path, kind: str) -> None:
    async with PlainBroker(tmp_path, disk=Held(), flush_disk_type=kind) as broker:
        disk = await with_topic(broker)
        await broker.send("T", b"0")
        disk.room = 100
        outcomes: list[Any] = []
        broker.app.node.append_all(batch(b"lost", b"too"), outcomes.append)
        await until(lambda: outcomes)
        assert [o.code for o in outcomes] == [ResponseCode.SERVICE_NOT_AVAILABLE]
        disk.room = None
        broker.app.node.append_all(batch(b"1", b"2"), outcomes.append)
        await until(lambda: len(outcomes) == 2)
        assert await broker.bodies() == [b"0", b"1", b"2"]
        assert broker.master._appends.placing.pending_bytes == 0


async def test_messages_of_several_clients_in_one_go(tmp_path: Path) -> None:
    """Their records have heads of different lengths."""
    async with PlainBroker(tmp_path, disk=Held()) as broker:
        await with_topic(broker)
        outcomes: list[Any] = []
        hosts = ["1.2.3.4:5", "[::1]:5", "1.2.3.4:5"]
        mixed = [outgoing(b"%d" % n, host=host) for n, host in enumerate(hosts)]
        assert broker.app.node.append_each(mixed, outcomes.append)
        assert broker.app.node.pending_count == 3
        await until(lambda: outcomes)
        [results] = outcomes
        assert [r.queue_offset for r in results] == [0, 1, 2]
        assert await broker.send("T", b"c") == 3
        assert await broker.bodies() == [b"0", b"1", b"2", b"c"]
        assert broker.app.node.pending_count == 0


async def test_with_sync_flush_each_waits_for_the_disk_by_itself(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held(), **SYNC) as broker:
        await with_topic(broker)
        outcomes: list[Any] = []
        assert not broker.app.node.append_each(batch(b"a", b"b"), outcomes.append)
        assert await broker.send("T", b"c") == 0
        assert not outcomes
        assert await broker.bodies() == [b"c"]
