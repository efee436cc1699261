"""Blocking twins of producer and consumers: the same calls without `async` and `await`.

Each twin runs its client in an event loop of its own, in a thread of its own. Several threads may
share one.
"""

import asyncio
import functools
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from ledgermq.remoting.message import MessageExt

from . import producer, pull_consumer, push_consumer
from .assignment import Received
from .errors import ClientClosed, ForkedClient, WrongLoop
from .leaving import left_normally
from .queue_calls import Start

_JOIN_S = 10.0

P = ParamSpec("P")
T = TypeVar("T")


class _Client(Protocol):
    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


C = TypeVar("C", bound=_Client)


class _LoopThread:
    """An event loop in a thread; `call` runs a coroutine there and waits for it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """False once stopped, and in a fork."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine, wait for its result; Ctrl-C cancels it.

        Raises:
            ClientClosed, ForkedClient, WrongLoop: it would wait for ever.
        """
        if self._pid != os.getpid():
            raise ForkedClient(
                f"{self._name} was started in process {self._pid}, this is its fork {os.getpid()}",
                "Start a new one in the child process, after the fork",
            )
        if not self._thread.is_alive():
            raise ClientClosed(f"{self._name} is closed", "Make a new one and keep it open")
        if threading.current_thread() is self._thread:
            raise WrongLoop(
                f"{self._name} is called from its own event loop", "Use the asyncio class there"
            )
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def soon(self, callback: Callable[[], None]) -> None:
        """Have a callback run in the loop's thread, if the loop still runs."""
        if self.running:
            self._loop.call_soon_threadsafe(callback)

    def stop(self) -> None:
        """End the loop and its thread; a second call does nothing."""
        if self.running:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


class _Twin(Generic[C]):
    """A client and its loop's thread."""

    def __init__(self, client: C, name: str) -> None:
        self._client = client
        self._name = name
        self._thread: _LoopThread | None = None

    def start(self) -> Self:
        """Reach a name server; `with` does it.

        Raises:
            NameServerUnreachable: none answered.
        """
        if self._thread is None:
            self._thread = _LoopThread(self._name)
        try:
            self._call(self._client.__aenter__)
        except BaseException:
            self._thread.stop()
            raise
        return self

    def close(self) -> None:
        """Leave; a second call does nothing."""
        self._leave(None, None, None)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(exc_type, exc, traceback)

    def _leave(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is None or not self._thread.running:
            return
        try:
            self._call(lambda: self._client.__aexit__(exc_type, exc, traceback))
        finally:
            self._thread.stop()

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._thread is None:
            raise ClientClosed(
                f"{self._name} was not started", "Use `with …:`, or call start() first"
            )
        return self._thread.call(work)


def _blocking(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Twin[C], P], T]:
    """The twin of a coroutine method: same arguments, same result, same errors."""

    def call(self: _Twin[C], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._call(lambda: method(self._client, *args, **kwargs))

    return functools.update_wrapper(call, method)


class Producer(_Twin[producer.Producer]):
    """See `ledgermq.Producer`."""

    def __init__(
        self,
        group: str,
        nameserver: str | None = None,
        *,
        timeout: float = producer.DEFAULT_TIMEOUT_S,
        compress: bool = True,
    ) -> None:
        client = producer.Producer(group, nameserver, timeout=timeout, compress=compress)
        super().__init__(client, f'sync.Producer "{group}"')

    send = _blocking(producer.Producer.send)
    send_many = _blocking(producer.Producer.send_many)
    send_batch = _blocking(producer.Producer.send_batch)
    send_oneway = _blocking(producer.Producer.send_oneway)
    queues = _blocking(producer.Producer.queues)


class PullConsumer(_Twin[pull_consumer.PullConsumer]):
    """See `ledgermq.PullConsumer`."""

    def __init__(
        self,
        group: str,
        topics: str | Mapping[str, str],
        nameserver: str | None = None,
        *,
        start: Start = "latest",
        timeout: float = pull_consumer.DEFAULT_TIMEOUT_S,
    ) -> None:
        client = pull_consumer.PullConsumer(group, topics, nameserver, start=start, timeout=timeout)
        super().__init__(client, f'sync.PullConsumer "{group}"')

    poll = _blocking(pull_consumer.PullConsumer.poll)
    commit = _blocking(pull_consumer.PullConsumer.commit)
    queues = _blocking(pull_consumer.PullConsumer.queues)
    read = _blocking(pull_consumer.PullConsumer.read)
    committed = _blocking(pull_consumer.PullConsumer.committed)
    min_offset = _blocking(pull_consumer.PullConsumer.min_offset)
    max_offset = _blocking(pull_consumer.PullConsumer.max_offset)


class Consumer(_Twin[push_consumer.Consumer]):
    """See `ledgermq.Consumer`; read it by `for msg in consumer`, in one or more threads."""

    def __init__(
        self,
        group: str,
        topics: str | Mapping[str, str],
        nameserver: str | None = None,
        *,
        start: Start = "latest",
        max_retries: int = push_consumer.MAX_RETRIES,
        timeout: float = push_consumer.DEFAULT_TIMEOUT_S,
    ) -> None:
        client = push_consumer.Consumer(
            group, topics, nameserver, start=start, max_retries=max_retries, timeout=timeout
        )
        super().__init__(client, f'sync.Consumer "{group}"')

    def __iter__(self) -> "_Loop":
        return _Loop(self)


class _Loop:
    """One `for` over a consumer; holds at most one message."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._received: Received | None = None

    def __iter__(self) -> "_Loop":
        return self

    def __next__(self) -> MessageExt:
        received, self._received = self._received, None
        self._received = self._consumer._call(lambda: self._consumer._client.advance(received))
        if self._received is None:
            raise StopIteration
        return self._received.message

    def __del__(self) -> None:
        received, thread = self._received, self._consumer._thread
        if received is None or thread is None:
            return
        client = self._consumer._client
        settle = client.acknowledge if left_normally(sys._getframe(1)) else client.abandon
        thread.soon(functools.partial(settle, received))
