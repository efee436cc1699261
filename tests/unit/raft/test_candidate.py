import pytest

from ledgermq.dledger.raft.effects import AppendNoop, PersistHardState, Role, RoleChanged
from ledgermq.dledger.raft.events import PeerDied
from ledgermq.dledger.raft.messages import VoteReply, VoteRequest

from .drive import N0, N1, N2, N3, N4, Member, candidate, heartbeat, leader, member, push, vote


def grant(sender, for_term, *, term=None, pre=False, granted=True):
    return VoteReply(sender, for_term if term is None else term, for_term, granted, pre)


# --- asking ---------------------------------------------------------------------------------------


def test_a_pre_vote_changes_nothing_on_disk():
    m = member()
    m.deadline()
    assert (m.core.role, m.core.term) == (Role.CANDIDATE, 0)
    assert not m.all(PersistHardState)
    asked = m.sent(VoteRequest)
    assert [(r.term, r.for_term, r.pre, r.forced) for r in asked] == [(0, 1, True, False)] * 2


def test_a_majority_of_pre_votes_leads_to_a_vote_in_the_next_term():
    m = member(log=((2, 4),))
    m.deadline()
    m.receive(grant(N2, 3, term=2, pre=True))
    assert m.effects[0] == PersistHardState(3, N0)
    assert m.core.term == 3
    asked = m.sent(VoteRequest)
    assert [(r.for_term, r.last_index, r.last_term, r.pre) for r in asked] == [(3, 3, 2, False)] * 2


def test_five_voters_need_three():
    m = candidate(5)
    m.receive(grant(N1, 1))
    assert m.core.role is Role.CANDIDATE
    m.receive(grant(N1, 1))
    assert m.core.role is Role.CANDIDATE, "the same voter counts once"
    m.receive(grant(N4, 1))
    assert m.core.role is Role.LEADER
    assert m.all(AppendNoop) == [AppendNoop(1)]


def test_a_group_of_one_elects_itself_in_one_step():
    m = member(1)
    m.deadline()
    assert m.effects[0] == PersistHardState(1, N0)
    assert m.core.role is Role.LEADER


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(grant(N1, 1, granted=False), id="a refusal"),
        pytest.param(grant(N1, 1, pre=True), id="a late answer to the pre-vote"),
        pytest.param(
            grant(N1, 2, term=1, pre=True), id="a pre-vote for a term it does not ask for yet"
        ),
        pytest.param(grant(N1, 0, term=0), id="a vote for an older term"),
        pytest.param(grant(N3, 1), id="a stranger"),
    ],
)
def test_what_is_no_vote(reply):
    m = candidate()
    m.receive(reply)
    assert m.core.role is Role.CANDIDATE


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(grant(N1, 1, term=0, pre=True, granted=False), id="a refusal"),
        pytest.param(grant(N1, 2, term=0, pre=True), id="for another term"),
        pytest.param(grant(N1, 0, term=0), id="a vote that this process never asked for"),
    ],
)
def test_what_is_no_pre_vote(reply):
    m = member()
    m.deadline()
    m.receive(reply)
    assert m.core.term == 0


def test_votes_that_come_after_the_retry_still_count():
    m = candidate()
    m.deadline()
    assert [r.for_term for r in m.sent(VoteRequest)] == [2, 2], "it asks for the next term already"
    m.receive(grant(N1, 1))
    assert (m.core.role, m.core.term) == (Role.LEADER, 1)


def test_a_vote_of_an_earlier_life_does_not_count():
    # The log may have lost its tail in the crash: the voter compared with what is gone.
    m = member(5, term=4, vote=N0)
    m.deadline()
    for voter in (N1, N2, N3):
        m.receive(grant(voter, 4))
    assert m.core.role is Role.CANDIDATE


def test_votes_do_not_outlive_a_leader_of_the_term():
    m = candidate(5)
    m.receive(grant(N1, 1))
    m.receive(heartbeat(1, sender=N2))
    m.deadline()
    m.receive(grant(N3, 1))
    assert m.core.role is Role.CANDIDATE


