"""Directed links: a lossy control channel, and push connections that break.

Both are first in, first out. What a broken push connection had under way may be lost, or may
still arrive after the next connection's first push (a "stray"): the core must bear both.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Protocol

from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.raft.messages import Message, Push, Seed

from .store import Entry

Span = tuple[int, int]


@dataclass
class Conditions:
    """How slow and how bad the world is; spans are (least, most) milliseconds."""

    latency_ms: Span = (0, 0)
    sync_ms: Span = (0, 0)
    fetch_ms: Span = (0, 0)
    reconnect_ms: Span = (0, 0)
    # A member without room closes the connection so much later.
    hang_up_ms: Span = (1000, 1000)
    # A cut push connection is noticed after this.
    break_ms: Span = (0, 0)
    # Share of control messages that are lost.
    loss: float = 0.0


@dataclass(slots=True)
class Packet:
    """A message under way; it never outlives the process it was sent to."""

    source: NodeId
    target: NodeId
    message: Message
    target_life: int
    entries: tuple[Entry, ...] = ()
    connection: "Connection | None" = None


@dataclass(eq=False, slots=True)
class Connection:
    """One push connection; a new one is a new session."""

    source: NodeId
    target: NodeId
    open: bool = True
    waiting: deque[Packet] = field(default_factory=deque)
    last: Packet | None = None


class Host(Protocol):
    """What the network needs of the cluster."""

    def schedule(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Run `action` later."""

    def deliver(self, packet: Packet) -> None:
        """Hand over a packet that arrived."""

    def lost(self, packet: Packet) -> None:
        """A packet will never arrive."""

    def life_of(self, node: NodeId) -> int:
        """Number of the process that runs as `node`, even while it is dead."""

    def alive(self, node: NodeId) -> bool:
        """Whether it runs."""

    def link_changed(self, source: NodeId, target: NodeId, *, up: bool) -> None:
        """A push connection of `source` opened or broke."""


