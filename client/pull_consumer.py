"""The consumer that asks: polls for messages, commits when told to; or reads any queue."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.message import MessageExt

from .assignment import Limits
from .errors import InvalidArgument
from .member import Member, Options
from .queue_calls import Pulled, Start
from .result import MessageQueue
from .subscription import Subscription

DEFAULT_TIMEOUT_S = 3.0
MAX_CACHED_MESSAGES = 1000
MAX_CACHED_BYTES = 16 << 20
PULL_BATCH = 32


class PullConsumer:
    """Reads topics as one member of a group, at the application's pace.

    Usage: `async with PullConsumer("cg", "TopicTest", start="earliest") as c:
    msgs = await c.poll(max=32, timeout=1); await c.commit()`.

    Without a commit the group gets the same messages again after a restart or rebalance.

    Args:
        group, topics, nameserver, start, max_cached_messages, max_cached_bytes: see `Consumer`.
        timeout: seconds for the start and, unless the call says otherwise, for commit and offsets.
    """

    def __init__(
        self,
        group: str,
        topics: str | Mapping[str, str],
        nameserver: str | None = None,
        *,
        start: Start = "latest",
        max_cached_messages: int = MAX_CACHED_MESSAGES,
        max_cached_bytes: int = MAX_CACHED_BYTES,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        limits = Limits(max_cached_messages, max_cached_bytes, PULL_BATCH)
        options = Options(start, limits, commit_on_its_own=False, active=True)
        self.group = group
        self._timeout_s = timeout
        self._member = Member(f'PullConsumer "{group}"', group, topics, nameserver, options)

    async def start(self) -> Self:
        """Join the group; `async with` does it.

        Raises:
            NameServerUnreachable: none answered. A topic that is missing is waited for.
        """
        await self._member.start(self._timeout_ms(None))
        return self

    async def close(self) -> None:
        """Leave the group without a commit; a second call does nothing."""
        await self._member.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def poll(
        self,
        max: int = PULL_BATCH,  # noqa: A002 (reads best at the call: poll(max=32, timeout=1))
        timeout: float = 1.0,
    ) -> list[MessageExt]:
        """Up to `max` messages; waits up to `timeout` seconds for the first one.

        Raises:
            BackgroundFailure: the consumer cannot go on.
        """
        if max < 1:
            raise InvalidArgument(f"max={max}", "Give 1 or more")
        member = self._member
        try:
            async with asyncio.timeout(timeout):
                received = await member.take()
        except TimeoutError:
            return []
        messages = [received.message]
        received.assignment.acknowledge(received)
        while len(messages) < max:
            following = member.take_now()
            if following is None:
                break
            messages.append(following.message)
            following.assignment.acknowledge(following)
        return messages

    async def commit(self, *, timeout: float | None = None) -> None:
        """Store that everything polled so far is done with; returns when the brokers have it.

        Queues that went to another member meanwhile are left out.

        Raises:
            NoLeader, BrokerRefused, RequestFailed: some queues may be committed, some not.
        """
        await self._member.commit_all(self._timeout_ms(timeout))

    # --- single queues ------------------------------------------------------------------------

    def assigned(self) -> list[MessageQueue]:
        """The queues that are this member's share now."""
        return sorted(self._member.assignments)

    async def queues(self, topic: str, *, timeout: float | None = None) -> list[MessageQueue]:
        """All queues of a topic that can be read.

        Raises:
            TopicNotFound, NameServerUnreachable: see each.
        """
        self._member.instance.check()
        route = await self._member.instance.routes.get(topic, self._timeout_ms(timeout))
        return list(route.read_queues)

    async def read(
        self,
        queue: MessageQueue,
        offset: int,
        *,
        max: int = PULL_BATCH,  # noqa: A002 (as in `poll`)
        timeout: float = 0.0,
        tags: str = "*",
    ) -> Pulled:
        """Read any queue from any offset, outside of the group's progress.

        Args:
            queue: where from.
            offset: the first offset wanted; see `Pulled.moved` for one that does not exist.
            max: most messages.
            timeout: seconds to wait for a message when there is none.
            tags: "*", or tags joined by "||".

        Raises:
            NoLeader, BrokerRefused, RequestFailed: see each.
        """
        self._member.instance.check()
        subscription = Subscription(queue.topic, tags, wall_ms())
        return await self._member.calls.pull(
            queue, offset, subscription, max_messages=max, suspend_ms=int(timeout * 1000)
        )

    async def committed(self, queue: MessageQueue, *, timeout: float | None = None) -> int | None:
        """The offset the group would go on at; None when it never committed."""
        self._member.instance.check()
        return await self._member.calls.committed(queue, self._timeout_ms(timeout))

    async def min_offset(self, queue: MessageQueue, *, timeout: float | None = None) -> int:
        """The oldest offset of a queue."""
        self._member.instance.check()
        return await self._member.calls.min_offset(queue, self._timeout_ms(timeout))

    async def max_offset(self, queue: MessageQueue, *, timeout: float | None = None) -> int:
        """The offset the next message of a queue will get."""
        self._member.instance.check()
        return await self._member.calls.max_offset(queue, self._timeout_ms(timeout))

    def _timeout_ms(self, timeout: float | None) -> int:
        return max(1, int((self._timeout_s if timeout is None else timeout) * 1000))
