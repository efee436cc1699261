"""Queues get to the disk, and the checkpoint says so; never the other way round."""

import asyncio
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.plain.checkpoint import Checkpoint
from ledgermq.dledger.disk import Disk
from tests.support import until
from tests.support.plain import Held, PlainBroker

NEVER_MS = 3_600_000
IDLE: dict[str, Any] = {
    "flush_interval_consume_queue_ms": NEVER_MS,
    "flush_interval_commit_log_ms": NEVER_MS,
    "clean_resource_interval_ms": NEVER_MS,
}


class Recording(Held):
    """Also remembers what was removed.

    Attributes:
        done: syncs and removals in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        super().fdatasync(fd)
        self.done.append(self._paths[fd])

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.done.append(f"- {path}")


def recording(disk: Disk) -> Recording:
    assert isinstance(disk, Recording)
    return disk


def marked(broker: PlainBroker) -> int:
    mark = Checkpoint(broker.app.config.checkpoint_path).mark
    assert mark is not None
    assert mark.flushed_pos >= mark.dispatched_pos
    return mark.dispatched_pos


def kinds(done: list[str]) -> list[str]:
    """The parts of the store in the order of their first sync."""
    names = ("consumequeue", "commitlog", "snapshot", "checkpoint")
    found = [n for path in done for n in names if f"/{n}" in path and not path.startswith("-")]
    return list(dict.fromkeys(found))


async def test_queues_and_log_are_on_disk_before_the_mark(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Recording(), **IDLE) as broker:
        disk = recording(broker.disk)
        await broker.create_topic("T")
        await broker.fill(15)
        before = marked(broker)
        disk.done.clear()
        await broker.master._keeper.save()
        assert kinds(disk.done) == ["consumequeue", "commitlog", "snapshot", "checkpoint"]
        assert before < marked(broker) == broker.master.end_pos == broker.master._keeper.saved_pos
        synced = {path for path in disk.done if "consumequeue/T/0" in path}
        assert len(synced) == 2, "each file of the queue"


async def test_upstream_is_sent_back_to_where_the_index_file_that_grows_begins(
    tmp_path: Path,
) -> None:
    async with PlainBroker(tmp_path, **IDLE) as broker:
        await broker.create_topic("T")
        await broker.send("T", b"first", properties="KEYS\x01K\x02")
        first_ms = broker.master.dispatcher.last_store_ms
        await until(lambda: time.time() * 1000 > first_ms + 1)
        await broker.fill(5)
        await broker.master._keeper.save()
        times = Checkpoint(broker.app.config.checkpoint_path).times
        assert times.physic_ms == broker.master.dispatcher.last_store_ms
        assert times.logics_ms <= first_ms < times.physic_ms
        await broker.stop()
        times = Checkpoint(broker.app.config.checkpoint_path).times
        assert times.logics_ms == times.physic_ms, "a clean stop needs no way back"


@pytest.mark.parametrize("part", ["consumequeue", "commitlog", "snapshot"])
async def test_there_is_no_mark_while_a_part_is_not_on_disk(tmp_path: Path, part: str) -> None:
    async with PlainBroker(tmp_path, disk=Recording(), **IDLE) as broker:
        disk = recording(broker.disk)
        await broker.create_topic("T")
        await broker.fill(15)
        before = marked(broker)
        disk.hold(part)
        saving = asyncio.create_task(broker.master._keeper.save())
        await until(lambda: disk.waiting)
        # What comes meanwhile is not in it.
        end = broker.master.end_pos
        await broker.fill(5)
        assert marked(broker) == before
        disk.release()
        await saving
        assert marked(broker) == end < broker.master.end_pos


async def test_it_keeps_by_itself_when_it_is_time(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "flush_interval_consume_queue_ms": 10,
        "flush_consume_queue_thorough_interval_ms": 50,
    }
    async with PlainBroker(tmp_path, **config) as broker:
        await broker.create_topic("T")
        await broker.fill(3)
        await until(lambda: marked(broker) == broker.master.end_pos)


async def test_many_dirty_pages_are_synced_earlier(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        **IDLE,
        "flush_interval_consume_queue_ms": 10,
        "flush_consume_queue_thorough_interval_ms": NEVER_MS,
        "flush_consume_queue_least_pages": 1,
    }
    async with PlainBroker(tmp_path, disk=Recording(), **config) as broker:
        disk = recording(broker.disk)
        await broker.create_topic("T")
        disk.done.clear()
        await broker.fill(3)
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert "consumequeue" not in kinds(disk.done)
        for _ in range(4):
            await asyncio.gather(*(broker.send("T") for _ in range(60)))
        await until(lambda: "consumequeue" in kinds(disk.done))
        assert "checkpoint" not in kinds(disk.done)


async def test_nothing_is_kept_of_queues_that_are_given_up(tmp_path: Path) -> None:
    config = {**IDLE, "flush_disk_type": "SYNC_FLUSH"}
    async with PlainBroker(tmp_path, disk=Recording(), **config) as broker:
        disk = recording(broker.disk)
        await broker.create_topic("T")
        await broker.fill(15)
        before = marked(broker)
        disk.hold("consumequeue")
        saving = asyncio.create_task(broker.master._keeper.save())
        await until(lambda: disk.waiting)
        broker.master.dispatcher.give_up_queues("wrong")
        disk.release()
        await asyncio.gather(saving, return_exceptions=True)
        assert marked(broker) == before
        assert not broker.master._state.given_up
        await broker.stop()
        assert broker.master._state.given_up


async def test_a_full_disk_is_told_once_and_kept_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config: dict[str, Any] = {
        "flush_interval_consume_queue_ms": 5,
        "flush_consume_queue_thorough_interval_ms": 10,
    }
    async with PlainBroker(tmp_path, disk=Held(), **config) as broker:
        assert isinstance(broker.disk, Held)
        await broker.create_topic("T")
        await broker.create_group("CG")
        await broker.send("T", b"a")
        await until(lambda: marked(broker) == broker.master.end_pos)
        broker.disk.room = 200
        await broker.send("T", b"b")
        await until(lambda: "no room" in caplog.text)
        for _ in range(6):
            await asyncio.sleep(0.005)
        errors = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert len(errors) <= 1
        assert await broker.bodies() == [b"a", b"b"]
        broker.disk.room = None
        await until(lambda: marked(broker) == broker.master.end_pos)
        assert not broker.app.failed.done()


async def test_a_sync_of_queues_that_fails_stops_the_broker(tmp_path: Path) -> None:
    config = {"flush_consume_queue_thorough_interval_ms": 10, "flush_interval_consume_queue_ms": 5}
    async with PlainBroker(tmp_path, disk=Held(), **config) as broker:
        assert isinstance(broker.disk, Held)
        await broker.create_topic("T")
        broker.disk.broken = "consumequeue"
        await broker.send("T")
        assert "consumequeue" in str(await broker.app.failed)


# --- letting go -----------------------------------------------------------------------------------


async def without_its_first_file(broker: PlainBroker, count: int = 60) -> int:
    """The log lets its first file go; where it begins then."""
    await broker.create_topic("T")
    await broker.fill(count)
    await broker.master._keeper.save()
    log = broker.master._log
    (broker.folder / "commitlog" / f"{0:020d}").unlink()
    begin = log.file_starts()[1]
    log.drop_below(begin)
    return begin


async def test_the_new_bounds_are_kept_before_the_files_go(tmp_path: Path) -> None:
    config = {**IDLE, "delete_consume_queue_files_interval_ms": 1}
    async with PlainBroker(tmp_path, disk=Recording(), **config) as broker:
        disk = recording(broker.disk)
        begin = await without_its_first_file(broker)
        disk.done.clear()
        await broker.master._keeper.trim()
        low = broker.app.reader.min_offset("T", 0)
        assert (await broker.pull_all())[0].physical_offset >= begin
        gone = [path for path in disk.done if path.startswith("-") and "consumequeue" in path]
        assert len(gone) == low * 20 // 200 > 2
        saved = next(i for i, path in enumerate(disk.done) if path.endswith("/checkpoint"))
        assert disk.done.index(gone[0]) > saved
        assert [path[-20:] for path in gone] == [f"{i * 200:020d}" for i in range(len(gone))]


async def test_files_go_one_by_one_and_a_stop_ends_that(tmp_path: Path) -> None:
    config = {**IDLE, "delete_consume_queue_files_interval_ms": NEVER_MS}
    broker = PlainBroker(tmp_path, **config)
    await broker.start()
    begin = await without_its_first_file(broker)
    queue = broker.folder / "consumequeue" / "T" / "0"
    before = len(list(queue.iterdir()))
    broker.master._on_begin_moved(begin)
    await until(lambda: len(list(queue.iterdir())) == before - 1)
    # Meanwhile the queues are kept and a topic can go.
    await broker.master._keeper.save()
    low = broker.app.reader.min_offset("T", 0)
    await broker.stop()
    assert len(list(queue.iterdir())) == before - 1
    await broker.start(delete_consume_queue_files_interval_ms=1)
    assert broker.app.reader.min_offset("T", 0) == low
    assert broker.master.dispatcher.units == 0
    await broker.__aexit__()


async def test_files_of_a_topic_that_was_made_again_stay(tmp_path: Path) -> None:
    config = {**IDLE, "delete_consume_queue_files_interval_ms": 50}
    async with PlainBroker(tmp_path, **config) as broker:
        begin = await without_its_first_file(broker)
        queue = broker.folder / "consumequeue" / "T" / "0"
        before = len(list(queue.iterdir()))
        broker.master._on_begin_moved(begin)
        await until(lambda: len(list(queue.iterdir())) < before)
        await broker.delete_topic("T")
        await broker.create_topic("T")
        bodies = await broker.fill(40)
        await broker.master._keeper.save()
        await until(lambda: not broker.master._trimming)
        assert len(list(queue.iterdir())) == 4
        assert await broker.bodies() == bodies


@pytest.mark.parametrize("harm", ["consumequeue", "given up"])
async def test_a_queue_without_messages_goes_on_where_it_ended(tmp_path: Path, harm: str) -> None:
    """All its messages have expired: the log does not tell."""
    config = {**IDLE, "delete_consume_queue_files_interval_ms": 1}
    async with PlainBroker(tmp_path, **config) as broker:
        await broker.create_topic("U")
        await broker.create_topic("V")
        await broker.fill(7, "U")
        await broker.fill(7, "V")
        begin = await without_its_first_file(broker)
        broker.master._on_begin_moved(begin)
        await until(lambda: not broker.master._trimming)
        await broker.delete_topic("V")
        await broker.create_topic("V")
        if harm == "given up":
            broker.master.dispatcher.give_up_queues("wrong")
            await broker.app.failed
            await broker.stop()
        else:
            await broker.crash()
            shutil.rmtree(broker.folder / harm)
        await broker.start()
        assert await broker.send("U", b"next") == 7
        assert await broker.send("V", b"next") == 0
        await broker.restart()
        assert await broker.bodies("U") == [b"next"]


async def test_a_kill_after_files_have_gone_costs_nothing(tmp_path: Path) -> None:
    config = {**IDLE, "delete_consume_queue_files_interval_ms": 1}
    async with PlainBroker(tmp_path, **config) as broker:
        begin = await without_its_first_file(broker)
        broker.master._on_begin_moved(begin)
        await until(lambda: not broker.master._trimming)
        assert not (broker.folder / "consumequeue" / "T" / "0" / f"{400:020d}").exists()
        low = broker.app.reader.min_offset("T", 0)
        await broker.restart(kill=True)
        assert broker.master.dispatcher.units == 0, "not made anew"
        assert broker.app.reader.min_offset("T", 0) == low
        shutil.rmtree(broker.folder / "snapshot")
        await broker.restart(kill=True)
        assert broker.app.reader.min_offset("T", 0) == low
