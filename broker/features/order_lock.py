"""Locks for orderly consumption: 41, 42."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ledgermq.broker.metadata import Metadata
from ledgermq.broker.order_locks import OrderLocks
from ledgermq.remoting.bodies.consumer import LockBatchBody, LockOkBody
from ledgermq.remoting.bodies.stats import MessageQueue
from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.registry import ProcessorRegistry

LEADER_CODES: Final[frozenset[int]] = frozenset(
    {RequestCode.LOCK_BATCH_MQ, RequestCode.UNLOCK_BATCH_MQ}
)


@dataclass(frozen=True, slots=True)
class LockService:
    """What the handlers need; `locks.clear()` is to be called when this node stops leading."""

    locks: OrderLocks
    metadata: Metadata
    now_ms: Callable[[], int] = mono_ms


def register(registry: ProcessorRegistry, service: LockService) -> None:
    """Serve 41 and 42."""
    registry.add(RequestCode.LOCK_BATCH_MQ, partial(lock, service))
    registry.add(RequestCode.UNLOCK_BATCH_MQ, partial(unlock, service))


def lock(
    service: LockService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """41: take or renew locks; the answer names the queues that are the client's for 60 s."""
    body = _body(command)
    queues = [queue for queue in body.mq_set if _exists(service, queue)]
    held = service.locks.lock(body.consumer_group, body.client_id, queues, service.now_ms())
    return response(ResponseCode.SUCCESS, body=LockOkBody(lock_ok_mq_set=held).encode())


def unlock(
    service: LockService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """42: give locks back; sometimes sent one-way."""
    body = _body(command)
    service.locks.unlock(body.consumer_group, body.client_id, body.mq_set)
    return response(ResponseCode.SUCCESS)


def _body(command: RemotingCommand) -> LockBatchBody:
    body = LockBatchBody.decode(command.body)
    if not body.consumer_group or not body.client_id:
        raise PeerError(
            ResponseCode.SYSTEM_ERROR, "lock request: consumerGroup or clientId is missing"
        )
    return body


def _exists(service: LockService, queue: MessageQueue) -> bool:
    topic = service.metadata.topics.get(queue.topic)
    return topic is not None and 0 <= queue.queue_id < max(
        topic.read_queue_nums, topic.write_queue_nums
    )
