import pytest

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.raft.effects import AcceptEntries, Commit, PersistHardState, Role, RoleChanged
from ledgermq.dledger.raft.events import AcceptFailed, Durable, PeerDied
from ledgermq.dledger.raft.messages import (
    HeartbeatReply,
    PushReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)

from .drive import N0, N1, N2, heartbeat, leader, member, push, vote

LOG = ((1, 3), (2, 3))  # 0..2 of term 1, 3..5 of term 2


def ack(match, *, term=3, session=1):
    return PushReply(N0, term, session, True, match)


# --- heartbeats -----------------------------------------------------------------------------------


def test_a_heartbeat_is_echoed_and_postpones_the_election():
    m = member()
    m.receive(heartbeat(1, seq=7), after_ms=33)
    assert m.sent(HeartbeatReply, N1) == [HeartbeatReply(N0, 1, 7)]
    assert m.all(RoleChanged)[-1] == RoleChanged(Role.FOLLOWER, 1, N1)
    assert m.core.deadline_ms == 33 + 1000
    m.receive(heartbeat(1, seq=8))
    assert not m.all(RoleChanged), "told once"


def test_a_heartbeat_of_an_older_term_is_answered_with_the_higher_one():
    m = member(term=5)
    deadline_ms = m.core.deadline_ms
    m.receive(heartbeat(4, seq=7))
    assert m.sent(HeartbeatReply) == [HeartbeatReply(N0, 5, 7)]
    assert (m.core.leader, m.core.deadline_ms) == (None, deadline_ms)


def test_a_push_of_an_older_term_is_answered_with_the_higher_one():
    m = member(term=5)
    m.receive(push(((4, 1),), term=4))
    assert m.effects == m.effects[:1]
    assert m.sent(PushReply) == [PushReply(N0, 5, 1, False, -1)]
    assert m.core.log.last_index == -1


@pytest.mark.parametrize("message", [heartbeat(3), push(term=3)], ids=["heartbeat", "push"])
def test_a_candidate_follows_the_leader_of_its_term(message):
    m = member(term=3)
    m.deadline()
    m.receive(message)
    assert (m.core.role, m.core.leader) == (Role.FOLLOWER, N1)


@pytest.mark.parametrize("message", [heartbeat(3), push(term=3)], ids=["heartbeat", "push"])
def test_a_higher_term_is_on_disk_first(message):
    m = member(term=2, vote=N0)
    m.receive(message)
    assert m.effects[0] == PersistHardState(3, None)


def test_two_leaders_in_a_term_stop_the_node():
    m = member()
    m.receive(heartbeat(1))
    with pytest.raises(InvariantError, match="two leaders in term 1: n1 and n2"):
        m.receive(heartbeat(1, sender=N2))


def test_another_leader_in_the_own_term_of_office_stops_the_node():
    m, _ = leader()
    with pytest.raises(InvariantError, match="two leaders in term 1: n0 and n1"):
        m.receive(heartbeat(1))


# --- pushes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "truncate_from", "first", "runs"),
    [
        pytest.param(
            push(((3, 2),), (5, 2), term=3), None, 6, (*LOG, (3, 2)), id="new entries at the end"
        ),
        pytest.param(
            push(((2, 1), (3, 2)), (4, 2), term=3), None, 6, (*LOG, (3, 2)),
            id="what is here already stays, the rest is new",
        ),
        pytest.param(
            push(((3, 1),), (3, 2), term=3), 4, 4, ((1, 3), (2, 1), (3, 1)),
            id="another term: cut from there on",
        ),
        pytest.param(
            push(((1, 1), (3, 1)), (1, 1), term=3), 3, 3, ((1, 3), (3, 1)),
            id="cut only from the first difference",
        ),
        pytest.param(
            push(((3, 1),), term=3), 0, 0, ((3, 1),), id="everything differs"
        ),
    ],
)  # fmt: skip
def test_entries_are_taken(message, truncate_from, first, runs):
    m = member(log=LOG)
    m.receive(message)
    assert m.all(AcceptEntries) == [AcceptEntries(truncate_from, first)]
    assert m.core.log.runs(0, m.core.log.last_index) == runs
    assert not m.sent(PushReply), "the ack waits for the disk"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(push(((2, 2),), (2, 1), term=3), id="a part of what is here"),
        pytest.param(push(((1, 3), (2, 3)), term=3), id="all of it"),
        pytest.param(push((), (2, 1), term=3), id="a probe"),
    ],
)
def test_identical_entries_are_never_cut(message):
    m = member(log=LOG)
    m.receive(message)
    assert not m.all(AcceptEntries)
    assert m.core.log.last_index == 5
    assert m.sent(PushReply) == [ack(message.last_index)]


