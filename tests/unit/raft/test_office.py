"""Keeping the office of leader, and giving it away."""

import pytest

from ledgermq.dledger.raft.effects import (
    Role,
    RoleChanged,
    Send,
    TransferEnded,
    TransferWanted,
)
from ledgermq.dledger.raft.events import (
    Appended,
    Durable,
    LinkDown,
    LinkUp,
    PeerDied,
    TransferRequested,
)
from ledgermq.dledger.raft.messages import PushReply, TimeoutNow

from .drive import N0, N1, N2, echo, hear_all, leader, member, synced

LOG = ((1, 3), (4, 2), (6, 3))  # 0..2 of term 1, 3..4 of term 4, 5..7 of term 6


# --- check-quorum and lease -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "role"),
    [
        pytest.param((N1,), Role.LEADER, id="one of two followers is enough"),
        pytest.param((), Role.FOLLOWER, id="silence of a quorum ends it"),
    ],
)
def test_check_quorum(heard, role):
    m, _ = leader()
    m.tick(600)
    for peer in heard:
        m.receive(echo(peer, 1, 1))
    m.tick(399)
    assert m.core.role is Role.LEADER
    m.tick(1)
    assert m.core.role is role
    if role is Role.FOLLOWER:
        assert m.all(RoleChanged) == [RoleChanged(Role.FOLLOWER, 1, None)]
        assert m.core.match_of(N1) == -1


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(lambda m, s: m.receive(echo(N1, 1, 1)), id="an echo"),
        pytest.param(lambda m, s: m.ack(N1, s[N1], -1), id="an ack"),
        pytest.param(lambda m, s: m.ack(N1, 99, -1), id="an ack of another session"),
    ],
)
def test_signs_of_life(sign):
    m, sessions = leader()
    m.tick(900)
    sign(m, sessions)
    m.tick(900)
    assert m.core.role is Role.LEADER


def test_an_echo_of_an_old_term_is_no_sign_of_life():
    m, _ = leader(log=LOG)
    m.tick(900)
    m.receive(echo(N1, 6, 1))
    m.tick(900)
    assert m.core.role is Role.FOLLOWER


def test_after_an_own_stall_followers_get_half_a_timeout_more():
    m, _ = leader()
    m.tick(5000, stalled=True)
    assert m.core.role is Role.LEADER
    m.tick(499)
    assert m.core.role is Role.LEADER
    m.tick(1)
    assert m.core.role is Role.FOLLOWER


def test_the_lease_counts_from_the_sending_of_what_was_echoed():
    m, _ = leader()
    sent_ms = m.now_ms
    assert m.core.lease_until_ms < 0
    m.receive(echo(N1, 1, 1), after_ms=70)
    assert m.core.lease_until_ms == sent_ms + 900
    m.receive(echo(N2, 1, 99))
    assert m.core.lease_until_ms == sent_ms + 900, "an unknown heartbeat proves nothing"


def test_an_older_echo_does_not_shorten_the_lease():
    m, _ = leader()
    m.tick(150)
    sent_ms = m.now_ms
    m.receive(echo(N1, 1, 2))
    m.receive(echo(N1, 1, 1))
    assert m.core.lease_until_ms == sent_ms + 900


def test_the_lease_needs_a_quorum():
    m, _ = leader(5)
    m.receive(echo(N1, 1, 1))
    assert m.core.lease_until_ms < 0
    m.receive(echo(N2, 1, 1))
    assert m.core.lease_until_ms == m.now_ms + 900


def test_a_follower_whose_link_broke_does_not_count_for_the_lease():
    m, _ = leader()
    m.receive(echo(N1, 1, 1))
    m.step(LinkDown(N1))
    assert m.core.lease_until_ms < 0
    m.receive(echo(N1, 1, 1))
    assert m.core.lease_until_ms < 0
    m.step(LinkUp(N1))
    m.receive(echo(N1, 1, 1))
    assert m.core.lease_until_ms > 0


def test_old_heartbeats_are_forgotten():
    m, _ = leader()
    for _ in range(20):
        m.tick(150)
        m.receive(echo(N1, 1, 1))
    assert len(m.core._s.heartbeat_sent) <= 2000 // 150 + 1
    assert m.core.lease_until_ms < m.now_ms


def test_followers_have_no_lease():
    assert member().core.lease_until_ms < 0


# --- hand-over ------------------------------------------------------------------------------------


def test_a_target_that_holds_everything_is_ordered_at_once():
    m, _ = synced()
    m.step(TransferRequested(N2))
    assert m.sent(TimeoutNow, N2) == [TimeoutNow(N0, 1)]
    assert m.core.transferring


def test_a_target_that_lags_is_ordered_when_it_holds_everything():
    m, sessions = synced()
    m.step(Appended(2))
    m.fetch(N1)
    m.step(TransferRequested(N1))
    m.ack(N1, sessions[N1], 1)
    assert not m.sent(TimeoutNow)
    m.ack(N1, sessions[N1], 2)
    assert m.sent(TimeoutNow, N1) == [TimeoutNow(N0, 1)]
    m.ack(N1, sessions[N1], 2)
    assert not m.sent(TimeoutNow), "ordered once"


def ordered_by(m):
    """Whom the last step ordered to take over."""
    return [e.peer for e in m.all(Send) if isinstance(e.message, TimeoutNow)]


def ended(m):
    return [e.reason for e in m.all(TransferEnded)]


