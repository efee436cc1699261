"""Many clients of one broker group: connections, heartbeats, one large consumer group."""

import time
from contextlib import AsyncExitStack
from pathlib import Path

from bench import proc
from bench.peers import ours
from ledgermq.client.rebalance import allocate
from ledgermq.client.result import MessageQueue
from ledgermq.remoting.bodies.heartbeat import (
    ConsumerData,
    HeartbeatData,
    ProducerData,
    SubscriptionData,
)
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import request
from ledgermq.remoting.headers.client import ConsumerListRequest

from . import Point, cost

_TIMEOUT_MS = 60_000
_PERIOD_S = 30
GROUP = "scale-group"


def heartbeat(number: int) -> bytes:
    """What client `number` of the group says every 30 s."""
    data = HeartbeatData(
        client_id=f"10.0.{number // 250}.{number % 250}@{number}",
        producer_data_set=[ProducerData(group_name="CLIENT_INNER_PRODUCER")],
        consumer_data_set=[
            ConsumerData(
                group_name=GROUP,
                subscription_data_set=[
                    SubscriptionData(topic="ScaleTopic", sub_string="*", sub_version=1),
                    SubscriptionData(topic=f"%RETRY%{GROUP}", sub_string="*", sub_version=1),
                ],
            )
        ],
    )
    return data.encode()


async def measure(folder: Path, sizes: list[int], repeats: int) -> list[Point]:
    """Points for so many clients of one group."""
    points: list[Point] = []
    for clients in sizes:
        points += await _measure_one(folder / str(clients), clients, repeats)
    return points


async def _measure_one(folder: Path, clients: int, repeats: int) -> list[Point]:
    with ours.group(folder) as peer:
        pid, address = peer.brokers[peer.leader()], peer.leader_address()
        before = proc.pss_bytes(pid)
        async with AsyncExitStack() as stack:
            members = [RemotingClient() for _ in range(clients)]
            for member in members:
                stack.push_async_callback(member.close)

            async def beat(number: int) -> None:
                member = number % clients
                command = request(RequestCode.HEART_BEAT, {}, heartbeat(member))
                reply = await members[member].request(address, command, _TIMEOUT_MS)
                assert reply.code == 0, reply.remark

            await cost(pid, clients, beat)
            beating = await cost(pid, max(clients, repeats), beat)
            grown = proc.pss_bytes(pid) - before
            list_bytes = 0

            async def ask_members(number: int) -> None:
                nonlocal list_bytes
                wanted = ConsumerListRequest(consumer_group=GROUP)
                command = request(RequestCode.GET_CONSUMER_LIST_BY_GROUP, wanted.to_ext())
                reply = await members[number % clients].request(address, command, _TIMEOUT_MS)
                assert reply.code == 0, reply.remark
                list_bytes = len(reply.body)

            asking = await cost(pid, repeats, ask_members)
    at = f"{clients:,} clients of one group"
    busy = (beating.cpu_us / _PERIOD_S + asking.cpu_us / _REBALANCE_S) * clients / 1e6
    return [
        Point(what, at, clients, value)
        for what, value in (
            ("broker: KB for a client", grown / clients / 1e3),
            ("broker: us of CPU for a heartbeat", beating.cpu_us),
            ("broker: us of CPU for the list of the group's members", asking.cpu_us),
            ("broker: bytes of the list of the group's members", list_bytes),
            ("broker: share of a processor, heartbeats and member lists", busy),
            ("client: ms to rebalance 1,024 queues", rebalance_ms(clients, 1024)),
        )
    ]


# Clients ask for the members before each rebalance.
_REBALANCE_S = 20


def rebalance_ms(clients: int, queues: int) -> float:
    """How long a client computes to find its share."""
    wanted = [MessageQueue("ScaleTopic", f"group-{n // 8}", n % 8) for n in range(queues)]
    names = [f"10.0.{n // 250}.{n % 250}@{n}" for n in range(clients)]
    begin = time.process_time()
    allocate(wanted, names, names[clients // 2])
    return (time.process_time() - begin) * 1000
