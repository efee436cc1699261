"""From committed entries to queues and metadata, in the order of the log.

Invariants: each entry is dispatched once; a record's queue offset is its queue's next, or the node
stops; nothing is dispatched that is not committed.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgpack

from ledgermq.broker.metadata import Change, ChangeKind, Metadata
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.errors import DiskFullError
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.slots import SlotFile
from ledgermq.remoting.errors import LedgerMQError, PeerError, StorageError
from ledgermq.remoting.message_properties import java_hash
from ledgermq.remoting.message_record import decode_record, peek_record

from .consume_queue import ConsumeQueues, sync_files

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_FLUSH_S = 1.0
_FLUSH_QUEUES = 500
_SYNC_EVERY = 5
_TAGS = b"TAGS\x01"
_TRANSACTION_MASK = 0xC
_NOT_QUEUED = (0x4, 0xC)  # prepared, rollback
_REBUILD = "Remove that folder and start this node again: it is made anew from the log"

# Nothing is known to be on disk.
_NO_MARK = (-1, 0)

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
        applied: highest index dispatched. Invariant: applied <= commit.
        last_store_ms: store time of the last record dispatched.
    """

    def __init__(
        self, log_server: LogServer, root: Path, queue_segment_bytes: int, metadata: Metadata
    ) -> None:
        self._log = log_server
        self._mark_file = SlotFile(log_server.config.folder / "dispatched")
        self._segment_bytes = queue_segment_bytes
        self.folder = folder = root / "consumequeue"
        index, pos = self._mark(folder.is_dir())
        if index < 0:
            # What lies there belongs to no mark: units of another log would pass for ours later.
            # The old mark goes first: after a crash it would pass for that of the new queues.
            self._save_mark(_NO_MARK)
            shutil.rmtree(folder, ignore_errors=True)
        self.applied = index
        self._applied_pos = pos
        self.queues = ConsumeQueues(folder, queue_segment_bytes, pos)
        self.metadata = metadata
        self.last_store_ms = 0
        self._target = index
        self._tags: dict[bytes, int] = {}
        self._deleted: list[str] = []
        self._running = False
        self._flush_count = 0
        # Being synced in a thread; and how often topics' files were removed: see `_drop_deleted`.
        self._syncing: list[Path] = []
        self._drops = 0
        self._told_full = False
        self._task: asyncio.Task[None] | None = None
        self._flush_task: asyncio.Task[None] | None = None
        self._callbacks: DispatchCallbacks | None = None
        self._stopped = False

    def _mark(self, queues_exist: bool) -> tuple[int, int]:
        """(index, byte after it) up to which the queues are on disk."""
        if self._mark_file.payload is None or not queues_exist:
            return -1, 0
        index, pos, segment_bytes = msgpack.unpackb(self._mark_file.payload)
        if index > self._log.ledger.end_index or segment_bytes != self._segment_bytes:
            return -1, 0
        return index, pos

    async def start(self, callbacks: DispatchCallbacks) -> None:
        """Rebuild the metadata from its own queue, then follow the commits."""
        self._callbacks = callbacks
        try:
            await self._replay_metadata()
            await self._find_last_store_time()
        except PeerError as e:
            raise StorageError(f"{self.folder} does not fit the log: {e.remark}. {_REBUILD}") from e
        self._flush_task = asyncio.get_running_loop().create_task(self._flush_loop())

    async def _replay_metadata(self) -> None:
        queue = self.queues.get(INTERNAL_TOPIC, 0)
        for offset in range(0, queue.max_offset, 512):
            for unit in queue.read(offset, 512):
                size = entry.HEADER_BYTES + unit.size
                data = await self._log.read_at(unit.physical_offset - entry.HEADER_BYTES, size)
                header = entry.decode(data)
                body = decode_record(data, entry.HEADER_BYTES).body
                self.metadata.apply(header.log_index, header.term, body)
        self.queues.drop_unknown({INTERNAL_TOPIC, *self.metadata.topics})

    async def _find_last_store_time(self) -> None:
        if self.applied >= 0:
            data, _ = await self._log.read_entries(self.applied, self.applied, 1)
            record = memoryview(data)[entry.HEADER_BYTES :]
            self.last_store_ms = peek_record(record).store_timestamp_ms

    # --- following the commits ----------------------------------------------------------------

    def committed(self, index: int) -> None:
        """Entries up to `index` are committed."""
        self._target = max(self._target, index)
        if not self._running and self._callbacks is not None and not self._stopped:
            self._running = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Dispatch one chunk from memory; what is no longer there is read in a task."""
        self._running = False
        if self._stopped or self.applied >= self._target or self._task is not None:
            return
        found = self._log.cached_entries(self.applied + 1, self._target, _CHUNK_BYTES)
        if found is None:
            self._task = asyncio.get_running_loop().create_task(self._catch_up())
            return
        self._apply_chunk(found[0])

    async def _catch_up(self) -> None:
        try:
            data, _ = await self._log.read_entries(self.applied + 1, self._target, _CHUNK_BYTES)
        except (LedgerMQError, RuntimeError) as e:
            self._fail(e)
            return
        finally:
            self._task = None
        self._apply_chunk(data)

    def _apply_chunk(self, data: bytes) -> None:
        try:
            self._apply(data)
        finally:
            self.committed(self._target)

    def _apply(self, data: bytes) -> None:
        arrivals: Arrivals = {}
        try:
            for at, header in entry.walk(data):
                if header.log_index != self.applied + 1:
                    raise StorageError(f"entry {header.log_index} after {self.applied}")
                end = at + header.size
                self._apply_one(header, memoryview(data)[at + entry.HEADER_BYTES : end], arrivals)
                self.applied = header.log_index
                self._applied_pos = header.pos + header.size
                if self._deleted:
                    self._drop_deleted()
        except (LedgerMQError, OSError, ValueError) as e:
            self._fail(e)
            return
        if self._callbacks is not None:
            self._callbacks.on_applied(self.applied, arrivals)

    def _apply_one(self, header: entry.EntryHeader, record: memoryview, arrivals: Arrivals) -> None:
        peek = peek_record(record)
        self.last_store_ms = max(self.last_store_ms, peek.store_timestamp_ms)
        topic = peek.topic.decode()
        # A leader's no-op is of the rollback type: it is in no queue.
        if peek.sys_flag & _TRANSACTION_MASK in _NOT_QUEUED:
            return
        if topic != INTERNAL_TOPIC:
            created = self.metadata.creation_index(topic)
            if created is None or created > header.log_index:
                return  # of a topic that was deleted (and perhaps made again) meanwhile
        queue = self.queues.get(topic, peek.queue_id)
        if peek.queue_offset != queue.max_offset:
            raise StorageError(
                f"entry {header.log_index}: queue {topic}/{peek.queue_id} continues at"
                f" {queue.max_offset}, the record says {peek.queue_offset}. If {self.folder} was"
                f" changed by hand: {_REBUILD}"
            )
        tags_code = self._tags_code(peek.properties)
        self.queues.append(queue, header.pos + entry.HEADER_BYTES, peek.size, tags_code)
        if topic == INTERNAL_TOPIC:
            self._apply_metadata(header, record)
        else:
            arrivals.setdefault((topic, peek.queue_id), []).append(tags_code)

    def _apply_metadata(self, header: entry.EntryHeader, record: memoryview) -> None:
        change = self.metadata.apply(header.log_index, header.term, decode_record(record).body)
        if change is None:
            return
        if change.kind is ChangeKind.TOPIC_DELETED:
            self._deleted.append(change.name)
        if self._callbacks is not None:
            self._callbacks.on_change(change)

    def _drop_deleted(self) -> None:
        """Remove deleted topics' queues, once a restart will not need them.

        The mark must be past the deletion first: a restart before it would dispatch messages to
        queues whose beginning is gone. Rare, so it may block the loop for a few syncs.
        """
        self._drops += 1
        try:
            self._write_all()
            self._save_mark((self.applied, self._applied_pos))
        except DiskFullError as e:
            log.warning("after a restart all queues will be made anew: %s", e)
            self._save_mark(_NO_MARK)
        for topic in self._deleted:
            self.queues.drop_topic(topic)
        self._deleted.clear()

    def _tags_code(self, properties: bytes) -> int:
        # Of a repeated name the last one counts.
        at = properties.rfind(b"\x02" + _TAGS) + 1
        if at == 0 and not properties.startswith(_TAGS):
            return 0
        end = properties.find(b"\x02", at)
        tag = properties[at + len(_TAGS) : end if end >= 0 else len(properties)]
        code = self._tags.get(tag)
        if code is None:
            if len(self._tags) > 10_000:
                self._tags.clear()
            code = self._tags[tag] = java_hash(tag.decode(errors="replace")) if tag else 0
        return code

    def _fail(self, error: Exception) -> None:
        self._stopped = True
        if self._callbacks is not None:
            self._callbacks.on_failure(error)

    # --- to disk ------------------------------------------------------------------------------

    async def _flush_loop(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            try:
                await self._flush_once()
                self._told_full = False
            except DiskFullError as e:
                if not self._told_full:
                    log.error("queue units wait in memory: %s", e)
                self._told_full = True
            except (LedgerMQError, OSError) as e:
                self._fail(e)
                return

    async def _flush_once(self) -> None:
        """Write the queues in slices; now and then sync them and move the mark."""
        self._flush_count += 1
        mark, drops = (self.applied, self._applied_pos), self._drops
        for _ in range(len(self.queues.dirty) // _FLUSH_QUEUES):
            self.queues.flush(_FLUSH_QUEUES)
            await asyncio.sleep(0)
        self.queues.flush(len(self.queues.dirty))
        if self._flush_count % _SYNC_EVERY == 0:
            paths = self.queues.take_unsynced()
            if paths:
                self._syncing = paths
                await asyncio.to_thread(sync_files, paths)
                self._syncing = []
                # A mark from before a removal would ask for queues that are no longer there.
                if drops == self._drops:
                    self._save_mark(mark)

    def _save_mark(self, mark: tuple[int, int]) -> None:
        self._mark_file.write(msgpack.packb((*mark, self._segment_bytes)))

    def _write_all(self) -> None:
        self.queues.flush(len(self.queues.dirty))
        sync_files([*self._syncing, *self.queues.take_unsynced()])

    async def close(self) -> None:
        """Stop dispatching; what is dispatched is on disk afterwards."""
        self._stopped = True
        for task in (self._flush_task, self._task):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        try:
            self._write_all()
            self._save_mark((self.applied, self._applied_pos))
            self.queues.close()
        except DiskFullError as e:
            log.warning("some queue units will be made anew at the next start: %s", e)
        finally:
            self._mark_file.close()
