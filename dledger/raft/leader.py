"""Leading: heartbeats, replication, commit, transfer.

Sources: the Raft paper 5.3, 5.4.2; Ongaro's dissertation 3.10 (transfer), 6.4 (lease), 10.2.
"""

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NONE, NodeId

from .effects import AppendNoop, Fetch, Role, SendPush, TransferEnded
from .events import Fetched
from .messages import Heartbeat, HeartbeatReply, Push, PushReply, TimeoutNow
from .progress import Progress
from .quorum import quorum_value
from .state import LEASE_SHARE, NEVER_MS, RaftState


def lead(s: RaftState) -> None:
    """Won: heartbeat at once, append the no-op, find out what the followers hold."""
    s.progress = {peer: Progress(s.log.last_index + 1, s.now_ms) for peer in s.config.peers}
    s.term_first_index = s.log.last_index + 1
    s.heartbeat_sent = {}
    s.transfer_target = None
    s.transfer_sent = False
    s.unsettled_transfers.clear()
    s.calm_since_ms = s.now_ms
    s.change_role(Role.LEADER, s.config.self_id)
    for peer in s.config.peers:
        if peer in s.linked:
            _open_session(s, peer)
    beat(s)
    s.emit(AppendNoop(s.term))


# --- time -------------------------------------------------------------------------------------


