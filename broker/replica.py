"""One replica of a group: the log, and what it makes of it; no clients, no name servers.

A broker puts its listeners around it; the simulation runs it as it is.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.host import Host
from ledgermq.dledger.ids import NodeId, RaftConfig, Timing
from ledgermq.dledger.member import ServerCallbacks, ServerConfig
from ledgermq.dledger.raft.effects import Role
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store.snapshots import Snapshot
from ledgermq.remoting.errors import LedgerMQError, StorageError

from .config_fields import BrokerConfig
from .metadata import Change, Metadata
from .node import Node
from .retention import Retention
from .stats import BrokerStats
from .store.dispatch import Arrivals, DispatchCallbacks, Dispatcher
from .store.reader import MessageReader

_RETENTION_S = 10.0


@dataclass(frozen=True, slots=True)
class ReplicaEvents:
    """Whom a replica tells.

    Attributes:
        on_role: Raft's role, term or leader changed.
        on_ready: this node became, or is no longer, the ready leader.
        on_applied: everything up to this index is visible; the arrivals by queue.
        on_change: metadata changed.
        on_transfer_ended: a hand-over failed, for this reason.
        on_stop: the node must stop, for this reason.
    """

    on_role: Callable[[Role, int, NodeId | None], None]
    on_ready: Callable[[bool], None]
    on_applied: Callable[[int, Arrivals], None]
    on_change: Callable[[Change], None]
    on_transfer_ended: Callable[[str], None]
    on_stop: Callable[[Exception], None]


class Replica:
    """Metadata, queues and log of one node, wired together."""

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
        self._events = events
        self._stopped = False
        self.metadata = Metadata()
        self.stats = BrokerStats(host.mono_ms, host.wall_ms())
        self.node = Node(
            config, self.metadata, self.stats, on_ready=events.on_ready, wall_ms=host.wall_ms
        )
        self.log = LogServer(
            _server_config(config, bootstrap=bootstrap), self._log_callbacks(), host
        )
        self.dispatcher = Dispatcher(
            self.log,
            config.store_path_root_dir,
            config.mapped_file_size_consume_queue,
            self.metadata,
        )
        self.node.attach(self.log, self.dispatcher)
        self.reader = MessageReader(self.log, self.dispatcher)
        self._retention = Retention(
            self.log,
            config,
            metadata=self.metadata,
            applied=lambda: self.dispatcher.applied,
            disk_used_ratio=disk_used_ratio,
            append=self.node.forget_before,
        )
        self._retaining: asyncio.Task[None] | None = None

    def _log_callbacks(self) -> ServerCallbacks:
        return ServerCallbacks(
            on_role=self._on_role,
            on_commit=self._on_commit,
            on_append_failed=self.node.on_append_failed,
            on_transfer_ended=self._events.on_transfer_ended,
            make_noop=self.node.make_noop,
            on_seeded=self._on_seeded,
            on_stop=self._stop,
        )

    # --- life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Bring metadata and queues to where the log's snapshot left them."""
        try:
            await self.dispatcher.start(
                DispatchCallbacks(self._on_applied, self._events.on_change, self._stop)
            )
        except DamagedError as e:
            self.log.note_damage(e)
            raise

    async def join(self) -> None:
        """Listen for the peers and take part in the group. OSError: the port is taken."""
        await self.log.start()
        self.dispatcher.committed(self.log.core.commit)
        self._retaining = asyncio.get_running_loop().create_task(self._retain())

    async def _retain(self) -> None:
        """The leader decides what the group forgets."""
        while True:
            await asyncio.sleep(_RETENTION_S)
            if not self.node.ready:
                continue
            try:
                await self._retention.check()
            except StorageError as e:
                self._stop(e)
                return

    async def close(self) -> None:
        """Stop; what is applied and written is on disk afterwards."""
        self.node.halt("this node stops")
        if self._retaining is not None:
            self._retaining.cancel()
            await asyncio.gather(self._retaining, return_exceptions=True)
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

    def _on_applied(self, index: int, arrivals: Arrivals) -> None:
        self.node.on_applied(index)
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
