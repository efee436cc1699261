"""Sending: 10, 310 and 320, each also one-way.

The answer leaves when the message is committed and dispatched; until then nothing but an entry in
the node's queue of pending appends waits for it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ledgermq.broker import topics
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.forward import client_address
from ledgermq.broker.metadata import Metadata
from ledgermq.broker.sending.answers import SendAnswers
from ledgermq.broker.sending.rules import check, check_properties, queue_of
from ledgermq.broker.writer import AppendResult, BrokerNode, OutgoingRecord
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import ONEWAY_FLAG, RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.send import SendMessageRequest, SendMessageRequestV2
from ledgermq.remoting.message_batch import BatchItem, decode_batch
from ledgermq.remoting.message_id import pack_host
from ledgermq.remoting.registry import HandlerResult, ProcessorRegistry

LEADER_CODES: Final[frozenset[int]] = frozenset(
    {RequestCode.SEND_MESSAGE, RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE}
)
# Ordinal of V3_4_9: from here on a client's own limit of attempts counts.
_OWN_LIMIT_VERSION = 121


@dataclass(slots=True)
class SendService:
    """What the handlers need."""

    node: BrokerNode
    metadata: Metadata
    config: BrokerConfig
    answers: SendAnswers
    creating: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    # Sends, and bytes of their bodies, that wait for a topic to be created.
    waiting: int = 0
    waiting_bytes: int = 0


_Sender = Callable[
    [SendService, Connection, RemotingCommand, SendMessageRequest, TopicConfig], None
]


def register(registry: ProcessorRegistry, service: SendService) -> None:
    """Serve 10, 310 and 320."""
    registry.add(RequestCode.SEND_MESSAGE, partial(send, service))
    registry.add(RequestCode.SEND_MESSAGE_V2, partial(send, service))
    registry.add(RequestCode.SEND_BATCH_MESSAGE, partial(send_batch, service))


def send(service: SendService, connection: Connection, command: RemotingCommand) -> HandlerResult:
    """10, 310: one message, or a batch where the header says so (the C++ client's way)."""
    header = _header(command)
    if header.batch:
        return send_batch(service, connection, command)
    return _with_topic(service, connection, command, header, _send_one)


def send_batch(
    service: SendService, connection: Connection, command: RemotingCommand
) -> HandlerResult:
    """320: several messages of one topic for one queue; all are stored, or none."""
    header = _header(command)
    if topics.is_retry(header.topic) or len(header.topic) > topics.MAX_TOPIC_CHARS:
        raise PeerError(
            ResponseCode.MESSAGE_ILLEGAL,
            "a batch cannot go to a retry topic, nor to one of a longer name than"
            f" {topics.MAX_TOPIC_CHARS} characters",
        )
    return _with_topic(service, connection, command, header, _send_many)


def _header(command: RemotingCommand) -> SendMessageRequest:
    if command.code == RequestCode.SEND_MESSAGE_V2:
        return SendMessageRequestV2.of(command)
    if command.code == RequestCode.SEND_BATCH_MESSAGE and command.field("b") is not None:
        return SendMessageRequestV2.of(command)
    return SendMessageRequest.of(command)


def _with_topic(
    service: SendService,
    connection: Connection,
    command: RemotingCommand,
    header: SendMessageRequest,
    go_on: _Sender,
) -> HandlerResult:
    """Check the request, create its topic if that is allowed, then send."""
    check(service.config, len(command.body), header)
    config = service.metadata.topics.get(header.topic)
    if config is not None:
        go_on(service, connection, command, header, config)
        return None
    wanted = topics.auto_create(
        service.metadata.topics,
        header.topic,
        header.default_topic,
        header.default_topic_queue_nums,
        service.config,
    )
    if wanted is None:
        raise PeerError(
            ResponseCode.TOPIC_NOT_EXIST,
            f"topic[{header.topic}] not exist, apply first please! Create it:"
            f" mqadmin updateTopic -t {header.topic} -c {service.config.broker_cluster_name}",
        )
    _create_then(service, connection, command, header, wanted, go_on)
    return None


def _create_then(
    service: SendService,
    connection: Connection,
    command: RemotingCommand,
    header: SendMessageRequest,
    wanted: TopicConfig,
    go_on: _Sender,
) -> None:
    """Create the topic once, however many sends ask for it, then send.

    Also for a client that has left meanwhile: a one-way send was taken when it had arrived.
    """
    size = len(command.body)
    if (
        service.waiting >= service.config.send_queue_capacity
        or service.waiting_bytes + size > service.config.max_pending_send_bytes
    ):
        raise PeerError(ResponseCode.SYSTEM_BUSY, "too many sends wait for their topic; try again")
    task = service.creating.get(header.topic)
    if task is None:
        task = asyncio.get_running_loop().create_task(service.node.put_topic(wanted))
        service.creating[header.topic] = task
        task.add_done_callback(partial(_created, service, header.topic))
    service.waiting += 1
    service.waiting_bytes += size

    def created(task: "asyncio.Task[None]") -> None:
        service.waiting -= 1
        service.waiting_bytes -= size
        try:
            if not task.cancelled():
                task.result()
            config = service.metadata.topics.get(header.topic)
            if config is None:
                raise PeerError(ResponseCode.TOPIC_NOT_EXIST, f"topic {header.topic} is not there")
            go_on(service, connection, command, header, config)
        except PeerError as e:
            connection.reply(command, response(e.code, e.remark))

    task.add_done_callback(created)


def _created(service: SendService, topic: str, task: "asyncio.Task[None]") -> None:
    del service.creating[topic]
    if not task.cancelled():
        task.exception()  # those who asked hear of it; they may all have left


def _send_one(
    service: SendService,
    connection: Connection,
    command: RemotingCommand,
    header: SendMessageRequest,
    config: TopicConfig,
) -> None:
    queue_id = queue_of(service.config, header, config)
    topic = _dead_letter(service, command, header)
    if topic is not None:
        queue_id = 0
    record = OutgoingRecord(
        topic or header.topic,
        queue_id,
        command.body,
        service.answers.properties(header.properties or ""),
        header.flag,
        header.sys_flag,
        header.born_timestamp,
        pack_host(client_address(connection, command)),
        header.reconsume_times or 0,
    )

    answers = service.answers

    def done(result: AppendResult | PeerError) -> None:
        if isinstance(result, PeerError):
            connection.reply(command, response(result.code, result.remark))
        elif not command.flag & ONEWAY_FLAG:
            ids = answers.message_id(result.physical_offset)
            connection.send_bytes(
                answers.frame(command.opaque, header.properties or "", result, ids, queue_id)
            )

    service.node.append(record, done)


def _dead_letter(
    service: SendService, command: RemotingCommand, header: SendMessageRequest
) -> str | None:
    """The dead-letter topic, when a retried message was tried too often. Source: §8."""
    if not topics.is_retry(header.topic) or not header.reconsume_times:
        return None
    name = header.topic.removeprefix(topics.RETRY_PREFIX)
    group = topics.find_group(service.metadata.groups, name)
    if group is None:
        return None
    most = group.retry_max_times
    if command.version >= _OWN_LIMIT_VERSION and header.max_reconsume_times is not None:
        most = header.max_reconsume_times
    if header.reconsume_times <= most:
        return None
    dead = topics.dlq_topic(name)
    if dead not in service.metadata.topics:
        raise PeerError(
            ResponseCode.TOPIC_NOT_EXIST, f"topic {dead} does not exist yet; send the message back"
        )
    return dead


def _send_many(
    service: SendService,
    connection: Connection,
    command: RemotingCommand,
    header: SendMessageRequest,
    config: TopicConfig,
) -> None:
    queue_id = queue_of(service.config, header, config)
    born_host = pack_host(client_address(connection, command))
    items = decode_batch(command.body)
    if not items:
        raise PeerError(ResponseCode.MESSAGE_ILLEGAL, "the batch holds no message")
    records = [
        OutgoingRecord(
            header.topic,
            queue_id,
            item.body,
            service.answers.properties(_item_properties(header, item)),
            item.flag,
            header.sys_flag,
            header.born_timestamp,
            born_host,
        )
        for item in items
    ]

    answers = service.answers

    def done(result: AppendResult | PeerError) -> None:
        if isinstance(result, PeerError):
            connection.reply(command, response(result.code, result.remark))
        elif not command.flag & ONEWAY_FLAG:
            first = AppendResult(
                placed[0].queue_offset, placed[0].physical_offset, result.sync_timed_out
            )
            ids = ",".join(answers.message_id(p.physical_offset) for p in placed)
            connection.send_bytes(
                answers.frame(command.opaque, header.properties or "", first, ids, queue_id)
            )

    placed = service.node.append_all(records, done)


def _item_properties(header: SendMessageRequest, item: BatchItem) -> str:
    try:
        text = item.properties.decode()
    except UnicodeDecodeError as e:
        raise PeerError(
            ResponseCode.MESSAGE_ILLEGAL, f"properties of a message in the batch: {e}"
        ) from e
    check_properties(header.topic, text)
    return text
