"""Snapshots: two generations, each whole or not at all."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import CallerError, DiskFullError, StorageError
from ledgermq.dledger.store import snapshots
from ledgermq.dledger.store.snapshots import Snapshot, SnapshotStore
from tests.unit.dledger.logs import MortalDisk, PowerCut, flip


def one(index: int, text: str = "state", complete: bool = True) -> Snapshot:
    return Snapshot(index, index // 10, f"{text} {index}".encode(), complete)


def test_the_newest_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "s")
    assert (store.newest, store.index, store.damage) == (None, -1, None)
    for index in (10, 20, 30, 40):
        store.save(one(index, complete=index % 20 == 0))
        assert store.newest == one(index, complete=index % 20 == 0)
        store = SnapshotStore(tmp_path / "s")
        assert (store.newest, store.index) == (one(index, complete=index % 20 == 0), index)
    assert sorted(int(p.name) for p in (tmp_path / "s").iterdir()) == [30, 40]


def test_one_of_the_same_index_replaces(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.save(one(10, complete=False))
    store.save(one(10, "other"))
    assert SnapshotStore(tmp_path).newest == one(10, "other")


def test_an_older_one_does_not_become_the_newest(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.save(one(30))
    store.save(one(10))
    assert store.newest == SnapshotStore(tmp_path).newest == one(30)


@pytest.mark.parametrize("size", [0, 5, 36])
@pytest.mark.parametrize("harm", ["cut", "flip", "named anew"])
def test_a_broken_one_leaves_the_one_before(tmp_path: Path, size: int, harm: str) -> None:
    store = SnapshotStore(tmp_path)
    store.save(one(10))
    store.save(one(20))
    path = tmp_path / f"{20:020d}"
    if harm == "cut":
        os.truncate(path, size)
    elif harm == "flip":
        flip(path, size)
    else:
        path = path.rename(tmp_path / f"{25 + size:020d}")
    store = SnapshotStore(tmp_path)
    assert store.newest == one(10)
    assert f"{path}: damaged at byte" in str(store.damage)
    store.save(one(30))
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [10, 30]
    assert SnapshotStore(tmp_path).damage is None


def test_an_empty_payload_is_one(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).save(Snapshot(0, 1, b"", complete=True))
    assert SnapshotStore(tmp_path).newest == Snapshot(0, 1, b"", complete=True)


def test_one_of_a_newer_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_FORMAT_VERSION", 2)
    SnapshotStore(tmp_path).save(one(10))
    monkeypatch.undo()
    with pytest.raises(CallerError, match=r"0010 has format version 2; .* up to 1\. Install"):
        SnapshotStore(tmp_path)


def test_a_crash_at_any_change(tmp_path: Path) -> None:
    for calls in range(12):
        folder = tmp_path / str(calls)
        for index in (10, 20):
            SnapshotStore(folder).save(one(index))
        try:
            SnapshotStore(folder, MortalDisk(calls)).save(one(30))
        except PowerCut:
            assert calls < 8
        store = SnapshotStore(folder)
        assert (store.newest in (one(20), one(30)), store.damage) == (True, None)
        store.save(one(40))
        names = [p.name for p in folder.iterdir()]
        assert len(names) == 2
        assert all(n.isdigit() for n in names)


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, DiskFullError), (errno.EIO, StorageError)]
)
def test_what_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    store = SnapshotStore(tmp_path)
    store.save(one(10))

    def pwrite(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(OsDisk, "pwrite", pwrite)
    with pytest.raises(error):
        store.save(one(20))
    assert store.newest == one(10)
    monkeypatch.undo()
    store.save(one(30))
    assert SnapshotStore(tmp_path).newest == one(30)
