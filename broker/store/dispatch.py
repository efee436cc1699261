"""From committed entries to queues and metadata, in the order of the log.

Invariants: each entry is dispatched once; a record's queue offset is its queue's next, or the node
stops; nothing is dispatched that is not committed.

A start goes on from the newest snapshot: it holds the metadata, and where each queue begins and
ends. Queue files that do not fit it are made anew from the log. Until they are whole, and the
commit has reached the snapshot, nothing is served.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from ledgermq.broker.metadata import Change, ChangeKind, Metadata
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.snapshots import Snapshot
from ledgermq.remoting.errors import LedgerMQError, StorageError
from ledgermq.remoting.message_record import RecordPeek, decode_record, peek_record

from .keeper import Keeper
from .placed import PlacedRecord, PlacedRecords
from .queue_builder import QueueBuilder
from .queue_mark import QueueMark
from .queue_runs import QueueRuns, runs_of
from .queue_snapshot import Progress, decode_payload
from .queue_table import ConsumeQueues
from .rebuild import Rebuild

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_CHUNK_RECORDS = 4096
_INTERNAL = INTERNAL_TOPIC.encode()

# (topic, queue id) -> tags codes of the messages that arrived.
Arrivals = dict[tuple[str, int], list[int]]


@dataclass(frozen=True, slots=True)
class DispatchCallbacks:
    """Whom the dispatcher tells.

    Attributes:
        on_applied: everything up to this index is visible; the arrivals by queue.
        on_change: metadata changed.
        on_failure: the node must stop.
    """

    on_applied: Callable[[int, Arrivals], None]
    on_change: Callable[[Change], None]
    on_failure: Callable[[Exception], None]


class Dispatcher:
    """Applies committed entries.

    Attributes:
        folder: of the queues.
        queues: what is dispatched; whole only while `serving`.
        metadata: the state at `applied`.
        serving: metadata and queues are those of `applied`, and the log holds what they point to.
        placed: what this node has appended as the leader; need not be read.
    """

    def __init__(
        self, log_server: LogServer, folder: Path, queue_segment_bytes: int, metadata: Metadata
    ) -> None:
        """Take over the newest snapshot; the queues lie in `folder`.

        Raises:
            StorageError: it cannot be read by this program.
        """
        self._log = log_server
        self.metadata = metadata
        self.folder = folder
        host = log_server.host
        self._threads = host.threads(2, "queues")
        self._progress = Progress()
        self.queues = ConsumeQueues(self.folder, queue_segment_bytes, host.disk, self._threads)
        self._builder = QueueBuilder(self.queues, metadata)
        path = log_server.config.folder / "queues"
        self._mark_file = QueueMark(path, queue_segment_bytes, host.disk)
        self._keeper = Keeper(
            log_server,
            self.queues,
            metadata,
            self._mark_file,
            self._progress,
            on_dropped=self._unblock,
            on_failure=self.fail,
        )
        self.serving = False
        self.placed = PlacedRecords()
        self._target = -1
        self._running = False
        self._stopped = False
        # A topic is to be created whose deleted namesake still has files.
        self._blocked = False
        self._task: asyncio.Task[None] | None = None
        self._flush_task: asyncio.Task[None] | None = None
        self._callbacks: DispatchCallbacks | None = None
        self._rebuild: Rebuild | None = None
        try:
            self._rebuild = self._take_over(log_server.snapshots.newest)
            if self._rebuild is not None:
                self._rebuild.restore()
        except BaseException:
            self._mark_file.close()
            raise

    @property
    def applied(self) -> int:
        """Highest index dispatched. Invariant: at most the commit index, once `serving`."""
        return self._progress.index

    @property
    def end_pos(self) -> int:
        """Byte of the log after what is dispatched."""
        return self._progress.end_pos

    @property
    def last_store_ms(self) -> int:
        """Latest store time dispatched, ms since 1970."""
        return self._progress.store_ms

    def tags_code(self, properties: bytes) -> int:
        """The tags code of a message with these properties."""
        return self._builder.tags_code(properties)

    def _take_over(self, snapshot: Snapshot | None) -> Rebuild | None:
        """Become the state of a snapshot; None: without the right one nothing can be dispatched."""
        begin, progress = self._log.begin, self._progress
        if (snapshot.index if snapshot is not None else -1) < begin.index - 1:
            log.error(
                "the log begins at index=%d and no snapshot reaches it: waiting for a leader to"
                " fill this node",
                begin.index,
            )
            return None
        state = decode_payload(snapshot.payload) if snapshot is not None else None
        if snapshot is not None and state is not None:
            self.metadata.restore(state.metadata)
            progress.index, progress.term = snapshot.index, snapshot.term
            progress.end_pos, progress.store_ms = state.end_pos, state.store_ms
        return Rebuild(self._log, self.queues, self._builder, snapshot, state)

    async def start(self, callbacks: DispatchCallbacks) -> None:
        """Look at the queue files, then follow the commits."""
        self._callbacks = callbacks
        rebuild = self._rebuild
        if rebuild is not None:
            problem = await rebuild.problem(reliable=self._mark_file.reliable)
            if problem is None:
                await self.queues.remove_unknown({INTERNAL_TOPIC, *self.metadata.topics})
            else:
                await self._give_up(rebuild, problem)
        self._flush_task = asyncio.get_running_loop().create_task(self._keeper.run())
        self.committed(-1)

    async def _give_up(self, rebuild: Rebuild, problem: str) -> None:
        log.warning("the queues are made anew from the log: %s", problem)
        self._keeper.give_up()
        self.queues.detach_all()
        await self._keeper.clear()
        rebuild.begin()

    def reseed(self, snapshot: Snapshot) -> None:
        """The log begins anew after a leader's snapshot: so do metadata and queues."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.serving = self._blocked = False
        self.placed.forget()
        self._keeper.give_up()
        self.queues.detach_all()
        self._rebuild = self._take_over(snapshot)
        if self._rebuild is not None:
            self._rebuild.begin(needs_clearing=True)
        self.committed(self._target)

    # --- following the commits ----------------------------------------------------------------

    def committed(self, index: int) -> None:
        """Entries up to `index` are committed."""
        self._target = max(self._target, index)
        if self.serving and self.applied >= self._target:
            return
        if not self._running and self._callbacks is not None and not self._stopped:
            self._running = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Dispatch one chunk from memory; what is no longer there is read in a task."""
        self._running = False
        if self._stopped or self._task is not None or self._blocked:
            return
        if not self.serving:
            if self._rebuild is not None and self._rebuild.can_go_on(self._target):
                self._start_task(self._make_whole(self._rebuild))
            return
        if self.applied >= self._target:
            return
        placed = self.placed.take(self.applied + 1, self._target, _CHUNK_RECORDS)
        if placed and self._holds(placed):
            term = self.placed.term
            self._apply_chunk(lambda arrivals: self._apply_placed(placed, term, arrivals))
            return
        found = self._log.cached_entries(self.applied + 1, self._target, _CHUNK_BYTES)
        if found is None:
            self._start_task(self._catch_up())
            return
        self._apply_chunk(lambda arrivals: self._apply(found[0], arrivals))

    def _start_task(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)

    async def _make_whole(self, rebuild: Rebuild) -> None:
        """Bring the queues on to the snapshot, then serve."""
        try:
            if rebuild.needs_clearing:
                await self._keeper.clear()
                rebuild.needs_clearing = False
            is_whole = await rebuild.go_on(self._target)
        except (LedgerMQError, OSError, RuntimeError) as e:
            self.fail(e)
            return
        self._task = None
        if is_whole:
            self._serve(rebuild)
        self.committed(self._target)

    def _serve(self, rebuild: Rebuild) -> None:
        self._rebuild = None
        self.serving = True
        self._keeper.activate(None if rebuild.from_log else rebuild.base)
        if self._callbacks is not None:
            self._callbacks.on_applied(self.applied, {})

    async def _catch_up(self) -> None:
        try:
            data, _ = await self._log.read_entries(self.applied + 1, self._target, _CHUNK_BYTES)
        except (LedgerMQError, RuntimeError) as e:
            self.fail(e)
            return
        self._task = None
        self._apply_chunk(lambda arrivals: self._apply(data, arrivals))

    def _apply_chunk(self, apply: Callable[[Arrivals], None]) -> None:
        arrivals: Arrivals = {}
        try:
            apply(arrivals)
        except (LedgerMQError, OSError, ValueError) as e:
            self.fail(e)
        else:
            if self._callbacks is not None:
                self._callbacks.on_applied(self._progress.index, arrivals)
        finally:
            self.committed(self._target)

    def _holds(self, placed: list[PlacedRecord]) -> bool:
        """Whether the log holds these entries; if not, it is another leader's by now."""
        log, term = self._log.core.log, self.placed.term
        # Terms do not fall along a log: what is true of both ends is true of all between.
        if log.holds(placed[0].log_index, term) and log.holds(placed[-1].log_index, term):
            return True
        self.placed.forget()
        return False

    def _apply_placed(self, placed: list[PlacedRecord], term: int, arrivals: Arrivals) -> None:
        """Apply records between which the metadata does not change; all are of `term`."""
        while placed:
            runs, count = runs_of(placed, term)
            self._apply_runs(runs, arrivals)
            placed = placed[count:]

    def _apply_runs(self, runs: QueueRuns, arrivals: Arrivals) -> None:
        for queue, codes in self._builder.place_all(runs).items():
            arrivals[queue] = arrivals.get(queue, []) + codes
        progress = self._progress
        progress.index, progress.end_pos, progress.term = runs.log_index, runs.end_pos, runs.term
        progress.store_ms = max(progress.store_ms, runs.store_ms)

    def _apply(self, data: bytes, arrivals: Arrivals) -> None:
        at = 0
        while at < len(data):
            found = self._builder.read_runs(data, at, self.applied + 1)
            if found is None:
                if not self._apply_one(data, at, arrivals):
                    return
                at += entry.decode(data, at).size
            else:
                runs, at = found
                self._apply_runs(runs, arrivals)

    def _apply_one(self, data: bytes, at: int, arrivals: Arrivals) -> bool:
        """Apply the entry at byte `at`, whatever it is; False: it must wait."""
        progress, index = self._progress, self.applied + 1
        _, header = next(entry.walk(data, at))
        if header.log_index != index:
            raise StorageError(f"entry {header.log_index} after {index - 1}")
        begin = at + entry.HEADER_BYTES
        peek = peek_record(data, begin)
        if peek.size > header.body_len:
            raise StorageError(f"entry {index}: its record leaves it")
        if peek.topic == _INTERNAL:
            record = data[begin : at + header.size]
            if self._keeper.deleted and self._must_wait(record):
                return False
            self._apply_internal(header, peek, record)
        else:
            placed = self._builder.place(header, peek)
            if placed is not None:
                arrivals.setdefault(placed[:2], []).append(placed[2])
        progress.index, progress.term = index, header.term
        progress.end_pos = header.pos + header.size
        progress.store_ms = max(progress.store_ms, peek.store_timestamp_ms)
        return True

    def _apply_internal(self, header: entry.EntryHeader, peek: RecordPeek, record: bytes) -> None:
        if self._builder.place(header, peek) is None:
            return
        change = self.metadata.apply(header.log_index, header.term, decode_record(record).body)
        if change is None:
            return
        if change.kind is ChangeKind.TOPIC_DELETED:
            # Its files stay until a snapshot is past this: a restart would look for them.
            self.queues.detach(change.name)
            self._keeper.deleted.add(change.name)
        if self._callbacks is not None:
            self._callbacks.on_change(change)

    def _must_wait(self, record: bytes) -> bool:
        """Whether this creates a topic in a folder that is still to be removed."""
        made = self.metadata.topic_made_by(decode_record(record).body)
        if made not in self._keeper.deleted:
            return False
        self._blocked = True
        self._keeper.hurry()
        return True

    def _unblock(self) -> None:
        self._blocked = False
        self.committed(self._target)

    # --- the end ------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        """Dispatch no more; the node must stop."""
        if self._stopped:
            return
        self._stopped = True
        # An entry may be half applied: no snapshot of that.
        self._keeper.active = False
        if self._callbacks is not None:
            self._callbacks.on_failure(error)

    def give_up_queues(self, what: str) -> None:
        """A queue led to something else than its message: the next start makes all of them anew."""
        if not self._stopped:
            self.serving = False
            try:
                self._keeper.give_up()
            finally:
                self.fail(
                    StorageError(
                        f"{what}. Start this node again: its queues are made anew from the log"
                    )
                )

    async def close(self) -> None:
        """Stop dispatching; what is dispatched is on disk afterwards, unless this node failed."""
        must_save = self.serving and not self._stopped and not self._log.stopped
        self._stopped = True
        self._keeper.stop()
        for task in (self._flush_task, self._task):
            if task is not None:
                if task is self._task or not must_save:
                    task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        try:
            # Not what was given up meanwhile: another log than that of these queues has begun.
            if must_save and self.serving:
                await self._keeper.finish()
        except (LedgerMQError, OSError) as e:
            log.warning("the next start dispatches again what no snapshot holds: %s", e)
        finally:
            self.queues.close()
            self._mark_file.close()
            self._threads.shutdown(wait=True)