def test_a_vote_for_a_follower_changes_nothing():
    m = member()
    m.receive(grant(N1, 0, term=0))
    assert m.effects == ()


def test_a_refusal_with_a_higher_term_ends_the_candidacy():
    m = candidate()
    m.receive(grant(N1, 1, term=6, granted=False))
    assert (m.core.role, m.core.term) == (Role.FOLLOWER, 6)


def test_a_restarted_member_retries_quickly_a_calm_one_after_a_full_timeout():
    m = member()
    m.deadline()
    assert m.core.deadline_ms - m.now_ms == 50
    m.receive(heartbeat(1))
    assert m.core.deadline_ms - m.now_ms == 1000
    m.deadline()
    assert m.core.deadline_ms - m.now_ms == 1000


# --- voting ---------------------------------------------------------------------------------------


def voter(**kwargs) -> Member:
    return member(log=((1, 2), (3, 2)), **kwargs)  # ends with 3@3


@pytest.mark.parametrize(
    ("last", "granted"),
    [
        pytest.param((3, 3), True, id="equal logs"),
        pytest.param((4, 3), True, id="a longer log of the same term"),
        pytest.param((2, 3), False, id="a shorter log of the same term"),
        pytest.param((0, 4), True, id="a later last term beats length"),
        pytest.param((9, 2), False, id="an earlier last term loses in spite of length"),
        pytest.param((-1, -1), False, id="an empty log"),
    ],
)
@pytest.mark.parametrize("pre", [True, False], ids=["pre-vote", "vote"])
def test_only_a_log_as_good_as_the_own_gets_a_vote(last, granted, pre):
    m = voter()
    m.receive(vote(N1, 4, last, pre=pre))
    assert m.sent(VoteReply, N1) == [
        VoteReply(N0, 3 if pre else 4, 4, granted, pre, holds_log=True)
    ]


@pytest.mark.parametrize(
    ("before", "for_term", "granted"),
    [
        pytest.param(None, 3, True, id="not voted in this term"),
        pytest.param(N1, 3, True, id="voted for the same"),
        pytest.param(N2, 3, False, id="voted for another"),
        pytest.param(N2, 4, True, id="a new term, a new vote"),
        pytest.param(None, 2, False, id="a past term"),
    ],
)
def test_one_vote_a_term(before, for_term, granted):
    m = voter(vote=before)
    m.receive(vote(N1, for_term, (9, 9)))
    assert [r.granted for r in m.sent(VoteReply)] == [granted]
    persisted = [PersistHardState(for_term, N1)] if granted and before != N1 else []
    assert m.all(PersistHardState) == persisted
    if persisted:
        assert isinstance(m.effects[0], PersistHardState), "on disk before it is sent"


@pytest.mark.parametrize(
    ("for_term", "granted"),
    [
        pytest.param(4, True, id="a later term than the own"),
        pytest.param(3, False, id="the own term"),
        pytest.param(2, False, id="a past term"),
    ],
)
def test_a_pre_vote_is_for_a_later_term_and_promises_nothing(for_term, granted):
    m = voter(vote=N2)
    deadline_ms = m.core.deadline_ms
    m.receive(vote(N1, for_term, (9, 9), pre=True))
    assert [r.granted for r in m.sent(VoteReply)] == [granted]
    assert (m.core.term, m.core.deadline_ms) == (3, deadline_ms)
    assert not m.all(PersistHardState)


def test_a_refused_vote_still_raises_the_term():
    m = voter()
    m.receive(vote(N1, 7, (0, 1)))
    assert m.effects[0] == PersistHardState(7, None)


@pytest.mark.parametrize("pre", [True, False], ids=["pre-vote", "vote"])
@pytest.mark.parametrize(
    ("silence_ms", "granted"),
    [
        pytest.param(999, False, id="a leader heard within the minimum timeout"),
        pytest.param(1000, True, id="no longer heard"),
    ],
)
def test_who_hears_a_leader_refuses_and_keeps_its_term(pre, silence_ms, granted):
    m = voter()
    m.receive(heartbeat(3))
    m.receive(vote(N2, 9, (9, 9), pre=pre), after_ms=silence_ms)
    assert [r.granted for r in m.sent(VoteReply)] == [granted]
    assert m.core.term == (9 if granted and not pre else 3)


