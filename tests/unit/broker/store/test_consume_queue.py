"""Consume queues as files: their bytes, their bounds, and a disk that fails."""

import errno
import os
import random
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest

from ledgermq.broker.store import queue_files
from ledgermq.broker.store.consume_queue import Unit
from ledgermq.broker.store.queue_table import ConsumeQueues, QueueRow
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.errors import StorageError
from tests.golden.captured import files, manifest

END = 1 << 62


class WatchedDisk(OsDisk):
    """The real one; it knows what was synced, and can forget what it has in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[Path] = []
        self.cold = False
        # So many bytes of each read are in memory.
        self.cached_bytes: int | None = None
        self._paths: dict[int, Path] = {}

    def open(self, path: Path, *, create: bool = False) -> int:
        fd = super().open(path, create=create)
        self._paths[fd] = path
        return fd

    def pread_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        if self.cold:
            return None
        known = size if self.cached_bytes is None else min(size, self.cached_bytes)
        return super().pread_cached(fd, known, offset)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.synced.append(self._paths[fd])

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self.synced.append(folder)


class Make(Protocol):
    def __call__(self, *rows: QueueRow, segment_bytes: int = 200) -> ConsumeQueues: ...


@pytest.fixture
def disk() -> WatchedDisk:
    return WatchedDisk()


@pytest.fixture
def queues(tmp_path: Path, disk: WatchedDisk) -> Iterator[Make]:
    """Opens the queues of a folder, with the bounds of these rows."""
    threads = ThreadPoolExecutor(1)
    made: list[ConsumeQueues] = []

    def make(*rows: QueueRow, segment_bytes: int = 200) -> ConsumeQueues:
        made.append(ConsumeQueues(tmp_path, segment_bytes, disk, threads))
        made[-1].restore(rows)
        return made[-1]

    yield make
    for owner in made:
        owner.close()
    threads.shutdown()


def fill(owner: ConsumeQueues, count: int, topic: str = "T", queue_id: int = 0) -> list[Unit]:
    queue = owner.get(topic, queue_id)
    units = [Unit(1000 * n + 48, 100 + n, -n) for n in range(count)]
    for unit in units:
        owner.append(queue, *unit)
    return units


def on_disk(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def row(count: int, begin: int = 0, topic: str = "T") -> QueueRow:
    return QueueRow(topic, 0, begin, count)


# --- units and files --------------------------------------------------------------------------


def test_a_unit_is_twenty_bytes_at_its_offset_times_twenty(tmp_path: Path, queues: Make) -> None:
    owner = queues()
    fill(owner, 12)
    owner.flush(9)
    first = (tmp_path / "T/0/00000000000000000000").read_bytes()
    second = (tmp_path / "T/0/00000000000000000200").read_bytes()
    assert (len(first), len(second)) == (200, 200)
    assert first[20:40] == struct.pack(">qiq", 1048, 101, -1)
    assert second[20:40] == struct.pack(">qiq", 11_048, 111, -11)
    assert second[40:] == bytes(160)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 25])
def test_a_queue_opened_again_goes_on_where_it_ended(queues: Make, count: int) -> None:
    owner = queues()
    units = fill(owner, count)
    owner.flush(9)
    again = queues(*owner.rows())
    assert owner.rows() == ([row(count)] if count else [])
    assert again.get("T", 0).max_offset == count
    assert again.get("T", 0).read(0, 100) == units
    again.append(again.get("T", 0), 99_000, 5, 7)
    assert again.get("T", 0).read(count, 5) == [Unit(99_000, 5, 7)]


@pytest.mark.parametrize(("begin", "end"), [(0, 0), (0, 7), (3, 3), (10, 12), (14, 25), (25, 25)])
def test_only_the_units_that_the_snapshot_knows_count(queues: Make, begin: int, end: int) -> None:
    owner = queues()
    units = fill(owner, 25)
    owner.flush(9)
    queue = queues(row(end, begin)).get("T", 0)
    assert (queue.min_offset, queue.max_offset) == (begin, end)
    assert queue.read(begin, 100) == queue.read_nowait(begin, 100) == units[begin:end]
    assert queue.read(begin - 1, 100) == []
    assert queue.read(end, 100) == []


def test_reads_cross_files_and_what_is_only_in_memory(queues: Make) -> None:
    rng = random.Random(5)
    owner = queues()
    queue = owner.get("T", 3)
    units: list[Unit] = []
    for _ in range(60):
        for _ in range(rng.randrange(8)):
            unit = Unit(len(units) * 10, 10, rng.randrange(-(2**31), 2**31))
            owner.append(queue, *unit)
            units.append(unit)
        if rng.random() < 0.5:
            owner.flush(5)
        at, count = rng.randrange(len(units) + 2), rng.randrange(40)
        assert queue.read(at, count) == units[at : at + count]
        assert queue.read_nowait(at, count) == units[at : at + count]
    assert queue.read(-1, 5) == []
    assert queue.read(len(units), 5) == []


async def test_units_that_are_not_in_memory_are_read_in_a_thread(
    queues: Make, disk: WatchedDisk
) -> None:
    owner = queues()
    units = fill(owner, 15)
    owner.flush(9)
    units += [Unit(99_000, 100, 1)]
    owner.append(owner.get("T", 0), *units[-1])
    disk.cold = True
    queue = owner.get("T", 0)
    assert queue.read_nowait(8, 20) is None
    assert queue.read_nowait(15, 20) == units[15:]  # never was on the disk
    assert await queue.read_later(8, 20) == units[8:]
    assert await queue.read_later(8, 3) == units[8:11]


@pytest.mark.parametrize("cached_bytes", [0, 1, 20, 90])
async def test_a_cache_that_holds_only_the_first_pages_of_what_is_asked(
    queues: Make, disk: WatchedDisk, cached_bytes: int
) -> None:
    owner = queues()
    units = fill(owner, 15)
    owner.flush(9)
    disk.cached_bytes = cached_bytes
    queue = owner.get("T", 0)
    assert queue.read_nowait(2, 10) is None
    assert await queue.read_later(2, 10) == units[2:12]


def test_a_queue_nobody_wrote_to_leaves_no_file(tmp_path: Path, queues: Make) -> None:
    owner = queues()
    assert owner.get("T", 0).max_offset == 0
    assert owner.nothing.read(0, 5) == []
    owner.flush(9)
    assert list(tmp_path.iterdir()) == []


async def test_every_file_that_was_written_is_synced(
    tmp_path: Path, queues: Make, disk: WatchedDisk
) -> None:
    """Also one that the queue wrote by itself, because much was waiting."""
    owner = queues(segment_bytes=60_000)
    fill(owner, 10_000)
    owner.flush(10)
    await owner.sync()
    written = on_disk(tmp_path)
    assert len(written) == 4
    # The folders too: a file whose name is not on disk is not there after a power cut.
    folder = tmp_path / "T" / "0"
    assert set(disk.synced) == {*written, folder, *folder.parents[:3]}
    disk.synced.clear()
    await owner.sync()
    assert disk.synced == []


async def test_a_sync_that_failed_is_not_taken_for_done(
    queues: Make, disk: WatchedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = queues()
    fill(owner, 3)
    owner.flush(9)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "fdatasync", failing)
        with pytest.raises(StorageError, match=r"T/0/0+: fdatasync failed: Input/output error"):
            await owner.sync()
    await owner.sync()
    assert any(p.name.isdigit() for p in disk.synced)


def test_more_queues_than_open_files(queues: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_files, "_MAX_OPEN_FILES", 3)
    owner = queues()
    for queue_id in range(20):
        fill(owner, 12, queue_id=queue_id)
    owner.flush(100)
    for queue_id in range(20):
        assert len(owner.get("T", queue_id).read_nowait(0, 50) or []) == 12
    assert len(owner._files._fds) <= 3


# --- the begin --------------------------------------------------------------------------------


async def yes(*_: Any) -> bool:
    return True


@pytest.mark.parametrize("pos", [0, 1, 48, 49, 5048, 9049, 10_048, 24_048, 24_049, 1 << 40])
async def test_a_queue_begins_where_the_log_does(queues: Make, pos: int) -> None:
    owner = queues()
    units = fill(owner, 25)
    owner.flush(9)
    await owner.trim(pos, yes)
    wanted = [u for u in units if u.physical_offset >= pos]
    queue = owner.get("T", 0)
    assert (queue.min_offset, queue.max_offset) == (25 - len(wanted), 25)
    assert queue.read(queue.min_offset, 100) == wanted


async def test_files_below_the_begin_are_removed(tmp_path: Path, queues: Make) -> None:
    owner = queues()
    units = fill(owner, 35)
    fill(owner, 35, topic="U")
    owner.flush(9)
    owner.get("T", 0).min_offset = 20
    await owner.remove_below()
    assert sorted(int(p.name) for p in (tmp_path / "T/0").iterdir()) == [400, 600]
    assert len(list((tmp_path / "U/0").iterdir())) == 4
    assert owner.get("T", 0).read(20, 100) == units[20:]
    assert await owner.find_problem(units[20].physical_offset, END) is not None  # U
    owner.get("U", 0).min_offset = 20
    assert await owner.find_problem(units[20].physical_offset, END) is None


@pytest.mark.parametrize("wrong", [9, 10])
async def test_a_begin_that_a_wrong_unit_vouches_for_is_none(queues: Make, wrong: int) -> None:
    owner = queues()
    units = fill(owner, 25)

    async def is_right(topic: str, queue_id: int, offset: int, unit: Unit) -> bool:
        assert (topic, queue_id, unit) == ("T", 0, units[offset])
        return offset != wrong

    with pytest.raises(StorageError, match=f"T/0: unit {wrong} is wrong"):
        await owner.trim(10_048, is_right)
    assert owner.get("T", 0).min_offset == 0


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        pytest.param("none", None, id="none"),
        pytest.param("file", "is missing or has another size", id="a file is missing"),
        pytest.param("size", "is missing or has another size", id="a file is short"),
        pytest.param("first", "has no units at its ends", id="no first unit"),
        pytest.param("last", "has no units at its ends", id="no last unit"),
        pytest.param("order", "holds units of another log", id="not in order"),
        pytest.param("early", "holds units of another log", id="before the log"),
        pytest.param("late", "holds units of another log", id="behind the log"),
    ],
)
async def test_files_that_do_not_fit_are_noticed(
    tmp_path: Path, queues: Make, harm: str, says: str | None
) -> None:
    owner = queues()
    fill(owner, 25)
    owner.flush(9)
    paths = sorted((tmp_path / "T/0").iterdir())
    if harm == "file":
        paths[1].unlink()
    elif harm == "size":
        os.truncate(paths[1], 180)
    elif harm in ("first", "last", "order"):
        path, at = (paths[2], 80) if harm == "last" else (paths[0], 0)
        unit = struct.pack(">qiq", 24_000, 100, 0) if harm == "order" else bytes(20)
        data = path.read_bytes()
        path.write_bytes(data[:at] + unit + data[at + 20 :])
    begin_pos, end_pos = 49 if harm == "early" else 48, 24_048 + 124 - (harm == "late")
    problem = await queues(row(25)).find_problem(begin_pos, end_pos)
    assert problem is None if says is None else problem is not None and says in problem


# --- removing ---------------------------------------------------------------------------------


async def test_a_dropped_topic_begins_again_at_zero(tmp_path: Path, queues: Make) -> None:
    owner = queues()
    fill(owner, 15)
    owner.flush(10)
    fill(owner, 0, topic="Other")
    old = owner.get("T", 0)
    owner.detach("T")
    assert (tmp_path / "T").exists()  # a restart from an older snapshot would look for it
    assert owner.rows() == []
    await owner.remove_topic("T")
    assert not (tmp_path / "T").exists()
    assert old.dropped
    assert await old.read_later(0, 5) == []
    assert owner.get("T", 0).max_offset == 0
    assert not owner.dirty
    await owner.sync()
    assert fill(owner, 3) == owner.get("T", 0).read(0, 10)


async def test_unknown_topics_are_removed(tmp_path: Path, queues: Make) -> None:
    owner = queues()
    for topic in ("T", "U", "V"):
        fill(owner, 3, topic=topic)
    owner.flush(9)
    await owner.remove_unknown({"T", "V", "W"})
    assert sorted({p.relative_to(tmp_path).parts[0] for p in on_disk(tmp_path)}) == ["T", "V"]
    owner.detach_all()
    await owner.remove_all()
    assert on_disk(tmp_path) == []


async def test_what_is_made_anew_stays_after_a_loss_of_power(
    tmp_path: Path, queues: Make, disk: WatchedDisk
) -> None:
    """The folder of all is a new one too: without its name on disk the old one would come back."""
    owner = queues()
    fill(owner, 3)
    await owner.flush_all()
    owner.detach_all()
    await owner.remove_all()
    fill(owner, 3)
    await owner.flush_all()
    disk.synced.clear()
    await owner.sync()
    folder = tmp_path / "T" / "0"
    assert {folder, *folder.parents[:3]} <= set(disk.synced)


# --- a disk that fails ------------------------------------------------------------------------


def test_a_short_write_is_continued(
    queues: Make, disk: WatchedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = queues()
    units = fill(owner, 9)
    monkeypatch.setattr(disk, "pwrite", lambda fd, data, at: os.pwrite(fd, bytes(data)[:33], at))
    owner.flush(10)
    assert queues(row(9)).get("T", 0).read(0, 20) == units


def full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def failing(*_: Any) -> int:
    raise OSError(errno.EIO, "Input/output error")


def test_on_a_full_disk_units_wait_and_stay_readable(
    queues: Make, disk: WatchedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = queues()
    units = fill(owner, 9)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "pwrite", full)
        with pytest.raises(DiskFullError, match="T/0"):
            owner.flush(10)
        many = fill(owner, 4000, topic="U")  # so many that they would be written at once
        assert owner.get("T", 0).read(0, 20) == units
        assert owner.get("U", 0).read(0, 5000) == many
    owner.flush(10)
    assert not owner.dirty
    again = queues(*owner.rows())
    assert again.get("T", 0).read(0, 20) == units
    assert again.get("U", 0).read(0, 5000) == many


def test_a_disk_that_fails_is_an_error_with_the_path(
    queues: Make, disk: WatchedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = queues()
    fill(owner, 1)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "pwrite", failing)
        with pytest.raises(StorageError, match=r"T/0/0+: write failed: Input/output error"):
            owner.flush(10)
    owner.flush(10)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "pread", failing)
        patch.setattr(disk, "pread_cached", failing)
        for read in (owner.get("T", 0).read, owner.get("T", 0).read_nowait):
            with pytest.raises(StorageError, match="read failed: Input/output error"):
                read(0, 1)


async def test_a_missing_file_is_an_error_with_its_place(tmp_path: Path, queues: Make) -> None:
    owner = queues()
    fill(owner, 25)
    owner.flush(10)
    queue = queues(row(25)).get("T", 0)
    (tmp_path / "T/0/00000000000000000200").unlink()
    with pytest.raises(StorageError, match="0200: 60 bytes of queue units at byte 0 are missing"):
        queue.read(8, 5)
    with pytest.raises(StorageError, match="are missing"):
        await queue.read_later(8, 5)


# --- Java's files -----------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["dledger-4.9.5/clean", "plain-4.9.5/clean"])
def test_units_that_java_wrote_are_read(store: str, tmp_path: Path, queues: Make) -> None:
    folder = "consumequeue/GoldA/0"
    wanted: list[Unit] = []
    for name, content in files(store, folder):
        (tmp_path / "GoldA/0").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"GoldA/0/{name:020d}").write_bytes(content.ljust(200, b"\0"))
        wanted += [Unit._make(u) for u in struct.iter_unpack(">qiq", content) if u[1]]
    assert manifest(store)["mappedFileSizeConsumeQueue"] == 200
    assert len(wanted) >= 10
    owner = queues(row(len(wanted), topic="GoldA"))
    assert owner.get("GoldA", 0).read(0, 100) == wanted
