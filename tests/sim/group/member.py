"""One node of a group: its machine, the replica of its present life, and what was done to it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledgermq.broker.config import BrokerConfig
from ledgermq.broker.metadata import Change
from ledgermq.broker.replica import Replica, ReplicaEvents
from ledgermq.broker.store.dispatch import Arrivals
from ledgermq.dledger.ids import NONE, NodeId, Standing
from ledgermq.remoting.errors import LedgerMQError
from tests.sim.invariants import ViolationError
from tests.sim.world import Machine, Process, ProcessGone

from .knowledge import Witness
from .watch import Watch

if TYPE_CHECKING:
    from ledgermq.dledger.raft.effects import Role

    from .group import Group

RAFT_PORT = 40911
CLIENT_PORT = 10911
# A node that stopped itself, or could not start, is started again after so long.
REPAIR_US = (200_000, 3_000_000)
# After a SIGTERM.
RESTART_US = (50_000, 2_000_000)
_POLL_S = 0.02
_HAND_OVER_S = 3.0


class Member:
    """A machine that runs a replica most of the time.

    Attributes:
        hurt: what was done to its store that costs it its vote; "" when nothing was, or when the
            group has taken it back.
        disk_faults: faults of the disk that this life of the process may have met.
        joined: the replica takes part.
        wanted: it should run; whoever ends it says when it starts again.
    """

    def __init__(self, group: "Group", machine: Machine, config: BrokerConfig) -> None:
        self.name = NodeId(machine.name)
        self.machine = machine
        self.config = config
        self.witness = Witness(self.name)
        self.replica: Replica | None = None
        self.hurt = ""
        # Bytes of a queue file or snapshot were damaged: whoever meets them stops, now or later.
        self.lurking = False
        # Entries of the log that lost a byte after they had been synced.
        self.rotten: set[int] = set()
        self.disk_faults = 0
        self.joined = False
        self.stopping = False
        # Its store may lack what was not synced: power was lost under ASYNC_FLUSH.
        self.lost_power = False
        self._group = group
        self._process: Process | None = None
        self._paths: dict[int, Path] = {}

    # --- state --------------------------------------------------------------------------------

    @property
    def process(self) -> Process:
        """The present life."""
        assert self._process is not None
        return self._process

    @property
    def alive(self) -> bool:
        """A process runs, or is paused."""
        return self._process is not None and self._process.alive

    @property
    def running(self) -> bool:
        """A process runs and takes part."""
        return self.joined and self._process is not None and self._process.running

    @property
    def ready(self) -> bool:
        """It is a ready leader, as far as it knows."""
        return self.running and self.replica is not None and self.replica.node.ready

    @property
    def standing(self) -> Standing:
        """What its disk says of it."""
        return self.witness.standing

    @property
    def whole(self) -> bool:
        """Its vote counts, and nothing is wrong with its disk."""
        return not self.hurt and self.standing is Standing.MEMBER

    def place_of(self, pos: int) -> tuple[Path, int]:
        """File and byte of a place in the log."""
        offset = pos % self.config.mapped_file_size_commit_log
        base = pos - offset
        path = self._paths.get(base)
        if path is None:
            path = self._paths[base] = self.config.dledger_data_dir / f"{base:020d}"
        return path, offset

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run something inside the process; None when it cannot run, or died of it."""
        with suppress(ProcessGone):
            return self.process.call(fn, *args)
        return None

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process, unless one lives."""
        if self.alive:
            return
        self._process = self.machine.boot()
        self.joined = self.stopping = False
        self.replica = None
        self._group.tell(self.name, "starts")
        with suppress(ProcessGone):
            self.process.call(self._open)

    def _open(self) -> None:
        process = self.process
        try:
            replica = Replica(self.config, self._events(), process.host())
        except ViolationError:
            raise
        except (LedgerMQError, OSError) as e:
            self._cannot_run(process, e)
            return
        self.replica = replica
        watch = Watch(self.witness, replica, self._group.rules, self._group)
        admits = replica.log.core.standing is not Standing.MEMBER
        disk = self.machine.disk
        # What the observer reads must not meet the faults meant for the replica.
        faults, disk.fail_reads = disk.fail_reads, 0
        watch.opened(excused=admits and bool(self.hurt or self.lost_power))
        disk.fail_reads = faults
        process.spawn(self._join(process, replica))

    async def _join(self, process: Process, replica: Replica) -> None:
        try:
            await replica.open()
            dispatcher = replica.dispatcher
            # Of a snapshot that nobody is served from yet, a leader's older one may take the place.
            self.witness.applied = dispatcher.applied if dispatcher.serving else NONE
            self._group.opened(self)
            await replica.join()
        except (LedgerMQError, OSError) as e:
            self._cannot_run(process, e)
            return
        self.joined = True

    def _events(self) -> ReplicaEvents:
        life = self.machine.lives

        def on_stop(reason: Exception) -> None:
            if self.machine.lives == life:
                self._cannot_run(self.process, reason)

        return ReplicaEvents(
            on_role=self._on_role,
            on_ready=lambda ready: self._group.on_ready(self, ready),
            on_applied=self._on_applied,
            on_change=self._on_change,
            on_transfer_ended=lambda reason: self._group.tell(self.name, reason),
            on_stop=on_stop,
        )

    def _on_role(self, role: "Role", term: int, leader: NodeId | None) -> None:
        """The rules see it in the core's effects."""

    def _on_applied(self, index: int, arrivals: Arrivals) -> None:
        self._group.applied(self, index, arrivals)

    def _on_change(self, change: Change) -> None:
        self._group.changed(self, change)

    def _cannot_run(self, process: Process, reason: Exception) -> None:
        """The node ends by itself: there must have been a reason; an operator starts it again."""
        self._group.stopped(self, reason)
        self.joined = False
        self._group.world.schedule(0, lambda: self.end(process))
        self._group.start_later(self, REPAIR_US)

    def end(self, process: Process | None = None) -> None:
        """Kill the process (the given one, if it is still the present one)."""
        if process is None or process is self._process:
            self.joined = False
            if self._process is not None:
                self._process.kill()

    # --- SIGTERM ------------------------------------------------------------------------------

    async def terminate(self) -> None:
        """What a broker does on SIGTERM, in its order; the process ends after it."""
        replica = self.replica
        assert replica is not None
        process = self.process
        self.stopping = True
        node = replica.node
        if node.ready:
            await self._wait(lambda: not replica.log.core.transferring)
        if node.ready:
            self._group.flushing(self)
            node.flush_offsets()
            await self._wait(lambda: node.pending_count == 0)
            self._group.flushed(self)
            replica.log.transfer()
            await self._wait(lambda: not replica.log.is_leader)
        await self._wait(lambda: node.pending_count == 0)
        try:
            await replica.close()
        except (LedgerMQError, OSError) as e:
            self._group.stopped(self, e)
        self._group.tell(self.name, "closed")
        self._group.world.schedule(0, lambda: self.end(process))
        self._group.start_later(self, RESTART_US)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + _HAND_OVER_S
        while not condition() and loop.time() < end_s:  # noqa: ASYNC110 - as the broker does
            await asyncio.sleep(_POLL_S)


def make_config(name: str, hosts: dict[str, str], **more: Any) -> BrokerConfig:
    """Configuration of one member, as an operator would write it, but for small files."""
    return BrokerConfig(
        broker_cluster_name="RaftCluster",
        broker_name="RaftNode00",
        broker_ip1=hosts[name],
        listen_port=CLIENT_PORT,
        store_path_root_dir=Path(f"/{name}/store"),
        enable_dleger_commit_log=True,
        dleger_group="RaftNode00",
        dleger_peers={n: (host, RAFT_PORT) for n, host in hosts.items()},
        dleger_self_id=name,
        # It follows what is applied and decides nothing; its files have tests of their own.
        message_index_enable=False,
        **more,
    )
