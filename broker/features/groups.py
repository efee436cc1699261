"""Consumer and producer groups for operators: 200, 201, 203, 204, 207, 208, 300, 352."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ledgermq.broker import topics as rules
from ledgermq.broker.clients import ClientTable, Member
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.metadata import Metadata
from ledgermq.broker.writer import MetadataWriter, QueueReader
from ledgermq.remoting.bodies.consumer import (
    Connection as ConnectionInfo,
)
from ledgermq.remoting.bodies.consumer import (
    ConsumerConnection,
    GroupList,
    ProducerConnection,
)
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig, SubscriptionGroupTable
from ledgermq.remoting.bodies.stats import ConsumeStats, MessageQueue, OffsetWrapper
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.client import (
    ConsumerConnectionRequest,
    DeleteSubscriptionGroupRequest,
    GroupRequest,
    ProducerConnectionRequest,
)
from ledgermq.remoting.headers.query import ConsumeStatsRequest
from ledgermq.remoting.headers.topic import TopicRequest
from ledgermq.remoting.registry import ProcessorRegistry

# 203, 204 and 300 too: producers tell only the leader about themselves.
LEADER_CODES: Final[frozenset[int]] = frozenset(
    {
        RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP,
        RequestCode.DELETE_SUBSCRIPTIONGROUP,
        RequestCode.GET_CONSUMER_CONNECTION_LIST,
        RequestCode.GET_PRODUCER_CONNECTION_LIST,
        RequestCode.GET_CONSUME_STATS,
        RequestCode.QUERY_TOPIC_CONSUME_BY_WHO,
    }
)


@dataclass(frozen=True, slots=True)
class GroupService:
    """What the handlers need."""

    metadata: Metadata
    writer: MetadataWriter
    queues: QueueReader
    clients: ClientTable[Connection]
    config: BrokerConfig


def register(registry: ProcessorRegistry, service: GroupService) -> None:
    """Serve 200, 201, 203, 204, 207, 208, 300 and 352."""
    registry.add(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, partial(put_group, service))
    registry.add(RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG, partial(all_groups, service))
    registry.add(RequestCode.DELETE_SUBSCRIPTIONGROUP, partial(delete_group, service))
    registry.add(RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, partial(group_config, service))
    registry.add(RequestCode.GET_CONSUMER_CONNECTION_LIST, partial(consumer_connections, service))
    registry.add(RequestCode.GET_PRODUCER_CONNECTION_LIST, partial(producer_connections, service))
    registry.add(RequestCode.GET_CONSUME_STATS, partial(consume_stats, service))
    registry.add(RequestCode.QUERY_TOPIC_CONSUME_BY_WHO, partial(consumed_by, service))


async def put_group(
    service: GroupService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """200: create a consumer group, or change it."""
    settings = SubscriptionGroupConfig.decode(command.body)
    problem = rules.group_name_problem(settings.group_name)
    if problem:
        raise PeerError(ResponseCode.INVALID_PARAMETER, problem)
    await service.writer.put_group(settings)
    return response(ResponseCode.SUCCESS)


def all_groups(
    service: GroupService, _connection: Connection, _command: RemotingCommand
) -> RemotingCommand:
    """201: the settings of all groups, predefined ones too."""
    metadata = service.metadata
    table = {group.group_name: group for group in rules.system_groups()} | metadata.groups
    body = SubscriptionGroupTable(
        subscription_group_table=table, data_version=metadata.version_of(metadata.group_version)
    )
    return response(ResponseCode.SUCCESS, body=body.encode())


async def delete_group(
    service: GroupService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """207: forget a group, its offsets only when asked to."""
    header = DeleteSubscriptionGroupRequest.of(command)
    await service.writer.delete_group(header.group_name, header.clean_offset)
    return response(ResponseCode.SUCCESS)


def group_config(
    service: GroupService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """352: the settings of one group."""
    name = GroupRequest.of(command).group
    settings = rules.find_group(service.metadata.groups, name)
    if settings is None:
        raise PeerError(
            ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST,
            f"consumer group {name} does not exist on this broker",
        )
    return response(ResponseCode.SUCCESS, body=settings.encode())


def consumer_connections(
    service: GroupService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """203: the live consumers of a group and what they subscribe."""
    name = ConsumerConnectionRequest.of(command).consumer_group
    group = service.clients.consumer_group(name)
    if group is None:
        raise PeerError(
            ResponseCode.CONSUMER_NOT_ONLINE, f"no consumer of group {name} is connected"
        )
    body = ConsumerConnection(
        connection_set=_infos(group.members.values()),
        subscription_table=group.subscriptions,
        consume_type=group.consume_type,
        message_model=group.message_model,
        consume_from_where=group.consume_from_where,
    )
    return response(ResponseCode.SUCCESS, body=body.encode())


def producer_connections(
    service: GroupService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """204: the live producers of a group."""
    name = ProducerConnectionRequest.of(command).producer_group
    members = service.clients.producers(name)
    if not members:
        raise PeerError(ResponseCode.SYSTEM_ERROR, f"no producer of group {name} is connected")
    return response(
        ResponseCode.SUCCESS, body=ProducerConnection(connection_set=_infos(members)).encode()
    )


async def consume_stats(
    service: GroupService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """208: how far a group is behind, queue by queue."""
    header = ConsumeStatsRequest.of(command)
    group = header.consumer_group
    body = ConsumeStats()
    for name in _topics_of(service, header):
        topic = service.metadata.topics.get(name)
        if topic is None or _is_left_over(service, group, name):
            continue
        for queue_id in range(topic.read_queue_nums):
            queue = MessageQueue(
                topic=name, broker_name=service.config.broker_name, queue_id=queue_id
            )
            body.offset_table[queue] = await _progress(service, group, queue)
    return response(ResponseCode.SUCCESS, body=body.encode())


def consumed_by(
    service: GroupService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """300: the groups that subscribe a topic now, or have consumed it."""
    topic = TopicRequest.of(command).topic
    rules.refuse_internal(topic)
    names = set(service.clients.groups_of_topic(topic))
    names.update(service.metadata.groups_with_offsets(topic))
    return response(ResponseCode.SUCCESS, body=GroupList(group_list=sorted(names)).encode())


def _infos(members: Iterable[Member]) -> list[ConnectionInfo]:
    return [
        ConnectionInfo(
            client_id=m.client_id,
            client_addr=m.address,
            language=m.language or "OTHER",
            version=m.version,
        )
        for m in members
    ]


def _topics_of(service: GroupService, header: ConsumeStatsRequest) -> list[str]:
    if header.topic:
        return [header.topic]
    if header.topic_list:
        return [name for name in header.topic_list.split(";") if name]
    return sorted(service.metadata.offsets_of(header.consumer_group))


def _is_left_over(service: GroupService, group: str, topic: str) -> bool:
    """Whether the group's consumers are connected and do not subscribe the topic any more."""
    known = service.clients.consumer_group(group)
    return known is not None and bool(known.subscriptions) and topic not in known.subscriptions


async def _progress(service: GroupService, group: str, queue: MessageQueue) -> OffsetWrapper:
    consumed = service.writer.query_offset(group, queue.topic, queue.queue_id) or 0
    stored_ms = None
    if consumed > 0:
        stored_ms = await service.queues.store_time_at(queue.topic, queue.queue_id, consumed - 1)
    return OffsetWrapper(
        broker_offset=service.queues.max_offset(queue.topic, queue.queue_id),
        consumer_offset=consumed,
        pull_offset=consumed,
        last_timestamp=stored_ms or 0,
    )
