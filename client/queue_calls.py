"""What a consumer asks of brokers about one queue: pull, offsets, give back."""

from datetime import datetime
from typing import NamedTuple

from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.errors import LedgerMQError, PeerError
from ledgermq.remoting.headers.base import Header
from ledgermq.remoting.headers.offset import (
    OffsetResponse,
    QueryConsumerOffsetRequest,
    QueueOffsetRequest,
    SearchOffsetRequest,
    UpdateConsumerOffsetRequest,
)
from ledgermq.remoting.headers.pull import PullMessageRequest, PullMessageResponse
from ledgermq.remoting.headers.send import SendBackRequest
from ledgermq.remoting.message import MessageExt, PropertyName, decode_records

from .errors import BrokerRefused, InvalidArgument, NoLeader, RequestFailed
from .instance import Instance
from .result import MessageQueue
from .route_table import MASTER_ID
from .subscription import RETRY_PREFIX, Subscription
from .verdict import Step, judge

# The broker may hold a pull this long; the answer must come somewhat later at the latest.
SUSPEND_MS = 15_000
_PULL_GRACE_MS = 15_000
_COMMIT_BIT, _SUSPEND_BIT, _SUBSCRIPTION_BIT = 1, 2, 4
_ANSWERS = frozenset(
    {
        ResponseCode.SUCCESS,
        ResponseCode.PULL_NOT_FOUND,
        ResponseCode.PULL_RETRY_IMMEDIATELY,
        ResponseCode.PULL_OFFSET_MOVED,
    }
)

Start = str | int | datetime


class Pulled(NamedTuple):
    """The answer to one pull.

    Attributes:
        messages: what matches the subscription, in order.
        next_offset: where to pull next.
        moved: the offset asked for does not exist (any more); `next_offset` does.
        suggested_id: broker id to pull from next.
        min_offset: oldest offset of the queue.
        max_offset: offset the next message will get.
    """

    messages: list[MessageExt]
    next_offset: int
    moved: bool
    suggested_id: int
    min_offset: int
    max_offset: int


def check_start(start: Start) -> Start:
    """Refuse a start that means nothing.

    Raises:
        InvalidArgument: not "latest", "earliest", a datetime, or ms since 1970.
    """
    known = start in {"latest", "earliest"} if isinstance(start, str) else True
    if not known or (isinstance(start, int) and start < 0):
        raise InvalidArgument(
            f"start={start!r} is no place to start",
            'Use "latest", "earliest", a datetime, or milliseconds since 1970',
        )
    return start


