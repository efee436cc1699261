"""A leader's entries on their way: probes, pushes, acks, commit; a snapshot where they are gone.

Sources: the Raft paper 5.3, 5.4.2, 7; Ongaro's dissertation 10.2 (pipelining).
"""

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NONE, NodeId, Standing

from . import admission, transfer
from .effects import Fetch, Role, SendPush, SendSeed
from .events import Fetched
from .messages import Push, PushReply, SeedReply
from .progress import Progress
from .quorum import group_value
from .state import RaftState

# So many runs at most are in one push: what names them must fit the head of a frame.
MAX_RUNS = 1000


def on_appended(s: RaftState, count: int) -> None:
    """Own entries are in the log: send them."""
    if s.role is not Role.LEADER:
        raise InvariantError(f"{count} entries appended by a {s.role.value}")
    s.log.append(s.term, count)
    s.noop_requested = False
    for peer in s.config.peers:
        replicate(s, peer)


def replicate(s: RaftState, peer: NodeId) -> None:
    """Send what the window allows."""
    p = s.progress[peer]
    if not p.linked or p.fetch_token or p.seed_base is not None:
        return
    if p.next - 1 < s.log.base_index:
        _seed(s, peer, p)
        return
    if p.probing:
        if p.probe_sent_ms is None:
            p.probe_sent_ms = s.now_ms
            s.emit(SendPush(peer, 0, _push(s, p, ())))
        return
    room = s.config.max_in_flight_bytes - p.in_flight_bytes
    if p.next <= s.log.last_index and room > 0:
        s.token_counter += 1
        p.fetch_token = s.token_counter
        last = s.log.last_within_runs(p.next, MAX_RUNS)
        max_bytes = min(room, s.config.max_batch_bytes)
        s.emit(Fetch(peer, p.fetch_token, p.next, last, max_bytes))


def _push(s: RaftState, p: Progress, runs: tuple[tuple[int, int], ...]) -> Push:
    prev = p.next - 1
    return Push(s.config.self_id, s.term, p.session, prev, s.log.term_at(prev), runs, s.commit)


def on_fetched(s: RaftState, e: Fetched) -> None:
    """The bytes are at hand: send them, unless the session changed meanwhile."""
    p = s.progress.get(e.peer)
    if p is None or p.fetch_token != e.token:
        return
    p.fetch_token = 0
    push = _push(s, p, e.runs)
    if s.log.runs(p.next, push.last_index) != e.runs:
        raise InvariantError(
            f"bytes fetched for {e.peer} from {p.next} are not the log's: {e.runs}"
        )
    p.sent(push.last_index, e.size_bytes)
    s.emit(SendPush(e.peer, e.token, push))
    replicate(s, e.peer)


def ask_again(s: RaftState) -> None:
    """Answers travel on the control connection and may be lost, or the follower had none to give.

    A probe without an answer is repeated; a window whose acks stopped is asked for its state; one
    that is sent a snapshot, whether it has it.
    """
    late_ms = s.now_ms - s.config.timing.election_min_ms
    for peer, p in s.progress.items():
        if not p.linked:
            continue
        if not p.probing:
            if p.is_stuck():
                s.emit(SendPush(peer, 0, _push(s, p, ())))
        elif p.probe_sent_ms is not None and p.probe_sent_ms < late_ms:
            p.probe_sent_ms = s.now_ms
            s.emit(SendPush(peer, 0, _push(s, p, ())))


# --- snapshots ----------------------------------------------------------------------------------


def _seed(s: RaftState, peer: NodeId, p: Progress) -> None:
    """What it needs is gone: it gets a snapshot, and what follows the base."""
    p.start_probing()
    p.seed_base = s.log.base_index
    p.next = s.log.base_index + 1
    p.probe_sent_ms = s.now_ms
    s.emit(SendSeed(peer, p.session))


def on_begin_moved(s: RaftState) -> None:
    """Entries are gone: who still needed one of them is sent a snapshot."""
    for peer, p in s.progress.items():
        if p.next - 1 >= s.log.base_index:
            continue
        if p.seed_base is not None:
            p.next = s.log.base_index + 1  # what it is asked for from now on
        else:
            p.fetch_token = 0
            replicate(s, peer)


def on_seed_reply(s: RaftState, m: SeedReply) -> None:
    """A part of a snapshot arrived; how much is the shell's business."""
    answered(s, m.sender, m.term)


# --- answers ------------------------------------------------------------------------------------


def answered(s: RaftState, sender: NodeId, term: int) -> Progress | None:
    """Leader: `sender` lives and knows this term; None: that is not so."""
    if s.role is not Role.LEADER or term != s.term:
        return None
    p = s.progress[sender]
    p.heard_ms = s.now_ms
    return p


def on_push_reply(s: RaftState, m: PushReply) -> None:
    """An ack or a refusal of the current session."""
    p = answered(s, m.sender, m.term)
    if p is None or m.session != p.session or not p.linked:
        return
    admission.heard(s, p, m.standing, in_session=True)
    if m.success:
        _on_ack(s, m, p)
    else:
        _on_refusal(s, m, p)
    replicate(s, m.sender)


def _on_ack(s: RaftState, m: PushReply, p: Progress) -> None:
    if p.seed_base is None:
        if m.match >= p.next:
            return  # never sent in this session: not an answer to us
    elif p.seed_base <= m.match <= s.log.last_index:
        # It has the snapshot. Its base may be an older one than the log's by now.
        p.seed_base = None
        p.next = m.match + 1
    else:
        return
    p.probing = False
    p.probe_sent_ms = None
    p.acked(m.match)
    evaluate_commit(s)
    transfer.proceed(s)


def _on_refusal(s: RaftState, m: PushReply, p: Progress) -> None:
    if m.prev_index <= p.match or m.prev_index >= p.next:
        return
    if p.probing and m.prev_index != p.next - 1:
        return
    if p.seed_base is not None and not (m.conflict_term == NONE and m.conflict_index > p.seed_base):
        return  # the snapshot is still under way
    if m.conflict_term == NONE:
        guess = m.conflict_index
    else:
        # The last place where the two logs can agree: at or before the follower's conflicting
        # term, and at or before the refused index.
        shared = s.log.last_at_or_below_term(m.conflict_term)
        if shared != NONE and s.log.term_at(shared) == m.conflict_term:
            guess = shared + 1
        else:
            guess = m.conflict_index
    p.start_probing()
    p.next = max(p.match + 1, min(guess, m.prev_index))


def evaluate_commit(s: RaftState) -> None:
    """Commit what the group holds durably, through an entry of the own term only."""
    if _commit(s) and s.standing is not Standing.MEMBER:
        # All voters hold an entry that was made after it forgot: as good as an admission.
        admission.become_member(s, s.config.self_id)
        _commit(s)
    admission.admit(s, again=False)


def _commit(s: RaftState) -> bool:
    """Whether an entry of the own term is committed."""
    claims = [(p.standing, p.match) for p in s.progress.values()]
    index = group_value([(s.standing, s.durable), *claims], s.config.quorum)
    if index < s.term_first_index:
        return False
    s.advance_commit(index)
    return True
