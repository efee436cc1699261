"""One name server and many brokers that register, many clients that ask for routes."""

from contextlib import AsyncExitStack
from pathlib import Path
from zlib import crc32

from bench import proc
from bench.peers.ours import InstalledLauncher
from ledgermq.remoting.bodies.registration import (
    DataVersion,
    RegisterBrokerBody,
    TopicConfig,
    TopicConfigSerializeWrapper,
)
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.headers.broker import RegisterBrokerRequest
from ledgermq.remoting.headers.namesrv import RouteRequest
from tests.support import wait_until
from tests.support.cluster import Cluster, ask

from . import Cost, Point, cost

# What stays as it is while the other one grows.
GROUPS, TOPICS = 10, 100
MEMBERS = 3
QUEUES = 8
_TIMEOUT_MS = 60_000
_PERIOD_S = 30

# Quantity, where, value.
_Found = tuple[str, str, float]


def registration(group: int, member: int, topics: int) -> RemotingCommand:
    """What member 0 … 2 of a group with so many topics says every 30 s.

    Of every ten topics one is in all groups, the others are the group's own.
    """
    table = {
        name: TopicConfig(topic_name=name, read_queue_nums=QUEUES, write_queue_nums=QUEUES)
        for name in (topic_name(group, n) for n in range(topics))
    }
    wrapper = TopicConfigSerializeWrapper(
        topic_config_table=table,
        data_version=DataVersion(state_version=1, timestamp=1, counter=topics),
    )
    body = RegisterBrokerBody(topic_config_serialize_wrapper=wrapper).encode()
    header = RegisterBrokerRequest(
        broker_name=f"group-{group}",
        broker_addr=f"10.{group // 250}.{group % 250}.{member + 1}:10911",
        cluster_name="DefaultCluster",
        ha_server_addr="10.0.0.1:10912",
        broker_id=member,
        body_crc32=crc32(body) & 0x7FFFFFFF,
    )
    return request(RequestCode.REGISTER_BROKER, header.to_ext(), body)


def topic_name(group: int, n: int) -> str:
    """Topic `n` of a group."""
    return f"shared-{n // 10}" if n % 10 == 0 else f"group-{group}-topic-{n}"


async def measure(
    folder: Path, by_groups: list[int], by_topics: list[int], repeats: int
) -> list[Point]:
    """Points for so many groups of `TOPICS` topics, and for `GROUPS` groups of so many topics."""
    points: list[Point] = []
    for groups in by_groups:
        found = await _measure_one(folder / f"{groups}-groups", groups, TOPICS, repeats)
        points += [Point(f"{what}, by groups", at, groups, value) for what, at, value in found]
    for topics in by_topics:
        found = await _measure_one(folder / f"{topics}-topics", GROUPS, topics, repeats)
        points += [Point(f"{what}, by topics", at, topics, value) for what, at, value in found]
    return points


async def _measure_one(folder: Path, groups: int, topics: int, repeats: int) -> list[_Found]:
    cluster = Cluster(folder, brokers=0, launcher=InstalledLauncher())
    (node,) = cluster.name_servers
    cluster.spawn(node)
    try:
        wait_until(lambda: _answers(node.address), 10.0, "the name server")
        return await _with_brokers(node.address, node.pid, groups, topics, repeats)
    finally:
        cluster.stop()


def _answers(address: str) -> bool:
    try:
        ask(address, request(RequestCode.GET_BROKER_CLUSTER_INFO))
    except OSError:
        return False
    return True


async def _with_brokers(
    address: str, pid: int, groups: int, topics: int, repeats: int
) -> list[_Found]:
    before = proc.pss_bytes(pid)
    async with AsyncExitStack() as stack:
        brokers: list[tuple[RemotingClient, RemotingCommand]] = []
        for number in range(groups * MEMBERS):
            client = RemotingClient()
            stack.push_async_callback(client.close)
            brokers.append((client, registration(number // MEMBERS, number % MEMBERS, topics)))

        async def register(number: int) -> None:
            client, command = brokers[number % len(brokers)]
            again = request(command.code, command.ext, command.body)
            reply = await client.request(address, again, _TIMEOUT_MS)
            assert reply.code == 0, reply.remark

        await cost(pid, len(brokers), register)
        count = max(repeats, len(brokers))
        registering = await cost(pid, count, register)
        grown = proc.pss_bytes(pid) - before
        asker, _ = brokers[0]
        shared, shared_bytes = await _routes(asker, address, pid, topic_name(0, 0), repeats)
        own, own_bytes = await _routes(asker, address, pid, topic_name(0, 1), repeats)
    at = f"{groups:,} groups with {topics:,} topics each"
    busy = registering.cpu_us * groups * MEMBERS / _PERIOD_S / 1e6
    body_bytes = len(brokers[0][1].body)
    return [
        ("name server: bytes of a registration", at, body_bytes),
        ("name server: us of CPU for a registration", at, registering.cpu_us),
        ("name server: share of a processor, all brokers every 30 s", at, busy),
        ("name server: MB more than empty", at, grown / 1e6),
        ("name server: us of CPU for the route of a topic in one group", at, own.cpu_us),
        ("name server: us of CPU for the route of a topic in all groups", at, shared.cpu_us),
        ("name server: bytes of the route of a topic in one group", at, own_bytes),
        ("name server: bytes of the route of a topic in all groups", at, shared_bytes),
    ]


async def _routes(
    client: RemotingClient, address: str, pid: int, topic: str, repeats: int
) -> tuple[Cost, int]:
    """Cost of a route, and its bytes."""
    sizes: set[int] = set()

    async def route(_: int) -> None:
        wanted = RouteRequest(topic=topic)
        command = request(RequestCode.GET_ROUTEINFO_BY_TOPIC, wanted.to_ext())
        reply = await client.request(address, command, _TIMEOUT_MS)
        assert reply.code == 0, reply.remark
        sizes.add(len(reply.body))

    return await cost(pid, repeats, route), max(sizes)
