"""Keeping what dispatch makes: queues to their files, snapshots, and what a snapshot lets go.

One task does one thing after the other, so that no file is removed while it is synced.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ledgermq.broker.metadata import Metadata
from ledgermq.dledger.errors import DiskFullError
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.snapshots import Snapshot
from ledgermq.remoting.errors import LedgerMQError

from .consume_queue import Unit
from .queue_mark import QueueMark
from .queue_snapshot import Progress, encode_head, encode_queues
from .queue_table import ConsumeQueues
from .record_check import RecordCheck

log = logging.getLogger(__name__)

_FLUSH_S = 1.0
_SNAPSHOT_S = 30.0
_SNAPSHOT_ENTRIES = 200_000


class Keeper:
    """Writes the queues every second, and a snapshot when much has happened.

    Attributes:
        deleted: topics whose files wait for a snapshot that no longer needs them. Until then no
            topic of that name may be created.
        active: the queues are whole: snapshots are taken.
    """

    def __init__(
        self,
        log_server: LogServer,
        queues: ConsumeQueues,
        metadata: Metadata,
        mark: QueueMark,
        progress: Progress,
        *,
        on_dropped: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """`on_dropped` hears when files of deleted topics are gone."""
        self._log = log_server
        self._queues = queues
        self._metadata = metadata
        self._mark = mark
        self._progress = progress
        self._on_dropped = on_dropped
        self._on_failure = on_failure
        self.deleted: set[str] = set()
        self.active = False
        self._saved_index = -1
        self._saved_at_s = 0.0
        self._told_full = False
        self._stopping = False
        # Rises when the queues are given up: what was begun before is not to be finished.
        self._epoch = 0
        self._wake = asyncio.Event()
        # Held while files are written, synced or removed.
        self._busy = asyncio.Lock()

    def activate(self, saved_index: int | None) -> None:
        """The queues are whole; `saved_index`: of the snapshot that says so, None: none does."""
        now_s = asyncio.get_running_loop().time()
        self._saved_index = -1 if saved_index is None else saved_index
        self._saved_at_s = now_s - _SNAPSHOT_S if saved_index is None else now_s
        self.active = True

    def give_up(self) -> None:
        """The queues are of no use any more."""
        self.active = False
        self._epoch += 1
        self.deleted.clear()
        self._mark.save(reliable=False)

    def stop(self) -> None:
        """Let `run` end after what it is doing."""
        self._stopping = True
        self._wake.set()

    def hurry(self) -> None:
        """Somebody waits for the files of a deleted topic to be gone."""
        self._wake.set()

    async def run(self) -> None:
        """Keep, until stopped or a failure."""
        while not self._stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._round()
                self._told_full = False
            except DiskFullError as e:
                if not self._told_full:
                    log.error("queue units wait in memory: %s", e)
                self._told_full = True
            except (LedgerMQError, OSError) as e:
                self._fail(e)
                return

    def _fail(self, error: Exception) -> None:
        """After a failed sync, files that look whole may not be; the node stops in any case."""
        try:
            self._mark.save(reliable=False)
        except (LedgerMQError, OSError) as e:
            log.error("the next start may take the queue files for whole: %s", e)
        finally:
            self._on_failure(error)

    async def finish(self) -> None:
        """Put on disk what no snapshot holds yet."""
        is_new = self._progress.index != self._saved_index or not self._mark.reliable
        if self._progress.index >= 0 and (is_new or self.deleted):
            deleted = set(self.deleted)
            await self.save()
            await self._drop(deleted)

    async def _round(self) -> None:
        async with self._busy:
            try:
                await self._queues.flush_all()
                if self.active and self._is_due():
                    await self._save()
            except DiskFullError:
                await self._drop_in_need()
                raise

    async def clear(self) -> None:
        """Remove the files of all queues, which were given up."""
        async with self._busy:
            await self._queues.remove_all()

    def _is_due(self) -> bool:
        fresh = self._progress.index - self._saved_index
        waited_s = asyncio.get_running_loop().time() - self._saved_at_s
        return (
            bool(self.deleted)
            or fresh >= _SNAPSHOT_ENTRIES
            or (fresh > 0 and waited_s >= _SNAPSHOT_S)
            or self._due_begin() is not None
        )

    # --- snapshots ----------------------------------------------------------------------------

    async def take(self) -> Snapshot:
        """The state of this moment; the queues are on disk up to it when this returns.

        Raises:
            DiskFullError: no room for the queues.
        """
        progress = replace(self._progress)
        slices = self._metadata.dump_slices()
        rows = self._queues.rows()
        await self._queues.flush_all()
        await self._queues.sync()
        parts: list[bytes] = []
        for part in slices:
            parts.append(part)
            await asyncio.sleep(0)
        parts = [encode_head(b"".join(parts))]
        for part in encode_queues(progress, rows):
            parts.append(part)
            await asyncio.sleep(0)
        return Snapshot(progress.index, progress.term, b"".join(parts), complete=True)

    async def save(self) -> None:
        """Take a snapshot and put it on disk."""
        epoch = self._epoch
        snapshot = await self.take()
        if epoch != self._epoch:
            return
        await self._log.save_snapshot(snapshot)
        if epoch == self._epoch:
            self._saved_index = snapshot.index
            self._saved_at_s = asyncio.get_running_loop().time()
            self._mark.save(reliable=True)

    async def _save(self) -> None:
        """Save, then let go what only older states need."""
        deleted, begin, epoch = set(self.deleted), self._due_begin(), self._epoch
        if begin is not None:
            # First of all: nobody may be led to what is about to go.
            await self._queues.trim(begin[0], self._is_right)
        await self.save()
        if epoch == self._epoch:
            await self._drop(deleted)
        if begin is not None and epoch == self._epoch:
            self._log.move_begin(begin[1])
            log.info("the log begins at index=%d", begin[1])
            await self._queues.remove_below()

    async def _is_right(self, topic: str, queue_id: int, offset: int, unit: Unit) -> bool:
        if not 0 < unit.size <= self._log.config.segment_bytes:
            return False
        check = RecordCheck(topic, queue_id, self._progress.index)
        start = unit.physical_offset - entry.HEADER_BYTES
        data = await self._log.read_at(max(start, 0), unit.size + entry.HEADER_BYTES)
        return check.records(data, start, [unit], [offset]) is not None

    # --- letting go ---------------------------------------------------------------------------

    def _due_begin(self) -> tuple[int, int] | None:
        """(pos, index) where the log is to begin; None: it does already."""
        wanted = self._metadata.log_begin
        if wanted <= self._log.begin.index:
            return None
        found = [b for b in self._log.segment_begins() if b[1] <= wanted]
        return found[-1] if found and found[-1][1] > self._log.begin.index else None

    async def _drop(self, topics: set[str]) -> None:
        for topic in sorted(topics):
            await self._queues.remove_topic(topic)
        self.deleted -= topics
        if topics:
            self._on_dropped()

    async def _drop_in_need(self) -> None:
        """No room for a snapshot: removing makes some, and the next start makes all anew."""
        if self.active and self.deleted:
            log.warning("no room for a snapshot: the next start makes all queues anew")
            self._mark.save(reliable=False)
            await self._drop(set(self.deleted))
