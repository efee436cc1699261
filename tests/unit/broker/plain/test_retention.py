"""Old files of a plain commitlog: which go, when, and what holds them back."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.config import BrokerConfig
from ledgermq.broker.plain.retention import ReadsUnderWay, Retention
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import StorageError
from ledgermq.dledger.host import Host
from ledgermq.dledger.store.segments import Segments
from tests.support import until

SIZE = 4096
HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000


class StubbornDisk(OsDisk):
    """Attributes:
    refuses: calls that fail, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refuses: set[str] = set()

    def remove(self, path: Path) -> None:
        if "remove" in self.refuses:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        if "sync_folder" in self.refuses:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_folder(folder)


class Log:
    """Files of one size, and what is told about them."""

    def __init__(self, folder: Path, ages_h: list[float], **config: Any) -> None:
        self.disk = StubbornDisk()
        self.segments = Segments(folder, SIZE, disk=self.disk)
        self.now_ms, self.mono_ms, self.hour, self.used_ratio = NOW_MS, 0, 4, 0.1
        for n, age in enumerate(ages_h):
            self.segments.write(n * SIZE, b"x")
            written_s = (NOW_MS - age * HOUR_MS) / 1000
            os.utime(self.segments.path_of(n * SIZE), (written_s, written_s))
        self.dispatched = len(ages_h) * SIZE
        self.begins: list[int] = []
        self.stops: list[Exception] = []
        self.pauses: list[float] = []
        self.reads = ReadsUnderWay(SIZE)
        # How much a removed file empties the disk.
        self.share = 0.0
        self.retention = Retention(
            self,
            BrokerConfig(**config),
            Host(wall_ms=lambda: self.now_ms, mono_ms=lambda: self.mono_ms),
            disk_used_ratio=lambda: self.used_ratio,
            dispatched=lambda: self.dispatched,
            on_begin_moved=self._moved,
            on_stop=self.stops.append,
            reads=self.reads,
            hour_of=lambda _: self.hour,
            pause=self._pause,
        )

    def drop_below(self, base: int) -> None:
        self.segments.drop_below(base)

    def _moved(self, begin: int) -> None:
        assert min(self.segments.bases) == begin
        self.begins.append(begin)
        self.used_ratio -= self.share

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def gone(self) -> int:
        """How many files one look removes."""
        before = len(self.segments.bases)
        await self.retention.check()
        names = sorted(p.name for p in self.segments.folder.iterdir())
        assert names == [f"{base:020d}" for base in self.segments.bases]
        return before - len(self.segments.bases)


async def test_expired_files_go_one_after_the_other(tmp_path: Path) -> None:
    log = Log(tmp_path, [90, 80, 72, 71, 0])
    assert await log.gone() == 3
    assert log.begins == [SIZE, 2 * SIZE, 3 * SIZE]
    assert log.pauses == [0.1, 0.1, 0.1]
    assert log.segments.read(0, 1) == b""
    assert log.segments.read(3 * SIZE, 1) == b"x"


async def test_the_hour_decides_until_the_disk_does(tmp_path: Path) -> None:
    log = Log(tmp_path, [90, 80, 1, 0], delete_when=("04", "16"))
    log.hour, log.used_ratio = 5, 0.75
    assert await log.gone() == 0
    log.used_ratio = 0.76
    assert await log.gone() == 2
    log.hour = 16
    assert await log.gone() == 0


@pytest.mark.parametrize(
    ("batch", "gone"), [pytest.param(10, 10, id="ten"), pytest.param(3, 3, id="three")]
)
async def test_so_many_at_one_look(tmp_path: Path, batch: int, gone: int) -> None:
    log = Log(tmp_path, [99.0] * 12, delete_file_batch_max=batch)
    assert await log.gone() == gone
    assert await log.gone() == min(batch, 11 - gone)


async def test_forced_removal_stops_once_there_is_room(tmp_path: Path) -> None:
    log = Log(tmp_path, [1.0] * 8)
    log.hour, log.used_ratio, log.share = 5, 0.88, 0.02
    assert await log.gone() == 2
    assert await log.gone() == 0


async def test_nothing_young_goes_by_force_unless_allowed(tmp_path: Path) -> None:
    log = Log(tmp_path, [90, 1, 0], clean_file_forcibly_enable=False)
    log.hour, log.used_ratio = 5, 0.95
    assert await log.gone() == 1
    assert log.retention.gauge.is_full


