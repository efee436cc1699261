"""A broker without a group, wired together: log, queues, index and tables; no clients.

The counterpart of `broker.replica`: a broker puts its listeners around either.
"""

import asyncio
import logging
from collections.abc import Callable

from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.engine import EngineEvents
from ledgermq.broker.metadata import Metadata, TopicPut, encode_op
from ledgermq.broker.record_builder import RecordBuilder
from ledgermq.broker.stats import BrokerStats
from ledgermq.broker.store.dispatch import Arrivals
from ledgermq.broker.store.index_view import IndexView
from ledgermq.broker.store.key_index import KeyIndex
from ledgermq.broker.store.queue_table import ConsumeQueues
from ledgermq.broker.store.reader import MessageReader
from ledgermq.broker.topics import PERM_RW, system_topics
from ledgermq.dledger.disk import ensure_folder
from ledgermq.dledger.host import Host
from ledgermq.dledger.store.life import LifeFile
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.errors import CallerError, LedgerMQError

from .appends import PlainAppends
from .checkpoint import Checkpoint
from .dispatch import PlainDispatcher
from .feed import PlainFeed
from .keeper import PlainKeeper, trim
from .node import PlainNode
from .queue_state import QueueState, rows_in
from .recovery import open_commit_log
from .retention import ReadsUnderWay, Retention
from .source import PlainSource
from .tables import Tables

log = logging.getLogger(__name__)