@pytest.mark.parametrize(
    ("prev", "conflict"),
    [
        pytest.param((9, 3), (6, -1), id="the log is shorter: its end + 1, no term"),
        pytest.param((5, 3), (3, 2), id="another term: that term and its first index"),
        pytest.param((2, 3), (0, 1), id="likewise in the first run"),
    ],
)
def test_a_refusal_says_where_to_look(prev, conflict):
    m = member(log=LOG)
    m.receive(push(((3, 1),), prev, term=3))
    index, term = conflict
    assert m.sent(PushReply) == [
        PushReply(N0, 3, 1, False, -1, prev[0], conflict_term=term, conflict_index=index)
    ]
    assert m.core.log.last_index == 5


def test_a_cut_below_the_commit_stops_the_node():
    m = member(log=LOG, commit=4)
    with pytest.raises(InvariantError, match="would cut index 3, which is committed here"):
        m.receive(push(((3, 1),), (2, 1), term=3))


# --- acks and commit ------------------------------------------------------------------------------


def test_an_ack_is_never_the_log_end():
    m = member(log=LOG)
    m.receive(push((), (2, 1), term=3))
    assert m.sent(PushReply) == [ack(2)], "5 is durable, but only 2 is verified"


def test_an_ack_is_never_more_than_durable():
    m = member()
    m.receive(push(((1, 5),)))
    m.receive(push((), (4, 1)))
    assert m.sent(PushReply) == [ack(-1, term=1)]
    m.step(Durable(2))
    assert m.sent(PushReply) == [ack(2, term=1)]
    m.step(Durable(4))
    assert m.sent(PushReply) == [ack(4, term=1)]


@pytest.mark.parametrize(
    "index",
    [pytest.param(2, id="the same again"), pytest.param(1, id="less than before")],
)
def test_old_news_of_the_disk_is_no_news(index):
    m = member()
    m.receive(push(((1, 5),)))
    m.step(Durable(2))
    m.step(Durable(index))
    assert m.effects == ()
    assert m.core.durable == 2


def test_durable_is_never_past_the_end():
    m = member()
    m.receive(push(((1, 2),)))
    m.step(Durable(9))
    assert m.core.durable == 1


def test_a_cut_takes_durability_back():
    m = member(log=LOG)
    m.receive(push(((3, 4),), (3, 2), term=3))
    assert m.core.durable == 3
    m.step(Durable(7))
    assert m.sent(PushReply) == [ack(7)]


@pytest.mark.parametrize(
    ("verified", "leader_commit", "commit"),
    [
        pytest.param(2, 9, 2, id="never past what is verified"),
        pytest.param(5, 3, 3, id="never past the leader's"),
        pytest.param(5, -1, -1, id="nothing is committed"),
    ],
)
@pytest.mark.parametrize("way", ["push", "heartbeat"])
def test_commit_is_the_lesser_of_both(verified, leader_commit, commit, way):
    m = member(log=LOG)
    prev = (verified, m.core.log.term_at(verified))
    in_push = leader_commit if way == "push" else -1
    m.receive(push((), prev, term=3, commit=in_push))
    if way == "heartbeat":
        m.receive(heartbeat(3, commit=leader_commit))
    assert m.core.commit == commit
    assert m.all(Commit) == ([Commit(commit)] if commit >= 0 else [])


def test_the_log_end_is_not_committed_before_it_is_verified():
    m = member(log=LOG)
    m.receive(heartbeat(3, commit=5))
    assert m.core.commit == -1


def test_commit_never_falls():
    m = member(log=LOG)
    m.receive(push((), (5, 2), term=3, commit=4))
    m.receive(push((), (5, 2), term=3, commit=2))
    assert m.core.commit == 4


def test_new_entries_are_committed_once_they_are_written():
    # The disk may be full: then they are not here, though the leader has committed them.
    m = member()
    m.receive(push(((1, 3),), commit=2))
    assert m.core.commit == -1
    m.step(Durable(0))
    assert m.core.commit == 2, "an fsync of one shows that the push was written"


def test_a_new_term_must_be_verified_anew():
    m = member(log=LOG)
    m.receive(push((), (5, 2), term=3))
    m.receive(heartbeat(4, sender=N2, commit=5))
    assert m.core.commit == -1


# --- sessions -------------------------------------------------------------------------------------


