"""Files of one size as one address space."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import CallerError, DiskFullError, StorageError
from ledgermq.dledger.store.segments import Segments
from tests.unit.dledger.logs import overwrite

SIZE = 4096


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def fails_with(number: int) -> Any:
    def fails(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fails


def test_files_are_named_by_their_offset_and_full_size_at_once(tmp_path: Path) -> None:
    s = Segments(tmp_path / "d", SIZE)
    s.write(3 * SIZE + 10, b"abc")
    s.write(10, b"abc")
    s.close()
    names = sorted(p.name for p in (tmp_path / "d").iterdir())
    assert names == ["00000000000000000000", "00000000000000012288"]
    assert {p.stat().st_size for p in (tmp_path / "d").iterdir()} == {SIZE}


def test_a_segment_of_the_default_size_takes_little_disk(tmp_path: Path) -> None:
    s = Segments(tmp_path, 1 << 30)
    s.write(0, b"x" * 1000)
    s.clear_after(1000)
    s.close()
    stat = (tmp_path / "00000000000000000000").stat()
    assert stat.st_size == 1 << 30
    assert stat.st_blocks * 512 < 1 << 20


def test_reads_end_with_their_segment(tmp_path: Path) -> None:
    s = Segments(tmp_path, SIZE)
    s.write(SIZE - 3, b"abc")
    s.write(SIZE, b"def")
    assert s.read(SIZE - 3, 100) == b"abc"
    assert s.read(5 * SIZE, 10) == b""
    assert s.read_nowait(5 * SIZE, 10) is None
    assert s.read_nowait(SIZE - 3, 6) is None
    assert s.bases == [0, SIZE]
    s.close()


def test_a_write_across_the_end_is_the_callers_mistake(tmp_path: Path) -> None:
    s = Segments(tmp_path, SIZE)
    with pytest.raises(CallerError, match="cross the end"):
        s.write(SIZE - 2, b"abc")
    s.close()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("00000000000000000000", 2 * SIZE, id="too long"),
        pytest.param("00000000000000000000", SIZE - 1, id="too short"),
        pytest.param("00000000000000001000", SIZE, id="not at a multiple"),
    ],
)
def test_another_segment_size_is_refused(tmp_path: Path, name: str, size: int) -> None:
    (tmp_path / name).write_bytes(bytes(size))
    before = open_fds()
    with pytest.raises(CallerError, match=f"{name} has {size} bytes.*mappedFileSizeCommitLog"):
        Segments(tmp_path, SIZE)
    assert open_fds() == before


def test_other_files_and_files_just_made_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "00000000000000000000").touch()
    s = Segments(tmp_path, SIZE)
    assert s.read(0, SIZE) == bytes(SIZE)
    s.close()


def test_a_file_may_have_lost_its_end_where_the_size_is_known(tmp_path: Path) -> None:
    (tmp_path / "00000000000000000000").write_bytes(b"x" * 100)
    (tmp_path / "00000000000000004096").write_bytes(bytes(SIZE))
    with pytest.raises(CallerError, match="100 bytes"):
        Segments(tmp_path, SIZE)
    s = Segments(tmp_path, SIZE, mend_size=True)
    assert s.whole == {SIZE}
    assert s.read(90, 20) == b"x" * 10 + bytes(10)
    s.close()
    (tmp_path / "00000000000000000000").write_bytes(bytes(SIZE + 1))
    with pytest.raises(CallerError, match="4097 bytes"):
        Segments(tmp_path, SIZE, mend_size=True)


def test_dropped_files_are_closed_in_the_end(tmp_path: Path) -> None:
    s = Segments(tmp_path, SIZE)
    before = open_fds()
    for _ in range(100):
        s.write(0, b"abc")
        s.write(SIZE, b"def")
        s.drop_below(SIZE)
        assert s.bases == [SIZE]
        s.drop_from(0)
    assert s.bases == []
    assert open_fds() - before <= 64
    assert list(tmp_path.iterdir()) == []
    s.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["pwrite", "truncate"])
def test_a_full_disk_has_an_error_of_its_own_and_costs_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    s = Segments(tmp_path, SIZE)
    s.write(0, b"abc")
    before = open_fds()
    monkeypatch.setattr(OsDisk, call, fails_with(number))
    pos = SIZE if call == "truncate" else 3
    for _ in range(3):
        with pytest.raises(DiskFullError, match="no room"):
            s.write(pos, b"def")
    assert open_fds() == before
    assert s.read(0, 6) == b"abc\0\0\0"
    monkeypatch.undo()
    s.write(pos, b"def")
    assert s.read(pos, 3) == b"def"
    s.close()


def test_other_failures_are_for_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = Segments(tmp_path, SIZE)
    s.write(0, b"abc")
    for call in ("pwrite", "fdatasync", "pread"):
        monkeypatch.setattr(OsDisk, call, fails_with(errno.EIO))
    monkeypatch.setattr(os, "preadv", fails_with(errno.EIO))
    with pytest.raises(StorageError, match="write failed: Input"):
        s.write(0, b"abc")
    with pytest.raises(StorageError, match="fdatasync failed: Input"):
        s.sync()
    with pytest.raises(StorageError, match="read at 0 failed: Input"):
        s.read(0, 1)
    with pytest.raises(StorageError, match="read at 0 failed: Input"):
        s.read_nowait(0, 1)
    monkeypatch.undo()
    s.close()


def test_after_a_failed_sync_no_other_one_proves_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of a failed write-back once; the pages may be gone."""
    s = Segments(tmp_path, SIZE)
    s.write(0, b"abc")
    monkeypatch.setattr(OsDisk, "fdatasync", fails_with(errno.EIO))
    with pytest.raises(StorageError, match="fdatasync failed"):
        s.sync()
    monkeypatch.undo()
    with pytest.raises(StorageError, match="fdatasync failed"):
        s.sync()
    s.close()


