"""Three members with real sockets and files: replication, failover, catching up, refusals."""

import asyncio
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ledgermq.dledger.errors import CallerError, InvariantError
from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.rpc import codec
from ledgermq.dledger.rpc.codec import Kind
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store.snapshots import Snapshot
from tests.support import until
from tests.unit.dledger.group import NOOP, Group, errors_in, running


@pytest.mark.parametrize("sync_flush", [True, False])
async def test_all_members_hold_and_commit_the_same(tmp_path: Path, sync_flush: bool) -> None:
    async with running(Group(tmp_path, sync_flush=sync_flush)) as group:
        leader = await group.leader()
        bodies = [b"%04d" % i * 50 for i in range(2000)]
        for i, body in enumerate(bodies):
            leader.put(body)
            if i % 50 == 49:
                await asyncio.sleep(0)
        found = await group.agree(leader.log.ledger.end_index)
        assert [b for _, b in found if b != NOOP] == bodies
        assert len(leader.log.ledger.data.bases) > 3


async def test_another_leads_when_the_leader_closes(tmp_path: Path) -> None:
    async with running(Group(tmp_path)) as group:
        old = await group.leader()
        end = old.put(b"a", b"b")
        await group.committed(end)
        await old.close()
        new = await group.leader(other_than=old)
        end = new.put(b"c")
        await old.start()
        found = await group.agree(end)
        assert [b for _, b in found if len(b) == 1] == [b"a", b"b", b"c"]
        assert found[-1][0] > found[0][0]


async def test_leadership_is_handed_over(tmp_path: Path) -> None:
    async with running(Group(tmp_path)) as group:
        old = await group.leader()
        target = group.followers(old)[0]
        old.log.transfer(target.id)
        await until(lambda: target.leads, what="the target leads")
        with pytest.raises(InvariantError, match="does not lead"):
            old.log.stage(b"x")


async def test_what_must_go_before_a_hand_over_goes_before_it(tmp_path: Path) -> None:
    """The broker is asked, and what it stages then is in the log that the target takes over."""
    async with running(Group(tmp_path)) as group:
        old = await group.leader()
        target = group.followers(old)[0]
        old.before_hand_over = lambda: old.put(b"the last word")
        end = old.put(b"staged in the same turn")
        old.log.transfer(target.id)
        assert old.log.ledger.end_index == end + 1
        assert old.log.core.transferring
        await until(lambda: target.leads, what="the target leads")
        found = await group.agree(target.log.core.term_first_index)
        assert [b for _, b in found][-2:] == [b"the last word", NOOP]


async def test_the_leader_hears_how_full_the_followers_disks_are(tmp_path: Path) -> None:
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        fuller, other = group.followers(leader)
        leader.log.report_disk(40)
        assert leader.log.fullest_disk_percent() == 40
        other.log.report_disk(70)
        fuller.log.report_disk(86)
        await until(lambda: leader.log.fullest_disk_percent() == 86, what="the fullest one")
        assert (fuller.log.fullest_disk_percent(), other.log.fullest_disk_percent()) == (86, 70)
        await fuller.close()
        await until(lambda: leader.log.fullest_disk_percent() == 70, what="only the living count")


async def test_a_member_catches_up_from_the_leaders_files(tmp_path: Path) -> None:
    group = Group(tmp_path)
    for m in group:
        m.cache_bytes = 10_000
    async with running(group):
        leader = await group.leader()
        slow = group.followers(leader)[0]
        await slow.close()
        for i in range(400):
            end = leader.put(b"%d" % i * 200)
        await group.committed(end, [m for m in group if m is not slow])
        assert leader.log.cached_entries(1, end, 100) is None
        await slow.start()
        found = await group.agree(end)
        assert len([b for _, b in found if b != NOOP]) == 400
        assert not any(m.log._fetched for m in group)


async def test_entries_larger_than_a_push(tmp_path: Path) -> None:
    async with running(Group(tmp_path, segment_bytes=16 << 20)) as group:
        leader = await group.leader()
        big = os.urandom((4 << 20) + 70_000)
        end = leader.put(big, b"x", big)
        found = await group.agree(end)
        assert [b for _, b in found if b != NOOP] == [big, b"x", big]
        with pytest.raises(CallerError, match="16777217 bytes"):
            leader.log.reserve((16 << 20) + 1)


