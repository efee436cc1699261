"""Opening a log after any kind of stop."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledgermq.dledger.errors import CallerError, DamagedError
from ledgermq.dledger.ids import Standing
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.recovery import open_ledger, term_runs
from tests.unit.dledger.logs import (
    BODIES,
    SEGMENT_BYTES,
    append,
    copied,
    crash,
    entries,
    files_of,
    flip,
    head,
    marked_at,
    open_small,
    overwrite,
    place,
    reopened,
)


def test_an_empty_folder_becomes_an_empty_log(tmp_path: Path) -> None:
    ledger = open_small(tmp_path / "deep" / "store")
    assert (ledger.end_index, ledger.end_pos, term_runs(ledger)) == (-1, 0, [])
    ledger.close(-1)
    assert reopened(tmp_path / "deep" / "store") == []


def test_terms_are_found_as_runs(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    for term, count in ((1, 5), (3, 1), (4, 20)):
        append(ledger, [b"x"] * count, term)
    assert term_runs(ledger) == [(1, 5), (3, 1), (4, 20)]
    crash(ledger)
    ledger = open_small(tmp_path)
    assert term_runs(ledger) == [(1, 5), (3, 1), (4, 20)]
    ledger.close(25)
    assert open_small(tmp_path).marks.mark.commit == 25


@pytest.mark.parametrize("marked", [0, 3, 8, 10])
def test_what_was_written_past_the_mark_comes_back(tmp_path: Path, marked: int) -> None:
    crash(marked_at(tmp_path, marked))
    assert reopened(tmp_path) == [(1, b) for b in BODIES]


@pytest.mark.parametrize("byte", [3, 15, 31, 36, 48, 947])
def test_a_broken_last_entry_is_a_torn_tail(tmp_path: Path, byte: int) -> None:
    ledger = marked_at(tmp_path, 3)
    path, at, _ = place(ledger, 9)
    crash(ledger)
    flip(path, at + byte)
    assert reopened(tmp_path) == [(1, b) for b in BODIES[:9]]
    assert not any(path.read_bytes()[at:])


@pytest.mark.parametrize("broken", range(3, 9))
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("zeroed", [False, True])
def test_broken_entries_past_the_mark_with_intact_ones_behind_are_a_lost_tail(
    tmp_path: Path, broken: int, count: int, zeroed: bool
) -> None:
    """Also across the end of a segment: entries 0..3, 4..7, 8..9 share one each."""
    ledger = marked_at(tmp_path, 3)
    places = [place(ledger, i) for i in range(broken, min(broken + count, 9))]
    crash(ledger)
    for path, at, size in places:
        if zeroed:
            overwrite(path, at, bytes(size))
        else:
            flip(path, at + 300)
    found = files_of(tmp_path)
    for _ in range(2):  # nothing is touched: it looks the same to each start
        ledger = open_small(tmp_path)
        path, at, _ = places[0]
        assert ledger.damage is not None
        assert (ledger.damage.path, ledger.damage.offset) == (path, at)
        assert f"entry {broken} is broken" in str(ledger.damage)
        assert ledger.standing_hint is Standing.LOST
        assert entries(ledger) == [(1, b) for b in BODIES[:broken]]
        ledger.save_mark(broken - 1)
        assert ledger.marks.mark.index == broken - 1
        ledger.close(0)
        assert files_of(tmp_path) == found
    ledger = open_small(tmp_path)
    append(ledger, [BODIES[broken]])  # the same bytes: its old followers would continue it
    crash(ledger)
    ledger = open_small(tmp_path)
    assert (ledger.damage, ledger.standing_hint) == (None, Standing.MEMBER)
    assert entries(ledger) == [(1, b) for b in BODIES[: broken + 1]]
    ledger.close(0)


def test_a_lost_last_page_is_a_torn_tail(tmp_path: Path) -> None:
    ledger = marked_at(tmp_path, 3)
    path, at, size = place(ledger, 9)
    crash(ledger)
    overwrite(path, at, bytes(size))
    ledger = open_small(tmp_path)
    assert (ledger.damage, ledger.standing_hint) == (None, Standing.MEMBER)
    assert entries(ledger) == [(1, b) for b in BODIES[:9]]
    ledger.close(0)


def test_stale_bytes_far_behind_the_end_are_cleared(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, 32 << 20)
    append(ledger, [b"a"])
    crash(ledger)
    path = tmp_path / "data" / "00000000000000000000"
    overwrite(path, 20 << 20, b"stale")
    open_ledger(tmp_path, 32 << 20).close(0)
    assert path.read_bytes()[20 << 20 : (20 << 20) + 5] == bytes(5)


def damage_of(ledger: Ledger) -> tuple[object, int]:
    assert ledger.damage is not None
    return ledger.damage.path, ledger.damage.offset


def repaired(ledger: Ledger, leader: Ledger) -> list[tuple[int, bytes]]:
    """Filled from a leader's log, closed, and opened again."""
    first = ledger.end_index + 1
    ledger.append_copied(copied(leader, first, leader.end_index), first)
    ledger.close(0)
    again = open_ledger(ledger.marks.folder, SEGMENT_BYTES)
    assert (again.damage, again.standing_hint) == (None, Standing.MEMBER)
    found = entries(again)
    for index in range(again.begin.index, again.end_index + 1):
        again.verify(index, 1)
    again.close(0)
    return found


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Ledger]:
    ledger = open_small(tmp_path / "leader")
    append(ledger, BODIES)
    yield ledger
    crash(ledger)