def test_a_push_of_an_old_session_is_ignored():
    m = member(log=LOG)
    m.receive(push((), (5, 2), term=3, session=4))
    m.receive(push(((3, 1),), (5, 2), term=3, session=3))
    assert m.effects == ()
    assert m.core.log.last_index == 5


def test_acks_name_the_newest_session():
    m = member()
    m.receive(push(((1, 2),), session=4))
    m.receive(push((), (1, 1), session=5))
    m.step(Durable(1))
    assert m.sent(PushReply) == [ack(1, term=1, session=5)]


def test_sessions_of_another_leader_start_anew():
    m = member(log=LOG)
    m.receive(push((), (5, 2), term=3, session=9))
    m.receive(push((), (5, 2), term=4, session=1, sender=N2))
    assert m.sent(PushReply, N2) == [PushReply(N0, 4, 1, True, 5)]


@pytest.mark.parametrize(
    "disturb",
    [
        pytest.param(lambda m: m.receive(heartbeat(2)), id="no push in this term yet"),
        pytest.param(lambda m: m.step(PeerDied(N1)), id="no leader is known"),
        pytest.param(lambda m: m.deadline(), id="it asks for votes"),
    ],
)
def test_no_ack_without_a_leader_and_its_push(disturb):
    m = member()
    m.receive(push(((1, 1),)))
    disturb(m)
    m.step(Durable(0))
    assert not m.sent(PushReply)


# --- a full disk ----------------------------------------------------------------------------------


def test_entries_that_cannot_be_written_were_never_here():
    m = member(log=LOG)
    m.receive(push(((2, 1), (3, 2)), (4, 2), term=3, commit=7))
    m.step(AcceptFailed(6))
    assert (m.core.log.last_index, m.core.durable, m.core.commit) == (5, 5, 5)
    m.receive(heartbeat(3, commit=7))
    assert m.core.commit == 5


def test_the_rest_of_the_session_is_ignored_but_not_the_next():
    m = member(log=LOG)
    m.receive(push(((3, 2),), (5, 2), term=3, session=4))
    m.step(AcceptFailed(6))
    m.receive(push(((3, 1),), (7, 3), term=3, session=4))
    assert m.effects == (), "no refusal: the leader would send the same at once"
    m.receive(push((), (5, 2), term=3, session=5))
    assert m.sent(PushReply) == [ack(5, session=5)]
    m.receive(push(((3, 2),), (5, 2), term=3, session=5))
    assert m.all(AcceptEntries)


def test_another_leader_may_try_at_once():
    m = member(log=LOG)
    m.receive(push(((3, 2),), (5, 2), term=3, session=4))
    m.step(AcceptFailed(6))
    m.receive(push((), (5, 2), term=4, session=1, sender=N2))
    assert m.sent(PushReply, N2) == [PushReply(N0, 4, 1, True, 5)]


def test_a_committed_entry_that_cannot_be_written_stops_the_node():
    m = member(log=LOG)
    m.receive(push((), (5, 2), term=3, commit=5))
    with pytest.raises(InvariantError, match="entry 5 is committed but cannot be written"):
        m.step(AcceptFailed(5))


# --- orders ---------------------------------------------------------------------------------------


def test_timeout_now_skips_pre_vote_and_refusal():
    m = member(log=LOG)
    m.receive(heartbeat(3))
    m.receive(TimeoutNow(N1, 3))
    assert m.effects[0] == PersistHardState(4, N0)
    assert [(r.for_term, r.pre, r.forced) for r in m.sent(VoteRequest)] == [(4, False, True)] * 2
    m.receive(VoteReply(N2, 4, 4, True, pre=False))
    assert m.core.role is Role.LEADER


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(TimeoutNow(N1, 2), id="an old term"),
        pytest.param(TimeoutNow(N2, 3), id="not from the leader"),
        pytest.param(TimeoutNow(N2, 4), id="a higher term, but no leader of it yet"),
    ],
)
def test_orders_that_do_not_count(order):
    m = member(log=LOG)
    m.receive(heartbeat(3))
    m.receive(order)
    assert m.core.role is Role.FOLLOWER
    assert not m.sent(VoteRequest)


def test_an_order_read_twice_is_obeyed_once():
    m = member(log=LOG)
    m.receive(heartbeat(3))
    m.receive(TimeoutNow(N1, 3))
    m.receive(TimeoutNow(N1, 3))
    assert (m.effects, m.core.term) == ((), 4)


def test_a_vote_request_does_not_make_anyone_forget_the_leader():
    m = member(log=LOG)
    m.receive(heartbeat(3))
    m.receive(vote(N2, 9, (9, 9)))
    assert (m.core.leader, m.core.term) == (N1, 3)
