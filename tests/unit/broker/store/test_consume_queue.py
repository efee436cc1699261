"""Consume queues as files: their bytes, their ends, and a disk that fails."""

import errno
import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.store import consume_queue
from ledgermq.broker.store.consume_queue import ConsumeQueues, Unit, sync_files
from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.errors import StorageError
from tests.golden.captured import files, manifest

NO_END = 1 << 62


def queues(folder: Path, segment_bytes: int = 200, end_pos: int = NO_END) -> ConsumeQueues:
    return ConsumeQueues(folder, segment_bytes, end_pos)


def fill(owner: ConsumeQueues, count: int, topic: str = "T", queue_id: int = 0) -> list[Unit]:
    queue = owner.get(topic, queue_id)
    units = [Unit(1000 * n + 48, 100 + n, -n) for n in range(count)]
    for unit in units:
        owner.append(queue, *unit)
    return units


def test_a_unit_is_twenty_bytes_at_its_offset_times_twenty(tmp_path: Path) -> None:
    owner = queues(tmp_path)
    fill(owner, 12)
    owner.close()
    first = (tmp_path / "T/0/00000000000000000000").read_bytes()
    second = (tmp_path / "T/0/00000000000000000200").read_bytes()
    assert (len(first), len(second)) == (200, 200)
    assert first[20:40] == struct.pack(">qiq", 1048, 101, -1)
    assert second[20:40] == struct.pack(">qiq", 11_048, 111, -11)
    assert second[40:] == bytes(160)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 25])
def test_a_queue_opened_again_goes_on_where_it_ended(tmp_path: Path, count: int) -> None:
    owner = queues(tmp_path)
    units = fill(owner, count)
    owner.close()
    again = queues(tmp_path)
    assert again.get("T", 0).max_offset == count
    assert again.get("T", 0).read(0, 100) == units
    again.append(again.get("T", 0), 99_000, 5, 7)
    assert again.get("T", 0).read(count, 5) == [Unit(99_000, 5, 7)]
    again.close()


@pytest.mark.parametrize("end_pos", [0, 48, 49, 5048, 9049, 10_048, 24_049])
def test_units_at_or_past_the_end_of_the_mark_do_not_count(tmp_path: Path, end_pos: int) -> None:
    owner = queues(tmp_path)
    units = fill(owner, 25)
    owner.close()
    again = queues(tmp_path, end_pos=end_pos)
    expected = [u for u in units if u.physical_offset < end_pos]
    assert again.get("T", 0).max_offset == len(expected)
    assert again.get("T", 0).read(0, 100) == expected
    again.close()


def test_reads_cross_files_and_what_is_only_in_memory(tmp_path: Path) -> None:
    rng = random.Random(5)
    owner = queues(tmp_path)
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
    assert queue.read(-1, 5) == []
    assert queue.read(len(units), 5) == []
    owner.close()


def test_a_queue_nobody_wrote_to_leaves_no_file(tmp_path: Path) -> None:
    owner = queues(tmp_path)
    assert owner.get("T", 0).max_offset == 0
    assert owner.nothing.read(0, 5) == []
    owner.close()
    assert list(tmp_path.iterdir()) == []


def test_every_file_that_was_written_is_to_be_synced(tmp_path: Path) -> None:
    """Also one that the queue wrote by itself, because much was waiting."""
    owner = queues(tmp_path, segment_bytes=60_000)
    fill(owner, 10_000)
    owner.flush(10)
    paths = owner.take_unsynced()
    written = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert len(written) == 4
    assert set(written) <= set(paths)
    # The folders too: a file whose name is not on disk is not there after a power cut.
    assert {tmp_path, tmp_path / "T", tmp_path / "T/0"} <= set(paths)
    sync_files(paths)
    owner.close()


def test_more_queues_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume_queue, "_MAX_OPEN_FILES", 3)
    owner = queues(tmp_path)
    for queue_id in range(20):
        fill(owner, 12, queue_id=queue_id)
    owner.flush(100)
    for queue_id in range(20):
        assert len(owner.get("T", queue_id).read(0, 50)) == 12
    assert len(owner._files._fds) <= 3
    owner.close()


def test_a_dropped_topic_begins_again_at_zero(tmp_path: Path) -> None:
    owner = queues(tmp_path)
    fill(owner, 15)
    owner.flush(10)
    fill(owner, 0, topic="Other")
    owner.drop_topic("T")
    assert not (tmp_path / "T").exists()
    assert owner.get("T", 0).max_offset == 0
    assert not owner.dirty
    sync_files(owner.take_unsynced())
    assert fill(owner, 3) == owner.get("T", 0).read(0, 10)
    owner.close()


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = queues(tmp_path)
    units = fill(owner, 9)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data)[:33], at))
    owner.flush(10)
    owner.close()
    assert queues(tmp_path).get("T", 0).read(0, 20) == units


def full_disk(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_units_wait_and_stay_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = queues(tmp_path)
    units = fill(owner, 9)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full_disk)
        with pytest.raises(DiskFullError, match="T/0"):
            owner.flush(10)
        many = fill(owner, 4000, topic="U")  # so many that they would be written at once
        assert owner.get("T", 0).read(0, 20) == units
        assert owner.get("U", 0).read(0, 5000) == many
    owner.flush(10)
    assert not owner.dirty
    owner.close()
    again = queues(tmp_path)
    assert again.get("T", 0).read(0, 20) == units
    assert again.get("U", 0).read(0, 5000) == many
    again.close()


def test_a_disk_that_fails_is_an_error_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = queues(tmp_path)
    fill(owner, 1)

    def fail(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(StorageError, match=r"T/0/0+: write failed: Input/output error"):
            owner.flush(10)
    owner.flush(10)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            owner.get("T", 0).read(0, 1)
    owner.close()


def test_a_missing_file_is_an_error_with_its_place(tmp_path: Path) -> None:
    owner = queues(tmp_path)
    fill(owner, 25)
    owner.flush(10)
    owner.close()
    again = queues(tmp_path)
    queue = again.get("T", 0)
    again._files.close()
    (tmp_path / "T/0/00000000000000000200").unlink()
    with pytest.raises(StorageError, match="unit 10 is missing"):
        queue.read(8, 5)


@pytest.mark.parametrize("store", ["dledger-4.9.5/clean", "plain-4.9.5/clean"])
def test_units_that_java_wrote_are_read(store: str, tmp_path: Path) -> None:
    folder = "consumequeue/GoldA/0"
    owner = queues(tmp_path)
    wanted: list[Unit] = []
    for name, content in files(store, folder):
        (tmp_path / "GoldA/0").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"GoldA/0/{name:020d}").write_bytes(content.ljust(200, b"\0"))
        wanted += [Unit._make(u) for u in struct.iter_unpack(">qiq", content) if u[1]]
    assert manifest(store)["mappedFileSizeConsumeQueue"] == 200
    assert len(wanted) >= 10
    assert owner.get("GoldA", 0).read(0, 100) == wanted
    owner.close()