class Master:
    """One store of a broker that has no group.

    Attributes:
        term: 0; name servers compare it.
    """

    term = 0

    def __init__(
        self,
        config: BrokerConfig,
        events: EngineEvents,
        host: Host | None = None,
        *,
        disk_used_ratio: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Open the store; looks through what is not known to be whole.

        Args:
            config: of the broker.
            events: whom to tell.
            host: this machine unless given.
            disk_used_ratio: how full the fullest disk is, 0 to 1.

        Raises:
            CallerError, StorageError: it cannot be used; the text says what to do.
        """
        self._config = config
        self._events = events
        self._host = host = host or Host()
        self._stopped = False
        self._disk_used_ratio = disk_used_ratio
        self._threads = host.threads(4, "store")
        self._lock_fd = self._lock()
        try:
            self._open_files()
        except BaseException:
            host.disk.close(self._lock_fd)
            raise
        self._make_parts()
        self._keeping: asyncio.Task[None] | None = None
        self._trimming: set[asyncio.Task[None]] = set()

    def _lock(self) -> int:
        """One process at a time. Source: the file `lock` of upstream."""
        root = self._config.store_path_root_dir
        ensure_folder(self._host.disk, root)
        try:
            return self._host.disk.lock(root / "lock")
        except BlockingIOError as e:
            raise CallerError(
                f"{root} is in use by another broker (its file `lock` is held). Stop that one, or"
                " give this broker a storePathRootDir of its own"
            ) from e

    def _open_files(self) -> None:
        config, host = self._config, self._host
        root = config.store_path_root_dir
        self.metadata = Metadata()
        self.stats = BrokerStats(host.mono_ms, host.wall_ms())
        self._tables = Tables(
            root / "config", self.metadata, host.disk, self._threads, now_ms=host.wall_ms
        )
        for warning in self._tables.load():
            log.warning("%s", warning)
        self._life = LifeFile(root, host.disk)
        was_aborted = host.disk.exists(config.abort_path)
        self._index_is_trusted = not was_aborted or not self._life.may_have_lost_power(host.boot_id)
        self._checkpoint = Checkpoint(config.checkpoint_path, host.disk)
        self._state = QueueState(root / "snapshot", host.disk)
        self._log, self._recovered = open_commit_log(
            config.commit_log_dir,
            config.mapped_file_size_commit_log,
            host.disk,
            checkpoint=self._checkpoint,
            was_aborted=was_aborted,
            mono_ms=host.mono_ms,
        )
        if config.sync_flush:
            self._log.zero_ahead_in(self._threads)

    def _make_parts(self) -> None:
        config, host = self._config, self._host
        queues = ConsumeQueues(
            config.consume_queue_dir,
            config.mapped_file_size_consume_queue,
            host.disk,
            self._threads,
        )
        self.dispatcher = PlainDispatcher(
            self._log,
            queues,
            self.metadata,
            lambda topic: self._tables.deleted.get(topic, 0),
            self._threads,
            applied=self._recovered.dispatch_from,
            on_applied=self._on_applied,
            on_failure=self._stop,
            on_given_up=lambda: self._state.give_up(self._log.end_pos),
        )
        records = RecordBuilder(config, lambda: self.dispatcher.last_store_ms, host.wall_ms)
        self._appends = PlainAppends(
            config,
            self._log,
            records,
            lambda *key: queues.get(*key).max_offset,
            view=self.dispatcher,
            on_failure=self._stop,
            host=host,
        )
        reads = ReadsUnderWay(self._log.segment_bytes)
        source = PlainSource(self._log, self.dispatcher, self._threads, reads)
        self.reader = MessageReader(source, self.dispatcher)
        self.index = self._make_index() if config.message_index_enable else None
        self._make_node(records, reads)

    def _make_index(self) -> IndexView:
        config = self._config
        index = KeyIndex(
            config.index_dir,
            self._host.disk,
            self._threads,
            slots=config.max_hash_slot_num,
            entries=config.max_index_num,
        )
        feed = PlainFeed(self._log, self._threads, applied=lambda: self.dispatcher.applied)
        return IndexView(index, feed)

    def _make_node(self, records: RecordBuilder, reads: ReadsUnderWay) -> None:
        config = self._config
        self._keeper = PlainKeeper(
            config,
            self._log,
            self._appends,
            self.dispatcher,
            self._state,
            self._checkpoint,
            index_ms=lambda: self.index.index.durable_ms if self.index else 0,
            on_failure=self._stop,
        )
        self._retention = Retention(
            self._log,
            config,
            self._host,
            disk_used_ratio=self._disk_used_ratio,
            dispatched=lambda: self._keeper.saved_pos,
            on_begin_moved=self._on_begin_moved,
            on_stop=self._stop,
            reads=reads,
        )
        self.node = PlainNode(
            config,
            self.metadata,
            self._tables,
            self.stats,
            appends=self._appends,
            records=records,
            refuses=self._refusal,
            on_change=self._events.on_change,
            on_failure=self._stop,
        )

    @property
    def end_pos(self) -> int:
        """Byte after the last record."""
        return self._log.end_pos

    # --- life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Bring the queues to the end of the log."""
        self._life.save(self._host.boot_id, sync_flush=self._config.sync_flush, running=True)
        dispatcher = self.dispatcher
        problem = await self._restore()
        if problem is not None:
            log.warning("the queues are made anew from the log: %s", problem)
            dispatcher.queues.detach_all()
            await dispatcher.queues.remove_all()
            dispatcher.applied = self._log.begin_pos
        await dispatcher.catch_up()
        self._make_missing_topics()
        await self._tables.save_topics()
        await self._keeper.save()
        if self.index is not None:
            await self.index.start(self._log.end_pos, trusted=self._index_is_trusted)
            self.index.applied_to(dispatcher.applied)

    async def _restore(self) -> str | None:
        """Take over the queues as they were; why they cannot be, None: they can."""
        queues, config = self.dispatcher.queues, self._config
        pos, begin = self.dispatcher.applied, self._log.begin_pos
        if self._state.given_up:
            return "they were found to be wrong"
        if pos > begin and not await queues.any_files():
            return "they are not there"
        rows = self._state.rows_at(pos)
        if rows is None:
            rows = await queues.in_thread(
                rows_in,
                config.consume_queue_dir,
                config.mapped_file_size_consume_queue,
                self._host.disk,
                pos,
            )
        queues.restore(rows)
        for name in self._tables.deleted:
            if name not in self.metadata.topics:
                queues.detach(name)
                await queues.remove_topic(name)
        try:
            await trim(queues, begin)
        except LedgerMQError as e:
            return str(e)
        return await queues.find_problem(begin, pos)

    def _make_missing_topics(self) -> None:
        """Topics that the broker needs, and those that have messages and lost their settings."""
        found: dict[str, int] = {}
        for row in self.dispatcher.queues.rows():
            found[row.topic] = max(found.get(row.topic, 0), row.queue_id + 1)
        wanted = {t.topic_name: t for t in system_topics(self._config)}
        for name, count in found.items():
            if name not in self.metadata.topics and name not in wanted:
                log.warning("topic %s has messages and no settings: %d queues", name, count)
                wanted[name] = TopicConfig(
                    topic_name=name,
                    read_queue_nums=count,
                    write_queue_nums=count,
                    perm=PERM_RW,
                )
        for name, config in wanted.items():
            if name not in self.metadata.topics:
                index = self.metadata.applied_index + 1
                self.metadata.apply(index, 0, encode_op(TopicPut(config=config)))

    async def join(self) -> None:
        """Take messages."""
        self._keeping = asyncio.get_running_loop().create_task(self._keeper.run())
        self._retention.start()
        self.node.open(self)
        self._events.on_ready(True)

    async def close(self) -> None:
        """Stop; everything that was taken is on disk afterwards, unless this node failed."""
        self.node.halt("this broker stops")
        await self._retention.close()
        self._keeper.stop()
        if self._keeping is not None:
            await asyncio.gather(self._keeping, *self._trimming, return_exceptions=True)
        errors: list[Exception] = []
        for step in (self._finish, self._close_index, self.dispatcher.close):
            try:
                await step()
            except (LedgerMQError, OSError) as e:
                errors.append(e)
        self._close_files()
        if errors:
            raise errors[0]

    async def _finish(self) -> None:
        """Put on disk what is not there yet."""
        if not self._stopped and self.dispatcher.serving:
            await self.node.close()
            await self._keeper.save()
            self._life.save(self._host.boot_id, sync_flush=self._config.sync_flush, running=False)

    async def _close_index(self) -> None:
        if self.index is not None:
            await self.index.close()

    def _close_files(self) -> None:
        self._appends.close()
        self._threads.shutdown(wait=True)
        self.dispatcher.queues.close()
        self._log.close()
        self._checkpoint.close()
        self._life.close()
        self._host.disk.close(self._lock_fd)

    def _stop(self, reason: Exception) -> None:
        if not self._stopped:
            self._stopped = True
            self.node.halt(f"this broker stops: {reason}")
            self._events.on_stop(reason)

    # --- what the parts tell ------------------------------------------------------------------

    def _on_applied(self, pos: int, arrivals: Arrivals) -> None:
        self._appends.visible(pos)
        if self.index is not None:
            self.index.applied_to(pos)
        self._events.on_applied(pos, arrivals)

    def _refusal(self) -> str | None:
        gauge = self._retention.gauge
        return gauge.refusal() if gauge.is_full else None

    def _on_begin_moved(self, pos: int) -> None:
        task = asyncio.get_running_loop().create_task(self._let_go(pos))
        self._trimming.add(task)
        task.add_done_callback(self._trimming.discard)

    async def _let_go(self, pos: int) -> None:
        try:
            await self._keeper.trim()
            if self.index is not None:
                await self.index.index.remove_below(pos)
            self._tables.forget_deleted_below(pos)
        except (LedgerMQError, OSError) as e:
            self._stop(e)

    async def dispatched(self, pos: int) -> None:
        """See `TopicFiles.dispatched`."""
        await self.dispatcher.dispatched(pos)

    async def remove_topic(self, name: str) -> None:
        """See `TopicFiles.remove_topic`."""
        await self._keeper.remove_topic(name)
