"""Connections between members.

Each member dials every other one twice (control, data) and sends only on what it dialled. A
connection starts with HELLO and its answer; strangers are refused with a reason.
"""

import asyncio
import logging
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
_HANDSHAKE_S = 2.0
# Above this many unsent bytes to a peer its control messages are dropped: they would be stale.
_MAX_CONTROL_BACKLOG = 1 << 20


class _Wire(asyncio.Protocol):
    """Frames in, frames out; everything queued in one loop tick leaves in one write."""

    def __init__(self, on_frame: Callable[[Frame], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._decoder = codec.FrameDecoder()
        self._out: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.remote = "?"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.remote = f"{name[0]}:{name[1]}" if name else "?"

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._on_frame(frame)
        except FrameError as e:
            log.warning("peer connection %s closed: %s", self.remote, e.remark)
            self.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._on_lost()

    def send(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def backlog_bytes(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport else 0

    def _flush(self) -> None:
        if self._out and self.transport and not self.transport.is_closing():
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        if self.transport is not None:
            self._flush()
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
        self._lost = asyncio.Event()
        self._greeted: asyncio.Future[Frame] | None = None
        self._task: asyncio.Task[None] | None = None
        self._last_refusal = ""
        self.peer: Hello | None = None
        self.up = False

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop dialling and close."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._wire:
            self._wire.close()

    def send(self, data: bytes, *, droppable: bool = False) -> bool:
        """Queue a frame; False when it was dropped because the link is down or clogged."""
        if not self.up or self._wire is None:
            return False
        if droppable and self._wire.backlog_bytes() > _MAX_CONTROL_BACKLOG:
            return False
        self._wire.send(data)
        return True

    async def _run(self) -> None:
        wait_s, was_up = _RETRY_MIN_S, False
        while True:
            refused = await self._session(was_up=was_up)
            if self.up:
                self.up = False
                self._on_down()
                wait_s, was_up = 0.0, True
                continue  # redial at once: what answers tells whether the process is gone
            was_up = False
            await asyncio.sleep(_REFUSED_RETRY_S if refused else wait_s)
            wait_s = min(max(wait_s * 2, _RETRY_MIN_S), _RETRY_MAX_S)

    async def _session(self, *, was_up: bool) -> bool:
        """Dial, greet, stay until the connection is lost; True when the peer refused us."""
        loop = asyncio.get_running_loop()
        self._lost.clear()
        self._greeted = loop.create_future()
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                _, wire = await loop.create_connection(
                    lambda: _Wire(self._on_frame, self._lost.set), *self._address
                )
                self._wire = wire
                wire.send(codec.encode_hello(Kind.HELLO, self._hello))
                frame = await self._first_frame()
        except (OSError, TimeoutError) as e:
            if was_up and isinstance(e, ConnectionRefusedError):
                self._on_died()
            if self._wire:
                self._wire.abort()
            return False
        if frame is None or frame.kind is not Kind.WELCOME:
            wire.abort()
            self._log_refusal(frame)
            return frame is not None
        self._welcome(codec.hello_of(frame))
        await self._lost.wait()
        return False

    async def _first_frame(self) -> Frame | None:
        greeted = self._greeted
        if greeted is None:
            return None
        lost = asyncio.ensure_future(self._lost.wait())
        lost.add_done_callback(lambda _: greeted.cancel())
        try:
            return await greeted
        except asyncio.CancelledError:
            if not lost.done():
                raise
            return None
        finally:
            lost.cancel()

    def _welcome(self, hello: Hello) -> None:
        if self.peer is not None and self.peer.boot_id != hello.boot_id:
            self._on_died()
        self.peer = hello
        self.up = True
        self._last_refusal = ""
        self._on_up(hello)

    def _on_frame(self, frame: Frame) -> None:
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_result(frame)

    def _log_refusal(self, frame: Frame | None) -> None:
        reason = str(frame.head[0]) if frame and frame.kind is Kind.REFUSE and frame.head else ""
        if reason and reason != self._last_refusal:
            self._last_refusal = reason
            log.error("peer %s refuses this node: %s", self._hello.receiver, reason)


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

    async def start(self, host: str, port: int) -> None:
        """Listen; OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make, host, port, reuse_address=True)

    def _make(self) -> _Wire:
        peer: NodeId | None = None

        def on_frame(frame: Frame) -> None:
            nonlocal peer
            if peer is None:
                peer = self._greet(wire, frame)
            else:
                self._on_frame(peer, frame)

        wire = _Wire(on_frame, lambda: self._drop(wire))
        self._wires.add(wire)
        return wire

    def _greet(self, wire: _Wire, frame: Frame) -> NodeId:
        if frame.kind is not Kind.HELLO:
            raise FrameError(f"the first frame is {frame.kind.name}, not HELLO")
        hello = codec.hello_of(frame)
        reason = self._check(hello)
        if reason is not None:
            log.error("peer connection from %s refused: %s", wire.remote, reason)
            wire.send(codec.encode(Kind.REFUSE, (reason,)))
            wire.close()
            raise FrameError(reason)
        key = (hello.sender, hello.channel)
        older = self._current.get(key)
        self._current[key] = wire
        if older is not None:
            older.abort()
        wire.send(codec.encode_hello(Kind.WELCOME, self._answer(hello)))
        return NodeId(hello.sender)

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
        for wire in list(self._wires):
            wire.close()
        await asyncio.sleep(0)
