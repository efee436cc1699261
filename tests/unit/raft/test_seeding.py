"""Logs that do not begin at 0, and followers that need what is gone."""

import pytest

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import Standing
from ledgermq.dledger.raft.effects import (
    AcceptEntries,
    Commit,
    Fetch,
    PersistHardState,
    Role,
    SendPush,
    SendSeed,
    TakeSeed,
)
from ledgermq.dledger.raft.events import (
    AcceptFailed,
    Appended,
    BeginMoved,
    Durable,
    Fetched,
    LinkDown,
    LinkUp,
    PeerDied,
    Seeded,
)
from ledgermq.dledger.raft.messages import Push, PushReply, Seed, SeedReply, VoteReply

from .drive import N0, N1, N2, echo, hear_all, heartbeat, leader, member, push, synced, vote

BASE = (9, 3)  # 0..9 are gone; the last of them was of term 3
LOG = ((3, 2), (5, 3))  # 10..11 of term 3, 12..14 of term 5


def seed(base=(9, 3), *, term=5, session=1, sender=N1, offset=0):
    return Seed(sender, term, session, *base, 4000, 77, base[0] + 2, 5, 300, offset)


# --- the start ------------------------------------------------------------------------------------


def test_what_is_before_the_base_is_committed_and_durable():
    core = member(base=BASE).core
    assert (core.commit, core.durable, core.log.last_index, core.log.last_term) == (9, 9, 9, 3)


def test_a_stored_commit_behind_the_base_is_kept():
    assert member(base=BASE, log=LOG, commit=12).core.commit == 12


def test_a_base_above_the_stored_term_is_refused():
    with pytest.raises(InvariantError, match="do not fit a log that ends at index 9, term 3"):
        member(base=BASE, term=2)


# --- a follower with a base -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "first", "match"),
    [
        pytest.param(push((), (9, 3), term=5), None, 9, id="a probe at the base"),
        pytest.param(push((), (4, 1), term=5), None, 4, id="a probe before it"),
        pytest.param(push(((1, 2),), (4, 1), term=5), None, 6, id="entries before it"),
        pytest.param(push(((3, 5),), (4, 1), term=5), None, 9, id="entries up to it"),
        pytest.param(push(((3, 7),), (4, 1), term=5), None, 11, id="entries across it, all here"),
        pytest.param(push(((3, 7), (4, 1)), (4, 1), term=5), 12, None, id="across it, some new"),
        pytest.param(push(((3, 1), (5, 1)), (9, 3), term=5), 11, None, id="another term behind it"),
    ],
)
def test_pushes_around_the_base(message, first, match):
    m = member(base=BASE, log=LOG)
    m.receive(message)
    assert [e.first for e in m.all(AcceptEntries)] == ([] if first is None else [first])
    assert [r.match for r in m.sent(PushReply)] == ([] if match is None else [match])


@pytest.mark.parametrize(
    ("prev", "conflict"),
    [
        pytest.param((15, 5), (15, -1), id="past the end"),
        pytest.param((13, 4), (12, 5), id="another term"),
        pytest.param((10, 4), (10, 3), id="a term that began before the base"),
        pytest.param((9, 4), (9, 3), id="the base itself"),
    ],
)
def test_refusals_of_a_log_with_a_base(prev, conflict):
    m = member(base=BASE, log=LOG)
    m.receive(push((), prev, term=5))
    reply = m.sent(PushReply)[0]
    assert (reply.success, reply.conflict_index, reply.conflict_term) == (False, *conflict)


def test_a_leader_with_another_base_entry_stops_the_node():
    m = member(base=BASE, log=LOG)
    with pytest.raises(InvariantError, match="would cut index 9, which is committed here"):
        m.receive(push(((1, 5), (4, 1)), (3, 1), term=5))


# --- the begin moves ------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [10, 11, 13, 15])
def test_the_begin_moves_up_to_the_commit(index):
    m = member(base=(7, 3), log=((3, 4), (5, 3)), commit=14)
    term = m.core.log.term_at(index - 1)
    m.step(BeginMoved(index))
    assert (m.core.log.base_index, m.core.log.base_term) == (index - 1, term)
    assert (m.core.log.last_index, m.core.durable, m.effects) == (14, 14, ())


def test_an_older_begin_is_no_news():
    m = member(base=BASE, log=LOG, commit=14)
    m.step(BeginMoved(5))
    assert m.core.log.base_index == 9


