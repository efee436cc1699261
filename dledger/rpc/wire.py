"""One connection between members, either side: frames in, frames out."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from ledgermq.remoting.errors import FrameError
from ledgermq.remoting.outbox import Outbox

from . import codec
from .codec import Frame

# Unacknowledged bytes this old end a connection: after a cut in the network TCP alone would wait
# ever longer before it tries again.
_UNACKNOWLEDGED_MS = 3000


class Wire(asyncio.Protocol):
    """Frames in, frames out; many in one turn of the loop leave in one write.

    Callbacks: `on_frame(frame)`; `on_lost(what was wrong with the peer's bytes, or "")`, once.
    """

    def __init__(
        self, on_frame: Callable[[Frame], None], on_lost: Callable[[str], None], max_bytes: int
    ) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self.decoder = codec.FrameDecoder(max_bytes)
        self._out = Outbox()
        self._problem = ""
        self._aborted = False
        self.remote = "?"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the connection is open."""
        self._out.transport = transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.remote = f"{name[0]}:{name[1]}" if name else "?"
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        if self._aborted:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes came in; bad ones end the connection."""
        try:
            for frame in self.decoder.feed(data):
                if self.closing:
                    return
                self._on_frame(frame)
        except FrameError as e:
            self._problem = e.remark
            self.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Asyncio: the connection is gone."""
        self._on_lost(self._problem)

    @property
    def transport(self) -> asyncio.Transport | None:
        """Of the connection; None until it is made."""
        return self._out.transport

    @property
    def closing(self) -> bool:
        """Not open yet, or not any more."""
        return self.transport is None or self.transport.is_closing()

    def send(self, data: bytes) -> None:
        """Send whole frames; dropped when the connection is closing."""
        if not self.closing:
            self._out.send(data)

    def backlog_bytes(self) -> int:
        """What is queued and not yet taken by the network."""
        return self._out.backlog_bytes()

    def flush(self) -> None:
        """Write what is queued now."""
        self._out.flush()

    def abort(self) -> None:
        """End the connection at once, or as soon as it is made."""
        self._aborted = True
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """End the connection after what is queued has been written."""
        if self.transport is not None:
            self.flush()
            self.transport.close()
