"""Every name server knows this node, and knows it soon."""

import asyncio
from pathlib import Path

import pytest

from ledgermq.broker import registration
from ledgermq.namesrv.app import NamesrvApp
from ledgermq.remoting.bodies.route import BrokerData
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import response
from ledgermq.remoting.registry import ProcessorRegistry
from ledgermq.remoting.server import RemotingServer
from tests.support import until
from tests.support.brokers import GROUP, HOST, Brokers, send_request, start_name_server
from tests.support.cluster import reserve_port


def shown(server: NamesrvApp) -> dict[int, str]:
    brokers: dict[str, BrokerData] = server.server.table.cluster_info().broker_addr_table
    return dict(brokers[GROUP].broker_addrs) if GROUP in brokers else {}


def has_topic(server: NamesrvApp, topic: str) -> bool:
    return server.server.table.route(topic) is not None


async def test_every_name_server_shows_the_group(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3, name_servers=2) as group:
        leader = await group.leader()
        await group.followers()
        expected = {a.config.follower_broker_id: a.config.address for a in group.apps.values()}
        del expected[leader.config.follower_broker_id]
        expected[0] = leader.config.address
        for server in group.name_servers:
            await until(lambda s=server: shown(s) == expected)
            member = server.server.table._leader(GROUP)
            assert member is not None
            assert member.version.state_version == leader.log.core.term


async def test_id_0_only_when_ready(tmp_path: Path) -> None:
    async with Brokers(tmp_path, name_servers=1) as group:
        app = await group.leader()
        assert app._broker_id() == 0
        app.node.ready = False
        assert app._broker_id() == 1
        app._took_part = False
        assert app._broker_id() is None
        app.node.ready = True


async def test_a_new_topic_is_told_at_once_and_its_internal_one_never(tmp_path: Path) -> None:
    async with Brokers(tmp_path, name_servers=2) as group:
        app = await group.leader()
        assert (await group.ask(app, send_request("Fresh"))).code == 0
        for server in group.name_servers:
            await until(lambda s=server: has_topic(s, "Fresh"), 2)
            assert not has_topic(server, "RMQ_SYS_LEDGERMQ_META")


async def test_permissions_of_the_broker_limit_those_of_topics(tmp_path: Path) -> None:
    async with Brokers(tmp_path, name_servers=1, broker_permission=4) as group:
        await group.create_topic("T", perm=6)
        await until(lambda: has_topic(group.name_servers[0], "T"))
        route = group.name_servers[0].server.table.route("T")
        assert route is not None
        assert [q.perm for q in route.queue_datas] == [4]


async def test_a_stop_unregisters_everywhere(tmp_path: Path) -> None:
    async with Brokers(tmp_path, name_servers=2) as group:
        await group.leader()
        for server in group.name_servers:
            await until(lambda s=server: shown(s))
        await group.stop()
        assert [shown(s) for s in group.name_servers] == [{}, {}]


async def test_a_dead_name_server_delays_nobody_and_learns_all_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registration, "_RETRY_S", 0.02)
    dead = reserve_port()
    group = Brokers(tmp_path)
    alive = await start_name_server(tmp_path / "alive")
    group._more["namesrv_addr"] = (f"{HOST}:{dead}", f"{HOST}:{alive.port}")
    try:
        async with group:
            app = await group.leader()
            await until(lambda: shown(alive))
            assert (await group.ask(app, send_request("Fresh"))).code == 0
            await until(lambda: has_topic(alive, "Fresh"))
            returned = await start_name_server(tmp_path / "returned", dead)
            await until(lambda: has_topic(returned, "Fresh"))
            await returned.stop()
        # One line when it went, however often it was tried.
        assert caplog.text.count("cannot register") == 1
    finally:
        await alive.stop()


async def test_a_name_server_that_was_restarted_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It forgot everything; the next regular registration may be 30 s away."""
    monkeypatch.setattr(registration, "_RETRY_S", 0.02)
    async with Brokers(tmp_path, name_servers=1) as group:
        await group.leader()
        [server] = group.name_servers
        await until(lambda: shown(server))
        await server.stop()
        again = await start_name_server(tmp_path / "again", server.port)
        group.name_servers[0] = again
        await until(lambda: shown(again), 5)


async def test_a_name_server_that_does_not_answer_delays_neither_the_others_nor_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "_UNREGISTER_TIMEOUT_MS", 30)
    registry = ProcessorRegistry()
    for code in (RequestCode.REGISTER_BROKER, RequestCode.UNREGISTER_BROKER):
        registry.add(code, lambda _connection, _command: None)
    silent = RemotingServer(registry, host=HOST)
    [port] = await silent.start([0])
    alive = await start_name_server(tmp_path / "alive")
    group = Brokers(tmp_path)
    group._more["namesrv_addr"] = (f"{HOST}:{port}", f"{HOST}:{alive.port}")
    async with group:
        await group.create_topic("T")
        await until(lambda: has_topic(alive, "T"))
        await group.stop()
        assert shown(alive) == {}
    await silent.close()
    await alive.stop()


async def test_the_leader_elsewhere(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3, name_servers=1) as group:
        leader = await group.leader()
        others = await group.followers()
        await until(lambda: shown(group.name_servers[0]).get(0) == leader.config.address)
        assert not await leader.registrar.leader_elsewhere()
        assert await others[0].registrar.leader_elsewhere()
        # A name server that answers nonsense, or nothing, is not asked for its opinion.
        await group.name_servers[0].stop()
        registry = ProcessorRegistry()
        garbage = RemotingServer(registry, host=HOST)
        await garbage.start([group.name_servers[0].port])
        assert await leader.registrar.leader_elsewhere()
        body = b"{no json"
        registry.add(RequestCode.GET_BROKER_CLUSTER_INFO, lambda *_: response(0, "", {}, body))
        assert await leader.registrar.leader_elsewhere()
        await garbage.close()
        group.name_servers[0] = await start_name_server(tmp_path / "x", group.name_servers[0].port)


async def test_a_change_and_the_end_at_the_same_moment(tmp_path: Path) -> None:
    """The cancellation must not get lost behind the event."""
    async with Brokers(tmp_path, name_servers=1) as group:
        app = await group.leader()
        await until(lambda: shown(group.name_servers[0]))
        [task] = app.registrar._tasks
        app.registrar.changed()
        task.cancel()
        await asyncio.wait([task], timeout=2)
        assert task.done()
