"""When a node may lead, what it answers when it may no longer, and what it keeps."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker import topics
from ledgermq.broker.app import BrokerApp
from ledgermq.broker.writer import OutgoingRecord
from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.raft.effects import Role, TransferWanted
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import request
from ledgermq.remoting.errors import LedgerMQError, PeerError
from ledgermq.remoting.message import pack_host
from tests.support import until
from tests.support.brokers import Brokers, pull_all, send_request


def record(i: int) -> OutgoingRecord:
    return OutgoingRecord("T", 0, b"%d" % i, b"", 0, 0, 1, pack_host("1.2.3.4:5"))


def offset_command(code: int, group: str = "CG", **more: object) -> Any:
    return request(
        code,
        {"consumerGroup": group, "topic": "T", "queueId": "0"}
        | {k: str(v) for k, v in more.items()},
    )


async def test_ready_only_after_the_noop_and_the_system_topics(tmp_path: Path) -> None:
    group = Brokers(tmp_path)
    app = group.apps["n0"] = BrokerApp(group.config("n0"))
    seen: list[tuple[bool, int, set[str]]] = []
    on_ready = app.node._on_ready

    def watch(ready: bool) -> None:
        missing = {t.topic_name for t in topics.system_topics(app.config)} - set(
            app.metadata.topics
        )
        seen.append((ready, app.dispatcher.applied - app.log.core.term_first_index, missing))
        on_ready(ready)

    app.node._on_ready = watch
    applied: list[bool] = []
    on_applied = app.node.on_applied

    def watch_applied(index: int) -> None:
        on_applied(index)
        applied.append(app.node.ready)

    app.node.on_applied = watch_applied  # type: ignore[method-assign]
    await app.start()
    try:
        assert not app.node.ready
        refused: list[bool] = []
        app.node.append(record(0), lambda r: refused.append(isinstance(r, PeerError)))
        assert refused == [True]  # not ready yet
        await group.leader()
        assert [(r, m) for r, _, m in seen] == [(True, set())]
        assert seen[0][1] >= len(topics.system_topics(app.config))
        assert applied[0] is False  # the no-op alone is not enough
        assert app.reader.max_offset(topics.INTERNAL_TOPIC, 0) == 0  # hidden from readers
    finally:
        await group.__aexit__()


async def test_queue_offsets_are_dense_across_leaders(tmp_path: Path) -> None:
    """Sends run while leaders are killed: what was acknowledged lies where the answer said."""
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        acknowledged: dict[int, bytes] = {}
        stop = False

        async def produce(me: int) -> None:
            for i in range(100_000):
                if stop:
                    return
                body = b"%d-%d" % (me, i)
                app = next((a for a in group.apps.values() if a.node.ready), None)
                if app is None:
                    await asyncio.sleep(0.01)
                    continue
                try:
                    reply = await group.ask(app, send_request("T", body), 3000)
                except LedgerMQError:
                    continue
                if reply.code == 0:
                    acknowledged[int(reply.ext["queueOffset"])] = body
                await asyncio.sleep(0.002)

        producers = [asyncio.create_task(produce(i)) for i in range(4)]
        for _ in range(2):
            count = len(acknowledged)
            await until(lambda n=count: len(acknowledged) > n + 30, what="acknowledged sends")
            leader = await group.leader()
            name = leader.config.dleger_self_id
            await group.crash(name)
            await group.leader()
            await group.start(name)
        count = len(acknowledged)
        await until(lambda: len(acknowledged) > count + 30)
        stop = True
        await asyncio.gather(*producers)
        found = await pull_all(group, "T")
        assert [m.queue_offset for m in found] == list(range(len(found)))
        bodies = [m.body for m in found]
        assert {o: bodies[o] for o in acknowledged} == acknowledged
        await group.same_metadata()
        assert not any(a.failed.done() for a in group.apps.values())


async def test_every_pending_append_is_answered_once_when_leadership_goes(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        app = await group.leader()
        await group.same_metadata()
        for follower in await group.followers():
            await group.crash(follower.config.dleger_self_id)
        outcomes: list[list[Any]] = [[] for _ in range(50)]
        for i, found in enumerate(outcomes):
            app.node.append(record(i), found.append)
        change = asyncio.create_task(app.node.delete_topic("T"))
        await until(lambda: not app.node.ready, what="a leader without a quorum steps down")
        assert [len(found) for found in outcomes] == [1] * 50
        assert {found[0].code for found in outcomes} == {1}
        assert "may be stored" in outcomes[0][0].remark
        with pytest.raises(PeerError, match="leadership changed"):
            await change
        assert app.node.pending_count == 0
        assert app.node._placing.pending_bytes == 0
        late: list[Any] = []
        app.node.append(record(99), late.append)
        assert late[0].code == 14
        assert not app.node._deleting


async def test_a_metadata_change_is_answered_after_its_commit_and_is_the_same_everywhere(
    tmp_path: Path,
) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        leader = await group.leader()
        await group.create_topic("T", 3)
        assert leader.metadata.topics["T"].read_queue_nums == 3
        assert leader.log.core.commit >= leader.metadata.applied_index
        body = b'{"groupName":"CG","retryQueueNums":2}'
        command = request(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, {}, body)
        assert (await group.ask(leader, command)).code == 0
        assert leader.metadata.groups["CG"].retry_queue_nums == 2
        await group.delete_topic("T")
        assert "T" not in leader.metadata.topics
        await group.same_metadata()
        # The same change again is no record.
        await group.create_topic("T")
        index = leader.metadata.applied_index
        await group.create_topic("T")
        assert leader.metadata.applied_index == index


async def test_steps_of_an_old_leader_leave_nothing_for_its_next_term(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        app.node._placing._next_offsets["T", 0] = 77
        app.node.commit_offset("CG", "T", 0, 5)
        app.node.on_role(Role.FOLLOWER, 1, None)
        assert not app.node.ready
        assert app.node.query_offset("CG", "T", 0) is None
        assert not app.node._placing._next_offsets


# --- consumer offsets -------------------------------------------------------------------------


async def commit(group: Brokers, app: BrokerApp, offset: int) -> None:
    command = offset_command(RequestCode.UPDATE_CONSUMER_OFFSET, commitOffset=offset)
    assert (await group.ask(app, command)).code == 0


async def with_group(group: Brokers) -> BrokerApp:
    await group.create_topic("T")
    app = await group.leader()
    body = b'{"groupName":"CG"}'
    create = request(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, {}, body)
    assert (await group.ask(app, create)).code == 0
    return app


async def test_an_offset_is_visible_at_once_and_logged_together_with_others(tmp_path: Path) -> None:
    async with Brokers(tmp_path, offset_flush_interval_ms=100) as group:
        app = await with_group(group)
        index = app.metadata.applied_index
        for offset in range(1, 40):
            await commit(group, app, offset)
            query = offset_command(RequestCode.QUERY_CONSUMER_OFFSET)
            assert (await group.ask(app, query)).ext["offset"] == str(offset)
        await until(lambda: app.metadata.offset("CG", "T", 0) == 39)
        assert app.metadata.offset_version <= 3
        version, index = app.metadata.offset_version, app.log.ledger.end_index
        await commit(group, app, 39)  # nothing new
        app.node.flush_offsets()
        assert app.log.ledger.end_index == index
        assert app.metadata.offset_version == version
        assert app.node.query_offset("CG", "T", 0) == 39


async def test_logged_offsets_survive_a_killed_leader(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3, offset_flush_interval_ms=20) as group:
        app = await with_group(group)
        await commit(group, app, 7)
        await until(lambda: app.metadata.offset("CG", "T", 0) == 7)
        await group.crash(app.config.dleger_self_id)
        new = await group.leader()
        reply = await group.ask(new, offset_command(RequestCode.QUERY_CONSUMER_OFFSET))
        assert reply.ext["offset"] == "7"


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_clean_stop_loses_no_offset(tmp_path: Path, nodes: int) -> None:
    async with Brokers(tmp_path, nodes=nodes, offset_flush_interval_ms=60_000) as group:
        app = await with_group(group)
        await commit(group, app, 7)
        assert app.metadata.offset("CG", "T", 0) is None
        name = app.config.dleger_self_id
        await group.stop(name)
        if nodes == 1:
            await group.start(name)
        new = await group.leader()
        assert new.node.query_offset("CG", "T", 0) == 7


async def test_a_hand_over_loses_no_offset(tmp_path: Path) -> None:
    """Whoever asked for it: a preferred leader gets the office without any SIGTERM."""
    async with Brokers(tmp_path, nodes=3, offset_flush_interval_ms=60_000) as group:
        app = await with_group(group)
        await commit(group, app, 7)
        assert app.metadata.offset("CG", "T", 0) is None
        target = (await group.followers())[0].config.dleger_self_id
        # What the core wants of its own accord goes the same way as an operator's wish.
        app.log._queue.append(TransferWanted(NodeId(target)))
        app.log._run_effects()
        await until(lambda: group.apps[target].node.ready, what="the new leader")
        assert group.apps[target].node.query_offset("CG", "T", 0) == 7


async def test_offsets_refused_by_a_full_disk_go_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path, offset_flush_interval_ms=20) as group:
        app = await with_group(group)
        refused = 0
        append_op = app.node._append_op

        def refuse(op: Any, on_done: Any) -> None:
            nonlocal refused
            refused += 1
            if refused > 2:
                append_op(op, on_done)
            else:
                on_done(PeerError(14, "no room"))

        monkeypatch.setattr(app.node._offsets, "_write", refuse)
        await commit(group, app, 7)
        await until(lambda: app.metadata.offset("CG", "T", 0) == 7)
        assert refused == 3


async def test_more_offsets_than_a_record_may_hold_are_several_records(tmp_path: Path) -> None:
    async with Brokers(
        tmp_path, offset_flush_interval_ms=60_000, mapped_file_size_commit_log=64 << 10
    ) as group:
        await group.create_topic("T", 64)
        app = await group.leader()
        names = [f"{'g' * 100}{i}" for i in range(40)]
        for name in names:
            for queue_id in range(64):
                app.node.commit_offset(name, "T", queue_id, queue_id + 1)
        app.node.flush_offsets()
        await until(lambda: app.metadata.offset(names[-1], "T", 63) == 64)
        assert all(len(app.metadata.offsets_of(n)["T"]) == 64 for n in names)
        assert app.metadata.offset_version > 1
        assert not app.failed.done()
        assert app.node.query_offset(names[0], "T", 5) == 6
