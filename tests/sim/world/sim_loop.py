"""An asyncio loop on simulated time. C tasks and futures work on it."""

import asyncio
import contextlib
import contextvars
import socket
from collections.abc import Callable, Coroutine, Generator
from math import ceil
from typing import TYPE_CHECKING, Any, TypeVar

from .sim_executor import SimExecutor

if TYPE_CHECKING:
    from .process import Process

T = TypeVar("T")
_Context = contextvars.Context | None

_DEFAULT_THREADS = 8


class Callback(asyncio.TimerHandle):
    """What `call_soon` and `call_later` return: as lean as it gets."""

    __slots__ = ("_clock_changes",)

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: _Context = None
    ) -> None:
        # asyncio's own would copy a context for each; only tasks bring one here.
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self._when = 0.0
        self._clock_changes = 0

    def cancel(self) -> None:
        """Never run."""
        self._cancelled = True
        self._callback = None  # type: ignore[assignment]
        self._args = ()

    def __repr__(self) -> str:
        return f"Callback({self._callback})"


class SimLoop(asyncio.AbstractEventLoop):
    """The loop of one process. Once that is dead, nothing asked of it happens."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._world = process.world
        self._machine = process.machine
        self._default_executor: SimExecutor | None = None
        self._tasks_made = 0
        self._closed = False

    # --- callbacks ------------------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: _Context = None
    ) -> Callback:
        """Run in the next turn."""
        handle = Callback(callback, args, context)
        process = self._process
        if process.alive:
            process.ready.append(handle)
            if not process._turning:
                process.wake()
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: _Context = None
    ) -> Callback:
        """Run after `delay` seconds of the machine's clock."""
        return self._at(self._machine.local_us() + ceil(delay * 1e6), callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: _Context = None
    ) -> Callback:
        """Run at `when`, see `time`."""
        return self._at(ceil(when * 1e6), callback, args, context)

    def _at(
        self,
        local_us: int,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: _Context,
    ) -> Callback:
        handle = Callback(callback, args, context)
        handle._when = local_us / 1e6
        if self._process.alive:
            self._plan(handle, local_us)
        return handle

    def _plan(self, handle: Callback, local_us: int) -> None:
        machine, world = self._machine, self._world
        handle._clock_changes = machine.clock_changes
        wait_us = max(local_us - machine.local_us(), 0)
        world.push(world.now_us + machine.world_delay_us(wait_us), self._due, handle)

    def _due(self, handle: Callback) -> None:
        if handle._callback is None or not self._process.alive:
            return
        if handle._clock_changes != self._machine.clock_changes:
            # The clock was made faster or slower meanwhile: it may be too early.
            local_us = ceil(handle._when * 1e6)
            if local_us > self._machine.local_us():
                self._plan(handle, local_us)
                return
        self._process.timer(handle)

    def time(self) -> float:
        """Seconds of the machine's clock that never steps."""
        return self._machine.local_us() / 1e6

    # --- tasks and futures ----------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """A C future."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: str | None = None,
        context: _Context = None,
    ) -> asyncio.Task[T]:
        """A C task; its name does not depend on other loops."""
        self._tasks_made += 1
        name = name or f"{self._process.name}-task-{self._tasks_made}"
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def drop_tasks(self) -> None:
        """The process is dead: end its coroutines now, not whenever they are collected.

        What their `finally` does finds everything dead and has no effect.
        """
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            # It may be running at this very moment, or raise while it is ended.
            with contextlib.suppress(BaseException):
                coroutine.close()

    # --- threads --------------------------------------------------------------------------------

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run in a simulated thread; a real one would break the world, so it is refused."""
        if executor is None:
            if self._default_executor is None:
                self._default_executor = SimExecutor(self._process, _DEFAULT_THREADS, "default")
            executor = self._default_executor
        if not isinstance(executor, SimExecutor):
            raise TypeError(f"{executor!r} has real threads; take one from Host.threads")
        future: asyncio.Future[T] = self.create_future()
        job = executor.submit(func, *args)

        def settle() -> None:
            if future.cancelled():
                return
            error = job.exception()
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(job.result())

        job.add_done_callback(lambda _: self.call_soon(settle))
        return future

    def set_default_executor(self, executor: Any) -> None:
        """For `asyncio.to_thread`."""
        self._default_executor = executor

    async def shutdown_default_executor(self) -> None:
        """Run its jobs to their end."""
        if self._default_executor is not None:
            self._default_executor.shutdown(wait=True)

    # --- sockets --------------------------------------------------------------------------------

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], host: str, port: int, **_: Any
    ) -> tuple[Any, Any]:
        """Dial over the simulated network."""
        return await self._world.net.dial(self._process, protocol_factory, host, port)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], host: str | None, port: int, **_: Any
    ) -> Any:
        """Listen on the simulated network; port 0 takes a free one."""
        return self._world.net.listen(self._process, protocol_factory, host, port)

    async def getaddrinfo(  # type: ignore[override]
        self, host: str | None, port: int, **_: Any
    ) -> list[tuple[Any, ...]]:
        """The one address of a machine. socket.gaierror: there is none of this name."""
        found = self._world.net.resolve(self._process, host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (found.host, port))]

    # --- the rest of a loop ---------------------------------------------------------------------

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """As long as the process lives."""
        return self._process.alive

    def is_closed(self) -> bool:
        """See `close`."""
        return self._closed

    def close(self) -> None:
        """Nothing to release."""
        self._closed = True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody handled ends the run."""
        if not self._process.alive:
            return
        error = context.get("exception")
        message = context.get("message", "")
        if not isinstance(error, BaseException):
            error = RuntimeError(message)
        error.add_note(f"in {self._process.name}, at {self._world.now_us} us: {message}")
        self._world.fail(error)

    default_exception_handler = call_exception_handler

    def __repr__(self) -> str:
        return f"SimLoop({self._process.name})"
