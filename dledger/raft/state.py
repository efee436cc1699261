"""The state of one member, shared by the role modules."""

from typing import TYPE_CHECKING

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NEVER_MS, NONE, NodeId, RaftConfig, Standing

from .effects import Commit, Effect, PersistHardState, Role, RoleChanged, Send
from .log_view import LogView
from .messages import Message
from .progress import Progress
from .quorum import Grant

if TYPE_CHECKING:
    from random import Random

# A lease lasts this share of the time for which a follower that heard its leader gives no vote:
# clocks run at different speeds.
LEASE_SHARE = 0.9


class RaftState:
    """Everything a member remembers, and the effects of the step under way.

    Invariants, checked where they could break: term and commit never fall; at most one vote a
    term; commit <= last index; an entry at or below commit is never cut.
    """

    def __init__(
        self,
        config: RaftConfig,
        rng: "Random",
        now_ms: int,
        *,
        term: int,
        vote: NodeId | None,
        log: LogView,
        commit: int,
        standing: Standing,
    ) -> None:
        self.config = config
        self.rng = rng
        self.now_ms = now_ms
        self.log = log
        self.role = Role.FOLLOWER
        self.leader: NodeId | None = None
        self.term = term
        self.vote = vote
        self.standing = standing
        # Highest index known committed. Invariant: never falls, commit <= log.last_index.
        self.commit = commit
        # Highest index on the own disk. What was recovered is durable by the shell's word.
        self.durable = log.last_index
        # Highest index verified against the leader of the current term.
        self.verified = NONE
        # Session of that leader's pushes, echoed in acks.
        self.push_session = NONE
        # Pushes up to this session are ignored: one of them could not be written.
        self.failed_session = NONE
        # Highest commit index that a leader told.
        self.leader_commit = NONE
        self.leader_heard_ms = NEVER_MS
        self.hinted_until_ms = now_ms + config.timing.hint_span_ms
        self.deadline_ms = now_ms
        # Candidate: what is asked for, and who said yes to it.
        self.pre_voting = False
        self.pre_granted: dict[NodeId, Grant] = {}
        # The same of the try before: what is lacking now may only be late.
        self.pre_granted_before: dict[NodeId, Grant] = {}
        # Who voted for this member in `term`; empty unless this process stood in `term`. A retry
        # keeps it: the log has not changed, so votes that come late count.
        self.granted: dict[NodeId, Grant] = {}
        # How full the own disk is.
        self.disk_percent = 0
        # There was no room for entries: until then others shall lead.
        self.barred_until_ms = NEVER_MS
        # Leader.
        self.progress: dict[NodeId, Progress] = {}
        self.session_counter = 0
        self.linked: set[NodeId] = set()
        self.token_counter = 0
        self.term_first_index = 0
        # An `AppendNoop` is out.
        self.noop_requested = False
        self.heartbeat_due_ms = NEVER_MS
        self.heartbeat_seq = 0
        self.heartbeat_sent: dict[int, int] = {}
        self.transfer_target: NodeId | None = None
        self.transfer_deadline_ms = NEVER_MS
        self.transfer_sent = False
        # TimeoutNows that their targets may still obey: heartbeat seq and time when it was sent, by
        # target. An echo of a later heartbeat, or the target's death, proves that it will not: only
        # then does the lease count again.
        self.unsettled_transfers: dict[NodeId, tuple[int, int]] = {}
        self.calm_since_ms = now_ms
        self._effects: list[Effect] = []
        self._persisted = (term, vote, standing)

    # --- effects ------------------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        """Add an effect to this step."""
        self._effects.append(effect)

    def send(self, peer: NodeId, message: Message) -> None:
        """Send on the control connection."""
        self._effects.append(Send(peer, message))

    def take_effects(self) -> tuple[Effect, ...]:
        """End the step: its effects, with the hard state first if it changed."""
        effects = self._effects
        self._effects = []
        now = (self.term, self.vote, self.standing)
        if now != self._persisted:
            self._persisted = now
            effects.insert(0, PersistHardState(*now))
        return tuple(effects)

    # --- shared transitions -------------------------------------------------------------------

    def set_term(self, term: int, vote: NodeId | None) -> None:
        """Enter a higher term, or vote in the current one."""
        if term < self.term or (term == self.term and self.vote not in (None, vote)):
            raise InvariantError(
                f"term {self.term} vote {self.vote} cannot become term {term} vote {vote}"
            )
        if term > self.term:
            self.verified = NONE
            self.push_session = NONE
            self.failed_session = NONE
        self.term = term
        self.vote = vote

    def change_role(self, role: Role, leader: NodeId | None) -> None:
        """Take a role and tell the shell."""
        self.role = role
        self.leader = leader
        self.emit(RoleChanged(role, self.term, leader))

    def follow(self, term: int, leader: NodeId | None) -> None:
        """Become a follower in `term` (>= the own), of `leader` if known."""
        changed = self.role is not Role.FOLLOWER or self.term != term or self.leader != leader
        if term > self.term:
            self.set_term(term, None)
        if self.role is Role.LEADER:
            self.progress.clear()
            self.heartbeat_sent.clear()
            self.transfer_target = None
        if changed:
            self.pre_voting = False
            self.pre_granted = {}
            self.granted = {}
            self.change_role(Role.FOLLOWER, leader)
            self.reset_election_deadline()

    def advance_commit(self, index: int) -> None:
        """Commit up to `index`; never backwards."""
        if index <= self.commit:
            return
        if index > self.log.last_index:
            raise InvariantError(f"commit {index} past the end {self.log.last_index}")
        self.commit = index
        self.emit(Commit(index))

    # --- time ---------------------------------------------------------------------------------

    @property
    def hinted(self) -> bool:
        """Whether retries are quick: just started, or told of the leader's death."""
        return self.now_ms < self.hinted_until_ms

    def hears_leader(self) -> bool:
        """Whether the leader was heard within the minimum election timeout."""
        return self.now_ms - self.leader_heard_ms < self.config.timing.election_min_ms

    def reset_election_deadline(self) -> None:
        """Wait a full random election timeout from now."""
        t = self.config.timing
        self.deadline_ms = self.now_ms + self.rng.randint(t.election_min_ms, t.election_max_ms)

    def set_retry_deadline(self) -> None:
        """Wait for the next candidacy: quick while hinted, else a full timeout."""
        t = self.config.timing
        if self.hinted:
            wait_ms = self.rng.randint(t.hint_retry_min_ms, t.hint_retry_max_ms)
            self.deadline_ms = self.now_ms + wait_ms
        else:
            self.reset_election_deadline()

    def bar(self) -> None:
        """There is no room for entries: for a while, ask for no votes. Others may have room."""
        if self.config.peers:
            self.barred_until_ms = self.now_ms + 2 * self.config.timing.election_max_ms

    @property
    def grant(self) -> Grant:
        """What the own vote is worth."""
        return Grant(self.standing, self.log.last_index != NONE)

    @property
    def barred(self) -> bool:
        """Whether others shall lead."""
        return self.now_ms < self.barred_until_ms

    def rank(self) -> int:
        """Place among the voters other than the last leader: who goes first after a hint."""
        return [v for v in self.config.voters if v != self.leader].index(self.config.self_id)
