"""Append, copy, cut and read, on real files."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import (
    CallerError,
    DamagedError,
    DiskFullError,
    InvariantError,
    StorageError,
)
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.entry_index import EntryIndex
from ledgermq.dledger.store.recovery import open_ledger, term_runs
from tests.unit.dledger.logs import (
    SEGMENT_BYTES,
    append,
    copied,
    crash,
    entries,
    files_of,
    flip,
    head,
    open_small,
    place,
)

BODIES = [bytes([65 + i]) * 900 for i in range(10)]


def full(name: str, after: int = 0) -> Any:
    """A call of the disk that finds no room after some calls."""
    real, calls = getattr(OsDisk, name), iter(range(1 << 30))

    def call(*args: Any) -> Any:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    return staticmethod(call)


def test_bytes_of_an_entry_and_its_index_unit(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    assert ledger.reserve(10) == 0
    append(ledger, [b"0123456789", b"abc"], term=3)
    ledger.close(1)
    data = (tmp_path / "data" / "00000000000000000000").read_bytes()
    first, chain = entry.encode(0, 3, 0, b"0123456789", 0)
    second, _ = entry.encode(1, 3, 58, b"abc", chain)
    assert data[: 58 + 51] == first + b"0123456789" + second + b"abc"
    assert not any(data[58 + 51 :])
    units = head(tmp_path / "index" / "00000000000000000000", 64)
    assert units[:32] == bytes.fromhex("00000001" + "00" * 8 + "0000003a") + bytes(15) + b"\x03"
    assert (
        units[32:]
        == bytes.fromhex("00000001" + "00" * 7 + "3a" + "00000033")
        + bytes(7)
        + b"\x01"
        + bytes(7)
        + b"\x03"
    )


@pytest.mark.parametrize(
    ("last_body", "in_first"),
    [
        pytest.param(SEGMENT_BYTES - 1000 - 48 - 8, True, id="8 bytes stay free"),
        pytest.param(SEGMENT_BYTES - 1000 - 48 - 7, False, id="7 would"),
    ],
)
def test_an_entry_never_takes_the_room_of_the_marker(
    tmp_path: Path, last_body: int, in_first: bool
) -> None:
    ledger = open_small(tmp_path)
    append(ledger, [b"x" * (1000 - 48), b"y" * last_body, b"z"])
    path, at, _ = place(ledger, 1)
    assert path.name == ("00000000000000000000" if in_first else "00000000000000004096")
    assert at == (1000 if in_first else 0)
    end = SEGMENT_BYTES - 8 if in_first else 1000
    assert ledger.data.read(end, 8) == b"\xff\xff\xff\xff" + (SEGMENT_BYTES - end).to_bytes(4)
    assert [body for _, body in entries(ledger)] == [b"x" * 952, b"y" * last_body, b"z"]
    ledger.close(2)
    ledger = open_small(tmp_path)
    assert ledger.end_index == 2
    ledger.close(2)


@pytest.mark.parametrize("size", [0, SEGMENT_BYTES - 48 - 7])
def test_what_fits_nowhere_is_refused_and_harms_nothing(tmp_path: Path, size: int) -> None:
    ledger = open_small(tmp_path)
    with pytest.raises(CallerError, match=f"record of {size} bytes.*at most 4040"):
        ledger.reserve(size)
    with pytest.raises(CallerError):
        ledger.stage(1, bytes(size))
    append(ledger, [b"a" * 4040])
    assert entries(ledger) == [(1, b"a" * 4040)]
    ledger.close(0)


def test_staged_entries_are_nowhere_until_written(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    append(ledger, [b"kept"])
    ledger.stage(1, b"a" * 3000)
    ledger.stage(1, b"b" * 3000)
    assert ledger.end_index == 0
    with pytest.raises(InvariantError, match="staged"):
        ledger.close(0)
    ledger.drop_staged()
    assert ledger.write_staged() == 0
    append(ledger, [b"next"])
    assert entries(ledger) == [(1, b"kept"), (1, b"next")]
    ledger.close(1)


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("call", ["pwrite", "truncate"])
def test_a_full_disk_appends_nothing_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, call: str
) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES[:2])
    for body in BODIES[2:]:
        ledger.stage(1, body)
    monkeypatch.setattr(OsDisk, call, full(call, after if call == "pwrite" else 0))
    with pytest.raises(DiskFullError):
        ledger.write_staged()
    assert ledger.end_index == 1
    assert entries(ledger) == [(1, b) for b in BODIES[:2]]
    monkeypatch.undo()
    append(ledger, BODIES[5:9], term=2)
    expected = [(1, b) for b in BODIES[:2]] + [(2, b) for b in BODIES[5:9]]
    assert entries(ledger) == expected
    crash(ledger)
    again = open_small(tmp_path)
    assert entries(again) == expected
    again.close(0)


def test_what_a_failed_write_left_is_zeroed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes 1,000 bytes of it, and no zeros behind them."""
    ledger = open_small(tmp_path)
    real = os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if at + len(data) > 1000:
            if at >= 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            data = bytes(data)[: 1000 - at]
        return real(fd, data, at)

    monkeypatch.setattr(OsDisk, "pwrite", staticmethod(pwrite))
    for body in (b"a" * 300, b"b" * 300, b"c" * 900):
        ledger.stage(1, body)
    with pytest.raises(DiskFullError):
        ledger.write_staged()
    monkeypatch.undo()
    assert not any(ledger.data.read(0, SEGMENT_BYTES))
    crash(ledger)
    again = open_small(tmp_path)
    assert again.end_index == -1
    again.close(-1)


