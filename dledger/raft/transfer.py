"""Giving leadership away.

Source: Ongaro's dissertation 3.10. An order that was sent cannot be called back, only outlived.
"""

from ledgermq.dledger.ids import NodeId, Standing

from .effects import Role, TransferEnded, TransferWanted
from .messages import TimeoutNow
from .progress import Progress
from .state import RaftState

# Beyond the longest election timeout: an order that is still under way by then has no end.
_UNSETTLED_GRACE_MS = 3000


def on_transfer(s: RaftState, target: NodeId | None) -> None:
    """Hand over to `target`, or to the follower that holds most."""
    if s.role is not Role.LEADER:
        return
    if target is None:
        target = _best_follower(s)
    if target is None:
        s.emit(TransferEnded("no follower is connected"))
    elif target not in s.progress:
        s.emit(TransferEnded("no such follower"))
    elif s.progress[target].standing is not Standing.MEMBER:
        s.emit(TransferEnded(f"{target} is not admitted as a member yet"))
    else:
        s.transfer_target = target
        s.transfer_sent = False
        s.transfer_deadline_ms = s.now_ms + s.config.timing.election_min_ms
        proceed(s)


def on_cannot_write(s: RaftState) -> None:
    """No room: let another lead, if one can, and do not come back at once."""
    s.bar()
    if s.role is Role.LEADER and s.transfer_target is None:
        target = _best_follower(s)
        if target is not None:
            on_transfer(s, target)


def _best_follower(s: RaftState) -> NodeId | None:
    able = [peer for peer in s.config.peers if _can_take_over(s, s.progress[peer])]
    return max(able, key=lambda peer: s.progress[peer].match, default=None)


def _can_take_over(s: RaftState, p: Progress) -> bool:
    """A member, connected and heard lately: appends are held until it has taken over."""
    silence_ms = s.now_ms - p.heard_ms
    recent = silence_ms < s.config.timing.election_min_ms // 2
    return p.linked and recent and p.standing is Standing.MEMBER


def proceed(s: RaftState) -> None:
    """Send the order once the target holds everything."""
    target = s.transfer_target
    if target is None or s.transfer_sent:
        return
    p = s.progress[target]
    if p.match == s.log.last_index and p.standing is Standing.MEMBER:
        s.transfer_sent = True
        s.unsettled_transfers[target] = (s.heartbeat_seq, s.now_ms)
        s.send(target, TimeoutNow(s.config.self_id, s.term))


def settle(s: RaftState, peer: NodeId, heartbeat_seq: int) -> None:
    """`peer` read a heartbeat: orders sent before it were read too, and not obeyed."""
    order = s.unsettled_transfers.get(peer)
    if order is not None and heartbeat_seq > order[0]:
        del s.unsettled_transfers[peer]


def on_peer_died(s: RaftState, peer: NodeId) -> None:
    """It will obey no order that it has not obeyed yet."""
    s.unsettled_transfers.pop(peer, None)


def has_stale_order(s: RaftState) -> bool:
    """Whether an order has been under way for so long that only a new term makes an end of it."""
    oldest_ms = s.now_ms - s.config.timing.election_max_ms - _UNSETTLED_GRACE_MS
    return any(sent_ms <= oldest_ms for _, sent_ms in s.unsettled_transfers.values())


def on_tick(s: RaftState) -> None:
    """Give up a hand-over that takes too long; want one to a preferred member."""
    if s.transfer_target is not None and s.now_ms >= s.transfer_deadline_ms:
        target, s.transfer_target, s.transfer_sent = s.transfer_target, None, False
        s.emit(TransferEnded(f"{target} did not take over in time"))
    _prefer(s)


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
            s.emit(TransferWanted(peer))
            return