def on_tick(s: RaftState, *, stalled: bool) -> None:
    """Heartbeats, quorum check, transfers."""
    if stalled:
        for p in s.progress.values():
            p.heard_ms = max(p.heard_ms, s.now_ms - s.config.timing.election_min_ms // 2)
    elif not _hears_quorum(s):
        s.follow(s.term, None)
        return
    if s.now_ms >= s.heartbeat_due_ms:
        beat(s)
        _ask_again(s)
    _watch_transfer(s)
    _prefer(s)


def beat(s: RaftState) -> None:
    """Send one heartbeat to every follower."""
    s.heartbeat_due_ms = s.now_ms + s.config.timing.heartbeat_ms
    s.heartbeat_seq += 1
    s.heartbeat_sent[s.heartbeat_seq] = s.now_ms
    oldest_ms = s.now_ms - s.config.timing.election_max_ms
    for seq in [q for q, sent_ms in s.heartbeat_sent.items() if sent_ms < oldest_ms]:
        del s.heartbeat_sent[seq]
    for peer in s.config.peers:
        s.send(peer, Heartbeat(s.config.self_id, s.term, s.commit, s.heartbeat_seq))


def _hears_quorum(s: RaftState) -> bool:
    heard = [p.heard_ms for p in s.progress.values()] + [s.now_ms]
    oldest_ms = s.now_ms - s.config.timing.election_min_ms
    return quorum_value(heard, s.config.quorum) > oldest_ms


def lease_until_ms(s: RaftState) -> int:
    """Until when no other leader can have been elected; NEVER_MS without a quorum's echoes."""
    if s.role is not Role.LEADER or s.unsettled_transfers:
        return NEVER_MS
    sent = [p.acked_seq_sent_ms for p in s.progress.values()] + [s.now_ms]
    quorum_ms = quorum_value(sent, s.config.quorum)
    if quorum_ms == NONE:
        return NEVER_MS
    return quorum_ms + int(s.config.timing.election_min_ms * LEASE_SHARE)


def on_heartbeat_reply(s: RaftState, m: HeartbeatReply) -> None:
    """A follower heard us: its silence and our lease count from the echoed heartbeat."""
    p = _progress(s, m.sender, m.term)
    if p is None:
        return
    sent_ms = s.heartbeat_sent.get(m.seq)
    if sent_ms is not None and p.linked:
        p.acked_seq_sent_ms = max(p.acked_seq_sent_ms, sent_ms)
    if m.seq > s.unsettled_transfers.get(m.sender, m.seq):
        del s.unsettled_transfers[m.sender]


def _progress(s: RaftState, sender: NodeId, term: int) -> Progress | None:
    if s.role is not Role.LEADER or term != s.term:
        return None
    p = s.progress[sender]
    p.heard_ms = s.now_ms
    return p


# --- sessions ---------------------------------------------------------------------------------


def on_link_up(s: RaftState, peer: NodeId) -> None:
    """A new push connection: its follower is unknown until it answers."""
    s.linked.add(peer)
    if s.role is Role.LEADER:
        _open_session(s, peer)


def on_link_down(s: RaftState, peer: NodeId) -> None:
    """No pushes until the next connection; the lease no longer counts this follower."""
    s.linked.discard(peer)
    if s.role is Role.LEADER:
        p = s.progress[peer]
        p.linked = False
        p.acked_seq_sent_ms = NONE
        p.start_probing()
        s.calm_since_ms = s.now_ms


def _open_session(s: RaftState, peer: NodeId) -> None:
    s.session_counter += 1
    p = s.progress[peer]
    p.linked = True
    p.reset(s.session_counter, s.log.last_index + 1)
    replicate(s, peer)


def on_peer_died(s: RaftState, peer: NodeId) -> None:
    """It will obey no order that it has not obeyed yet."""
    s.unsettled_transfers.pop(peer, None)


# --- replication ------------------------------------------------------------------------------


def on_appended(s: RaftState, count: int) -> None:
    """Own entries are in the log: send them."""
    if s.role is not Role.LEADER:
        raise InvariantError(f"{count} entries appended by a {s.role.value}")
    s.log.append(s.term, count)
    for peer in s.config.peers:
        replicate(s, peer)


def replicate(s: RaftState, peer: NodeId) -> None:
    """Send what the window allows."""
    p = s.progress[peer]
    if not p.linked or p.fetch_token:
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
        s.emit(Fetch(peer, p.fetch_token, p.next, min(room, s.config.max_batch_bytes)))


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


def _ask_again(s: RaftState) -> None:
    """Answers travel on the control connection and may be lost, or the follower had none to give.

    A probe without an answer is repeated; a window whose acks stopped is asked for its state.
    """
    late_ms = s.now_ms - s.config.timing.election_min_ms
    for peer, p in s.progress.items():
        if not p.linked:
            continue
        if not p.probing:
            if p.is_stuck():
                s.emit(SendPush(peer, 0, _push(s, p, ())))
        elif p.probe_sent_ms is not None and p.probe_sent_ms < late_ms:
            p.probe_sent_ms = None
            replicate(s, peer)


def on_push_reply(s: RaftState, m: PushReply) -> None:
    """An ack or a refusal of the current session."""
    p = _progress(s, m.sender, m.term)
    if p is None or m.session != p.session or not p.linked:
        return
    if m.success:
        _on_ack(s, m, p)
    else:
        _on_refusal(s, m, p)
    replicate(s, m.sender)


def _on_ack(s: RaftState, m: PushReply, p: Progress) -> None:
    if m.match >= p.next:
        return  # never sent in this session: not an answer to us
    p.probing = False
    p.probe_sent_ms = None
    p.acked(m.match)
    evaluate_commit(s)
    _continue_transfer(s)


def _on_refusal(s: RaftState, m: PushReply, p: Progress) -> None:
    if m.prev_index <= p.match or m.prev_index >= p.next:
        return
    if p.probing and m.prev_index != p.next - 1:
        return
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
    """Commit what a quorum holds durably, through an entry of the own term only."""
    index = quorum_value([p.match for p in s.progress.values()] + [s.durable], s.config.quorum)
    if index >= s.term_first_index:
        s.advance_commit(index)


# --- transfer ---------------------------------------------------------------------------------


def on_transfer(s: RaftState, target: NodeId | None) -> None:
    """Hand over to `target`, or to the follower that holds most."""
    if s.role is not Role.LEADER:
        return
    if target is None:
        target = _best_follower(s)
    if target is None or target == s.config.self_id or target not in s.progress:
        s.emit(TransferEnded("no follower is connected" if target is None else "no such follower"))
        return
    s.transfer_target = target
    s.transfer_sent = False
    s.transfer_deadline_ms = s.now_ms + s.config.timing.election_min_ms
    _continue_transfer(s)


def _best_follower(s: RaftState) -> NodeId | None:
    able = [peer for peer in s.config.peers if _can_take_over(s, s.progress[peer])]
    return max(able, key=lambda peer: s.progress[peer].match, default=None)


def _can_take_over(s: RaftState, p: Progress) -> bool:
    """Connected and heard lately: appends are held until it has taken over."""
    silence_ms = s.now_ms - p.heard_ms
    return p.linked and silence_ms < s.config.timing.election_min_ms // 2


def _continue_transfer(s: RaftState) -> None:
    target = s.transfer_target
    if target is None or s.transfer_sent:
        return
    if s.progress[target].match == s.log.last_index:
        s.transfer_sent = True
        s.unsettled_transfers[target] = s.heartbeat_seq
        s.send(target, TimeoutNow(s.config.self_id, s.term))


def _watch_transfer(s: RaftState) -> None:
    if s.transfer_target is not None and s.now_ms >= s.transfer_deadline_ms:
        target, s.transfer_target, s.transfer_sent = s.transfer_target, None, False
        s.emit(TransferEnded(f"{target} did not take over in time"))


def _prefer(s: RaftState) -> None:
    """Give way to a preferred member that is caught up, after a calm while."""
    if not s.config.preferred or s.config.self_id in s.config.preferred or s.transfer_target:
        return
    if s.now_ms - s.calm_since_ms < s.config.timing.preferred_calm_ms:
        return
    for peer in s.config.preferred:
        p = s.progress.get(peer)
        if p is not None and not p.probing and p.match >= s.commit and _can_take_over(s, p):
            s.calm_since_ms = s.now_ms
            on_transfer(s, peer)
            return
