"""A cluster in one process and one thread: simulated time, network and disks, real cores.

Nothing here reads a clock or the global random: the same seed gives the same run. Scenarios drive
it by hand, command by command; random runs let `Nemesis` drive it.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from ledgermq.dledger.ids import NodeId, RaftConfig, Standing
from ledgermq.dledger.raft.effects import Effect, Role
from ledgermq.dledger.raft.events import Event, LinkDown, LinkUp, PeerDied, Received, Tick

from .describe import Lost, describe
from .invariants import Invariants
from .network import Conditions, Network, Packet
from .node import SimNode, names
from .store import Entry, SimStore, Store

HISTORY = 60
# Nothing is under way any more so long after the last process ended.
_DRAIN_MS = 5000
Record = tuple[int, NodeId, "Event | Effect | Lost"]


class Cluster:
    """Members, links and a clock.

    Args:
        size: number of members, n0, n1, ….
        rng: source of all chance in network, disks and jitter.
        conditions: the weather.
        jitter: random source of one member's core; by default drawn from `rng`.
        make_store: a member's disk.
        config: fields of `RaftConfig` that differ from the default.
    """

    def __init__(
        self,
        size: int,
        rng: Random,
        conditions: Conditions | None = None,
        *,
        jitter: Callable[[int], Random] | None = None,
        make_store: Callable[[NodeId], Store] = lambda _: SimStore(),
        **config: Any,
    ) -> None:
        self.now_ms = 0
        # Core steps so far.
        self.steps = 0
        self.conditions = conditions or Conditions()
        self.history: deque[Record] = deque(maxlen=HISTORY)
        self.on_record: Callable[[Record], None] = self.history.append
        self.invariants = Invariants(self)
        self.network = Network(self, self.conditions, rng)
        # Chance that a commit is also kept as the place where the next life starts.
        self.snapshot_chance = 0.0
        self._rng = rng
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._event_count = 0
        self._entry_count = 0
        voters = names(size)
        base = RaftConfig(voters[0], voters)
        self._jitter = jitter or (lambda _: Random(rng.getrandbits(64)))
        self.nodes = {
            name: SimNode(
                self, replace(base, self_id=name, **config), make_store(name), self._jitter(rank)
            )
            for rank, name in enumerate(voters)
        }

    # --- time -----------------------------------------------------------------------------------

    def schedule(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Run `action` after `delay_ms`; actions of one moment run in the order given."""
        self._event_count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._event_count, action))

    def run_due(self) -> None:
        """Run what is scheduled up to now; deadlines do not fire."""
        while self._events and self._events[0][0] <= self.now_ms:
            heapq.heappop(self._events)[2]()

    def run_one(self, end_ms: int) -> bool:
        """Run the next action or deadline at or before `end_ms`; False when there is none."""
        at_ms = self._events[0][0] if self._events else end_ms + 1
        tick_ms, node = self._next_deadline()
        if node is not None and tick_ms < at_ms and tick_ms <= end_ms:
            self.now_ms = max(self.now_ms, tick_ms)
            node.handle(Tick())
            later = node.next_tick_ms()
            assert later is None or later > self.now_ms, f"{node.name} wants ticks without end"
            return True
        if at_ms > end_ms:
            return False
        self.now_ms = max(self.now_ms, at_ms)
        heapq.heappop(self._events)[2]()
        return True

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        end_ms = self.now_ms + duration_ms
        while self.run_one(end_ms):
            pass
        self.now_ms = end_ms

    def run_until(self, predicate: Callable[[], bool], limit_ms: int) -> bool:
        """Let time pass until the predicate holds; False when it did not within the limit."""
        end_ms = self.now_ms + limit_ms
        while not predicate():
            if not self.run_one(end_ms):
                self.now_ms = end_ms
                return predicate()
        return True

    def _next_deadline(self) -> tuple[int, SimNode | None]:
        due: tuple[int, SimNode | None] = (0, None)
        for node in self.nodes.values():
            at_ms = node.next_tick_ms()
            if at_ms is not None and (due[1] is None or at_ms < due[0]):
                due = (at_ms, node)
        return due

    # --- members --------------------------------------------------------------------------------

    def change_members(self, size: int) -> None:
        """Operators stop all nodes and write another list of members; new ones have empty stores.

        Nobody is started; the last ones go if there are too many.
        """
        for name in self.nodes:
            self.crash(name)
        self.run(_DRAIN_MS)
        voters = names(size)
        for name in self.nodes.keys() - set(voters):
            del self.nodes[name]
        for rank, name in enumerate(voters):
            known = self.nodes.get(name)
            if known is not None:
                known.config = replace(known.config, voters=voters)
                continue
            config = replace(next(iter(self.nodes.values())).config, self_id=name, voters=voters)
            store = SimStore(Standing.EMPTY)
            node = self.nodes[name] = SimNode(self, config, store, self._jitter(rank))
            # To be admitted it must hold all that was committed before it came.
            self.invariants.on_forget(node)

    def start(self, name: NodeId) -> None:
        """Start a process, and dial from it and to it."""
        self.nodes[name].start()
        for peer in self.nodes[name].config.peers:
            self.network.connect_later(name, peer)
            self.network.connect_later(peer, name)

    def start_all(self) -> None:
        """Start whoever does not run."""
        for name, node in self.nodes.items():
            if node.core is None:
                self.start(name)

    def crash(self, name: NodeId, kept: int | None = None, hint_chance: float = 0.7) -> None:
        """Kill a process; connections break, and peers may understand why.

        Args:
            name: who dies.
            kept: entries not yet synced that survive; by default a random number.
            hint_chance: chance for each peer to be told.
        """
        node = self.nodes[name]
        if node.core is None:
            return
        loose = node.store.last_index - node.store.durable
        node.crash(self._rng.randint(0, loose) if kept is None else kept)
        self.network.forget(name)
        for peer in node.config.peers:
            self.network.break_connection(peer, name)
            told = self._rng.random() < hint_chance
            if told and not self.blocked(peer, name):
                delay_ms = self.network.pick(self.conditions.latency_ms)
                self.schedule(delay_ms, partial(self._hint, peer, name))

    def _hint(self, peer: NodeId, dead: NodeId) -> None:
        self.nodes[peer].handle(PeerDied(dead))

    def blocked(self, a: NodeId, b: NodeId) -> bool:
        """Whether either direction is cut."""
        return bool({(a, b), (b, a)} & self.network.cuts)

    def leader(self) -> SimNode | None:
        """The running leader of the highest term."""
        leading = [
            n for n in self.nodes.values() if n.core is not None and n.core.role is Role.LEADER
        ]
        return max(leading, key=lambda n: n.core.term if n.core else 0, default=None)

    def barred_for_ms(self) -> int:
        """How long a member with a full disk still leaves it to others to lead."""
        cores = [n.core for n in self.nodes.values() if n.core is not None]
        return max([0, *(c._s.barred_until_ms - self.now_ms for c in cores)])

    def ready_leader(self) -> SimNode | None:
        """The leader, once it committed an entry of its own term."""
        node = self.leader()
        if node is None or node.core is None or node.core.commit < node.core.term_first_index:
            return None
        return node

    def converged(self) -> bool:
        """Whether all run, are members, and have committed and kept the same log."""
        ends = {
            (n.core.commit, n.store.durable, n.store.last_index, n.store.chain_at(n.core.commit))
            for n in self.nodes.values()
            if n.core is not None
        }
        alive = all(n.core is not None for n in self.nodes.values())
        members = all(n.store.standing is Standing.MEMBER for n in self.nodes.values())
        return alive and members and len(ends) == 1 and len({*next(iter(ends))[:3]}) == 1

    def new_entry(self, term: int) -> Entry:
        """An entry unlike any other."""
        self._entry_count += 1
        return Entry(term, self._entry_count)

    # --- what network and members call ----------------------------------------------------------

    def after_step(self, node: SimNode) -> None:
        """A member took a step."""
        self.steps += 1
        self.invariants.after_step(node)
        core = node.core
        if core is not None and self.snapshot_chance > self._rng.random():
            node.applied = max(node.applied, min(core.commit, node.store.durable))

    def deliver(self, packet: Packet) -> None:
        """A packet arrives."""
        self.nodes[packet.target].handle(Received(packet.message), packet.entries)

    def lost(self, packet: Packet) -> None:
        """A packet never arrives."""
        self.record(packet.target, Lost(packet.message))

    def life_of(self, node: NodeId) -> int:
        """Number of its latest process."""
        return self.nodes[node].life

    def alive(self, node: NodeId) -> bool:
        """Whether it runs."""
        return self.nodes[node].core is not None

    def link_changed(self, source: NodeId, target: NodeId, *, up: bool) -> None:
        """Tell the owner of a push connection."""
        self.nodes[source].handle(LinkUp(target) if up else LinkDown(target))
        if not up and self.alive(source) and self.alive(target):
            self.network.connect_later(source, target)

    def record(self, name: NodeId, thing: "Event | Effect | Lost") -> None:
        """Remember what happened, for the scenario's text or the failure report."""
        self.on_record((self.now_ms, name, thing))

    def story(self) -> str:
        """The last things that happened."""
        lines = ((at, name, describe(name, thing)) for at, name, thing in self.history)
        return "\n".join(f"{at:>7} ms  {line}" for at, name, line in lines if line)
