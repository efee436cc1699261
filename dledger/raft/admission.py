"""Who has forgotten what it promised, and how its word comes to count again.

The rules R1-R4 and why they suffice: docs/adr/0002-amnesia-unanimity-and-admission.md.
"""

from ledgermq.dledger.ids import NodeId, Standing

from .effects import AppendNoop
from .messages import Admit
from .progress import Progress
from .state import RaftState


def heard(s: RaftState, p: Progress, standing: Standing, *, in_session: bool) -> None:
    """Leader: a follower told its standing.

    Args:
        s: the leader.
        p: the follower.
        standing: what it told.
        in_session: in an answer to a push of the session, so not in an earlier life.
    """
    if in_session or standing is not Standing.MEMBER or p.standing is None:
        p.standing = standing
    if standing is not Standing.MEMBER and p.linked and p.barrier is None:
        p.barrier = s.log.last_index + 1
        p.admit_sent = False
        request_barrier(s)


def request_barrier(s: RaftState) -> None:
    """Leader: have an entry appended, if some follower waits for one.

    It must be an entry: a candidate that was promised a vote before the follower forgot it does not
    have it, so it loses among those who do.
    """
    if s.noop_requested or s.transfer_target is not None:
        return
    if any(p.barrier is not None and p.barrier > s.log.last_index for p in s.progress.values()):
        s.noop_requested = True
        s.emit(AppendNoop(s.term))


def admit(s: RaftState, *, again: bool) -> None:
    """Leader: tell those that hold what was committed after they came; `again`: once more."""
    for peer, p in s.progress.items():
        if _is_due(s, p) and (again or not p.admit_sent):
            p.admit_sent = True
            s.send(peer, Admit(s.config.self_id, s.term, p.session))


def _is_due(s: RaftState, p: Progress) -> bool:
    if p.barrier is None or p.standing is Standing.MEMBER or not p.linked:
        return False
    return min(p.match, s.commit) >= p.barrier


def joiners(s: RaftState) -> dict[NodeId, Standing]:
    """Leader: the followers that said that they are no members."""
    return {
        peer: p.standing
        for peer, p in s.progress.items()
        if p.standing is not None and p.standing is not Standing.MEMBER
    }


def become_member(s: RaftState, leader: NodeId) -> None:
    """All that was committed before is here: from now on, one vote a term and no more."""
    s.standing = Standing.MEMBER
    if s.vote is None:
        # It may have voted in this term before it forgot.
        s.vote = leader
