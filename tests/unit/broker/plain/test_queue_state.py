"""Where queues begin and end: as it was kept, or as their files tell."""

import os
import shutil
from pathlib import Path

import pytest

from ledgermq.broker.plain.queue_state import QueueState, rows_in
from ledgermq.broker.store.consume_queue import _NO_UNIT, _UNIT
from ledgermq.broker.store.queue_table import QueueRow
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import DiskFullError
from tests.support.plain import Held

ROWS = [QueueRow("A", 0, 3, 17), QueueRow("B", 2, 0, 5)]
FILE_BYTES = 200


def state(folder: Path) -> QueueState:
    return QueueState(folder / "snapshot", OsDisk())


def test_bounds_come_back_for_their_place_only(tmp_path: Path) -> None:
    fresh = state(tmp_path)
    assert (fresh.rows_at(0), fresh.given_up) == (None, False)
    fresh.save(1000, ROWS, 7)
    for found in (fresh, state(tmp_path)):
        assert found.rows_at(1000) == ROWS
        assert found.rows_at(999) is None
        assert found.rows_at(1001) is None
        assert not found.given_up


def test_a_log_that_was_cut_goes_through_the_same_places_again(tmp_path: Path) -> None:
    state(tmp_path).save(1000, ROWS, 7)
    again = state(tmp_path)
    again.save(600, ROWS[:1], 7)
    assert again.rows_at(600) == ROWS[:1]
    assert again.rows_at(1000) is None, "that was another log"
    assert state(tmp_path).rows_at(600) == ROWS[:1]
    again.save(1000, ROWS[1:], 7)
    assert state(tmp_path).rows_at(1000) == ROWS[1:]


def test_queues_that_are_given_up_stay_so_until_they_are_kept_again(tmp_path: Path) -> None:
    kept = state(tmp_path)
    kept.save(1000, ROWS, 7)
    kept.give_up()
    for found in (kept, state(tmp_path)):
        assert found.given_up
        assert found.rows_at(1000) is None
        assert found.last is not None
        assert (found.last.end_pos, found.last.rows) == (1000, ROWS)
    # The log may end before where they were given up.
    again = state(tmp_path)
    again.save(500, ROWS, 7)
    assert not again.given_up
    assert not state(tmp_path).given_up
    assert state(tmp_path).rows_at(500) == ROWS


def test_what_cannot_be_read_was_not_kept(tmp_path: Path) -> None:
    state(tmp_path).save(1000, ROWS, 7)
    (path,) = (tmp_path / "snapshot").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    found = state(tmp_path)
    assert (found.rows_at(1000), found.given_up) == (None, False)
    found.save(1000, ROWS, 7)
    assert state(tmp_path).rows_at(1000) == ROWS


def test_without_room_the_bounds_of_before_stay(tmp_path: Path) -> None:
    disk = Held()
    kept = QueueState(tmp_path / "snapshot", disk)
    kept.save(1000, ROWS, 7)
    disk.room = 10
    with pytest.raises(DiskFullError):
        kept.save(2000, ROWS, 7)
    assert kept.rows_at(1000) == ROWS
    assert state(tmp_path).rows_at(1000) == ROWS


# --- from the files -------------------------------------------------------------------------------


def write(folder: Path, name: str, start: int, units: list[bytes]) -> None:
    """Units of one file, which begins at offset `start`."""
    path = folder / name / f"{start * 20:020d}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(units).ljust(FILE_BYTES, b"\0"))


def unit(offset: int) -> bytes:
    return _UNIT.pack(offset, 100, 0)


def rows(folder: Path, end_pos: int = 1 << 40) -> list[QueueRow]:
    return sorted(rows_in(folder, FILE_BYTES, OsDisk(), end_pos))


def test_the_files_tell_where_a_queue_begins_and_ends(tmp_path: Path) -> None:
    write(tmp_path, "A/0", 0, [unit(i * 100) for i in range(10)])
    write(tmp_path, "A/0", 10, [unit(i * 100) for i in range(10, 14)])
    write(tmp_path, "A/3", 0, [unit(5)])
    write(tmp_path, "B/0", 20, [_NO_UNIT] * 4 + [unit(i * 100) for i in range(6)])
    write(tmp_path, "C/0", 0, [])
    assert rows(tmp_path) == [
        QueueRow("A", 0, 0, 14),
        QueueRow("A", 3, 0, 1),
        QueueRow("B", 0, 24, 30),
    ]
    assert rows(tmp_path, 501) == [
        QueueRow("A", 0, 0, 6),
        QueueRow("A", 3, 0, 1),
        QueueRow("B", 0, 24, 30),
    ]
    assert rows(tmp_path, 500)[0] == QueueRow("A", 0, 0, 5)
    assert rows(tmp_path, 0) == []
    assert rows(tmp_path / "nothing") == []


def test_behind_a_gap_nothing_counts(tmp_path: Path) -> None:
    full = [unit(i * 100) for i in range(10)]
    write(tmp_path, "A/0", 10, full)
    write(tmp_path, "A/0", 30, full)
    write(tmp_path, "B/0", 10, full[:5])
    write(tmp_path, "B/0", 20, full)
    assert rows(tmp_path) == [QueueRow("A", 0, 10, 20), QueueRow("B", 0, 10, 15)]


def test_what_is_no_queue_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "A/0", 0, [unit(0)])
    for name in ("A/00", "A/x", "A/-1", "A/٣", "A/.0"):
        write(tmp_path, name, 0, [unit(0)])
    (tmp_path / "somebodys file").write_text("x")
    (tmp_path / "A" / "0" / "note").write_text("x")
    (tmp_path / "A" / "0" / f"{60:020d}").write_bytes(bytes(FILE_BYTES))
    assert rows(tmp_path) == [QueueRow("A", 0, 0, 1)]
    shutil.rmtree(tmp_path / "A")
    assert rows(tmp_path) == []


def test_a_file_that_is_cut_short_holds_what_is_left(tmp_path: Path) -> None:
    write(tmp_path, "A/0", 0, [unit(i * 100) for i in range(10)])
    os.truncate(tmp_path / "A" / "0" / f"{0:020d}", 70)
    assert rows(tmp_path) == [QueueRow("A", 0, 0, 3)]
