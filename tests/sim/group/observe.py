"""Recognises the marked situations in the steps of the members."""

from typing import TYPE_CHECKING

from ledgermq.broker.metadata import ChangeKind
from ledgermq.dledger.ids import NONE, NodeId, Standing
from ledgermq.dledger.raft import effects as fx
from ledgermq.dledger.raft import events as ev
from ledgermq.dledger.raft.effects import Role
from ledgermq.dledger.raft.messages import PushReply, VoteRequest

from .knowledge import Written
from .marks import Mark

if TYPE_CHECKING:
    from ledgermq.dledger.raft.core import RaftCore

    from .group import Group

# So long around a re-seeding an acknowledgement counts as a write under it.
_NEAR_US = 2_000_000


class Observer:
    """Counts marks; changes nothing."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        # Terms in which topics were deleted last.
        self._deleted: dict[str, int] = {}
        # Members that stood for a term, and those of them that had been told of a death.
        self._stood: dict[int, set[NodeId]] = {}
        self._hinted: set[NodeId] = set()
        self._standing: dict[NodeId, Standing] = {}
        self.last_ack_us = -_NEAR_US

    def before_step(self, name: NodeId, core: "RaftCore", event: ev.Event) -> None:
        """Look at what a step is about to change."""
        kind = type(event)
        if kind is ev.Received:
            message = event.message  # type: ignore[union-attr]
            if type(message) is PushReply and core.role is Role.LEADER:
                self._see_ack(core, message)
            elif type(message) is VoteRequest:
                self._see_candidate(name, core, message)
        elif kind is ev.PeerDied and core.leader == event.peer:  # type: ignore[union-attr]
            self._hinted.add(name)

    def _see_ack(self, core: "RaftCore", reply: PushReply) -> None:
        progress = core._s.progress.get(reply.sender)
        late = progress is not None and reply.session < progress.session
        if late and reply.success and reply.term == core.term:
            self._group.marks[Mark.LATE_ACK] += 1

    def _see_candidate(self, name: NodeId, core: "RaftCore", request: VoteRequest) -> None:
        if not core.transferring or core.role is not Role.LEADER:
            return
        if request.sender != core._s.transfer_target and request.for_term > core.term:
            self._group.marks[Mark.TRANSFER_RACES_ELECTION] += 1

    def after_step(
        self, name: NodeId, core: "RaftCore", event: ev.Event, effects: tuple[fx.Effect, ...]
    ) -> None:
        """Look at what it did."""
        group = self._group
        for effect in effects:
            kind = type(effect)
            if kind is fx.AcceptEntries:
                if effect.truncate_from is not None:  # type: ignore[union-attr]
                    group.marks[Mark.TAIL_TRUNCATED] += 1
            elif kind is fx.PersistHardState:
                self._see_standing(name, effect.standing)  # type: ignore[union-attr]
            elif kind is fx.RoleChanged:
                self._see_role(name, core, effect)  # type: ignore[arg-type]
        if type(event) is ev.Seeded and group.world.now_us - self.last_ack_us < _NEAR_US:
            group.marks[Mark.SEED_UNDER_WRITES] += 1

    def _see_standing(self, name: NodeId, standing: Standing) -> None:
        before = self._standing.get(name, Standing.MEMBER)
        if standing is Standing.MEMBER and before is not Standing.MEMBER:
            self._group.admitted(name, before)
        self._standing[name] = standing

    def set_standing(self, name: NodeId, standing: Standing) -> None:
        """A store was opened."""
        self._standing[name] = standing

    def _see_role(self, name: NodeId, core: "RaftCore", change: fx.RoleChanged) -> None:
        if change.role is Role.CANDIDATE:
            stands = core._s.vote == name and not core._s.pre_voting
            if stands and name in self._hinted:
                rivals = self._stood.setdefault(change.term, set())
                rivals.add(name)
                if len(rivals) == 2:
                    self._group.marks[Mark.CANDIDATES_COLLIDE] += 1
        elif change.leader is not None:
            self._hinted.discard(name)

    def on_topic(self, kind: ChangeKind, name: str, written: Written) -> None:
        """A topic's creation or deletion is committed."""
        if kind is ChangeKind.TOPIC_DELETED:
            self._deleted[name] = written.term
        elif self._deleted.pop(name, NONE) not in (NONE, written.term):
            self._group.marks[Mark.TOPIC_ACROSS_FAILOVER] += 1

    def acknowledged(self) -> None:
        """A client was answered SEND_OK."""
        self.last_ack_us = self._group.world.now_us
