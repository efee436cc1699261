"""The disk of this machine, as the store asks for it."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.disk import OsDisk, read_file, replace_file
from tests.unit.dledger.logs import MortalDisk, PowerCut


def test_a_whole_file(tmp_path: Path) -> None:
    disk, path = OsDisk(), tmp_path / "f"
    assert read_file(disk, path) is None
    for data in (b"", b"abc", bytes(100_000)):
        replace_file(disk, path, data)
        assert read_file(disk, path) == data
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("calls", range(8))
def test_a_crash_leaves_the_old_file_or_the_new_one(tmp_path: Path, calls: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    outcome = "done"
    try:
        replace_file(MortalDisk(calls), path, b"new" * 1000)
    except PowerCut:
        outcome = "cut"
    assert path.read_bytes() in ((b"old", b"new" * 1000) if outcome == "cut" else (b"new" * 1000,))
    replace_file(OsDisk(), path, b"next")
    assert path.read_bytes() == b"next"


def test_folders_and_names(tmp_path: Path) -> None:
    disk, folder = OsDisk(), tmp_path / "a" / "b"
    assert (disk.names(folder), disk.exists(folder)) == ([], False)
    disk.make_folder(folder)
    disk.make_folder(folder)
    for name in ("2", "1"):
        disk.close(disk.open(folder / name, create=True))
    disk.sync_folder(folder)
    assert (disk.names(folder), disk.exists(folder / "1")) == (["1", "2"], True)
    disk.remove(folder / "1")
    disk.remove(folder / "1")
    disk.rename(folder / "2", folder / "3")
    assert disk.names(folder) == ["3"]
    disk.remove_folder(tmp_path / "a")
    disk.remove_folder(tmp_path / "a")
    assert not disk.exists(folder)
    with pytest.raises(FileNotFoundError):
        disk.open(tmp_path / "nowhere")


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    disk = OsDisk()
    for path, folder in ((tmp_path / "lock", False), (tmp_path, True)):
        fd = disk.lock(path, folder=folder)
        with pytest.raises(BlockingIOError):
            disk.lock(path, folder=folder)
        disk.close(fd)
        disk.close(disk.lock(path, folder=folder))


def test_where_a_file_has_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = OsDisk()
    fd = disk.open(tmp_path / "f", create=True)
    disk.truncate(fd, 1 << 20)
    assert disk.size(fd) == 1 << 20
    disk.pwrite(fd, b"x", 500_000)
    found = disk.next_data(fd, 0)
    assert found is not None
    assert 0 <= found <= 500_000
    assert disk.next_data(fd, 1 << 20) is None

    def lseek(*_: Any) -> int:
        raise OSError(errno.EINVAL, "not known here")

    monkeypatch.setattr(os, "lseek", lseek)
    assert disk.next_data(fd, 7) == 7
    disk.close(fd)


def test_a_failed_cached_read_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = OsDisk()
    fd = disk.open(tmp_path / "f", create=True)

    def preadv(*_: Any) -> int:
        raise OSError(number, "")

    monkeypatch.setattr(os, "preadv", preadv)
    number = errno.EIO
    with pytest.raises(OSError, match=str(errno.EIO)):
        disk.pread_cached(fd, 10, 0)
    number = errno.EOPNOTSUPP
    assert disk.pread_cached(fd, 10, 0) is None
    number = errno.EIO
    assert disk.pread_cached(fd, 10, 0) is None, "it is not asked again"
    disk.close(fd)