@pytest.mark.parametrize(
    ("forced", "role"),
    [
        pytest.param(False, Role.LEADER, id="a leader refuses"),
        pytest.param(True, Role.FOLLOWER, id="but not whom it, or its like, has sent"),
    ],
)
def test_a_leader_asked_for_a_vote(forced, role):
    m, _ = leader()
    m.receive(vote(N2, 2, (9, 9), forced=forced))
    assert m.core.role is role
    assert [r.granted for r in m.sent(VoteReply)] == [forced]


def test_a_forced_vote_is_given_while_a_leader_is_heard():
    m = voter()
    m.receive(heartbeat(3))
    m.receive(vote(N2, 4, (9, 9), forced=True))
    assert m.sent(VoteReply) == [VoteReply(N0, 4, 4, True, False, holds_log=True)]


def test_a_granted_vote_waits_for_its_leader():
    m = voter()
    m.receive(vote(N1, 4, (9, 9)), after_ms=30)
    assert m.core.deadline_ms == m.now_ms + 1000


def test_a_vote_in_the_own_term_ends_the_own_pre_vote():
    m = member(term=5)
    m.deadline()
    m.receive(vote(N1, 5, (9, 9)))
    assert (m.core.role, [r.granted for r in m.sent(VoteReply)]) == (Role.FOLLOWER, [True])
    m.receive(grant(N2, 6, term=5, pre=True))
    assert m.core.term == 5


def test_candidates_of_one_term_refuse_each_other():
    m = candidate()
    m.receive(vote(N1, 1))
    assert [r.granted for r in m.sent(VoteReply)] == [False]
    assert m.core.role is Role.CANDIDATE


# --- hints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("self_id", "wait_ms"),
    [
        pytest.param(N0, 0, id="first of the rest goes at once"),
        pytest.param(N2, 40, id="the dead leader n1 is not counted"),
        pytest.param(N4, 120, id="the last waits longest"),
    ],
)
def test_after_a_hint_members_go_by_rank(self_id, wait_ms):
    m = member(5, self_id=self_id)
    m.receive(heartbeat(1))
    m.step(PeerDied(N1), after_ms=10)
    assert m.all(RoleChanged) == [RoleChanged(Role.FOLLOWER, 1, None)]
    assert m.core.deadline_ms == m.now_ms + wait_ms


def test_a_hint_clears_the_own_refusal_and_makes_retries_quick():
    m = member()
    m.receive(heartbeat(1))
    m.step(PeerDied(N1))
    m.receive(vote(N2, 2, (9, 9), pre=True))
    assert [r.granted for r in m.sent(VoteReply)] == [True]
    m.deadline()
    assert m.core.deadline_ms - m.now_ms == 50


def test_a_hint_is_over_when_a_leader_is_heard():
    m = member()
    m.receive(heartbeat(1))
    m.step(PeerDied(N1))
    m.receive(heartbeat(1), after_ms=5)
    m.receive(vote(N2, 2, (9, 9), pre=True))
    assert [r.granted for r in m.sent(VoteReply)] == [False]
    m.deadline()
    assert m.core.deadline_ms - m.now_ms == 1000


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda m: m.receive(heartbeat(1, sender=N2)), id="another follower died"),
        pytest.param(lambda m: None, id="no leader is known"),
        pytest.param(lambda m: m.deadline(), id="it asks for votes already"),
    ],
)
def test_hints_that_mean_nothing(prepare):
    m = member()
    prepare(m)
    deadline_ms = m.core.deadline_ms
    m.step(PeerDied(N1))
    assert m.effects == ()
    assert m.core.deadline_ms == deadline_ms


def test_a_push_counts_as_hearing_the_leader():
    m = member()
    m.receive(push())
    m.receive(vote(N2, 2, (9, 9), pre=True))
    assert [r.granted for r in m.sent(VoteReply)] == [False]
