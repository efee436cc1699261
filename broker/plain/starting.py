"""A plain broker's start: its queues are brought to the end of the log, or made anew from it.

What the tables say is then made to fit: topics that have messages and no settings, groups that are
ahead of their queue.
"""

import logging
from contextlib import suppress

from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.metadata import (
    Metadata,
    Offsets,
    OffsetsPut,
    Op,
    TopicPut,
    encode_op,
)
from ledgermq.broker.store.queue_table import QueueRow
from ledgermq.broker.topics import PERM_RW, system_topics
from ledgermq.dledger.disk import Disk
from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.errors import LedgerMQError, StorageError

from .commit_log import CommitLog
from .dispatch import PlainDispatcher, WrongQueuesError
from .keeper import trim
from .queue_state import QueueState, rows_in
from .tables import Tables

log = logging.getLogger(__name__)


class Starting:
    """One start."""

    def __init__(
        self,
        config: BrokerConfig,
        commit_log: CommitLog,
        dispatcher: PlainDispatcher,
        metadata: Metadata,
        tables: Tables,
        state: QueueState,
        *,
        disk: Disk,
    ) -> None:
        """Everything is opened; the queues of `dispatcher` are empty."""
        self._config = config
        self._log = commit_log
        self._dispatcher = dispatcher
        self._queues = dispatcher.queues
        self._metadata = metadata
        self._tables = tables
        self._state = state
        self._disk = disk

    async def run(self) -> None:
        """Bring the queues to the log's end, and serve; the tables wait to be saved.

        Raises:
            StorageError: the log or the disk is broken.
        """
        dispatcher = self._dispatcher
        await self._lower_notes()
        problem = await self._restore()
        if problem is None:
            try:
                is_whole = dispatcher.applied == self._log.begin_pos
                await dispatcher.catch_up(is_whole=is_whole)
                if is_whole:
                    self._keep_ends()
            except WrongQueuesError as e:
                problem = str(e)
        if problem is not None:
            await self._make_queues(problem)
        self._make_missing_topics()
        self._take_back_offsets()

    async def _restore(self) -> str | None:
        """Take over the queues as they were; why they cannot be, None: they can."""
        queues = self._queues
        pos, begin = self._dispatcher.applied, self._log.begin_pos
        if self._state.given_up:
            return "they were found to be wrong"
        try:
            if pos == begin:
                # All of them come from the log; what is in the files is of no use.
                await queues.remove_all()
                return None
            queues.restore(await self._rows_at(pos))
            await self._finish_deletions(pos)
            await trim(queues, begin)
        except (LedgerMQError, OSError) as e:
            return str(e)
        return await queues.find_problem(begin, pos)

    async def _rows_at(self, pos: int) -> list[QueueRow]:
        """The bounds of the queues at a place of the log.

        Raises:
            StorageError: there are no files.
        """
        rows = self._state.rows_at(pos)
        if rows is not None:
            return rows
        if not await self._queues.any_files():
            raise StorageError("they are not there")
        return await self._queues.in_thread(self._rows_in_files, pos)

    def _rows_in_files(self, pos: int) -> list[QueueRow]:
        folder = self._config.consume_queue_dir
        for row in self._known_rows():
            where = folder / row.topic / str(row.queue_id)
            if row.min_offset < row.max_offset and not self._disk.names(where):
                raise StorageError(f"{where} is not there")
        return rows_in(folder, self._config.mapped_file_size_consume_queue, self._disk, pos)

    def _known_rows(self) -> list[QueueRow]:
        """What was kept last of queues that nobody has deleted since."""
        last, deleted = self._state.last, self._tables.deleted
        if last is None:
            return []
        return [
            row
            for row in last.rows
            if row.topic in self._metadata.topics and deleted.get(row.topic, -1) < last.end_pos
        ]

    async def _lower_notes(self) -> None:
        """A log that was cut by hand ends before a deletion: what comes there is of other topics.

        Raises:
            DiskFullError, StorageError: that could not be noted.
        """
        end_pos = self._log.end_pos
        for name in [n for n, end in self._tables.deleted.items() if end > end_pos]:
            await self._tables.note_deleted(name, end_pos)

    async def _finish_deletions(self, pos: int) -> None:
        """Forget the queues, as they were at `pos`, of topics that were deleted then or since.

        What the topic made again under that name has got since comes from the log. If a crash has
        interrupted the deletion, the topic may still be there: it is empty then.
        """
        for name, end in self._tables.deleted.items():
            if name not in self._metadata.topics or end >= pos:
                self._queues.detach(name)
                await self._queues.remove_topic(name)

    async def _make_queues(self, problem: str) -> None:
        """Make all queues from the log; a crash meanwhile has the next start do it again."""
        log.warning("the queues are made anew from the log: %s", problem)
        dispatcher = self._dispatcher
        with suppress(DiskFullError):
            self._state.give_up()
        self._queues.detach_all()
        await self._queues.remove_all()
        dispatcher.applied = self._log.begin_pos
        await dispatcher.catch_up(is_whole=True)
        self._keep_ends()

    def _keep_ends(self) -> None:
        """Queues whose messages have all expired go on where they ended."""
        for row in self._known_rows():
            queue = self._queues.get(row.topic, row.queue_id)
            if queue.max_offset == 0:
                queue.reset(row.max_offset)

    def _apply(self, op: Op) -> None:
        self._metadata.apply(self._metadata.applied_index + 1, 0, encode_op(op))

    def _take_back_offsets(self) -> None:
        """No group is behind its queue's end: messages to come would never reach it.

        So it is when the log has lost what was not synced.
        """
        moved: Offsets = {}
        for key, queues in self._metadata.offset_table().offset_table.items():
            topic, _, group = key.partition("@")
            for queue_id, offset in queues.items():
                queue = self._queues.find(topic, queue_id)
                end = queue.max_offset if queue is not None else 0
                if offset > end:
                    log.warning(
                        "group %s is taken back from %d to %d in %s/%d: that is where it ends",
                        group, offset, end, topic, queue_id,
                    )  # fmt: skip
                    moved.setdefault(group, {}).setdefault(topic, {})[queue_id] = end
        if moved:
            self._apply(OffsetsPut(offsets=moved))

    def _make_missing_topics(self) -> None:
        """Topics that the broker needs, and those that have messages and lost their settings."""
        found: dict[str, int] = {}
        for row in self._queues.rows():
            found[row.topic] = max(found.get(row.topic, 0), row.queue_id + 1)
        wanted = {t.topic_name: t for t in system_topics(self._config)}
        for name, count in found.items():
            if name not in self._metadata.topics and name not in wanted:
                log.warning("topic %s has messages and no settings: %d queues", name, count)
                wanted[name] = TopicConfig(
                    topic_name=name,
                    read_queue_nums=count,
                    write_queue_nums=count,
                    perm=PERM_RW,
                )
        for name, config in wanted.items():
            if name not in self._metadata.topics:
                self._apply(TopicPut(config=config))
