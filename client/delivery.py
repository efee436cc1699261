"""One send on its way: to a queue, again to another leader, until stored or given up.

The usual case costs no task: the request is written at once and the reply settles it. Only a send
that has to look for a route, a connection or a leader gets a task of its own.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import LedgerMQError, PeerError
from ledgermq.remoting.headers.send import SendMessageResponse

from .errors import (
    BackgroundFailure,
    BrokerRefused,
    ClientClosed,
    ClientError,
    NoLeader,
    SendTimeout,
    TopicNotFound,
)
from .instance import Instance
from .result import MessageQueue, SendStatus
from .route_table import QueuePicker, TopicRoute
from .verdict import Failure, Step, judge

# Further attempts after a refusal that another broker may not repeat.
RETRIES = 2
_RANDOM_QUEUE = 1 << 16


class Stored(NamedTuple):
    """A confirmed send: where, how safely, and the broker's reply."""

    queue: MessageQueue
    status: SendStatus
    header: SendMessageResponse


Outcome = Stored | ClientError
BuildCommand = Callable[[MessageQueue], RemotingCommand]


class Sender:
    """Sends for one producer.

    Attributes:
        live: the sends that are not settled.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.live: set[Delivery] = set()
        self._pickers: dict[str, QueuePicker] = {}

    def pick(
        self, route: TopicRoute, fixed: MessageQueue | None, avoid_broker: str | None
    ) -> MessageQueue | None:
        """The queue for the next attempt, None while no group of the topic has a leader."""
        if fixed is not None:
            return fixed if route.master(fixed.broker_name) else None
        picker = self._pickers.get(route.topic)
        if picker is None:
            picker = self._pickers[route.topic] = QueuePicker(random.randrange(_RANDOM_QUEUE))
        return picker.pick(route, avoid_broker, self.instance.routes.is_suspect)

    def close(self) -> None:
        """Settle every send that is still on its way."""
        for delivery in list(self.live):
            delivery.settle(
                ClientClosed(
                    f"{self.instance.transport.name} was closed while a message was on its way",
                    "Close it after the sends have returned",
                    maybe_stored=True,
                )
            )


class Delivery:
    """One send.

    Args:
        sender: whose.
        topic: of the message.
        build: makes the request for the queue chosen; called once per attempt.
        timeout_ms: for all attempts together.
        done: told the outcome, once.
        queue: the one queue to use, or None for any.
        oneway: written is as good as stored; the broker does not answer.
    """

    __slots__ = (
        "_address",
        "_avoid",
        "_build",
        "_deadline_ms",
        "_done",
        "_fixed",
        "_maybe_stored",
        "_oneway",
        "_queue",
        "_refusals",
        "_sender",
        "_settled",
        "_timeout_ms",
        "_topic",
    )

    def __init__(
        self,
        sender: Sender,
        topic: str,
        build: BuildCommand,
        timeout_ms: int,
        done: Callable[[Outcome], None],
        queue: MessageQueue | None = None,
        *,
        oneway: bool = False,
    ) -> None:
        self._sender = sender
        self._topic = topic
        self._build = build
        self._timeout_ms = timeout_ms
        self._deadline_ms = mono_ms() + timeout_ms
        self._done = done
        self._fixed = queue
        self._oneway = oneway
        self._queue: MessageQueue | None = None
        self._address = ""
        self._avoid: str | None = None
        self._maybe_stored = False
        self._refusals = 0
        self._settled = False

    def start(self) -> None:
        """Write the request if route and connection are there, else begin by getting them."""
        self._sender.live.add(self)
        instance = self._sender.instance
        route = instance.routes.cached(self._topic)
        if route is not None:
            queue = self._sender.pick(route, self._fixed, None)
            address = route.master(queue.broker_name) if queue else None
            connection = instance.transport.peek(address) if address else None
            if queue and address and connection:
                self._write(connection, queue, address)
                return
        instance.spawn("send", self._attempt(None))

    def abandon(self) -> None:
        """Nobody waits for the outcome any more."""
        self._settled = True
        self._sender.live.discard(self)

    def settle(self, outcome: Outcome) -> None:
        """End it; the first outcome counts."""
        if self._settled:
            return
        self._settled = True
        self._sender.live.discard(self)
        self._done(outcome)

    def _left_ms(self) -> int:
        return self._deadline_ms - mono_ms()

    def _write(self, connection: Connection, queue: MessageQueue, address: str) -> None:
        self._queue, self._address = queue, address
        command = self._build(queue)
        if not self._oneway:
            connection.call(command, max(self._left_ms(), 1), self._replied)
            return
        connection.oneway(command)
        nowhere = SendMessageResponse(msg_id="", queue_id=queue.queue_id, queue_offset=-1)
        self.settle(Stored(queue, SendStatus.SEND_OK, nowhere))

    def _replied(self, outcome: RemotingCommand | Exception) -> None:
        if self._settled:
            return
        failure = judge(self._address, outcome)
        if failure is not None:
            self._sender.instance.spawn("send", self._attempt(failure))
        elif self._queue is not None and isinstance(outcome, RemotingCommand):
            self.settle(_read_reply(self._address, self._queue, outcome))

    async def _attempt(self, failure: Failure | None) -> None:
        """Overcome `failure`, then find a queue and write the request."""
        try:
            while not self._settled:
                if failure is not None:
                    await self._overcome(failure)
                failure = await self._try_once()
                if failure is None:
                    return
        except ClientError as e:
            self.settle(e)
        except Exception as e:
            self.settle(BackgroundFailure("send", e))
            raise

    async def _try_once(self) -> Failure | None:
        instance = self._sender.instance
        left_ms = self._left_ms()
        if left_ms <= 0:
            raise self._too_late("no time left")
        route = await instance.routes.get(self._topic, left_ms, create=True)
        queue = self._sender.pick(route, self._fixed, self._avoid)
        address = route.master(queue.broker_name) if queue else None
        if queue is None or address is None:
            self._queue = None
            groups = ", ".join(sorted(route.brokers)) or "no broker group"
            detail = f"the route has no leader of {groups}"
            return Failure(Step.FOLLOW_LEADER, LedgerMQError(detail), maybe_stored=False)
        self._queue, self._address = queue, address
        try:
            connection = await instance.transport.connect(address, max(self._left_ms(), 1))
        except LedgerMQError as e:
            return judge(address, e)
        if not self._settled:
            self._write(connection, queue, address)
        return None

    async def _overcome(self, failure: Failure) -> None:
        """Return when the next attempt makes sense.

        Raises:
            ClientError: it does not; this is the outcome.
        """
        routes = self._sender.instance.routes
        self._maybe_stored |= failure.maybe_stored
        if self._queue is not None:
            self._avoid = self._queue.broker_name
        if failure.step is Step.GIVE_UP:
            raise self._final(failure)
        if failure.step is Step.OTHER_BROKER:
            self._refusals += 1
            if self._refusals > RETRIES or self._left_ms() <= 0:
                raise self._final(failure)
            if _code(failure) == ResponseCode.TOPIC_NOT_EXIST:
                routes.forget(self._topic)
            return
        if self._queue is not None:
            routes.suspect(self._address)
        broker = self._fixed.broker_name if self._fixed else None
        left_ms = self._left_ms()
        detail = str(failure.error)
        if left_ms > 0:
            seen = await routes.leader_back(self._topic, broker, left_ms)
            if seen is None:
                return
            detail = f"{detail}; {seen}"
        if isinstance(failure.error, BrokerRefused) and not self._maybe_stored:
            raise failure.error
        raise self._too_late(detail)

    def _too_late(self, detail: str) -> ClientError:
        if self._maybe_stored:
            return SendTimeout(self._topic, self._timeout_ms, detail, maybe_stored=True)
        names = self._sender.instance.names.text
        return NoLeader(self._topic, self._timeout_ms, detail, nameserver=names)

    def _final(self, failure: Failure) -> ClientError:
        if not isinstance(failure.error, BrokerRefused):
            return self._too_late(str(failure.error))
        if failure.error.code == ResponseCode.TOPIC_NOT_EXIST:
            return TopicNotFound(self._topic, str(failure.error))
        failure.error.maybe_stored = self._maybe_stored
        return failure.error


def _read_reply(address: str, queue: MessageQueue, reply: RemotingCommand) -> Outcome:
    try:
        header = SendMessageResponse.from_ext(reply.ext)
    except PeerError as e:
        return BrokerRefused(address, e.code, f"unreadable answer: {e.remark}", maybe_stored=True)
    return Stored(queue, SendStatus(reply.code), header)


def _code(failure: Failure) -> int | None:
    return failure.error.code if isinstance(failure.error, BrokerRefused) else None
