"""The Raft core: `step(now_ms, event) -> effects`, without clock, socket, disk or bodies.

Role transitions: FOLLOWER -> CANDIDATE (deadline, hint, TimeoutNow) -> LEADER (quorum of votes);
any -> FOLLOWER (higher term, a leader of the term, no quorum heard).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NodeId, RaftConfig, Standing

from . import admission, candidate, follower, leader, replication, transfer
from .effects import Effect, Role
from .events import (
    AcceptFailed,
    Appended,
    BeginMoved,
    CannotWrite,
    DiskMeasured,
    Durable,
    Event,
    Fetched,
    LinkDown,
    LinkUp,
    PeerDied,
    Received,
    Seeded,
    Tick,
    TransferRequested,
)
from .log_view import LogView
from .messages import (
    Admit,
    Heartbeat,
    HeartbeatReply,
    Push,
    PushReply,
    Seed,
    SeedReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from .state import LEASE_SHARE, RaftState

if TYPE_CHECKING:
    from random import Random

# After a stall of the own process, silence is judged this much later.
_STALL_GRACE_MS = 300


class RaftCore:
    """One member. Feed it events, carry out what it answers, in order."""

    def __init__(
        self,
        config: RaftConfig,
        rng: "Random",
        now_ms: int,
        *,
        term: int = 0,
        vote: NodeId | None = None,
        log: LogView | None = None,
        commit: int = -1,
        standing: Standing = Standing.MEMBER,
    ) -> None:
        """Start as a follower from what the disk holds.

        Args:
            config: the group.
            rng: source of all jitter.
            now_ms: time of the start.
            term: persisted term, 0 at first.
            vote: whom this member voted for in `term`.
            log: what is in the log, all of it durable.
            commit: highest index known committed, NONE if unknown.
            standing: whether this member's memory can be relied on.
        """
        if config.self_id not in config.voters:
            raise InvariantError(f"{config.self_id} is not among the voters {config.voters}")
        log = log if log is not None else LogView()
        self._s = RaftState(
            config,
            rng,
            now_ms,
            term=term,
            vote=vote,
            log=log,
            commit=max(commit, log.base_index),
            standing=standing,
        )
        if log.last_term > term or commit > log.last_index:
            raise InvariantError(
                f"stored term {term} and commit {commit} do not fit a log that ends at index"
                f" {log.last_index}, term {log.last_term}"
            )
        t = config.timing
        quiet_ms = 0
        if term > 0:
            # Which leader was heard before the restart is forgotten; its lease may still count on
            # this member: neither vote nor stand before it has run out.
            quiet_ms = int(t.election_min_ms * LEASE_SHARE)
            self._s.leader_heard_ms = now_ms + quiet_ms - t.election_min_ms
        self._s.deadline_ms = now_ms + quiet_ms + (self._s.rank() + 1) * t.hint_rank_ms

    # --- what the shell may look at -----------------------------------------------------------

    @property
    def role(self) -> Role:
        """The Raft role."""
        return self._s.role

    @property
    def term(self) -> int:
        """The current term."""
        return self._s.term

    @property
    def leader(self) -> NodeId | None:
        """The leader of the current term, if known."""
        return self._s.leader

    @property
    def commit(self) -> int:
        """The commit index."""
        return self._s.commit

    @property
    def durable(self) -> int:
        """Highest index on the own disk."""
        return self._s.durable

    @property
    def log(self) -> LogView:
        """The terms of the log."""
        return self._s.log

    @property
    def term_first_index(self) -> int:
        """Leader: index of its no-op."""
        return self._s.term_first_index

    @property
    def transferring(self) -> bool:
        """Leader: a hand-over is under way; hold new appends."""
        return self._s.transfer_target is not None

    @property
    def lease_until_ms(self) -> int:
        """Leader: until when it alone may answer for the group."""
        return leader.lease_until_ms(self._s)

    @property
    def deadline_ms(self) -> int:
        """When the next `Tick` is due."""
        return self._s.heartbeat_due_ms if self._s.role is Role.LEADER else self._s.deadline_ms

    @property
    def standing(self) -> Standing:
        """Whether its own vote and acks count in a majority."""
        return self._s.standing

    @property
    def joiners(self) -> dict[NodeId, Standing]:
        """Leader: followers whose votes and acks do not count in a majority yet."""
        return admission.joiners(self._s)

    @property
    def waits_for(self) -> tuple[NodeId, ...]:
        """Candidate that needs every vote, for want of members: whose it lacks."""
        return candidate.waits_for(self._s)

    @property
    def needs_operator(self) -> bool:
        """Candidate that has every vote and cannot lead: too many remember nothing."""
        return candidate.needs_operator(self._s)

    def wants_seed(self, seed: Seed) -> bool:
        """Whether the log may be emptied for this snapshot now; then `Seeded` must follow at once.

        Raises:
            InvariantError: it contradicts what is committed here.
        """
        return follower.wants_seed(self._s, seed)

    @property
    def fullest_disk_percent(self) -> int:
        """How full the fullest disk is: the own one, and a leader's followers' heard lately."""
        return leader.fullest_disk_percent(self._s)

    def match_of(self, peer: NodeId) -> int:
        """Leader: highest index `peer` is known to hold durably."""
        p = self._s.progress.get(peer)
        return p.match if p else -1

    # --- the step -----------------------------------------------------------------------------

    def step(self, now_ms: int, event: Event) -> tuple[Effect, ...]:
        """Take one event at `now_ms` (never falling), return the effects in order.

        Raises:
            InvariantError: something that must not be; stop the node, carry out nothing.
        """
        s = self._s
        s.now_ms = max(s.now_ms, now_ms)
        _EVENTS[type(event)](s, event)
        return s.take_effects()


def _on_tick(s: RaftState, e: Tick) -> None:
    if s.role is Role.LEADER:
        leader.on_tick(s, stalled=e.stalled)
    elif s.now_ms >= s.deadline_ms:
        if e.stalled:
            s.deadline_ms = s.now_ms + _STALL_GRACE_MS
        elif s.barred:
            s.deadline_ms = s.barred_until_ms
        else:
            candidate.campaign(s)


def _on_received(s: RaftState, e: Received) -> None:
    m = e.message
    if m.sender not in s.config.peers:
        return
    if isinstance(m, VoteRequest):
        # Whether its term counts depends on whether a leader is heard.
        candidate.on_vote_request(s, m)
        return
    if m.term > s.term:
        asked_in_the_past = isinstance(m, VoteReply) and m.pre and candidate.seeks_leader(s)
        s.follow(m.term, None)
        if asked_in_the_past:
            candidate.ask_again_soon(s)
    _MESSAGES[type(m)](s, m)


def _on_durable(s: RaftState, e: Durable) -> None:
    index = min(e.index, s.log.last_index)
    if index <= s.durable:
        return
    s.durable = index
    if s.role is Role.LEADER:
        replication.evaluate_commit(s)
    else:
        follower.on_durable(s)


def _on_peer_died(s: RaftState, e: PeerDied) -> None:
    if s.role is Role.LEADER:
        transfer.on_peer_died(s, e.peer)
    else:
        candidate.on_leader_lost(s, e.peer)


def _on_disk_measured(s: RaftState, e: DiskMeasured) -> None:
    s.disk_percent = e.percent


def _on_begin_moved(s: RaftState, e: BeginMoved) -> None:
    if e.index - 1 > s.commit:
        raise InvariantError(f"the log begins at {e.index}, its commit is {s.commit}")
    s.log.move_base(e.index - 1)
    # The snapshot that holds it is on the disk.
    s.durable = max(s.durable, s.log.base_index)
    if s.role is Role.LEADER:
        replication.on_begin_moved(s)


_MESSAGES: dict[type, Callable[[RaftState, Any], None]] = {
    Heartbeat: follower.on_heartbeat,
    Push: follower.on_push,
    TimeoutNow: follower.on_timeout_now,
    Admit: follower.on_admit,
    Seed: follower.on_seed,
    VoteReply: candidate.on_vote_reply,
    HeartbeatReply: leader.on_heartbeat_reply,
    PushReply: replication.on_push_reply,
    SeedReply: replication.on_seed_reply,
}

_EVENTS: dict[type, Callable[[RaftState, Any], None]] = {
    Tick: _on_tick,
    Received: _on_received,
    Appended: lambda s, e: replication.on_appended(s, e.count),
    Durable: _on_durable,
    AcceptFailed: lambda s, e: follower.on_accept_failed(s, e.first),
    Fetched: replication.on_fetched,
    LinkUp: lambda s, e: leader.on_link_up(s, e.peer),
    LinkDown: lambda s, e: leader.on_link_down(s, e.peer),
    PeerDied: _on_peer_died,
    TransferRequested: lambda s, e: transfer.on_transfer(s, e.target),
    CannotWrite: lambda s, _: transfer.on_cannot_write(s),
    DiskMeasured: _on_disk_measured,
    BeginMoved: _on_begin_moved,
    Seeded: follower.on_seeded,
}
