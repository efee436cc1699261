"""How far consumer groups are: 14, 15, 43."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from ledgermq.broker import topics
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.metadata import Metadata
from ledgermq.broker.writer import MetadataWriter, QueueReader
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.offset import (
    QueryConsumerOffsetRequest,
    QueryConsumerOffsetResponse,
    UpdateConsumerOffsetRequest,
)
from ledgermq.remoting.registry import HandlerResult, ProcessorRegistry

LEADER_CODES: Final[frozenset[int]] = frozenset(
    {RequestCode.QUERY_CONSUMER_OFFSET, RequestCode.UPDATE_CONSUMER_OFFSET}
)


@dataclass(frozen=True, slots=True)
class OffsetService:
    """What the handlers need."""

    metadata: Metadata
    writer: MetadataWriter
    queues: QueueReader
    config: BrokerConfig


def register(registry: ProcessorRegistry, service: OffsetService) -> None:
    """Serve 14, 15 and 43."""
    registry.add(RequestCode.QUERY_CONSUMER_OFFSET, partial(query_offset, service))
    registry.add(RequestCode.UPDATE_CONSUMER_OFFSET, partial(update_offset, service))
    registry.add(RequestCode.GET_ALL_CONSUMER_OFFSET, partial(all_offsets, service))


def query_offset(
    service: OffsetService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """14: the next offset a group reads in a queue.

    A group without one gets 0 where the queue's first message is still recent, so that it misses
    nothing of a young queue; else 22, and the client goes by its own policy. Source: remoting.md
    §6.2.
    """
    header = QueryConsumerOffsetRequest.of(command)
    topics.refuse_internal(header.topic)
    group, topic, queue_id = header.consumer_group, header.topic, header.queue_id
    offset = service.writer.query_offset(group, topic, queue_id)
    if offset is None and header.set_zero_if_not_found is not False:
        is_young = service.queues.min_offset(topic, queue_id) <= 0
        if is_young and service.queues.first_in_memory(topic, queue_id):
            offset = 0
    if offset is None:
        raise PeerError(
            ResponseCode.QUERY_NOT_FOUND,
            f"group {group} has no offset in queue {queue_id} of topic {topic} yet",
        )
    return response(ResponseCode.SUCCESS, ext=QueryConsumerOffsetResponse(offset=offset).to_ext())


def update_offset(
    service: OffsetService, _connection: Connection, command: RemotingCommand
) -> HandlerResult:
    """15: a group has consumed up to an offset; answered also where Java clients ask for none."""
    header = UpdateConsumerOffsetRequest.of(command)
    topics.refuse_internal(header.topic)
    if topics.find_group(service.metadata.groups, header.consumer_group) is None:
        fresh = topics.new_group(header.consumer_group, service.config)
        if fresh is None:
            raise PeerError(
                ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST,
                f"consumer group {header.consumer_group} does not exist on this broker",
            )
        return _update_for_new_group(service, header, fresh)
    return _update(service, header)


async def _update_for_new_group(
    service: OffsetService, header: UpdateConsumerOffsetRequest, fresh: SubscriptionGroupConfig
) -> RemotingCommand:
    """A commit may overtake the heartbeat that would have created its group."""
    topics.check_queue(service.metadata.topics, header.topic, header.queue_id)
    await service.writer.put_group(fresh)
    return _update(service, header)


def _update(service: OffsetService, header: UpdateConsumerOffsetRequest) -> RemotingCommand:
    topics.check_queue(service.metadata.topics, header.topic, header.queue_id)
    if header.commit_offset < 0:
        raise PeerError(
            ResponseCode.INVALID_PARAMETER, f"consumer offset {header.commit_offset} is below 0"
        )
    service.writer.commit_offset(
        header.consumer_group, header.topic, header.queue_id, header.commit_offset
    )
    return response(ResponseCode.SUCCESS)


def all_offsets(
    service: OffsetService, _connection: Connection, _command: RemotingCommand
) -> RemotingCommand:
    """43: the offsets of all groups."""
    return response(ResponseCode.SUCCESS, body=service.metadata.export_offsets())
