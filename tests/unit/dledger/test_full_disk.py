"""Starts without room on the disk."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.errors import DiskFullError
from ledgermq.dledger.store.entry_index import EntryIndex
from ledgermq.dledger.store.segments import Segments
from tests.unit.dledger.logs import (
    BODIES,
    append,
    crash,
    entries,
    files_of,
    flip,
    marked_at,
    open_small,
    place,
    reopened,
)


def no_room_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What is there can be changed in place, but nothing new finds room below `folder`."""
    real = Segments.write

    def write(self: Segments, pos: int, data: Any) -> None:
        offset = pos % self.segment_bytes
        if self.folder == folder and offset + len(data) > used[self.folder]:
            raise DiskFullError(f"{self.path_of(pos)}: no room left on the device")
        real(self, pos, data)

    used = {folder: 8 * 32}
    monkeypatch.setattr(Segments, "write", write)


def test_a_full_disk_stops_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash(marked_at(tmp_path, 8))
    no_room_in(monkeypatch, tmp_path / "index")
    for _ in range(2):
        ledger = open_small(tmp_path)
        assert entries(ledger) == [(1, b) for b in BODIES]
        assert (ledger.damage, ledger.marks.mark.index) == (None, 7)
        ledger.close(9)
    monkeypatch.undo()
    assert reopened(tmp_path) == [(1, b) for b in BODIES]


def test_a_half_done_cut_is_not_done_again_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is appended after the start would go with it."""
    ledger = marked_at(tmp_path, 8)
    ledger.marks.save(replace(ledger.marks.mark, cut=9))
    crash(ledger)
    no_room_in(monkeypatch, tmp_path / "index")
    ledger = open_small(tmp_path)
    assert (ledger.end_index, ledger.marks.mark.index, ledger.marks.mark.cut) == (8, 7, -1)
    append(ledger, [b"new"], term=2)
    crash(ledger)
    ledger = open_small(tmp_path)
    assert entries(ledger) == [*((1, b) for b in BODIES[:9]), (2, b"new")]
    ledger.close(9)


def test_no_room_to_write_the_tail_again_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that never writes in place. The entries may be acknowledged."""
    crash(marked_at(tmp_path, 8))

    def write(*_: Any) -> None:
        raise DiskFullError("no room left on the device")

    before = files_of(tmp_path)
    monkeypatch.setattr(Segments, "write", write)
    with pytest.raises(DiskFullError):
        open_small(tmp_path)
    monkeypatch.undo()
    assert files_of(tmp_path) == before
    assert reopened(tmp_path) == [(1, b) for b in BODIES]


def test_no_room_to_tidy_up_appends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = marked_at(tmp_path, 10)
    path, at, _ = place(ledger, 9)
    crash(ledger)
    shutil.rmtree(tmp_path / "index")
    flip(path, at + 50)
    before = files_of(tmp_path)
    no_room_in(monkeypatch, tmp_path / "index")
    monkeypatch.setattr(EntryIndex, "flush", _no_room)
    ledger = open_small(tmp_path)
    ledger.stage(2, b"new")
    with pytest.raises(DiskFullError):
        ledger.write_staged()
    assert (ledger.end_index, ledger.staged_index) == (8, 8)
    assert files_of(tmp_path) == before
    monkeypatch.undo()
    append(ledger, [b"new"], term=2)
    crash(ledger)
    assert reopened(tmp_path) == [*((1, b) for b in BODIES[:9]), (2, b"new")]


def _no_room(*_: Any) -> None:
    raise DiskFullError("no room left on the device")
