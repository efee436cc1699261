"""Requests of one client: the connection pool, bound to one process and one event loop."""

import asyncio
import os
from collections.abc import Callable

from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.connection import Connection
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
        """The connection to `address`, opened if need be (see `RemotingClient.connect`)."""
        return await self._client.connect(address, timeout_ms)

    async def request(
        self, address: str, command: RemotingCommand, timeout_ms: int
    ) -> RemotingCommand:
        """Ask and wait for the reply, whatever its code (see `RemotingClient.request`)."""
        return await self._client.request(address, command, timeout_ms)

    async def oneway(self, address: str, command: RemotingCommand) -> None:
        """Send what needs no reply."""
        await self._client.oneway(address, command)

    async def drop_connections(self) -> None:
        """Close every connection; the next request opens its own."""
        await self._client.close()

    async def close(self) -> None:
        """Close every connection, for good."""
        self._closed = True
        await self.drop_connections()
