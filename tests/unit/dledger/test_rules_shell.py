"""What the shell owes the core: whose word it is, what is written when, what goes with an office.

Each of these rules was broken by a mutant that no other quick test noticed (docs/testing.md).
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ledgermq.dledger.disk import Disk
from ledgermq.dledger.errors import DamagedError, InvariantError
from ledgermq.dledger.host import Host
from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.dledger.raft import events as ev
from ledgermq.dledger.raft.messages import Heartbeat, Seed, VoteReply
from ledgermq.dledger.rpc import codec
from ledgermq.dledger.seeding import Seeding, SeedReceiver
from ledgermq.dledger.store.member_store import MemberStore
from ledgermq.dledger.store.snapshots import Snapshot
from ledgermq.dledger.timers import Timers
from ledgermq.dledger.upkeep import Upkeep
from ledgermq.remoting.errors import FrameError
from tests.support import until
from tests.unit.dledger.group import Group, running
from tests.unit.dledger.logs import SEGMENT_BYTES, MortalDisk, PowerCut, append, entries

N0, N1, N2 = (NodeId(f"n{i}") for i in range(3))
BODIES = [bytes([65 + i]) * 900 for i in range(10)]


def nothing(*_: Any) -> None:
    return None


def opened(folder: Path, disk: Disk | None = None) -> MemberStore:
    host = Host(disk=disk) if disk is not None else Host()
    return MemberStore(
        folder, None, group="G", self_id="n0", segment_bytes=SEGMENT_BYTES, host=host
    )


# --- the office -----------------------------------------------------------------------------------


async def test_what_was_staged_goes_with_the_office(tmp_path: Path) -> None:
    """A record of an earlier term must not be written behind what the next leader sends."""
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        end = leader.put(b"before")
        await group.committed(end)
        ledger, term = leader.log.ledger, leader.log.core.term
        other = group.followers(leader)[0].id
        leader.put(b"never written")
        reply = VoteReply(other, term + 1, term + 1, granted=False, pre=False)
        leader.log._step(ev.Received(reply))
        assert not leader.log.is_leader
        assert (ledger.staged_index, ledger.end_index) == (end, end)
        following = await group.leader()
        last = following.put(b"after")
        found = await group.agree(last)
        assert b"never written" not in [body for _, body in found]


async def test_nobody_speaks_for_another(tmp_path: Path) -> None:
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        me, other = group.followers(leader)
        message = Heartbeat(other.id, 99, -1, 1)
        frame = codec.decode(codec.encode_message(message)[4:])
        with pytest.raises(FrameError, match=f"{leader.id} sent a message of {other.id}"):
            me.log._on_frame(leader.id, frame)
        assert me.log.core.term < 99


def test_a_flipped_bit_in_a_frame_is_never_a_message() -> None:
    frame = codec.encode_message(Heartbeat(N1, 4, 7, 2))[4:]
    for at in range(len(frame)):
        for bit in range(8):
            flipped = bytearray(frame)
            flipped[at] ^= 1 << bit
            with pytest.raises(FrameError):
                codec.decode(bytes(flipped))


async def test_damage_that_a_read_has_met_is_known_at_the_next_start(tmp_path: Path) -> None:
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        await group.committed(leader.put(b"x" * 100))
        member = group.followers(leader)[0]
        path = member.log.ledger.data.path_of(0)
        member.log._stop(DamagedError(path, 100, "a bit has flipped"))
        assert [str(e) for e in member.stops] == [f"{path}: damaged at byte 100: a bit has flipped"]
        await member.close()
        again = member.make()
        assert again.core.standing is Standing.DAMAGED
        await again.close()


# --- snapshots and the log's begin ----------------------------------------------------------------


class Bench:
    """An `Upkeep` on a real store; the rest does as it is told."""

    def __init__(self, folder: Path, *, commit: int, synced: int) -> None:
        self.store = opened(folder)
        append(self.store.ledger, BODIES)
        self.events: list[ev.Event] = []
        self.core: Any = SimpleNamespace(commit=commit, standing=Standing.MEMBER)
        self.flusher: Any = SimpleNamespace(synced=synced, request=nothing, settle=nothing)
        self.readers = ThreadPoolExecutor(1)
        self.upkeep = Upkeep(
            self.store,
            self.core,
            self.flusher,
            Timers(nothing),
            self.readers,
            step=self.events.append,
            stop=nothing,
        )

    def close(self) -> None:
        self.readers.shutdown()
        self.store.close(None)


async def test_a_snapshot_waits_until_the_log_is_durable_so_far(tmp_path: Path) -> None:
    bench = Bench(tmp_path, commit=9, synced=3)
    await bench.upkeep.save_snapshot(Snapshot(3, 1, b"at 3", complete=True))
    assert bench.store.snapshots.index == 3
    saving = asyncio.ensure_future(
        bench.upkeep.save_snapshot(Snapshot(7, 1, b"at 7", complete=True))
    )
    for synced in (5, 6):
        bench.upkeep.on_synced(synced)
        # Whatever was begun on that one thread is over after these.
        for _ in range(2):
            await asyncio.get_running_loop().run_in_executor(bench.readers, nothing)
        assert bench.store.snapshots.index == 3, "a loss of power may still take 7"
    bench.upkeep.on_synced(8)
    await until(lambda: bench.store.snapshots.index == 7, what="the snapshot")
    await saving
    bench.close()


@pytest.mark.parametrize(
    ("snapshot", "commit", "moves"),
    [
        pytest.param(None, 9, False, id="no snapshot"),
        pytest.param(2, 9, False, id="one that ends too early"),
        pytest.param(3, 9, True, id="one that ends just before"),
        pytest.param(9, 2, False, id="not committed"),
        pytest.param(9, 3, True, id="just committed"),
    ],
)
async def test_nothing_goes_that_no_snapshot_holds(
    snapshot: int | None, commit: int, moves: bool, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, commit=commit, synced=9)
    if snapshot is not None:
        await bench.upkeep.save_snapshot(Snapshot(snapshot, 1, b"", complete=True))
    if moves:
        bench.upkeep.move_begin(4)
        assert (bench.store.ledger.begin.index, bench.events) == (4, [ev.BeginMoved(4)])
    else:
        with pytest.raises(InvariantError, match="the log cannot begin at 4"):
            bench.upkeep.move_begin(4)
        assert (bench.store.ledger.begin.index, bench.events) == (0, [])
        assert len(entries(bench.store.ledger)) == len(BODIES)
    bench.close()


# --- re-seeding -----------------------------------------------------------------------------------


def seed(offset: int, *, total: int = 6, session: int = 1, sender: NodeId = N1) -> Seed:
    return Seed(sender, 5, session, 99, 4, 8 * SEGMENT_BYTES, 77, 120, 5, total, offset)


def test_a_snapshot_is_put_together_from_its_own_pieces_only() -> None:
    receiver = SeedReceiver()
    assert receiver.take(seed(0), b"abc") == 3
    # The connection broke, and the leader has another snapshot of the same index by now.
    assert receiver.take(seed(0, session=2), b"xyz") == 3
    assert receiver.whole(seed(0, session=2)) is None
    assert receiver.take(seed(3, session=2), b"uvw") == 6
    assert receiver.whole(seed(3, session=2)) == Snapshot(120, 5, b"xyzuvw", complete=False)


def test_the_end_of_one_does_not_complete_another() -> None:
    receiver = SeedReceiver()
    receiver.take(seed(0), b"abc")
    assert receiver.take(seed(3, sender=N2), b"uvw") == 0
    assert receiver.whole(seed(3, sender=N2)) is None


def test_a_piece_that_comes_twice_or_too_early_is_not_added() -> None:
    receiver = SeedReceiver()
    assert receiver.take(seed(3), b"def") == 0
    assert receiver.take(seed(0), b"abc") == 3
    assert receiver.take(seed(0), b"abc") == 3
    assert receiver.take(seed(3), b"def") == 6
    whole = receiver.whole(seed(3))
    assert whole is not None
    assert whole.payload == b"abcdef"


def test_a_crash_during_re_seeding_leaves_the_log_or_the_snapshot(tmp_path: Path) -> None:
    """There is never an emptied log without the state that was before it."""
    cut, calls, ends = True, 0, set()
    while cut:
        folder = tmp_path / str(calls)
        store = opened(folder)
        append(store.ledger, BODIES)
        store.ledger.save_mark(3)
        store.close(3)
        cut = interrupted(folder, calls)
        store = opened(folder)
        begin, snapshot = store.ledger.begin.index, store.snapshots.newest
        assert store.ledger.damage is None, calls
        if begin == 0:
            assert [body for _, body in entries(store.ledger)] == BODIES, calls
        else:
            assert (begin, store.ledger.end_index) == (100, 99), calls
            assert snapshot == Snapshot(120, 5, b"abcdef", complete=False), calls
        ends.add(begin)
        store.close(None)
        calls += 1
    assert ends == {0, 100}


def receiver(
    store: MemberStore, hear: Callable[[object], None], settle: Callable[[], None]
) -> Seeding:
    """The follower's side; `hear` is told of steps and of the snapshot."""
    return Seeding(
        N0,
        SimpleNamespace(term=5, wants_seed=lambda _: True),  # type: ignore[arg-type]
        store,
        SimpleNamespace(settle=nothing, cut=nothing),  # type: ignore[arg-type]
        SimpleNamespace(send=nothing),  # type: ignore[arg-type]
        Timers(nothing),
        step=hear,
        settle=settle,
        on_seeded=hear,
    )


