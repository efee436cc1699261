"""A group of real log servers in a simulated world, with nothing above them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from ledgermq.dledger.ids import NodeId, RaftConfig, Timing
from ledgermq.dledger.member import ServerCallbacks, ServerConfig
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from tests.sim.world import MS, Machine, Process, S, World

NOOP = b"the leader's own entry"
PORT = 40911
FOLDER = Path("/store/dledger")


class Member:
    """One machine, and the log server of its present process."""

    def __init__(self, group: "Group", machine: Machine) -> None:
        self.group = group
        self.machine = machine
        self.server: LogServer | None = None
        self.commits: list[int] = []
        self.stops: list[Exception] = []

    @property
    def process(self) -> Process:
        assert self.machine.process is not None
        return self.machine.process

    @property
    def log(self) -> LogServer:
        assert self.server is not None
        return self.server

    @property
    def up(self) -> bool:
        return self.server is not None and self.process.alive and not self.server.stopped

    @property
    def leads(self) -> bool:
        """Leads, and its own entry is committed."""
        if not self.up or not self.log.is_leader:
            return False
        return self.log.core.commit >= self.log.core.term_first_index

    def start(self) -> None:
        process = self.machine.boot()
        self.commits.clear()
        self.server = process.call(self._make, process)
        process.spawn(self.server.start())

    def _make(self, process: Process) -> LogServer:
        known: dict[str, Any] = {
            "on_commit": self.commits.append,
            "on_stop": self.stops.append,
            "make_noop": lambda _term, _index: (len(NOOP), lambda _offset: NOOP),
        }
        callbacks = {f.name: known.get(f.name, _nothing) for f in fields(ServerCallbacks)}
        config = self.group.config(NodeId(self.machine.name))
        return LogServer(config, ServerCallbacks(**callbacks), process.host())

    def put(self, body: bytes) -> None:
        def stage() -> None:
            self.log.reserve(len(body))
            self.log.stage(body)

        self.process.call(stage)

    def entries(self) -> list[tuple[int, bytes]]:
        """(term, body) of all that is committed, from the files."""
        found: list[tuple[int, bytes]] = []
        while len(found) <= self.log.core.commit:
            data, _ = self.process.call(
                self.log.ledger.read_entries, len(found), self.log.core.commit, 1 << 20
            )
            for at, h in entry.walk(data):
                found.append((h.term, data[at + entry.HEADER_BYTES : at + h.size]))
        return found


def _nothing(*_: object) -> None:
    return None


class Group:
    """Members n0, n1, …, started."""

    def __init__(self, world: World, count: int = 3) -> None:
        self.world = world
        machines = [world.machine(f"n{i}") for i in range(count)]
        self.addresses = {NodeId(m.name): (m.host, PORT) for m in machines}
        self.members = [Member(self, machine) for machine in machines]
        for member in self.members:
            member.start()

    def config(self, node: NodeId) -> ServerConfig:
        return ServerConfig(
            raft=RaftConfig(node, tuple(self.addresses), Timing()),
            group="G",
            members=self.addresses,
            folder=FOLDER,
            data_folder=None,
            segment_bytes=64 << 10,
            sync_flush=True,
            flush_interval_ms=20,
            address=f"{self.addresses[node][0]}:10911",
        )

    def leader(self, limit_us: int = 5 * S) -> Member:
        found: list[Member] = []

        def find() -> bool:
            found[:] = [m for m in self.members if m.leads]
            return bool(found)

        assert self.world.run_until(find, limit_us), "no leader"
        return max(found, key=lambda m: m.log.core.term)

    def others(self, member: Member) -> list[Member]:
        return [m for m in self.members if m is not member]

    def append(self, count: int, interval_us: int = 10 * MS) -> None:
        """Put entries one after the other, whoever leads."""
        for i in range(count):
            self.leader().put(b"entry %d" % i)
            self.world.run(interval_us)

    def agree(self, limit_us: int = 5 * S) -> list[tuple[int, bytes]]:
        """All run and have committed the same log; it is returned."""

        def same() -> bool:
            ends = {m.log.core.commit for m in self.members if m.up}
            last = {m.log.ledger.end_index for m in self.members if m.up}
            return all(m.up for m in self.members) and len(ends | last) == 1

        assert self.world.run_until(same, limit_us), [m.log.core.commit for m in self.members]
        logs = [m.entries() for m in self.members]
        assert all(log == logs[0] for log in logs)
        return logs[0]
