"""Opening a log after any kind of stop."""

import os
import shutil
from pathlib import Path

import pytest

from ledgermq.dledger.errors import CallerError, DamagedError
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.member_store import MemberStore
from ledgermq.dledger.store.recovery import open_ledger, term_runs
from tests.unit.dledger.logs import (
    SEGMENT_BYTES,
    append,
    crash,
    entries,
    flip,
    head,
    open_small,
    overwrite,
    place,
)

BODIES = [bytes([65 + i]) * 900 for i in range(10)]


def marked_at(folder: Path, marked: int, bodies: list[bytes] = BODIES) -> Ledger:
    """A log whose first `marked` entries are below the mark."""
    ledger = open_small(folder)
    append(ledger, bodies[:marked])
    ledger.save_mark(marked - 1)
    append(ledger, bodies[marked:])
    return ledger


def reopened(folder: Path) -> list[tuple[int, bytes]]:
    ledger = open_small(folder)
    found = entries(ledger)
    ledger.close(0)
    return found


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
def test_broken_entries_with_intact_ones_behind_are_damage(
    tmp_path: Path, broken: int, count: int
) -> None:
    """Also across the end of a segment: entries 0..3, 4..7, 8..9 share one each."""
    ledger = marked_at(tmp_path, 3)
    places = [place(ledger, i) for i in range(broken, min(broken + count, 9))]
    crash(ledger)
    for path, at, _ in places:
        flip(path, at + 300)
    path, at, _ = places[0]
    with pytest.raises(DamagedError) as caught:
        open_small(tmp_path)
    assert (caught.value.path, caught.value.offset) == (path, at)
    assert f"entry {broken} is broken" in str(caught.value)


def test_a_lost_page_ends_the_log_and_nothing_behind_it_comes_back(tmp_path: Path) -> None:
    ledger = marked_at(tmp_path, 3)
    path, at, size = place(ledger, 5)
    crash(ledger)
    overwrite(path, at, bytes(size))
    ledger = open_small(tmp_path)
    assert entries(ledger) == [(1, b) for b in BODIES[:5]]
    append(ledger, [BODIES[5]])  # the same bytes: its old followers would continue it
    crash(ledger)
    assert reopened(tmp_path) == [(1, b) for b in BODIES[:6]]


def test_stale_bytes_far_behind_the_end_are_cleared(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, 32 << 20)
    append(ledger, [b"a"])
    crash(ledger)
    path = tmp_path / "data" / "00000000000000000000"
    overwrite(path, 20 << 20, b"stale")
    open_ledger(tmp_path, 32 << 20).close(0)
    assert path.read_bytes()[20 << 20 : (20 << 20) + 5] == bytes(5)


@pytest.mark.parametrize("index", [0, 4, 9])
def test_the_end_must_reach_the_mark(tmp_path: Path, index: int) -> None:
    ledger = marked_at(tmp_path, 10)
    path, at, size = place(ledger, index)
    crash(ledger)
    shutil.rmtree(tmp_path / "index")  # so that every entry is looked at
    overwrite(path, at, bytes(size))
    with pytest.raises(DamagedError) as caught:
        open_small(tmp_path)
    assert (caught.value.path, caught.value.offset) == (path, at)


def test_the_entry_at_the_mark_is_looked_at(tmp_path: Path) -> None:
    ledger = marked_at(tmp_path, 10)
    path, at, _ = place(ledger, 9)
    crash(ledger)
    flip(path, at + 15)
    with pytest.raises(DamagedError, match=f"{path}: damaged at byte {at}: entry 9 is not here"):
        open_small(tmp_path)
    overwrite(path, at, bytes(48))
    with pytest.raises(DamagedError, match=f"{path}: damaged at byte {at}: no entry"):
        open_small(tmp_path)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        pytest.param("00000000000000000000", "00000000000000000000", id="the first"),
        pytest.param("00000000000000004096", "00000000000000004096", id="one between"),
        pytest.param("00000000000000008192", "00000000000000008192", id="the last"),
    ],
)
@pytest.mark.parametrize("marked", [0, 10])
def test_a_missing_file_is_damage_and_the_others_stay(
    tmp_path: Path, name: str, missing: str, marked: int
) -> None:
    crash(marked_at(tmp_path, marked))
    (tmp_path / "data" / name).unlink()
    left = sorted(p.name for p in (tmp_path / "data").iterdir())
    if marked or name != "00000000000000008192":
        with pytest.raises(DamagedError, match=missing):
            open_small(tmp_path)
        assert sorted(p.name for p in (tmp_path / "data").iterdir()) == left
    else:
        assert len(reopened(tmp_path)) == 8


def test_a_log_without_any_file_but_with_a_mark_is_damage(tmp_path: Path) -> None:
    crash(marked_at(tmp_path, 10))
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DamagedError, match=r"files are gone, but entries 0\.\.9 were on disk"):
        open_small(tmp_path)


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
    with pytest.raises(DamagedError, match=r"index.*damaged at byte 0.*remove the folder"):
        term_runs(ledger)
    crash(ledger)


def test_a_start_reads_what_is_past_the_mark_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash(marked_at(tmp_path, 8))
    taken: list[int] = []
    real = Ledger.append_copied

    def append_copied(self: Ledger, data: bytes, first: int) -> None:
        taken.extend(h.log_index for _, h in entry.walk(data))
        real(self, data, first)

    monkeypatch.setattr(Ledger, "append_copied", append_copied)
    assert len(reopened(tmp_path)) == 10
    assert taken == [8, 9]
    assert len(reopened(tmp_path)) == 10
    assert taken == [8, 9]


# --- everything of a member -----------------------------------------------------------------------


def member_store(folder: Path) -> MemberStore:
    return MemberStore(folder, None, group="G", self_id="n0", segment_bytes=SEGMENT_BYTES)


def test_a_store_that_cannot_be_opened_is_let_go(tmp_path: Path) -> None:
    store = member_store(tmp_path)
    append(store.ledger, BODIES)
    store.close(9)
    path = tmp_path / "data" / "00000000000000000000"
    path.rename(tmp_path / "elsewhere")
    for _ in range(2):  # the second finds no lock of the first
        with pytest.raises(DamagedError, match="the file is gone"):
            member_store(tmp_path)
    (tmp_path / "elsewhere").rename(path)
    store = member_store(tmp_path)
    assert len(entries(store.ledger)) == 10
    store.ledger.stage(1, b"never written")
    store.close(9)
    store = member_store(tmp_path)
    assert (store.ledger.end_index, store.ledger.marks.mark.clean) == (9, False)
    store.close(None)


def test_entries_of_a_foreign_log_behind_ours_are_not_taken(tmp_path: Path) -> None:
    """They are whole and follow in index and place, but another entry came before them."""
    ledger = open_small(tmp_path)
    append(ledger, [b"ours"])
    pos = ledger.end_pos
    crash(ledger)
    head, _ = entry.encode(1, 1, pos, b"theirs", chain=12345)
    overwrite(tmp_path / "data" / "00000000000000000000", pos, head + b"theirs")
    assert reopened(tmp_path) == [(1, b"ours")]
