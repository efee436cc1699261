"""The consumer that is handed messages: by `async for`, or to a function, many at a time."""

import asyncio
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from ledgermq.remoting.message import MessageExt

from .assignment import Limits, Received
from .errors import ClientClosed, ClientError, InvalidArgument
from .leaving import left_normally
from .member import Member, Options
from .queue_calls import Start

log = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 20
DEFAULT_TIMEOUT_S = 3.0
# Upstream's maxReconsumeTimes: after so many failures a message goes to %DLQ%group.
MAX_RETRIES = 16
MAX_CACHED_MESSAGES = 1000
MAX_CACHED_BYTES = 16 << 20
PULL_BATCH = 32
# When a message cannot even be given back, it is handed out here again after this time.
_REDELIVER_S = 5.0

Handler = Callable[[MessageExt], Awaitable[object] | object]


class Consumer:
    """Reads topics as one member of a group; brokers push by answering held pulls.

    Usage: `async with Consumer("cg", {"TopicTest": "TagA || TagB"}) as c: async for msg in c: …`.
    Each message is handed to one member of the group, at least once.

    - The body of the loop ends, or `break` or `return` leaves it: the message is acknowledged.
    - The body raises: the message is delivered again, to any member of the group, and after
      `max_retries` failures it goes to the topic `%DLQ%group`.
    - The task is cancelled: the message is not acknowledged; the next owner of its queue gets it.

    Several tasks may loop over one consumer. `run` calls a function, `concurrency` at a time.

    Args:
        group: the consumer group.
        topics: a topic, or topic -> "*" or tags joined by "||".
        nameserver: see `Producer`.
        concurrency: handlers at work at the same time in `run`.
        start: where a queue begins that the group has never read: "latest", "earliest", a
            datetime or ms since 1970. Brokers begin a young queue at its first message always.
        max_retries: deliveries of a failing message before it goes to the dead-letter queue.
        max_cached_messages: per queue, pulled and not yet acknowledged; then pulling pauses.
        max_cached_bytes: likewise, bytes of bodies.
        timeout: seconds for the start and for giving messages back.
    """

    def __init__(
        self,
        group: str,
        topics: str | Mapping[str, str],
        nameserver: str | None = None,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        start: Start = "latest",
        max_retries: int = MAX_RETRIES,
        max_cached_messages: int = MAX_CACHED_MESSAGES,
        max_cached_bytes: int = MAX_CACHED_BYTES,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        if concurrency < 1:
            raise InvalidArgument(f"concurrency={concurrency}", "Give 1 or more")
        limits = Limits(max_cached_messages, max_cached_bytes, PULL_BATCH)
        options = Options(start, limits, commit_on_its_own=True, active=False)
        self.group = group
        self._concurrency = concurrency
        self._max_retries = max_retries
        self._timeout_ms = max(1, int(timeout * 1000))
        self._member = Member(f'Consumer "{group}"', group, topics, nameserver, options)
        self._started = False
        # Handed out and not yet settled, in order.
        self._in_hand: dict[int, Received] = {}
        # Their loops were left by an exception that may or may not reach `__aexit__`.
        self._abandoned: list[Received] = []
        self._redeliveries: set[asyncio.TimerHandle] = set()

    async def start(self) -> Self:
        """Join the group; `async with` does it.

        Raises:
            NameServerUnreachable: none answered. A topic that is missing is waited for.
        """
        await self._member.start(self._timeout_ms)
        self._started = True
        return self

    async def close(self) -> None:
        """Commit what is acknowledged and leave the group; a second call does nothing."""
        for timer in self._redeliveries:
            timer.cancel()
        await self._member.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc is None or isinstance(exc, Exception):
                await self._settle_all(failed=exc is not None)
        finally:
            await self.close()

    def __aiter__(self) -> "_Loop":
        return _Loop(self)

    async def run(self, handler: Handler) -> None:
        """Call `handler` for each message, `concurrency` at a time, until cancelled or closed.

        The handler is a coroutine function, or a function that does not block.
        A message is acknowledged when its handler returns, and delivered again later when it
        raises. Starts the consumer if need be, and then closes it too.

        Raises:
            BackgroundFailure: the consumer cannot go on.
        """
        if not self._started:
            async with self:
                await self.run(handler)
            return
        self._member.instance.check()
        workers = [
            asyncio.get_running_loop().create_task(self._work(handler))
            for _ in range(self._concurrency)
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    # --- what happens to messages -------------------------------------------------------------

    async def _work(self, handler: Handler) -> None:
        while True:
            try:
                received = await self._member.take()
            except ClientClosed:
                return
            try:
                outcome = handler(received.message)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                log.warning("%s failed, comes again later", _name(received), exc_info=True)
                await self._give_back(received)
            else:
                received.assignment.acknowledge(received)

    async def advance(self, received: Received | None) -> Received | None:
        """For loops: settle the message in hand, wait for the next; None when closed meanwhile."""
        if received is not None:
            following = self.advance_now(received)
            if following is not None:
                return following
        # Loops that raised: the exception was caught, life goes on.
        abandoned, self._abandoned = self._abandoned, []
        for failed in abandoned:
            await self._give_back(failed)
        self._member.instance.check()
        try:
            following = await self._member.take()
        except ClientClosed:
            return None
        self._in_hand[id(following)] = following
        return following

    def advance_now(self, received: Received) -> Received | None:
        """`advance` when the next message is there already, else None, and nothing in hand.

        Between two messages of a loop nothing is checked that a system call tells, such as a fork:
        that is done at the first message, and whenever there is none to be had at once.
        """
        self.acknowledge(received)
        if self._abandoned or not self._member.instance.healthy:
            return None
        following = self._member.take_now()
        if following is not None:
            self._in_hand[id(following)] = following
        return following

    def acknowledge(self, received: Received) -> None:
        """For loops: the message is done with."""
        self._in_hand.pop(id(received), None)
        received.assignment.acknowledge(received)

    def abandon(self, received: Received) -> None:
        """For loops: an exception left the loop; it is judged when more is known of it."""
        self._in_hand.pop(id(received), None)
        self._abandoned.append(received)

    async def _settle_all(self, *, failed: bool) -> None:
        """At the end: acknowledge what loops still hold, or give it back."""
        for received in list(self._in_hand.values()):
            if failed:
                self.abandon(received)
            else:
                self.acknowledge(received)
        abandoned, self._abandoned = self._abandoned, []
        await asyncio.gather(*(self._give_back(r) for r in abandoned))

    async def _give_back(self, received: Received) -> None:
        """Have the broker deliver it again later; failing that, keep it and try it here again."""
        if received.held.dropped:
            return
        try:
            await self._member.calls.give_back(
                received.message, self._max_retries, self._timeout_ms
            )
        except ClientError as e:
            log.warning("%s not given back, tried here again: %s", _name(received), e)
            self._redeliver_later(received)
        else:
            received.assignment.acknowledge(received)

    def _redeliver_later(self, received: Received) -> None:
        def again() -> None:
            self._redeliveries.discard(timer)
            received.message.reconsume_times += 1
            self._member.deliver(received)

        timer = asyncio.get_running_loop().call_later(_REDELIVER_S, again)
        self._redeliveries.add(timer)


class _Loop:
    """One `async for` over a consumer; holds at most one message."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._received: Received | None = None

    def __aiter__(self) -> "_Loop":
        return self

    async def __anext__(self) -> MessageExt:
        consumer = self._consumer
        received, self._received = self._received, None
        # Not by `advance` alone: a coroutine less for each message that is there already.
        following = None if received is None else consumer.advance_now(received)
        if following is None:
            following = await consumer.advance(None)
        self._received = following
        if following is None:
            raise StopAsyncIteration
        return following.message

    def __del__(self) -> None:
        if self._received is None:
            return
        if left_normally(sys._getframe(1)):
            self._consumer.acknowledge(self._received)
        else:
            self._consumer.abandon(self._received)


def _name(received: Received) -> str:
    return f"message {received.message.msg_id} of {received.assignment.queue}"
