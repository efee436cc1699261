"""Followers pass a leader's requests on, once, and hold them while there is no leader."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker import forward
from ledgermq.broker.forward import CLIENT_FIELD, HOLD_FIELD, HOP_FIELD, Gate, client_address
from ledgermq.broker.node import Node
from ledgermq.dledger.raft.core import RaftCore
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import ONEWAY_FLAG, RemotingCommand, request
from ledgermq.remoting.errors import ConnectionLostError
from tests.support import until
from tests.support.brokers import Brokers, pull_all, send_request
from tests.support.cluster import reserve_port


async def test_followers_pass_on_and_the_client_stays_known(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        body = b'{"groupName":"CG"}'
        create = request(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, {}, body)
        for follower in await group.followers():
            assert (await group.ask(follower, create)).code == 0
            offset = await group.send("T", b"one", app=follower)
            fields = {"consumerGroup": "CG", "topic": "T", "queueId": "0"}
            update = {**fields, "commitOffset": str(offset + 1)}
            reply = await group.ask(follower, request(RequestCode.UPDATE_CONSUMER_OFFSET, update))
            assert reply.code == 0
            reply = await group.ask(follower, request(RequestCode.QUERY_CONSUMER_OFFSET, fields))
            assert reply.ext["offset"] == str(offset + 1)
            reply = await group.ask(follower, request(RequestCode.GET_MAX_OFFSET, fields))
            assert reply.ext["offset"] == str(offset + 1)
            mine = group.client.peek(follower.config.address)
            message = (await pull_all(group, "T"))[offset]
            assert mine is not None
            assert message.born_host == mine.local
            back = {"offset": str(message.physical_offset), "group": "CG", "delayLevel": "0"}
            reply = await group.ask(follower, request(RequestCode.CONSUMER_SEND_MSG_BACK, back))
            assert reply.code == 0, reply.remark
        assert len(await pull_all(group, "%RETRY%CG")) == 2


async def test_a_one_way_send_is_passed_on_without_an_answer(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        follower = (await group.followers())[0]
        await group.send("T", app=follower)  # the link is open now
        await group.client.oneway(follower.config.address, send_request("T", b"one-way"))
        leader = await group.leader()
        await until(lambda: leader.reader.max_offset("T", 0) == 2)


async def test_held_without_a_leader_then_released_by_the_next_one(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        leader = await group.leader()
        others = await group.followers()
        await group.crash(leader.config.dleger_self_id)
        replies = await asyncio.gather(*(group.ask(a, send_request("T")) for a in others))
        assert sorted(r.code for r in replies) == [0, 0]
        assert sorted(int(r.ext["queueOffset"]) for r in replies) == [0, 1]


async def test_held_without_a_leader_then_14_with_a_remark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        follower = (await group.followers())[0]
        for app in list(group.apps.values()):
            if app is not follower:
                await group.crash(app.config.dleger_self_id)
        await until(lambda: follower.log.core.leader is None)
        monkeypatch.setattr(forward, "HOLD_MS", 60)
        reply = await group.ask(follower, send_request("T"))
        assert reply.code == 14
        assert "name server" in (reply.remark or "")
        assert not follower.gate.busy


async def test_a_request_is_never_passed_on_twice(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        follower = (await group.followers())[0]
        command = send_request("T")
        command.ext.update({HOP_FIELD: "1", HOLD_FIELD: "30"})
        reply = await group.ask(follower, command)
        assert reply.code == 14
        assert (await group.leader()).reader.max_offset("T", 0) == 0


async def test_two_nodes_that_take_each_other_for_the_leader_do_not_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        a, b = await group.followers()
        others = {a.node: b.config.address, b.node: a.config.address}
        monkeypatch.setattr(Node, "leader_address", property(others.__getitem__))
        asked = 0
        forward_ = Gate._forward

        def count(self: Gate, link: Any, held: Any) -> None:
            nonlocal asked
            asked += 1
            forward_(self, link, held)

        a.gate._forward = count.__get__(a.gate)  # type: ignore[method-assign]
        b.gate._forward = count.__get__(b.gate)  # type: ignore[method-assign]
        command = send_request("T")
        command.ext[HOLD_FIELD] = "200"
        reply = await group.ask(a, command)
        assert reply.code == 14
        assert asked == 1


async def test_the_time_that_a_request_waited_counts_at_the_leader_too(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        leader = await group.leader()
        follower = (await group.followers())[0]
        await group.send("T", app=follower)
        seen: list[RemotingCommand] = []
        pass_on = leader.gate._pass_on
        leader.gate._pass_on = lambda held: (  # type: ignore[method-assign]
            seen.append(held.command),
            pass_on(held),
        )[0]
        leader.gate.closed = True
        command = send_request("T")
        command.ext[HOLD_FIELD] = "150"
        reply = await group.ask(follower, command)
        leader.gate.closed = False
        assert reply.code == 14
        assert 0 <= int(seen[0].ext[HOLD_FIELD]) <= 150
        assert seen[0].ext[HOP_FIELD] == "1"
        mine = group.client.peek(follower.config.address)
        assert mine is not None
        assert seen[0].ext[CLIENT_FIELD] == mine.local


async def test_what_is_under_way_to_a_leader_that_dies_is_answered_and_not_repeated(
    tmp_path: Path,
) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        leader = await group.leader()
        follower = (await group.followers())[0]
        await group.send("T", app=follower)
        leader.gate.closed = True  # it takes the request and does not answer
        asking = asyncio.create_task(group.ask(follower, send_request("T", b"lost?")))
        await until(lambda: leader.gate.holding)
        await group.crash(leader.config.dleger_self_id)
        reply = await asking
        assert reply.code == 1
        assert "may have been carried out" in (reply.remark or "")
        assert not follower.gate.busy
        await group.leader()
        assert [m.body for m in await pull_all(group, "T")] == [b"x"]


async def test_a_leader_without_its_lease_does_not_answer_14_and_30(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        app.log.has_lease = lambda: False  # type: ignore[method-assign]
        fields = {"consumerGroup": "CG", "topic": "T", "queueId": "0", HOLD_FIELD: "50"}
        for code in (RequestCode.QUERY_CONSUMER_OFFSET, RequestCode.GET_MAX_OFFSET):
            assert (await group.ask(app, request(code, fields))).code == 14
        # A send needs none: it is answered after its commit.
        assert await group.send("T") == 0
        asking = asyncio.create_task(
            group.ask(app, request(RequestCode.GET_MAX_OFFSET, {**fields, HOLD_FIELD: "2000"}))
        )
        await until(lambda: app.gate.holding)
        app.log.has_lease = lambda: True  # type: ignore[method-assign]
        assert (await asking).ext["offset"] == "1"


@pytest.mark.parametrize("bound", ["_MAX_HELD", "_MAX_HELD_BYTES"])
async def test_bounds_of_held_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(forward, bound, 3)
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        app.gate.closed = True
        asking = [asyncio.create_task(group.ask(app, send_request("T"))) for _ in range(8)]
        await until(lambda: sum(t.done() for t in asking) == 5)
        assert {t.result().code for t in asking if t.done()} == {2}
        app.gate.closed = False
        assert sorted(t.result().code for t in [*asking] if t.done()) == [2] * 5
        replies = await asyncio.gather(*asking)
        assert sorted(r.code for r in replies) == [0] * 3 + [2] * 5
        assert app.gate._held_bytes == 0


async def test_bounds_of_requests_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        leader = await group.leader()
        follower = (await group.followers())[0]
        await group.send("T", app=follower)
        leader.gate.closed = True
        monkeypatch.setattr(forward, "_MAX_HELD", 3)
        asking = [asyncio.create_task(group.ask(follower, send_request("T"))) for _ in range(8)]
        await until(lambda: sum(t.done() for t in asking) == 5)
        monkeypatch.undo()
        leader.gate.closed = False
        leader.gate.release()
        assert sorted(r.code for r in await asyncio.gather(*asking)) == [0] * 3 + [2] * 5
        assert follower.gate._in_flight_bytes == 0


async def test_an_unreachable_leader_is_not_dialled_in_a_busy_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path) as group:
        app = await group.leader()
        dead = f"127.0.0.1:{reserve_port()}"
        monkeypatch.setattr(Node, "leader_address", property(lambda _: dead))
        app.gate.closed = True
        dialled = 0
        connect = app.gate._client.connect

        async def count(address: str, timeout_ms: int = 0) -> Any:
            nonlocal dialled
            dialled += 1
            return await connect(address)

        app.gate._client.connect = count  # type: ignore[method-assign]
        command = send_request("T")
        command.ext[HOLD_FIELD] = "400"
        assert (await group.ask(app, command)).code == 14
        assert 1 <= dialled <= 40  # at most once a sweep
        assert caplog.text.count("cannot forward") == 1


async def test_a_leader_that_cannot_be_dialled_does_not_delay_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        follower = (await group.followers())[0]
        gate = follower.gate
        connect = gate._client.connect
        hanging = asyncio.Event()

        async def slow(address: str, timeout_ms: int = 0) -> Any:
            if address == "192.0.2.1:1":
                hanging.set()
                await asyncio.Event().wait()
            return await connect(address)

        gate._client.connect = slow  # type: ignore[method-assign]
        real, shown = Node.leader_address, "192.0.2.1:1"
        monkeypatch.setattr(
            Node,
            "leader_address",
            property(lambda n: shown if n is follower.node else real.__get__(n)),
        )
        asking = asyncio.create_task(group.ask(follower, send_request("T")))
        await hanging.wait()
        monkeypatch.undo()
        assert (await asking).code == 0


async def test_a_held_request_of_a_closed_connection_is_dropped(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        app.gate.closed = True
        client = RemotingClient()
        asking = asyncio.create_task(client.request(app.config.address, send_request("T"), 5000))
        await until(lambda: app.gate.holding)
        await client.close()
        with pytest.raises(ConnectionLostError):
            await asking
        await until(lambda: all(h.connection.closed for h in app.gate._held))
        app.gate.closed = False
        app.gate.release()
        assert not app.gate.holding
        assert await group.send("T") == 0


async def test_a_stopping_gate_refuses_at_once(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        app.gate.closed = True
        asking = asyncio.create_task(group.ask(app, send_request("T")))
        await until(lambda: app.gate.holding)
        app.gate.refuse()
        assert (await asking).code == 14
        assert (await group.ask(app, send_request("T"))).code == 14
        app.gate._refuses = False


def test_the_client_is_the_one_named_or_the_one_connected() -> None:
    class Fake:
        remote = "10.0.0.1:5"

    fake: Any = Fake()
    assert client_address(fake, request(1)) == "10.0.0.1:5"
    assert client_address(fake, request(1, {CLIENT_FIELD: "10.0.0.2:6"})) == "10.0.0.2:6"
    assert ONEWAY_FLAG == 2


async def test_odd_hold_times_are_not_believed(tmp_path: Path) -> None:
    for text, wanted in (("-5", 2000), ("x", 2000), ("99999999", 2000), ("7", 7), ("", 2000)):
        assert forward._hold_ms(request(10, {HOLD_FIELD: text})) == wanted


async def test_nothing_is_appended_while_leadership_is_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append after the order to take over would make the target's log too short to win."""
    async with Brokers(tmp_path, nodes=1) as group:
        await group.create_topic("T")
        leader = await group.leader()
        await group.send("T")
        end = leader.log.ledger.end_index
        monkeypatch.setattr(RaftCore, "transferring", True)
        waiting = asyncio.ensure_future(group.send("T"))
        leader.node.commit_offset("CG", "T", 0, 1)
        leader.node.flush_offsets()
        await until(lambda: leader.gate.busy, what="the send to be held")
        assert leader.log.ledger.end_index == end
        monkeypatch.undo()
        leader._open_gate()
        assert await waiting == 1
        await until(lambda: leader.metadata.offset("CG", "T", 0) == 1, what="the offset")
