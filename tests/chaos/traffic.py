"""Sends and deliveries of our own client inside the test's process, and what came of them."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from ledgermq import ClientError, Consumer, MessageExt, Producer, SendResult, sync

# A failure that comes at once must not become a busy loop.
_PAUSE_AFTER_FAILURE_S = 0.1


class Place(NamedTuple):
    """Where a message lies: one place is one message, also when its sender sent it twice."""

    broker: str
    queue: int
    offset: int


def place_of(sent: SendResult) -> Place:
    """Where an acknowledgement says that the message lies."""
    return Place(sent.queue.broker_name, sent.queue.queue_id, sent.queue_offset)


class Sends:
    """What a number of workers got as answers.

    Attributes:
        acked: each acknowledged send, in order of the answers.
        answered_s: the monotonic clock at each of these answers.
        failed: sends that ended with an error.
    """

    def __init__(self) -> None:
        self.acked: list[SendResult] = []
        self.answered_s: list[float] = []
        self.failed: list[ClientError] = []

    def to(self, broker: str, since: int = 0) -> list[SendResult]:
        """Those that one broker acknowledged, from the one with that number on."""
        return [r for r in self.acked[since:] if r.queue.broker_name == broker]

    def longest_gap_s(self) -> float:
        """The longest time without an answer."""
        pairs = zip(self.answered_s, self.answered_s[1:], strict=False)
        return max((b - a for a, b in pairs), default=0.0)

    async def work(self, producer: Producer, topic: str) -> None:
        """One worker: a send, its answer, the next send."""
        while True:
            try:
                result = await producer.send(topic, f"message {len(self.acked)}")
            except ClientError as e:
                self.failed.append(e)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
            else:
                self.acked.append(result)
                self.answered_s.append(time.monotonic())


@asynccontextmanager
async def sending(name_server: str, topic: str, workers: int = 10) -> AsyncIterator[Sends]:
    """Workers that send without end while the block runs."""
    sends = Sends()
    async with Producer("traffic", name_server) as producer:
        tasks = [asyncio.create_task(sends.work(producer, topic)) for _ in range(workers)]
        try:
            yield sends
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def consuming(name_server: str, topic: str, group: str) -> AsyncIterator[Counter[Place]]:
    """A consumer while the block runs; how often each place was delivered."""
    times: Counter[Place] = Counter()

    def seen(message: MessageExt) -> None:
        times[Place(message.broker_name, message.queue_id, message.queue_offset)] += 1

    async with Consumer(group, topic, name_server, start="earliest") as consumer:
        task = asyncio.create_task(consumer.run(seen))
        try:
            yield times
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@contextmanager
def collecting(name_server: str, topic: str, group: str) -> Iterator[list[MessageExt]]:
    """The blocking consumer in a thread of its own; all it was handed, while the block runs."""
    received: list[MessageExt] = []

    def collect() -> None:
        received.extend(consumer)

    with sync.Consumer(group, topic, name_server, start="earliest") as consumer:
        thread = threading.Thread(target=collect)
        thread.start()
        try:
            yield received
        finally:
            consumer.close()
            thread.join(10)
