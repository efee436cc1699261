"""`mqadmin sendMessage`: try a topic by hand.

Columns and texts: SendMessageCommand of RocketMQ 4.9.
"""

import asyncio
import os
import random
from typing import NamedTuple

import click

from ledgermq.admin import output
from ledgermq.admin.command import Call, subcommand
from ledgermq.admin.errors import AdminError, TopicMissingError
from ledgermq.admin.output import Table
from ledgermq.admin.session import LEADER_ID, Session, Unreachable
from ledgermq.remoting.bodies.route import TopicRouteData
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.errors import ConnectError, PeerError
from ledgermq.remoting.headers.send import SendMessageRequestV2, SendMessageResponse
from ledgermq.remoting.message import PropertyName, UniqueIdMaker, encode_properties

# The topic whose queues a new topic inherits when brokers create topics by themselves.
_DEFAULT_TOPIC = "TBW102"
_DEFAULT_TOPIC_QUEUES = 4
_PRODUCER_GROUP = "TOOLS_PRODUCER"
_PERM_WRITE = 2
_TRIES = 3
_PAUSE_S = 0.5

_STATUS = {
    int(ResponseCode.SUCCESS): "SEND_OK",
    int(ResponseCode.FLUSH_DISK_TIMEOUT): "FLUSH_DISK_TIMEOUT",
    int(ResponseCode.SLAVE_NOT_AVAILABLE): "SLAVE_NOT_AVAILABLE",
    int(ResponseCode.FLUSH_SLAVE_TIMEOUT): "FLUSH_SLAVE_TIMEOUT",
}
# Refusals that another try may not meet: an election is under way, or the broker is busy.
_TRY_AGAIN = {
    int(ResponseCode.SYSTEM_ERROR),
    int(ResponseCode.SYSTEM_BUSY),
    int(ResponseCode.SERVICE_NOT_AVAILABLE),
}


class Order(NamedTuple):
    """What to send, and the part of the topic it may go to."""

    topic: str
    body: bytes
    properties: dict[str, str]
    broker_name: str | None
    queue_id: int | None


class Place(NamedTuple):
    """A queue on a leader."""

    broker_name: str
    queue_id: int
    addr: str


class Sent(NamedTuple):
    """A stored message."""

    place: Place
    status: str
    msg_id: str
    reply: SendMessageResponse


class _NoLeaderError(AdminError):
    """The route names no leader: worth another try."""


@subcommand(
    "sendMessage",
    help_text="Send one message and show where it was stored.",
    examples="""
        mqadmin sendMessage -n 127.0.0.1:9876 -t TopicTest -p "hello"
        mqadmin sendMessage -n 127.0.0.1:9876 -t TopicTest -p "hello" -c TagA -k order-1
        mqadmin sendMessage -n 127.0.0.1:9876 -t TopicTest -p "hello" -b RaftNode00 -i 0
    """,
)
@click.option("-t", "--topic", required=True, help="Topic name.")
@click.option("-p", "--body", required=True, help="The message's text; sent as UTF-8.")
@click.option("-k", "--key", default="", help="Keys, joined by blanks.")
@click.option("-c", "--tags", default="", help="Tag.")
@click.option("-b", "--broker", "broker_name", help="Only to this broker name.")
@click.option(
    "-i", "--qid", "queue_id", type=click.IntRange(0), help="Only to this queue; with -b."
)
async def send_message(
    call: Call,
    topic: str,
    body: str,
    key: str,
    tags: str,
    broker_name: str | None,
    queue_id: int | None,
) -> None:
    """105 for the route, 310 to a leader."""
    if queue_id is not None and not broker_name:
        raise AdminError("-i names a queue of a broker", "Add -b <broker name>.")
    properties = {
        PropertyName.KEYS: key.strip(),
        PropertyName.WAIT: "true",
        PropertyName.TAGS: tags.strip(),
    }
    order = Order(topic.strip(), body.encode(), properties, broker_name, queue_id)
    async with call.session() as session:
        sent = await _send(session, order)
    table = Table("%-32s  %-4s  %-20s    %s", ("#Broker Name", "#QID", "#Send Result", "#MsgId"))
    table.add(
        (sent.place.broker_name, str(sent.reply.queue_id), sent.status, sent.msg_id),
        {
            "brokerName": sent.place.broker_name,
            "queueId": sent.reply.queue_id,
            "queueOffset": sent.reply.queue_offset,
            "sendStatus": sent.status,
            "msgId": sent.msg_id,
            "offsetMsgId": sent.reply.msg_id,
        },
    )
    output.show(table, as_json=call.as_json)


