"""The leader knows how full the fullest disk of its group is: retention goes by that one."""

import pytest

from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.raft.events import DiskMeasured, LinkUp
from ledgermq.dledger.raft.messages import HeartbeatReply

from .drive import N0, N1, N2, Member, heartbeat, member, synced


def told(m: Member, peer: NodeId, percent: int, after_ms: int = 0) -> None:
    reply = HeartbeatReply(peer, m.core.term, m.core._s.heartbeat_seq, disk_percent=percent)
    m.receive(reply, after_ms)


def test_a_follower_tells_in_its_echo_how_full_its_disk_is() -> None:
    m = member()
    m.step(DiskMeasured(83))
    m.receive(heartbeat(1, seq=7))
    assert m.sent(HeartbeatReply, N1) == [HeartbeatReply(N0, 1, 7, disk_percent=83)]


@pytest.mark.parametrize(
    ("own", "first", "second", "fullest"),
    [(10, 20, 30, 30), (10, 86, 30, 86), (91, 20, 30, 91), (0, 0, 0, 0)],
)
def test_the_fullest_counts_whoever_has_it(own: int, first: int, second: int, fullest: int) -> None:
    m, _ = synced()
    m.step(DiskMeasured(own))
    told(m, N1, first)
    told(m, N2, second)
    assert m.core.fullest_disk_percent == fullest


def test_what_was_told_last_counts() -> None:
    m, _ = synced()
    told(m, N1, 90)
    told(m, N1, 40)
    assert m.core.fullest_disk_percent == 40


def test_a_follower_that_is_silent_does_not_count() -> None:
    """It may have been repaired, or be gone for good: messages must not go for its sake."""
    m, _ = synced()
    told(m, N1, 90)
    for _ in range(10):
        told(m, N2, 20, after_ms=100)
    assert m.core.fullest_disk_percent == 20


def test_a_new_session_knows_nothing_of_the_disk() -> None:
    m, _ = synced()
    told(m, N1, 90)
    m.step(LinkUp(N1))
    assert m.core.fullest_disk_percent == 0
    told(m, N1, 70)
    assert m.core.fullest_disk_percent == 70


def test_one_that_does_not_lead_knows_its_own() -> None:
    m = member()
    m.step(DiskMeasured(55))
    assert m.core.fullest_disk_percent == 55