class QueueCalls:
    """Requests of one group about queues; each follows a lost leader until its timeout."""

    def __init__(self, instance: Instance, group: str) -> None:
        self._instance = instance
        self._group = group

    # --- offsets ------------------------------------------------------------------------------

    async def committed(self, queue: MessageQueue, timeout_ms: int) -> int | None:
        """The group's next offset; None when it has none."""
        header = QueryConsumerOffsetRequest(
            consumer_group=self._group, topic=queue.topic, queue_id=queue.queue_id
        )
        try:
            reply = await self._ask_leader(
                "query offset", queue, RequestCode.QUERY_CONSUMER_OFFSET, header, timeout_ms
            )
        except BrokerRefused as e:
            if e.code == ResponseCode.QUERY_NOT_FOUND:
                return None
            raise
        return _offset_in(queue, reply)

    async def commit(self, queue: MessageQueue, offset: int, timeout_ms: int) -> None:
        """Store the group's next offset; returns when the broker has it."""
        header = self._commit_header(queue, offset)
        code = RequestCode.UPDATE_CONSUMER_OFFSET
        await self._ask_leader("commit offset", queue, code, header, timeout_ms)

    async def commit_oneway(self, queue: MessageQueue, offset: int) -> bool:
        """Store the group's next offset without waiting; False when there is no leader now."""
        route = self._instance.routes.cached(queue.topic)
        address = route.master(queue.broker_name) if route else None
        if address is None:
            return False
        ext = self._commit_header(queue, offset).to_ext()
        try:
            await self._instance.transport.oneway(
                address, request(RequestCode.UPDATE_CONSUMER_OFFSET, ext)
            )
        except LedgerMQError:
            return False
        return True

    async def min_offset(self, queue: MessageQueue, timeout_ms: int) -> int:
        """The oldest offset of a queue."""
        return await self._queue_offset(queue, RequestCode.GET_MIN_OFFSET, timeout_ms)

    async def max_offset(self, queue: MessageQueue, timeout_ms: int) -> int:
        """The offset the next message of a queue will get."""
        return await self._queue_offset(queue, RequestCode.GET_MAX_OFFSET, timeout_ms)

    async def search(self, queue: MessageQueue, timestamp_ms: int, timeout_ms: int) -> int:
        """The first offset stored at `timestamp_ms` (since 1970) or later."""
        header = SearchOffsetRequest(
            topic=queue.topic, queue_id=queue.queue_id, timestamp=timestamp_ms
        )
        code = RequestCode.SEARCH_OFFSET_BY_TIMESTAMP
        reply = await self._ask_leader("search offset", queue, code, header, timeout_ms)
        return _offset_in(queue, reply)

    async def first_offset(self, queue: MessageQueue, start: Start, timeout_ms: int) -> int:
        """Where the group goes on, or where it begins.

        Source: RebalancePushImpl.computePullFromWhere of RocketMQ 4.9. Retry topics begin at 0.
        """
        known = await self.committed(queue, timeout_ms)
        if known is not None:
            return known
        if queue.topic.startswith(RETRY_PREFIX):
            return 0
        if start == "latest":
            return await self.max_offset(queue, timeout_ms)
        if isinstance(start, datetime):
            return await self.search(queue, int(start.timestamp() * 1000), timeout_ms)
        if isinstance(start, int):
            return await self.search(queue, start, timeout_ms)
        return await self.min_offset(queue, timeout_ms)

    # --- messages -----------------------------------------------------------------------------

    async def pull(
        self,
        queue: MessageQueue,
        offset: int,
        subscription: Subscription,
        *,
        max_messages: int,
        suspend_ms: int = SUSPEND_MS,
        commit: int | None = None,
        broker_id: int = MASTER_ID,
    ) -> Pulled:
        """Pull once, from the broker id wanted or else from any node of the group.

        Args:
            queue: where from.
            offset: the first offset wanted.
            subscription: what is wanted.
            max_messages: most messages wanted.
            suspend_ms: how long the broker may wait for a message; 0 answers at once.
            commit: the group's next offset, to be stored on the way.
            broker_id: preferred.

        Raises:
            NoLeader: the route names no node of the group.
            RequestFailed, BrokerRefused: see each.
            PeerError: the answer cannot be read.
        """
        routes = self._instance.routes
        route = await routes.get(queue.topic)
        avoid = [a for a in route.addresses(masters_only=False) if routes.is_suspect(a)]
        address = route.address(queue.broker_name, broker_id, avoid)
        if address is None:
            names = self._instance.names.text
            detail = f"no node of {queue.broker_name} is registered"
            raise NoLeader(queue.topic, 0, detail, nameserver=names)
        # Only the leader stores offsets.
        carried = commit if address == route.master(queue.broker_name) else None
        header = self._pull_header(queue, offset, subscription, max_messages, suspend_ms, carried)
        command = request(RequestCode.PULL_MESSAGE, header.to_ext())
        try:
            reply = await self._instance.transport.request(
                address, command, suspend_ms + _PULL_GRACE_MS
            )
        except LedgerMQError as e:
            routes.suspect(address)
            raise RequestFailed(f"pull of {queue}", address, e) from e
        if reply.code not in _ANSWERS:
            raise BrokerRefused(address, reply.code, reply.remark)
        return _read_pulled(queue, address, subscription, reply)

    async def give_back(
        self, message: MessageExt, max_retries: int, timeout_ms: int, delay_level: int = 0
    ) -> None:
        """Have a message delivered to the group again later; to its dead-letter queue at last."""
        header = SendBackRequest(
            offset=message.physical_offset,
            group=self._group,
            delay_level=delay_level,
            origin_msg_id=message.msg_id,
            origin_topic=message.topic,
            max_reconsume_times=max_retries,
        )
        queue = MessageQueue(message.topic, message.broker_name, message.queue_id)
        code = RequestCode.CONSUMER_SEND_MSG_BACK
        await self._ask_leader("send back", queue, code, header, timeout_ms)

    # --- inside -------------------------------------------------------------------------------

    def _pull_header(
        self,
        queue: MessageQueue,
        offset: int,
        subscription: Subscription,
        max_messages: int,
        suspend_ms: int,
        commit: int | None,
    ) -> PullMessageRequest:
        flags = _SUBSCRIPTION_BIT
        flags |= _COMMIT_BIT if commit is not None else 0
        flags |= _SUSPEND_BIT if suspend_ms else 0
        return PullMessageRequest(
            consumer_group=self._group,
            topic=queue.topic,
            queue_id=queue.queue_id,
            queue_offset=offset,
            max_msg_nums=max_messages,
            sys_flag=flags,
            commit_offset=commit or 0,
            suspend_timeout_millis=suspend_ms,
            sub_version=subscription.version,
            subscription=subscription.expression,
            expression_type="TAG",
        )

    def _commit_header(self, queue: MessageQueue, offset: int) -> UpdateConsumerOffsetRequest:
        return UpdateConsumerOffsetRequest(
            consumer_group=self._group,
            topic=queue.topic,
            queue_id=queue.queue_id,
            commit_offset=offset,
        )

    async def _queue_offset(self, queue: MessageQueue, code: int, timeout_ms: int) -> int:
        header = QueueOffsetRequest(topic=queue.topic, queue_id=queue.queue_id)
        reply = await self._ask_leader("query queue offset", queue, code, header, timeout_ms)
        return _offset_in(queue, reply)

    async def _ask_leader(
        self, what: str, queue: MessageQueue, code: int, header: Header, timeout_ms: int
    ) -> RemotingCommand:
        """Ask the leader of the queue's group, the next one if it is lost meanwhile."""
        routes = self._instance.routes
        deadline_ms = mono_ms() + timeout_ms
        detail = f"no leader of {queue.broker_name} is registered"
        while True:
            left_ms = max(deadline_ms - mono_ms(), 1)
            route = await routes.get(queue.topic, left_ms)
            address = route.master(queue.broker_name)
            if address is not None:
                outcome = await self._outcome(address, request(code, header.to_ext()), left_ms)
                failure = judge(address, outcome)
                if failure is None and isinstance(outcome, RemotingCommand):
                    return outcome
                if failure is not None:
                    if failure.step is not Step.FOLLOW_LEADER:
                        raise _as_client_error(what, address, failure.error)
                    detail = str(failure.error)
                    routes.suspect(address)
            left_ms = max(deadline_ms - mono_ms(), 1)
            seen = await routes.leader_back(queue.topic, queue.broker_name, left_ms)
            if seen is not None:
                detail = f"{what}: {detail}; {seen}"
                names = self._instance.names.text
                raise NoLeader(queue.topic, timeout_ms, detail, nameserver=names)

    async def _outcome(
        self, address: str, command: RemotingCommand, timeout_ms: int
    ) -> RemotingCommand | LedgerMQError:
        try:
            return await self._instance.transport.request(address, command, timeout_ms)
        except LedgerMQError as e:
            return e