def test_a_hand_over_is_given_up_after_one_timeout():
    m, _ = synced()
    m.step(TransferRequested(N1))
    m.tick(999)
    assert (ended(m), m.core.transferring) == ([], True)
    hear_all(m)
    m.tick(1)
    assert (ended(m), m.core.transferring) == (["n1 did not take over in time"], False)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        pytest.param(N0, "no such follower", id="to itself"),
        pytest.param("n9", "no such follower", id="to a stranger"),
    ],
)
def test_hand_overs_that_make_no_sense(target, reason):
    m, _ = synced()
    m.step(TransferRequested(target))
    assert (ended(m), m.core.transferring) == ([reason], False)


def test_a_follower_hands_nothing_over():
    m = member()
    assert m.step(TransferRequested()) == ()


def test_without_a_target_the_best_follower_takes_over():
    m, sessions = synced()
    m.step(Appended(1))
    m.fetch(N2)
    m.ack(N2, sessions[N2], 1)
    m.step(TransferRequested())
    assert ordered_by(m) == [N2]


@pytest.mark.parametrize(
    ("lose", "target"),
    [
        pytest.param(lambda m: m.step(LinkDown(N1)), [N2], id="not one that is not connected"),
        pytest.param(lambda m: m.receive(echo(N2, 1, 1), 500), [N2], id="not one that is silent"),
        pytest.param(lambda m: m.tick(500), [], id="all are silent"),
    ],
)
def test_the_best_follower_is_able_to_take_over(lose, target):
    m, _ = synced()
    lose(m)
    m.step(TransferRequested())
    assert ordered_by(m) == target
    assert ended(m) == ([] if target else ["no follower is connected"])


def lease_counts(m):
    """Whether it does, once both followers have echoed the newest heartbeat."""
    m.tick(150)
    hear_all(m)
    return m.core.lease_until_ms > 0


def test_an_order_that_may_still_be_obeyed_voids_the_lease():
    m, _ = synced()
    m.step(TransferRequested(N1))
    assert m.core.lease_until_ms < 0
    m.receive(echo(N1, 1, 1))
    m.receive(echo(N2, 1, 1))
    assert m.core.lease_until_ms < 0, "the echo may have passed the order on its way"
    assert lease_counts(m), "a later heartbeat was read after the order"


def test_every_order_under_way_voids_the_lease():
    m, _ = synced()
    m.step(TransferRequested(N1))
    m.step(TransferRequested(N2))
    m.tick(150)
    m.receive(echo(N2, 1, 2))
    assert m.core.lease_until_ms < 0
    m.receive(echo(N1, 1, 2))
    assert m.core.lease_until_ms > 0


def test_a_dead_target_obeys_no_order():
    m, _ = synced()
    m.step(TransferRequested(N1))
    m.receive(echo(N2, 1, 1))
    m.step(PeerDied(N1))
    assert m.core.lease_until_ms > 0
    assert m.core.role is Role.LEADER


def test_stepping_down_ends_the_hand_over():
    m, _ = synced()
    m.step(TransferRequested(N1))
    m.receive(PushReply(N1, 2, 1, False, -1))
    assert (m.core.role, m.core.transferring) == (Role.FOLLOWER, False)


# --- the preferred leader -------------------------------------------------------------------------


def wanted_by(m):
    """Whom the leader wants to take over; its shell is asked, which may have entries to add."""
    assert not m.sent(TimeoutNow)
    return [e.target for e in m.all(TransferWanted)]


def calm(m, duration_ms):
    """Time passes and everybody is heard; peers that were to take over."""
    wanted = []
    for _ in range(duration_ms // 100):
        m.tick(100)
        wanted += wanted_by(m)
        hear_all(m)
    return wanted


def test_the_preferred_member_takes_over_after_a_calm_while():
    m, _ = synced(preferred=(N2,))
    assert calm(m, 9900) == []
    assert calm(m, 300) == [N2]


def test_calm_begins_with_the_office():
    m, _ = synced(preferred=(N2,))
    begun_ms = m.core._s.calm_since_ms
    calm(m, 9900)
    assert wanted_by(m) == []
    m.tick(begun_ms + 9999 - m.now_ms)
    assert wanted_by(m) == []
    m.tick(1)
    assert wanted_by(m) == [N2]


def test_the_first_able_of_the_preferred_takes_over():
    m, _ = synced(preferred=(N1, N2))
    m.step(LinkDown(N1))
    assert calm(m, 10_200) == [N2]


@pytest.mark.parametrize(
    ("preferred", "disturb"),
    [
        pytest.param((), lambda m: None, id="nobody is preferred"),
        pytest.param((N0, N2), lambda m: None, id="it is preferred itself"),
        pytest.param((N2,), lambda m: m.step(LinkDown(N2)), id="not connected"),
        pytest.param((N2,), lambda m: m.step(LinkUp(N2)), id="not known what it holds"),
        pytest.param(("n9",), lambda m: None, id="a stranger"),
    ],
)
def test_nobody_takes_over(preferred, disturb):
    m, _ = synced(preferred=preferred)
    disturb(m)
    assert calm(m, 10_500) == []
    assert m.core.role is Role.LEADER


def test_who_lags_behind_the_commit_does_not_take_over():
    m, sessions = synced(preferred=(N2,))
    m.step(Appended(1))
    m.fetch(N1)
    m.step(Durable(1))
    m.ack(N1, sessions[N1], 1)
    assert m.core.commit == 1
    assert calm(m, 10_500) == []


def test_a_broken_connection_is_no_calm():
    m, _ = synced(preferred=(N2,))
    calm(m, 9000)
    m.step(LinkDown(N1))
    assert calm(m, 9900) == []
    assert calm(m, 300) == [N2]


def test_a_failed_attempt_waits_for_calm_again():
    m, _ = synced(preferred=(N2,))
    assert calm(m, 10_200) == [N2]
    assert calm(m, 9500) == []
    assert calm(m, 1000) == [N2]