def interrupted(folder: Path, calls: int) -> bool:
    """Re-seed on a disk that takes so many changes; whether the process ended in between."""
    disk = MortalDisk()
    store = opened(folder, disk)
    heard: list[object] = []
    seeding = receiver(store, heard.append, nothing)
    disk.left = calls
    try:
        seeding.take(seed(0), b"abcdef")
    except PowerCut:
        assert heard == []
        return True
    else:
        assert heard == [ev.Seeded(1, 99, 4), Snapshot(120, 5, b"abcdef", complete=False)]
        return False
    finally:
        disk.close_all()


def test_a_seed_waits_for_the_snapshot_that_is_being_written(tmp_path: Path) -> None:
    """Two at once would take each other's half done files for litter."""
    store, order = opened(tmp_path), list[str]()
    save = store.snapshots.save
    store.snapshots.save = lambda snapshot: (order.append("kept"), save(snapshot))  # type: ignore[method-assign,assign]
    seeding = receiver(store, nothing, lambda: order.append("waited"))
    seeding.take(seed(0), b"abcdef")
    assert order == ["waited", "kept"]
    store.close(None)


async def test_a_snapshot_on_its_way_to_the_disk_is_waited_for(tmp_path: Path) -> None:
    store, go_on, order = opened(tmp_path), threading.Event(), list[str]()

    def slow(snapshot: Snapshot) -> None:
        go_on.wait(10)
        order.append(f"kept {snapshot.index}")

    store.snapshots.save = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as threads:
        upkeep = Upkeep(
            store,
            SimpleNamespace(),  # type: ignore[arg-type]
            SimpleNamespace(synced=9),  # type: ignore[arg-type]
            Timers(nothing),
            threads,
            step=nothing,
            stop=nothing,
        )
        upkeep.settle()
        saving = asyncio.create_task(upkeep.save_snapshot(Snapshot(7, 1, b"", complete=True)))
        await asyncio.sleep(0)
        threading.Timer(0.05, go_on.set).start()
        upkeep.settle()
        assert order == ["kept 7"]
        await saving
        upkeep.settle()
    store.close(None)