def test_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = Segments(tmp_path, SIZE)
    three = staticmethod(lambda fd, data, at: os.pwrite(fd, data[:3], at))
    monkeypatch.setattr(OsDisk, "pwrite", three)
    s.write(5, b"0123456789")
    assert s.read(5, 10) == b"0123456789"
    s.close()


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        pytest.param(BlockingIOError(), None, id="nothing in memory"),
        pytest.param(2, None, id="a part in memory"),
        pytest.param(OSError(errno.EOPNOTSUPP, "no"), None, id="not supported here"),
    ],
)
def test_reads_that_would_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, got: Any, expected: object
) -> None:
    s = Segments(tmp_path, SIZE)
    s.write(0, b"abcdef")

    def preadv(*_: Any) -> int:
        if isinstance(got, OSError):
            raise got
        return int(got)

    monkeypatch.setattr(os, "preadv", preadv)
    for _ in range(2):
        assert s.read_nowait(0, 6) is expected
    s.close()


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="not on this system")
def test_what_was_just_written_is_read_without_waiting(tmp_path: Path) -> None:
    s = Segments(tmp_path, SIZE)
    s.write(7, b"abc")
    assert s.read_nowait(7, 3) in (b"abc", None)  # None: the file system cannot tell
    s.close()


def test_sync_covers_each_file_written_since_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = Segments(tmp_path, SIZE)
    synced: list[int] = []
    monkeypatch.setattr(OsDisk, "fdatasync", staticmethod(synced.append))
    s.write(0, b"a")
    s.write(SIZE, b"a")
    s.sync()
    assert len(synced) == len(set(synced)) == 2
    s.sync()
    assert len(synced) == 2
    s.write(SIZE, b"b")
    s.drop_from(SIZE)
    s.sync()
    assert len(synced) == 2
    s.close()


def test_zero_and_clear(tmp_path: Path) -> None:
    s = Segments(tmp_path, SIZE)
    s.write(0, b"x" * SIZE)
    s.write(SIZE, b"y" * SIZE)
    s.zero(SIZE - 10, SIZE + 10)
    s.zero(5 * SIZE, 5 * SIZE + 10)  # no file there: nothing to do
    assert s.read(SIZE - 11, 11) == b"x" + bytes(10)
    assert s.read(SIZE, 11) == bytes(10) + b"y"
    s.clear_after(SIZE + 100)
    assert s.read(SIZE + 99, 3) == b"y\0\0"
    assert not any(s.read(SIZE + 100, SIZE))
    s.clear_after(7 * SIZE)
    s.close()


def test_a_read_under_way_never_meets_another_file(tmp_path: Path) -> None:
    """A thread may hold the descriptor of a file that is dropped."""
    s = Segments(tmp_path, SIZE)
    s.write(SIZE, b"old" * 100)
    fd = s._fds[SIZE]
    s.drop_from(SIZE)
    other = os.open(tmp_path / "stranger", os.O_RDWR | os.O_CREAT)
    assert other != fd
    assert os.pread(fd, 10, 0) == b""
    os.close(other)
    s.close()


def test_wipe_leaves_zeros_where_there_is_a_file(tmp_path: Path) -> None:
    s = Segments(tmp_path, SIZE)
    s.write(0, b"abcdef")
    s.wipe(2, 4)
    s.wipe(SIZE, SIZE + 5)
    assert s.read(0, 6) == b"ab\0\0ef"
    assert s.bases == [0]
    s.close()


def test_holes_are_found_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = Segments(tmp_path, 1 << 20)
    s.write(0, b"abc")
    s.close()
    overwrite(tmp_path / "00000000000000000000", 700_000, b"stale")
    for seek in (os.lseek, fails_with(errno.EINVAL)):
        monkeypatch.setattr(os, "lseek", seek)
        s = Segments(tmp_path, 1 << 20)
        s.clear_after(3)
        assert s.read(0, 1 << 20) == b"abc" + bytes((1 << 20) - 3)
        s.close()
