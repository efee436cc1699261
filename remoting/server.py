"""A listener: every connection serves the same registry."""

import asyncio
from collections.abc import Callable, Sequence

from . import frame
from .clock import mono_ms
from .connection import Connection
from .errors import CallerError
from .registry import ProcessorRegistry

IDLE_CLOSE_MS = 120_000
_IDLE_CHECK_S = 30.0


class RemotingServer:
    """Listens on one or more ports.

    Attributes:
        connections: the open ones.
    """

    def __init__(
        self,
        registry: ProcessorRegistry,
        *,
        host: str = "0.0.0.0",
        on_close: Callable[[Connection], None] | None = None,
        max_frame_bytes: int = frame.MAX_FRAME_BYTES,
        idle_close_ms: int = IDLE_CLOSE_MS,
    ) -> None:
        self.connections: set[Connection] = set()
        self._registry = registry
        self._host = host
        self._on_close = on_close
        self._max_frame_bytes = max_frame_bytes
        self._idle_close_ms = idle_close_ms
        self._servers: list[asyncio.Server] = []
        self._idle_timer: asyncio.TimerHandle | None = None

    async def start(self, ports: Sequence[int]) -> list[int]:
        """Listen; port 0 picks a free one. Returns the ports in order.

        Raises:
            CallerError: a port is taken; none is left open.
        """
        loop = asyncio.get_running_loop()
        bound: list[int] = []
        for port in ports:
            try:
                server = await loop.create_server(
                    self._make, self._host, port, backlog=1024, reuse_address=True
                )
            except OSError as e:
                await self.close()
                raise CallerError(
                    f"cannot listen on {self._host}:{port}: {e.strerror or e}."
                    f" See who holds it: lsof -i:{port}"
                ) from e
            self._servers.append(server)
            bound.append(server.sockets[0].getsockname()[1])
        self._idle_timer = loop.call_later(_IDLE_CHECK_S, self._close_idle)
        return bound

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._idle_timer:
            self._idle_timer.cancel()
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.close()
        self._servers.clear()
        await asyncio.sleep(0)

    def _make(self) -> Connection:
        return Connection(
            self._registry,
            on_open=self.connections.add,
            on_close=self._closed,
            max_frame_bytes=self._max_frame_bytes,
            max_header_bytes=frame.MAX_REQUEST_HEADER_BYTES,
        )

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if self._on_close:
            self._on_close(connection)

    def _close_idle(self) -> None:
        limit_ms = mono_ms() - self._idle_close_ms
        for connection in list(self.connections):
            if connection.last_activity_ms < limit_ms:
                connection.close()
        self._idle_timer = asyncio.get_running_loop().call_later(_IDLE_CHECK_S, self._close_idle)
