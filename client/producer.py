"""The producer: sends messages, follows leaders, tells where each message lies."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.headers.send import SendMessageRequestV2
from ledgermq.remoting.message import (
    BatchItem,
    Message,
    PropertyName,
    encode_batch,
    encode_properties,
)

from .delivery import BuildCommand, Delivery, Outcome, Sender, Stored
from .errors import ClientError, InvalidArgument, SendManyFailed
from .ids import id_maker
from .instance import Instance
from .outgoing import MAX_BODY_BYTES, Outgoing, check_group, make_message, prepare
from .result import MessageQueue, SendResult
from .routes import DEFAULT_TOPIC, DEFAULT_TOPIC_QUEUES
from .window import Window

DEFAULT_TIMEOUT_S = 3.0
Body = bytes | str | Message


class Producer:
    """Sends messages.

    Usage: `async with Producer("pg", nameserver="localhost:9876") as p: await p.send(…)`.

    Args:
        group: the producer group.
        nameserver: "host:port", several joined by ";", or "http://…"; None takes $NAMESRV_ADDR,
            else localhost:9876.
        timeout: seconds for a send with all its attempts, unless the call says otherwise.
        compress: zlib for bodies of 4096 bytes and more.

    Every send may raise NoLeader, TopicNotFound, SendTimeout, BrokerRefused, NameServerUnreachable
    (see `ledgermq.errors`). A message is sent again after a lost connection or leader, so that it
    can be stored twice: consumers see at least one.
    """

    def __init__(
        self,
        group: str,
        nameserver: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        compress: bool = True,
    ) -> None:
        check_group(group)
        self.group = group
        self._timeout_s = timeout
        self._compress = compress
        self._instance = Instance(f'Producer "{group}"', nameserver, producer_group=group)
        self._sender = Sender(self._instance)
        self._ids = id_maker("127.0.0.1")

    async def start(self) -> Self:
        """Reach a name server; `async with` does it.

        Raises:
            NameServerUnreachable: none answered.
        """
        await self._instance.start(timeout_ms=int(self._timeout_s * 1000))
        self._ids = id_maker(self._instance.local_ip)
        return self

    async def close(self) -> None:
        """Give up what is still on its way and leave; a second call does nothing."""
        self._sender.close()
        await self._instance.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(
        self,
        topic: str | Message,
        body: bytes | str | None = None,
        *,
        tag: str | None = None,
        keys: str | Iterable[str] | None = None,
        properties: Mapping[str, str] | None = None,
        delay_level: int = 0,
        queue: MessageQueue | None = None,
        timeout: float | None = None,
    ) -> SendResult:
        """Send one message and wait until it is stored.

        Args:
            topic: its name, or a whole `Message`.
            body: the content; a str is sent as UTF-8.
            tag: what consumers filter by.
            keys: for looking the message up later.
            properties: more names and values of the application.
            delay_level: 0 at once, 1 to 18 for 1s 5s 10s 30s 1m … 2h.
            queue: the one queue to use; else the next in turn.
            timeout: seconds.
        """
        self._instance.check()
        message = make_message(
            topic, body, tag=tag, keys=keys, properties=properties, delay_level=delay_level
        )
        out = self._prepare(message)
        stored = await self._deliver(
            out.topic, lambda q: self._command(out, q), queue=queue, timeout=timeout
        )
        return _result(out.msg_id, stored)

    async def send_many(
        self,
        topic: str,
        bodies: Iterable[Body],
        *,
        tag: str | None = None,
        keys: str | Iterable[str] | None = None,
        properties: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> list[SendResult]:
        """Send messages without waiting for each; results in the order of `bodies`.

        The messages go to the queues in turn. `timeout` counts for each from when it is written.

        Raises:
            SendManyFailed: some were not confirmed; its `results` tells which.
        """
        self._instance.check()
        keys = [keys] if isinstance(keys, str) else list(keys or ())
        window: Window[SendResult | ClientError] = Window()
        for body in bodies:
            message = make_message(
                topic,
                body,
                tag=None if isinstance(body, Message) else tag,
                keys=None if isinstance(body, Message) else keys,
                properties=None if isinstance(body, Message) else properties,
                delay_level=0,
            )
            out = self._prepare(message)
            settle = await window.enter(len(out.body))
            self._launch(out, settle, timeout)
        results = await window.finish()
        if any(isinstance(r, ClientError) for r in results):
            raise SendManyFailed(list(results))
        return [r for r in results if isinstance(r, SendResult)]

    async def send_batch(
        self,
        topic: str,
        bodies: Iterable[Body],
        *,
        tag: str | None = None,
        queue: MessageQueue | None = None,
        timeout: float | None = None,
    ) -> list[SendResult]:
        """Send messages as one request: all in one queue, stored together or not at all.

        Raises:
            InvalidArgument: no message, more than 4 MiB together, another topic or a delay.
        """
        self._instance.check()
        outs = [self._prepare_batched(topic, body, tag) for body in bodies]
        if not outs:
            raise InvalidArgument("an empty batch", "Give at least one message")
        packed = encode_batch(
            BatchItem(out.flag, out.body, out.properties.encode()) for out in outs
        )
        if len(packed) > MAX_BODY_BYTES:
            raise InvalidArgument(
                f"batch of {len(packed)} bytes is over the limit of {MAX_BODY_BYTES}",
                "Send fewer messages per batch, or use send_many",
            )
        # The batch's own properties would override each message's id: none but WAIT.
        wait = encode_properties({PropertyName.WAIT: "true"})
        whole = Outgoing(topic, packed, 0, 0, wait, "")
        stored = await self._deliver(
            topic, lambda q: self._command(whole, q, batch=True), queue=queue, timeout=timeout
        )
        return _batch_results(outs, stored)

    async def send_oneway(
        self,
        topic: str | Message,
        body: bytes | str | None = None,
        *,
        tag: str | None = None,
        keys: str | Iterable[str] | None = None,
        properties: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Write one message to a leader without waiting for its answer: it may be lost.

        Raises:
            NoLeader: there is no leader to write to.
        """
        self._instance.check()
        message = make_message(
            topic, body, tag=tag, keys=keys, properties=properties, delay_level=0
        )
        out = self._prepare(message)
        await self._deliver(
            out.topic, lambda q: self._command(out, q), timeout=timeout, oneway=True
        )

    async def queues(self, topic: str, *, timeout: float | None = None) -> list[MessageQueue]:
        """The queues of a topic that take messages.

        Raises:
            TopicNotFound, NameServerUnreachable: see each.
        """
        self._instance.check()
        route = await self._instance.routes.get(topic, self._timeout_ms(timeout))
        return list(route.write_queues)

    # --- inside -------------------------------------------------------------------------------

    def _timeout_ms(self, timeout: float | None) -> int:
        seconds = self._timeout_s if timeout is None else timeout
        if seconds <= 0:
            raise InvalidArgument(f"timeout of {seconds} s", "Give seconds above 0")
        return max(1, int(seconds * 1000))

    def _prepare(self, message: Message) -> Outgoing:
        return prepare(message, self._ids.next_id(), compress=self._compress)

    def _prepare_batched(self, topic: str, body: Body, tag: str | None) -> Outgoing:
        whole = isinstance(body, Message)
        message = make_message(
            topic, body, tag=None if whole else tag, keys=None, properties=None, delay_level=0
        )
        if message.topic != topic or message.delay_level:
            raise InvalidArgument(
                "a batch holds messages of one topic, without a delay", "Use send or send_many"
            )
        # Source: RocketMQ's clients never compress inside a batch, nor do brokers expect it.
        return prepare(message, self._ids.next_id(), compress=False)

    def _command(
        self, out: Outgoing, queue: MessageQueue, *, batch: bool = False
    ) -> RemotingCommand:
        header = SendMessageRequestV2(
            producer_group=self.group,
            topic=out.topic,
            default_topic=DEFAULT_TOPIC,
            default_topic_queue_nums=DEFAULT_TOPIC_QUEUES,
            queue_id=queue.queue_id,
            sys_flag=out.sys_flag,
            born_timestamp=wall_ms(),
            flag=out.flag,
            properties=out.properties,
            reconsume_times=0,
            batch=batch,
            broker_name=queue.broker_name,
        )
        code = RequestCode.SEND_BATCH_MESSAGE if batch else RequestCode.SEND_MESSAGE_V2
        return request(code, header.to_ext(), out.body)

    async def _deliver(
        self,
        topic: str,
        build: BuildCommand,
        *,
        queue: MessageQueue | None = None,
        timeout: float | None = None,
        oneway: bool = False,
    ) -> Stored:
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if future.done():
                return
            if isinstance(outcome, Stored):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        delivery = Delivery(
            self._sender, topic, build, self._timeout_ms(timeout), done, queue, oneway=oneway
        )
        delivery.start()
        try:
            return await future
        finally:
            delivery.abandon()

    def _launch(
        self,
        out: Outgoing,
        settle: Callable[[SendResult | ClientError], None],
        timeout: float | None,
    ) -> None:
        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Stored):
                settle(_result(out.msg_id, outcome))
            else:
                settle(outcome)

        Delivery(
            self._sender,
            out.topic,
            lambda q: self._command(out, q),
            self._timeout_ms(timeout),
            done,
        ).start()


def _result(msg_id: str, stored: Stored) -> SendResult:
    header = stored.header
    # A broker may have chosen the queue itself.
    queue = stored.queue._replace(queue_id=header.queue_id)
    return SendResult(stored.status, msg_id, header.msg_id, queue, header.queue_offset)


def _batch_results(outs: list[Outgoing], stored: Stored) -> list[SendResult]:
    """One result per message: consecutive offsets, broker ids as far as the broker names them."""
    first = _result("", stored)
    ids = first.offset_msg_id.split(",")
    ids += [""] * (len(outs) - len(ids))
    return [
        first._replace(msg_id=out.msg_id, offset_msg_id=ids[i], queue_offset=first.queue_offset + i)
        for i, out in enumerate(outs)
    ]
