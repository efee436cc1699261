"""A broker without a group as a whole: what is there after each kind of end and of harm."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.plain.checkpoint import Checkpoint
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.errors import CallerError, StorageError
from tests.support import until
from tests.support.plain import Held, PlainApp, PlainBroker, crash, plain_config

ANEW = "made anew"


async def filled(broker: PlainBroker) -> dict[tuple[str, int], list[bytes]]:
    """Two topics, enough for several files of the log and of each queue."""
    await broker.create_topic("A", queues=2)
    await broker.create_topic("B")
    await broker.send("B", b"with a key", properties="KEYS\x01K\x02")
    return {
        ("A", 0): await broker.fill(45, "A", 0),
        ("A", 1): await broker.fill(25, "A", 1),
        ("B", 0): [b"with a key", *await broker.fill(29, "B", 0)],
    }


async def same(broker: PlainBroker, sent: dict[tuple[str, int], list[bytes]]) -> None:
    for (topic, queue_id), bodies in sent.items():
        assert await broker.bodies(topic, queue_id) == bodies


# --- restarts -------------------------------------------------------------------------------------


def nothing(_: Path) -> None:
    pass


def remove(*names: str) -> Callable[[Path], None]:
    def do(store: Path) -> None:
        for name in names:
            path = store / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    return do


def damage(pattern: str, at: int = 40) -> Callable[[Path], None]:
    """Change a byte of each such file."""

    def do(store: Path) -> None:
        for path in store.glob(pattern):
            with path.open("r+b") as file:
                file.seek(at)
                byte = file.read(1)
                file.seek(at)
                file.write(bytes([byte[0] ^ 0x55]))

    return do


def cut(pattern: str) -> Callable[[Path], None]:
    def do(store: Path) -> None:
        for path in sorted(store.glob(pattern))[-1:]:
            os.truncate(path, 60)

    return do


HARMS = {
    "nothing": nothing,
    "no queues": remove("consumequeue"),
    "no queue": remove("consumequeue/A/1"),
    "no queue file": remove("consumequeue/A/0/00000000000000000400"),
    "a queue cut short": cut("consumequeue/A/0/*"),
    "no index": remove("index"),
    "no checkpoint": remove("checkpoint"),
    "no snapshot": remove("snapshot"),
    "no life": remove("life"),
    "all derived": remove("consumequeue", "index", "checkpoint", "snapshot", "life"),
    "neither snapshot nor checkpoint": remove("checkpoint", "snapshot"),
    "damaged snapshot": damage("snapshot/*"),
    "damaged checkpoint": damage("checkpoint", 70),
    "damaged index": damage("index/*"),
    "damaged life": damage("life"),
    "last units wiped": damage("consumequeue/B/0/00000000000000000400", 9 * 20 + 3),
}


async def test_a_queue_that_is_gone_is_missed_though_its_bounds_are_of_another_place(
    tmp_path: Path,
) -> None:
    """A kill between the two writes of the keeper; then somebody removes a queue."""
    async with PlainBroker(tmp_path) as broker:
        sent = await filled(broker)
        await broker.master._keeper.save()
        checkpoint = (broker.folder / "checkpoint").read_bytes()
        sent["B", 0] += await broker.fill(1, "B")
        await broker.master._keeper.save()
        await broker.crash()
        (broker.folder / "checkpoint").write_bytes(checkpoint)
        remove("consumequeue/A/1")(broker.folder)
        await broker.start()
        await same(broker, sent)


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("harm", HARMS)
async def test_all_is_there_after(tmp_path: Path, harm: str, kill: bool) -> None:
    async with PlainBroker(tmp_path) as broker:
        sent = await filled(broker)
        await (broker.crash() if kill else broker.stop())
        HARMS[harm](broker.folder)
        await broker.start()
        await same(broker, sent)
        for (topic, queue_id), bodies in sent.items():
            assert await broker.send(topic, b"more", queue_id) == len(bodies)
            bodies.append(b"more")
        await broker.restart(kill=not kill)
        await same(broker, sent)


async def test_a_clean_stop_leaves_nothing_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with PlainBroker(tmp_path) as broker:
        sent = await filled(broker)
        await broker.stop()
        caplog.clear()
        await broker.start()
        assert broker.master.dispatcher.units == 0
        assert broker.master._recovered.checked_from == broker.master.end_pos
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
        await same(broker, sent)


async def test_after_a_kill_only_what_is_not_marked_is_looked_through(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        sent = await filled(broker)
        await broker.master._keeper.save()
        marked = broker.master.end_pos
        sent["B", 0] += await broker.fill(3, "B")
        await broker.restart(kill=True)
        assert broker.master._recovered.checked_from == marked
        assert broker.master.dispatcher.units == 3
        await same(broker, sent)


async def test_a_running_brokers_files_are_enough(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        sent = await filled(broker)
        await same(await broker.copy(), sent)


async def test_power_that_takes_the_name_abort_is_noticed(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        await filled(broker)
        await broker.crash()
        broker.app.config.abort_path.unlink()
        await broker.start()
        assert not broker.master._recovered.was_clean


async def test_store_times_do_not_fall_over_a_restart(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        sent = await filled(broker)
        await broker.stop()
        path = broker.app.config.checkpoint_path
        before = Checkpoint(path)
        assert before.mark is not None
        await broker.start()
        assert broker.master.dispatcher.last_store_ms == before.times.physic_ms
        await broker.stop()
        assert Checkpoint(path).times == before.times, "nothing was forgotten"
        await broker.start()
        await same(broker, sent)


# --- topics and tables ----------------------------------------------------------------------------


async def test_topics_that_lost_their_settings_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with PlainBroker(tmp_path) as broker:
        sent = await filled(broker)
        await broker.stop()
        remove("config")(broker.folder)
        await broker.start()
        assert "topic A has messages and no settings: 2 queues" in caplog.text
        config = broker.app.metadata.topics["A"]
        assert (config.read_queue_nums, config.write_queue_nums, config.perm) == (2, 2, 6)
        await same(broker, sent)
        await broker.restart(kill=True)
        await same(broker, sent)


async def test_a_group_that_is_ahead_of_its_queue_is_taken_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a loss of power with ASYNC_FLUSH: its offset was on disk, the messages were not."""
    async with PlainBroker(tmp_path) as broker:
        await broker.create_topic("T", queues=2)
        await broker.create_group("CG")
        await broker.fill(5)
        await broker.commit(5)
        await broker.stop()
        offsets = broker.folder / "config" / "consumerOffset.json"
        offsets.write_text(offsets.read_text().replace(":5", ":77"))
        await broker.start()
        assert "group CG is taken back from 77 to 5 in T/0" in caplog.text
        assert broker.app.node.query_offset("CG", "T", 0) == 5
        assert ":5" in offsets.read_text()


