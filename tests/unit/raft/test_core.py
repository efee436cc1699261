import pytest

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NodeId, RaftConfig
from ledgermq.dledger.raft.core import RaftCore
from ledgermq.dledger.raft.effects import Commit, PersistHardState, Role, RoleChanged, SendPush
from ledgermq.dledger.raft.events import LinkUp, Tick
from ledgermq.dledger.raft.log_view import LogView
from ledgermq.dledger.raft.messages import Heartbeat, VoteReply, VoteRequest

from .drive import N0, N1, N2, N4, LeastJitter, heartbeat, leader, member, push, vote

LOG = ((1, 3), (2, 3))


# --- the start ------------------------------------------------------------------------------------


def test_a_fresh_member():
    core = member().core
    assert (core.role, core.term, core.leader, core.commit) == (Role.FOLLOWER, 0, None, -1)
    assert (core.durable, core.log.last_index) == (-1, -1)
    assert core.match_of(N1) == -1
    assert not core.transferring


def test_what_was_recovered_is_durable_but_not_committed():
    core = member(log=LOG).core
    assert (core.durable, core.commit, core.term) == (5, -1, 2)


@pytest.mark.parametrize(
    ("self_id", "deadline_ms"),
    [(N0, 40), (N2, 120), (N4, 200)],
)
def test_after_a_start_members_ask_by_rank(self_id, deadline_ms):
    assert member(5, self_id=self_id).core.deadline_ms == deadline_ms


def test_a_member_must_be_a_voter():
    with pytest.raises(InvariantError, match="n9 is not among the voters"):
        member(self_id=NodeId("n9"))


@pytest.mark.parametrize(
    ("term", "commit"),
    [
        pytest.param(1, -1, id="a term below the log's last"),
        pytest.param(2, 6, id="a commit past the end"),
    ],
)
def test_a_hard_state_that_does_not_fit_the_log_is_refused(term, commit):
    with pytest.raises(InvariantError, match="do not fit a log that ends at index 5, term 2"):
        member(log=LOG, term=term, commit=commit)


def test_the_log_given_is_used():
    log = LogView(LOG)
    core = RaftCore(RaftConfig(N0, (N0,)), LeastJitter(), 0, term=2, log=log)
    assert core.log is log


# --- ticks ----------------------------------------------------------------------------------------


def test_before_its_deadline_a_tick_does_nothing():
    m = member()
    assert m.tick(39) == ()
    assert m.tick(1) != ()


def test_a_stalled_follower_judges_later():
    m = member()
    m.receive(heartbeat(1))
    assert m.tick(5000, stalled=True) == ()
    assert m.core.deadline_ms == m.now_ms + 300
    m.deadline()
    assert m.core.role is Role.CANDIDATE


def test_a_stalled_tick_before_the_deadline_changes_nothing():
    m = member()
    m.receive(heartbeat(1))
    deadline_ms = m.core.deadline_ms
    m.tick(10, stalled=True)
    assert m.core.deadline_ms == deadline_ms


def test_time_never_runs_backwards():
    m = member()
    m.receive(heartbeat(1), after_ms=500)
    m.core.step(100, Tick())
    assert m.core.role is Role.FOLLOWER
    m.core.step(100, Tick())
    assert m.core.deadline_ms == 1500


def test_a_leader_beats_every_150_ms():
    m, _ = leader()
    assert not [*m.tick(149)]
    m.tick(1)
    assert [h.seq for h in m.sent(Heartbeat)] == [2, 2]
    assert m.core.deadline_ms == m.now_ms + 150


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(heartbeat(9, sender=NodeId("n9")), id="a stranger leads"),
        pytest.param(vote(NodeId("n9"), 9, (9, 9)), id="a stranger asks"),
        pytest.param(push(((9, 9),), term=9, sender=NodeId("n9")), id="a stranger pushes"),
        pytest.param(heartbeat(9, sender=N0), id="its own name"),
    ],
)
def test_strangers_are_not_heard(message):
    m = member()
    assert m.receive(message) == ()
    assert m.core.term == 0


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(member, id="a follower"),
        pytest.param(lambda: leader()[0], id="a leader"),
    ],
)
def test_any_higher_term_is_followed(make):
    m = make()
    m.receive(VoteReply(N1, 8, 8, granted=False, pre=False))
    assert m.effects[0] == PersistHardState(8, None)
    assert m.all(RoleChanged) == [RoleChanged(Role.FOLLOWER, 8, None)]
    assert m.core.deadline_ms == m.now_ms + 1000


def test_an_unknown_event_is_a_mistake():
    with pytest.raises(KeyError):
        member().step("tick")


# --- hard state -----------------------------------------------------------------------------------


def test_hard_state_comes_first_and_only_when_it_changed():
    m = member()
    m.receive(vote(N1, 1))
    assert m.effects[0] == PersistHardState(1, N1)
    m.receive(vote(N1, 1))
    assert not m.all(PersistHardState)
    m.receive(heartbeat(1))
    assert not m.all(PersistHardState)


def test_a_vote_cannot_be_taken_back():
    m = member()
    m.receive(vote(N1, 1))
    with pytest.raises(InvariantError, match="term 1 vote n1 cannot become term 1 vote n2"):
        m.core._s.set_term(1, N2)


def test_a_term_cannot_fall():
    m = member(term=4)
    with pytest.raises(InvariantError, match="term 4 vote None cannot become term 3"):
        m.core._s.set_term(3, None)


def test_a_commit_past_the_end_stops_the_node():
    with pytest.raises(InvariantError, match="commit 6 past the end 5"):
        member(log=LOG).core._s.advance_commit(6)


def test_effects_are_handed_out_once():
    m = member()
    m.receive(heartbeat(1))
    assert m.effects
    assert m.tick() == ()


# --- a group of one -------------------------------------------------------------------------------


def test_alone_everything_durable_is_committed():
    m, _ = leader(1)
    assert m.all(Commit) == [Commit(0)]
    assert m.core.lease_until_ms == m.now_ms + 900
    m.tick(100_000)
    assert m.core.role is Role.LEADER


# --- determinism ----------------------------------------------------------------------------------


def test_sessions_open_in_the_order_of_the_voters():
    # Not in that of a set, which differs from process to process: a seed must give the same run.
    m = member(5)
    for peer in ("n4", "n2", "n1", "n3"):
        m.step(LinkUp(NodeId(peer)))
    m.deadline()
    for pre in (True, False):
        for peer in (N1, N2):
            m.receive(VoteReply(peer, m.core.term, 1, True, pre=pre))
    assert [e.peer for e in m.all(SendPush)] == ["n1", "n2", "n3", "n4"]
    assert not m.sent(VoteRequest)
