"""The route cache and the search for a leader."""

import asyncio

import pytest

from ledgermq.client import routes as routes_module
from ledgermq.client.errors import BrokerRefused, NameServerUnreachable, TopicNotFound
from ledgermq.client.nameservers import NameServers
from ledgermq.client.routes import Routes
from ledgermq.client.transport import Transport
from ledgermq.remoting.bodies.route import BrokerData, QueueData, TopicRouteData
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import response
from tests.support import until

ROUTE = RequestCode.GET_ROUTEINFO_BY_TOPIC


@pytest.fixture
async def made():
    """Makes a route cache for a cluster; `changes` are the routes it told."""
    opened = []

    async def make(cluster):
        transport = Transport("test")
        transport.open()
        changes = []
        routes = Routes(NameServers(transport, cluster.nameserver), changes.append)
        opened.append((transport, routes))
        return routes, changes

    yield make
    for transport, routes in opened:
        await routes.close()
        await transport.close()


def asked(cluster) -> int:
    return sum(s.count(ROUTE) for s in cluster.name_servers)


async def test_a_known_route_is_not_asked_for_again(made, cluster):
    routes, _ = await made(cluster)
    assert routes.cached("T") is None
    first = await routes.get("T")
    assert await routes.get("T") is first
    assert routes.cached("T") is first
    assert routes.all() == [first]
    assert asked(cluster) == 1


async def test_refresh_asks_once_for_all_who_wait(made, cluster):
    routes, _ = await made(cluster)
    await asyncio.gather(*(routes.refresh("T") for _ in range(50)))
    assert asked(cluster) == 1
    await routes.refresh("T")
    assert asked(cluster) == 2


async def test_only_changes_are_told(made, cluster):
    routes, changes = await made(cluster)
    await routes.refresh("T")
    await routes.refresh("T")
    assert len(changes) == 1
    cluster.topics["T"] = 3
    await routes.refresh("T")
    assert [len(c.write_queues) for c in changes] == [2, 3]


async def test_a_missing_topic(made, cluster):
    routes, _ = await made(cluster)
    with pytest.raises(TopicNotFound, match="Nope"):
        await routes.get("Nope")


async def test_a_missing_topic_that_sending_creates(made, cluster):
    routes, _ = await made(cluster)
    route = await routes.get("New", create=True)
    assert route.provisional
    assert len(route.write_queues) == 4
    assert await routes.get("New", create=True) is route


async def test_a_reader_does_not_take_a_provisional_route(made, cluster):
    routes, _ = await made(cluster)
    await routes.get("New", create=True)
    with pytest.raises(TopicNotFound):
        await routes.get("New")


async def test_a_reader_and_a_sender_do_not_share_an_answer(made, cluster):
    routes, _ = await made(cluster)
    outcomes = await asyncio.gather(
        routes.get("New"), routes.get("New", create=True), return_exceptions=True
    )
    assert isinstance(outcomes[0], TopicNotFound)
    assert outcomes[1].provisional


async def test_no_template_no_creation(made, cluster):
    del cluster.topics["TBW102"]
    routes, _ = await made(cluster)
    with pytest.raises(TopicNotFound, match="New"):
        await routes.get("New", create=True)


async def test_a_provisional_route_becomes_a_real_one(made, cluster):
    routes, changes = await made(cluster)
    await routes.get("New", create=True)
    cluster.topics["New"] = 4
    route = await routes.refresh("New", create=True)
    assert not route.provisional
    assert len(route.read_queues) == 4
    assert changes[-1] is route


async def test_a_known_topic_outlives_name_servers_that_forgot_it(made, cluster):
    routes, _ = await made(cluster)
    known = await routes.get("T")
    del cluster.topics["T"]
    assert await routes.refresh("T") is known


async def test_forget(made, cluster):
    routes, _ = await made(cluster)
    await routes.get("T")
    routes.forget("T")
    routes.forget("never known")
    assert routes.cached("T") is None


async def test_an_unreadable_answer(made, cluster):
    cluster.name_servers[0].hooks[ROUTE] = lambda _c, _r: response(0, body=b"{nonsense")
    routes, _ = await made(cluster)
    with pytest.raises(BrokerRefused, match="name server"):
        await routes.get("T")


@pytest.mark.parametrize(
    "data",
    [
        TopicRouteData(queue_datas=[QueueData(broker_name="b", read_queue_nums=2**31 - 1)]),
        TopicRouteData(queue_datas=[QueueData(broker_name="b", write_queue_nums=40_000)] * 2),
        TopicRouteData(broker_datas=[BrokerData(broker_addrs=dict.fromkeys(range(5000), "h:1"))]),
    ],
    ids=["one broker's queues", "all queues", "brokers"],
)
async def test_a_route_of_millions_is_not_believed(made, cluster, data):
    cluster.name_servers[0].hooks[ROUTE] = lambda _c, _r: response(0, body=data.encode())
    routes, _ = await made(cluster)
    with pytest.raises(BrokerRefused, match="over the limits of 65536 and 4096"):
        await routes.get("T")