# --- retention ------------------------------------------------------------------------------------


async def test_queues_and_index_follow_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config: dict[str, Any] = {
        "delete_when": tuple(str(hour) for hour in range(24)),
        "clean_resource_interval_ms": 5,
        "delete_commit_log_files_interval_ms": 1,
        "delete_consume_queue_files_interval_ms": 1,
    }
    async with PlainBroker(tmp_path, **config) as broker:
        sent = await filled(broker)
        sent["B", 0] += await broker.fill(60, "B")
        master = broker.master
        for start in master._log.file_starts()[:2]:
            os.utime(broker.folder / "commitlog" / f"{start:020d}", (1, 1))
        await master._keeper.save()
        await until(lambda: len(master._log.file_starts()) == 1, what="old files that go")
        await until(lambda: not master._trimming)
        begin = master._log.begin_pos
        assert begin > 0
        low = broker.app.reader.min_offset("A", 0)
        assert low == 45, "the oldest messages are gone"
        assert not (broker.folder / "consumequeue/A/0/00000000000000000000").exists()
        kept = await broker.pull_all("B")
        assert [m.body for m in kept] == sent["B", 0][-len(kept) :]
        assert all(m.physical_offset >= begin for m in kept)
        assert (await broker.pull("A", 0)).ext["minOffset"] == "45"
        caplog.clear()
        for kill in (False, True):
            await broker.restart(kill=kill)
            assert ANEW not in caplog.text
            assert broker.app.reader.min_offset("A", 0) == 45
            assert broker.app.reader.max_offset("A", 0) == 45
            assert [m.body for m in await broker.pull_all("B")] == [m.body for m in kept]
        assert await broker.send("A", b"next") == 45


