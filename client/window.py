"""A bounded number of requests on their way, their outcomes in order."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, cast

T = TypeVar("T")

MAX_IN_FLIGHT = 1024
# Below the connection's write limit, above which it would not be read.
MAX_BYTES_IN_FLIGHT = 2 << 20
# The loop gets a turn after so many, so that they leave in one write and others go on.
_TURN = 64


class Window(Generic[T]):
    """Waits for room before each request, for all outcomes at the end.

    Invariant: `in_flight` requests hold `bytes_in_flight` bytes together.
    """

    def __init__(
        self, max_in_flight: int = MAX_IN_FLIGHT, max_bytes: int = MAX_BYTES_IN_FLIGHT
    ) -> None:
        self.in_flight = 0
        self.bytes_in_flight = 0
        self._max_in_flight = max_in_flight
        self._max_bytes = max_bytes
        self._outcomes: list[T | None] = []
        self._moved = asyncio.Event()

    async def enter(self, size_bytes: int) -> Callable[[T], None]:
        """Wait for room, then return what to call, once, with the outcome."""
        if len(self._outcomes) % _TURN == _TURN - 1:
            await asyncio.sleep(0)
        while self.in_flight and (
            self.in_flight >= self._max_in_flight
            or self.bytes_in_flight + size_bytes > self._max_bytes
        ):
            await self._wait()
        place = len(self._outcomes)
        self._outcomes.append(None)
        self.in_flight += 1
        self.bytes_in_flight += size_bytes

        def settle(outcome: T) -> None:
            self._outcomes[place] = outcome
            self.in_flight -= 1
            self.bytes_in_flight -= size_bytes
            self._moved.set()

        return settle

    async def finish(self) -> list[T]:
        """Wait until every request is settled; the outcomes in the order of entering."""
        while self.in_flight:
            await self._wait()
        return cast(list[T], self._outcomes)

    async def _wait(self) -> None:
        self._moved.clear()
        await self._moved.wait()