def _as_client_error(
    what: str, address: str, error: LedgerMQError
) -> BrokerRefused | RequestFailed:
    return error if isinstance(error, BrokerRefused) else RequestFailed(what, address, error)


def _offset_in(queue: MessageQueue, reply: RemotingCommand) -> int:
    try:
        return OffsetResponse.from_ext(reply.ext).offset
    except PeerError as e:
        where = f"leader of {queue.broker_name}"
        raise BrokerRefused(where, e.code, f"unreadable answer: {e.remark}") from e


def _read_pulled(
    queue: MessageQueue, address: str, subscription: Subscription, reply: RemotingCommand
) -> Pulled:
    try:
        header = PullMessageResponse.from_ext(reply.ext)
    except PeerError as e:
        raise BrokerRefused(address, e.code, f"unreadable answer: {e.remark}") from e
    messages: list[MessageExt] = []
    if reply.code == ResponseCode.SUCCESS:
        try:
            found = decode_records(reply.body)
        except PeerError as e:
            where = f"{queue} from offset {header.next_begin_offset} backwards"
            raise PeerError(e.code, f"message of {where} cannot be read: {e.remark}") from e
        messages = [m for m in found if subscription.wants(m.tag)]
    for message in messages:
        message.broker_name = queue.broker_name
        # A retried message shows the topic it was first sent to.
        message.topic = message.properties.get(PropertyName.RETRY_TOPIC, message.topic)
    return Pulled(
        messages,
        header.next_begin_offset,
        reply.code == ResponseCode.PULL_OFFSET_MOVED,
        header.suggest_which_broker_id,
        header.min_offset,
        header.max_offset,
    )
