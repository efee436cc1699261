"""What the disk does to a group: slow, full, failing; what counts as durable."""

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import DiskFullError
from ledgermq.dledger.flusher import Flusher
from ledgermq.dledger.ids import NodeId
from tests.support import until
from tests.unit.dledger.group import Group, Member, errors_in, running
from tests.unit.dledger.logs import append, entries, flip, open_small, place


class Disk:
    """Decides by the path of a descriptor what `fdatasync` and `pwrite` do."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.slow: set[str] = set()
        self.full: set[str] = set()
        self.broken: set[str] = set()
        self._pwrite, self._fdatasync = os.pwrite, os.fdatasync

    def _is(self, names: set[str], fd: int) -> bool:
        path = str(Path(f"/proc/self/fd/{fd}").readlink())
        return any(f"/{name}/data/" in path for name in names)

    def pwrite(self, fd: int, data: Any, at: int) -> int:
        if self.full and self._is(self.full, fd):
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._pwrite(fd, data, at)

    def fdatasync(self, fd: int) -> None:
        if self.slow and self._is(self.slow, fd):
            assert self.open.wait(20)
        if self.broken and self._is(self.broken, fd):
            raise OSError(errno.EIO, "Input/output error")
        self._fdatasync(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    disk = Disk()
    monkeypatch.setattr(OsDisk, "pwrite", staticmethod(disk.pwrite))
    monkeypatch.setattr(OsDisk, "fdatasync", staticmethod(disk.fdatasync))
    yield disk
    disk.open.set()


async def test_no_commit_before_a_majority_has_synced(tmp_path: Path, disk: Disk) -> None:
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        end = leader.put(b"before")
        await group.committed(end)
        disk.open.clear()
        disk.slow = {leader.id, group.followers(leader)[0].id}
        end = leader.put(b"after")
        await until(lambda: all(m.log.ledger.end_index == end for m in group), what="written")
        fast = group.followers(leader)[1]
        await until(lambda: leader.log.core.match_of(fast.id) == end, what="one has synced")
        assert all(m.log.core.commit == end - 1 for m in group)
        disk.open.set()
        await group.committed(end)


async def test_async_flush_does_not_wait_for_the_disk(tmp_path: Path, disk: Disk) -> None:
    async with running(Group(tmp_path, sync_flush=False)) as group:
        leader = await group.leader()
        disk.open.clear()
        disk.slow = {m.id for m in group}
        end = leader.put(b"x")
        await group.committed(end)
        disk.open.set()


async def test_a_full_follower_takes_nothing_and_comes_back(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledgermq.dledger.server._DISK_FULL_RETRY_S", 0.05)
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        await group.committed(leader.put(b"x"))
        full = group.followers(leader)[0]
        held = full.log.ledger.end_index
        disk.full = {full.id}
        end = leader.put(b"a" * 1000, b"b")
        await group.committed(end, [m for m in group if m is not full])
        assert full.log.ledger.end_index == held == full.log.core.log.last_index
        assert await full.all_entries(held) == (await leader.all_entries(end))[: held + 1]
        disk.full.clear()
        await group.agree(end)
        assert not any(m.stops for m in group)


async def test_a_full_leader_refuses_and_hands_over(tmp_path: Path, disk: Disk) -> None:
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        end = leader.put(b"x")
        await group.committed(end)
        disk.full = {leader.id}
        leader.put(b"refused")
        await until(lambda: leader.failed, what="the refusal")
        assert isinstance(leader.failed[0], DiskFullError)
        assert leader.log.ledger.end_index == end
        other = await group.leader(other_than=leader)
        end = other.put(b"taken")
        disk.full.clear()
        found = await group.agree(end)
        assert found[-1][1] == b"taken"
        assert not any(m.stops for m in group)


async def test_a_leader_without_room_for_its_first_entry_tries_again(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ledgermq.dledger.appends._DISK_FULL_RETRY_S", 0.05)
    disk.full = {"n0", "n1", "n2"}
    async with running(Group(tmp_path)) as group:
        await until(lambda: any("cannot lead yet" in t for t in errors_in(caplog)), what="said")
        disk.full.clear()
        leader = await group.leader()
        await group.agree(leader.put(b"x"))


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_a_failed_sync_stops_the_node_and_the_others_go_on(
    tmp_path: Path, disk: Disk, role: str
) -> None:
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        end = leader.put(b"x")
        await group.committed(end)
        bad = leader if role == "leader" else group.followers(leader)[0]
        disk.broken = {bad.id}
        leader.put(b"y")
        await until(lambda: bad.stops, what="the node stops")
        assert "fdatasync failed" in str(bad.stops[0])
        disk.broken.clear()
        await bad.close()
        leader = await group.leader()
        await group.committed(leader.put(b"z"))
        await bad.start()  # the lock is free; what was not synced is written again
        await group.agree(leader.log.ledger.end_index)


async def test_a_flipped_bit_stops_the_leader_not_its_followers(tmp_path: Path) -> None:
    group = Group(tmp_path)
    for m in group:
        m.cache_bytes = 1000
    async with running(group):
        leader = await group.leader()
        behind = group.followers(leader)[0]
        await behind.close()
        end = leader.put(*[b"%d" % i * 100 for i in range(50)])
        await group.committed(end)
        leader.put(*[b"x" * 900] * 3)
        await group.committed(end + 3)
        path, at, _ = place(leader.log.ledger, 20)
        flip(path, at + 60)
        await behind.start()
        await until(lambda: leader.stops, what="the leader stops")
        assert str(path) in str(leader.stops[0])
        new = await group.leader(other_than=leader)
        await group.committed(new.put(b"y"), [m for m in group if m is not leader])


async def test_entries_that_do_not_continue_the_log_stop_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ledgermq.dledger.server._DISK_FULL_RETRY_S", 0.05)
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        await group.committed(leader.put(b"x"))
        real = type(leader.log.ledger).cached_entries
        spoiled: list[bytes] = []

        def cached_entries(*args: Any) -> Any:
            found = real(*args)
            if found is None or spoiled:
                return found
            spoiled.append(found[0])
            return found[0][:-1] + b"?", found[1]

        monkeypatch.setattr(
            leader.log.ledger, "cached_entries", cached_entries.__get__(leader.log.ledger)
        )
        end = leader.put(b"y")
        await group.agree(end)
        assert any("checksum differs" in t for t in errors_in(caplog))
        assert not any(m.stops for m in group)


async def test_an_unforeseen_error_stops_the_node(tmp_path: Path) -> None:
    group = Group(tmp_path, count=1)
    member: Member = group.members[NodeId("n0")]
    async with running(group):
        leader = await group.leader()

        def fails(_: int) -> None:
            raise ValueError("a mistake in the broker")

        log = member.log
        log._callbacks = replace(log._callbacks, on_commit=fails)
        leader.put(b"x")
        await until(lambda: member.stops, what="the node stops")
        assert "a mistake in the broker" in str(member.stops[0])
        assert not log._timers


# --- the flusher alone ----------------------------------------------------------------------------


async def test_a_sync_that_ends_after_a_cut_proves_nothing(tmp_path: Path, disk: Disk) -> None:
    ledger = open_small(tmp_path / "n0")
    durable: list[int] = []
    flusher = Flusher(ledger, on_durable=durable.append, on_failure=pytest.fail)
    append(ledger, [b"a", b"b", b"c"])
    flusher.request()
    flusher.settle()
    ledger.truncate(1)
    flusher.cut(0)
    append(ledger, [b"x"], term=2)
    flusher.request()
    await until(lambda: durable, what="the second sync")
    assert durable == [1]
    flusher.close()
    ledger.close(0)


async def test_what_comes_during_a_sync_joins_the_next(tmp_path: Path, disk: Disk) -> None:
    ledger = open_small(tmp_path / "n0")
    durable: list[int] = []
    flusher = Flusher(ledger, on_durable=durable.append, on_failure=pytest.fail)
    disk.slow = {"n0"}
    disk.open.clear()
    for body in (b"a", b"b", b"c"):
        append(ledger, [body])
        flusher.request()
    disk.open.set()
    await until(lambda: durable[-1:] == [2], what="all synced")
    assert durable == [0, 2]
    flusher.request_mark(1)
    flusher.request_mark(1)
    await until(lambda: ledger.marks.mark.index == 2, what="the mark")
    flusher.close()
    ledger.close(0)


async def test_a_flusher_that_is_closed_does_nothing_more(tmp_path: Path, disk: Disk) -> None:
    ledger = open_small(tmp_path / "n0")
    durable: list[int] = []
    flusher = Flusher(ledger, on_durable=durable.append, on_failure=pytest.fail)
    append(ledger, [b"a"])
    flusher.request()
    append(ledger, [b"b"])
    flusher.close()
    await until(lambda: durable == [0], what="the sync under way")
    flusher.request()
    flusher.request_mark(0)
    assert entries(ledger) == [(1, b"a"), (1, b"b")]
    ledger.close(0)
