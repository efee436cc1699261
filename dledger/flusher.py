"""Group commit of the group's log, and the moves of its durable mark."""

from collections.abc import Callable
from concurrent.futures import Future

from ledgermq.remoting.errors import StorageError

from .group_commit import GroupCommit
from .host import Host
from .store.ledger import Ledger


class Flusher(GroupCommit):
    """Syncs entries.

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
        super().__init__(ledger.sync, on_failure=on_failure, host=host)
        self._ledger = ledger
        self._on_durable = on_durable
        self._marking: Future[None] | None = None
        self._synced = ledger.end_index

    @property
    def synced(self) -> int:
        """Last entry known to be on the disk."""
        return self._synced

    def request(self) -> None:
        """See to it that what is written now gets synced."""
        if self._closed or self._running is not None or self._ledger.end_index <= self._synced:
            return
        target, epoch = self._ledger.end_index, self._ledger.epoch
        self._begin(lambda f: self._done(f, target, epoch))

    def _done(self, future: Future[None], target: int, epoch: int) -> None:
        self._running = None
        if self._failed(future, "sync"):
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
        mark, epoch = self._ledger.prepare_mark(commit), self._ledger.epoch
        if mark is not None:
            self._marking = self._in_thread(
                lambda: self._ledger.commit_mark(mark, epoch), self._marked
            )

    def _marked(self, future: Future[None]) -> None:
        self._marking = None
        self._failed(future, "mark")

    def settle(self) -> None:
        """See `GroupCommit.settle`; for the mark too."""
        super().settle()
        if self._marking is not None:
            self._marking.exception()

    def cut(self, end_index: int) -> None:
        """The log was cut, and the cut synced."""
        self._synced = min(self._synced, end_index)