class Network:
    """All links of a cluster."""

    def __init__(self, host: Host, conditions: Conditions, rng: Random) -> None:
        self.conditions = conditions
        # Directed pairs between which nothing passes.
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        # (source, target, push?) whose packets wait for `release`.
        self.holds: set[tuple[NodeId, NodeId, bool]] = set()
        self.held: dict[tuple[NodeId, NodeId, bool], deque[Packet]] = {}
        self.strays: list[Packet] = []
        self.keep_strays = False
        self._host = host
        self._rng = rng
        self._free_at: dict[tuple[NodeId, NodeId, bool], int] = {}
        self._connections: dict[tuple[NodeId, NodeId], Connection] = {}

    def pick(self, span: Span) -> int:
        """A moment within a span."""
        return span[0] if span[0] == span[1] else self._rng.randint(*span)

    # --- packets --------------------------------------------------------------------------------

    def send(self, source: NodeId, target: NodeId, message: Message, now_ms: int) -> None:
        """Send on the control channel."""
        packet = Packet(source, target, message, self._host.life_of(target))
        if self.conditions.loss and self._rng.random() < self.conditions.loss:
            self._host.lost(packet)
            return
        self._under_way(packet, now_ms)

    def push(
        self,
        source: NodeId,
        target: NodeId,
        message: Push | Seed,
        entries: tuple[Entry, ...],
        now_ms: int,
    ) -> None:
        """Send on the push connection, if it still stands."""
        connection = self._connections.get((source, target))
        life = self._host.life_of(target)
        packet = Packet(source, target, message, life, entries, connection)
        if connection is None:
            self._host.lost(packet)
            return
        self._under_way(packet, now_ms)

    def _under_way(self, packet: Packet, now_ms: int) -> None:
        channel = (packet.source, packet.target, packet.connection is not None)
        at_ms = max(self._free_at.get(channel, 0), now_ms + self.pick(self.conditions.latency_ms))
        self._free_at[channel] = at_ms
        self._host.schedule(at_ms - now_ms, lambda: self._arrive(packet))

    def _arrive(self, packet: Packet) -> None:
        pair = (packet.source, packet.target)
        connection = packet.connection
        if packet.target_life != self._host.life_of(packet.target) or not self._host.alive(
            packet.target
        ):
            self._host.lost(packet)
        elif connection is not None and not connection.open:
            self._astray(packet)
        elif (*pair, connection is not None) in self.holds:
            self.held.setdefault((*pair, connection is not None), deque()).append(packet)
        elif pair in self.cuts:
            self._stuck(packet)
        elif connection is not None and connection.waiting:
            connection.waiting.append(packet)
        else:
            self._hand_over(packet)

    def _hand_over(self, packet: Packet) -> None:
        if packet.connection is not None:
            packet.connection.last = packet
        self._host.deliver(packet)

    def _stuck(self, packet: Packet) -> None:
        if packet.connection is None:
            self._host.lost(packet)
        else:
            packet.connection.waiting.append(packet)

    def _astray(self, packet: Packet) -> None:
        if self.keep_strays:
            self.strays.append(packet)
        else:
            self._host.lost(packet)

    # --- holding --------------------------------------------------------------------------------

    def hold(self, source: NodeId, target: NodeId, *, push: bool) -> None:
        """Let pushes, or control packets, wait at the door."""
        self.holds.add((source, target, push))

    def release(self, source: NodeId, target: NodeId, *, push: bool) -> None:
        """Let in what waited; pushes of a connection broken meanwhile go astray."""
        self.holds.discard((source, target, push))
        for packet in self.held.pop((source, target, push), ()):
            self._arrive(packet)

    def drop_held(self, source: NodeId, target: NodeId, *, push: bool) -> None:
        """Lose what waits at the door."""
        for packet in self.held.pop((source, target, push), ()):
            self._host.lost(packet)

    def deliver_strays(self) -> None:
        """Let pushes of broken connections arrive after all."""
        strays, self.strays = self.strays, []
        for packet in strays:
            if packet.target_life == self._host.life_of(packet.target):
                self._host.deliver(packet)

    def repeat(self, source: NodeId, target: NodeId) -> None:
        """Deliver the last push of the connection once more."""
        last = self._connections[source, target].last
        assert last is not None, f"nothing was pushed from {source} to {target}"
        self._host.deliver(last)

    # --- connections ----------------------------------------------------------------------------

    def connected(self, source: NodeId, target: NodeId) -> bool:
        """Whether a push connection stands."""
        return (source, target) in self._connections

    def connect_later(self, source: NodeId, target: NodeId) -> None:
        """Dial; nothing happens when the other side cannot be reached then."""
        delay_ms = self.pick(self.conditions.reconnect_ms)
        self._host.schedule(delay_ms, lambda: self._connect(source, target))

    def _connect(self, source: NodeId, target: NodeId) -> None:
        blocked = (source, target) in self.cuts or (target, source) in self.cuts
        both = self._host.alive(source) and self._host.alive(target)
        if both and not blocked and (source, target) not in self._connections:
            self._connections[source, target] = Connection(source, target)
            self._host.link_changed(source, target, up=True)

    def break_connection(self, source: NodeId, target: NodeId, survivors: int = 0) -> None:
        """Break a push connection; the first `survivors` of what waits still arrive, late."""
        connection = self._connections.pop((source, target), None)
        if connection is None:
            return
        connection.open = False
        for packet in list(connection.waiting):
            if survivors > 0:
                survivors -= 1
                delay_ms = self.pick((0, 2 * self.conditions.latency_ms[1]))
                self._host.schedule(delay_ms, partial(self._stray_arrives, packet))
            else:
                self._astray(packet)
        connection.waiting.clear()
        self._host.link_changed(source, target, up=False)

    def _stray_arrives(self, packet: Packet) -> None:
        if packet.target_life == self._host.life_of(packet.target):
            self._host.deliver(packet)

    def hang_up_later(self, source: NodeId, target: NodeId) -> None:
        """The target closes the connection, so that the next one starts anew."""
        delay_ms = self.pick(self.conditions.hang_up_ms)
        self._host.schedule(delay_ms, lambda: self.break_connection(source, target))

    def forget(self, node: NodeId) -> None:
        """A process died: its own connections are gone without a word."""
        for pair in [p for p in self._connections if p[0] == node]:
            self._connections.pop(pair).open = False

    # --- cuts -----------------------------------------------------------------------------------

    def cut(self, source: NodeId, target: NodeId) -> None:
        """Stop one direction; push connections of the pair break when that is noticed."""
        self.cuts.add((source, target))
        for a, b in ((source, target), (target, source)):
            connection = self._connections.get((a, b))
            if connection is not None:
                delay_ms = self.pick(self.conditions.break_ms)
                self._host.schedule(delay_ms, partial(self._notice, connection))

    def _notice(self, connection: Connection) -> None:
        pair = (connection.source, connection.target)
        cut = pair in self.cuts or (pair[1], pair[0]) in self.cuts
        if cut and self._connections.get(pair) is connection:
            self.break_connection(*pair)

    def heal(self) -> None:
        """Let everything pass again."""
        pairs = {p for c in self.cuts for p in (c, (c[1], c[0]))}
        self.cuts.clear()
        for source, target in sorted(pairs):
            connection = self._connections.get((source, target))
            if connection is None:
                self.connect_later(source, target)
                continue
            waiting, connection.waiting = connection.waiting, deque()
            for packet in waiting:
                self._arrive(packet)
