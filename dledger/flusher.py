"""One fdatasync at a time, in a thread; what arrives meanwhile joins the next."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from ledgermq.remoting.errors import StorageError

from .host import Host
from .store.ledger import Ledger


class Flusher:
    """Group commit.

    Invariant: a sync proves only what was written before it began, and nothing at all past a cut
    that was made meanwhile.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        on_durable: Callable[[int], None],
        on_failure: Callable[[StorageError], None],
        host: Host | None = None,
    ) -> None:
        self._ledger = ledger
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._pool = (host or Host()).threads(1, "fsync")
        self._running: Future[None] | None = None
        self._marking: Future[None] | None = None
        self._synced = ledger.end_index
        self._closed = False

    @property
    def synced(self) -> int:
        """Last entry known to be on the disk."""
        return self._synced

    def request(self) -> None:
        """See to it that what is written now gets synced."""
        if self._closed or self._running is not None or self._ledger.end_index <= self._synced:
            return
        target, epoch = self._ledger.end_index, self._ledger.epoch
        loop = asyncio.get_running_loop()
        self._running = self._pool.submit(self._ledger.sync)
        self._running.add_done_callback(
            lambda f: loop.call_soon_threadsafe(self._done, f, target, epoch)
        )

    def _done(self, future: Future[None], target: int, epoch: int) -> None:
        self._running = None
        error = future.exception()
        if error is not None:
            self._on_failure(
                error if isinstance(error, StorageError) else StorageError(f"sync failed: {error}")
            )
            return
        if epoch == self._ledger.epoch:
            self._synced = target
            self._on_durable(target)
        self.request()

    def request_mark(self, commit: int) -> None:
        """Move the durable mark to the present end, unless the last move is still under way.

        Raises:
            DiskFullError: the entry index could not be written.
        """
        if self._closed or self._marking is not None:
            return
        mark = self._ledger.prepare_mark(commit)
        if mark is None:
            return
        loop = asyncio.get_running_loop()
        self._marking = self._pool.submit(self._ledger.commit_mark, mark, self._ledger.epoch)
        self._marking.add_done_callback(lambda f: loop.call_soon_threadsafe(self._marked, f))

    def _marked(self, future: Future[None]) -> None:
        self._marking = None
        error = future.exception()
        if error is not None:
            self._on_failure(
                error if isinstance(error, StorageError) else StorageError(f"mark failed: {error}")
            )

    def settle(self) -> None:
        """Wait for what the thread does: files must not be cut or closed below it.

        Called on the event loop; rare (a cut, a stop), and as short as a few fdatasyncs.
        """
        for future in (self._running, self._marking):
            if future is not None:
                future.exception()

    def cut(self, end_index: int) -> None:
        """The log was cut, and the cut synced."""
        self._synced = min(self._synced, end_index)

    def close(self) -> None:
        """Finish the sync under way and stop the thread; later requests do nothing."""
        self._closed = True
        self._pool.shutdown(wait=True)
