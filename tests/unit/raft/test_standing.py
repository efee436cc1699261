"""Members whose memory cannot be relied on: what their votes and acks are worth."""

import pytest

from ledgermq.dledger.ids import Standing
from ledgermq.dledger.raft.effects import Commit, PersistHardState, Role
from ledgermq.dledger.raft.events import Appended, Durable, Fetched, LinkDown, LinkUp, PeerDied
from ledgermq.dledger.raft.messages import (
    HeartbeatReply,
    PushReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)

from .drive import N0, N1, N2, N3, N4, echo, heartbeat, leader, member, push, synced, vote

MEMBER, EMPTY, LOST, DAMAGED = Standing
LOG = ((1, 3),)


def grant(m, sender, standing=MEMBER, *, holds_log=True):
    """Answer what `m` asks for now."""
    s = m.core._s
    for_term = s.term + 1 if s.pre_voting else s.term
    m.receive(VoteReply(sender, s.term, for_term, True, s.pre_voting, standing, holds_log))


def elected_by_all(standing=LOST, log=LOG, others=(MEMBER, MEMBER)):
    """A leader that is no member, its no-op not written, and the sessions."""
    m = member(log=log, standing=standing)
    for peer in (N1, N2):
        m.step(LinkUp(peer))
    m.deadline()
    for _ in range(2):
        for peer, other in zip((N1, N2), others, strict=True):
            grant(m, peer, other, holds_log=bool(log))
    assert m.core.role is Role.LEADER
    return m, {peer: m.session(peer) for peer in (N1, N2)}


# --- what is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize("standing", Standing)
def test_every_answer_tells_the_standing(standing):
    m = member(log=LOG, standing=standing)
    m.receive(vote(N2, 2, (9, 9), pre=True))
    assert m.sent(VoteReply) == [VoteReply(N0, 1, 2, True, True, standing, holds_log=True)]
    m.receive(heartbeat(2, seq=7))
    assert m.sent(HeartbeatReply) == [HeartbeatReply(N0, 2, 7, standing)]
    m.receive(push((), (2, 1), term=2))
    assert m.sent(PushReply) == [PushReply(N0, 2, 1, True, 2, standing=standing)]
    m.receive(push((), (9, 1), term=2))
    assert [r.standing for r in m.sent(PushReply)] == [standing]
    m.receive(push((), (9, 1), term=1))
    assert [(r.term, r.standing) for r in m.sent(PushReply)] == [(2, standing)]


@pytest.mark.parametrize("standing", Standing)
def test_whoever_asks_for_votes_tells_its_standing(standing):
    m = member(log=LOG, standing=standing)
    m.deadline()
    assert [r.standing for r in m.sent(VoteRequest)] == [standing] * 2


@pytest.mark.parametrize(("log", "holds"), [((), False), (LOG, True)])
def test_a_vote_tells_whether_the_log_holds_anything(log, holds):
    m = member(log=log, standing=EMPTY)
    m.receive(vote(N2, 2, (9, 9)))
    assert [r.holds_log for r in m.sent(VoteReply)] == [holds]


def test_a_vote_of_an_empty_store_is_on_disk_like_any_other():
    m = member(standing=EMPTY)
    m.receive(vote(N1, 1))
    assert m.effects[0] == PersistHardState(1, N1, EMPTY)
    m.receive(vote(N2, 1))
    assert [r.granted for r in m.sent(VoteReply)] == [False]


def test_a_member_that_starts_with_a_term_keeps_quiet_and_so_does_any_other():
    for standing in Standing:
        assert member(term=4, standing=standing).core.standing is standing
        core = member(term=4, standing=standing).core
        assert core.deadline_ms == member(term=4).core.deadline_ms


# --- being elected --------------------------------------------------------------------------------


@pytest.mark.parametrize("forgot", [EMPTY, LOST, DAMAGED])
def test_the_vote_of_who_forgot_makes_no_majority(forgot):
    m = member(log=LOG)
    m.deadline()
    grant(m, N1, forgot)
    assert (m.core.role, m.core.term, m.core.waits_for) == (Role.CANDIDATE, 1, (N2,))
    grant(m, N2)
    assert m.core.term == 2, "the pre-vote of a member does"
    grant(m, N1, forgot)
    assert m.core.role is Role.CANDIDATE
    grant(m, N2)
    assert m.core.role is Role.LEADER