def test_zeros_over_a_failed_write_are_on_disk_before_anything_else_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power may bring back a refused entry beside another of its index and term."""
    ledger = open_small(tmp_path)
    append(ledger, [b"before"])
    real, sync, done = os.pwrite, os.fdatasync, []

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if not done:
            done.append("half of it")
            return real(fd, bytes(data)[:400], at)
        if done == ["half of it"]:
            done.append("no room")
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append("zeros" if not any(bytes(data)) else "bytes")
        return real(fd, data, at)

    def fdatasync(fd: int) -> None:
        sync(fd)
        done.append("sync")

    monkeypatch.setattr(OsDisk, "pwrite", staticmethod(pwrite))
    monkeypatch.setattr(OsDisk, "fdatasync", staticmethod(fdatasync))
    ledger.stage(1, b"r" * 900)
    with pytest.raises(DiskFullError):
        ledger.write_staged()
    append(ledger, [b"another"])
    append(ledger, [b"and one more"])
    assert done == ["half of it", "no room", "zeros", "sync", "bytes", "bytes"]
    ledger.close(2)


def test_no_room_for_the_entry_index_fails_no_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(tmp_path, 1 << 20)

    def no_room(_: EntryIndex) -> None:
        raise DiskFullError("index: no room")

    monkeypatch.setattr(EntryIndex, "flush", no_room)
    append(ledger, [b"x"] * 3000)
    assert ledger.end_index == 2999
    with pytest.raises(DiskFullError):
        ledger.save_mark(0)
    ledger.close(0)  # the mark stays behind; what is closed is closed
    monkeypatch.undo()
    ledger = open_ledger(tmp_path, 1 << 20)
    assert ledger.end_index == 2999
    append(ledger, [b"y"])
    assert entries(ledger)[2999:] == [(1, b"x"), (1, b"y")]
    ledger.close(0)


# --- a follower's copies ----------------------------------------------------------------------


def test_a_copy_has_the_same_bytes(tmp_path: Path) -> None:
    leader, follower = open_small(tmp_path / "a"), open_small(tmp_path / "b")
    append(leader, BODIES)
    follower.append_copied(copied(leader, 0, 4), 0)
    follower.append_copied(copied(leader, 3, 9), 5)
    follower.append_copied(copied(leader, 3, 9), 10)
    leader.close(0)
    follower.close(0)
    for name in ("00000000000000000000", "00000000000000004096", "00000000000000008192"):
        left, right = (tmp_path / side / "data" / name for side in "ab")
        assert left.read_bytes() == right.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d[:-1], id="cut short"),
        pytest.param(lambda d: d[:100] + b"?" + d[101:], id="another body"),
        pytest.param(lambda d: d[948:], id="a gap"),
        pytest.param(lambda d: d[:24] + bytes([1]) * 8 + d[32:], id="another place"),
        pytest.param(lambda d: d[:23] + b"\x09" + d[24:], id="another term"),
        pytest.param(
            lambda d: d[:4] + (4096).to_bytes(4) + d[8:44] + (4048).to_bytes(4) + bytes(4048),
            id="too long for a segment",
        ),
    ],
)
def test_entries_that_do_not_continue_the_log_are_refused_whole(
    tmp_path: Path, change: Any
) -> None:
    leader, follower = open_small(tmp_path / "a"), open_small(tmp_path / "b")
    append(leader, BODIES)
    good = copied(leader, 0, 3)
    with pytest.raises(entry.EntryError):
        follower.append_copied(change(good), 0)
    assert follower.end_index == -1
    follower.append_copied(good, 0)
    assert entries(follower) == [(1, b) for b in BODIES[:4]]
    leader.close(0)
    follower.close(0)


# --- cuts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("first", range(11))
def test_a_cut_leaves_nothing_behind(tmp_path: Path, first: int, marked: bool) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES)
    if marked:
        ledger.save_mark(-1)
    epoch = ledger.epoch
    ledger.truncate(first)
    assert ledger.epoch == epoch + (first < 10)
    assert ledger.end_index == first - 1
    assert not any(ledger.data.read(ledger.end_pos, SEGMENT_BYTES))
    assert ledger.cached_entries(first, 99, 1 << 20) is None
    append(ledger, [b"new"], term=2)
    expected = [(1, b) for b in BODIES[:first]] + [(2, b"new")]
    assert entries(ledger) == expected
    crash(ledger)
    again = open_small(tmp_path)
    assert entries(again) == expected
    runs = [(1, first)] if first else []
    assert term_runs(again) == [*runs, (2, 1)]
    again.close(0)


@pytest.mark.parametrize("byte", [20, 37, 47, 48, 60])
@pytest.mark.parametrize("kept", [0, 3, 5])
def test_a_cut_behind_an_entry_that_has_changed_is_refused(
    tmp_path: Path, kept: int, byte: int
) -> None:
    """Its place and chain value go into the mark: the next start would take it for right."""
    ledger = open_small(tmp_path)
    append(ledger, BODIES)
    ledger.save_mark(4)
    path, at, _ = place(ledger, kept)
    flip(path, at + byte)
    before = files_of(tmp_path)
    with pytest.raises(DamagedError) as found:
        ledger.truncate(kept + 1)
    assert found.value.path == path
    assert files_of(tmp_path) == before
    assert ledger.end_index == 9
    crash(ledger)


def test_a_cut_of_units_that_are_only_in_memory(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES[:4])
    ledger.index.flush()
    append(ledger, BODIES[4:])
    ledger.truncate(6)
    ledger.truncate(3)
    append(ledger, [b"new"])
    assert entries(ledger) == [*((1, b) for b in BODIES[:3]), (1, b"new")]
    ledger.close(0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_cut_that_fails_stops_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES)

    def remove(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(OsDisk, "remove", remove)
    with pytest.raises(StorageError, match="the cut of entry 2 failed"):
        ledger.truncate(2)
    crash(ledger)
