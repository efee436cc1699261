"""What a member does beside replication: marks, snapshots, the log's begin, a slow check."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future

from .errors import DiskFullError, InvariantError
from .flusher import Flusher
from .ids import Standing
from .raft import events as ev
from .raft.core import RaftCore
from .scrubber import Scrubber
from .store.member_store import MemberStore
from .store.snapshots import Snapshot
from .timers import Timers

log = logging.getLogger(__name__)

_MARK_INTERVAL_S = 1.0
# A node that may not vote says so again after this.
_PATIENCE_S = 10.0


class Upkeep:
    """Slow and regular work; all of it may be late without harm."""

    def __init__(
        self,
        store: MemberStore,
        core: RaftCore,
        flusher: Flusher,
        timers: Timers,
        readers: Executor,
        *,
        step: Callable[[ev.Event], None],
        stop: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._core = core
        self._flusher = flusher
        self._timers = timers
        self._readers = readers
        self._step = step
        self._scrubber = Scrubber(store.ledger, readers, on_damage=stop)
        # Who waits for an entry to be on the disk.
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        # The last snapshot that was given to a thread.
        self._saving: Future[None] | None = None

    def start(self) -> None:
        """Begin; the member takes part from now on."""
        self._timers.after("mark", _MARK_INTERVAL_S, self._mark)
        self._scrubber.start()
        if self._core.standing is Standing.EMPTY:
            # A new group will have begun by then.
            self._timers.after("patience", _PATIENCE_S, self._say_standing)
        else:
            self._say_standing()

    def close(self) -> None:
        """Stop; who waits for a sync is cancelled."""
        self._scrubber.close()
        for _, waiter in self._waiters:
            waiter.cancel()
        self._waiters.clear()

    def _mark(self) -> None:
        """Move the durable mark along, in the fsync thread."""
        self._timers.after("mark", _MARK_INTERVAL_S, self._mark)
        try:
            self._flusher.request_mark(self._core.commit)
        except DiskFullError as e:
            log.error("the durable mark stays behind: %s", e)

    def _say_standing(self) -> None:
        """A node that may not vote yet says why, and whom the group waits for."""
        if self._core.standing is Standing.MEMBER:
            return
        if self._core.needs_operator:
            log.error(
                "no leader: too many nodes of this group have an empty or damaged store. Bring"
                " their disks back, or see --bootstrap in mqbroker -h"
            )
        others = ", ".join(self._core.waits_for)
        log.warning(
            "no votes from this node until a leader has brought it up to date: %s%s",
            self._store.standing_reason,
            f". No leader yet, waiting for {others}" if others else "",
        )
        self._timers.after("patience", _PATIENCE_S, self._say_standing)

    # --- snapshots and the log's begin --------------------------------------------------------

    def on_synced(self, index: int) -> None:
        """The log is on disk up to `index`."""
        due = [waiter for wanted, waiter in self._waiters if wanted <= index]
        self._waiters = [w for w in self._waiters if w[0] > index]
        for waiter in due:
            if not waiter.done():
                waiter.set_result(None)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, once the log is on disk up to its index.

        Raises:
            DiskFullError: no room; the older ones stay.
        """
        loop = asyncio.get_running_loop()
        if snapshot.index > self._flusher.synced:
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append((snapshot.index, waiter))
            self._flusher.request()
            await waiter
        self._saving = self._readers.submit(self._store.snapshots.save, snapshot)
        await asyncio.wrap_future(self._saving)

    def settle(self) -> None:
        """Wait for the snapshot that is being written: one at a time. Blocks, so rarely."""
        if self._saving is not None and not self._saving.done():
            self._saving.exception()

    def move_begin(self, index: int) -> None:
        """Forget the entries before `index`, the first of a file; a snapshot must cover them."""
        ledger, newest = self._store.ledger, self._store.snapshots.newest
        if newest is None or newest.index < index - 1 or index > self._core.commit + 1:
            raise InvariantError(
                f"the log cannot begin at {index}: commit {self._core.commit}, snapshot"
                f" {newest.index if newest else None}"
            )
        if index <= ledger.begin.index:
            return
        self._flusher.settle()
        ledger.move_begin(index)
        self._step(ev.BeginMoved(ledger.begin.index))