async def test_the_last_file_stays(tmp_path: Path) -> None:
    log = Log(tmp_path, [999])
    log.used_ratio = 0.99
    assert await log.gone() == 0
    assert await Log(tmp_path / "none", []).gone() == 0


async def test_what_is_not_in_the_queues_yet_stays(tmp_path: Path) -> None:
    log = Log(tmp_path, [90, 80, 0])
    log.dispatched = SIZE - 1
    assert await log.gone() == 0
    log.dispatched = SIZE
    assert await log.gone() == 1


async def test_a_file_that_somebody_removed_is_forgotten(tmp_path: Path) -> None:
    log = Log(tmp_path, [1, 0])
    log.segments.path_of(0).unlink()
    await log.retention.check()
    assert log.begins == [SIZE]


# --- held back ----------------------------------------------------------------------------------


async def test_a_removal_that_failed_is_tried_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(tmp_path, [90, 80, 0], redelete_hanged_file_interval_ms=120_000)
    log.disk.refuses = {"remove"}
    assert await log.gone() == 0
    assert "cannot be removed: Device or resource busy. Next try in 120000 ms" in caplog.text
    assert log.segments.read(0, 1) == b"x"
    log.disk.refuses.clear()
    log.mono_ms = 119_999
    assert await log.gone() == 0
    log.mono_ms = 120_000
    assert await log.gone() == 2
    assert log.begins == [SIZE, 2 * SIZE]


async def test_a_file_that_is_read_is_left_for_a_while(tmp_path: Path) -> None:
    log = Log(tmp_path, [90, 80, 0], destroy_mapped_file_interval_forcibly_ms=120_000)
    with log.reads.reading(SIZE - 1), log.reads.reading(0):
        assert await log.gone() == 0
        log.mono_ms = 119_999
        assert await log.gone() == 0
    with log.reads.reading(SIZE):
        assert await log.gone() == 1
        # It is the second one that is read now, and only since that look.
        log.mono_ms += 119_999
        assert await log.gone() == 0
        log.mono_ms += 1
        assert await log.gone() == 1
        assert log.segments.read(SIZE, 1) == b""


async def test_a_new_read_has_its_own_time(tmp_path: Path) -> None:
    log = Log(tmp_path, [90, 0], destroy_mapped_file_interval_forcibly_ms=1000)
    log.hour = 4
    with log.reads.reading(0):
        assert await log.gone() == 0
    log.mono_ms, log.disk.refuses = 5000, {"remove"}
    assert await log.gone() == 0  # not read, but it cannot be removed
    log.mono_ms, log.disk.refuses = 125_000, set()
    with log.reads.reading(0):
        assert await log.gone() == 0
    assert await log.gone() == 1


async def test_a_disk_that_fails_stops_the_node(tmp_path: Path) -> None:
    log = Log(tmp_path, [90, 0])
    log.disk.refuses = {"sync_folder"}
    with pytest.raises(StorageError, match=r"0{20}: removal failed: "):
        await log.retention.check()


async def test_a_file_whose_age_cannot_be_seen_stops_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path, [90, 0])
    monkeypatch.setattr(
        Path, "stat", lambda _, **__: (_ for _ in ()).throw(OSError(errno.EIO, "bad"))
    )
    with pytest.raises(StorageError, match=r"0{20}: look failed: bad"):
        await log.retention.check()


# --- life ---------------------------------------------------------------------------------------


async def test_it_looks_again_and_again(tmp_path: Path) -> None:
    log = Log(tmp_path, [90, 80, 1, 0], clean_resource_interval_ms=7000)
    log.used_ratio = 0.95
    log.retention.start()
    # A node must not take messages before the first interval is over.
    assert log.retention.gauge.is_full
    await until(lambda: log.pauses.count(7.0) > 2)
    assert log.begins == [SIZE, 2 * SIZE, 3 * SIZE]
    log.used_ratio = 0.2
    await until(lambda: not log.retention.gauge.is_full)
    await log.retention.close()
    looks = len(log.pauses)
    await asyncio.sleep(0)
    assert len(log.pauses) == looks


async def test_it_tells_why_the_node_must_stop(tmp_path: Path) -> None:
    log = Log(tmp_path, [90, 0])
    log.disk.refuses = {"sync_folder"}
    log.retention.start()
    await until(lambda: log.stops)
    assert isinstance(log.stops[0], StorageError)
    await log.retention.close()


async def test_closed_before_it_was_started(tmp_path: Path) -> None:
    await Log(tmp_path, []).retention.close()
