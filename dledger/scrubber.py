"""One slow walk over the whole log after each start: it finds damage before a reader does."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor

from ledgermq.remoting.errors import StorageError

from .store.ledger import Ledger

log = logging.getLogger(__name__)

# 10 MB/s: little beside what a disk can do, and a day is enough for 800 GB. Small steps: a check
# holds the interpreter's lock.
_STEP_BYTES = 1 << 20
_PAUSE_S = 0.1


class Scrubber:
    """Reads what the log held at the start, checksum by checksum."""

    def __init__(
        self, ledger: Ledger, readers: Executor, *, on_damage: Callable[[Exception], None]
    ) -> None:
        self._ledger = ledger
        self._readers = readers
        self._on_damage = on_damage
        self._last = ledger.end_index
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to walk."""
        if self._last >= self._ledger.begin.index:
            self._task = asyncio.get_running_loop().create_task(self._walk())

    async def _walk(self) -> None:
        loop = asyncio.get_running_loop()
        at = self._ledger.begin.index
        while at <= min(self._last, self._ledger.end_index):
            await asyncio.sleep(_PAUSE_S)
            at = max(at, self._ledger.begin.index)
            epoch, begin = self._ledger.epoch, self._ledger.begin
            try:
                at = await loop.run_in_executor(self._readers, self._ledger.verify, at, _STEP_BYTES)
            except StorageError as e:
                if epoch == self._ledger.epoch and begin == self._ledger.begin:
                    self._on_damage(e)
                    return
                # Cut at either end while it was read.
        log.info("the log was checked up to index=%d", at - 1)

    def close(self) -> None:
        """Stop walking."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
