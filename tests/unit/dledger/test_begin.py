"""Logs that do not begin at 0: retention, re-seeding, and crashes in the middle of both."""

from contextlib import suppress
from pathlib import Path

import pytest

from ledgermq.dledger.errors import DamagedError, InvariantError, StorageError
from ledgermq.dledger.ids import Standing
from ledgermq.dledger.store.begin import Begin, BeginFile
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.recovery import open_ledger, term_runs
from tests.unit.dledger.logs import (
    SEGMENT_BYTES,
    MortalDisk,
    PowerCut,
    append,
    copied,
    crash,
    entries,
    files_of,
    flip,
    open_small,
    overwrite,
    place,
)

BODIES = [bytes([65 + i]) * 900 for i in range(14)]
# Entries 0..3, 4..7, 8..11 and 12..13 share a file; the term changes at 3 and at 9.
TERMS = [1] * 3 + [4] * 6 + [5] * 5
WHOLE = list(zip(TERMS, BODIES, strict=True))


def filled(folder: Path) -> Ledger:
    ledger = open_small(folder)
    for term, body in WHOLE:
        append(ledger, [body], term)
    return ledger


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "data").iterdir())


def test_the_first_entries_of_the_files(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    begins = [(0, 0), (4096, 4), (8192, 8), (12288, 12)]
    assert ledger.segment_begins() == begins
    ledger.move_begin(4)
    assert ledger.segment_begins() == begins[1:]
    assert ledger.first_index_in(8192) == 8
    ledger.truncate(12)
    assert ledger.segment_begins() == begins[1:3]
    append(ledger, [b"x" * 3000, b"y" * 2000], term=5)
    assert ledger.segment_begins() == [*begins[1:3], (12288, 12), (16384, 13)]
    crash(ledger)
    path = tmp_path / "data" / "00000000000000008192"
    ledger = open_small(tmp_path)
    overwrite(path, 3, b"?")
    with pytest.raises(DamagedError, match=f"{path}: damaged at byte 0"):
        ledger.segment_begins()
    crash(ledger)


@pytest.mark.parametrize("index", [4, 8, 12])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_moved_begin(tmp_path: Path, index: int, clean: bool, indexed: bool) -> None:
    ledger = filled(tmp_path)
    ledger.save_mark(13)
    ledger.move_begin(index)
    ledger.move_begin(index)  # once is enough
    begin = Begin(index, index // 4 * 4096, TERMS[index - 1], ledger.begin.chain)
    for _ in range(3):
        assert ledger.begin == begin
        assert entries(ledger) == WHOLE[index:]
        assert [t for t, n in term_runs(ledger) for _ in range(n)] == TERMS[index:]
        with pytest.raises(StorageError, match=f"entry 3 is not in the log, which holds {index}"):
            ledger.read_entries(3, 13, 1 << 20)
        assert ledger.verify(index, 1) == index + 1
        if clean:
            ledger.close(13)
        else:
            crash(ledger)
        if not indexed:
            (tmp_path / "index" / "00000000000000000000").unlink()
        ledger = open_small(tmp_path)
        assert (ledger.damage, ledger.standing_hint) == (None, Standing.MEMBER)
    append(ledger, [b"next"], term=6)
    ledger.truncate(index)
    assert (ledger.end_index, ledger.end_pos, ledger.chain) == (index - 1, begin.pos, begin.chain)
    crash(ledger)
    ledger = open_small(tmp_path)
    assert (ledger.begin, ledger.end_index, term_runs(ledger)) == (begin, index - 1, [])
    append(ledger, [b"again"], term=7)
    assert entries(ledger) == [(7, b"again")]
    ledger.close(index)


@pytest.mark.parametrize("byte", [20, 37, 47, 48])
def test_a_begin_behind_an_entry_that_has_changed_is_refused(tmp_path: Path, byte: int) -> None:
    """Its chain value is what the first entry that stays would be measured by."""
    ledger = filled(tmp_path)
    path, at, _ = place(ledger, 7)
    flip(path, at + byte)
    before = files_of(tmp_path)
    with pytest.raises(DamagedError, match=str(path)):
        ledger.move_begin(8)
    assert files_of(tmp_path) == before
    assert ledger.begin.index == 0
    crash(ledger)


@pytest.mark.parametrize("index", [1, 5, 13, 14, 99, -1])
def test_only_the_first_entry_of_a_file_can_be_the_begin(tmp_path: Path, index: int) -> None:
    ledger = filled(tmp_path)
    with pytest.raises(InvariantError):
        ledger.move_begin(index)
    ledger.move_begin(8)
    for gone in (0, 4):
        with pytest.raises(InvariantError):
            ledger.move_begin(gone)
        with pytest.raises(InvariantError):
            ledger.truncate(gone)
    assert entries(ledger) == WHOLE[8:]
    crash(ledger)


def test_a_begin_past_the_mark(tmp_path: Path) -> None:
    """The mark lags; what the begin needs of it is in the begin."""
    ledger = filled(tmp_path)
    ledger.move_begin(8)
    crash(ledger)
    ledger = open_small(tmp_path)
    assert ledger.marks.mark.commit == 7
    assert entries(ledger) == WHOLE[8:]
    ledger.close(13)


@pytest.mark.parametrize("at", [Begin(), Begin(8, 8192, 4, 77), Begin(1000, 1 << 20, 9, 78)])
def test_a_log_that_was_emptied_goes_on_where_it_is_told(tmp_path: Path, at: Begin) -> None:
    ledger = filled(tmp_path)
    ledger.save_mark(3)
    ledger.stage(5, b"never")
    epoch = ledger.epoch
    ledger.reset(at)
    for _ in range(2):
        assert (ledger.begin, ledger.end_index, ledger.end_pos) == (at, at.index - 1, at.pos)
        assert (ledger.chain, ledger.marks.mark.commit) == (at.chain, at.index - 1)
        assert (names(tmp_path), term_runs(ledger)) == ([], [])
        crash(ledger)
        ledger = open_small(tmp_path)
        assert ledger.damage is None
    assert ledger.epoch <= epoch + 1
    assert ledger.cached_entries(at.index, 99, 1) is None
    append(ledger, BODIES[:6], term=9)
    assert ledger.segment_begins()[0] == (at.pos, at.index)
    crash(ledger)
    ledger = open_small(tmp_path)
    assert entries(ledger) == [(9, b) for b in BODIES[:6]]
    ledger.close(0)


def test_a_reseeded_log_takes_the_leaders_bytes(tmp_path: Path) -> None:
    leader, follower = filled(tmp_path / "a"), filled(tmp_path / "b")
    follower.truncate(2)
    leader.move_begin(8)
    follower.reset(leader.begin)
    follower.append_copied(copied(leader, 8, 13), 8)
    assert entries(follower) == WHOLE[8:]
    leader.close(0)
    follower.close(0)
    assert names(tmp_path / "a") == names(tmp_path / "b")
    for name in names(tmp_path / "a"):
        left, right = (tmp_path / side / "data" / name for side in "ab")
        assert left.read_bytes() == right.read_bytes()


def mortal(folder: Path, calls: int, what: str) -> str:
    """Open, and do it, on a disk that dies; how far it came."""
    disk = MortalDisk()
    ledger = open_small(folder, disk=disk)
    disk.left = calls
    try:
        if what == "move":
            ledger.move_begin(8)
        else:
            ledger.reset(Begin(20, 5 * 4096, 6, 99))
    except PowerCut:
        return "cut"
    finally:
        crash(ledger)
    return "done"


@pytest.mark.parametrize("what", ["move", "reset"])
@pytest.mark.parametrize("second", [None, 0, 3, 6])
def test_a_crash_at_any_change(tmp_path: Path, what: str, second: int | None) -> None:
    """Also one more in the start after it."""
    calls, outcome = 0, "cut"
    while outcome == "cut":
        folder = tmp_path / str(calls)
        ledger = filled(folder)
        ledger.save_mark(9)
        crash(ledger)
        outcome = mortal(folder, calls, what)
        if second is not None:
            with suppress(PowerCut):
                crash(open_small(folder, disk=MortalDisk(second)))
        ledger = open_small(folder)
        assert (ledger.damage, ledger.standing_hint) == (None, Standing.MEMBER)
        found = entries(ledger)
        if what == "move":
            assert (ledger.begin.index, found) in ((0, WHOLE), (8, WHOLE[8:]))
            if ledger.begin.index:
                assert names(folder) == ["00000000000000008192", "00000000000000012288"]
        else:
            assert (ledger.begin.index, found) in ((0, WHOLE), (20, []))
        append(ledger, [b"next"], term=9)
        crash(ledger)
        ledger = open_small(folder)
        assert entries(ledger) == [*found, (9, b"next")]
        crash(ledger)
        calls += 1
    assert calls > 5


def test_a_begin_that_nobody_can_read(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    ledger.move_begin(8)
    ledger.close(13)
    flip(tmp_path / "begin", 20)
    ledger = open_small(tmp_path)
    assert (ledger.begin.index, ledger.damage) == (8, None)  # the other slot has it too
    ledger.close(13)
    flip(tmp_path / "begin", 4096 + 20)
    flip(tmp_path / "begin", 21)
    left = names(tmp_path)
    for _ in range(2):
        ledger = open_small(tmp_path)
        assert (ledger.begin, ledger.end_index) == (Begin(), -1)
        assert ledger.standing_hint is Standing.DAMAGED
        assert "begin: damaged at byte 0" in str(ledger.damage)
        ledger.close(-1)
        assert names(tmp_path) == left
    ledger = open_small(tmp_path)
    append(ledger, BODIES[:2])
    assert names(tmp_path) == ["00000000000000000000"]
    crash(ledger)
    ledger = open_small(tmp_path)
    assert (ledger.damage, entries(ledger)) == (None, [(1, b) for b in BODIES[:2]])
    ledger.close(0)


def test_a_begin_that_is_gone(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    ledger.move_begin(8)
    ledger.close(13)
    (tmp_path / "begin").unlink()
    ledger = open_small(tmp_path)
    assert "00000000000000000000: damaged at byte 0: the file is gone" in str(ledger.damage)
    assert (ledger.standing_hint, ledger.end_index) == (Standing.DAMAGED, -1)
    ledger.reset(Begin(8, 8192, 4, 77))
    ledger.close(7)
    assert open_small(tmp_path).begin.index == 8


@pytest.mark.parametrize(("snapshot", "whole"), [(-1, False), (6, False), (7, True), (500, True)])
def test_a_begin_needs_a_snapshot(tmp_path: Path, snapshot: int, whole: bool) -> None:
    ledger = filled(tmp_path)
    ledger.move_begin(8)
    ledger.close(13)
    ledger = open_ledger(tmp_path, SEGMENT_BYTES, snapshot_index=snapshot)
    assert (ledger.damage is None) == whole
    if not whole:
        assert (ledger.begin, ledger.end_index) == (Begin(), -1)
        assert "begins at entry 8, and no intact snapshot" in str(ledger.damage)
        assert ledger.standing_hint is Standing.DAMAGED
    ledger.close(-1)
    ledger = open_ledger(tmp_path, SEGMENT_BYTES, snapshot_index=9)
    assert entries(ledger) == WHOLE[8:]  # nothing was touched
    ledger.close(13)


def test_a_log_from_zero_needs_no_snapshot(tmp_path: Path) -> None:
    filled(tmp_path).close(13)
    ledger = open_ledger(tmp_path, SEGMENT_BYTES, snapshot_index=-1)
    assert (ledger.damage, entries(ledger)) == (None, WHOLE)
    ledger.close(13)


def test_the_file_keeps_what_it_is_told(tmp_path: Path) -> None:
    begins = BeginFile(tmp_path)
    assert (begins.begin, begins.resetting) == (Begin(0, 0, -1, 0), False)
    begins.save(Begin(5, 4096, 3, 77), resetting=True)
    begins.close()
    begins = BeginFile(tmp_path)
    assert (begins.begin, begins.resetting) == (Begin(5, 4096, 3, 77), True)
    begins.close()


def test_entry_index_files_below_the_begin_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledgermq.dledger.store.entry_index.UNITS_PER_SEGMENT", 3)
    ledger = filled(tmp_path)
    ledger.save_mark(13)
    assert len(list((tmp_path / "index").iterdir())) == 5
    ledger.move_begin(8)
    assert sorted(int(p.name) for p in (tmp_path / "index").iterdir()) == [192, 288, 384]
    crash(ledger)
    ledger = open_small(tmp_path)
    assert entries(ledger) == WHOLE[8:]
    path, at, _ = place(ledger, 9)
    assert (path.name, at) == ("00000000000000008192", 948)
    ledger.close(13)
