"""Topics for operators: create, delete, list, look at. 17, 21, 202, 215, 305, 351."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from ledgermq.broker import topics as rules
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.metadata import Metadata
from ledgermq.broker.writer import MetadataWriter, QueueReader
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.bodies.route import TopicList
from ledgermq.remoting.bodies.stats import MessageQueue, TopicOffset, TopicStatsTable
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.topic import CreateTopicRequest, TopicRequest
from ledgermq.remoting.registry import ProcessorRegistry

LEADER_CODES: Final[frozenset[int]] = frozenset(
    {
        RequestCode.UPDATE_AND_CREATE_TOPIC,
        RequestCode.DELETE_TOPIC_IN_BROKER,
        RequestCode.GET_TOPIC_STATS_INFO,
    }
)
# Every queue costs a folder and two open files; a typing error must not make a million.
MAX_QUEUES: Final = 4096
_FILTER_TYPES = frozenset({"SINGLE_TAG", "MULTI_TAG"})


@dataclass(frozen=True, slots=True)
class TopicService:
    """What the handlers need."""

    metadata: Metadata
    writer: MetadataWriter
    queues: QueueReader
    config: BrokerConfig


def register(registry: ProcessorRegistry, service: TopicService) -> None:
    """Serve 17, 21, 202, 215, 305 and 351."""
    registry.add(RequestCode.UPDATE_AND_CREATE_TOPIC, partial(put_topic, service))
    registry.add(RequestCode.DELETE_TOPIC_IN_BROKER, partial(delete_topic, service))
    registry.add(RequestCode.GET_ALL_TOPIC_CONFIG, partial(all_topics, service))
    registry.add(RequestCode.GET_TOPIC_CONFIG, partial(topic_config, service))
    registry.add(RequestCode.GET_TOPIC_STATS_INFO, partial(topic_stats, service))
    registry.add(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_BROKER, partial(system_topics, service))


async def put_topic(
    service: TopicService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """17: create a topic, or change it; answered when every later read sees it."""
    header = CreateTopicRequest.of(command)
    _check_owned_by_user(service, header.topic)
    problem = _settings_problem(header)
    if problem:
        raise PeerError(ResponseCode.INVALID_PARAMETER, f"topic {header.topic}: {problem}")
    known = service.metadata.topics.get(header.topic)
    await service.writer.put_topic(
        TopicConfig(
            topic_name=header.topic,
            read_queue_nums=header.read_queue_nums,
            write_queue_nums=header.write_queue_nums,
            perm=header.perm,
            topic_filter_type=header.topic_filter_type,
            topic_sys_flag=header.topic_sys_flag,
            order=header.order,
            attributes=_changed_attributes(known, header.attributes or ""),
        )
    )
    return response(ResponseCode.SUCCESS)


async def delete_topic(
    service: TopicService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """215: forget a topic; one that does not exist is forgotten already."""
    header = TopicRequest.of(command)
    _check_owned_by_user(service, header.topic)
    if header.topic in service.metadata.topics:
        await service.writer.delete_topic(header.topic)
    return response(ResponseCode.SUCCESS)


def all_topics(
    service: TopicService, _connection: Connection, _command: RemotingCommand
) -> RemotingCommand:
    """21: the settings of all topics."""
    return response(ResponseCode.SUCCESS, body=service.metadata.export_topics())


def topic_config(
    service: TopicService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """351: the settings of one topic."""
    topic = _existing(service, TopicRequest.of(command).topic)
    return response(ResponseCode.SUCCESS, body=topic.encode())


async def topic_stats(
    service: TopicService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """202: first and next offset of each queue, and when its last message was stored."""
    topic = _existing(service, TopicRequest.of(command).topic)
    table = TopicStatsTable()
    for queue_id in range(max(topic.read_queue_nums, topic.write_queue_nums)):
        queue = MessageQueue(
            topic=topic.topic_name, broker_name=service.config.broker_name, queue_id=queue_id
        )
        table.offset_table[queue] = await _queue_stats(service.queues, queue)
    return response(ResponseCode.SUCCESS, body=table.encode())


def system_topics(
    service: TopicService, _connection: Connection, _command: RemotingCommand
) -> RemotingCommand:
    """305: the topics that the broker owns."""
    names = sorted(t for t in service.metadata.topics if rules.is_system(t, service.config))
    return response(ResponseCode.SUCCESS, body=TopicList(topic_list=names).encode())


async def _queue_stats(queues: QueueReader, queue: MessageQueue) -> TopicOffset:
    end = queues.max_offset(queue.topic, queue.queue_id)
    stored_ms = None
    if end > 0:
        stored_ms = await queues.store_time_at(queue.topic, queue.queue_id, end - 1)
    return TopicOffset(
        min_offset=max(0, queues.min_offset(queue.topic, queue.queue_id)),
        max_offset=end,
        last_update_timestamp=stored_ms or 0,
    )


def _existing(service: TopicService, name: str) -> TopicConfig:
    topic = service.metadata.topics.get(name)
    if topic is None:
        raise PeerError(ResponseCode.TOPIC_NOT_EXIST, f"topic {name} does not exist on this broker")
    return topic


def _check_owned_by_user(service: TopicService, name: str) -> None:
    problem = rules.topic_name_problem(name)
    if not problem and rules.is_system(name, service.config):
        problem = f"{name} is a system topic; only the broker changes it"
    if problem:
        raise PeerError(ResponseCode.INVALID_PARAMETER, problem)


def _settings_problem(header: CreateTopicRequest) -> str | None:
    for what, number in (("read", header.read_queue_nums), ("write", header.write_queue_nums)):
        if not 0 <= number <= MAX_QUEUES:
            return f"{number} {what} queues; choose 0 to {MAX_QUEUES}"
    if header.read_queue_nums == header.write_queue_nums == 0:
        return "no queue at all; choose at least one"
    if not 0 <= header.perm <= rules.PERM_RW | rules.PERM_INHERIT:
        return f"permission {header.perm}; use 2 (write), 4 (read) or 6 (both)"
    if header.topic_filter_type not in _FILTER_TYPES:
        return f"filter type {header.topic_filter_type!r}; use SINGLE_TAG or MULTI_TAG"
    return None


def _changed_attributes(known: TopicConfig | None, changes: str) -> dict[str, str]:
    """Attributes after `+name=value,-name`."""
    attributes = dict(known.attributes) if known else {}
    for change in filter(None, changes.split(",")):
        name, equals, value = change[1:].partition("=")
        if change[0] == "+" and name and equals:
            attributes[name] = value
        elif change[0] == "-" and name and not equals:
            attributes.pop(name, None)
        else:
            raise PeerError(
                ResponseCode.INVALID_PARAMETER,
                f"attribute change {change!r}; write +name=value or -name, with commas between",
            )
    return attributes