def test_only_committed_entries_go():
    m = member(base=BASE, log=LOG, commit=11)
    with pytest.raises(InvariantError, match="the log begins at 13, its commit is 11"):
        m.step(BeginMoved(13))


def test_what_a_snapshot_stands_for_is_durable():
    m = member()
    m.receive(push(((1, 5),)))
    m.step(Durable(1))
    m.receive(push((), (4, 1), commit=4))
    m.step(BeginMoved(4))
    assert m.core.durable == 3


# --- the leader -----------------------------------------------------------------------------------


def lagging(conflict=(4, -1)):
    """A leader whose log begins at 10, and that has heard where n1's ends."""
    m, sessions = leader(base=BASE, log=LOG)
    m.refuse(N1, sessions[N1], 14, conflict)
    return m, sessions[N1]


@pytest.mark.parametrize(
    "conflict",
    [
        pytest.param((4, -1), id="its log ends before the base"),
        pytest.param((0, -1), id="its log is empty"),
        pytest.param((9, -1), id="it lacks the base"),
        pytest.param((2, 1), id="another term from before the base on"),
    ],
)
def test_who_needs_what_is_gone_is_sent_a_snapshot(conflict):
    m, session = lagging(conflict)
    assert m.all(SendSeed) == [SendSeed(N1, session)]
    assert not m.all(SendPush)


@pytest.mark.parametrize(
    ("conflict", "prev"),
    [
        pytest.param((10, -1), (9, 3), id="its log ends at the base"),
        pytest.param((8, 3), (11, 3), id="the term of the base"),
        pytest.param((11, 4), (10, 3), id="a term between"),
    ],
)
def test_who_holds_the_base_is_not(conflict, prev):
    m, _ = lagging(conflict)
    assert not m.all(SendSeed)
    assert [(p.prev_index, p.prev_term) for p in m.sent(Push, N1)] == [prev]


def test_one_snapshot_a_session():
    m, session = lagging()
    m.step(Appended(1))
    m.refuse(N1, session, 14, (4, -1))
    m.refuse(N1, session, 9, (4, -1))
    m.receive(SeedReply(N1, 6, session, 100))
    assert not [e for e in m.effects if getattr(e, "peer", None) == N1]
    m.step(LinkDown(N1))
    m.step(LinkUp(N1))
    m.refuse(N1, m.session(N1), 16, (4, -1))
    assert [e.peer for e in m.all(SendSeed)] == [N1]


def test_a_snapshot_is_followed_by_what_is_behind_its_base():
    m, session = lagging()
    m.ack(N1, session, 9)
    assert [(f.first, f.last) for f in m.all(Fetch)] == [(10, 15)]
    assert m.core.match_of(N1) == 9


def test_an_ack_from_before_the_snapshot_does_not_end_it():
    m, session = lagging()
    m.ack(N1, session, 8)
    m.ack(N1, session, 99)
    assert (m.effects, m.core.match_of(N1)) == ((), -1)


def test_a_part_that_arrived_is_a_sign_of_life():
    m, session = lagging()
    m.tick(900)
    m.receive(SeedReply(N1, 6, session, 100))
    m.tick(900)
    assert m.core.role is Role.LEADER
    m.receive(SeedReply(N1, 7, session, 100))
    assert m.core.role is Role.FOLLOWER
    assert m.receive(SeedReply(N1, 7, session, 100)) == ()


def test_whether_the_snapshot_is_there_is_asked():
    m, session = lagging()
    asked = []
    for _ in range(16):
        m.tick(150)
        asked += [(p.prev_index, p.prev_term, p.runs) for p in m.sent(Push, N1)]
        m.receive(echo(N1, 6, 1))
    assert asked == [(9, 3, ())] * 2, "once a minimum timeout"
    for end in (4, 9):
        m.refuse(N1, session, 9, (end, -1))
        assert m.effects == (), "not yet"
    m.ack(N1, session, 9)
    assert m.all(Fetch)


def test_the_begin_moves_while_a_snapshot_is_under_way():
    m, _sessions = synced(base=BASE, log=LOG)
    m.step(LinkUp(N1))
    session = m.session(N1)
    m.refuse(N1, session, 15, (4, -1))
    m.step(BeginMoved(13))
    assert m.effects == (), "the first goes on"
    m.ack(N1, session, 9)
    assert m.all(SendSeed) == [SendSeed(N1, session)], "but will not do"
    m.ack(N1, session, 9)
    assert m.effects == ()
    m.ack(N1, session, 12)
    assert [f.first for f in m.all(Fetch)] == [13]


