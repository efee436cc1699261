"""From the records of a log to queues: in order, once, and dense."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.metadata import Metadata
from ledgermq.broker.plain import dispatch as module
from ledgermq.broker.plain.commit_log import CommitLog
from ledgermq.broker.plain.dispatch import PlainDispatcher, WrongQueuesError
from ledgermq.broker.plain.places import Places
from ledgermq.broker.store.dispatch import Arrivals
from ledgermq.broker.store.queue_table import ConsumeQueues, QueueRow
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import DamagedError
from ledgermq.remoting.errors import StorageError
from ledgermq.remoting.message_properties import java_hash
from tests.support import until
from tests.unit.remoting.messages import record

from .plain_logs import open_plain, put, stage

# A record of `put` with a body of 200 bytes.
SIZE = len(record(topic=b"T", body=bytes(200)))


class World:
    """A dispatcher on a log of its own.

    Attributes:
        told: (place, arrivals) of each report.
        failures: why the node had to stop.
    """

    def __init__(self, folder: Path, threads: ThreadPoolExecutor, **more: Any) -> None:
        self.log: CommitLog = more.get("log") or open_plain(folder)[0]
        self.queues = ConsumeQueues(folder / "consumequeue", 200, OsDisk(), threads)
        self.deleted: dict[str, int] = {}
        self.told: list[tuple[int, Arrivals]] = []
        self.failures: list[Exception] = []
        self.dispatcher = PlainDispatcher(
            self.log,
            self.queues,
            Metadata(),
            lambda topic: self.deleted.get(topic, 0),
            threads,
            applied=more.get("applied", 0),
            last_store_ms=0,
            on_applied=lambda pos, arrivals: self.told.append((pos, arrivals)),
            on_failure=self.failures.append,
        )

    def put(self, *offsets: int, topic: bytes = b"T", queue_id: int = 0, **more: Any) -> list[int]:
        """One write of records with these queue offsets; where they lie."""
        places = [
            stage(self.log, topic=topic, queue_id=queue_id, queue_offset=offset, **more)[0]
            for offset in offsets
        ]
        self.log.write_staged()
        return places

    async def catch_up(self, *, is_whole: bool = True) -> None:
        await self.dispatcher.catch_up(is_whole=is_whole)

    async def reach(self, pos: int | None = None) -> None:
        end = self.log.end_pos if pos is None else pos
        self.dispatcher.reach(end)
        await until(lambda: self.dispatcher.applied >= end or self.failures)

    def rows(self) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in self.queues.rows()}


@pytest.fixture(name="world")
async def _world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


@asynccontextmanager
async def a_world(folder: Path, **more: Any) -> AsyncIterator[World]:
    with ThreadPoolExecutor(2) as threads:
        world = World(folder, threads, **more)
        yield world
        await world.dispatcher.close()
        world.queues.close()
        world.log.close()


# --- following ------------------------------------------------------------------------------------


async def test_what_is_reached_is_seen_and_nothing_more(world: World) -> None:
    await world.catch_up()
    first, second, third = world.put(0, 1, 2, store_timestamp_ms=5)
    await world.reach(second)
    assert world.rows() == {("T", 0, 0, 1)}
    assert world.dispatcher.applied == second
    assert world.queues.get("T", 0).read(0, 9)[0].physical_offset == first
    await world.reach()
    assert [u.physical_offset for u in world.queues.get("T", 0).read(0, 9)] == [
        first,
        second,
        third,
    ]
    assert [pos for pos, _ in world.told] == [second, world.log.end_pos]
    assert world.told[0][1] == {("T", 0): [java_hash("TagA")]}
    assert world.dispatcher.last_store_ms == 5
    assert world.dispatcher.units == 3


async def test_nothing_is_seen_before_the_start_is_over(world: World) -> None:
    world.put(0)
    world.dispatcher.reach(world.log.end_pos)
    await asyncio.sleep(0)
    assert not world.told
    await world.catch_up()
    assert world.rows() == {("T", 0, 0, 1)}


async def test_records_go_on_in_the_next_file(world: World) -> None:
    await world.catch_up()
    for offset in range(20):
        world.put(offset, body=bytes(300))
    await world.reach()
    assert len(world.log.file_starts()) > 5
    assert world.rows() == {("T", 0, 0, 20)}
    await world.catch_up()


async def test_what_is_not_in_memory_is_read(tmp_path: Path) -> None:
    log, _ = open_plain(tmp_path)
    for offset in range(12):
        put(log, [bytes(200)], topic=b"T", queue_id=0, queue_offset=offset)
    log.close()
    async with a_world(tmp_path) as world:
        world.dispatcher.serving = True
        await world.reach(2 * SIZE)
        assert world.rows() == {("T", 0, 0, 2)}, "what is not synced is not shown"
        await world.reach()
        assert world.rows() == {("T", 0, 0, 12)}
        assert not world.failures


async def test_prepared_and_rolled_back_messages_are_in_no_queue(world: World) -> None:
    await world.catch_up()
    world.put(0, sys_flag=0x4)
    world.put(0, sys_flag=0xC)
    world.put(0, sys_flag=0x8)
    await world.reach()
    assert world.rows() == {("T", 0, 0, 1)}
    assert world.dispatcher.applied == world.log.end_pos


async def test_a_record_out_of_its_order_stops_the_node(world: World) -> None:
    await world.catch_up()
    world.put(0, 2)
    await world.reach()
    assert len(world.failures) == 1
    assert "has offset 2, queue T/0 goes on at 1" in str(world.failures[0])
    waiting = asyncio.create_task(world.dispatcher.dispatched(world.log.end_pos))
    with pytest.raises(StorageError, match="this broker stops"):
        await waiting
    world.put(1)
    world.dispatcher.reach(world.log.end_pos)
    await asyncio.sleep(0)
    assert world.rows() == {("T", 0, 0, 1)}


async def test_a_log_that_cannot_be_read_stops_the_node(world: World) -> None:
    await world.catch_up()
    (pos,) = world.put(0)
    world.log._recent._runs.clear()
    world.log.segments.write(pos, b"\xff" * 20)
    await world.reach()
    assert isinstance(world.failures[0], DamagedError)
    assert "00000000000000000000: damaged at byte 0" in str(world.failures[0])


async def test_who_waits_is_told_when_it_is_in_the_queues(world: World) -> None:
    await world.catch_up()
    await world.dispatcher.dispatched(0)
    world.put(0)
    waiting = asyncio.create_task(world.dispatcher.dispatched(world.log.end_pos))
    await asyncio.sleep(0)
    assert not waiting.done()
    await world.reach()
    await waiting


async def test_who_waits_for_what_was_dropped_waits_no_longer(world: World) -> None:
    await world.catch_up()
    waiting = asyncio.create_task(world.dispatcher.dispatched(5000))
    await asyncio.sleep(0)
    world.dispatcher.dropped(world.log.end_pos)
    await waiting
    world.put(0)
    waiting = asyncio.create_task(world.dispatcher.dispatched(5000))
    await asyncio.sleep(0)
    world.dispatcher.dropped(world.log.end_pos)
    await asyncio.sleep(0)
    assert not waiting.done(), "what is written comes first"
    await world.reach()
    await waiting


async def test_places_do_not_wait_once_nothing_will_come() -> None:
    places = Places()
    places.stop()
    with pytest.raises(StorageError):
        await places.wait(1)
    places.reached(1)


# --- the start ------------------------------------------------------------------------------------


async def test_a_queue_whose_begin_is_gone_begins_in_the_midst(world: World) -> None:
    world.put(7, 8)
    await world.catch_up()
    assert world.rows() == {("T", 0, 7, 9)}
    # Whoever knows that there are queues takes this for wrong.
    world.put(5, topic=b"U")
    world.dispatcher.serving = False
    with pytest.raises(WrongQueuesError, match="has offset 5, queue U/0 goes on at 0"):
        await world.catch_up(is_whole=False)


async def test_a_topic_that_was_made_again_begins_at_0(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put(0, 1, 2)
    last = world.put(0, 1)
    await world.catch_up(is_whole=False)
    assert world.rows() == {("T", 0, 0, 2)}
    assert [u.physical_offset for u in world.queues.get("T", 0).read(0, 9)] == last
    assert "deleted and made again" in caplog.text


async def test_a_gap_is_no_queue_of_this_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put(0, 1, 3)
    with pytest.raises(WrongQueuesError, match="has offset 3, queue T/0 goes on at 2"):
        await world.catch_up(is_whole=False)
    # The whole log has a gap: there is nothing better.
    world.queues.detach_all()
    world.dispatcher.applied = 0
    await world.catch_up()
    assert world.rows() == {("T", 0, 3, 4)}
    assert [r.levelno for r in caplog.records if "missing" in r.message] == [logging.ERROR]


async def test_records_of_deleted_topics_do_not_come_back(world: World) -> None:
    world.put(0, 1)
    world.put(0, 1, topic=b"V")
    world.deleted = {"T": world.log.end_pos, "V": world.log.end_pos}
    world.put(0, topic=b"U")
    world.put(0, 1, 2)
    await world.catch_up()
    assert world.rows() == {("T", 0, 0, 3), ("U", 0, 0, 1)}


@pytest.mark.parametrize("name", [b"../x", b"a/b", b"\xff\xfe", b"..", b"a b", b"x" * 128])
async def test_what_cannot_be_the_name_of_a_topic_is_in_no_queue(
    world: World, caplog: pytest.LogCaptureFixture, name: bytes
) -> None:
    world.put(0)
    world.put(0, topic=name)
    world.put(0, topic=b"U", queue_id=-1)
    world.put(1)
    await world.catch_up()
    assert world.rows() == {("T", 0, 0, 2)}
    assert caplog.text.count("is in no queue") == 2


async def test_units_do_not_pile_up_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAITING_UNITS", 3)
    for offset in range(40):
        world.put(offset, body=bytes(300))
    await world.catch_up()
    queue = world.queues.get("T", 0)
    assert len(queue._tail) // 20 <= 6
    assert len(queue.read(0, 100)) == 40


async def test_queues_that_are_wrong_are_given_up_once(world: World) -> None:
    world.put(0)
    await world.catch_up()
    assert world.rows() == {tuple(QueueRow("T", 0, 0, 1))}
    world.dispatcher.give_up_queues("a unit is wrong")
    world.dispatcher.give_up_queues("a unit is wrong")
    assert (world.dispatcher.serving, world.dispatcher.given_up) == (False, True)
    (failure,) = world.failures
    assert "a unit is wrong. Start this broker again" in str(failure)
    shutil.rmtree(world.queues.folder, ignore_errors=True)
