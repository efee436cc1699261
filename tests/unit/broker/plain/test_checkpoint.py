"""The checkpoint: upstream's part, ours, and all that can be wrong with it."""

import contextlib
import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.plain.checkpoint import Checkpoint, Mark, StoreTimes
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import DiskFullError, StorageError
from tests.golden.captured import rebuild
from tests.unit.dledger.logs import PowerCut, overwrite
from tests.unit.dledger.power import PowerDisk

TIMES = StoreTimes(1_795_259_999_250, 1_795_259_999_000, 1_795_259_996_243)
MARK = Mark(130_123, 120_000)


def saved(path: Path, times: StoreTimes = TIMES, mark: Mark = MARK) -> bytes:
    checkpoint = Checkpoint(path)
    checkpoint.save(times, mark)
    checkpoint.close()
    return path.read_bytes()


def read(path: Path) -> tuple[StoreTimes, Mark | None]:
    checkpoint = Checkpoint(path)
    checkpoint.close()
    return checkpoint.times, checkpoint.mark


def test_it_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint"
    saved(path)
    assert read(path) == (TIMES, MARK)


def test_it_knows_the_size_of_the_logs_files(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    saved(path)
    assert Checkpoint(path).segment_bytes == 0
    checkpoint = Checkpoint(path)
    checkpoint.segment_bytes = 1 << 30
    checkpoint.save(TIMES, MARK)
    checkpoint.close()
    assert Checkpoint(path).segment_bytes == 1 << 30
    overwrite(path, 0, (7).to_bytes(8))
    assert Checkpoint(path).segment_bytes == 0, "it is about a mark that says nothing"


def test_upstream_finds_its_part(tmp_path: Path) -> None:
    data = saved(tmp_path / "checkpoint")
    assert len(data) == 4096
    assert struct.unpack_from(">5q", data) == (
        TIMES.physic_ms,
        TIMES.logics_ms,
        TIMES.index_ms,
        0,
        0,
    )
    assert data[40:64] == bytes(24)
    assert not any(data[512:]), "a second sector would not be written together with the first"


def test_what_5_x_keeps_stays(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(struct.pack(">5q", 1, 2, 3, 44, 55).ljust(4096, b"\0"))
    assert read(path) == (StoreTimes(1, 2, 3), None)
    assert struct.unpack_from(">3q2q", saved(path))[3:] == (44, 55)


def test_of_java_the_times_are_known(tmp_path: Path) -> None:
    rebuild("plain-4.9.5/clean", tmp_path)
    ours = StoreTimes(1795259999250, 1795259999250, 1795259996243)
    assert read(tmp_path / "checkpoint") == (ours, None)
    saved(tmp_path / "checkpoint", ours)
    assert read(tmp_path / "checkpoint") == (ours, MARK)


@pytest.mark.parametrize("place", range(3))
def test_after_java_has_run_the_mark_says_nothing(tmp_path: Path, place: int) -> None:
    path = tmp_path / "checkpoint"
    saved(path)
    overwrite(path, 8 * place, (7).to_bytes(8))
    times, mark = read(path)
    assert mark is None
    assert (times.physic_ms, times.logics_ms, times.index_ms)[place] == 7


@pytest.mark.parametrize("at", range(24, 140))
def test_a_changed_byte_is_noticed_or_does_not_matter(tmp_path: Path, at: int) -> None:
    path = tmp_path / "checkpoint"
    data = saved(path)
    overwrite(path, at, bytes([data[at] ^ 1]))
    times, mark = read(path)
    assert times == TIMES
    assert mark == (None if 64 <= at < 120 else MARK)


@pytest.mark.parametrize("size", [0, 8, 39, 40, 100, 119, 120, 200])
def test_a_file_that_is_cut_short(tmp_path: Path, size: int) -> None:
    path = tmp_path / "checkpoint"
    saved(path)
    os.truncate(path, size)
    assert read(path) == (TIMES if size >= 40 else StoreTimes(), MARK if size >= 120 else None)
    assert len(saved(path)) == 4096


def test_neither_a_missing_nor_an_unreadable_one_stops_anybody(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    assert read(path) == (StoreTimes(), None)
    assert not path.exists()
    path.write_bytes(b"\xff" * 4096)
    assert read(path) == (StoreTimes(), None)
    path.unlink()
    path.mkdir()
    assert read(path) == (StoreTimes(), None)
    with pytest.raises(StorageError, match="checkpoint"):
        saved(path)


@pytest.mark.parametrize("mark", [Mark(-1, 0), Mark(0, -1)], ids=["flushed", "dispatched"])
def test_places_that_are_none(tmp_path: Path, mark: Mark) -> None:
    saved(tmp_path / "checkpoint", mark=mark)
    assert read(tmp_path / "checkpoint") == (TIMES, None)


def test_a_newer_form_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    data = saved(path)
    assert data[68:72] == bytes.fromhex("4c4d5101")
    overwrite(path, 71, b"\x02")
    assert read(path) == (TIMES, None)


@pytest.mark.parametrize("calls", range(4))
def test_a_loss_of_power_leaves_the_old_or_the_new(tmp_path: Path, calls: int) -> None:
    disk = PowerDisk()
    path = tmp_path / "checkpoint"
    checkpoint = Checkpoint(path, disk)
    checkpoint.save(StoreTimes(1, 1, 1), Mark(1, 1))
    disk._left = calls
    told = False
    with contextlib.suppress(PowerCut):
        checkpoint.save(TIMES, MARK)
        told = True
    disk.fail(tmp_path)
    found = read(path)
    assert (
        found == (TIMES, MARK)
        if told
        else found in ((TIMES, MARK), (StoreTimes(1, 1, 1), Mark(1, 1)))
    )


@pytest.mark.parametrize(
    ("call", "number", "error"),
    [
        ("truncate", errno.ENOSPC, DiskFullError),
        ("pwrite", errno.ENOSPC, DiskFullError),
        ("fdatasync", errno.EIO, StorageError),
    ],
)
def test_a_write_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[Exception]
) -> None:
    def fails(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    checkpoint = Checkpoint(tmp_path / "checkpoint")
    with monkeypatch.context() as patched:
        patched.setattr(OsDisk, call, fails)
        for _ in range(2):
            with pytest.raises(error, match="checkpoint"):
                checkpoint.save(TIMES, MARK)
    assert (checkpoint.times, checkpoint.mark) == (StoreTimes(), None)
    checkpoint.save(TIMES, MARK)
    checkpoint.close()
    assert read(tmp_path / "checkpoint") == (TIMES, MARK)
