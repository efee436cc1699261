"""The disk in good days, and its faults."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from ledgermq.dledger.disk import OsDisk, read_file, replace_file
from tests.sim.world import MS, Killed, Loss, S

from .small import FILE, make_file, one, shown


def story(disk: object, root: Path) -> list[object]:
    """Calls whose answers must be those of the real disk."""
    d, seen = disk, []

    def attempt(call: Callable[[], object]) -> None:
        try:
            seen.append(call())
        except OSError as e:
            seen.append((type(e).__name__, e.errno))

    attempt(lambda: d.open(root / "none" / "x", create=True))
    attempt(lambda: d.open(root / "x"))
    attempt(lambda: d.names(root / "none"))
    d.make_folder(root / "a" / "b")
    d.make_folder(root / "a" / "b")
    fd = d.open(root / "a" / "x", create=True)
    attempt(lambda: d.pwrite(fd, b"hello", 3))
    attempt(lambda: d.pwrite(fd, memoryview(b"world"), 100_000))
    attempt(lambda: d.size(fd))
    attempt(lambda: d.pread(fd, 20, 0))
    attempt(lambda: d.pread(fd, 20, 99_998))
    attempt(lambda: d.pread(fd, 20, 200_000))
    attempt(lambda: d.next_data(fd, 0))
    attempt(lambda: d.next_data(fd, 5000))
    attempt(lambda: d.truncate(fd, 6))
    attempt(lambda: d.truncate(fd, 9000))
    attempt(lambda: d.pread(fd, 20, 0))
    attempt(lambda: d.next_data(fd, 5000))
    attempt(lambda: d.size(fd))
    attempt(lambda: d.names(root / "a"))
    replace_file(d, root / "a" / "x", b"other")
    attempt(lambda: d.pread(fd, 7, 0))
    attempt(lambda: read_file(d, root / "a" / "x"))
    attempt(lambda: d.rename(root / "a", root / "c"))
    attempt(lambda: d.exists(root / "a"))
    attempt(lambda: d.exists(root / "c" / "b"))
    attempt(lambda: read_file(d, root / "c" / "x"))
    lock = d.lock(root / "lock")
    attempt(lambda: d.lock(root / "lock"))
    d.close(lock)
    folder_lock = d.lock(root / "c", folder=True)
    attempt(lambda: d.lock(root / "c", folder=True))
    d.close(folder_lock)
    d.close(d.lock(root / "lock"))
    attempt(lambda: d.remove(root / "c" / "none"))
    attempt(lambda: d.remove_folder(root / "none"))
    attempt(lambda: d.remove_folder(root / "c"))
    attempt(lambda: d.names(root))
    attempt(lambda: d.sync_folder(root / "c"))
    d.close(fd)
    attempt(lambda: d.pread(fd, 1, 0))
    attempt(lambda: d.close(fd))
    return seen


def test_it_answers_like_the_real_one(tmp_path: Path) -> None:
    _, process = one()
    process.machine.disk.miss_chance = 0.0
    process.disk.make_folder(Path("/store"))
    assert story(process.disk, Path("/store")) == story(OsDisk(), tmp_path)


def test_the_cache_is_missed_now_and_then() -> None:
    _, process = one()
    fd = make_file(process, b"abc")
    found = [process.disk.pread_cached(fd, 3, 0) for _ in range(400)]
    assert set(found) == {None, b"a", b"abc"}
    assert 2 < found.count(None) + found.count(b"a") < 80


def test_a_file_removed_and_still_open_can_be_used() -> None:
    _, process = one()
    fd = make_file(process, b"abc")
    process.disk.remove(FILE)
    assert process.disk.pwrite(fd, b"d", 3) == 1
    assert process.disk.pread(fd, 9, 0) == b"abcd"


def test_a_kill_keeps_the_page_cache_and_frees_locks_and_descriptors() -> None:
    _, process = one()
    fd = make_file(process)
    process.disk.pwrite(fd, b"unsynced", 0)
    process.disk.lock(Path("/store/lock"))
    process.kill()
    again = process.machine.boot()
    assert shown(again.machine.disk) == b"unsynced"
    again.disk.lock(Path("/store/lock"))
    with pytest.raises(OSError, match="Bad file descriptor"):
        again.disk.pread(fd, 1, 0)


# --- faults ---------------------------------------------------------------------------------------


def test_reads_and_writes_that_fail() -> None:
    _, process = one()
    fd = make_file(process, b"abc")
    disk = process.machine.disk
    disk.miss_chance = 0.0
    disk.fail_reads, disk.fail_writes = 2, 1
    for call in (
        lambda: process.disk.pread(fd, 1, 0),
        lambda: process.disk.pread_cached(fd, 1, 0),
        lambda: process.disk.pwrite(fd, b"x", 0),
    ):
        with pytest.raises(OSError, match="Input/output error"):
            call()
    assert process.disk.pread(fd, 3, 0) == b"abc"
    assert disk.counts["failed reads"] == 2
    assert disk.counts["failed writes"] == 1


def test_a_failed_sync_looks_like_a_success_from_then_on() -> None:
    _, process = one()
    fd = make_file(process, b"old")
    disk = process.machine.disk
    process.disk.pwrite(fd, b"new", 0)
    disk.fail_syncs = 1
    with pytest.raises(OSError, match="Input/output"):
        process.disk.fdatasync(fd)
    process.disk.fdatasync(fd)
    assert shown(disk) == b"new"
    assert disk.durable_read(FILE, 0, 9) == b"old"
    disk.drop_caches()
    assert shown(disk) == b"old"


def test_a_page_written_again_after_a_failed_sync_is_written_whole() -> None:
    _, process = one()
    fd = make_file(process)
    disk = process.machine.disk
    process.disk.pwrite(fd, b"lost" + bytes(5000) + b"lost too", 0)
    disk.fail_syncs = 1
    with pytest.raises(OSError, match="Input/output"):
        process.disk.fdatasync(fd)
    process.disk.pwrite(fd, b"!", 4)
    process.disk.fdatasync(fd)
    assert disk.durable_read(FILE, 0, 5) == b"lost!"
    assert disk.durable_read(FILE, 5004, 8) == bytes(8)


def test_a_full_disk_takes_writes_to_what_has_its_room() -> None:
    _, process = one()
    fd = make_file(process, bytes(range(1, 100)))
    disk = process.machine.disk
    disk.room = 4096
    assert process.disk.pwrite(fd, b"x" * 8000, 4000) == 4192
    with pytest.raises(OSError, match="No space left"):
        process.disk.pwrite(fd, b"x", 8192)
    assert process.disk.pwrite(fd, b"y" * 100, 50) == 100
    process.disk.truncate(fd, 100)
    assert process.disk.pwrite(fd, b"x", 9000) == 1
    assert disk.counts["full"] == 2


def test_a_removed_file_gives_its_room_back() -> None:
    _, process = one()
    fd = make_file(process, b"x" * 4096)
    process.machine.disk.room = 0
    other = process.disk.open(Path("/store/other"), create=True)
    with pytest.raises(OSError, match="No space"):
        process.disk.pwrite(other, b"x", 0)
    process.disk.close(fd)
    process.disk.remove(FILE)
    assert process.disk.pwrite(other, b"x", 0) == 1


def test_a_slow_disk_stalls_the_loop_that_waits_for_it() -> None:
    world, process = one()
    fd = make_file(process)
    process.machine.disk.slow_us = 200 * MS
    process.loop.call_soon(process.disk.fdatasync, fd)
    seen = []
    process.loop.call_later(0.001, lambda: seen.append(world.now_us))
    world.run(S)
    assert 200 * MS <= seen[0] <= 202 * MS


def test_rot_flips_one_durable_byte() -> None:
    _, process = one()
    make_file(process, b"a" * 1000)
    make_file(process, b"b" * 1000, Path("/store/other"))
    disk = process.machine.disk
    assert disk.rot(lambda path: path.endswith("none"), Random(1)) is None
    hit = disk.rot(lambda path: path.endswith("other"), Random(1))
    assert hit is not None
    path, offset = hit
    assert path == "/store/other"
    expected = bytearray(b"b" * 1000)
    found = bytearray(disk.durable_read(path, 0, 1000) or b"")
    assert found == bytearray(shown(disk, Path(path)) or b"")
    assert [i for i in range(1000) if found[i] != expected[i]] == [offset]
    assert shown(disk) == b"a" * 1000


def test_a_wiped_disk_is_empty() -> None:
    _, process = one()
    make_file(process, b"abc")
    process.kill()
    process.machine.disk.wipe()
    assert process.machine.disk.durable_files() == []
    assert process.machine.boot().disk.names(Path("/store")) == []


# --- traps ----------------------------------------------------------------------------------------


def test_a_kill_between_two_disk_calls() -> None:
    world, process = one()
    fd = make_file(process)
    seen = []

    def work() -> None:
        process.disk.pwrite(fd, b"a", 0)
        process.disk.pwrite(fd, b"b", 1)
        process.disk.fdatasync(fd)
        seen.append(1)

    process.at_disk_call(2, process.kill)
    process.loop.call_soon(work)
    process.loop.call_soon(seen.append, 2)
    world.run(S)
    assert not process.alive
    assert not seen
    assert shown(process.machine.disk) == b"a"


def test_a_loss_of_power_before_the_next_sync() -> None:
    world, process = one()
    fd = make_file(process, b"old")

    def work() -> None:
        process.disk.pwrite(fd, b"new", 0)
        process.disk.fdatasync(fd)

    process.at_disk_call(1, lambda: process.machine.power_loss(Loss.LOST), "fdatasync")
    process.loop.call_soon(work)
    world.run(S)
    assert shown(process.machine.disk) == b"old"


def test_the_dead_neither_read_nor_write_but_may_close() -> None:
    _, process = one()
    fd = make_file(process, b"abc")
    process.kill()
    disk = process.disk
    for call in (
        lambda: disk.pread(fd, 1, 0),
        lambda: disk.pread_cached(fd, 1, 0),
        lambda: disk.pwrite(fd, b"x", 0),
        lambda: disk.fdatasync(fd),
        lambda: disk.truncate(fd, 0),
        lambda: disk.remove(FILE),
        lambda: disk.sync_folder(FILE.parent),
    ):
        with pytest.raises(Killed):
            call()
    disk.close(fd)
    assert shown(process.machine.disk) == b"abc"