@pytest.mark.parametrize("index", [0, 4, 9])
@pytest.mark.parametrize("indexed", [True, False])
def test_the_end_must_reach_the_mark(
    tmp_path: Path, leader: Ledger, index: int, indexed: bool
) -> None:
    folder = tmp_path / "a"
    ledger = marked_at(folder, 10)
    path, at, size = place(ledger, index)
    crash(ledger)
    if not indexed:
        shutil.rmtree(folder / "index")  # so that every entry is looked at
    overwrite(path, at, bytes(size))
    found = files_of(folder)
    for _ in range(2):
        # With an index the start looks at some places only: where it is told to, among others.
        ledger = open_small(folder, suspect=int(path.name) + at if index < 9 else None)
        assert damage_of(ledger) == (path, at)
        assert "but 9 was on disk" in str(ledger.damage)
        assert ledger.standing_hint is Standing.DAMAGED
        assert entries(ledger) == [(1, b) for b in BODIES[:index]]
        ledger.save_mark(9)
        ledger.close(9)
        assert files_of(folder) == found
    assert repaired(open_small(folder, suspect=0), leader) == [(1, b) for b in BODIES]


def test_the_entry_at_the_mark_is_looked_at(tmp_path: Path) -> None:
    ledger = marked_at(tmp_path, 10)
    path, at, _ = place(ledger, 9)
    crash(ledger)
    flip(path, at + 15)
    ledger = open_small(tmp_path)
    assert (damage_of(ledger), ledger.end_index) == ((path, at), 8)
    crash(ledger)
    overwrite(path, at, bytes(48))
    ledger = open_small(tmp_path)
    assert (damage_of(ledger), ledger.end_index) == ((path, at), 8)
    crash(ledger)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        pytest.param("00000000000000000000", 0, id="the first"),
        pytest.param("00000000000000004096", 4, id="one between"),
        pytest.param("00000000000000008192", 8, id="the last"),
    ],
)
@pytest.mark.parametrize("marked", [0, 10])
@pytest.mark.parametrize("how", ["gone", "empty", "cut"])
def test_a_missing_file_is_damage_and_the_others_stay(
    tmp_path: Path, leader: Ledger, name: str, left: int, marked: int, how: str
) -> None:
    folder = tmp_path / "a"
    crash(marked_at(folder, marked))
    path = folder / "data" / name
    path.unlink() if how == "gone" else os.truncate(path, 0 if how == "empty" else 500)
    stay = sorted(p.name for p in (folder / "data").iterdir())
    ledger = open_small(folder)
    assert entries(ledger) == [(1, b) for b in BODIES[:left]]
    if marked or left < 8:
        assert ledger.standing_hint is (Standing.DAMAGED if marked else Standing.LOST)
        assert damage_of(ledger) == (path, 0)
        assert ("the file is gone" in str(ledger.damage)) == (how == "gone")
    else:
        assert (ledger.damage, ledger.standing_hint) == (None, Standing.MEMBER)
    if how == "gone":
        assert sorted(p.name for p in (folder / "data").iterdir()) == stay
    assert repaired(ledger, leader) == [(1, b) for b in BODIES]