def test_an_older_snapshot_whose_ack_was_lost_is_replaced_by_a_newer():
    m, _sessions = synced(base=BASE, log=LOG)
    m.step(LinkUp(N1))
    session = m.session(N1)
    m.refuse(N1, session, 15, (4, -1))
    m.step(BeginMoved(13))
    m.refuse(N1, session, 12, (10, -1))
    assert m.all(SendSeed) == [SendSeed(N1, session)]
    m.refuse(N1, session, 12, (10, -1))
    assert m.effects == ()


def token_of(m, peer):
    """The fetch under way."""
    return m.core._s.progress[peer].fetch_token


@pytest.mark.parametrize("fetched", [True, False], ids=["pushes under way", "a fetch under way"])
def test_the_begin_passes_a_slow_follower(fetched):
    m, sessions = synced()
    m.step(Appended(5))
    n1 = token_of(m, N1)
    if fetched:
        m.step(Fetched(N1, n1, ((1, 2),), 200))
    m.step(Fetched(N2, token_of(m, N2), ((1, 5),), 500))
    m.step(Durable(5))
    m.ack(N2, sessions[N2], 5)
    assert m.core.commit == 5
    m.step(BeginMoved(5))
    assert m.all(SendSeed) == [SendSeed(N1, sessions[N1])]
    m.step(Fetched(N1, n1, ((1, 2),), 200))
    assert m.effects == (), "bytes that come too late"
    for _ in range(6):
        hear_all(m)
        m.tick(150)
        assert not m.sent(Push, N1), "it is asked once a minimum timeout, not with every heartbeat"
    hear_all(m)
    m.tick(150)
    assert [p.prev_index for p in m.sent(Push, N1)] == [4]


def test_the_begin_reaches_a_slow_follower_and_does_not_pass_it():
    m, sessions = synced()
    m.step(Appended(5))
    m.step(Fetched(N2, token_of(m, N2), ((1, 5),), 500))
    m.step(Durable(5))
    m.ack(N2, sessions[N2], 5)
    m.step(BeginMoved(1))
    assert m.effects == (), "the fetch under way goes on"
    m.step(Fetched(N1, token_of(m, N1), ((1, 5),), 500))
    assert [(p.prev_index, p.runs) for p in m.sent(Push, N1)] == [(0, ((1, 5),))]


def test_who_is_not_connected_is_sent_nothing():
    m, sessions = synced()
    m.step(Appended(3))
    m.step(Durable(3))
    m.step(LinkDown(N1))
    m.step(Fetched(N2, token_of(m, N2), ((1, 3),), 300))
    m.ack(N2, sessions[N2], 3)
    m.step(BeginMoved(4))
    assert m.effects == ()
    m.step(LinkUp(N1))
    assert [p.prev_index for p in m.sent(Push, N1)] == [3]


def test_a_session_opened_behind_an_empty_log_probes_at_its_base():
    m, sessions = leader(base=BASE, noop=False)
    assert sessions
    assert m.core.term_first_index == 10


# --- the follower ---------------------------------------------------------------------------------


def test_parts_are_kept_and_nothing_is_said():
    m = member(log=((1, 3),))
    m.receive(seed())
    assert m.all(TakeSeed) == [TakeSeed(seed())]
    assert not m.sent(PushReply)
    m.receive(seed(offset=100))
    assert m.effects == (TakeSeed(seed(offset=100)),)


def test_a_snapshot_begins_the_log_anew():
    m = member(log=((1, 3),), standing=Standing.EMPTY)
    m.receive(seed())
    assert m.core.wants_seed(seed())
    m.step(Seeded(1, 9, 3))
    assert m.sent(PushReply) == [PushReply(N0, 5, 1, True, 9, standing=Standing.EMPTY)]
    assert not m.all(Commit), "what the snapshot stands for is applied already"
    log = m.core.log
    assert (log.base_index, log.base_term, log.last_index) == (9, 3, 9)
    assert (m.core.durable, m.core.commit) == (9, 9)
    assert not m.core.wants_seed(seed())
    m.receive(push(((3, 1), (5, 2)), (9, 3), term=5, commit=11))
    assert m.all(AcceptEntries) == [AcceptEntries(None, 10)]
    m.step(Durable(12))
    assert m.all(Commit) == [Commit(11)]
    assert [r.match for r in m.sent(PushReply)] == [12]


