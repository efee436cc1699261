"""The composition root: the only module that knows every part of a broker."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.raft.effects import Role
from ledgermq.dledger.server import LogServer
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import CallerError, LedgerMQError
from ledgermq.remoting.message_id import pack_host
from ledgermq.remoting.registry import ProcessorRegistry
from ledgermq.remoting.server import RemotingServer

from .clients import ClientTable
from .config_fields import BrokerConfig
from .config_machine import replace_marker_folders
from .engine import Engine, EngineEvents
from .exports import Exports
from .features import (
    broker_info,
    client_manage,
    groups,
    offsets,
    order_lock,
    pull,
    query,
    queue_info,
    send,
    send_back,
    topics,
)
from .forward import Gate
from .hand_over import HandOver, wait_for
from .long_polling import LongPolling
from .metadata import Change, ChangeKind
from .order_locks import OrderLocks
from .plain.master import Master
from .registration import Registrar
from .replica import Replica, ReplicaEvents
from .retention import disk_used_ratio
from .sending.answers import SendAnswers
from .sending.quick import QuickSends
from .stats import StoreInfo
from .store.dispatch import Arrivals, Dispatcher

log = logging.getLogger(__name__)

LEADER_CODES = frozenset().union(
    *(
        feature.LEADER_CODES
        for feature in (groups, offsets, order_lock, queue_info, send, send_back, topics)
    )
)
_EXPIRE_S = 10.0
_STATS_S = 1.0


class BrokerApp:
    """One broker between `start` and `stop`.

    Attributes:
        failed: set with the reason when the node had to stop by itself.
    """

    def __init__(self, config: BrokerConfig, *, bootstrap: bool = False) -> None:
        """Open the store; `bootstrap`: it may vote, whatever happened to it.

        Raises:
            CallerError, StorageError: it cannot be used; the text says what to do.
        """
        for warning in replace_marker_folders(config):
            log.warning("%s", warning)
        self.config = config
        self.failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._replica = self._make_replica(bootstrap=bootstrap) if config.in_group else None
        self.engine: Engine = self._replica or self._make_master()
        self.metadata = self.engine.metadata
        self.stats = self.engine.stats
        self.node = self.engine.node
        self.reader = self.engine.reader
        self.gate = Gate(self.node)
        self.polling = LongPolling()
        self.locks = OrderLocks()
        self.clients: ClientTable[Connection] = ClientTable()
        self.manager = client_manage.ClientManager(self.clients, self.metadata, self.node, config)
        self.registrar = Registrar(
            config, self.metadata, broker_id=self._broker_id, term=lambda: self.engine.term
        )
        root = config.store_path_root_dir
        # Without a group the tables are those files, and the engine keeps them.
        self.exports = Exports(root / "config", self.metadata) if config.in_group else None
        self._abort_file = config.abort_path
        self._answers = SendAnswers(config, pack_host(config.address))
        registry = self.gate.guard(self._handlers(), LEADER_CODES)
        registry.shortcut = QuickSends(
            self.node, self.metadata, config, self._answers, is_open=self.gate.is_open
        )
        self._listener = RemotingServer(
            registry,
            on_close=self.manager.connection_closed,
            idle_close_ms=config.channel_expired_timeout_ms,
        )
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._took_part = False

    def _make_replica(self, *, bootstrap: bool) -> Replica:
        _refuse_foreign_store(self.config)
        events = ReplicaEvents(
            on_role=self._on_role,
            on_ready=self._on_ready,
            on_applied=self._on_applied,
            on_change=self._on_change,
            on_transfer_ended=lambda _reason: self._open_gate(),
            on_stop=self._fail,
        )
        return Replica(
            self.config, events, bootstrap=bootstrap, disk_used_ratio=self._disk_used_ratio
        )

    def _make_master(self) -> Master:
        events = EngineEvents(
            on_ready=self._on_ready,
            on_applied=self._on_applied,
            on_change=self._on_change,
            on_stop=self._fail,
        )
        return Master(self.config, events, disk_used_ratio=self._disk_used_ratio)

    @property
    def replica(self) -> Replica:
        """This node of a group."""
        if self._replica is None:
            raise RuntimeError("this broker has no group")
        return self._replica

    @property
    def log(self) -> LogServer:
        """The group's log at this node."""
        return self.replica.log

    @property
    def dispatcher(self) -> Dispatcher:
        """What brings the group's log to the queues of this node."""
        return self.replica.dispatcher

    def _handlers(self) -> ProcessorRegistry:
        r = ProcessorRegistry()
        m, node, reader, config = self.metadata, self.node, self.reader, self.config
        send.register(r, send.SendService(node, m, config, self._answers))
        pull.register(
            r,
            pull.PullService(
                node, m, self.clients, reader, self.polling, self.gate, config, self.stats
            ),
        )
        client_manage.register(r, self.manager)
        offsets.register(r, offsets.OffsetService(m, node, reader, config))
        queue_info.register(r, reader)
        topics.register(r, topics.TopicService(m, node, reader, config))
        groups.register(r, groups.GroupService(m, node, reader, self.clients, config))
        send_back.register(r, send_back.SendBackService(m, node, reader, node, config))
        order_lock.register(r, order_lock.LockService(self.locks, m))
        query.register(
            r,
            query.QueryService(self.engine.index, reader.read_record, config.max_msgs_num_batch),
        )
        broker_info.register(
            r,
            broker_info.InfoService(config, self.stats, self._store_info, lambda: node.ready),
        )
        return r

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen for clients and peers, take part in the group, register.

        Raises:
            CallerError: a port is taken.
        """
        was_aborted = self._abort_file.exists()
        try:
            await self._start()
        except BaseException:
            await self._close()
            if not was_aborted:
                self._abort_file.unlink(missing_ok=True)
            raise

    async def _start(self) -> None:
        self._abort_file.parent.mkdir(parents=True, exist_ok=True)
        self._abort_file.touch()
        await self.engine.open()
        port = self.config.listen_port
        await self._listener.start([port, port - 2])
        await self.engine.join()
        self.registrar.start()
        if self.exports is not None:
            self.exports.start()
        self._every("expire", _EXPIRE_S, self.manager.expire)
        self._every("stats", _STATS_S, lambda: self.stats.tick(datetime.now().astimezone().date()))

    def _every(self, name: str, interval_s: float, action: Callable[[], None]) -> None:
        def run() -> None:
            self._every(name, interval_s, action)
            action()

        self._timers[name] = asyncio.get_running_loop().call_later(interval_s, run)

    async def stop(self) -> None:
        """Hand leadership over, answer what is held, then close; nothing acknowledged is lost."""
        if self._replica is not None and not self.failed.done():
            await HandOver(self.node, self._replica.log, self.gate, self.registrar).run()
        await self.registrar.close()
        # Clients that still send here are told at once; what is under way gets its answer.
        self.gate.refuse()
        await wait_for(lambda: self.gate.quiet and self.node.pending_count == 0)
        await self._keep_last_offsets()
        try:
            await self._close()
        finally:
            if not self.failed.done() and self.engine.is_clean:
                self._abort_file.unlink(missing_ok=True)

    async def _keep_last_offsets(self) -> None:
        """Pulls bring offsets until the last connection is closed; a leader still keeps them."""
        self.polling.close()
        await self._listener.close()
        if self.node.ready and not self.failed.done():
            self.gate.keep_offsets()
            self.node.flush_offsets()
            await wait_for(lambda: self.node.pending_count == 0)

    async def _close(self) -> None:
        """Close every part, whatever the others do; the first error is raised at the end."""
        for timer in self._timers.values():
            timer.cancel()
        self.polling.close()
        self.node.halt("this node stops")
        errors: list[Exception] = []
        for part in (self.registrar, self._listener, self.gate, self.engine, self.exports):
            if part is None:
                continue
            try:
                await part.close()
            except (LedgerMQError, OSError) as e:
                errors.append(e)
        if errors:
            raise errors[0]

    def _fail(self, reason: Exception) -> None:
        if not self.failed.done():
            log.critical("this node stops: %s", reason)
            self.failed.set_result(reason)
            self.gate.refuse()

    # --- what the log tells -------------------------------------------------------------------

    def _on_role(self, role: Role, term: int, leader: NodeId | None) -> None:
        del term
        if role is not Role.LEADER and leader is not None:
            self._took_part = True
            self._open_gate()
            self.registrar.changed()

    def _open_gate(self) -> None:
        self.gate.closed = False
        self.gate.release()
        self.node.flush_offsets()

    def _on_ready(self, ready: bool) -> None:
        self._took_part = True
        if ready:
            self.gate.release()
        else:
            self.locks.clear()
        self.registrar.changed()

    def _on_applied(self, _index: int, arrivals: Arrivals) -> None:
        self.polling.arrived(arrivals)

    def _on_change(self, change: Change) -> None:
        if self.node.ready and change.kind in (
            ChangeKind.TOPIC_CREATED,
            ChangeKind.TOPIC_UPDATED,
            ChangeKind.TOPIC_DELETED,
        ):
            self.registrar.changed()

    # --- what others ask ----------------------------------------------------------------------

    def _broker_id(self) -> int | None:
        """0 as the ready leader, the number in the own id + 1 otherwise, None before any role.

        A leader that stepped down and knows no other registers as a follower too: a name server
        must not go on showing it as the leader.
        """
        if self.node.ready or not self.config.in_group:
            return 0
        return self.config.follower_broker_id if self._took_part else None

    def _disk_used_ratio(self) -> float:
        return disk_used_ratio(*self.config.folders_on_disk)

    def _store_info(self) -> StoreInfo:
        return StoreInfo(
            max_physical_offset=self.engine.end_pos,
            disk_used_ratio=self._disk_used_ratio(),
            pending_sends=self.node.pending_count,
        )


def _refuse_foreign_store(config: BrokerConfig) -> None:
    """Two nodes in one folder would write the same queues."""
    own = config.dledger_dir.name
    for folder in sorted(config.store_path_root_dir.glob("dledger-*")):
        if folder.name != own:
            raise CallerError(
                f"{config.store_path_root_dir} holds the store of node"
                f" {folder.name.removeprefix('dledger-')!r}, this node is"
                f" {config.dleger_self_id!r}. Correct dLegerSelfId, or give this node a"
                " storePathRootDir of its own"
            )
