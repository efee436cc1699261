"""Following a leader: heartbeats, entries, snapshots, admission, and orders to take over.

Sources: the Raft paper 5.3; conflict answers by term as in its section 5.3, last paragraphs.
"""

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NONE, NodeId, Standing

from . import admission, candidate
from .effects import AcceptEntries, Role, TakeSeed
from .events import Seeded
from .log_view import LogView
from .messages import Admit, Heartbeat, HeartbeatReply, Push, PushReply, Seed, TimeoutNow
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
    reply = HeartbeatReply(s.config.self_id, s.term, m.seq, s.standing, s.disk_percent)
    s.send(m.sender, reply)


def on_push(s: RaftState, m: Push) -> None:
    """Verify, cut what differs, take what is new, acknowledge what is durable."""
    if not _opens(s, m):
        return
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


def _opens(s: RaftState, m: Push | Seed) -> bool:
    """Whether it comes from the leader, in its newest session."""
    if m.term < s.term:
        s.send(
            m.sender,
            PushReply(
                s.config.self_id,
                s.term,
                m.session,
                success=False,
                match=NONE,
                standing=s.standing,
            ),
        )
        return False
    _hear_leader(s, m.sender)
    if m.session < s.push_session or m.session <= s.failed_session:
        return False
    s.push_session = m.session
    return True


def _follow_commit(s: RaftState, leader_commit: int) -> None:
    s.leader_commit = max(s.leader_commit, leader_commit)
    s.advance_commit(min(s.leader_commit, s.verified))


def _prev_matches(s: RaftState, m: Push) -> bool:
    # What is before the base is committed: every leader has the same.
    return m.prev_index < s.log.base_index or s.log.holds(m.prev_index, m.prev_term)


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
        standing=s.standing,
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
    s.bar()


def on_durable(s: RaftState) -> None:
    """More of the own log is on disk."""
    _follow_commit(s, NONE)
    acknowledge(s)


def acknowledge(s: RaftState) -> None:
    """Tell the leader what is verified and durable; never the plain log end."""
    if s.leader is None or s.role is not Role.FOLLOWER or s.push_session == NONE:
        return
    match = min(s.verified, s.durable)
    s.send(
        s.leader,
        PushReply(
            s.config.self_id, s.term, s.push_session, success=True, match=match, standing=s.standing
        ),
    )


def on_timeout_now(s: RaftState, m: TimeoutNow) -> None:
    """The leader hands over: no pre-vote, no refusal."""
    able = s.standing is Standing.MEMBER and not s.barred
    if able and m.term == s.term and s.role is Role.FOLLOWER and s.leader == m.sender:
        candidate.stand(s, forced=True)


def on_admit(s: RaftState, m: Admit) -> None:
    """The leader says that all that was committed before is here."""
    if m.term != s.term or s.leader != m.sender or m.session != s.push_session:
        return
    if s.standing is not Standing.MEMBER:
        admission.become_member(s, m.sender)
    acknowledge(s)


# --- snapshots ----------------------------------------------------------------------------------


def on_seed(s: RaftState, m: Seed) -> None:
    """The leader no longer has what this log lacks."""
    if not _opens(s, m):
        return
    if wants_seed(s, m):
        s.emit(TakeSeed(m))
        return
    # The base is here: the pushes can go on behind it.
    s.verified = max(s.verified, m.base_index)
    acknowledge(s)


def wants_seed(s: RaftState, m: Seed) -> bool:
    """Whether the log may be emptied for this snapshot, in this session, and needs to be."""
    current = m.term == s.term and m.session == s.push_session and m.session > s.failed_session
    if not current or m.base_index < s.log.base_index or s.log.holds(m.base_index, m.base_term):
        return False
    if m.base_index <= s.commit:
        raise InvariantError(
            f"leader {m.sender} of term {m.term} says that entry {m.base_index} is of term"
            f" {m.base_term}; it is committed here with another (commit {s.commit})"
        )
    return True


def on_seeded(s: RaftState, e: Seeded) -> None:
    """The log was emptied; it begins anew behind the base, all of which is committed."""
    if e.session != s.push_session or e.base_index <= max(s.verified, s.commit):
        raise InvariantError(
            f"the log was emptied up to {e.base_index} for session {e.session}, in session"
            f" {s.push_session} with {s.verified} verified and commit {s.commit}"
        )
    s.log = LogView((), e.base_index, e.base_term)
    s.durable = s.verified = s.commit = e.base_index
    acknowledge(s)
