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

from ledgermq.dledger.ids import NodeId
from ledgermq.remoting.errors import FrameError, shortened

from . import codec
from .codec import Channel, Frame, Hello, Kind
from .wire import Wire

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
# A peer that has not read this much does not follow what it acknowledges: a window is far smaller.
_MAX_DATA_BACKLOG = 128 << 20
# What a stranger may make this node buffer, and how many strangers may at a time.
_MAX_HELLO_BYTES = 64 << 10
_MAX_STRANGERS = 256
_MAX_COMPLAINTS = 64
# A reason may quote what the other side sent.
_MAX_REASON_CHARS = 300
# Nobody can be listening at such an address of a name that has several, e.g. ::1 of "localhost".
_NOBODY_THERE = frozenset({errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


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
        self._wire: Wire | None = None
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
        backlog = self._wire.backlog_bytes()
        if droppable and backlog > _MAX_CONTROL_BACKLOG:
            return False
        if backlog > _MAX_DATA_BACKLOG:
            self._complain(f"it acknowledges what it does not read ({backlog} bytes wait)")
            self._wire.abort()
            return False
        self._wire.send(data)
        return True

    def hang_up(self) -> None:
        """Close the connection that stands, if one does, and dial again."""
        if self.up and self._wire is not None:
            self._wire.abort()

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

        wire = Wire(on_frame, on_lost, _MAX_HELLO_BYTES)
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

    async def _greet(self, wire: Wire, greeted: asyncio.Future[Frame | None]) -> Frame | None:
        async with asyncio.timeout(_HANDSHAKE_S):
            await _dial(self._address, wire)
            wire.send(codec.encode_hello(Kind.HELLO, self._hello))
            return await greeted

    def _welcome(self, wire: Wire, hello: Hello) -> None:
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
        reason = shortened(reason, _MAX_REASON_CHARS)
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
    reason = str(frame.head[0])
    # What a stranger says must not look like lines of this node's log.
    return f"it refuses this node: {reason if reason.isprintable() else repr(reason)}"


async def _dial(address: tuple[str, int], wire: Wire) -> None:
    """Connect to the first address of the name that takes it.

    Raises:
        ConnectionRefusedError: nobody listens on any of them; a name may have several.
        OSError: none could be reached.
    """
    loop = asyncio.get_running_loop()
    host, port = address
    errors: list[OSError] = []
    for *_, found in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        # A link-local address of IPv6 is one only together with its interface.
        scope = f"%{found[3]}" if len(found) > 3 and found[3] else ""
        try:
            await loop.create_connection(lambda: wire, f"{found[0]}{scope}", port)
        except OSError as e:
            errors.append(e)
        else:
            return
    refused = [e for e in errors if isinstance(e, ConnectionRefusedError)]
    if refused and all(e.errno in _NOBODY_THERE for e in errors):
        raise refused[0]
    raise errors[0] if errors else OSError(f"{host} has no address")


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
        self._wires: dict[Wire, None] = {}
        # Those that have not said who they are, oldest first.
        self._strangers: dict[Wire, None] = {}
        self._current: dict[tuple[str, int], Wire] = {}
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

    def _make(self) -> Wire:
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

        wire = Wire(on_frame, on_lost, _MAX_HELLO_BYTES)
        patience = asyncio.get_running_loop().call_later(_HANDSHAKE_S, wire.abort)
        self._wires[wire] = None
        self._strangers[wire] = None
        if len(self._strangers) > _MAX_STRANGERS:
            # The oldest: a member says HELLO at once.
            next(iter(self._strangers)).abort()
        return wire

    def _greet(self, wire: Wire, frame: Frame) -> NodeId | None:
        """Answer the first frame; None when it is refused."""
        self._strangers.pop(wire, None)
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

    def _complain(self, wire: Wire, problem: str) -> None:
        """Log what is wrong with a connection, once for each host: it may be dialled for ever."""
        problem = shortened(problem, _MAX_REASON_CHARS)
        complaint = (_host(wire), problem)
        if not problem or complaint in self._complaints:
            return
        if len(self._complaints) >= _MAX_COMPLAINTS:
            self._complaints.clear()
        self._complaints.add(complaint)
        log.error("peer connection from %s closed: %s", wire.remote, problem)

    def _drop(self, wire: Wire) -> None:
        self._wires.pop(wire, None)
        self._strangers.pop(wire, None)
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


def _host(wire: Wire) -> str:
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
