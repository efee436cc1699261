"""Requests of one client: the connection pool, bound to one process and one event loop."""

import asyncio
import os
from collections.abc import Callable

from ledgermq.remoting.client import CONNECT_TIMEOUT_MS, RemotingClient
from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import ConnectError
from ledgermq.remoting.registry import ProcessorRegistry

from .errors import ClientClosed, ForkedClient, WrongLoop


class Transport:
    """The pool and the rules of its use.

    Args:
        name: what the errors call the owner, for example `Producer "pg"`.
        registry: serves what brokers ask of us.
        on_lost: told the address of every connection that closed.
    """

    def __init__(
        self,
        name: str,
        registry: ProcessorRegistry | None = None,
        on_lost: Callable[[str], None] = lambda _address: None,
    ) -> None:
        self.name = name
        self._client = RemotingClient(registry, on_close=lambda address, _: on_lost(address))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closed = False

    def open(self) -> None:
        """Bind to this process and to the running loop.

        Raises:
            ClientClosed: closed before; make a new client.
        """
        if self._closed:
            raise ClientClosed(f"{self.name} is closed", "Make a new one; it cannot be reopened")
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    def check(self) -> None:
        """Refuse use that could only hang or corrupt.

        Raises:
            ClientClosed, ForkedClient, WrongLoop: see each.
        """
        if self._closed:
            raise ClientClosed(f"{self.name} is closed", "Make a new one and keep it open")
        if self._loop is None:
            raise ClientClosed(
                f"{self.name} was not started", "Use `async with …:`, or await start() first"
            )
        if self._pid != os.getpid():
            raise ForkedClient(
                f"{self.name} was started in process {self._pid}, this is its fork {os.getpid()}",
                "Start a new one in the child process, after the fork",
            )
        if asyncio.get_running_loop() is not self._loop:
            state = "closed" if self._loop.is_closed() else "another"
            raise WrongLoop(
                f"{self.name} was started in an event loop that is {state} now",
                "Use it inside the asyncio.run() that started it, or take ledgermq.sync",
            )

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def peek(self, address: str) -> Connection | None:
        """The open connection to `address`, if there is one."""
        connection = self._client.peek(address)
        return None if connection is None or connection.closed else connection

    async def connect(self, address: str, timeout_ms: int) -> Connection:
        """The connection to `address`, opened if need be.

        Raises:
            ConnectError: refused, unreachable, or not open in time.
        """
        connection = self.peek(address)
        if connection is not None:
            return connection
        # In a task of its own, because asyncio.wait_for, which it uses, can swallow a cancellation
        # (before Python 3.12): a cancelled job would go on for ever.
        opening = self._client.connect(address, min(timeout_ms, CONNECT_TIMEOUT_MS))
        task = asyncio.get_running_loop().create_task(opening)
        # Who asked may have left by the time it fails.
        task.add_done_callback(lambda t: t.cancelled() or t.exception())
        return await asyncio.shield(task)

    async def request(
        self, address: str, command: RemotingCommand, timeout_ms: int
    ) -> RemotingCommand:
        """Ask and wait for the reply, whatever its code.

        Raises:
            ConnectError: the request never left.
            ConnectionLostError, RequestTimeoutError: it may have been carried out.
        """
        deadline_ms = mono_ms() + timeout_ms
        connection = await self.connect(address, timeout_ms)
        left_ms = deadline_ms - mono_ms()
        if left_ms <= 0:
            raise ConnectError(address, f"not open before the {timeout_ms} ms were over")
        return await connection.request(command, left_ms)

    async def oneway(self, address: str, command: RemotingCommand) -> None:
        """Send what needs no reply.

        Raises:
            ConnectError: it never left.
        """
        (await self.connect(address, CONNECT_TIMEOUT_MS)).oneway(command)

    async def drop_connections(self) -> None:
        """Close every connection; the next request opens its own."""
        await self._client.close()

    async def close(self) -> None:
        """Close every connection, for good."""
        self._closed = True
        await self.drop_connections()
