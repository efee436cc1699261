"""Who waits for a place in the log to be reached."""

import asyncio

from ledgermq.remoting.errors import StorageError


class Places:
    """Futures by the place that they wait for."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._stopped = False

    async def wait(self, pos: int) -> None:
        """Until `reached` is told of this place or a later one.

        Raises:
            StorageError: the node stops before that.
        """
        if self._stopped:
            raise _stops()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((pos, waiter))
        await waiter

    def reached(self, pos: int) -> None:
        """Everything before `pos` is done."""
        if not self._waiting:
            return
        due = [waiter for wanted, waiter in self._waiting if wanted <= pos]
        self._waiting = [w for w in self._waiting if w[0] > pos]
        for waiter in due:
            if not waiter.done():
                waiter.set_result(None)

    def nothing_behind(self, end: int) -> None:
        """The log ends at `end`: whoever waits for more waits for that."""
        self._waiting = [(min(pos, end), waiter) for pos, waiter in self._waiting]

    def stop(self) -> None:
        """Nothing will be reached any more."""
        self._stopped = True
        waiting, self._waiting = self._waiting, []
        for _, waiter in waiting:
            if not waiter.done():
                waiter.set_exception(_stops())


def _stops() -> StorageError:
    return StorageError("this broker stops")
