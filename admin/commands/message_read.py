"""`mqadmin consumeMessage`: print messages of a topic, without a trace in any group's progress.

Flags and texts: ConsumeMessageCommand of RocketMQ 4.9.
"""

import datetime
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import click

from ledgermq.admin import output
from ledgermq.admin.command import Call, subcommand
from ledgermq.admin.errors import AdminError
from ledgermq.admin.output import Table
from ledgermq.admin.session import Session, Unreachable, reading_address
from ledgermq.remoting.bodies.route import TopicRouteData
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.headers.offset import (
    OffsetResponse,
    QueueOffsetRequest,
    SearchOffsetRequest,
)
from ledgermq.remoting.headers.pull import PullMessageRequest, PullMessageResponse
from ledgermq.remoting.message import MessageExt, decode_records

# A group that every broker knows from its start.
_CONSUMER_GROUP = "TOOLS_CONSUMER"
_PERM_READ = 4
_PULL_BATCH = 32
# PullMessageRequest.sys_flag: the subscription is carried; the request is not held.
_CARRY_SUBSCRIPTION = 4
_PULL_CODES = {
    int(ResponseCode.SUCCESS),
    int(ResponseCode.PULL_NOT_FOUND),
    int(ResponseCode.PULL_RETRY_IMMEDIATELY),
    int(ResponseCode.PULL_OFFSET_MOVED),
}


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue and the broker to ask for it."""

    topic: str
    broker_name: str
    queue_id: int
    addr: str


def _timestamp(text: str | None) -> int | None:
    """Ms since 1970 from digits, or from yyyy-MM-dd#HH:mm:ss:SSS in local time.

    Raises:
        AdminError: neither.
    """
    if text is None or text.strip().isdigit():
        return int(text) if text else None
    try:
        moment = datetime.datetime.strptime(text.strip(), "%Y-%m-%d#%H:%M:%S:%f").astimezone()
    except ValueError as e:
        raise AdminError(
            f"{text!r} is no time", "Write ms since 1970, or e.g. 2025-11-21#09:30:00:000"
        ) from e
    return int(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Span:
    """From where to where a queue is read; times in ms since 1970."""

    group: str
    offset: int | None
    begin_ms: int | None
    end_ms: int | None


@subcommand(
    "consumeMessage",
    help_text="Print messages of a topic, oldest first. No consumer group's progress is changed.",
    examples="""
        mqadmin consumeMessage -n 127.0.0.1:9876 -t TopicTest
        mqadmin consumeMessage -n 127.0.0.1:9876 -t TopicTest -c 10
        mqadmin consumeMessage -n 127.0.0.1:9876 -t TopicTest -b RaftNode00 -i 0 -o 100
        mqadmin consumeMessage -n 127.0.0.1:9876 -t TopicTest -s 2025-11-21#09:30:00:000
    """,
)
@click.option("-t", "--topic", required=True, help="Topic name.")
@click.option("-b", "--brokerName", "broker_name", help="Only this broker name.")
@click.option(
    "-i", "--queueId", "queue_id", type=click.IntRange(0), help="Only this queue; with -b."
)
@click.option("-o", "--offset", type=click.IntRange(0), help="From this queue offset; with -i.")
@click.option("-g", "--consumerGroup", "group", default=_CONSUMER_GROUP, show_default=True)
@click.option(
    "-s", "--beginTimestamp", "begin", help="Stored from here: ms, or yyyy-MM-dd#HH:mm:ss:SSS."
)
@click.option("-d", "-e", "--endTimestamp", "end", help="Stored before; as -s.")
@click.option(
    "-c",
    "--MessageNumber",
    "count",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="At most so many.",
)
async def consume_message(
    call: Call,
    topic: str,
    broker_name: str | None,
    queue_id: int | None,
    offset: int | None,
    group: str,
    begin: str | None,
    end: str | None,
    count: int,
) -> None:
    """105, then per queue 30 and 31 (or 29) for the ends and 11 for the messages."""
    if queue_id is not None and not broker_name:
        raise AdminError("-i names a queue of a broker", "Add -b <broker name>.")
    if offset is not None and queue_id is None:
        raise AdminError("-o is an offset in one queue", "Add -b <broker name> -i <queue id>.")
    topic = topic.strip()
    span = Span(group, offset, _timestamp(begin), _timestamp(end))
    found: list[MessageExt] = []
    async with call.session() as session:
        queues = _queues(await session.route(topic), topic, broker_name, queue_id)
        for queue in queues:
            async for message in _read(session, queue, span, count - len(found)):
                found.append(message)
                if not (call.as_json or output.on_terminal()):
                    output.say(_line(message))
    if call.as_json or output.on_terminal():
        output.show(_messages_table(found), as_json=call.as_json)
    if not found:
        output.warn(f"no message in {len(queues)} queues of {topic}")


def _queues(
    route: TopicRouteData, topic: str, broker_name: str | None, queue_id: int | None
) -> list[Queue]:
    addresses = {b.broker_name: reading_address(b) for b in route.broker_datas}
    found = [
        Queue(topic, data.broker_name, number, addr)
        for data in sorted(route.queue_datas, key=lambda q: q.broker_name)
        for number in range(data.read_queue_nums)
        if data.perm & _PERM_READ
        and broker_name in (None, data.broker_name)
        and queue_id in (None, number)
        and (addr := addresses.get(data.broker_name))
    ]
    if not found:
        names = ", ".join(sorted(q.broker_name for q in route.queue_datas)) or "none"
        raise AdminError(
            f"topic {topic} has no such queue to read", f"Brokers that have it: {names}."
        )
    return found


async def _read(
    session: Session, queue: Queue, span: Span, limit: int
) -> AsyncIterator[MessageExt]:
    """Up to `limit` messages of one queue."""
    if limit <= 0:
        return
    at, end = await _bounds(session, queue, span)
    left = limit
    while at < end and left > 0:
        answer = await _pull(session, queue, span.group, at, min(left, _PULL_BATCH, end - at))
        header = PullMessageResponse.from_ext(answer.ext)
        if answer.code == ResponseCode.SUCCESS:
            for message in decode_records(answer.body):
                if message.queue_offset < end and left > 0:
                    message.broker_name = queue.broker_name
                    left -= 1
                    yield message
        if header.next_begin_offset <= at:
            return
        at = header.next_begin_offset


async def _bounds(session: Session, queue: Queue, span: Span) -> tuple[int, int]:
    """First offset to read and the one after the last."""
    begin = await (
        _offset(session, queue, RequestCode.GET_MIN_OFFSET)
        if span.begin_ms is None
        else _offset_at(session, queue, span.begin_ms)
    )
    end = await (
        _offset(session, queue, RequestCode.GET_MAX_OFFSET)
        if span.end_ms is None
        else _offset_at(session, queue, span.end_ms)
    )
    return max(begin, span.offset or 0), end


async def _offset(session: Session, queue: Queue, code: int) -> int:
    header = QueueOffsetRequest(topic=queue.topic, queue_id=queue.queue_id)
    answer = await session.order_broker(queue.addr, code, header)
    return OffsetResponse.from_ext(answer.ext).offset


async def _offset_at(session: Session, queue: Queue, timestamp_ms: int) -> int:
    header = SearchOffsetRequest(topic=queue.topic, queue_id=queue.queue_id, timestamp=timestamp_ms)
    answer = await session.order_broker(queue.addr, RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, header)
    return OffsetResponse.from_ext(answer.ext).offset


async def _pull(
    session: Session, queue: Queue, group: str, offset: int, count: int
) -> RemotingCommand:
    header = PullMessageRequest(
        consumer_group=group,
        topic=queue.topic,
        queue_id=queue.queue_id,
        queue_offset=offset,
        max_msg_nums=count,
        sys_flag=_CARRY_SUBSCRIPTION,
        commit_offset=0,
        suspend_timeout_millis=0,
        sub_version=0,
        subscription="*",
        expression_type="TAG",
    )
    try:
        answer = await session.ask_broker(queue.addr, RequestCode.PULL_MESSAGE, header)
    except Unreachable as e:
        raise AdminError(
            f"the broker {queue.addr} does not answer: {e}",
            f"See which brokers run: mqadmin clusterList -n {session.name_server}",
        ) from e
    if answer.code not in _PULL_CODES:
        raise AdminError(
            f"the broker {queue.addr} refused: CODE: {answer.code}  DESC: {answer.remark}",
            f"Check topic and group: mqadmin topicRoute -n {session.name_server} -t {queue.topic}",
        )
    return answer


def _line(message: MessageExt) -> str:
    """Upstream's line, with its order of fields; a script finds MSGID and BODY."""
    properties = ", ".join(f"{name}={value}" for name, value in message.properties.items())
    return (
        f"MSGID: {message.msg_id} MessageExt [brokerName={message.broker_name},"
        f" queueId={message.queue_id}, storeSize={message.store_size},"
        f" queueOffset={message.queue_offset}, sysFlag={message.sys_flag},"
        f" bornTimestamp={message.born_timestamp_ms}, bornHost=/{message.born_host},"
        f" storeTimestamp={message.store_timestamp_ms}, storeHost=/{message.store_host},"
        f" msgId={message.offset_msg_id}, commitLogOffset={message.physical_offset},"
        f" reconsumeTimes={message.reconsume_times},"
        f" toString()=Message{{topic='{message.topic}', flag={message.flag},"
        f" properties={{{properties}}}}}] BODY: {_text(message.body)}"
    )


def _messages_table(messages: Sequence[MessageExt]) -> Table:
    columns = ("#Broker Name", "#QID", "#Offset", "#Tag", "#Keys", "#MsgId", "#Body")
    table = Table("%s", columns, right=frozenset(columns[1:3]))
    for message in messages:
        keys, body = " ".join(message.keys), _text(message.body)
        table.add(
            (
                message.broker_name,
                str(message.queue_id),
                str(message.queue_offset),
                message.tag,
                keys,
                message.msg_id,
                body,
            ),
            {
                "brokerName": message.broker_name,
                "queueId": message.queue_id,
                "queueOffset": message.queue_offset,
                "topic": message.topic,
                "tag": message.tag or None,
                "keys": message.keys,
                "msgId": message.msg_id,
                "offsetMsgId": message.offset_msg_id,
                "bornTimestamp": message.born_timestamp_ms,
                "storeTimestamp": message.store_timestamp_ms,
                "reconsumeTimes": message.reconsume_times,
                "properties": message.properties,
                "body": body,
            },
        )
    return table


def _text(body: bytes) -> str:
    return body.decode(errors="replace")