def test_the_first_word_of_a_voter_counts():
    # It may have been admitted, or wiped, since it voted.
    m = member(log=LOG)
    m.deadline()
    grant(m, N1, EMPTY)
    grant(m, N1, MEMBER)
    assert m.core.term == 1
    grant(m, N2)
    grant(m, N1, EMPTY)
    grant(m, N1, MEMBER)
    assert m.core.role is Role.CANDIDATE


def test_a_new_group_waits_for_all_of_it():
    m = member(5, standing=EMPTY)
    m.deadline()
    for peer in (N1, N2, N4):
        grant(m, peer, EMPTY, holds_log=False)
    assert (m.core.waits_for, m.core.needs_operator) == ((N3,), False)
    grant(m, N3, EMPTY, holds_log=False)
    assert m.effects[0] == PersistHardState(1, N0, EMPTY)
    for peer in (N1, N2, N4):
        grant(m, peer, EMPTY, holds_log=False)
    assert m.core.role is Role.CANDIDATE
    grant(m, N3, EMPTY, holds_log=False)
    assert (m.core.role, m.core.waits_for) == (Role.LEADER, ())


def test_two_of_three_wiped_need_an_operator():
    m = member(log=LOG)
    m.deadline()
    grant(m, N1, EMPTY, holds_log=False)
    assert (m.core.waits_for, m.core.needs_operator) == ((N2,), False)
    grant(m, N2, EMPTY, holds_log=False)
    assert (m.core.role, m.core.term) == (Role.CANDIDATE, 1)
    assert (m.core.waits_for, m.core.needs_operator) == ((), True)


def test_who_answered_the_try_before_is_not_waited_for():
    m = member(standing=EMPTY)
    m.deadline()
    grant(m, N1, EMPTY, holds_log=False)
    m.deadline()
    assert m.core.waits_for == (N2,)
    m.deadline()
    assert m.core.waits_for == (N1, N2), "two tries without an answer"
    m.receive(heartbeat(1))
    assert m.core.waits_for == ()


def test_a_candidate_among_members_waits_for_no_one_in_particular():
    m = member(5)
    m.deadline()
    grant(m, N1)
    assert (m.core.waits_for, m.core.needs_operator) == ((), False)


def test_followers_and_leaders_wait_for_nobody():
    assert member(standing=EMPTY).core.waits_for == ()
    assert not member(standing=EMPTY).core.needs_operator
    assert leader()[0].core.waits_for == ()


@pytest.mark.parametrize("standing", [EMPTY, LOST, DAMAGED])
def test_who_forgot_obeys_no_order_to_take_over(standing):
    m = member(log=LOG, standing=standing)
    m.receive(heartbeat(2))
    m.receive(TimeoutNow(N1, 2))
    assert (m.effects, m.core.role) == ((), Role.FOLLOWER)


# --- a leader that is no member -------------------------------------------------------------------


def test_it_becomes_one_when_it_commits_an_entry_of_its_own_term():
    m, sessions = elected_by_all()
    m.step(Appended(1))
    m.step(Durable(3))
    for peer, standing in ((N1, LOST), (N2, MEMBER)):
        assert m.core.standing is LOST
        m.ack(peer, sessions[peer], 2)
        m.fetch(peer)
        m.ack(peer, sessions[peer], 3, standing)
    assert m.effects[0] == PersistHardState(2, N0, MEMBER), "on disk before anything else"
    assert m.all(Commit) == [Commit(3)]
    assert m.core.standing is MEMBER


def test_until_then_it_counts_only_among_all():
    m, sessions = elected_by_all()
    m.step(Appended(1))
    m.step(Durable(3))
    m.ack(N1, sessions[N1], 2)
    m.fetch(N1)
    m.ack(N1, sessions[N1], 3)
    assert (m.core.commit, m.core.standing) == (-1, LOST)


def test_two_members_are_a_majority_without_it():
    m, sessions = elected_by_all()
    m.step(Appended(1))
    for peer in (N1, N2):
        m.ack(peer, sessions[peer], 2)
        m.fetch(peer)
        m.ack(peer, sessions[peer], 3)
    assert (m.core.durable, m.core.commit, m.core.standing) == (2, 3, MEMBER)


def test_once_a_member_its_own_disk_counts_in_the_same_step():
    m, sessions = elected_by_all(others=(MEMBER, LOST))
    m.step(Appended(2))
    m.step(Durable(4))
    m.ack(N1, sessions[N1], 2)
    m.fetch(N1)
    m.ack(N1, sessions[N1], 4)
    m.ack(N2, sessions[N2], 2, LOST)
    m.fetch(N2)
    m.ack(N2, sessions[N2], 3, LOST)
    assert m.all(Commit) == [Commit(3), Commit(4)], "3 by all, then 4 by the two members"