async def test_no_name_server(made, cluster):
    routes, _ = await made(cluster)
    await cluster.name_servers[0].stop()
    with pytest.raises(NameServerUnreachable):
        await routes.get("T")


class TestSuspects:
    async def test_a_failure_is_remembered_for_a_while(self, made, cluster, monkeypatch):
        routes, _ = await made(cluster)
        now = [1000]
        monkeypatch.setattr(routes_module, "mono_ms", lambda: now[0])
        routes.suspect("a:1")
        assert routes.is_suspect("a:1")
        assert not routes.is_suspect("b:1")
        now[0] += 199
        assert routes.is_suspect("a:1")
        now[0] += 1
        assert not routes.is_suspect("a:1")


class TestLeaderBack:
    async def test_at_once_when_there_is_one(self, made, cluster):
        routes, _ = await made(cluster)
        assert await routes.leader_back("T", None, 1000) is None
        assert asked(cluster) == 1

    async def test_the_route_is_asked_for_even_when_one_is_known(self, made, trio):
        routes, _ = await made(trio)
        await routes.get("T")
        trio.elect(trio.nodes["RaftNode00"][2])
        assert await routes.leader_back("T", None, 1000) is None
        assert routes.cached("T").master("RaftNode00") == trio.nodes["RaftNode00"][2].address

    async def test_waits_for_an_election(self, made, trio):
        routes, _ = await made(trio)
        await trio.kill_leader("RaftNode00")
        waiting = asyncio.create_task(routes.leader_back("T", None, 10_000))
        await until(lambda: asked(trio) >= 2, what="a second look")
        assert not waiting.done()
        trio.elect(trio.nodes["RaftNode00"][1])
        assert await waiting is None

    async def test_waits_for_a_suspect_to_be_replaced(self, made, trio, monkeypatch):
        monkeypatch.setattr(routes_module, "_SUSPECT_MS", 60_000)
        routes, _ = await made(trio)
        routes.suspect(trio.broker.address)
        waiting = asyncio.create_task(routes.leader_back("T", None, 10_000))
        await until(lambda: asked(trio) >= 2)
        assert not waiting.done()
        trio.elect(trio.nodes["RaftNode00"][1])
        assert await waiting is None

    async def test_all_who_wait_share_the_asking(self, made, trio):
        routes, _ = await made(trio)
        await trio.kill_leader("RaftNode00")
        waiting = [asyncio.create_task(routes.leader_back("T", None, 10_000)) for _ in range(100)]
        await until(lambda: asked(trio) >= 3)
        assert asked(trio) < 20
        trio.elect(trio.nodes["RaftNode00"][1])
        assert await asyncio.gather(*waiting) == [None] * 100

    async def test_says_what_it_saw_when_time_is_up(self, made, trio):
        routes, _ = await made(trio)
        await trio.kill_leader("RaftNode00")
        seen = await routes.leader_back("T", None, 150)
        assert seen == "the route names no leader of RaftNode00"

    async def test_says_that_the_dead_one_is_still_named(self, made, trio, monkeypatch):
        monkeypatch.setattr(routes_module, "_SUSPECT_MS", 60_000)
        routes, _ = await made(trio)
        routes.suspect(trio.broker.address)
        seen = await routes.leader_back("T", None, 150)
        assert seen == f"the route still names {trio.broker.address}"

    async def test_says_that_no_name_server_answers(self, made, trio):
        routes, _ = await made(trio)
        await trio.name_servers[0].stop()
        seen = await routes.leader_back("T", None, 150)
        assert seen is not None
        assert "no name server answered" in seen

    async def test_another_group_does_when_any_will_do(self, made, pair):
        routes, _ = await made(pair)
        await pair.kill_leader("a")
        assert await routes.leader_back("T", None, 1000) is None

    async def test_another_group_does_not_when_one_is_meant(self, made, pair):
        routes, _ = await made(pair)
        await pair.kill_leader("a")
        assert await routes.leader_back("T", "a", 150) is not None
        assert await routes.leader_back("T", "b", 1000) is None

    async def test_asking_ends_when_nobody_waits(self, made, trio):
        routes, _ = await made(trio)
        await trio.kill_leader("RaftNode00")
        await routes.leader_back("T", None, 100)
        await until(lambda: not routes._polls, what="the poll ended")

    async def test_a_waiter_that_is_cancelled_does_not_disturb_the_others(self, made, trio):
        routes, _ = await made(trio)
        await trio.kill_leader("RaftNode00")
        stays, goes = (asyncio.create_task(routes.leader_back("T", None, 10_000)) for _ in range(2))
        await until(lambda: asked(trio) >= 1)
        goes.cancel()
        await until(goes.done)
        trio.elect(trio.nodes["RaftNode00"][1])
        assert await stays is None
