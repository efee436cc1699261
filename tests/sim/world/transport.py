"""Connections as asyncio transports: ordered bytes, late, in other pieces, or never."""

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .frames import is_control, mangle
from .sim_loop import Callback

if TYPE_CHECKING:
    from .net import Link
    from .process import Process

# How much of a write enters a slow link at once.
_SLOW_PIECE_BYTES = 16 << 10
_HIGH_WATER_BYTES = 64 << 10
# In place of bytes: the sender closed its end, or reset it.
_FIN = b"FIN"
_RST = b"RST"


class SimTransport(asyncio.Transport):
    """One end of a connection.

    Attributes:
        link: the way its bytes take.
        dialled: whether this end dialled.
    """

    peer: "SimTransport"

    def __init__(
        self,
        process: "Process",
        link: "Link",
        local: tuple[str, int],
        remote: tuple[str, int],
    ) -> None:
        super().__init__({"peername": remote, "sockname": local})
        self.link = link
        self.dialled = False
        self.process = process
        self._world = process.world
        self._net = process.world.net
        self._protocol: Any = None
        self._closing = False
        # The kernel has closed this end: what still arrives is answered with a reset.
        self._closed = False
        # Closed before it had a protocol.
        self._was_shut = False
        process.connections[self] = None
        # Sending: bytes the window has no room for; chunks under way, oldest first; chunks that
        # wait for a cut to be healed.
        self._buffer: list[memoryview] = []
        self._buffer_bytes = 0
        self._flight: deque[bytes] = deque()
        self._held: deque[bytes] = deque()
        self._unread_bytes = 0
        self._last_us = 0
        self._free_us = 0
        self._stuck_since_us: int | None = None
        self._high_water = _HIGH_WATER_BYTES
        self._writing_paused = False
        # Control channel of a member, sniffed from the first bytes: None, nothing sent yet.
        self._is_control: bool | None = None
        # Receiving.
        self._inbox: list[bytes] = []
        self._reading_paused = False
        self._read_callback = Callback(self._read, ())
        self._read_planned = False

    # --- coming up ------------------------------------------------------------------------------

    def join(self, peer: "SimTransport", answer_us: int) -> None:
        """The two ends know each other; nothing reaches this one before the answer."""
        self.peer, peer.peer = peer, self
        peer._last_us = answer_us

    def accept(self, factory: Callable[[], Any]) -> None:
        """The kernel took the connection; the process learns of it when it runs."""
        self.process.io(Callback(lambda: self._accepted(factory), ()))

    def _accepted(self, factory: Callable[[], Any]) -> None:
        self.attach(factory())

    def attach(self, protocol: Any) -> None:
        """Its protocol gets what arrived so far and will arrive."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self._inbox:
            self._plan_read()
        if self._was_shut:
            self._tell_lost(None)

    # --- sending --------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio."""
        if self._closing or self._closed or not data:
            return
        data = bytes(data)
        if self.dialled:
            if self._is_control is None:
                self._is_control = is_control(data)
            elif self._is_control and (self._net.frame_loss or self._net.frame_duplication):
                data = mangle(data, self._net)
        if self._buffer or self._unread_bytes + len(data) > self._net.window:
            self._buffer.append(memoryview(data))
            self._buffer_bytes += len(data)
            self._pump()
            self._feel_pressure()
        else:
            self._unread_bytes += len(data)
            self._send(data)

    def writelines(self, list_of_data: Any) -> None:
        """See asyncio."""
        self.write(b"".join(list_of_data))

    def _pump(self) -> None:
        """Send from the buffer what the window has room for."""
        while self._buffer:
            room = self._net.window - self._unread_bytes
            if room <= 0:
                return
            data = self._buffer[0]
            if len(data) > room:
                self._buffer[0], data = data[room:], data[:room]
            else:
                self._buffer.pop(0)
            self._buffer_bytes -= len(data)
            self._unread_bytes += len(data)
            self._send(bytes(data))
        if self._closing and not self._closed:
            self._finish(None)

    def _send(self, data: bytes) -> None:
        if not data:
            return
        link = self.link
        if link.bytes_per_s and len(data) > _SLOW_PIECE_BYTES:
            for at in range(0, len(data), _SLOW_PIECE_BYTES):
                self._launch(data[at : at + _SLOW_PIECE_BYTES])
            return
        world = self._world
        if len(data) > 1 and world.random() < self._net.split_chance:
            middle = 1 + int(world.random() * (len(data) - 1))
            self._launch(data[:middle])
            self._launch(data[middle:])
        else:
            self._launch(data)

    def _launch(self, data: bytes) -> None:
        """Put a chunk under way; one that catches up with the one before joins it."""
        link, world = self.link, self._world
        if self._held and not self._flight:
            self._held.append(data)
            return
        now_us = world.now_us
        if link.bytes_per_s:
            now_us = max(now_us, self._free_us) + len(data) * 1_000_000 // link.bytes_per_s
            self._free_us = now_us
        at_us = now_us + link.low_us + int(world.random() * (link.high_us - link.low_us))
        if at_us <= self._last_us:
            flight = self._flight
            if flight and flight[-1] is not _FIN and data is not _FIN and data is not _RST:
                flight[-1] += data
                return
            at_us = self._last_us
        self._last_us = at_us
        self._flight.append(data)
        world.push(at_us, self._arrive, None)

    def _arrive(self, _: object) -> None:
        """The oldest chunk under way reaches the other machine."""
        if not self._flight:
            return
        data = self._flight.popleft()
        peer = self.peer
        if self.link.is_cut or self._held or not peer.process.machine.on:
            self._held.append(data)
            self._get_stuck()
            return
        if self._net.link(peer.link.source, peer.link.target).is_cut:
            self._get_stuck()
        peer._take(data)

    # --- cuts -----------------------------------------------------------------------------------

    def _get_stuck(self) -> None:
        """Bytes stay unacknowledged: not for ever."""
        if self._closed:
            self._net.lingering.setdefault(self, self._world.now_us)
        elif self._stuck_since_us is None:
            self._stuck_since_us = since_us = self._world.now_us
            self._world.push(since_us + self._net.user_timeout_us, self._give_up, since_us)

    def _give_up(self, since_us: int) -> None:
        if self._stuck_since_us == since_us and not self._closed:
            self._net.counts["timed out connections"] += 1
            self.reset(errno.ETIMEDOUT, both=False)

    def acknowledged(self) -> None:
        """The way back is open again."""
        if not self._held:
            self._stuck_since_us = None

    def forget(self) -> None:
        """The kernel has given a closed end up: what still comes is answered with a reset."""
        self._held.clear()
        self._flight.clear()

    def retransmit(self, within_us: int) -> None:
        """The way is open again: what was held is sent anew, sooner or later."""
        if not self._held:
            return
        # What is still under way lies behind it.
        held = [*self._held, *self._flight]
        self._held.clear()
        self._flight.clear()
        self._stuck_since_us = None
        wait_us = int(self._world.random() * within_us)
        self._last_us = max(self._last_us, self._world.now_us + wait_us)
        for data in held:
            self._launch(data)

    # --- receiving ------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        """A chunk reached this machine."""
        if data is _RST:
            self._fail(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        elif self._closed:
            if data is not _FIN:
                self._answer_dead()
        else:
            self._inbox.append(data)
            if not self._read_planned:
                self._plan_read()

    def _answer_dead(self) -> None:
        """Bytes for a closed end: reset the sender."""
        if not self.link.is_cut:
            # Whatever it still had to say is worth nothing now.
            self.forget()
            self._launch(_RST)

    def _plan_read(self) -> None:
        if self._protocol is not None and not self._reading_paused and not self._read_planned:
            self._read_planned = True
            self.process.io(self._read_callback)

    def _read(self) -> None:
        self._read_planned = False
        if self._closed or self._closing or self._reading_paused or not self._inbox:
            return
        inbox = self._inbox
        if len(inbox) == 1:
            data = inbox[0]
            self._inbox = []
            if data is _FIN:
                self._read_fin()
                return
        else:
            fin = inbox[-1] is _FIN
            data = b"".join(inbox[:-1] if fin else inbox)
            self._inbox = [_FIN] if fin else []
            if fin:
                self._plan_read()
        peer = self.peer
        peer._unread_bytes -= len(data)
        if peer._buffer:
            peer._pump()
            peer._feel_relief()
        self._protocol.data_received(data)

    def _read_fin(self) -> None:
        if not self._protocol.eof_received():
            self.close()

    def pause_reading(self) -> None:
        """See asyncio."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """See asyncio."""
        if self._reading_paused:
            self._reading_paused = False
            if self._inbox:
                self._plan_read()

    def is_reading(self) -> bool:
        """See asyncio."""
        return not self._reading_paused and not self._closing

    # --- the end --------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._closing

    def close(self) -> None:
        """Send what waits, then close."""
        if self._closing:
            return
        self._closing = True
        if not self._buffer:
            self._finish(None)

    def abort(self) -> None:
        """Close at once; what the kernel has not taken is lost."""
        self._closing = True
        self._buffer.clear()
        self._buffer_bytes = 0
        if not self._closed:
            self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        """This end is closed; the other learns of it behind the last byte."""
        self._launch(_RST if any(d is not _FIN for d in self._inbox) else _FIN)
        self._shut(error)

    def _shut(self, error: Exception | None) -> None:
        self._closing = self._closed = True
        self._inbox.clear()
        self._buffer.clear()
        self._buffer_bytes = 0
        self.process.connections.pop(self, None)
        if self._protocol is None:
            self._was_shut = True
        else:
            self._tell_lost(error)

    def _tell_lost(self, error: Exception | None) -> None:
        self._was_shut = False
        self.process.loop.call_soon(self._protocol.connection_lost, error)

    def _fail(self, error: Exception) -> None:
        """The connection is broken; a loop notices it like bytes."""
        if self._closed:
            return
        self._closed = True
        self._flight.clear()
        self._held.clear()
        self.process.io(Callback(self._shut, (error,)))

    def reset(self, number: int, *, both: bool = True) -> None:
        """Break it at this end; the other is told unless the way there is cut."""
        if self._closed:
            return
        error = TimeoutError if number == errno.ETIMEDOUT else ConnectionResetError
        self._fail(error(number, os.strerror(number)))
        if both or not self.link.is_cut:
            self._launch(_RST)

    def die(self, *, quietly: bool) -> None:
        """The process is gone; without power nobody tells the other end."""
        self._closing = True
        if not self._closed and not quietly:
            self._launch(_RST if self._inbox else _FIN)
        self._closed = True
        self._inbox.clear()
        self._buffer.clear()
        self._buffer_bytes = 0
        self.process.connections.pop(self, None)

    # --- what a protocol may ask ----------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        """Bytes that wait in the process."""
        return self._buffer_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio; `low` is always a quarter of `high`."""
        self._high_water = _HIGH_WATER_BYTES if high is None else high

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high)."""
        return self._high_water // 4, self._high_water

    def _feel_pressure(self) -> None:
        if not self._writing_paused and self._buffer_bytes > self._high_water:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _feel_relief(self) -> None:
        if self._writing_paused and self._buffer_bytes <= self._high_water // 4:
            self._writing_paused = False
            self.process.loop.call_soon(self._protocol.resume_writing)

    def set_protocol(self, protocol: Any) -> None:
        """See asyncio."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """See asyncio."""
        return self._protocol

    def can_write_eof(self) -> bool:
        """Not here."""
        return False

    def __repr__(self) -> str:
        return f"SimTransport({self.link.source}->{self.link.target})"
