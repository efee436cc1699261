"""How the word of a member that forgot comes to count again."""

import pytest

from ledgermq.dledger.ids import Standing
from ledgermq.dledger.raft.effects import AppendNoop, PersistHardState, Role
from ledgermq.dledger.raft.events import Appended, Durable, LinkDown, LinkUp, TransferRequested
from ledgermq.dledger.raft.messages import Admit, PushReply, VoteReply

from .drive import N0, N1, N2, echo, heartbeat, leader, member, push, synced, vote

MEMBER, EMPTY, LOST, DAMAGED = Standing


def rejoined(standing=EMPTY):
    """A leader with n0..n2 in step; then n2 comes back and has said once that it forgot."""
    m, sessions = synced()
    m.step(LinkDown(N2))
    m.step(LinkUp(N2))
    session = m.session(N2)
    m.refuse(N2, session, 0, (0, -1), standing)
    return m, sessions[N1], session


# --- the leader -----------------------------------------------------------------------------------


@pytest.mark.parametrize("standing", [EMPTY, LOST, DAMAGED])
def test_an_entry_is_appended_for_whoever_forgot(standing):
    m, _, _ = rejoined(standing)
    assert m.all(AppendNoop) == [AppendNoop(1)]
    assert m.core.joiners == {N2: standing}


def test_one_entry_will_do_for_two():
    m, _sessions = synced(size=5)
    for peer in (N1, N2):
        m.step(LinkDown(peer))
        m.step(LinkUp(peer))
        m.refuse(peer, m.session(peer), 0, (0, -1), EMPTY)
        assert len(m.all(AppendNoop)) == (1 if peer == N1 else 0)


def test_an_echo_will_do_to_tell():
    m, _ = synced()
    m.receive(echo(N2, 1, 1, EMPTY))
    assert m.all(AppendNoop) == [AppendNoop(1)]
    m.receive(echo(N2, 1, 1, EMPTY))
    assert m.effects == (), "once a session"


def test_without_a_session_there_is_no_barrier():
    m, _ = synced()
    m.step(LinkDown(N2))
    m.receive(echo(N2, 1, 1, EMPTY))
    assert m.effects == ()
    m.step(LinkUp(N2))
    m.receive(echo(N2, 1, 1, EMPTY))
    assert m.all(AppendNoop) == [AppendNoop(1)]


def test_a_new_session_needs_a_new_entry():
    m, _n1, _n2 = rejoined()
    m.step(Appended(1))
    m.step(LinkUp(N2))
    m.receive(echo(N2, 1, 1, EMPTY))
    assert m.all(AppendNoop) == [AppendNoop(1)]


def test_the_no_op_of_the_office_will_do():
    m, sessions = leader(noop=False)
    m.refuse(N2, sessions[N2], -1, (0, -1), EMPTY)
    assert not m.all(AppendNoop), "it is asked for, and nobody has it yet"
    m.step(Appended(1))
    assert m.core._s.progress[N2].barrier == 0


def test_any_entry_appended_afterwards_will_do():
    m, _sessions = synced()
    m.step(TransferRequested(N1))
    m.receive(echo(N2, 1, 1, EMPTY))
    assert not m.all(AppendNoop), "appends are held during a hand-over"
    m.tick(150)
    assert not m.all(AppendNoop)
    m.receive(echo(N1, 1, 2))
    m.step(Appended(1))
    m.tick(1000, stalled=True)
    assert not m.core.transferring
    assert not m.all(AppendNoop)


def test_after_a_hand_over_that_failed_the_entry_is_asked_for():
    m, _ = synced()
    m.step(TransferRequested(N1))
    m.receive(echo(N2, 1, 1, EMPTY))
    m.receive(echo(N1, 1, 1), 900)
    m.tick(100)
    assert m.all(AppendNoop) == [AppendNoop(1)]


def test_whoever_holds_the_barrier_committed_is_admitted():
    m, n1, n2 = rejoined()
    m.step(Appended(1))
    push_n1 = m.fetch(N1)
    m.step(Durable(1))
    m.ack(N2, n2, -1, EMPTY)
    m.fetch(N2)
    m.ack(N2, n2, 1, EMPTY)
    assert not m.sent(Admit), "its own ack does not commit the barrier"
    m.ack(N1, n1, push_n1.last_index)
    assert m.core.commit == 1
    assert m.sent(Admit, N2) == [Admit(N0, 1, n2)]


