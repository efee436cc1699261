"""A group in its world, and everybody who watches it."""

import logging
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

from ledgermq.broker.metadata import Change, ChangeKind
from ledgermq.broker.store import keeper
from ledgermq.broker.store.dispatch import Arrivals
from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.dledger.raft import effects as fx
from ledgermq.dledger.raft import events as ev
from ledgermq.dledger.raft.effects import Role
from tests.sim.invariants import ViolationError
from tests.sim.world import World

from .character import Character
from .knowledge import Written
from .marks import Mark, Marks
from .member import Member, make_config
from .observe import Observer
from .promises import Promises
from .rules import Rules
from .story import Story
from .truth import Truth

if TYPE_CHECKING:
    from ledgermq.dledger.raft.core import RaftCore


class Group:
    """Members, rules and counters of one run.

    Attributes:
        faults: injected, by kind.
        operations: asked for, by kind.
    """

    def __init__(self, seed: int, character: Character) -> None:
        self.seed = seed
        self.character = character
        self.world = World(seed)
        # Every half minute would be once in a run.
        self._snapshot_s, keeper._SNAPSHOT_S = keeper._SNAPSHOT_S, character.snapshot_s
        # The nemesis and the clients must not change with what the world draws.
        self.rng = Random(seed ^ 0x6E656D65736973)
        self.story = Story()
        self.marks: Marks = Marks()
        self.faults: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.looks: Counter[str] = Counter()
        self.truth = Truth(self._on_topic)
        self.members = self._make_members()
        witnesses = [m.witness for m in self.members.values()]
        self.rules = Rules(witnesses, self.truth, self._on_disk)
        self.promises = Promises(self.truth)
        self.observer = Observer(self)

    def _make_members(self) -> dict[NodeId, Member]:
        c = self.character
        machines = [self.world.machine(f"n{i}") for i in range(c.nodes)]
        hosts = {m.name: m.host for m in machines}
        more = {
            "flush_disk_type": "SYNC_FLUSH" if c.sync_flush else "ASYNC_FLUSH",
            "mapped_file_size_commit_log": c.segment_bytes,
            "mapped_file_size_consume_queue": c.queue_bytes,
            "preferred_leader_id": ("n0",) if c.preferred else (),
            "max_pending_send_bytes": 8 << 20,
        }
        for machine in machines:
            machine.disk.miss_chance = c.miss_chance
        return {
            NodeId(m.name): Member(self, m, make_config(m.name, hosts, **more)) for m in machines
        }

    def looked(self, *, led: bool) -> None:
        """Somebody looked for a leader, and found one or not."""
        self.looks["led" if led else "leaderless"] += 1

    # --- questions ----------------------------------------------------------------------------

    @property
    def all(self) -> list[Member]:
        """In the order of their names."""
        return list(self.members.values())

    @property
    def quorum(self) -> int:
        """Members that make a majority."""
        return len(self.members) // 2 + 1

    def leader(self) -> Member | None:
        """The ready leader of the highest term."""
        ready = [m for m in self.members.values() if m.ready]
        return max(ready, key=lambda m: m.witness.hard_state[0], default=None)

    def _on_disk(self, name: NodeId, written: Written) -> bool:
        """Whether a loss of power would leave this entry on a member's disk for sure."""
        member = self.members[name]
        if not self.character.sync_flush or written.index in member.rotten:
            return True
        path, offset = member.place_of(written.pos)
        found = member.machine.disk.durable_read(path, offset, len(written.data))
        # A file that retention has removed was on disk before.
        return found == written.data or found is None

    # --- the end ------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """A rule is broken: the run ends with this."""
        self.world.fail(error)

    def tell(self, who: str, what: str) -> None:
        """Add a sentence to the story."""
        self.story.add(self.world.now_us, who, what)

    def close(self) -> None:
        """End all processes."""
        self.world.close()
        keeper._SNAPSHOT_S = self._snapshot_s

    # --- what members tell --------------------------------------------------------------------

    def before_step(self, name: NodeId, core: "RaftCore", event: ev.Event) -> None:
        """See `Audience`."""
        self.observer.before_step(name, core, event)
        if type(event) is ev.TransferRequested and not core.transferring:
            self._handing_over(self.members[name])

    def after_step(
        self, name: NodeId, core: "RaftCore", event: ev.Event, effects: tuple[fx.Effect, ...]
    ) -> None:
        """See `Audience`."""
        story, now_us = self.story, self.world.now_us
        story.add(now_us, name, event)
        for effect in effects:
            story.add(now_us, name, effect)
        self.observer.after_step(name, core, event, effects)

    def sync_ended(self, name: NodeId, *, in_vain: bool) -> None:
        """See `Audience`."""
        if in_vain:
            self.marks[Mark.SYNC_AFTER_CUT] += 1

    def on_ready(self, member: Member, ready: bool) -> None:
        """A member became the ready leader, or is it no longer."""
        self.tell(member.name, "ready to lead" if ready else "no longer ready")

    def opened(self, member: Member) -> None:
        """A replica has rebuilt its metadata; it takes part next."""
        replica = member.replica
        assert replica is not None
        self._checked(lambda: self.promises.opened(member, replica))

    def applied(self, member: Member, index: int, arrivals: Arrivals) -> None:
        """A member has applied up to `index`."""
        self._checked(lambda: self.promises.applied(member, index, arrivals))

    def changed(self, member: Member, change: Change) -> None:
        """A member's metadata changed."""
        replica = member.replica
        if replica is not None and not self.rules.void:
            self._checked(lambda: self.truth.check_metadata(member.name, replica.metadata))

    def _checked(self, check: Callable[[], None]) -> None:
        try:
            check()
        except ViolationError as e:
            self.fail(e)
            raise

    def stopped(self, member: Member, reason: Exception) -> None:
        """A node ends by itself, or could not start."""
        if isinstance(reason, ViolationError):
            return
        self.tell(member.name, f"stops by itself: {reason}")
        self.operations["stops by themselves"] += 1
        if not member.disk_faults and not member.hurt and not member.lurking:
            error = ViolationError("unexpected_stop", f"{member.name} stops: {reason}")
            error.__cause__ = reason
            self.fail(error)

    def read_failed(self, member: Member, error: Exception) -> None:
        """A reader got an error."""
        if not member.disk_faults and not member.hurt and not member.lurking:
            self.fail(ViolationError("reads_work", f"{member.name}: {error}"))

    def check_views(self, member: Member) -> None:
        """What a node shows of its queues is what the log says."""
        replica = member.replica
        if replica is not None and not self.rules.void:
            self._checked(lambda: member.call(self.promises.check_queues, member, replica))

    def admitted(self, name: NodeId, before: Standing) -> None:
        """A member's vote counts again."""
        member = self.members[name]
        if member.hurt:
            self.marks[Mark.AMNESIAC_ADMITTED] += 1
        self.tell(name, f"is a member again, was {before.name}; {member.hurt or 'unhurt'}")
        member.hurt = ""
        member.lost_power = False

    def flushing(self, member: Member) -> None:
        """A hand-over is about to put the consumer offsets into the log."""
        self.promises.flushing(member)

    def flushed(self, member: Member) -> None:
        """They must be there, if there was room."""
        if member.machine.disk.room is None:
            self._checked(lambda: self.promises.flushed(member))

    # --- lives --------------------------------------------------------------------------------

    def _handing_over(self, member: Member) -> None:
        if member.ready and member.machine.disk.room is None and not self.rules.void:
            self.promises.handing_over(member)

    def start_later(self, member: Member, span_us: tuple[int, int]) -> None:
        """Somebody starts the node again."""
        self.world.schedule(self.rng.randint(*span_us), member.start)

    def _on_topic(self, kind: ChangeKind, name: str, written: Written) -> None:
        self.observer.on_topic(kind, name, written)

    def elected(self) -> int:
        """How often the leader changed."""
        names = [name for _, name in self.rules.elections]
        return sum(1 for before, after in pairwise(names) if before != after)

    def roles(self) -> dict[NodeId, Role]:
        """Role of each running member."""
        return {
            m.name: m.replica.log.core.role
            for m in self.members.values()
            if m.running and m.replica is not None
        }


class Logs(logging.Handler):
    """Puts what the product logs as a warning or worse into the story."""

    def __init__(self, group: Group) -> None:
        super().__init__(logging.WARNING)
        self._group = group

    def emit(self, record: logging.LogRecord) -> None:
        """Add one line."""
        self._group.tell("log", record.getMessage())
