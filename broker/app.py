"""The composition root: the only module that knows every part of a broker."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.raft.effects import Role
from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import CallerError, LedgerMQError
from ledgermq.remoting.message_id import pack_host
from ledgermq.remoting.registry import ProcessorRegistry
from ledgermq.remoting.server import RemotingServer

from .clients import ClientTable
from .config_fields import BrokerConfig
from .exports import Exports
from .features import (
    broker_info,
    client_manage,
    groups,
    offsets,
    order_lock,
    pull,
    queue_info,
    send,
    send_back,
    topics,
)
from .forward import Gate
from .long_polling import LongPolling
from .metadata import Change, ChangeKind
from .order_locks import OrderLocks
from .registration import Registrar
from .replica import Replica, ReplicaEvents
from .stats import StoreInfo
from .store.dispatch import Arrivals

log = logging.getLogger(__name__)

LEADER_CODES = frozenset().union(
    *(
        feature.LEADER_CODES
        for feature in (groups, offsets, order_lock, queue_info, send, send_back, topics)
    )
)
_EXPIRE_S = 10.0
_STATS_S = 1.0
# Each step of a hand-over; without a majority of others no step can succeed.
_HAND_OVER_S = 1.5
_ROUTES_S = 2.0
_POLL_S = 0.005


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
        _refuse_foreign_store(config)
        self.config = config
        self.failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.replica = Replica(
            config,
            ReplicaEvents(
                on_role=self._on_role,
                on_ready=self._on_ready,
                on_applied=self._on_applied,
                on_change=self._on_change,
                on_transfer_ended=lambda _reason: self._open_gate(),
                on_stop=self._fail,
            ),
            bootstrap=bootstrap,
            disk_used_ratio=self._disk_used_ratio,
        )
        self.metadata = self.replica.metadata
        self.stats = self.replica.stats
        self.node = self.replica.node
        self.log = self.replica.log
        self.dispatcher = self.replica.dispatcher
        self.reader = self.replica.reader
        root = config.store_path_root_dir
        self.gate = Gate(self.node)
        self.polling = LongPolling()
        self.locks = OrderLocks()
        self.clients: ClientTable[Connection] = ClientTable()
        self.manager = client_manage.ClientManager(self.clients, self.metadata, self.node, config)
        self.registrar = Registrar(
            config, self.metadata, broker_id=self._broker_id, term=lambda: self.log.core.term
        )
        self.exports = Exports(root / "config", self.metadata)
        self._abort_file = root / "abort"
        registry = self.gate.guard(self._handlers(), LEADER_CODES)
        self._listener = RemotingServer(
            registry,
            on_close=self.manager.connection_closed,
            idle_close_ms=config.channel_expired_timeout_ms,
        )
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._took_part = False

    def _handlers(self) -> ProcessorRegistry:
        r = ProcessorRegistry()
        m, node, reader, config = self.metadata, self.node, self.reader, self.config
        store_host = pack_host(config.address)
        send.register(r, send.SendService(node, m, config, store_host))
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
        await self.replica.open()
        port = self.config.listen_port
        await self._listener.start([port, port - 2])
        try:
            await self.replica.join()
        except OSError as e:
            raft_port = self.config.dleger_peers[self.config.dleger_self_id][1]
            raise CallerError(
                f"cannot listen on port {raft_port} (dLegerPeers, {self.config.dleger_self_id}):"
                f" {e.strerror or e}. See who holds it: lsof -i:{raft_port}"
            ) from e
        self.registrar.start()
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
        if not self.failed.done():
            await self._hand_over()
        await self.registrar.close()
        # Clients that still send here are told at once; what is under way gets its answer.
        self.gate.refuse()
        await self._wait(lambda: self.gate.quiet and self.node.pending_count == 0, _HAND_OVER_S)
        await self._keep_last_offsets()
        try:
            await self._close()
        finally:
            if not self.failed.done():
                self._abort_file.unlink(missing_ok=True)

    async def _keep_last_offsets(self) -> None:
        """Pulls bring offsets until the last connection is closed; a leader still keeps them."""
        self.polling.close()
        await self._listener.close()
        if self.node.ready and not self.failed.done():
            self.gate.keep_offsets()
            self.node.flush_offsets()
            await self._wait(lambda: self.node.pending_count == 0, _HAND_OVER_S)

    async def _close(self) -> None:
        """Close every part, whatever the others do; the first error is raised at the end."""
        for timer in self._timers.values():
            timer.cancel()
        self.polling.close()
        self.node.halt("this node stops")
        errors: list[Exception] = []
        for part in (
            self.registrar, self._listener, self.gate, self.replica, self.exports
        ):  # fmt: skip
            try:
                await part.close()
            except (LedgerMQError, OSError) as e:
                errors.append(e)
        if errors:
            raise errors[0]

    async def _hand_over(self) -> None:
        """Design 7: hold new sends, transfer, forward the held ones, wait for the routes."""
        # One that is under way already, to a preferred leader: no offset could be written now.
        await self._wait(lambda: not self.log.core.transferring, _HAND_OVER_S)
        if not self.node.ready:
            return
        self.gate.closed = True
        # Twice: what was under way when the gate closed may have moved an offset meanwhile.
        for _ in range(2):
            self.node.flush_offsets()
            await self._wait(lambda: self.node.pending_count == 0, _HAND_OVER_S)
        if len(self.config.dleger_peers) == 1:
            return
        self.log.transfer()
        await self._wait(lambda: not self.gate.closed, _HAND_OVER_S)
        if self.gate.closed or self.log.is_leader:
            log.warning("leadership could not be handed over; the others will elect")
            return
        await self._wait(lambda: not self.gate.holding, _HAND_OVER_S)
        await self._wait_for_routes()

    async def _wait_for_routes(self) -> None:
        """Clients that ask a name server after our end should find the new leader there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ROUTES_S):
                await self.registrar.wait_for_leader_elsewhere()

    async def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        end_ms = mono_ms() + int(seconds * 1000)
        while not condition():
            if mono_ms() > end_ms:
                return False
            await asyncio.sleep(_POLL_S)
        return True

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
        if self.node.ready:
            return 0
        return self.config.follower_broker_id if self._took_part else None

    def _disk_used_ratio(self) -> float:
        usage = shutil.disk_usage(self.config.store_path_root_dir)
        return usage.used / usage.total

    def _store_info(self) -> StoreInfo:
        end = self.log.ledger.end_pos
        return StoreInfo(
            max_physical_offset=end,
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
