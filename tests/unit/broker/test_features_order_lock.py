"""41, 42."""

import pytest

from ledgermq.broker.features import order_lock
from ledgermq.broker.features.order_lock import LockService
from ledgermq.broker.metadata import TopicPut
from ledgermq.broker.order_locks import OrderLocks
from ledgermq.remoting.bodies.consumer import LockBatchBody, LockOkBody
from ledgermq.remoting.bodies.stats import MessageQueue

from .fakes import Bench, topic


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    order_lock.register(bench.registry, LockService(OrderLocks(), bench.metadata, lambda: 0))
    bench.writer.write(TopicPut(topic("T", 2)))
    return bench


def queue(queue_id: int, name: str = "T") -> MessageQueue:
    return MessageQueue(topic=name, broker_name="RaftNode00", queue_id=queue_id)


def body(client_id: str, *queues: MessageQueue, group: str = "g") -> bytes:
    return LockBatchBody(consumer_group=group, client_id=client_id, mq_set=list(queues)).encode()


async def locked(bench: Bench, request: bytes) -> list[MessageQueue]:
    return LockOkBody.decode((await bench.call(41, body=request)).body).lock_ok_mq_set


async def test_lock_and_unlock(bench: Bench) -> None:
    assert await locked(bench, body("a", queue(0))) == [queue(0)]
    assert await locked(bench, body("b", queue(0), queue(1))) == [queue(1)]
    assert (await bench.call(42, body=body("a", queue(0)))).code == 0
    assert await locked(bench, body("b", queue(0))) == [queue(0)]


async def test_queues_that_do_not_exist_are_not_given(bench: Bench) -> None:
    assert await locked(bench, body("a", queue(2), queue(-1), queue(0, "U"), queue(1))) == [
        queue(1)
    ]


@pytest.mark.parametrize("code", [41, 42])
@pytest.mark.parametrize(("client_id", "group"), [("", "g"), ("a", "")])
async def test_nobody_cannot_lock(bench: Bench, code: int, client_id: str, group: str) -> None:
    assert (await bench.refusal(code, {}, body(client_id, queue(0), group=group))).code == 1


def test_who_forwards() -> None:
    assert {41, 42} == order_lock.LEADER_CODES
