"""What is left after a loss of power."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from ledgermq.dledger.disk import replace_file
from tests.sim.world import MS, Loss, Process, S, World

from .small import FILE, make_file, one, shown

SECTOR = 512


def lose(process: Process, loss: Loss) -> None:
    process.machine.power_loss(loss)


def outcomes(loss: Loss, size: int, writes: list[tuple[int, bytes]]) -> Iterator[bytes]:
    """What 300 losses of power leave of unsynced writes to a durable file of zeros."""
    for seed in range(300):
        _, process = one(seed)
        fd = make_file(process, bytes(size))
        for offset, data in writes:
            process.disk.pwrite(fd, data, offset)
        lose(process, loss)
        yield shown(process.machine.disk) or b""


# --- bytes ----------------------------------------------------------------------------------------


def test_what_was_synced_stays_and_the_rest_may_go() -> None:
    _, process = one()
    fd = make_file(process, b"old")
    process.disk.pwrite(fd, b"new", 0)
    assert process.machine.disk.unsynced_bytes() == 3
    assert process.machine.disk.durable_read(FILE, 0, 9) == b"old"
    lose(process, Loss.LOST)
    assert shown(process.machine.disk) == b"old"
    assert process.machine.disk.unsynced_bytes() == 0


def test_of_a_prefix_the_older_writes_stay() -> None:
    writes = [(i, bytes([i + 1])) for i in range(6)]
    found = set(outcomes(Loss.PREFIX, 6, writes))
    whole = bytes(range(1, 7))
    assert found == {whole[:n] + bytes(6 - n) for n in range(7)}


def test_a_prefix_runs_through_all_files() -> None:
    found = set()
    for seed in range(100):
        _, process = one(seed)
        paths = [Path(f"/store/{name}") for name in "ab"]
        fds = [make_file(process, b"-", path) for path in paths]
        for fd in fds:
            process.disk.pwrite(fd, b"x", 0)
        lose(process, Loss.PREFIX)
        found.add(tuple(shown(process.machine.disk, path) for path in paths))
    assert found == {(b"-", b"-"), (b"x", b"-"), (b"x", b"x")}


def test_a_torn_write_is_there_in_part_by_whole_sectors() -> None:
    at, data = 300, b"x" * 1500
    found = set(outcomes(Loss.TORN, 2000, [(at, data)]))
    pieces = [(300, 512), (512, 1024), (1024, 1536), (1536, 1800)]
    for content in found:
        for low, high in pieces:
            assert content[low:high] in (bytes(high - low), b"x" * (high - low))
    assert len(found) > 8


def test_reordered_sectors_never_go_back_in_time() -> None:
    # Twice over three sectors: each of them has three states it may have on the platter.
    writes = [(0, b"1" * 3 * SECTOR), (0, b"2" * 3 * SECTOR)]
    found = set(outcomes(Loss.REORDERED, 3 * SECTOR, writes))
    states = {tuple(c[i * SECTOR : (i + 1) * SECTOR] for i in range(3)) for c in found}
    allowed = {bytes(SECTOR), b"1" * SECTOR, b"2" * SECTOR}
    assert {part for state in states for part in state} == allowed
    # A later sector without an earlier one, and the other way round.
    assert any(state[0] == bytes(SECTOR) and state[2] == b"2" * SECTOR for state in states)
    assert any(state[2] == bytes(SECTOR) and state[0] == b"2" * SECTOR for state in states)


def test_within_a_sector_a_newer_write_brings_the_older_ones() -> None:
    writes = [(0, b"a"), (1, b"b"), (2, b"c")]
    found = set(outcomes(Loss.REORDERED, 3, writes))
    assert found == {bytes(3), b"a\0\0", b"ab\0", b"abc"}


def test_a_length_that_was_not_synced_is_lost() -> None:
    _, process = one()
    fd = make_file(process, b"abc")
    process.disk.truncate(fd, 1 << 20)
    assert process.machine.disk.durable_size(FILE) == 3
    lose(process, Loss.LOST)
    assert process.machine.disk.durable_size(FILE) == 3
    again = process.machine.boot()
    fd = again.disk.open(FILE)
    again.disk.truncate(fd, 1 << 20)
    again.disk.fdatasync(fd)
    lose(again, Loss.LOST)
    assert process.machine.disk.durable_size(FILE) == 1 << 20


@pytest.mark.parametrize("loss", list(Loss))
def test_a_cut_that_was_not_synced_may_come_back(loss: Loss) -> None:
    found = set()
    for seed in range(60):
        _, process = one(seed)
        fd = make_file(process, b"abcdef")
        process.disk.truncate(fd, 3)
        process.disk.pwrite(fd, b"x", 3)
        lose(process, loss)
        found.add(shown(process.machine.disk))
    expected = {b"abcdef"} if loss is Loss.LOST else {b"abcdef", b"abc", b"abcx"}
    assert found <= expected
    assert b"abcdef" in found
    assert loss is Loss.LOST or len(found) >= 2


# --- syncs ----------------------------------------------------------------------------------------


def syncing(process: Process, fd: int) -> World:
    """A sync is under way in a thread."""
    process.machine.disk.slow_us = 10 * MS
    process.host().threads(1, "t").submit(process.disk.fdatasync, fd)
    process.world.run(5 * MS)
    process.machine.disk.slow_us = 0
    return process.world


def test_a_sync_proves_only_what_was_written_before_it_began() -> None:
    _, process = one()
    fd = make_file(process, b"------")
    process.disk.pwrite(fd, b"old", 0)
    world = syncing(process, fd)
    process.disk.pwrite(fd, b"new", 3)
    world.run(S)
    assert process.machine.disk.durable_read(FILE, 0, 9) == b"old---"
    process.disk.fdatasync(fd)
    assert process.machine.disk.durable_read(FILE, 0, 9) == b"oldnew"


def test_a_sync_proves_nothing_before_it_ends() -> None:
    _, process = one()
    fd = make_file(process, b"---")
    process.disk.pwrite(fd, b"new", 0)
    syncing(process, fd)
    lose(process, Loss.LOST)
    assert shown(process.machine.disk) == b"---"


def test_a_sync_that_a_kill_ended_proves_nothing() -> None:
    _, process = one()
    fd = make_file(process, b"---")
    process.disk.pwrite(fd, b"new", 0)
    world = syncing(process, fd)
    process.kill()
    world.run(S)
    assert process.machine.disk.durable_read(FILE, 0, 9) == b"---"
    assert shown(process.machine.disk) == b"new"


def test_two_syncs_at_a_time() -> None:
    _, process = one()
    fd = make_file(process, b"--")
    process.disk.pwrite(fd, b"a", 0)
    world = syncing(process, fd)
    process.disk.pwrite(fd, b"b", 1)
    process.disk.fdatasync(fd)
    world.run(S)
    assert process.machine.disk.durable_read(FILE, 0, 9) == b"ab"


# --- names ----------------------------------------------------------------------------------------


def test_a_synced_file_without_its_name_is_lost() -> None:
    _, process = one()
    make_file(process)
    other = Path("/store/other")
    fd = process.disk.open(other, create=True)
    process.disk.pwrite(fd, b"x", 0)
    process.disk.fdatasync(fd)
    assert process.machine.disk.durable_read(other, 0, 1) is None
    assert process.machine.disk.durable_files() == [str(FILE)]
    lose(process, Loss.LOST)
    assert process.machine.boot().disk.names(other.parent) == [FILE.name]


def test_a_removed_file_may_come_back() -> None:
    _, process = one()
    make_file(process, b"abc")
    process.disk.remove(FILE)
    lose(process, Loss.LOST)
    assert shown(process.machine.disk) == b"abc"
    again = process.machine.boot()
    again.disk.remove(FILE)
    again.disk.sync_folder(FILE.parent)
    lose(again, Loss.LOST)
    assert shown(process.machine.disk) is None


@pytest.mark.parametrize("loss", list(Loss))
def test_a_removal_that_was_synced_is_for_ever(loss: Loss) -> None:
    for seed in range(20):
        _, process = one(seed)
        make_file(process)
        process.disk.remove(FILE)
        process.disk.sync_folder(FILE.parent)
        process.disk.open(FILE.with_name("other"), create=True)
        lose(process, loss)
        assert shown(process.machine.disk) is None


@pytest.mark.parametrize("loss", list(Loss))
def test_a_rename_happens_or_does_not(loss: Loss) -> None:
    found = set()
    for seed in range(40):
        _, process = one(seed)
        make_file(process)
        process.disk.rename(FILE, FILE.with_name("other"))
        process.disk.open(FILE.with_name("third"), create=True)
        lose(process, loss)
        found.add(tuple(process.machine.boot().disk.names(FILE.parent)))
    expected = {("file",), ("other",), ("other", "third")}
    assert found == ({("file",)} if loss is Loss.LOST else found & expected)
    assert loss is Loss.LOST or len(found) > 1


@pytest.mark.parametrize("loss", list(Loss))
def test_names_change_in_their_order(loss: Loss) -> None:
    found = set()
    for seed in range(60):
        _, process = one(seed)
        make_file(process)
        for name in "abc":
            process.disk.open(FILE.with_name(name), create=True)
        lose(process, loss)
        found.add("".join(process.machine.boot().disk.names(FILE.parent)))
    whole = ["file", "afile", "abfile", "abcfile"]
    assert found <= {"".join(sorted(w)) for w in whole} | set(whole)
    assert len(found) == 1 if loss is Loss.LOST else len(found) > 2


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("calls", range(1, 7))
def test_a_replaced_file_is_the_old_one_or_the_new_one(loss: Loss, calls: int) -> None:
    for seed in range(10):
        world, process = one(seed)
        make_file(process, b"old" * 400)
        kill = process.machine.power_loss
        process.at_disk_call(calls, lambda kill=kill: kill(loss))
        process.loop.call_soon(replace_file, process.disk, FILE, b"new" * 500)
        world.run(S)
        assert not process.alive
        assert shown(process.machine.disk) in (b"old" * 400, b"new" * 500)


def test_a_replaced_file_is_durable_when_the_call_returns() -> None:
    _, process = one()
    make_file(process, b"old")
    replace_file(process.disk, FILE, b"new")
    lose(process, Loss.LOST)
    assert shown(process.machine.disk) == b"new"


@pytest.mark.parametrize("strict", [False, True])
def test_a_folder_is_durable_with_the_first_sync_in_it(strict: bool) -> None:
    _, process = one()
    process.machine.disk.strict_folders = strict
    process.disk.make_folder(Path("/a/b"))
    process.disk.sync_folder(Path("/a/b"))
    lose(process, Loss.LOST)
    assert process.machine.boot().disk.exists(Path("/a/b")) is not strict


def test_chance_decides_when_nobody_says_how() -> None:
    found = set()
    for seed in range(40):
        _, process = one(seed)
        fd = make_file(process, b"---")
        process.disk.pwrite(fd, b"a", 0)
        process.disk.pwrite(fd, b"b", 1)
        process.machine.power_loss()
        found.update(process.machine.disk.counts)
    assert {f"power losses, {loss.value}" for loss in Loss} <= found


def test_rot_and_loss_take_their_chance_from_who_asks() -> None:
    runs = []
    for _ in range(2):
        _, process = one(3)
        make_file(process, bytes(5000))
        runs.append(process.machine.disk.rot(lambda _: True, Random(5)))
    assert runs[0] == runs[1]
