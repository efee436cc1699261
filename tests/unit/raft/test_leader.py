import pytest

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.raft.effects import (
    AppendNoop,
    Commit,
    Fetch,
    Role,
    RoleChanged,
    SendPush,
)
from ledgermq.dledger.raft.events import (
    Appended,
    Durable,
    Fetched,
    LinkDown,
    LinkUp,
)
from ledgermq.dledger.raft.messages import Heartbeat, Push, VoteReply

from .drive import N0, N1, N2, echo, hear_all, leader, member, synced

LOG = ((1, 3), (4, 2), (6, 3))  # 0..2 of term 1, 3..4 of term 4, 5..7 of term 6


# --- taking office --------------------------------------------------------------------------------


def test_the_first_acts_of_a_leader():
    m, _ = leader(log=LOG, noop=False)
    assert m.all(RoleChanged)[-1] == RoleChanged(Role.LEADER, 7, N0)
    assert m.all(AppendNoop) == [AppendNoop(7)]
    assert [h.commit for h in m.sent(Heartbeat)] == [-1, -1], "heartbeats leave at once"
    probes = m.sent(Push)
    assert [(p.prev_index, p.prev_term, p.runs) for p in probes] == [(7, 6, ())] * 2
    assert m.core.term_first_index == 8
    assert m.core.deadline_ms == m.now_ms + 150


def test_sessions_of_all_followers_differ():
    _, sessions = leader(5)
    assert len(set(sessions.values())) == 4


def test_without_links_nothing_is_pushed():
    m, _ = leader(links=False)
    assert not m.sent(Push)
    m.step(Appended(3))
    assert m.effects == ()


# --- probing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conflict", "prev"),
    [
        pytest.param((3, -1), (2, 1), id="a short log: after its end"),
        pytest.param((0, -1), (-1, -1), id="an empty log: from the start"),
        pytest.param((5, 4), (4, 4), id="a term that is here too: after the last of it"),
        pytest.param((2, 1), (2, 1), id="likewise"),
        pytest.param((3, 3), (2, 1), id="a term that is not here: before the follower's first"),
        pytest.param((0, 0), (-1, -1), id="nothing in common"),
        pytest.param((99, 5), (6, 6), id="nonsense still moves back by one"),
        pytest.param((-7, -1), (-1, -1), id="a negative index is the start"),
    ],
)
def test_a_refusal_moves_the_probe_back(conflict, prev):
    m, sessions = leader(log=LOG)
    m.refuse(N1, sessions[N1], 7, conflict)
    probe = m.sent(Push, N1)
    assert [(p.prev_index, p.prev_term, p.runs) for p in probe] == [(*prev, ())]


def test_the_walk_back_takes_one_step_per_term():
    # The follower has 3..7 of terms 2 and 3, of which the leader has nothing.
    m, sessions = leader(log=LOG)
    m.refuse(N1, sessions[N1], 7, (6, 3))
    assert m.sent(Push)[0].prev_index == 5
    m.refuse(N1, sessions[N1], 5, (3, 2))
    assert m.sent(Push)[0].prev_index == 2
    m.ack(N1, sessions[N1], 2)
    assert [f.first for f in m.all(Fetch)] == [3]


def test_one_probe_at_a_time():
    m, _ = leader(log=LOG)
    m.step(Appended(1))
    assert not m.sent(Push)


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(6, id="not the probe that is out"),
        pytest.param(8, id="nothing that was sent"),
        pytest.param(-1, id="before everything"),
    ],
)
def test_refusals_that_answer_nothing(refused):
    m, sessions = leader(log=LOG)
    m.refuse(N1, sessions[N1], refused, (3, -1))
    assert m.effects == ()


def test_a_probe_without_an_answer_is_repeated_after_the_minimum_timeout():
    m, sessions = leader(log=LOG)
    for _ in range(6):
        m.tick(150)
        m.receive(echo(N1, 7, 1))
        m.receive(echo(N2, 7, 1))
    m.tick(150)
    again = m.sent(Push, N1)
    assert [(p.prev_index, p.session) for p in again] == [(7, sessions[N1])]


