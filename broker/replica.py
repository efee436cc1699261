"""One replica of a group: the log, and what it makes of it; no clients, no name servers.

A broker puts its listeners around it; the simulation runs it as it is.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ledgermq.dledger.errors import DamagedError, DiskFullError
from ledgermq.dledger.host import Host
from ledgermq.dledger.ids import NodeId, RaftConfig, Timing
from ledgermq.dledger.member import ServerCallbacks, ServerConfig
from ledgermq.dledger.raft.effects import Role
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store.segments import naming
from ledgermq.dledger.store.snapshots import Snapshot
from ledgermq.remoting.errors import CallerError, LedgerMQError

from .config_fields import BrokerConfig
from .engine import EngineEvents
from .metadata import Metadata
from .node import Node
from .retention import Retention
from .stats import BrokerStats
from .store.dispatch import Arrivals, DispatchCallbacks, Dispatcher
from .store.group_feed import GroupFeed
from .store.group_source import GroupSource
from .store.index_view import IndexView
from .store.key_index import KeyIndex
from .store.reader import MessageReader

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReplicaEvents(EngineEvents):
    """Whom a replica tells.

    Attributes:
        on_role: Raft's role, term or leader changed.
        on_transfer_ended: a hand-over failed, for this reason.
    """

    on_role: Callable[[Role, int, NodeId | None], None]
    on_transfer_ended: Callable[[str], None]


class Replica:
    """Metadata, queues and log of one node, wired together.

    Attributes:
        is_clean: always; what a stop leaves undone, the next start makes from the log.
    """

    def __init__(
        self,
        config: BrokerConfig,
        events: ReplicaEvents,
        host: Host | None = None,
        *,
        bootstrap: bool = False,
        disk_used_ratio: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Open the store.

        Args:
            config: of the broker.
            events: whom to tell.
            host: this machine unless given.
            bootstrap: the store may vote, whatever happened to it.
            disk_used_ratio: how full the disk is, 0 to 1: old entries go sooner when it is.

        Raises:
            CallerError, StorageError: it cannot be used; the text says what to do.
        """
        host = host or Host()
        self._config = config
        self._events = events
        self._stopped = False
        self.is_clean = True
        self.metadata = Metadata()
        self.stats = BrokerStats(host.mono_ms, host.wall_ms())
        self.node = Node(
            config,
            self.metadata,
            self.stats,
            on_ready=events.on_ready,
            refuses=self._refusal,
            wall_ms=host.wall_ms,
        )
        self.log = LogServer(
            _server_config(config, bootstrap=bootstrap), self._log_callbacks(), host
        )
        self.dispatcher = Dispatcher(
            self.log,
            config.consume_queue_dir,
            config.mapped_file_size_consume_queue,
            self.metadata,
        )
        self.node.attach(self.log, self.dispatcher)
        source = GroupSource(
            self.log, applied=lambda: self.dispatcher.applied, on_damage=self.dispatcher.fail
        )
        self.reader = MessageReader(source, self.dispatcher)
        self.index = self._make_index(host) if config.message_index_enable else None
        self._retention = Retention(
            self.log,
            config,
            metadata=self.metadata,
            applied=lambda: self.dispatcher.applied,
            disk_used_ratio=disk_used_ratio,
            append=self.node.forget_before,
        )
        self._retaining: asyncio.Task[None] | None = None
        self._reseeding: asyncio.Task[None] | None = None

    def _make_index(self, host: Host) -> IndexView:
        config = self._config
        self._index_threads = host.threads(1, "index")
        index = KeyIndex(
            config.index_dir,
            host.disk,
            self._index_threads,
            slots=config.max_hash_slot_num,
            entries=config.max_index_num,
        )
        return IndexView(index, GroupFeed(self.log, applied=lambda: self.dispatcher.applied))

    def _log_callbacks(self) -> ServerCallbacks:
        return ServerCallbacks(
            on_role=self._on_role,
            on_commit=self._on_commit,
            on_append_failed=self.node.on_append_failed,
            on_hand_over=self.node.flush_offsets,
            on_transfer_ended=self._events.on_transfer_ended,
            make_noop=self.node.make_noop,
            on_seeded=self._on_seeded,
            on_stop=self._stop,
        )

    @property
    def term(self) -> int:
        """The Raft term."""
        return self.log.core.term

    @property
    def end_pos(self) -> int:
        """Byte after the last entry."""
        return self.log.ledger.end_pos

    # --- life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Bring metadata and queues to where the log's snapshot left them."""
        try:
            with naming(self._config.consume_queue_dir, "open"):
                await self.dispatcher.start(
                    DispatchCallbacks(self._on_applied, self._events.on_change, self._stop)
                )
        except DamagedError as e:
            self.log.note_damage(e)
            raise
        if self.index is not None:
            with naming(self._config.index_dir, "open"):
                await self.index.start(self.dispatcher.end_pos, trusted=not self.log.lost_power)

    async def join(self) -> None:
        """Listen for the peers and take part in the group. CallerError: the port is taken."""
        try:
            await self.log.start()
        except OSError as e:
            port = self._config.raft_address[1]
            raise CallerError(
                f"cannot listen on port {port} (dLegerPeers, {self._config.dleger_self_id}):"
                f" {e.strerror or e}. See who holds it: lsof -i:{port}"
            ) from e
        self.dispatcher.committed(self.log.core.commit)
        self._retention.measure()
        self._retaining = asyncio.get_running_loop().create_task(self._retain())

    async def _retain(self) -> None:
        """The leader decides what the group forgets; the index of each node follows."""
        while True:
            await asyncio.sleep(self._config.clean_resource_interval_ms / 1000)
            try:
                self._retention.measure()
                if self.node.ready:
                    await self._retention.check()
                if self.index is not None:
                    with naming(self._config.index_dir, "removal of files"):
                        await self.index.remove_below(self.log.begin.pos)
            except DiskFullError as e:
                log.warning("what may go stays for now: %s", e)
            except (LedgerMQError, OSError) as e:
                self._stop(e)
                return

    def _refusal(self) -> str | None:
        gauge = self._retention.gauge
        return gauge.refusal() if gauge.is_full else None

    async def close(self) -> None:
        """Stop; what is applied and written is on disk afterwards."""
        self.node.halt("this node stops")
        # First: a snapshot of a leader would take the place of what is about to be kept.
        await self.log.leave()
        if self._retaining is not None:
            self._retaining.cancel()
            await asyncio.gather(self._retaining, return_exceptions=True)
        if self.index is not None:
            await asyncio.gather(*filter(None, [self._reseeding]), return_exceptions=True)
            await self.index.close()
            self._index_threads.shutdown(wait=True)
        errors: list[Exception] = []
        for part in (self.dispatcher, self.log):
            try:
                await part.close()
            except (LedgerMQError, OSError) as e:
                errors.append(e)
        if errors:
            raise errors[0]

    def _stop(self, reason: Exception) -> None:
        if isinstance(reason, DamagedError):
            # Whoever met it: the next start looks there, or it would meet it again.
            self.log.note_damage(reason)
        if not self._stopped:
            self._stopped = True
            self.node.halt(f"this node stops: {reason}")
            self._events.on_stop(reason)

    # --- what the log tells -------------------------------------------------------------------

    def _on_role(self, role: Role, term: int, leader: NodeId | None) -> None:
        self.node.on_role(role, term, leader)
        self._events.on_role(role, term, leader)

    def _on_commit(self, index: int) -> None:
        self.dispatcher.committed(index)

    def _on_seeded(self, snapshot: Snapshot) -> None:
        self.dispatcher.reseed(snapshot)
        if self.index is not None:
            reseeding = self._reseed_index(self.index, self.dispatcher.end_pos)
            self._reseeding = asyncio.get_running_loop().create_task(reseeding)

    async def _reseed_index(self, index: IndexView, begin_pos: int) -> None:
        try:
            with naming(self._config.index_dir, "removal of files"):
                await index.reseed(begin_pos)
        except (LedgerMQError, OSError) as e:
            self._stop(e)

    def _on_applied(self, index: int, arrivals: Arrivals) -> None:
        self.node.on_applied(index)
        if self.index is not None:
            self.index.applied_to(self.dispatcher.end_pos)
        self._events.on_applied(index, arrivals)


def _server_config(config: BrokerConfig, *, bootstrap: bool) -> ServerConfig:
    members = {NodeId(k): address for k, address in config.dleger_peers.items()}
    self_id = NodeId(config.dleger_self_id)
    return ServerConfig(
        raft=RaftConfig(
            self_id=self_id,
            voters=tuple(sorted(members)),
            timing=Timing(
                heartbeat_ms=config.heartbeat_interval_ms,
                election_min_ms=config.election_timeout_min_ms,
                election_max_ms=config.election_timeout_max_ms,
            ),
            preferred=tuple(NodeId(p) for p in config.preferred_leader_id),
            max_in_flight_bytes=config.peer_in_flight_bytes,
        ),
        group=config.dleger_group,
        members=members,
        folder=config.dledger_dir,
        data_folder=config.dledger_data_dir,
        segment_bytes=config.mapped_file_size_commit_log,
        sync_flush=config.sync_flush,
        flush_interval_ms=config.flush_interval_commit_log_ms,
        address=config.address,
        bootstrap=bootstrap,
    )