# --- starts that fail -----------------------------------------------------------------------------


async def test_a_store_in_use_is_refused_by_name(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        with pytest.raises(CallerError, match=f"{broker.folder} is in use by another broker"):
            PlainApp(plain_config(broker.folder), OsDisk())
        await broker.create_topic("T")
        await broker.send("T")
        await broker.stop()
        app = PlainApp(plain_config(broker.folder), OsDisk())
        await app.start()
        await crash(app)
        await broker.start()


class Counting(Held):
    """Knows which descriptors are open.

    Attributes:
        fails: part of the paths that cannot be opened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.opened: set[int] = set()
        self.fails = "\0"
        self.close = self._close

    def open(self, path: Path, *, create: bool = False) -> int:
        if self.fails in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        fd = super().open(path, create=create)
        self.opened.add(fd)
        return fd

    def lock(self, path: Path, *, folder: bool = False) -> int:
        fd = super().lock(path, folder=folder)
        self.opened.add(fd)
        return fd

    def _close(self, fd: int) -> None:
        self.opened.discard(fd)
        os.close(fd)


@pytest.mark.parametrize("part", ["commitlog/", "topics.json", "checkpoint"])
async def test_a_store_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path, part: str) -> None:
    broker = PlainBroker(tmp_path, disk=Counting())
    disk = broker.disk
    assert isinstance(disk, Counting)
    await broker.start()
    await filled(broker)
    await broker.stop()
    assert not disk.opened
    path = broker.folder / "checkpoint"
    if part == "checkpoint":
        disk.fails = "snapshot/"
    else:
        disk.fails = part
    before = path.read_bytes()
    with pytest.raises((StorageError, OSError)):
        PlainApp(plain_config(broker.folder), disk)
    assert not disk.opened
    assert path.read_bytes() == before
    disk.fails = "\0"
    await broker.start()
    await broker.__aexit__()


async def test_a_start_that_fails_later_can_be_closed(tmp_path: Path) -> None:
    broker = PlainBroker(tmp_path, disk=Counting())
    disk = broker.disk
    assert isinstance(disk, Counting)
    await broker.start()
    sent = await filled(broker)
    await broker.crash()
    disk.opened.clear()
    remove("consumequeue")(broker.folder)
    disk.broken = "consumequeue"
    with pytest.raises(StorageError, match="fdatasync failed"):
        await broker.start()
    assert not disk.opened
    assert broker.app.config.abort_path.exists()
    disk.broken = ""
    await broker.start()
    await same(broker, sent)
    await broker.__aexit__()


async def test_a_full_disk_serves_reads_after_a_restart(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held()) as broker:
        disk = broker.disk
        assert isinstance(disk, Held)
        sent = await filled(broker)
        await broker.create_group("CG")
        await broker.crash()
        disk.room, disk.rewrites = 0, True
        await broker.start()
        await same(broker, sent)
        disk.room = None
        assert await broker.send("B", b"more") == 30


async def test_a_stop_that_finds_no_room_is_no_clean_one(tmp_path: Path) -> None:
    broker = PlainBroker(tmp_path, disk=Held())
    disk = broker.disk
    assert isinstance(disk, Held)
    await broker.start()
    sent = await filled(broker)
    disk.room = 0
    with pytest.raises(DiskFullError, match="no room"):
        await broker.stop()
    assert broker.app.config.abort_path.exists()
    disk.room = None
    await broker.start()
    assert not broker.master._recovered.was_clean
    await same(broker, sent)
    await broker.__aexit__()