def test_a_refusal_in_the_middle_of_the_stream_starts_the_search_again():
    m, sessions = synced(log=LOG)
    m.step(Appended(2))
    m.fetch(N1)
    m.refuse(N1, sessions[N1], 8, (5, -1))
    assert m.effects == (), "not below what it has acked"
    m.step(Appended(2))
    m.fetch(N1)
    m.refuse(N1, sessions[N1], 10, (9, -1))
    assert [(p.prev_index, p.runs) for p in m.sent(Push, N1)] == [(8, ())]


# --- replication ----------------------------------------------------------------------------------


def test_entries_follow_the_match():
    m, sessions = leader(log=LOG)
    m.ack(N1, sessions[N1], 4)
    assert [(f.first, f.max_bytes) for f in m.all(Fetch)] == [(8, 1 << 20)]
    push = m.fetch(N1)
    assert (push.prev_index, push.prev_term, push.runs) == (7, 6, ((7, 1),))


def test_pushes_are_pipelined():
    m, _ = synced()
    for count in (1, 2):
        m.step(Appended(count))
        m.fetch(N1)
    assert m.sent(Push, N1)[0].prev_index == 1


def test_one_fetch_at_a_time():
    m, _ = synced()
    m.step(Appended(1))
    m.step(Appended(1))
    assert not m.all(Fetch)


def test_a_full_window_waits_for_an_ack():
    m, sessions = synced(max_in_flight_bytes=1000, max_batch_bytes=600)
    m.step(Appended(5))
    assert [f.max_bytes for f in m.all(Fetch)] == [600, 600]
    token = next(f.token for f in m.all(Fetch) if f.peer == N1)
    m.step(Fetched(N1, token, ((1, 2),), 600))
    assert [f.max_bytes for f in m.all(Fetch)] == [400], "the rest of the window"
    m.step(Fetched(N1, m.all(Fetch)[0].token, ((1, 1),), 400))
    assert not m.all(Fetch)
    m.ack(N1, sessions[N1], 2)
    assert [(f.first, f.max_bytes) for f in m.all(Fetch)] == [(4, 600)]


def test_an_older_ack_moves_nothing_back():
    m, sessions = synced()
    for _ in range(2):
        m.step(Appended(1))
        m.fetch(N1)
        m.ack(N1, sessions[N1], m.core.log.last_index)
    m.ack(N1, sessions[N1], 1)
    assert m.core.match_of(N1) == 2
    m.step(Appended(1))
    assert [f.first for f in m.all(Fetch) if f.peer == N1] == [3]


def test_an_ack_of_what_was_never_sent_is_ignored():
    m, sessions = leader(log=LOG)
    m.ack(N1, sessions[N1], 8)
    assert m.core.match_of(N1) == -1


def test_bytes_that_are_not_the_log_stop_the_node():
    m, _ = synced()
    m.step(Appended(2))
    token = next(f.token for f in m.all(Fetch) if f.peer == N1)
    with pytest.raises(InvariantError, match="bytes fetched for n1 from 1"):
        m.step(Fetched(N1, token, ((9, 2),), 100))


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda m: m.step(LinkUp(N1)), id="a new session"),
        pytest.param(lambda m: m.step(LinkDown(N1)), id="the link is down"),
        pytest.param(lambda m: m.receive(echo(N2, 9, 1)), id="no longer leader"),
    ],
)
def test_bytes_that_come_too_late_are_not_sent(end):
    m, _ = synced()
    m.step(Appended(1))
    fetch = next(f for f in m.all(Fetch) if f.peer == N1)
    end(m)
    m.step(Fetched(N1, fetch.token, ((1, 1),), 100))
    assert m.effects == ()


