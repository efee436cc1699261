"""Connections that somebody waits for, and those who wait for connections."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .sim_loop import Callback
from .transport import SimTransport

if TYPE_CHECKING:
    from .machine import Machine
    from .process import Process


class Dial:
    """A connection that somebody waits for."""

    def __init__(
        self,
        process: "Process",
        future: asyncio.Future[SimTransport],
        machine: "Machine",
        address: tuple[str, int],
    ) -> None:
        self.process = process
        self.future = future
        self.machine = machine
        self.address = address
        self.tries = 0
        self.end: SimTransport | None = None

    def succeed(self, _: object) -> None:
        """The answer arrived; its time in the loop is the process's business."""
        self._settle(None)

    def fail(self, error: OSError) -> None:
        """There will be no connection."""
        self._settle(error)

    def _settle(self, error: OSError | None) -> None:
        self.process.io(Callback(self._resolve, (error,)))

    def _resolve(self, error: OSError | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        elif self.end is not None:
            self.future.set_result(self.end)

    def give_up(self) -> None:
        """Nobody waits any more."""
        self.future.cancel()
        if self.end is not None:
            self.end.abort()


class Listener:
    """What `create_server` returns."""

    def __init__(
        self, process: "Process", factory: Callable[[], Any], address: tuple[str, int]
    ) -> None:
        self.process = process
        self.factory = factory
        self.address = address
        self.open = True

    @property
    def sockets(self) -> "tuple[Listener, ...]":
        """For those who ask for the port."""
        return (self,) if self.open else ()

    def getsockname(self) -> tuple[str, int]:
        """Address and port."""
        return self.address

    def close(self) -> None:
        """Accept no more."""
        if self.open:
            self.open = False
            self.process.world.net.forget_listener(self)

    async def wait_closed(self) -> None:
        """Nothing to wait for."""

    def is_serving(self) -> bool:
        """Until `close`."""
        return self.open
