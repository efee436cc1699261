"""A broker without a group, wired together: log, queues, index and tables; no clients.

The counterpart of `broker.replica`: a broker puts its listeners around either.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack

from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.engine import EngineEvents
from ledgermq.broker.metadata import Metadata
from ledgermq.broker.record_builder import RecordBuilder
from ledgermq.broker.stats import BrokerStats
from ledgermq.broker.store.dispatch import Arrivals
from ledgermq.broker.store.index_view import IndexView
from ledgermq.broker.store.key_index import KeyIndex
from ledgermq.broker.store.queue_table import ConsumeQueues
from ledgermq.broker.store.reader import MessageReader
from ledgermq.dledger.disk import ensure_folder
from ledgermq.dledger.errors import DiskFullError
from ledgermq.dledger.host import Host
from ledgermq.dledger.store.life import LifeFile
from ledgermq.remoting.errors import CallerError, LedgerMQError

from .appends import PlainAppends
from .checkpoint import Checkpoint
from .dispatch import PlainDispatcher
from .feed import PlainFeed
from .keeper import PlainKeeper
from .node import PlainNode
from .queue_state import QueueState
from .recovery import open_commit_log
from .retention import ReadsUnderWay, Retention
from .source import PlainSource
from .starting import Starting
from .tables import Tables

log = logging.getLogger(__name__)


class Master:
    """One store of a broker that has no group.

    Attributes:
        term: 0; name servers compare it.
        is_clean: once closed: the next start has nothing to make up for.
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
        self.is_clean = True
        self._disk_used_ratio = disk_used_ratio
        self._threads = host.threads(4, "store")
        with ExitStack() as opened:
            self._lock_fd = self._lock()
            opened.callback(host.disk.close, self._lock_fd)
            self._open_files(opened)
            self._make_parts()
            opened.pop_all()
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

    def _open_files(self, opened: ExitStack) -> None:
        """Open what there is; `opened` closes it again when the start fails."""
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
        opened.callback(self._life.close)
        # The name of the file `abort` may be lost with the power.
        was_aborted = host.disk.exists(config.abort_path) or self._life.running
        self._checkpoint = Checkpoint(config.checkpoint_path, host.disk)
        opened.callback(self._checkpoint.close)
        # Without a mark Java may have run since, and nobody knows what happened to it.
        is_known = self._life.present and self._checkpoint.mark is not None
        lost_power = not is_known or self._life.may_have_lost_power(host.boot_id)
        self._index_is_trusted = not was_aborted or not lost_power
        self._state = QueueState(root / "snapshot", host.disk)
        self._log, self._recovered = open_commit_log(
            config.commit_log_dir,
            config.mapped_file_size_commit_log,
            host.disk,
            checkpoint=self._checkpoint,
            was_aborted=was_aborted,
            lost_power=lost_power,
            mono_ms=host.mono_ms,
        )
        opened.callback(self._log.close)
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
            # Without a mark of ours nothing vouches for the time.
            last_store_ms=self._checkpoint.times.physic_ms if self._checkpoint.mark else 0,
            on_applied=self._on_applied,
            on_failure=self._stop,
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
            index=self.index,
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
        """Bring the queues to the end of the log.

        Raises:
            StorageError: the log or the disk is broken.
        """
        self._life.save(self._host.boot_id, sync_flush=self._config.sync_flush, running=True)
        dispatcher = self.dispatcher
        await Starting(
            self._config,
            self._log,
            dispatcher,
            self.metadata,
            self._tables,
            self._state,
            disk=self._host.disk,
        ).run()
        if self.index is not None:
            await self.index.start(self._log.end_pos, trusted=self._index_is_trusted)
            self.index.applied_to(dispatcher.applied)
        for saving in (self._tables.save_offsets, self._tables.save_topics, self._keeper.save):
            try:
                await saving()
            except DiskFullError as e:
                log.error("it goes on without: %s", e)

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
        keeping = [self._keeping] if self._keeping is not None else []
        await asyncio.gather(*keeping, *self._trimming, return_exceptions=True)
        errors: list[Exception] = []
        steps = (self._finish, self._close_index, self.dispatcher.close, self.node.settle)
        for step in steps:
            try:
                await step()
            except (LedgerMQError, OSError) as e:
                errors.append(e)
        self._close_files()
        if errors:
            raise errors[0]

    async def _finish(self) -> None:
        """Put on disk what is not there yet."""
        if self.dispatcher.given_up:
            self._state.give_up()
        if self._stopped or not self.dispatcher.serving:
            return
        try:
            await self.node.close()
            if self.index is not None:
                # Before the checkpoint: upstream believes what that says of the index.
                self.is_clean = await self.index.finish()
            await self._keeper.save()
            # Also zeros over what a full disk had left behind the end.
            await self.dispatcher.queues.in_thread(self._log.sync)
        except (LedgerMQError, OSError) as e:
            # Then this is no clean stop.
            self._stop(e)
            raise
        boot_id, is_sync = self._host.boot_id, self._config.sync_flush
        self._life.save(boot_id, sync_flush=is_sync, running=not self.is_clean)

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
            self._appends.fail()
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

    def held(self) -> AbstractAsyncContextManager[None]:
        """See `TopicFiles.held`."""
        return self._keeper.held()

    async def remove_topic(self, name: str) -> None:
        """See `TopicFiles.remove_topic`."""
        self.dispatcher.queues.detach(name)
        await self.dispatcher.queues.remove_topic(name)