def test_a_match_below_the_barrier_is_not_enough():
    m, n1, n2 = rejoined()
    m.step(Appended(1))
    m.fetch(N1)
    m.step(Durable(1))
    m.ack(N1, n1, 1)
    assert m.core.commit == 1
    m.ack(N2, n2, -1, EMPTY)
    m.fetch(N2)
    m.ack(N2, n2, 0, EMPTY)
    assert not m.sent(Admit)
    m.ack(N2, n2, 1, EMPTY)
    assert m.sent(Admit, N2) == [Admit(N0, 1, n2)]
    m.ack(N2, n2, 1, EMPTY)
    assert not m.sent(Admit), "not with every ack"


def admitted():
    m, n1, n2 = rejoined()
    m.step(Appended(1))
    m.fetch(N1)
    m.step(Durable(1))
    m.ack(N1, n1, 1)
    m.ack(N2, n2, -1, EMPTY)
    m.fetch(N2)
    m.ack(N2, n2, 1, EMPTY)
    assert m.sent(Admit, N2)
    return m, n1, n2


def test_an_admission_is_repeated_until_it_is_heard():
    m, _n1, n2 = admitted()
    m.receive(echo(N2, 1, 1, EMPTY))
    m.tick(150)
    assert m.sent(Admit, N2) == [Admit(N0, 1, n2)]
    m.ack(N2, n2, 1)
    m.tick(150)
    assert not m.sent(Admit)
    assert m.core.joiners == {}


def test_nobody_is_admitted_while_its_link_is_down():
    m, _, _ = admitted()
    m.step(LinkDown(N2))
    m.tick(150)
    assert not m.sent(Admit)


def test_its_ack_counts_from_then_on():
    m, _n1, n2 = admitted()
    m.ack(N2, n2, 1)
    m.step(Appended(1))
    m.fetch(N2)
    m.step(Durable(2))
    m.ack(N2, n2, 2)
    assert m.core.commit == 2


# --- the follower ---------------------------------------------------------------------------------


def joining(standing=EMPTY, **kwargs):
    m = member(standing=standing, **kwargs)
    m.receive(push(((1, 2),), session=4))
    m.step(Durable(1))
    return m


@pytest.mark.parametrize("standing", [EMPTY, LOST, DAMAGED])
def test_an_admission_makes_a_member_on_disk_and_is_acknowledged(standing):
    m = joining(standing)
    m.receive(Admit(N1, 1, 4))
    assert m.effects[0] == PersistHardState(1, N1, MEMBER)
    assert m.sent(PushReply) == [PushReply(N0, 1, 4, True, 1)]
    assert m.core.standing is MEMBER


def test_a_repeated_admission_is_acknowledged():
    m = joining()
    m.receive(Admit(N1, 1, 4))
    m.receive(Admit(N1, 1, 4))
    assert not m.all(PersistHardState)
    assert m.sent(PushReply) == [PushReply(N0, 1, 4, True, 1)]


def test_a_vote_of_the_term_that_it_remembers_stays():
    m = member(standing=EMPTY)
    m.receive(vote(N2, 1))
    m.receive(push(((1, 2),), session=4))
    m.receive(Admit(N1, 1, 4))
    assert m.effects[0] == PersistHardState(1, N2, MEMBER)


def test_an_admitted_member_votes_for_nobody_else_in_the_term():
    # Before it forgot it may have voted for this leader.
    m = joining()
    m.receive(Admit(N1, 1, 4))
    m.receive(vote(N2, 1, (9, 9), forced=True))
    assert [r.granted for r in m.sent(VoteReply)] == [False]


@pytest.mark.parametrize(
    "admit",
    [
        pytest.param(Admit(N1, 0, 4), id="an old term"),
        pytest.param(Admit(N2, 1, 4), id="not from the leader"),
        pytest.param(Admit(N1, 1, 3), id="an old session"),
        pytest.param(Admit(N1, 1, 5), id="a session it has not seen"),
        pytest.param(Admit(N1, 2, 4), id="a later term: what it holds is not verified there"),
    ],
)
def test_admissions_that_do_not_count(admit):
    m = joining()
    m.receive(admit)
    assert m.core.standing is EMPTY
    assert not m.sent(PushReply)


def test_an_admission_before_any_push_does_not_count():
    m = member(standing=EMPTY)
    m.receive(heartbeat(1))
    m.receive(Admit(N1, 1, 1))
    assert (m.effects, m.core.standing) == ((), EMPTY)


def test_a_candidate_is_not_admitted():
    m = joining()
    m.deadline()
    assert m.core.role is Role.CANDIDATE
    m.receive(Admit(N1, 1, 4))
    assert m.core.standing is EMPTY
