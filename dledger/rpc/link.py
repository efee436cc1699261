"""Connections between members.

Each member dials every other one twice (control, data) and sends only on what it dialled. A
connection starts with HELLO and its answer; strangers are refused with a reason.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from typing import cast

from ledgermq.dledger.ids import NodeId
from ledgermq.remoting.errors import FrameError

from . import codec
from .codec import Channel, Frame, Hello, Kind

log = logging.getLogger(__name__)

_RETRY_MIN_S = 0.02
_RETRY_MAX_S = 0.2
_REFUSED_RETRY_S = 1.0
_PORT_RETRY_S = 5.0
_PORT_PAUSE_S = 0.1
_HANDSHAKE_S = 2.0
# A connection that lasted less is not redialled at once: its end may be the answer to the redial.
_SHORT_S = 0.1
# Above this many unsent bytes to a peer its control messages are dropped: they would be stale.
_MAX_CONTROL_BACKLOG = 1 << 20
# What a stranger may make this node buffer.
_MAX_HELLO_BYTES = 64 << 10
# Unacknowledged bytes this old end a connection: after a cut in the network TCP alone would wait
# ever longer before it tries again.
_UNACKNOWLEDGED_MS = 3000
_MAX_COMPLAINTS = 64


class _Wire(asyncio.Protocol):
    """Frames in, frames out; everything queued in one loop tick leaves in one write.

    Callbacks: `on_frame(frame)`; `on_lost(what was wrong with the peer's bytes, or "")`, once.
    """

    def __init__(
        self, on_frame: Callable[[Frame], None], on_lost: Callable[[str], None], max_bytes: int
    ) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self.decoder = codec.FrameDecoder(max_bytes)
        self._out: list[bytes] = []
        self._problem = ""
        self._aborted = False
        self.transport: asyncio.Transport | None = None
        self.remote = "?"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.remote = f"{name[0]}:{name[1]}" if name else "?"
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        if self._aborted:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self.decoder.feed(data):
                if self.closing:
                    return
                self._on_frame(frame)
        except FrameError as e:
            self._problem = e.remark
            self.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._on_lost(self._problem)

    @property
    def closing(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    def send(self, data: bytes) -> None:
        if self.closing:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self.flush)
        self._out.append(data)

    def backlog_bytes(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport else 0

    def flush(self) -> None:
        if self._out and self.transport and not self.closing:
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def abort(self) -> None:
        self._aborted = True
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        if self.transport is not None:
            self.flush()
            self.transport.close()


class OutgoingLink:
    """One dialled connection, redialled for ever.

    Callbacks: `on_up(hello of the peer)`, `on_down()`, `on_died()`: the connection was lost and
    the redial refused, or greeted by another boot of the peer.
    """

    def __init__(
        self,
        address: tuple[str, int],
        hello: Hello,
        *,
        on_up: Callable[[Hello], None],
        on_down: Callable[[], None],
        on_died: Callable[[], None],
    ) -> None:
        self._address = address
        self._hello = hello
        self._on_up = on_up
        self._on_down = on_down
        self._on_died = on_died
        self._wire: _Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._last_complaint = ""
        self.peer: Hello | None = None
        self.up = False
        # The connection was lost and nobody has answered since: a refusal now means that the
        # process is gone. A dying one may still accept and drop a redial or two.
        self._suspect = False

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop dialling and close."""
        self.up = False
        if self._wire:
            self._wire.flush()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def send(self, data: bytes, *, droppable: bool = False) -> bool:
        """Queue a frame; False when it was dropped because the link is down or clogged."""
        if not self.up or self._wire is None:
            return False
        if droppable and self._wire.backlog_bytes() > _MAX_CONTROL_BACKLOG:
            return False
        self._wire.send(data)
        return True

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = _RETRY_MIN_S
        while True:
            begin_s = loop.time()
            refused = await self._session()
            if self.up:
                self.up = False
                self._suspect = True
                self._on_down()
                if loop.time() - begin_s >= _SHORT_S:
                    wait_s = _RETRY_MIN_S
                    continue  # redial at once: what answers tells whether the process is gone
            await asyncio.sleep(_REFUSED_RETRY_S if refused else wait_s)
            wait_s = min(wait_s * 2, _RETRY_MAX_S)

    async def _session(self) -> bool:
        """Dial, greet, stay until the connection is lost; True when the peer refused us."""
        loop = asyncio.get_running_loop()
        greeted: asyncio.Future[Frame | None] = loop.create_future()
        lost: asyncio.Future[None] = loop.create_future()

        def on_frame(frame: Frame) -> None:
            if not greeted.done():
                greeted.set_result(frame)

        def on_lost(problem: str) -> None:
            self._complain(problem)
            for future in (greeted, lost):
                if not future.done():
                    future.set_result(None)

        wire = _Wire(on_frame, on_lost, _MAX_HELLO_BYTES)
        try:
            frame = await self._greet(wire, greeted)
            if frame is None or frame.kind is not Kind.WELCOME:
                self._complain(_refusal(frame))
                return frame is not None
            self._welcome(wire, codec.hello_of(frame))
            await lost
        except (OSError, ValueError, FrameError) as e:
            # TimeoutError is an OSError; a host name that cannot be one is a ValueError.
            if self._suspect and isinstance(e, ConnectionRefusedError):
                self._suspect = False
                self._on_died()
            if isinstance(e, ValueError | FrameError):
                self._complain(str(e))
        finally:
            wire.abort()
        return False

    async def _greet(self, wire: _Wire, greeted: asyncio.Future[Frame | None]) -> Frame | None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_HANDSHAKE_S):
            await loop.create_connection(lambda: wire, *self._address)
            wire.send(codec.encode_hello(Kind.HELLO, self._hello))
            return await greeted

    def _welcome(self, wire: _Wire, hello: Hello) -> None:
        if self.peer is not None and self.peer.boot_id != hello.boot_id:
            self._on_died()
        self.peer = hello
        self._wire = wire
        self.up = True
        self._suspect = False
        self._last_complaint = ""
        self._on_up(hello)

    def _complain(self, reason: str) -> None:
        """Log why there is no connection, once."""
        if reason and reason != self._last_complaint:
            self._last_complaint = reason
            host, port = self._address
            log.error(
                "no connection to peer %s (%s:%d): %s", self._hello.receiver, host, port, reason
            )