def test_a_log_without_any_file_but_with_a_mark_is_damage(tmp_path: Path, leader: Ledger) -> None:
    crash(marked_at(tmp_path / "a", 10))
    shutil.rmtree(tmp_path / "a" / "data")
    ledger = open_small(tmp_path / "a")
    assert "the file is gone: the log ends at entry -1, but 9 was on disk" in str(ledger.damage)
    assert repaired(ledger, leader) == [(1, b) for b in BODIES]


def test_another_segment_size_is_refused(tmp_path: Path) -> None:
    marked_at(tmp_path, 10).close(9)
    for size in (SEGMENT_BYTES * 2, SEGMENT_BYTES // 2, 5000):
        with pytest.raises(CallerError, match="mappedFileSizeCommitLog"):
            open_ledger(tmp_path, size)
    assert len(reopened(tmp_path)) == 10


# --- the entry index is derived -------------------------------------------------------------------


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda p: shutil.rmtree(p.parent), id="folder gone"),
        pytest.param(lambda p: p.unlink(), id="file gone"),
        pytest.param(lambda p: p.write_bytes(b""), id="empty"),
        pytest.param(lambda p: os.truncate(p, 100), id="cut"),
        pytest.param(lambda p: overwrite(p, 0, bytes(32 * 10)), id="zeros"),
        pytest.param(lambda p: flip(p, 9 * 32 + 11), id="the last unit's place"),
        pytest.param(lambda p: flip(p, 31), id="the first unit's term"),
        pytest.param(lambda p: flip(p, 9 * 32 + 31), id="the last unit's term"),
        pytest.param(lambda p: flip(p, 11), id="the first unit's place"),
    ],
)
@pytest.mark.parametrize("marked", [4, 10])
def test_a_broken_entry_index_is_rebuilt(tmp_path: Path, break_it: object, marked: int) -> None:
    marked_at(tmp_path, marked).close(9)
    path = tmp_path / "index" / "00000000000000000000"
    good = head(path, 320)
    assert callable(break_it)
    break_it(path)
    assert reopened(tmp_path) == [(1, b) for b in BODIES]
    assert head(path, 320) == good


def test_terms_that_fall_are_damage(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    append(ledger, [b"a"], term=5)
    append(ledger, [b"b"], term=4)
    crash(ledger)
    with pytest.raises(DamagedError, match="terms of its entries fall"):
        open_small(tmp_path)


def test_a_run_of_units_that_disagrees_with_the_data_is_named(tmp_path: Path) -> None:
    ledger = marked_at(tmp_path, 10)
    path, at, size = place(ledger, 0)
    overwrite(path, at, bytes(size))
    with pytest.raises(DamagedError, match=r"index.*damaged at byte 0.*made anew"):
        term_runs(ledger)
    crash(ledger)


def test_a_start_reads_what_is_past_the_mark_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash(marked_at(tmp_path, 8))
    taken: list[int] = []
    real = Ledger.stage_copy

    def stage_copy(self: Ledger, data: bytes, at: int, header: entry.EntryHeader) -> None:
        taken.append(header.log_index)
        real(self, data, at, header)

    monkeypatch.setattr(Ledger, "stage_copy", stage_copy)
    assert len(reopened(tmp_path)) == 10
    assert taken == [8, 9]
    assert len(reopened(tmp_path)) == 10
    assert taken == [8, 9]


def test_entries_of_a_foreign_log_behind_ours_are_not_taken(tmp_path: Path) -> None:
    """They are whole and follow in index and place, but another entry came before them."""
    ledger = open_small(tmp_path)
    append(ledger, [b"ours"])
    pos = ledger.end_pos
    crash(ledger)
    head, _ = entry.encode(1, 1, pos, b"theirs", chain=12345)
    overwrite(tmp_path / "data" / "00000000000000000000", pos, head + b"theirs")
    assert reopened(tmp_path) == [(1, b"ours")]
