"""Asking for votes, and giving them.

Pre-vote first: nobody's term rises unless a majority would elect. Sources: the Raft paper 5.2 and
5.4.1; Ongaro's dissertation 4.2.3 (disruptive servers) and 9.6 (pre-vote).
"""

from ledgermq.dledger.ids import NEVER_MS, NodeId, Standing

from . import leader
from .effects import Role
from .messages import VoteReply, VoteRequest
from .quorum import Grant, elects
from .state import RaftState


def campaign(s: RaftState) -> None:
    """Ask whether a vote could be won."""
    if s.role is not Role.CANDIDATE or s.leader is not None:
        s.change_role(Role.CANDIDATE, None)
    s.pre_voting = True
    s.pre_granted_before = s.pre_granted
    s.pre_granted = {s.config.self_id: s.grant}
    s.set_retry_deadline()
    _ask(s, s.term + 1, forced=False)
    _count_pre_votes(s)


def seeks_leader(s: RaftState) -> bool:
    """Whether this member knows of no leader and is none."""
    return s.role is not Role.LEADER and s.leader is None


def ask_again_soon(s: RaftState) -> None:
    """The question was of a term that has passed, so this log has not been judged by all.

    It may be the only one that can win. Who hears a leader refuses the next question too, and that
    one is of the present term: then a full timeout follows.
    """
    t = s.config.timing
    s.deadline_ms = s.now_ms + s.rng.randint(t.hint_retry_min_ms, t.hint_retry_max_ms)


def stand(s: RaftState, *, forced: bool) -> None:
    """Raise the term, vote for oneself and ask for votes."""
    s.set_term(s.term + 1, s.config.self_id)
    s.change_role(Role.CANDIDATE, None)
    s.pre_voting = False
    s.granted = {s.config.self_id: s.grant}
    s.set_retry_deadline()
    _ask(s, s.term, forced=forced)
    _count_votes(s)


def _ask(s: RaftState, for_term: int, *, forced: bool) -> None:
    request = VoteRequest(
        s.config.self_id,
        s.term,
        for_term,
        s.log.last_index,
        s.log.last_term,
        pre=s.pre_voting,
        forced=forced,
        standing=s.standing,
    )
    for peer in s.config.peers:
        s.send(peer, request)


def _count_pre_votes(s: RaftState) -> None:
    if _wins(s, s.pre_granted):
        stand(s, forced=False)


def _count_votes(s: RaftState) -> None:
    if _wins(s, s.granted):
        leader.lead(s)


def _wins(s: RaftState, granted: dict[NodeId, Grant]) -> bool:
    return elects(s.standing, granted.values(), len(s.config.voters), s.config.quorum)


def waits_for(s: RaftState) -> tuple[NodeId, ...]:
    """Candidate that needs every vote, for want of members: whose it lacks."""
    known = s.pre_granted_before | s.pre_granted
    members = all(grant.standing is Standing.MEMBER for grant in known.values())
    if s.role is not Role.CANDIDATE or members:
        return ()
    return tuple(v for v in s.config.voters if v not in known)


def needs_operator(s: RaftState) -> bool:
    """Candidate that all would vote for, and that still does not win."""
    known = s.pre_granted_before | s.pre_granted
    return s.role is Role.CANDIDATE and len(known) == len(s.config.voters) and not _wins(s, known)


def on_vote_request(s: RaftState, m: VoteRequest) -> None:
    """Grant or refuse."""
    if not m.forced and (s.role is Role.LEADER or s.hears_leader()):
        # A leader is heard: whoever asks is cut off or impatient. Its term changes nothing here.
        _answer(s, m, granted=False)
        return
    if m.pre:
        _answer(s, m, granted=m.for_term > s.term and _up_to_date(s, m))
        return
    if m.for_term > s.term:
        s.follow(m.for_term, None)
    granted = m.for_term == s.term and s.vote in (None, m.sender) and _up_to_date(s, m)
    if granted:
        s.set_term(s.term, m.sender)
        if s.role is Role.CANDIDATE:
            # Its own pre-vote is over, or it would soon depose whom it voted for.
            s.follow(s.term, None)
        s.reset_election_deadline()
    _answer(s, m, granted=granted)


def _up_to_date(s: RaftState, m: VoteRequest) -> bool:
    return (m.last_term, m.last_index) >= (s.log.last_term, s.log.last_index)


def _answer(s: RaftState, m: VoteRequest, *, granted: bool) -> None:
    s.send(m.sender, VoteReply(s.config.self_id, s.term, m.for_term, granted, m.pre, *s.grant))
    if not granted and s.barred and not s.hears_leader() and not _up_to_date(s, m):
        # The others cannot do without its log: better a leader that cannot write than none.
        s.barred_until_ms = NEVER_MS
        s.deadline_ms = s.now_ms + s.config.timing.hint_retry_max_ms


def on_vote_reply(s: RaftState, m: VoteReply) -> None:
    """Count a vote that answers the question now asked."""
    if s.role is not Role.CANDIDATE or not m.granted:
        return
    if m.pre:
        if s.pre_voting and m.for_term == s.term + 1:
            s.pre_granted.setdefault(m.sender, Grant(m.standing, m.holds_log))
            _count_pre_votes(s)
    elif s.granted and m.for_term == s.term:
        s.granted.setdefault(m.sender, Grant(m.standing, m.holds_log))
        _count_votes(s)


def on_leader_lost(s: RaftState, peer: NodeId) -> None:
    """The leader's process is gone: forget it and stand soon, in order of rank.

    Clears the own refusal only; the others answer by what they themselves hear.
    """
    if s.role is not Role.FOLLOWER or s.leader != peer:
        return
    t = s.config.timing
    wait_ms = s.rank() * t.hint_rank_ms + s.rng.randint(0, t.hint_rank_ms // 2)
    s.leader_heard_ms = min(s.leader_heard_ms, s.now_ms - t.election_min_ms)
    s.hinted_until_ms = s.now_ms + t.hint_span_ms
    s.follow(s.term, None)
    s.deadline_ms = s.now_ms + wait_ms
