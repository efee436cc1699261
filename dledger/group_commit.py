"""Group commit: one fdatasync at a time, in a thread; what arrives meanwhile joins the next."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from ledgermq.remoting.errors import StorageError

from .host import Host


class GroupCommit:
    """The thread and the sync under way in it; whose sync it is, and what it proves, says a log.

    Invariant: at most one sync is under way; its end is told on the event loop.
    """

    def __init__(
        self,
        sync: Callable[[], None],
        *,
        on_failure: Callable[[StorageError], None],
        host: Host | None = None,
    ) -> None:
        """`sync` runs in a thread of its own; after a failure the owner stops."""
        self._sync = sync
        self._on_failure = on_failure
        self._pool = (host or Host()).threads(1, "fsync")
        self._running: Future[None] | None = None
        self._closed = False

    def _begin(self, done: Callable[[Future[None]], None]) -> None:
        """Begin a sync; `done` must set `_running` back."""
        self._running = self._in_thread(self._sync, done)

    def _in_thread(
        self, call: Callable[[], None], done: Callable[[Future[None]], None]
    ) -> Future[None]:
        """Call after what the thread does already; then `done` on the event loop."""
        loop = asyncio.get_running_loop()
        future = self._pool.submit(call)
        future.add_done_callback(lambda f: loop.call_soon_threadsafe(done, f))
        return future

    def _failed(self, future: Future[None], what: str) -> bool:
        """Whether the call failed; then the owner knows now."""
        error = future.exception()
        if error is None:
            return False
        self._on_failure(
            error if isinstance(error, StorageError) else StorageError(f"{what} failed: {error}")
        )
        return True

    def settle(self) -> None:
        """Wait for what the thread does: files must not be cut or closed below it.

        Called on the event loop; rare (a cut, a stop), and as short as a few fdatasyncs.
        """
        if self._running is not None:
            self._running.exception()

    def close(self) -> None:
        """Finish the sync under way and stop the thread; later requests do nothing."""
        self._closed = True
        self._pool.shutdown(wait=True)
