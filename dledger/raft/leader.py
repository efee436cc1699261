"""Leading: taking office, heartbeats, and knowing that it still leads.

Sources: the Raft paper 5.2; Ongaro's dissertation 6.2 (check-quorum), 6.4 (lease).
"""

from ledgermq.dledger.ids import NEVER_MS, NodeId

from . import admission, replication, transfer
from .effects import AppendNoop, Role
from .messages import Heartbeat, HeartbeatReply
from .progress import Progress
from .quorum import group_value
from .state import LEASE_SHARE, RaftState


def lead(s: RaftState) -> None:
    """Won: heartbeat at once, append the no-op, find out what the followers hold."""
    next_index = s.log.last_index + 1
    standings = {peer: grant.standing for peer, grant in s.granted.items()}
    s.progress = {
        peer: Progress(next_index, s.now_ms, standings.get(peer)) for peer in s.config.peers
    }
    s.term_first_index = next_index
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
    s.noop_requested = True
    s.emit(AppendNoop(s.term))


# --- time -------------------------------------------------------------------------------------


def on_tick(s: RaftState, *, stalled: bool) -> None:
    """Heartbeats, quorum check, transfers, admissions."""
    if stalled:
        for p in s.progress.values():
            p.heard_ms = max(p.heard_ms, s.now_ms - s.config.timing.election_min_ms // 2)
    elif not _hears_quorum(s):
        s.follow(s.term, None)
        return
    if transfer.has_stale_order(s):
        # Without a lease it cannot serve; in the next term the order means nothing.
        s.follow(s.term, None)
        return
    if s.now_ms >= s.heartbeat_due_ms:
        beat(s)
        replication.ask_again(s)
        admission.admit(s, again=True)
    transfer.on_tick(s)
    admission.request_barrier(s)


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
    heard = [(p.standing, p.heard_ms) for p in s.progress.values()]
    oldest_ms = s.now_ms - s.config.timing.election_min_ms
    return group_value([(s.standing, s.now_ms), *heard], s.config.quorum) > oldest_ms


def lease_until_ms(s: RaftState) -> int:
    """Until when no other leader can have been elected; long past without a quorum's echoes."""
    if s.role is not Role.LEADER or s.unsettled_transfers:
        return NEVER_MS
    sent = [(p.standing, p.acked_seq_sent_ms) for p in s.progress.values()]
    echoed_ms = group_value([(s.standing, s.now_ms), *sent], s.config.quorum)
    return echoed_ms + int(s.config.timing.election_min_ms * LEASE_SHARE)


def fullest_disk_percent(s: RaftState) -> int:
    """Of the own disk and those of the followers that were heard lately."""
    oldest_ms = s.now_ms - s.config.timing.election_min_ms
    heard = [p.disk_percent for p in s.progress.values() if p.heard_ms > oldest_ms]
    return max(s.disk_percent, *heard) if heard else s.disk_percent


def on_heartbeat_reply(s: RaftState, m: HeartbeatReply) -> None:
    """A follower heard us: its silence and our lease count from the echoed heartbeat."""
    p = replication.answered(s, m.sender, m.term)
    if p is None:
        return
    sent_ms = s.heartbeat_sent.get(m.seq)
    if sent_ms is not None and p.linked:
        p.acked_seq_sent_ms = max(p.acked_seq_sent_ms, sent_ms)
    p.disk_percent = m.disk_percent
    transfer.settle(s, m.sender, m.seq)
    admission.heard(s, p, m.standing, in_session=False)


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
        p.acked_seq_sent_ms = NEVER_MS
        p.start_probing()
        s.calm_since_ms = s.now_ms


def _open_session(s: RaftState, peer: NodeId) -> None:
    s.session_counter += 1
    p = s.progress[peer]
    p.linked = True
    p.reset(s.session_counter, s.log.last_index + 1)
    replication.replicate(s, peer)