def test_what_all_hold_is_not_committed_through_an_entry_of_an_old_term():
    m, sessions = elected_by_all(standing=LOST, others=(LOST, LOST))
    for peer in (N1, N2):
        m.ack(peer, sessions[peer], 2, LOST)
    assert (m.core.commit, m.core.standing) == (-1, LOST)


# --- counting -------------------------------------------------------------------------------------


def both_hold(n1, n2):
    """Commit of a leader that holds 0..2, when its followers acked so much with such standings."""
    m, sessions = synced()
    m.step(Appended(2))
    for peer in (N1, N2):
        token = m.core._s.progress[peer].fetch_token
        m.step(Fetched(peer, token, ((1, 2),), 200))
    m.step(Durable(2))
    m.ack(N1, sessions[N1], *n1)
    m.ack(N2, sessions[N2], *n2)
    return m.core.commit


@pytest.mark.parametrize("forgot", [EMPTY, LOST, DAMAGED])
def test_the_ack_of_who_forgot_makes_no_majority(forgot):
    assert both_hold((2, MEMBER), (0, MEMBER)) == 2
    assert both_hold((2, forgot), (0, MEMBER)) == 0
    assert both_hold((2, forgot), (1, MEMBER)) == 1


def test_what_all_voters_hold_is_committed():
    assert both_hold((2, EMPTY), (1, LOST)) == 1
    assert both_hold((2, EMPTY), (2, LOST)) == 2


def test_check_quorum_does_not_count_who_forgot():
    m, _ = synced()
    m.tick(900)
    m.receive(echo(N1, 1, 1, EMPTY))
    m.tick(100)
    assert m.core.role is Role.FOLLOWER


def test_check_quorum_is_content_with_all_voters():
    m, _ = synced()
    for _ in range(20):
        m.tick(100)
        m.receive(echo(N1, 1, 1, EMPTY))
        m.receive(echo(N2, 1, 1, LOST))
    assert m.core.role is Role.LEADER
    assert m.core.joiners == {N1: EMPTY, N2: LOST}


def test_a_broken_connection_does_not_make_a_leader_forget_who_is_a_member():
    # n2 is silent; n1 only reconnects for pushes.
    m, _ = synced()
    m.tick(600)
    m.receive(echo(N1, 1, 1))
    m.step(LinkDown(N1))
    m.tick(500)
    assert m.core.role is Role.LEADER
    m.step(LinkUp(N1))
    m.tick(100)
    assert m.core.role is Role.LEADER


def test_the_lease_does_not_count_who_forgot():
    m, _ = synced()
    m.receive(echo(N1, 1, 1, EMPTY))
    assert m.core.lease_until_ms < 0
    m.receive(echo(N2, 1, 1))
    assert m.core.lease_until_ms > 0


def test_the_lease_may_count_all_voters():
    m, _ = synced()
    m.receive(echo(N1, 1, 1, EMPTY))
    m.receive(echo(N2, 1, 1, EMPTY))
    assert m.core.lease_until_ms > 0


def test_an_echo_alone_makes_nobody_a_member_again():
    # It may come from a life of the follower that is over.
    m, sessions = synced()
    m.receive(echo(N1, 1, 1, EMPTY))
    m.receive(echo(N1, 1, 1))
    assert m.core.joiners == {N1: EMPTY}
    m.ack(N1, sessions[N1], 0)
    assert m.core.joiners == {}


def test_an_answer_of_an_old_session_tells_nothing():
    m, sessions = synced()
    m.receive(echo(N1, 1, 1, EMPTY))
    m.step(LinkUp(N1))
    m.ack(N1, sessions[N1], 0)
    assert m.core.joiners == {N1: EMPTY}


def test_who_has_not_said_anything_is_no_member():
    m, _ = leader(5, noop=False)
    assert m.core.joiners == {}
    assert m.core._s.progress[N1].standing is MEMBER, "it voted"
    assert m.core._s.progress[N4].standing is None
    m.receive(echo(N4, 1, 1))
    assert m.core._s.progress[N4].standing is MEMBER


def test_a_follower_has_no_joiners():
    m = member()
    m.step(PeerDied(N1))
    assert m.core.joiners == {}
