"""Full disks, orders without an end, and pushes that must fit a frame."""

import pytest

from ledgermq.dledger.raft.effects import Fetch, Role, Send, TransferEnded
from ledgermq.dledger.raft.events import (
    AcceptFailed,
    Appended,
    CannotWrite,
    Fetched,
    LinkDown,
    PeerDied,
    TransferRequested,
)
from ledgermq.dledger.raft.messages import TimeoutNow, VoteReply, VoteRequest
from ledgermq.dledger.raft.replication import MAX_RUNS
from ledgermq.dledger.rpc import codec

from .drive import N0, N1, N2, echo, hear_all, heartbeat, leader, member, push, synced, vote

BAR_MS = 2 * 2000


def orders(m):
    return [e.peer for e in m.all(Send) if isinstance(e.message, TimeoutNow)]


# --- a leader without room ------------------------------------------------------------------------


def test_a_leader_without_room_hands_over():
    m, _ = synced()
    m.step(CannotWrite())
    assert orders(m) == [N1]
    assert m.core.transferring
    m.step(CannotWrite())
    assert m.effects == (), "one hand-over at a time"


def test_it_keeps_leading_when_nobody_can_take_over():
    m, _ = synced()
    for peer in (N1, N2):
        m.step(LinkDown(peer))
    m.step(CannotWrite())
    assert (m.effects, m.core.role, m.core.transferring) == ((), Role.LEADER, False)


def test_afterwards_it_asks_for_no_votes_for_a_while():
    m, _ = synced()
    m.step(CannotWrite())
    end_ms = m.now_ms + BAR_MS
    m.receive(heartbeat(2))
    m.deadline()
    assert (m.effects, m.core.deadline_ms) == ((), end_ms)
    m.tick(end_ms - 1 - m.now_ms)
    assert m.core.role is Role.FOLLOWER
    m.tick(1)
    assert m.core.role is Role.CANDIDATE
    assert m.sent(VoteRequest)


def test_a_follower_without_room_asks_for_no_votes_either():
    m = member()
    m.receive(push(((1, 2),)))
    m.step(AcceptFailed(0))
    m.deadline()
    assert (m.core.role, m.core.deadline_ms) == (Role.FOLLOWER, BAR_MS)


def test_nor_does_it_take_over():
    m = member()
    m.receive(push(((1, 2),)))
    m.step(AcceptFailed(0))
    m.receive(TimeoutNow(N1, 1))
    assert m.effects == ()
    m.receive(heartbeat(1), BAR_MS)
    m.receive(TimeoutNow(N1, 1))
    assert m.core.role is Role.CANDIDATE


def test_it_votes_as_ever():
    m = member(log=((1, 2),))
    m.step(CannotWrite())
    m.receive(vote(N1, 2, (1, 1)))
    assert [r.granted for r in m.sent(VoteReply)] == [True]
    m.deadline()
    assert m.core.role is Role.FOLLOWER


@pytest.mark.parametrize("pre", [True, False], ids=["pre-vote", "vote"])
def test_it_stands_when_the_others_cannot_do_without_its_log(pre):
    m = member(log=((1, 2),))
    m.step(CannotWrite())
    m.receive(vote(N1, 2, (0, 1), pre=pre))
    assert m.core.deadline_ms == m.now_ms + 150
    m.deadline()
    assert m.core.role is Role.CANDIDATE


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda m: m.receive(vote(N1, 1, (1, 1))), id="a log that is good enough"),
        pytest.param(
            lambda m: (m.receive(heartbeat(1)), m.receive(vote(N2, 2, (0, 1)))), id="a leader lives"
        ),
    ],
)
def test_otherwise_it_waits(ask):
    m = member(log=((1, 2),), vote=N2)
    m.step(CannotWrite())
    ask(m)
    assert m.sent(VoteReply)[0].granted is False
    m.deadline()
    assert m.core.role is Role.FOLLOWER


def test_a_refusal_of_one_that_is_not_barred_changes_no_deadline():
    m = member(log=((1, 2),))
    deadline_ms = m.core.deadline_ms
    m.receive(vote(N1, 2, (0, 1), pre=True))
    assert m.core.deadline_ms == deadline_ms


