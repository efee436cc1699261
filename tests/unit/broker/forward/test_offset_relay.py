"""Consumer offsets that come with pulls, on their way to a leader that may be gone or stuck."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker import forward, offset_relay
from ledgermq.broker.forward import HOP_FIELD
from ledgermq.broker.offset_relay import OffsetRelay
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import OnReply
from ledgermq.remoting.errors import LedgerMQError, RequestTimeoutError
from tests.support import until
from tests.support.brokers import Brokers, pull_request, send_request

COMMIT, SUBSCRIPTION = 1, 4
TIMEOUT = RequestTimeoutError("leader:1", 15, 3000)


class Link:
    """The leader, answering when told."""

    def __init__(self) -> None:
        self.open = True
        self.asked: list[tuple[RemotingCommand, OnReply]] = []

    def call(self, command: RemotingCommand, _timeout_ms: int, on_reply: OnReply) -> None:
        self.asked.append((command, on_reply))

    def offsets(self) -> list[tuple[str, int]]:
        return [(c.ext["topic"], int(c.ext["commitOffset"])) for c, _ in self.asked]

    def answer(self, outcome: Any = 0) -> None:
        asked, self.asked = self.asked, []
        for _, on_reply in asked:
            on_reply(response(outcome) if isinstance(outcome, int) else outcome)


class Bench:
    def __init__(self) -> None:
        self.link = Link()
        self.leads = False
        self.applied: list[tuple[str, str, int, int]] = []
        self.relay = OffsetRelay(
            lambda: self.link if self.link.open else None,  # type: ignore[arg-type,return-value]
            may_apply=lambda: self.leads,
            apply=lambda *moved: self.applied.append(moved),
            mark=lambda command: command.ext.update({HOP_FIELD: "1"}),
        )


@pytest.fixture
async def bench() -> Any:
    made = Bench()
    yield made
    made.relay.close()


async def test_sent_at_once_and_only_forwarded_once(bench: Bench) -> None:
    bench.relay.put("CG", "T", 0, 7)
    assert bench.link.offsets() == [("T", 7)]
    assert bench.link.asked[0][0].ext[HOP_FIELD] == "1"
    assert bench.relay.busy
    bench.link.answer()
    assert not bench.relay.busy


async def test_without_a_leader_the_newest_of_each_queue_waits(bench: Bench) -> None:
    bench.link.open = False
    for offset in range(5):
        bench.relay.put("CG", "T", 0, offset)
        bench.relay.put("CG", "U", 0, offset)
    bench.link.open = True
    bench.relay.flush()
    assert bench.link.offsets() == [("T", 4), ("U", 4)]


async def test_more_than_the_bound_drops_the_oldest_and_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(offset_relay, "MAX_WAITING", 3)
    bench.link.open = False
    for i in range(10):
        bench.relay.put("CG", f"T{i}", 0, i)
    assert bench.relay.dropped == 7
    assert caplog.text.count("no leader takes consumer offsets") == 1
    bench.link.open = True
    bench.relay.flush()
    assert bench.link.offsets() == [("T7", 7), ("T8", 8), ("T9", 9)]


async def test_what_is_under_way_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_relay, "MAX_UNDER_WAY", 2)
    for i in range(5):
        bench.relay.put("CG", f"T{i}", 0, i)
    assert len(bench.link.asked) == 2
    bench.link.answer()
    await until(lambda: len(bench.link.asked) == 2, what="the next two")


@pytest.mark.parametrize("outcome", [14, 2, TIMEOUT, LedgerMQError("lost")])
async def test_what_the_leader_did_not_take_is_sent_again(bench: Bench, outcome: Any) -> None:
    bench.relay.put("CG", "T", 0, 7)
    bench.link.answer(outcome)
    await until(lambda: bench.link.asked, what="the repetition")
    assert bench.link.offsets() == [("T", 7)]


async def test_a_refusal_is_final(bench: Bench) -> None:
    bench.relay.put("CG", "T", 0, 7)
    bench.link.answer(17)
    assert not bench.relay.busy


async def test_an_older_one_that_got_lost_does_not_undo_a_newer_one(bench: Bench) -> None:
    bench.relay.put("CG", "T", 0, 7)
    bench.relay.put("CG", "T", 0, 8)
    (_, lost), (_, taken) = bench.link.asked
    bench.link.asked.clear()
    taken(response(0))
    lost(TIMEOUT)
    assert not bench.relay.busy


async def test_an_offset_goes_when_its_consumer_has_committed_by_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offset_relay, "HOLD_MS", 50)
    bench.link.open = False
    bench.relay.put("CG", "T", 0, 7)
    await until(lambda: not bench.relay.busy, what="the end of its time")
    assert bench.relay.dropped == 1


async def test_a_node_that_leads_by_now_keeps_it(bench: Bench) -> None:
    bench.link.open = False
    bench.relay.put("CG", "T", 3, 7)
    bench.leads = True
    bench.relay.flush()
    assert bench.applied == [("CG", "T", 3, 7)]
    assert not bench.relay.busy


# --- in a group -------------------------------------------------------------------------------


def commit(offset: int) -> RemotingCommand:
    return pull_request("T", 0, sys_flag=COMMIT | SUBSCRIPTION, commit_offset=offset)


async def test_an_offset_that_comes_while_leadership_is_handed_over(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        leader = await group.leader()
        await group.followers()
        leader.gate.closed = True  # as `_hand_over` does
        leader.node.flush_offsets()
        await group.ask(leader, commit(5))
        leader.log.transfer()
        fresh = await group.leader(other_than=leader)
        await until(lambda: fresh.metadata.offset("CG", "T", 0) == 5, what="the offset")
        await until(lambda: not leader.gate.busy, what="its confirmation")


async def test_a_hand_over_that_fails_keeps_the_offset_here(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        leader = await group.leader()
        leader.gate.closed = True
        await group.ask(leader, commit(5))
        assert leader.gate.holding
        leader._open_gate()
        await until(lambda: leader.metadata.offset("CG", "T", 0) == 5, what="the offset")


async def test_a_leader_without_a_successor_keeps_the_offset(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        leader = await group.leader()
        leader.gate.closed = True
        await group.ask(leader, commit(5))
        leader.gate.keep_offsets()
        leader.node.flush_offsets()
        await until(lambda: leader.metadata.offset("CG", "T", 0) == 5, what="the offset")


async def test_a_stop_loses_no_offset_of_an_answered_pull(tmp_path: Path) -> None:
    """Design 14: a SIGTERM loses nothing."""
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        leader = await group.leader()
        await group.followers()
        answered = 0

        async def consume() -> None:
            nonlocal answered
            while True:
                await group.ask(leader, commit(answered + 1))
                answered += 1

        consumer = asyncio.create_task(consume())
        await until(lambda: answered > 50, what="a consumer at work")
        await group.stop(leader.config.dleger_self_id)
        with pytest.raises(LedgerMQError):
            await consumer
        fresh = await group.leader(other_than=leader)
        await until(lambda: fresh.node.query_offset("CG", "T", 0) is not None)
        # The one under way when the connection closed was not answered; it may be there, too.
        assert fresh.node.query_offset("CG", "T", 0) in (answered, answered + 1)


async def test_a_leader_that_does_not_read_costs_a_bounded_amount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One-ways and offsets on a half-open link; after a while it is cut off."""
    monkeypatch.setattr(forward, "_MAX_BACKLOG_BYTES", 1 << 20)
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        follower = (await group.followers())[0]
        await group.send("T", app=follower)  # the link is open now
        link = follower.gate._link()
        assert link is not None
        transport = link._transport
        assert transport is not None
        monkeypatch.setattr(transport, "write", lambda data: None)  # nothing leaves
        monkeypatch.setattr(transport, "get_write_buffer_size", lambda: 2 << 20)
        for i in range(20):
            await group.client.oneway(follower.config.address, send_request("T", b"x" * 100_000))
            await group.ask(follower, commit(i))
        assert follower.gate.dropped == 20
        assert link.backlog_bytes == 2 << 20
        assert follower.gate._offsets.busy
        assert (await group.ask(follower, send_request("T"))).code == 2
        monkeypatch.setattr(forward, "_SILENCE_MS", 0)
        await until(lambda: link.closed, what="the link to be cut off")
        await until(lambda: follower.gate._link() is not None, what="a new link")
        assert await group.send("T", app=follower) == 1
        await until(lambda: not follower.gate.busy, what="the offset to arrive")
        leader = await group.leader()
        assert leader.node.query_offset("CG", "T", 0) == 19