async def test_a_tail_that_nobody_else_has_is_cut(tmp_path: Path) -> None:
    group = Group(tmp_path)
    async with running(group):
        old = await group.leader()
        end = old.put(b"everywhere")
        await group.committed(end)
        for m in group.followers(old):
            await m.close()
        lost = old.put(*[b"nowhere else" * 100] * 60)
        await until(lambda: old.log.ledger.end_index == lost, what="written")
        await old.close()
        for m in group.followers(old):
            await m.start()
        new = await group.leader()
        end = new.put(b"after")
        await old.start()
        found = await group.agree(end)
        assert old.log.ledger.end_index == end
        assert b"nowhere else" * 100 not in {b for _, b in found}
        new.put(b"more")
        await group.agree(end + 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"group": "H"}, "it is of group 'H', this node of 'G'", id="another group"),
        pytest.param({"segment_bytes": 128 << 10}, "mappedFileSizeCommitLog", id="segment size"),
        pytest.param(
            {"raft": NodeId("n7")},
            "make dLegerPeers the same on all nodes of the group, and restart them",
            id="other members",
        ),
    ],
)
async def test_strangers_are_refused_and_the_group_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, object], reason: str
) -> None:
    group = Group(tmp_path)
    async with running(group):
        leader = await group.leader()
        stranger = group.followers(leader)[0]
        await stranger.close()
        name = change.get("raft")
        if isinstance(name, str):
            members = dict(stranger.config.members)
            members[NodeId(name)] = members.pop(stranger.id)
            raft = replace(
                stranger.config.raft, self_id=NodeId(name), voters=tuple(sorted(members))
            )
            change = {"raft": raft, "members": members}
        stranger.config = replace(stranger.config, folder=tmp_path / "other", **change)  # type: ignore[arg-type]
        await stranger.start()
        await until(
            lambda: all(
                any(side in t and reason in t for t in errors_in(caplog))
                for side in ("closed: refused", "refuses this node")
            ),
            what="both sides say why",
        )
        end = leader.put(b"x")
        await group.committed(end, [m for m in group if m is not stranger])
        assert not any(m.stops for m in group)
        mine = [t for t in errors_in(caplog) if "closed: refused" in t]
        assert len(mine) <= 4  # two members, two channels at most: not once a second


async def test_garbage_on_the_port_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Group(tmp_path)) as group:
        leader = await group.leader()
        host, port = leader.config.members[leader.id]
        hello = codec.encode(Kind.HELLO, ("G",))
        for junk in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff" * 100,
            bytes(100),
            hello,
            codec.encode(Kind.HEARTBEAT, ("n1", 99, 1, 1)),
            (1 << 20).to_bytes(4) + b"x" * (128 << 10),
        ):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(junk)
            # Closed by the other side; a reset is as good.
            with pytest.raises((ConnectionError, AssertionError)):
                assert await asyncio.wait_for(reader.read(), 5)
            writer.close()
        end = leader.put(b"x")
        await group.committed(end)
        assert leader.log.core.term == group.followers(leader)[0].log.core.term
        assert not any(m.stops for m in group)
        assert any("over the limit" in t for t in errors_in(caplog))


def open_fds() -> int:
    fds = Path("/proc/self/fd")
    return len(list(fds.iterdir())) if fds.exists() else 0


async def test_close_can_be_repeated_and_leaves_nothing(tmp_path: Path) -> None:
    group = Group(tmp_path)
    before = open_fds()
    async with running(group):
        leader = await group.leader()
        await group.committed(leader.put(b"x"))
        leader.put(b"staged in this very tick")
        await asyncio.gather(*(m.close() for m in group))
        await asyncio.gather(*(m.close() for m in group))
        assert leader.stops == []
        assert len(asyncio.all_tasks()) == 1
        names = [t.name for t in threading.enumerate()]
        assert not [n for n in names if n.startswith(("fsync", "read"))]
        handles = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert not [h for h in handles if not h.cancelled()]
        await until(lambda: open_fds() <= before, what="descriptors closed")


async def test_who_has_left_hears_nothing_and_can_still_keep_a_snapshot(tmp_path: Path) -> None:
    """Until `close` the broker keeps what it has; nothing may come in between."""
    group = Group(tmp_path)
    async with running(group):
        leader = await group.leader()
        gone, other = group.followers(leader)
        first = leader.put(b"before")
        await group.committed(first)
        await gone.log.leave()
        leader.put(b"after", b"and again")
        await group.committed(first + 2, [leader, other])
        assert gone.log.ledger.end_index == first
        await gone.log.save_snapshot(Snapshot(first, 1, b"state", complete=True))
        assert gone.log.snapshots.newest.payload == b"state"
        data, _ = await gone.log.read_entries(first, first, 1000)
        assert data.endswith(b"before")
        await gone.close()
        await gone.start()
        await group.agree(first + 2)
        assert not gone.stops


async def test_a_port_in_use_is_said_and_the_store_let_go(tmp_path: Path) -> None:
    group = Group(tmp_path)
    first = group.members[NodeId("n0")]
    with socket.create_server(first.config.members[first.id]):
        with pytest.raises(OSError, match="address"):
            await first.start()
        await first.close()
    await first.start()
    await first.close()


async def test_a_server_that_never_started_closes(tmp_path: Path) -> None:
    member = Group(tmp_path, count=1).members[NodeId("n0")]
    member.make()
    await member.close()
    member.make()
    await member.close()


async def test_a_single_member_leads_itself(tmp_path: Path) -> None:
    async with running(Group(tmp_path, count=1)) as group:
        leader = await group.leader()
        end = leader.put(b"a")
        await group.committed(end)
        assert isinstance(leader.log, LogServer)
        offset = leader.log.ledger.index.get(end)
        assert offset is not None
        assert await leader.log.read_at(offset.pos + 48, 1) == b"a"
        assert leader.log.address_of(NodeId("n0")) == "127.0.0.1:1"
        assert leader.log.address_of(NodeId("n9")) is None
        assert leader.log.has_lease()
