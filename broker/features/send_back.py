"""36: a consumer could not process a message and wants it again later.

The message is stored once more, in the group's retry topic, or in its dead-letter topic once it has
failed too often. Source: broker-behaviour §8. Divergence: scheduled delivery is not served yet, so
the copy is visible at once; its DELAY property says what was meant.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import randrange
from typing import Final

from ledgermq.broker import topics
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.metadata import Metadata
from ledgermq.broker.stored_message import offset_id, read_stored
from ledgermq.broker.writer import (
    AppendResult,
    MessageAppender,
    MetadataWriter,
    OutgoingRecord,
    QueueReader,
)
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.send import SendBackRequest
from ledgermq.remoting.message import (
    MAX_PROPERTIES_BYTES,
    PropertyName,
    decode_properties,
    encode_properties,
)
from ledgermq.remoting.registry import ProcessorRegistry

LEADER_CODES: Final[frozenset[int]] = frozenset({RequestCode.CONSUMER_SEND_MSG_BACK})
# Ordinal of V3_4_9: from here on a client's own limit of attempts counts.
_OWN_LIMIT_VERSION: Final = 121
# First level of a retry the broker chooses: 10 s, then 30 s, 1 min …
_FIRST_LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class SendBackService:
    """What the handler needs.

    Attributes:
        pick_queue: number of queues -> 0-based queue.
    """

    metadata: Metadata
    writer: MetadataWriter
    queues: QueueReader
    appender: MessageAppender
    config: BrokerConfig
    pick_queue: Callable[[int], int] = randrange


def register(registry: ProcessorRegistry, service: SendBackService) -> None:
    """Serve 36."""
    registry.add(RequestCode.CONSUMER_SEND_MSG_BACK, partial(send_back, service))


async def send_back(
    service: SendBackService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """36: store the message again for the group; answered when the copy is committed."""
    header = SendBackRequest.of(command)
    group = topics.find_group(service.metadata.groups, header.group)
    if group is None:
        raise PeerError(
            ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST,
            f"consumer group {header.group} does not exist on this broker",
        )
    if not service.config.broker_permission & topics.PERM_WRITE:
        raise PeerError(
            ResponseCode.NO_PERMISSION,
            f"broker {service.config.broker_name} takes no messages: brokerPermission is"
            f" {service.config.broker_permission}",
        )
    if group.retry_queue_nums <= 0:
        return response(ResponseCode.SUCCESS)  # the group's settings say to drop it
    message = await _read(service, header.offset)
    limit = _limit(group, header, command.version)
    if message.reconsume_times >= limit or header.delay_level < 0:
        await _bury(service, group, message)
    else:
        await _retry(service, group, message, header.delay_level)
    message.reconsume_times += 1
    # A committed message names the half it closed; its copy must not close anything again.
    message.prepared_transaction_offset = 0
    await _append(service, message)
    return response(ResponseCode.SUCCESS)


def _limit(group: SubscriptionGroupConfig, header: SendBackRequest, version: int) -> int:
    if version >= _OWN_LIMIT_VERSION and header.max_reconsume_times is not None:
        return header.max_reconsume_times
    return group.retry_max_times


async def _read(service: SendBackService, offset: int) -> OutgoingRecord:
    """The message as it lies at `offset`, with the marks of a retry added."""
    record = await service.queues.read_record(offset)
    if record is None:
        raise PeerError(
            ResponseCode.SYSTEM_ERROR, f"no message begins at commitlog offset {offset}"
        )
    message = read_stored(record)
    properties = decode_properties(message.properties)
    origin = properties.setdefault(PropertyName.RETRY_TOPIC, message.topic)
    topics.refuse_internal(message.topic, origin)
    properties.setdefault(
        PropertyName.ORIGIN_MESSAGE_ID,
        offset_id(record),
    )
    properties[PropertyName.WAIT] = "false"
    _set_properties(message, properties)
    return message


async def _bury(
    service: SendBackService, group: SubscriptionGroupConfig, message: OutgoingRecord
) -> None:
    """Aim the message at the group's dead-letter topic."""
    await _ready_topic(service, topics.new_dlq_topic(group.group_name))
    message.topic = topics.dlq_topic(group.group_name)
    message.queue_id = 0
    properties = decode_properties(message.properties)
    properties.pop(PropertyName.DELAY, None)
    _set_properties(message, properties)


async def _retry(
    service: SendBackService,
    group: SubscriptionGroupConfig,
    message: OutgoingRecord,
    delay_level: int,
) -> None:
    """Aim the message at the group's retry topic."""
    topic = await _ready_topic(service, topics.new_retry_topic(group))
    message.topic = topic.topic_name
    message.queue_id = service.pick_queue(min(group.retry_queue_nums, topic.write_queue_nums))
    properties = decode_properties(message.properties)
    level = delay_level or _FIRST_LEVEL + message.reconsume_times
    properties[PropertyName.DELAY] = str(level)
    _set_properties(message, properties)


async def _ready_topic(service: SendBackService, wanted: TopicConfig) -> TopicConfig:
    """The topic as it is, or as `wanted` where it does not exist yet."""
    topic = service.metadata.topics.get(wanted.topic_name)
    if topic is None:
        await service.writer.put_topic(wanted)
        return wanted
    if not topic.perm & topics.PERM_WRITE or topic.write_queue_nums == 0:
        raise PeerError(
            ResponseCode.NO_PERMISSION,
            f"topic {topic.topic_name} takes no messages. Give it write permission: mqadmin"
            f" updateTopic -t {topic.topic_name} -p 6",
        )
    return topic


def _set_properties(message: OutgoingRecord, properties: dict[str, str]) -> None:
    message.properties = encode_properties(properties).encode()
    if len(message.properties) > MAX_PROPERTIES_BYTES:
        raise PeerError(
            ResponseCode.MESSAGE_ILLEGAL,
            f"with the marks of a retry the properties have {len(message.properties)} bytes,"
            f" more than {MAX_PROPERTIES_BYTES}",
        )


async def _append(service: SendBackService, message: OutgoingRecord) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(outcome: AppendResult | PeerError) -> None:
        if done.done():
            return  # the asking connection has closed
        if isinstance(outcome, PeerError):
            done.set_exception(outcome)
        else:
            done.set_result(None)

    service.appender.append(message, settle)
    await done