def test_the_only_voter_leads_with_a_full_disk():
    m = member(1)
    m.deadline()
    m.step(CannotWrite())
    assert m.core.role is Role.LEADER
    m = member(1, term=3)
    m.step(CannotWrite())
    m.deadline()
    assert m.core.role is Role.LEADER


# --- orders without an end ------------------------------------------------------------------------


def alive(m, duration_ms, *, heard=(N2,)):
    """Time passes; so much is heard, and never an echo that settles an order."""
    for _ in range(duration_ms // 100):
        m.tick(100)
        for peer in heard:
            m.receive(echo(peer, 1, 1))


def test_an_order_without_an_end_ends_with_the_term():
    m, _ = synced()
    m.step(TransferRequested(N1))
    alive(m, 4900)
    assert (m.core.role, m.core.lease_until_ms < 0) == (Role.LEADER, True)
    m.tick(99)
    assert m.core.role is Role.LEADER
    m.tick(1)
    assert (m.core.role, m.core.term, m.core.leader) == (Role.FOLLOWER, 1, None)


@pytest.mark.parametrize(
    "settle",
    [
        pytest.param(hear_all, id="a later heartbeat was read"),
        pytest.param(lambda m: m.step(PeerDied(N1)), id="its target died"),
    ],
)
def test_an_order_that_is_settled_deposes_nobody(settle):
    m, _ = synced()
    m.step(TransferRequested(N1))
    alive(m, 1000)
    settle(m)
    alive(m, 5000)
    assert m.core.role is Role.LEADER


def test_the_next_term_of_office_starts_without_orders():
    m, _ = synced()
    m.step(TransferRequested(N1))
    alive(m, 5000)
    assert m.core.role is Role.FOLLOWER
    m.deadline()
    for pre in (True, False):
        m.receive(VoteReply(N2, m.core.term, 2, True, pre))
    assert m.core.role is Role.LEADER
    m.receive(echo(N2, 2, m.core._s.heartbeat_seq))
    assert m.core.lease_until_ms > m.now_ms


def test_a_target_that_forgot_meanwhile_is_not_ordered():
    m, sessions = synced()
    m.step(Appended(1))
    m.fetch(N1)
    m.step(TransferRequested(N1))
    m.receive(echo(N1, 1, 1, standing=1))
    m.core._s.progress[N1].match = 1
    m.ack(N1, sessions[N1], 1, standing=1)
    assert not orders(m)


def test_a_joining_follower_is_no_target():
    m, _ = synced()
    m.receive(echo(N1, 1, 1, standing=1))
    m.step(TransferRequested(N1))
    assert m.all(TransferEnded) == [TransferEnded("n1 is not admitted as a member yet")]
    m.step(TransferRequested())
    assert orders(m) == [N2]


# --- what fits a push -----------------------------------------------------------------------------


def test_a_fetch_names_its_last_index():
    m, _ = synced()
    m.step(Appended(3))
    assert [(f.first, f.last) for f in m.all(Fetch)] == [(1, 3)] * 2


def test_a_push_has_no_more_terms_than_its_head_can_name():
    log = tuple((term, 2) for term in range(1, 2 * MAX_RUNS))
    m, sessions = leader(log=log)
    m.refuse(N1, sessions[N1], m.core.log.last_index - 1, (1, -1))
    m.ack(N1, sessions[N1], 0)
    fetch = next(f for f in m.all(Fetch) if f.peer == N1)
    assert (fetch.first, fetch.last) == (1, 2 * MAX_RUNS - 1)
    runs = m.core.log.runs(fetch.first, fetch.last)
    assert len(runs) == MAX_RUNS
    m.step(Fetched(N1, fetch.token, runs, 100))
    message = m.sent(type(push()), N1)[0]
    (frame,) = codec.FrameDecoder().feed(codec.encode_message(message, b"x"))
    assert codec.message_of(frame) == message
    assert [f.first for f in m.all(Fetch)] == [2 * MAX_RUNS]


def test_the_longest_head_fits_a_frame():
    top = 1 << 62
    runs = tuple((top + i, 1 << 32) for i in range(MAX_RUNS))
    message = push(runs, (top, top), term=top + MAX_RUNS, session=top, sender=N0)
    assert codec.encode_message(message)
