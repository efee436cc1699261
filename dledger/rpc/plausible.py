"""What a correct member never says.

An invariant that breaks stops the node. A message that no member of this version can have sent is
no reason for that: it ends its connection, and the group goes on. What only proves that somebody
lied or that the group has lost data (a cut below the commit index) stays with the core, which
stops the node.
"""

from ledgermq.dledger.ids import NONE, NodeId
from ledgermq.dledger.raft.core import RaftCore
from ledgermq.dledger.raft.effects import Role
from ledgermq.dledger.raft.messages import (
    Admit,
    Heartbeat,
    HeartbeatReply,
    Message,
    Push,
    PushReply,
    Seed,
    SeedReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from ledgermq.dledger.store.walked import Walked
from ledgermq.remoting.errors import FrameError

from . import codec
from .codec import Frame

# Terms rise by one for each election: so many at once were never held. Without a bound one message
# could use up all terms there are.
MAX_TERM_STEP = 1 << 32
MAX_TERM = 1 << 62
# Made once: they are asked for with every message.
_OF_VOTES = VoteRequest, VoteReply
_OF_SESSIONS = Push, PushReply, Admit, Seed, SeedReply
_OF_HEARTBEATS = Heartbeat, HeartbeatReply
_OF_LEADERS = Heartbeat, Push, TimeoutNow, Admit, Seed


def checked_message(core: RaftCore, peer: NodeId, frame: Frame) -> tuple[Message, Walked | None]:
    """What `peer` says in a frame to the member that `core` runs, and the entries of a push.

    Raises:
        FrameError: nothing that it may say.
    """
    message = codec.message_of(frame)
    if message.sender != peer:
        raise FrameError(f"{peer} sent a message of {message.sender}")
    refuse_impossible(core, message)
    if isinstance(message, Push):
        return message, codec.check_push(message, frame.payload)
    if isinstance(message, Seed):
        codec.check_seed(message, frame.payload)
    return message, None


def refuse_impossible(core: RaftCore, message: Message) -> None:
    """Let through what a member may say to the one that `core` runs.

    Raises:
        FrameError: it may not.
    """
    problem = (
        _term_problem(core, message) or _shape_problem(message) or _office_problem(core, message)
    )
    if problem:
        raise FrameError(f"{type(message).__name__} of {message.sender}: {problem}")


def _term_problem(core: RaftCore, m: Message) -> str | None:
    highest = max(m.term, m.for_term) if isinstance(m, _OF_VOTES) else m.term
    if m.term < 0:
        return f"term {m.term}"
    if highest > min(core.term + MAX_TERM_STEP, MAX_TERM):
        return f"term {highest} is too far above this node's {core.term}"
    return None


def _shape_problem(m: Message) -> str | None:
    if isinstance(m, _OF_SESSIONS):
        if m.session < 1:
            return f"session {m.session}"
        if isinstance(m, PushReply) and max(m.conflict_term, NONE) > m.term:
            return f"conflict of term {m.conflict_term} in term {m.term}"
    elif isinstance(m, VoteRequest):
        return _vote_request_problem(m)
    elif isinstance(m, VoteReply):
        # A pre-vote is granted for a term to come; a vote in the own term.
        right = m.for_term > m.term if m.pre else m.for_term == m.term
        return f"granted for term {m.for_term} in {m.term}" if m.granted and not right else None
    elif isinstance(m, _OF_HEARTBEATS):
        if m.seq < 1:
            return f"number {m.seq}"
        if isinstance(m, HeartbeatReply) and not 0 <= m.disk_percent <= 100:
            return f"a disk that is {m.disk_percent} % full"
    return None


def _vote_request_problem(m: VoteRequest) -> str | None:
    if m.for_term != m.term + m.pre:
        return f"asks for term {m.for_term} in {m.term}"
    if m.pre and m.forced:
        return "a forced pre-vote"
    if m.last_term > m.term or (m.last_index == NONE) != (m.last_term == NONE):
        return f"a log that ends at index {m.last_index}, term {m.last_term}, in term {m.term}"
    return None


def _office_problem(core: RaftCore, m: Message) -> str | None:
    """A term has one leader; this node knows it, or is it."""
    if not isinstance(m, _OF_LEADERS):
        return None
    if m.term < 1:
        return f"leads in term {m.term}"
    if m.term == core.term and core.role is Role.LEADER:
        return f"leads in term {m.term}, as this node does"
    if m.term == core.term and core.leader not in (None, m.sender):
        return f"leads in term {m.term}, as {core.leader} does"
    return None
