"""Outgoing connections: one per address, opened when first used, dropped when lost."""

import asyncio
from collections.abc import Callable

from . import frame
from .command import RemotingCommand
from .connection import Connection
from .errors import ConnectError, RequestTimeoutError
from .registry import ProcessorRegistry

CONNECT_TIMEOUT_MS = 3000


class RemotingClient:
    """A pool of connections, one per address.

    `registry` serves the requests that the other side sends on our connections.
    """

    def __init__(
        self,
        registry: ProcessorRegistry | None = None,
        *,
        on_close: Callable[[str, Connection], None] | None = None,
        serialize_type: frame.SerializeType = frame.SerializeType.JSON,
    ) -> None:
        self._registry = registry or ProcessorRegistry()
        self._on_close = on_close
        self._serialize_type = serialize_type
        self._connections: dict[str, Connection] = {}
        self._opening: dict[str, asyncio.Task[Connection]] = {}

    def peek(self, address: str) -> Connection | None:
        """The open connection to `address`, if there is one."""
        return self._connections.get(address)

    async def connect(self, address: str, timeout_ms: int = CONNECT_TIMEOUT_MS) -> Connection:
        """The connection to "host:port", opened if need be.

        Raises:
            ConnectError: refused, unreachable, no such host, or not open in time.
        """
        connection = self._connections.get(address)
        if connection is not None and not connection.closed:
            return connection
        opening = self._opening.get(address)
        if opening is None:
            opening = asyncio.get_running_loop().create_task(self._open(address))
            self._opening[address] = opening
            opening.add_done_callback(lambda t: self._opened(address, t))
        try:
            # Not wait_for: on Python 3.11 it can swallow the caller's own cancellation.
            async with asyncio.timeout(timeout_ms / 1000):
                return await asyncio.shield(opening)
        except TimeoutError as e:
            raise ConnectError(address, f"no connection within {timeout_ms} ms") from e
        except asyncio.CancelledError:
            if opening.cancelled():  # by close(), not our caller's own end
                raise ConnectError(address, "this client has been closed") from None
            raise

    async def request(
        self, address: str, command: RemotingCommand, timeout_ms: int
    ) -> RemotingCommand:
        """Send a request to `address`, return the reply whatever its code.

        Raises:
            ConnectError: the request never left.
            ConnectionLostError, RequestTimeoutError: it may have been carried out.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        connection = await self.connect(address, min(timeout_ms, CONNECT_TIMEOUT_MS))
        left_ms = timeout_ms - int((loop.time() - start) * 1000)
        if left_ms <= 0:
            raise RequestTimeoutError(address, command.code, timeout_ms)
        return await connection.request(command, left_ms)

    async def oneway(self, address: str, command: RemotingCommand) -> None:
        """Send a request that gets no reply."""
        (await self.connect(address)).oneway(command)

    async def close(self) -> None:
        """Close every connection."""
        for task in list(self._opening.values()):
            task.cancel()
        for connection in list(self._connections.values()):
            connection.close()
        self._connections.clear()
        await asyncio.sleep(0)

    async def _open(self, address: str) -> Connection:
        host, _, port = address.rpartition(":")
        if not host or not _is_port(port):
            raise ConnectError(address, "an address is host:port, for example 127.0.0.1:9876")

        def make() -> Connection:
            return Connection(
                self._registry,
                on_close=lambda c: self._closed(address, c),
                serialize_type=self._serialize_type,
                reads_while_clogged=True,
            )

        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                make, host.strip("[]"), int(port)
            )
        except (OSError, ValueError) as e:
            # ValueError: text that can be no host's name.
            reason = getattr(e, "strerror", None) or str(e)
            raise ConnectError(address, reason) from e
        return connection

    def _opened(self, address: str, task: asyncio.Task[Connection]) -> None:
        self._opening.pop(address, None)
        if not task.cancelled() and task.exception() is None:
            self._connections[address] = task.result()

    def _closed(self, address: str, connection: Connection) -> None:
        if self._connections.get(address) is connection:
            del self._connections[address]
        if self._on_close:
            self._on_close(address, connection)


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) <= 5 and int(text) <= 65535
