"""What was promised is there after a loss of power, at whatever moment it comes.

Each of these rules was broken by a mutant that no other quick test noticed (docs/testing.md).
"""

from pathlib import Path

import pytest

from ledgermq.dledger.disk import read_file, replace_file
from ledgermq.dledger.errors import StorageError
from ledgermq.dledger.ids import Standing
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.recovery import open_ledger
from tests.unit.dledger.logs import SEGMENT_BYTES, PowerCut, append, crash, entries, open_small
from tests.unit.dledger.power import PowerDisk

# Three of the first fill a file but for a rest that takes none of them.
OLD = [bytes([65 + i]) * 1200 for i in range(8)]
NEW = [bytes([97 + i]) * 700 for i in range(4)]


def bodies(ledger: Ledger) -> list[bytes]:
    return [body for _, body in entries(ledger)]


def after_the_power_failed(
    folder: Path, disk: PowerDisk, calls: int
) -> tuple[bool, list[list[bytes]]]:
    """Do some work; whether the power failed in it, and what was promised by then, in order."""
    promised: list[list[bytes]] = [[]]
    failed = False
    ledger = open_small(folder, disk=disk)
    disk._left = calls
    try:
        appends_and_cuts(ledger, promised)
    except PowerCut:
        failed = True
    disk.fail(folder)
    return failed, promised


def appends_and_cuts(ledger: Ledger, promised: list[list[bytes]]) -> None:
    append(ledger, OLD[:4])
    ledger.sync()
    promised.append(OLD[:4])
    ledger.save_mark(3)
    append(ledger, OLD[4:])
    ledger.save_mark(3)
    promised.append(OLD)
    ledger.truncate(2)
    promised.append(OLD[:2])
    append(ledger, NEW, term=2)
    ledger.sync()
    promised.append(OLD[:2] + NEW)
    ledger.save_mark(5)


@pytest.mark.parametrize("again", [False, True], ids=["one loss of power", "two"])
def test_a_loss_of_power_at_any_moment(again: bool, tmp_path: Path) -> None:
    """All that was synced is there, nothing that was cut; and it is no damage."""
    failed, calls, seen = True, 0, set()
    while failed:
        folder, disk = tmp_path / str(calls), PowerDisk()
        failed, promised = after_the_power_failed(folder, disk, calls)
        if again:
            open_small(folder, disk=disk)
            disk.fail(folder)
        ledger = open_small(folder)
        assert (ledger.damage, ledger.standing_hint) == (None, Standing.MEMBER), calls
        found = bodies(ledger)
        assert_kept(found, promised, calls)
        seen.add(len(promised))
        append(ledger, [b"next"], term=3)
        crash(ledger)
        ledger = open_small(folder)
        assert bodies(ledger) == [*found, b"next"], calls
        crash(ledger)
        calls += 1
    assert seen == {1, 2, 3, 4, 5}


def assert_kept(found: list[bytes], promised: list[list[bytes]], calls: int) -> None:
    last = promised[-1]
    if last == OLD:
        # The cut is under way.
        assert found in (OLD, OLD[:2]), calls
        return
    assert found[: len(last)] == last, calls
    extra = found[len(last) :]
    following = OLD[len(last) :] if len(promised) < 3 else NEW
    assert extra == following[: len(extra)], calls


def test_a_new_file_keeps_its_name(tmp_path: Path) -> None:
    disk = PowerDisk()
    ledger = open_small(tmp_path, disk=disk)
    append(ledger, OLD)
    ledger.sync()
    disk.fail(tmp_path)
    ledger = open_small(tmp_path)
    assert bodies(ledger) == OLD
    crash(ledger)


def test_after_a_failed_sync_none_succeeds(tmp_path: Path) -> None:
    """The kernel says once that a write-back failed; the bytes count as clean from then on."""
    disk = PowerDisk()
    ledger = open_small(tmp_path, disk=disk)
    append(ledger, OLD[:1])
    disk.failing_syncs = 1
    with pytest.raises(StorageError, match="fdatasync failed"):
        ledger.sync()
    append(ledger, OLD[1:2])
    with pytest.raises(StorageError, match="fdatasync failed"):
        ledger.sync()
    crash(ledger)


def test_what_the_page_cache_alone_holds_is_written_again(tmp_path: Path) -> None:
    """After a failed sync the process stops and starts; only then does the power fail."""
    disk = PowerDisk()
    ledger = open_small(tmp_path, disk=disk)
    append(ledger, OLD[:2])
    ledger.save_mark(-1)
    append(ledger, OLD[2:])
    disk.failing_syncs = 3
    with pytest.raises(StorageError, match="fdatasync failed"):
        ledger.sync()
    disk.failing_syncs = 0
    crash(ledger)
    ledger = open_small(tmp_path, disk=disk)
    assert bodies(ledger) == OLD  # from now on they are promised
    disk.fail(tmp_path)
    ledger = open_small(tmp_path)
    assert bodies(ledger) == OLD
    assert ledger.standing_hint is Standing.MEMBER
    crash(ledger)


@pytest.mark.parametrize("calls", range(10))
def test_a_whole_file_is_the_old_one_or_the_new_one(calls: int, tmp_path: Path) -> None:
    path, disk = tmp_path / "f", PowerDisk()
    replace_file(disk, path, b"old" * 100)
    disk._left = calls
    replaced = True
    try:
        replace_file(disk, path, b"new" * 200)
    except PowerCut:
        replaced = False
    disk.fail(tmp_path)
    found = read_file(disk, path)
    assert found == b"new" * 200 if replaced else found in (b"old" * 100, b"new" * 200)


def test_the_disk_of_these_tests_loses_something(tmp_path: Path) -> None:
    disk = PowerDisk()
    ledger = open_ledger(tmp_path, SEGMENT_BYTES, disk=disk)
    append(ledger, OLD[:2])
    ledger.sync()
    append(ledger, OLD[2:3])
    disk.fail(tmp_path)
    ledger = open_small(tmp_path)
    assert bodies(ledger) == OLD[:2]
    crash(ledger)