@pytest.mark.parametrize(
    ("base", "log"),
    [
        pytest.param((9, 3), LOG, id="it is the own base"),
        pytest.param((9, 3), (), id="likewise, with nothing behind"),
        pytest.param((5, 2), LOG, id="the own base is later"),
        pytest.param((11, 3), LOG, id="it is in the log"),
    ],
)
def test_who_has_the_base_needs_no_snapshot(base, log):
    m = member(base=BASE, log=log)
    m.receive(seed(base, term=6))
    assert not m.all(TakeSeed)
    assert m.sent(PushReply) == [PushReply(N0, 6, 1, True, base[0])]


def test_a_base_that_is_written_but_not_durable_is_acknowledged_later():
    m = member()
    m.receive(push(((3, 10),), term=5))
    m.receive(seed())
    assert [r.match for r in m.sent(PushReply)] == [-1]
    m.step(Durable(9))
    assert [r.match for r in m.sent(PushReply)] == [9]


def test_an_old_leader_is_told_the_term():
    m = member(term=6)
    m.receive(seed())
    assert m.sent(PushReply) == [PushReply(N0, 6, 1, False, -1)]
    assert m.core.leader is None


def test_a_snapshot_is_a_sign_of_the_leader():
    m = member()
    m.receive(seed())
    assert m.effects[0] == PersistHardState(5, None)
    assert m.core.leader == N1
    m.receive(vote(N2, 9, (99, 9), pre=True))
    assert [r.granted for r in m.sent(VoteReply)] == [False]


def test_parts_of_an_old_session_are_ignored():
    m = member()
    m.receive(seed(session=4))
    m.receive(seed(session=3))
    assert m.effects == ()


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(lambda m: m.receive(push(term=5, session=2)), id="a new session"),
        pytest.param(lambda m: m.receive(heartbeat(6, sender=N2)), id="another leader"),
        pytest.param(
            lambda m: m.receive(push(term=6, session=1, sender=N2)), id="its session of that number"
        ),
        pytest.param(
            lambda m: m.receive(push(((1, 5), (3, 5)), term=5)), id="the entries came after all"
        ),
        pytest.param(
            lambda m: (m.receive(push(((1, 1),), term=5)), m.step(AcceptFailed(0))), id="no room"
        ),
    ],
)
def test_a_snapshot_that_is_no_longer_wanted(happens):
    m = member()
    m.receive(seed())
    happens(m)
    assert not m.core.wants_seed(seed())


def test_silence_of_the_leader_does_not_spoil_a_snapshot():
    # It would never be sent again in this session.
    m = member()
    m.receive(seed())
    m.step(PeerDied(N1))
    m.deadline()
    assert m.core.role is Role.CANDIDATE
    assert m.core.wants_seed(seed())
    m.step(Seeded(1, 9, 3))
    assert (m.core.commit, m.sent(PushReply)) == (9, [])


@pytest.mark.parametrize(
    "m",
    [
        pytest.param(member(log=((1, 12),), commit=10), id="before the commit"),
        pytest.param(member(log=((1, 12),), commit=9), id="the last that is committed"),
        pytest.param(member(base=(9, 2), log=((2, 1),)), id="the own base"),
    ],
)
def test_a_base_that_contradicts_a_committed_entry_stops_the_node(m):
    with pytest.raises(InvariantError, match="says that entry 9 is of term 3; it is committed"):
        m.receive(seed())


def test_a_base_that_contradicts_an_uncommitted_one_is_taken():
    m = member(log=((1, 12),), commit=8)
    m.receive(seed())
    assert m.all(TakeSeed)
    m.step(Seeded(1, 9, 3))
    assert (m.core.log.last_index, m.core.durable) == (9, 9)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(Seeded(2, 9, 3), id="of a session that is not"),
        pytest.param(Seeded(1, 4, 1), id="up to what is verified"),
        pytest.param(Seeded(1, 2, 1), id="up to what is committed"),
    ],
)
def test_a_log_that_was_emptied_unasked_stops_the_node(event):
    m = member(log=((1, 5),), commit=2)
    m.receive(push((), (4, 1), term=5))
    m.receive(seed())
    with pytest.raises(InvariantError, match="the log was emptied up to"):
        m.step(event)
