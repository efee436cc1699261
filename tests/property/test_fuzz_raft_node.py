"""Running members of a group under frames of any kind, while entries go on being committed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from ledgermq.dledger.ids import NONE, NodeId, Standing
from ledgermq.dledger.raft.messages import (
    Heartbeat,
    HeartbeatReply,
    Push,
    PushReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from ledgermq.dledger.rpc import codec, link
from ledgermq.dledger.rpc.codec import Channel, Hello, Kind
from ledgermq.dledger.store import entry
from tests.support import until
from tests.support.fuzz import Attacked, Stranger, attacked, mutated, profiles
from tests.unit.dledger.group import Group, Member

# Connections that may be left: those of the members, and one that is just closing.
LEFT_OVER = 8


class Target:
    """A group whose members a liar meets; any of them may lead."""

    def __init__(self, folder: Path) -> None:
        self.group = Group(folder)

    async def start(self) -> "Target":
        await asyncio.gather(*(m.start() for m in self.group))
        leader = await self.group.leader()
        await self.group.committed(leader.put(b"good"))
        return self

    async def stop(self) -> None:
        await asyncio.gather(*(m.close() for m in self.group))

    async def victim(self, leads: bool) -> Member:
        leader = await self.group.leader()
        return leader if leads else self.group.followers(leader)[0]

    async def well(self) -> None:
        """Nobody stopped, entries are committed by all, nothing piled up."""
        assert [m.stops for m in self.group] == [[], [], []]

        async def committed() -> bool:
            leader = await self.group.leader()
            index = leader.put(b"good")
            for _ in range(200):
                if all(m.log.core.commit >= index for m in self.group):
                    return True
                if not leader.leads:
                    return False
                await asyncio.sleep(0.005)
            return False

        await until(committed, what="an entry on all members")
        for member in self.group:
            server = member.log._peers._server
            await until(lambda s=server: len(s._wires) <= LEFT_OVER, what="connections to close")
            assert all(w.decoder._splitter._have == 0 for w in server._current.values())
            await until(lambda s=server: not s._strangers, what="strangers to be gone")
            assert len(server._complaints) <= link._MAX_COMPLAINTS


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One group for all the attacks of this file."""
    made = Target(tmp_path_factory.mktemp("group"))
    with attacked(made.start, Target.stop) as running:
        yield running


def hello(victim: Member, liar: NodeId, channel: int) -> bytes:
    config = victim.config
    return codec.encode_hello(
        Kind.HELLO,
        Hello(
            "G",
            liar,
            victim.id,
            channel,
            "boot",
            "store",
            config.segment_bytes,
            "127.0.0.1:1",
            ";".join(config.members),
        ),
    )


def liar_of(victim: Member) -> NodeId:
    """A follower of the group where there is one: its connections are taken over for a while."""
    leader = victim.log.core.leader
    others = [v for v in victim.config.raft.voters if v not in (victim.id, leader)]
    return others[-1]


@asynccontextmanager
async def greeted(victim: Member, channel: int) -> AsyncIterator[Stranger]:
    """A connection that has been let in as another member's."""
    liar = liar_of(victim)
    stranger = await Stranger.dial(victim.config.members[victim.id][1])
    try:
        await stranger.say(hello(victim, liar, channel))
        await stranger.hear()
        yield stranger
    finally:
        await stranger.leave()


# --- bytes ------------------------------------------------------------------------------------

numbers = st.sampled_from([-2, -1, 0, 1, 2, 3, 5, 100, 1 << 32, (1 << 63) - 1, 1 << 63])


def shapes(cls: type) -> st.SearchStrategy[list[Any]]:
    """The head of a message but its sender: right types, or almost."""
    kinds: dict[object, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: numbers,
        Standing: st.integers(0, 4),
    }
    runs = st.lists(st.lists(numbers, max_size=3), max_size=2)
    return st.tuples(*(kinds.get(f.type, runs) for f in fields(cls)[1:])).map(list)


