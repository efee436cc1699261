"""Following a leader: heartbeats, entries, and orders to take over.

Sources: the Raft paper 5.3; conflict answers by term as in its section 5.3, last paragraphs.
"""

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NONE, NodeId

from . import candidate
from .effects import AcceptEntries, Role
from .messages import Heartbeat, HeartbeatReply, Push, PushReply, TimeoutNow
from .state import RaftState


def _hear_leader(s: RaftState, sender: NodeId) -> None:
    """The leader of the current term spoke."""
    if s.role is Role.LEADER:
        raise InvariantError(f"two leaders in term {s.term}: {s.config.self_id} and {sender}")
    if s.leader not in (None, sender):
        raise InvariantError(f"two leaders in term {s.term}: {s.leader} and {sender}")
    s.follow(s.term, sender)
    s.leader_heard_ms = s.now_ms
    s.hinted_until_ms = min(s.hinted_until_ms, s.now_ms)
    s.reset_election_deadline()


def on_heartbeat(s: RaftState, m: Heartbeat) -> None:
    """Stay quiet for another election timeout."""
    if m.term == s.term:
        _hear_leader(s, m.sender)
        _follow_commit(s, m.commit)
    s.send(m.sender, HeartbeatReply(s.config.self_id, s.term, m.seq))


def on_push(s: RaftState, m: Push) -> None:
    """Verify, cut what differs, take what is new, acknowledge what is durable."""
    if m.term < s.term:
        s.send(m.sender, PushReply(s.config.self_id, s.term, m.session, success=False, match=NONE))
        return
    _hear_leader(s, m.sender)
    if m.session < s.push_session or m.session <= s.failed_session:
        return
    s.push_session = m.session
    if not _prev_matches(s, m):
        s.send(m.sender, _refusal(s, m))
        return
    first = s.log.first_divergence(m.prev_index + 1, m.runs)
    s.verified = max(s.verified, first - 1)
    _follow_commit(s, m.commit)
    if first > m.last_index:
        # Nothing to write: a probe, or a repeated push.
        acknowledge(s)
        return
    # Ack and commit wait for the disk: it may be full.
    _accept(s, m, first)
    s.verified = m.last_index


def _follow_commit(s: RaftState, leader_commit: int) -> None:
    s.leader_commit = max(s.leader_commit, leader_commit)
    s.advance_commit(min(s.leader_commit, s.verified))


def _prev_matches(s: RaftState, m: Push) -> bool:
    return m.prev_index <= s.log.last_index and s.log.term_at(m.prev_index) == m.prev_term


def _refusal(s: RaftState, m: Push) -> PushReply:
    if m.prev_index > s.log.last_index:
        conflict_term, conflict_index = NONE, s.log.last_index + 1
    else:
        conflict_term = s.log.term_at(m.prev_index)
        conflict_index = s.log.first_of_term_at(m.prev_index)
    return PushReply(
        s.config.self_id,
        s.term,
        m.session,
        success=False,
        match=NONE,
        prev_index=m.prev_index,
        conflict_term=conflict_term,
        conflict_index=conflict_index,
    )


def _accept(s: RaftState, m: Push, first: int) -> None:
    truncate_from = None
    if first <= s.log.last_index:
        if first <= s.commit:
            raise InvariantError(
                f"leader {m.sender} of term {m.term} would cut index {first},"
                f" which is committed here (commit {s.commit})"
            )
        truncate_from = first
        s.log.truncate(first)
        s.durable = min(s.durable, first - 1)
    index = m.prev_index + 1
    for term, count in m.runs:
        fresh = min(count, index + count - first)
        if fresh > 0:
            s.log.append(term, fresh)
        index += count
    s.emit(AcceptEntries(truncate_from, first))


def on_accept_failed(s: RaftState, first: int) -> None:
    """Entries that were accepted could not be written: they were never here.

    The rest of the session is ignored, or the leader would send the same again and again.
    """
    if s.commit >= first:
        raise InvariantError(f"entry {first} is committed but cannot be written")
    s.log.truncate(first)
    s.verified = min(s.verified, first - 1)
    s.durable = min(s.durable, first - 1)
    s.failed_session = s.push_session


def on_durable(s: RaftState) -> None:
    """More of the own log is on disk."""
    _follow_commit(s, NONE)
    acknowledge(s)


def acknowledge(s: RaftState) -> None:
    """Tell the leader what is verified and durable; never the plain log end."""
    if s.leader is None or s.role is not Role.FOLLOWER or s.push_session == NONE:
        return
    match = min(s.verified, s.durable)
    s.send(s.leader, PushReply(s.config.self_id, s.term, s.push_session, success=True, match=match))


def on_timeout_now(s: RaftState, m: TimeoutNow) -> None:
    """The leader hands over: no pre-vote, no refusal."""
    if m.term == s.term and s.role is Role.FOLLOWER and s.leader == m.sender:
        candidate.stand(s, forced=True)
