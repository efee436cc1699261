"""A broker without a group: it takes every append by itself, and its tables are files."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ledgermq.broker.appending import Appending
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.metadata import (
    Change,
    GroupDelete,
    GroupPut,
    Metadata,
    OffsetsPut,
    Op,
    TopicDelete,
    TopicPut,
    encode_op,
)
from ledgermq.broker.offset_buffer import OffsetBuffer
from ledgermq.broker.record_builder import RecordBuilder
from ledgermq.broker.stats import BrokerStats
from ledgermq.broker.writer import AppendResult, OnDone, OnEachDone, OutgoingRecord
from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import LedgerMQError, PeerError, StorageError

from .appends import PlainAppends
from .tables import Tables

log = logging.getLogger(__name__)

_MAX_OFFSETS_BYTES = 64 << 20


class TopicFiles(Protocol):
    """What a deleted topic leaves behind."""

    async def dispatched(self, pos: int) -> None:
        """Wait until the records up to byte `pos` are in their queues."""

    def held(self) -> AbstractAsyncContextManager[None]:
        """While it is entered, nothing is kept of where the queues begin and end.

        What is kept after the place of a deletion is so of the queues that come after it.
        """

    async def remove_topic(self, name: str) -> None:
        """Remove its queues; only while `held`."""


class PlainNode:
    """Implements `BrokerNode` of `writer.py` without a group.

    Attributes:
        ready: from the start to the stop.
        refuses: why no message is taken now; None: they are.
    """

    leader_address = None

    def __init__(
        self,
        config: BrokerConfig,
        metadata: Metadata,
        tables: Tables,
        stats: BrokerStats,
        *,
        appends: PlainAppends,
        records: RecordBuilder,
        refuses: Callable[[], str | None],
        on_change: Callable[[Change], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """Ready at once.

        Args:
            config: of this broker.
            metadata: loaded.
            tables: its files.
            stats: counters.
            appends: the log.
            records: builds records.
            refuses: why the disk takes no message now, or None.
            on_change: the metadata changed.
            on_failure: the node must stop.
        """
        self._metadata = metadata
        self._tables = tables
        self._appends = appends
        self._placing = appends.placing
        self._refuses = refuses
        self._on_change = on_change
        self._on_failure = on_failure
        self._files: TopicFiles | None = None
        self._deleting: Counter[str] = Counter()
        self._appending = Appending(
            config,
            metadata,
            stats,
            records,
            self._placing,
            refusal=self._refusal,
            deleting=self._deleting,
            place=appends.place,
            place_all=appends.place_all,
            place_each=appends.place_each,
        )
        # Held while a topic is made or deleted: its files are not to be both.
        self._topics_lock = asyncio.Lock()
        self._saving: set[asyncio.Task[None]] = set()
        self.ready = False
        self._offsets = OffsetBuffer(
            config.flush_consumer_offset_interval_ms,
            _MAX_OFFSETS_BYTES,
            may_write=lambda: True,
            write=self._keep_offsets,
        )

    def open(self, files: TopicFiles) -> None:
        """The queues are whole: take messages."""
        self._files = files
        self.ready = True

    @property
    def is_leader(self) -> bool:
        """See `MetadataWriter.is_leader`."""
        return self.ready

    @property
    def takes_appends(self) -> bool:
        """See `BrokerNode.takes_appends`."""
        return self.ready

    @property
    def leads_surely(self) -> bool:
        """See `BrokerNode.leads_surely`."""
        return self.ready

    @property
    def pending_count(self) -> int:
        """See `BrokerNode.pending_count`."""
        return self._placing.pending_count

    def halt(self, reason: str) -> None:
        """See `BrokerNode.halt`."""
        self.ready = False
        self._appends.halt()
        self._placing.fail_all(reason)

    # --- appending ----------------------------------------------------------------------------

    def append(self, message: OutgoingRecord, on_done: OnDone) -> None:
        """See `MessageAppender.append`."""
        self._appending.append(message, on_done)

    def append_all(self, messages: list[OutgoingRecord], on_done: OnDone) -> list[AppendResult]:
        """See `MessageAppender.append_all`."""
        return self._appending.append_all(messages, on_done)

    def append_each(self, messages: list[OutgoingRecord], on_done: OnEachDone) -> bool:
        """See `MessageAppender.append_each`."""
        return self._appending.append_each(messages, on_done)

    def _refusal(self) -> PeerError | None:
        reason = self._refuses() if self.ready else "this broker stops"
        return PeerError(ResponseCode.SERVICE_NOT_AVAILABLE, reason) if reason else None

    # --- metadata -----------------------------------------------------------------------------

    def _apply(self, op: Op) -> None:
        metadata = self._metadata
        change = metadata.apply(metadata.applied_index + 1, 0, encode_op(op))
        if change is not None:
            self._on_change(change)

    async def put_topic(self, config: TopicConfig) -> None:
        """See `MetadataWriter.put_topic`; on disk when this returns."""
        self._require_ready()
        async with self._topics_lock:
            if self._metadata.topics.get(config.topic_name) != config:
                self._apply(TopicPut(config=config))
            await self._saved(self._tables.save_topics())

    async def delete_topic(self, name: str) -> None:
        """See `MetadataWriter.delete_topic`; from now on the topic takes no messages."""
        self._require_ready()
        self._deleting[name] += 1
        task = asyncio.get_running_loop().create_task(self._delete_topic(name))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)
        # Once begun it is brought to its end, though the client may leave.
        await asyncio.shield(task)

    async def _delete_topic(self, name: str) -> None:
        try:
            async with self._topics_lock:
                if name not in self._metadata.topics or self._files is None:
                    return
                # Its messages under way are answered and dispatched first.
                await self._saved(self._files.dispatched(self._appends.staged_end))
                async with self._files.held():
                    await self._note_deleted(name)
                    await self._remove_topic(name, self._files)
        finally:
            self._deleting[name] -= 1
            if self._deleting[name] <= 0:
                del self._deleting[name]

    async def _remove_topic(self, name: str, files: TopicFiles) -> None:
        self._apply(TopicDelete(name=name))
        self._offsets.drop_topic(name)
        try:
            await self._saved(self._tables.save_offsets())
            await self._saved(self._tables.save_topics())
        finally:
            # Gone in any case: from now on its messages count as deleted.
            await self._saved(files.remove_topic(name))
            self._placing.forget_topic(name)

    async def _note_deleted(self, name: str) -> None:
        """Note where the log ends; that is not to end before, even after a loss of power."""
        end = self._appends.written_end
        await self._saved(self._appends.durable(end))
        await self._saved(self._tables.note_deleted(name, end))

    async def put_group(self, config: SubscriptionGroupConfig) -> None:
        """See `MetadataWriter.put_group`; on disk when this returns."""
        self._require_ready()
        if self._metadata.groups.get(config.group_name) != config:
            self._apply(GroupPut(config=config))
        await self._saved(self._tables.save_groups())

    async def delete_group(self, name: str, clean_offsets: bool) -> None:
        """See `MetadataWriter.delete_group`; on disk when this returns."""
        self._require_ready()
        if clean_offsets:
            self._offsets.drop_group(name)
        self._apply(GroupDelete(name=name, clean_offsets=clean_offsets))
        await self._saved(self._tables.save_groups())
        if clean_offsets:
            await self._saved(self._tables.save_offsets())

    def _require_ready(self) -> None:
        if not self.ready:
            raise PeerError(ResponseCode.SERVICE_NOT_AVAILABLE, "this broker stops")

    async def _saved(self, saving: Awaitable[None]) -> None:
        """Wait for something to be on disk; who asked learns why it is not."""
        try:
            await saving
        except DiskFullError as e:
            raise PeerError(ResponseCode.SYSTEM_ERROR, f"not saved: {e}") from e
        except StorageError as e:
            self._on_failure(e)
            raise PeerError(ResponseCode.SYSTEM_ERROR, f"this broker stops: {e}") from e

    # --- consumer offsets ---------------------------------------------------------------------

    def commit_offset(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """See `MetadataWriter.commit_offset`."""
        if self.query_offset(group, topic, queue_id) != offset:
            self._offsets.put(group, topic, queue_id, offset)

    def query_offset(self, group: str, topic: str, queue_id: int) -> int | None:
        """See `MetadataWriter.query_offset`."""
        moved = self._offsets.get(group, topic, queue_id)
        return moved if moved is not None else self._metadata.offset(group, topic, queue_id)

    def flush_offsets(self) -> None:
        """See `BrokerNode.flush_offsets`."""
        self._offsets.flush()

    def _keep_offsets(self, op: OffsetsPut, on_done: OnDone) -> None:
        self._apply(op)
        on_done(AppendResult(0, 0))
        task = asyncio.get_running_loop().create_task(self._save_offsets())
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _save_offsets(self) -> None:
        try:
            await self._tables.save_offsets()
        except DiskFullError as e:
            log.error("consumer offsets are in memory only: %s", e)
        except LedgerMQError as e:
            self._on_failure(e)

    async def close(self) -> None:
        """Keep what moved last, and wait until it is on disk."""
        self._offsets.flush()
        await self.settle()
        # Also what found no room before.
        await self._save_offsets()

    async def settle(self) -> None:
        """Wait for what is under way."""
        self._offsets.clear()
        while self._saving:
            await asyncio.gather(*self._saving, return_exceptions=True)