def _refusal(frame: Frame | None) -> str:
    if frame is None:
        return ""
    if frame.kind is not Kind.REFUSE or not frame.head:
        return f"it answers HELLO with {frame.kind.name}"
    return f"it refuses this node: {frame.head[0]}"


class LinkServer:
    """Accepts the connections of the other members.

    Callbacks: `check(hello) -> reason or None`, `on_frame(peer, frame)`.
    Invariant: of one peer and channel only the newest connection is heard.
    """

    def __init__(
        self,
        *,
        check: Callable[[Hello], str | None],
        answer: Callable[[Hello], Hello],
        on_frame: Callable[[NodeId, Frame], None],
    ) -> None:
        self._check = check
        self._answer = answer
        self._on_frame = on_frame
        self._server: asyncio.Server | None = None
        self._wires: set[_Wire] = set()
        self._current: dict[tuple[str, int], _Wire] = {}
        self._complaints: set[tuple[str, str]] = set()

    async def start(self, host: str, port: int) -> None:
        """Listen; OSError when the port is taken.

        The usual ports lie where the system takes ports for outgoing connections from: one that
        nobody listens on will be free again, so it is tried for some seconds.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + _PORT_RETRY_S
        while self._server is None:
            try:
                self._server = await loop.create_server(self._make, host, port, reuse_address=True)
            except OSError as e:
                late = loop.time() > end_s
                if late or e.errno != errno.EADDRINUSE or await _is_listening(host, port):
                    raise
                await asyncio.sleep(_PORT_PAUSE_S)

    def _make(self) -> _Wire:
        peer: NodeId | None = None

        def on_frame(frame: Frame) -> None:
            nonlocal peer
            if peer is not None:
                self._on_frame(peer, frame)
                return
            peer = self._greet(wire, frame)
            patience.cancel()

        def on_lost(problem: str) -> None:
            patience.cancel()
            self._complain(wire, problem)
            self._drop(wire)

        wire = _Wire(on_frame, on_lost, _MAX_HELLO_BYTES)
        patience = asyncio.get_running_loop().call_later(_HANDSHAKE_S, wire.abort)
        self._wires.add(wire)
        return wire

    def _greet(self, wire: _Wire, frame: Frame) -> NodeId | None:
        """Answer the first frame; None when it is refused."""
        if frame.kind is not Kind.HELLO:
            raise FrameError(f"the first frame is {frame.kind.name}, not HELLO")
        hello = codec.hello_of(frame)
        reason = self._check(hello)
        if reason is not None:
            self._complain(wire, f"refused: {reason}")
            wire.send(codec.encode(Kind.REFUSE, (reason,)))
            wire.close()
            return None
        host = _host(wire)
        self._complaints = {c for c in self._complaints if c[0] != host}
        key = (hello.sender, hello.channel)
        older = self._current.get(key)
        self._current[key] = wire
        if older is not None:
            older.abort()
        wire.decoder.allow(codec.MAX_FRAME_BYTES)
        wire.send(codec.encode_hello(Kind.WELCOME, self._answer(hello)))
        return NodeId(hello.sender)

    def _complain(self, wire: _Wire, problem: str) -> None:
        """Log what is wrong with a connection, once for each host: it may be dialled for ever."""
        complaint = (_host(wire), problem)
        if not problem or complaint in self._complaints:
            return
        if len(self._complaints) >= _MAX_COMPLAINTS:
            self._complaints.clear()
        self._complaints.add(complaint)
        log.error("peer connection from %s closed: %s", wire.remote, problem)

    def _drop(self, wire: _Wire) -> None:
        self._wires.discard(wire)
        for key, current in list(self._current.items()):
            if current is wire:
                del self._current[key]

    def drop_peer(self, peer: NodeId, channel: Channel) -> None:
        """Close what `peer` has dialled on `channel`; it will dial again."""
        wire = self._current.get((peer, channel))
        if wire is not None:
            wire.abort()

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._server:
            self._server.close()
        while self._wires:
            for wire in list(self._wires):
                wire.abort()
            await asyncio.sleep(0)


def _host(wire: _Wire) -> str:
    return wire.remote.rpartition(":")[0]


async def _is_listening(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1" if host == "0.0.0.0" else host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