def test_a_follower_that_appends_stops_the_node():
    with pytest.raises(InvariantError, match="3 entries appended by a FOLLOWER"):
        member().step(Appended(3))


# --- sessions -------------------------------------------------------------------------------------


def test_a_new_session_starts_at_nothing():
    m, sessions = synced()
    m.step(LinkUp(N1))
    assert m.core.match_of(N1) == -1
    assert m.session(N1) > max(sessions.values())
    assert [p.runs for p in m.sent(Push, N1)] == [()]


def test_acks_of_an_old_session_are_dropped():
    m, sessions = leader()
    m.step(LinkUp(N1))
    m.ack(N1, sessions[N1], -1)
    assert m.effects == ()
    assert m.core.match_of(N1) == -1


def test_acks_while_the_link_is_down_are_dropped():
    m, sessions = synced()
    m.step(Appended(1))
    m.fetch(N1)
    m.step(LinkDown(N1))
    m.ack(N1, sessions[N1], 1)
    assert m.core.match_of(N1) == 0


def test_links_of_a_follower_are_remembered_until_it_leads():
    m = member()
    m.step(LinkUp(N1))
    m.step(LinkUp(N2))
    m.step(LinkDown(N2))
    assert m.effects == ()
    m.deadline()
    m.receive(VoteReply(N2, 0, 1, True, pre=True))
    m.receive(VoteReply(N2, 1, 1, True, pre=False))
    assert [e.peer for e in m.all(SendPush)] == [N1]


def test_a_link_that_comes_up_later_opens_a_session():
    m, _ = leader(links=False)
    m.step(LinkUp(N1))
    assert [e.peer for e in m.all(SendPush)] == [N1]


# --- lost acks ------------------------------------------------------------------------------------


def test_a_lost_ack_is_asked_for():
    m, sessions = synced()
    m.step(Appended(1))
    m.fetch(N1)
    m.tick(150)
    assert not m.sent(Push), "it may still come"
    hear_all(m)
    m.tick(150)
    question = m.sent(Push, N1)
    assert [(p.prev_index, p.runs, p.session) for p in question] == [(1, (), sessions[N1])]
    m.ack(N1, sessions[N1], 1)
    hear_all(m)
    m.tick(150)
    assert not m.sent(Push)


def test_who_is_not_connected_is_not_asked():
    m, _ = synced()
    m.step(Appended(1))
    m.fetch(N1)
    m.step(LinkDown(N1))
    for _ in range(3):
        hear_all(m)
        m.tick(150)
        assert not m.sent(Push)


# --- commit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durable", "acks", "commit"),
    [
        pytest.param(8, (7,), -1, id="entries of older terms alone are not committed"),
        pytest.param(8, (8,), 8, id="an own entry commits all before it"),
        pytest.param(9, (8, 9), 9, id="what two of three hold"),
        pytest.param(7, (8,), -1, id="the leader counts only what is on its disk"),
        pytest.param(7, (8, 9), 8, id="two followers are a majority too"),
    ],
)
def test_commit_needs_a_quorum_and_an_entry_of_the_term(durable, acks, commit):
    m, sessions = leader(log=LOG, noop=False)
    m.step(Appended(2))
    m.step(Durable(durable))
    for peer, match in zip((N1, N2), acks, strict=False):
        m.ack(peer, sessions[peer], 7)
        m.fetch(peer)
        m.ack(peer, sessions[peer], match)
    assert m.core.commit == commit


def test_the_own_fsync_may_be_the_last_to_count():
    m, sessions = leader(noop=False)
    m.step(Appended(1))
    m.ack(N1, sessions[N1], -1)
    m.fetch(N1)
    m.ack(N1, sessions[N1], 0)
    assert m.core.commit == -1
    m.step(Durable(0))
    assert m.all(Commit) == [Commit(0)]


def test_followers_learn_the_commit_with_the_next_heartbeat():
    m, _ = synced()
    m.tick(150)
    assert [h.commit for h in m.sent(Heartbeat)] == [0, 0]
