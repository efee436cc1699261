"""Two slots that hold the same fact."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import CallerError, DamagedError, DiskFullError, StorageError
from ledgermq.dledger.store import slots
from ledgermq.dledger.store.slots import SlotFile
from tests.unit.dledger.logs import flip, overwrite, written

SLOT_BYTES = 4096


def payload_of(path: Path) -> bytes | None:
    file = SlotFile(path)
    file.close()
    return file.payload


def test_a_new_file_has_its_full_size_and_no_payload(tmp_path: Path) -> None:
    assert payload_of(tmp_path / "f") is None
    assert (tmp_path / "f").stat().st_size == 2 * SLOT_BYTES


def test_the_newest_payload_counts(tmp_path: Path) -> None:
    for count in range(1, 5):
        written(tmp_path / "f", f"value {count}".encode())
        assert payload_of(tmp_path / "f") == f"value {count}".encode()
    assert (tmp_path / "f").stat().st_size == 2 * SLOT_BYTES


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("at", [0, 4, 8, 20, 25, None])
def test_a_slot_that_rots_costs_nothing(
    tmp_path: Path, slot: int, count: int, at: int | None
) -> None:
    values = [f"value {i}".encode() for i in range(count)]
    written(tmp_path / "f", *values)
    if at is None:
        overwrite(tmp_path / "f", slot * SLOT_BYTES, os.urandom(SLOT_BYTES))
    else:
        flip(tmp_path / "f", slot * SLOT_BYTES + at)
    assert payload_of(tmp_path / "f") == values[-1]
    written(tmp_path / "f", b"next")
    flip(tmp_path / "f", (1 - slot) * SLOT_BYTES + 9)
    assert payload_of(tmp_path / "f") == b"next"


class Lazy(OsDisk):
    """Bytes reach the file when they are synced: what was not is lost with the power."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[int, bytes, int]] = []
        self.syncs = 0

    def pwrite(self, fd: int, data: Any, at: int) -> int:  # type: ignore[override]
        self.waiting.append((fd, bytes(data), at))
        return len(data)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.syncs += 1
        for write in self.waiting:
            os.pwrite(*write)
        self.waiting.clear()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("torn", [0, 1, 12, 24, 30])
def test_power_fails_in_a_write(tmp_path: Path, count: int, torn: int) -> None:
    """What was told to nobody may be gone or not, what was before it never."""
    disk = Lazy()
    file = SlotFile(tmp_path / "f", disk)
    for number in range(count):
        file.write(f"value {number}".encode())
    *_, (fd, data, at) = disk.waiting
    assert disk.syncs == count + 1, "one for each write, one for the making"
    os.pwrite(fd, data[:torn], at)  # the second slot of the last one is half there
    file.close()
    assert payload_of(tmp_path / "f") == f"value {count - 1}".encode()
    disk = Lazy()
    file = SlotFile(tmp_path / "f", disk)
    assert not disk.waiting, "opening writes nothing"

    def power_fails(fd: int) -> None:
        _, data, at = disk.waiting[-1]
        os.pwrite(fd, data[:torn], at)
        raise OSError(errno.EIO, "gone")

    disk.fdatasync = power_fails  # type: ignore[method-assign]
    with pytest.raises(StorageError):
        file.write(b"half of something")
    file.close()
    assert payload_of(tmp_path / "f") == f"value {count - 1}".encode()


def test_two_broken_slots_are_damage(tmp_path: Path) -> None:
    written(tmp_path / "f", b"first", b"second")
    flip(tmp_path / "f", 20)
    flip(tmp_path / "f", SLOT_BYTES + 20)
    with pytest.raises(DamagedError, match="f: damaged at byte 0: neither of its two slots"):
        SlotFile(tmp_path / "f")
    file = SlotFile(tmp_path / "f", tolerant=True)
    assert file.payload is None
    assert "neither of its two slots is intact" in str(file.damage)
    file.write(b"anew")
    file.close()
    assert payload_of(tmp_path / "f") == b"anew"


@pytest.mark.parametrize("size", [0, 100, SLOT_BYTES])
def test_a_file_whose_making_was_cut_is_filled_up(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(bytes(size))
    assert payload_of(tmp_path / "f") is None
    assert (tmp_path / "f").stat().st_size == 2 * SLOT_BYTES


@pytest.mark.parametrize("size", [29, 50, SLOT_BYTES, SLOT_BYTES + 10])
def test_a_file_that_lost_its_end(tmp_path: Path, size: int) -> None:
    written(tmp_path / "f", b"first", b"secon")
    os.truncate(tmp_path / "f", size)
    assert payload_of(tmp_path / "f") == b"secon"


def test_a_payload_too_long_is_refused(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "f")
    with pytest.raises(StorageError, match="do not fit"):
        file.write(bytes(SLOT_BYTES))
    file.close()


def fails_with(number: int) -> Any:
    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fails


def test_a_failed_write_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SlotFile(tmp_path / "f")
    monkeypatch.setattr(OsDisk, "fdatasync", fails_with(errno.EIO))
    with pytest.raises(StorageError, match="Input/output error"):
        file.write(b"x")
    assert file.payload is None
    file.close()


def test_no_room_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OsDisk, "pwrite", fails_with(errno.ENOSPC))
    with pytest.raises(DiskFullError, match="f: no room"):
        SlotFile(tmp_path / "f")


def test_slots_of_a_newer_program_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "_VERSION", 3)
    written(tmp_path / "f", b"x")
    monkeypatch.undo()
    with pytest.raises(CallerError, match=r"f has format version 3; this ledgermq reads up to 2"):
        SlotFile(tmp_path / "f")