async def _send(session: Session, order: Order) -> Sent:
    """Try a few times while no leader takes the message; an unknown outcome is not repeated."""
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE_S)
        try:
            return await _send_once(session, order)
        except (ConnectError, _NoLeaderError) as e:
            problem = str(e)
        except PeerError as e:
            problem = f"refused: {e}"
            if e.code not in _TRY_AGAIN:
                break
        except Unreachable as e:
            raise AdminError(
                f"the outcome is unknown, the message may be stored: {e}",
                f"Look for it: mqadmin consumeMessage -n {session.name_server} -t {order.topic}",
            ) from e
    raise AdminError(
        f"the message was not sent: {problem}",
        f"See who leads: mqadmin clusterList -n {session.name_server}",
    )


async def _send_once(session: Session, order: Order) -> Sent:
    """Send by a fresh route.

    Raises:
        PeerError: the broker refused; nothing is stored.
        ConnectError, _NoLeaderError: nothing was sent.
        ConnectionLostError, RequestTimeoutError: it may be stored.
    """
    place = _pick(await _sending_route(session, order.topic), order)
    msg_id = UniqueIdMaker(session.local_ip(), os.getpid(), wall_ms).next_id()
    header = SendMessageRequestV2(
        producer_group=_PRODUCER_GROUP,
        topic=order.topic,
        default_topic=_DEFAULT_TOPIC,
        default_topic_queue_nums=_DEFAULT_TOPIC_QUEUES,
        queue_id=place.queue_id,
        sys_flag=0,
        born_timestamp=wall_ms(),
        flag=0,
        properties=encode_properties({PropertyName.UNIQ_KEY: msg_id, **order.properties}),
        reconsume_times=0,
    )
    answer = await session.ask_broker(place.addr, RequestCode.SEND_MESSAGE_V2, header, order.body)
    if answer.code not in _STATUS:
        raise PeerError(answer.code, answer.remark or "no reason given")
    return Sent(place, _STATUS[answer.code], msg_id, SendMessageResponse.from_ext(answer.ext))


async def _sending_route(session: Session, topic: str) -> TopicRouteData:
    """The topic's route, or the one it will inherit when the broker creates it."""
    try:
        return await session.route(topic)
    except TopicMissingError as missing:
        try:
            route = await session.route(_DEFAULT_TOPIC)
        except TopicMissingError:
            raise missing from None
    for queues in route.queue_datas:
        queues.write_queue_nums = min(queues.write_queue_nums, _DEFAULT_TOPIC_QUEUES)
    return route


def _pick(route: TopicRouteData, order: Order) -> Place:
    """A queue at random among those that the order allows."""
    writable = [q for q in route.queue_datas if q.perm & _PERM_WRITE and q.write_queue_nums]
    wanted = [q for q in writable if order.broker_name in (None, q.broker_name)]
    if not wanted:
        raise AdminError(
            f"topic {order.topic} cannot be written on {order.broker_name or 'any broker'}",
            f"Brokers where it can: {', '.join(q.broker_name for q in writable) or 'none'}."
            " See: mqadmin topicRoute",
        )
    leaders = {b.broker_name: b.broker_addrs.get(LEADER_ID) for b in route.broker_datas}
    led = [(q, addr) for q in wanted if (addr := leaders.get(q.broker_name))]
    if not led:
        raise _NoLeaderError(
            f"no leader now: {', '.join(q.broker_name for q in wanted)}",
            "An election takes about a second.",
        )
    queues, addr = random.choice(led)
    if order.queue_id is None:
        return Place(queues.broker_name, random.randrange(queues.write_queue_nums), addr)
    if order.queue_id >= queues.write_queue_nums:
        raise AdminError(
            f"topic {order.topic} has no queue {order.queue_id} on {queues.broker_name}",
            f"Its queues there: 0 to {queues.write_queue_nums - 1}.",
        )
    return Place(queues.broker_name, order.queue_id, addr)
