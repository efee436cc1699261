"""One TCP connection, either side: pipelined requests both ways, matched by opaque."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from . import frame
from .clock import mono_ms
from .codes import ResponseCode
from .command import ONEWAY_FLAG, RESPONSE_FLAG, RemotingCommand, response
from .errors import (
    CallerError,
    ConnectionLostError,
    FrameError,
    PeerError,
    RequestTimeoutError,
    shortened,
)
from .outbox import Outbox
from .registry import Handler, ProcessorRegistry

log = logging.getLogger(__name__)

# Above this many unsent bytes a connection is not read, and what was read of it is not served,
# until the other side has taken them.
WRITE_HIGH_WATER_BYTES = 4 << 20
# Requests of one connection that may wait in tasks of their own, and how many of these run at once:
# each may come back with an answer of megabytes.
MAX_TASKS = 4096
MAX_RUNNING = 64
# Requests of one connection that may wait until it takes answers again; one chunk's worth and more.
MAX_WAITING = 32_768
# Longest remark of a refusal: it may quote what the other side sent.
MAX_REMARK_CHARS = 2000
_SWEEP_S = 0.1

Outcome = RemotingCommand | Exception
OnReply = Callable[[Outcome], None]


class Connection(asyncio.Protocol):
    """The asyncio protocol; made by `RemotingServer` and `RemotingClient`.

    Attributes:
        remote: "ip:port" of the other side.
        local: "ip:port" of this side.
        tags: free for the owner, e.g. a client id; dropped with the connection.
    """

    def __init__(
        self,
        registry: ProcessorRegistry,
        *,
        on_open: Callable[["Connection"], None] | None = None,
        on_close: Callable[["Connection"], None] | None = None,
        max_frame_bytes: int = frame.MAX_FRAME_BYTES,
        max_header_bytes: int = frame.MAX_HEADER_BYTES,
        serialize_type: frame.SerializeType = frame.SerializeType.JSON,
        reads_while_clogged: bool = False,
    ) -> None:
        self.remote = "?"
        self.local = "?"
        self.tags: dict[str, str] = {}
        self.closed = False
        self.last_activity_ms = mono_ms()
        self._registry = registry
        self._on_open = on_open
        self._on_close = on_close
        self._decoder = frame.CommandDecoder(max_frame_bytes, max_header_bytes)
        self._serialize_type = serialize_type
        # The side that asks goes on reading answers while the other side does not read; else two
        # peers that wait for each other to read would wait for ever.
        self._reads_while_clogged = reads_while_clogged
        self._is_refused = False
        self._out = Outbox()
        # Not set: the other side does not take what is written.
        self._unclogged = asyncio.Event()
        self._unclogged.set()
        self._waiting: deque[tuple[RemotingCommand, Handler]] = deque()
        self._pending: dict[int, tuple[OnReply, int, int, int]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = asyncio.Semaphore(MAX_RUNNING)

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the connection is open."""
        self._out.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self.remote = _address(transport.get_extra_info("peername"))
        self.local = _address(transport.get_extra_info("sockname"))
        if self._on_open:
            self._on_open(self)

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes came in."""
        self.last_activity_ms = mono_ms()
        shortcut = self._registry.shortcut
        try:
            frames, at = self._decoder.split(data), 0
            while at < len(frames) and not self._is_refused:
                first = at
                if shortcut is not None and self._serves_now():
                    at = shortcut(self, frames, first)
                if at == first:
                    self._take(self._decoder.decode(frames[at]))
                    at += 1
        except FrameError as e:
            self._refuse(e)

    def _take(self, command: RemotingCommand) -> None:
        if command.flag & RESPONSE_FLAG:
            self._settle(command)
        else:
            self._serve(command)

    def _refuse(self, error: FrameError) -> None:
        """Nothing more is taken from who sends such bytes."""
        self._is_refused = True
        self.close(f"bad bytes from {self.remote}: {error.remark}")

    def eof_received(self) -> None:
        """Asyncio: the other side has closed its half; close ours."""

    def pause_writing(self) -> None:
        """Asyncio: the other side does not read; serve no more requests of it."""
        self._unclogged.clear()
        if self._reads_while_clogged:
            return
        if self._transport and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Asyncio: the other side reads again."""
        self._unclogged.set()
        while self._waiting and self._unclogged.is_set():
            self._run(*self._waiting.popleft())
        if self._transport and not self._transport.is_closing() and self._unclogged.is_set():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the connection is gone."""
        self.closed = True
        if self._sweeper:
            self._sweeper.cancel()
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        self._fail_pending(str(exc) if exc else "closed by the other side")
        if self._on_close:
            self._on_close(self)

    # --- sending ------------------------------------------------------------------------------

    def send(self, command: RemotingCommand) -> None:
        """Send a command; many in one turn of the loop leave in one write."""
        self.send_bytes(frame.encode(command, self._serialize_type))

    def send_bytes(self, data: bytes) -> None:
        """Send whole frames that are already encoded."""
        if self.closed:
            return
        self._out.send(data)

    @property
    def backlog_bytes(self) -> int:
        """What is queued and not yet taken by the network."""
        return self._out.backlog_bytes()

    def reply(self, to: RemotingCommand, answer: RemotingCommand) -> None:
        """Answer a request; a one-way request gets none."""
        if to.flag & ONEWAY_FLAG:
            return
        answer.opaque = to.opaque
        answer.flag |= RESPONSE_FLAG
        try:
            self.send(answer)
        except FrameError as e:
            refusal = response(ResponseCode.SYSTEM_ERROR, f"the answer cannot be sent: {e.remark}")
            refusal.opaque = to.opaque
            self.send(refusal)

    async def request(self, command: RemotingCommand, timeout_ms: int) -> RemotingCommand:
        """Send a request and wait for its reply, whatever its code.

        Raises:
            RequestTimeoutError: no reply in time; it may still have been carried out.
            ConnectionLostError: closed before the reply came; likewise.
        """
        future: asyncio.Future[RemotingCommand] = asyncio.get_running_loop().create_future()

        def settle(outcome: Outcome) -> None:
            if future.done():
                return
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.call(command, timeout_ms, settle)
        try:
            return await future
        finally:
            self._pending.pop(command.opaque, None)

    def call(self, command: RemotingCommand, timeout_ms: int, on_reply: OnReply) -> None:
        """Send a request; `on_reply` gets the reply, or the error, exactly once."""
        if self.closed:
            on_reply(ConnectionLostError(self.remote, "already closed"))
            return
        if command.opaque in self._pending:
            raise CallerError(f"opaque {command.opaque} is in use on this connection")
        deadline_ms = mono_ms() + timeout_ms
        self._pending[command.opaque] = (on_reply, deadline_ms, command.code, timeout_ms)
        self.send(command)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def oneway(self, command: RemotingCommand) -> None:
        """Send a request that gets no reply."""
        command.flag |= ONEWAY_FLAG
        self.send(command)

    def close(self, reason: str = "") -> None:
        """Close after what is queued has been written; the reason goes to the log."""
        if self._transport is None or self._transport.is_closing():
            return
        if reason:
            log.warning("closing connection: %s", reason)
        self._out.flush()
        self._transport.close()

    def abort(self, reason: str) -> None:
        """Close without writing what is queued; the reason goes to the log."""
        if self._transport is None or self.closed:
            return
        log.warning("cutting connection off: %s", reason)
        self._transport.abort()

    @property
    def _transport(self) -> asyncio.Transport | None:
        return self._out.transport

    # --- requests from the other side ---------------------------------------------------------

    def _serve(self, command: RemotingCommand) -> None:
        handler = self._registry.get(command.code)
        if handler is None:
            remark = f" request type {command.code} not supported"
            self.reply(command, response(ResponseCode.REQUEST_CODE_NOT_SUPPORTED, remark))
        else:
            self.serve(command, handler)

    def serve(self, command: RemotingCommand, handler: Handler) -> None:
        """Run `handler` for a request of this connection and send what it answers.

        While the other side does not take the answers it has, the request waits.
        """
        if self._serves_now():
            self._run(command, handler)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append((command, handler))
        else:
            self.close(f"{self.remote} does not read its answers and goes on asking")

    def _serves_now(self) -> bool:
        """Whether the other side takes answers, and no earlier request waits until it does."""
        return self._unclogged.is_set() and not self._waiting

    def _run(self, command: RemotingCommand, handler: Handler) -> None:
        try:
            result = handler(self, command)
        except FrameError as e:
            self._refuse(e)
            return
        except Exception as e:  # noqa: BLE001 (one request must not end the connection)
            self.reply(command, _error_reply(command, self.remote, e))
            return
        if isinstance(result, RemotingCommand):
            self.reply(command, result)
        elif result is not None:
            self._start_task(command, result)

    def _start_task(
        self, command: RemotingCommand, result: Awaitable[RemotingCommand | None]
    ) -> None:
        if len(self._tasks) >= MAX_TASKS:
            if asyncio.iscoroutine(result):
                result.close()
            remark = "[OVERLOAD]system busy, start flow control for a while"
            self.reply(command, response(ResponseCode.SYSTEM_BUSY, remark))
            return
        task = asyncio.get_running_loop().create_task(self._finish(command, result))
        self._tasks.add(task)
        task.add_done_callback(lambda t: self._finished(t, result))

    def _finished(self, task: asyncio.Task[None], result: Awaitable[object]) -> None:
        self._tasks.discard(task)
        if asyncio.iscoroutine(result):
            result.close()  # it may never have begun

    async def _finish(
        self, command: RemotingCommand, result: Awaitable[RemotingCommand | None]
    ) -> None:
        async with self._running:
            try:
                answer = await result
            except Exception as e:  # noqa: BLE001 (one request must not end the connection)
                answer = _error_reply(command, self.remote, e)
            if answer is not None:
                self.reply(command, answer)
            # The next task begins when this answer is taken.
            await self._unclogged.wait()

    # --- replies to our requests --------------------------------------------------------------

    def _settle(self, command: RemotingCommand) -> None:
        entry = self._pending.pop(command.opaque, None)
        if entry is None:
            log.debug("late reply from %s dropped: %r", self.remote, command)
            return
        entry[0](command)

    def _sweep(self) -> None:
        self._sweeper = None
        now_ms = mono_ms()
        late = [opaque for opaque, entry in self._pending.items() if entry[1] <= now_ms]
        for opaque in late:
            on_reply, _, code, timeout_ms = self._pending.pop(opaque)
            on_reply(RequestTimeoutError(self.remote, code, timeout_ms))
        if self._pending and not self.closed:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _fail_pending(self, reason: str) -> None:
        pending, self._pending = self._pending, {}
        for on_reply, _, _, _ in pending.values():
            on_reply(ConnectionLostError(self.remote, reason))


def _address(name: tuple[str, int] | str | None) -> str:
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)


def _error_reply(command: RemotingCommand, remote: str, error: Exception) -> RemotingCommand:
    """The reply for a handler that failed: a refusal as it is, anything else as SYSTEM_ERROR."""
    if isinstance(error, PeerError):
        return response(error.code, shortened(error.remark, MAX_REMARK_CHARS))
    log.error("request %d from %s failed", command.code, remote, exc_info=error)
    remark = (
        f"request {command.code} met an error of this node, its log has the details;"
        f" repeating the same will not help ({type(error).__name__}: {error})"
    )
    return response(ResponseCode.SYSTEM_ERROR, shortened(remark, MAX_REMARK_CHARS))