MESSAGES = [VoteRequest, VoteReply, HeartbeatReply, PushReply]
# From others than the leader's connection these are no lies about the data; see below for them.
ORDERS = [Heartbeat, Push, TimeoutNow]
heads = st.sampled_from(MESSAGES + ORDERS).flatmap(
    lambda cls: st.tuples(st.just(codec._KIND_OF[cls]), shapes(cls))
)
odd = st.recursive(
    st.none() | st.booleans() | numbers.filter(lambda n: n < 1 << 63) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
anything = st.tuples(st.sampled_from(sorted(Kind)), st.lists(odd, max_size=9))
valid = anything.map(lambda f: codec.encode(f[0], tuple(f[1])))


@profiles(20, 2000)
def test_bytes_of_strangers(target: Attacked[Target], examples: int) -> None:
    raw = st.binary(max_size=100) | valid | mutated(valid)

    @target.given(examples, st.lists(raw, max_size=4), st.booleans())
    async def attack(t: Target, chunks: list[bytes], leads: bool) -> None:
        victim = await t.victim(leads)
        stranger = await Stranger.dial(victim.config.members[victim.id][1])
        for chunk in chunks:
            await stranger.say(chunk)
        await stranger.leave()
        await t.well()


@profiles(25, 2000)
def test_frames_of_one_who_was_let_in(target: Attacked[Target], examples: int) -> None:
    """Any frame, with right and wrong types: a near term costs an election, a far one nothing."""
    payloads = st.binary(max_size=120) | st.just(entry.encode(0, 1, 0, b"x", 0)[0] + b"x")

    @target.given(
        examples,
        st.lists(st.tuples(heads | anything, payloads), max_size=4),
        st.booleans(),
        st.sampled_from(Channel),
    )
    async def attack(
        t: Target, frames: list[tuple[Any, bytes]], leads: bool, channel: Channel
    ) -> None:
        victim = await t.victim(leads)
        async with greeted(victim, channel) as stranger:
            for (kind, head), payload in frames:
                values = [liar_of(victim), *head] if kind in codec._CLASS_OF else head
                try:
                    data = codec.encode(kind, tuple(values), payload)
                except OverflowError:  # no number of msgpack's
                    continue
                await stranger.say(data)
        await t.well()


def test_a_frame_that_never_ends_is_bounded(target: Attacked[Target]) -> None:
    async def attack(t: Target) -> None:
        victim = await t.victim(leads=True)
        port = victim.config.members[victim.id][1]
        stranger = await Stranger.dial(port)
        await stranger.say((1 << 17).to_bytes(4) + bytes(1 << 17))
        assert await stranger.hear() == b""  # a stranger's frame may have 64 KiB
        await stranger.leave()
        async with greeted(victim, Channel.DATA) as known:
            await known.say((codec.MAX_FRAME_BYTES + 1).to_bytes(4))
            assert await known.hear() == b""
        await t.well()

    target.run(attack(target.nodes))


def test_a_second_leader_of_the_term_is_hung_up_on(
    target: Attacked[Target], caplog: pytest.LogCaptureFixture
) -> None:
    """One frame of one who knows the group's name must not stop a node."""

    async def attack(t: Target) -> None:
        for leads in (True, False):
            victim = await t.victim(leads)
            liar, term = liar_of(victim), victim.log.core.term
            async with greeted(victim, Channel.CONTROL) as stranger:
                await stranger.say(codec.encode_message(Heartbeat(liar, term, NONE, 1)))
                assert await stranger.hear() == b""
            await t.well()

    target.run(attack(target.nodes))
    assert "leads in term" in caplog.text


@pytest.mark.parametrize("kind", [Heartbeat, VoteRequest, HeartbeatReply])
def test_the_last_of_all_terms_is_not_believed(target: Attacked[Target], kind: type) -> None:
    """After it no leader could ever be elected."""

    async def attack(t: Target) -> None:
        victim = await t.victim(leads=False)
        liar, last = liar_of(victim), (1 << 63) - 1
        message = {
            Heartbeat: Heartbeat(liar, last, NONE, 1),
            VoteRequest: VoteRequest(liar, last, last, 1 << 40, last, pre=False, forced=True),
            HeartbeatReply: HeartbeatReply(liar, last, 1),
        }[kind]
        before = max(m.log.core.term for m in t.group)
        async with greeted(victim, Channel.CONTROL) as stranger:
            await stranger.say(codec.encode_message(message))
            assert await stranger.hear() == b""
        # An election or two on a busy machine.
        assert max(m.log.core.term for m in t.group) < before + 100
        await t.well()

    target.run(attack(target.nodes))
