"""Where a rule of the core begins and ends, to the millisecond, the index and the byte.

Each of these was a change of the core that no other test noticed (docs/testing.md, "Mutants").
"""

from typing import Any

import pytest

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import Timing
from ledgermq.dledger.raft.core import RaftCore
from ledgermq.dledger.raft.effects import Commit, Fetch, SendPush, TransferWanted
from ledgermq.dledger.raft.events import (
    AcceptFailed,
    Appended,
    Durable,
    Fetched,
    LinkDown,
    LinkUp,
    PeerDied,
    TransferRequested,
)
from ledgermq.dledger.raft.messages import Push, PushReply, TimeoutNow, VoteReply, VoteRequest

from .drive import (
    N0,
    N1,
    N2,
    LeastJitter,
    Member,
    candidate,
    echo,
    hear_all,
    heartbeat,
    leader,
    member,
    push,
    synced,
    vote,
)

LOG = ((1, 3), (2, 3))  # 0..2 of term 1, 3..5 of term 2


def only(items: list[Any]) -> Any:
    (item,) = items
    return item


# --- the start ------------------------------------------------------------------------------------


def test_a_member_without_any_past() -> None:
    fresh = member().core
    core = RaftCore(fresh._s.config, LeastJitter(), 0)
    assert (core.term, core.commit, core.log.last_index, core.log.last_term) == (0, -1, -1, -1)
    assert core.deadline_ms == 40  # its rank; nobody's lease can count on it


def test_what_nobody_has_led_has_no_first_index() -> None:
    assert member().core.term_first_index == 0


# --- votes ----------------------------------------------------------------------------------------


def test_a_vote_is_asked_for_in_exactly_these_words() -> None:
    m = candidate(log=LOG)
    asked = only(m.sent(VoteRequest, N1))
    assert (asked.term, asked.for_term, asked.last_index, asked.last_term) == (3, 3, 5, 2)
    assert (asked.pre, asked.forced) == (False, False)


def test_the_jitter_after_a_hint_is_half_a_rank() -> None:
    asked: list[tuple[int, int]] = []

    class Watched(LeastJitter):
        def randint(self, a: int, b: int) -> int:
            asked.append((a, b))
            return b

    m = member(self_id=N2)
    m.core._s.rng = Watched()
    m.receive(heartbeat(1))
    asked.clear()
    m.step(PeerDied(N1))
    assert (0, 20) in asked
    assert m.core.deadline_ms == m.now_ms + 40 + 20


def test_a_vote_in_the_own_term_forgets_nothing_of_its_leader() -> None:
    """It had no vote in the term of a leader it followed, and gives it to one that stood too."""
    m = member(log=LOG)
    m.receive(push(((3, 1),), (5, 2), term=3, session=4))
    m.receive(vote(N2, 3, (6, 3)), after_ms=1000)
    assert only(m.sent(VoteReply)).granted
    m.step(Durable(6))
    assert [(r.session, r.match) for r in m.sent(PushReply, N1)] == [(4, 6)]
    m.receive(push((), (2, 1), term=3, session=3))
    assert m.sent(PushReply) == [], "still the same session"


# --- entries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commit", "stops"), [pytest.param(3, True, id="it"), pytest.param(2, False, id="before it")]
)
def test_the_committed_entry_itself_is_never_cut(commit: int, stops: bool) -> None:
    m = member(log=LOG, commit=commit)
    cut = push(((3, 1),), (2, 1), term=3)  # another entry 3
    if not stops:
        assert m.receive(cut)
        return
    with pytest.raises(InvariantError, match="would cut index 3, which is committed here"):
        m.receive(cut)


@pytest.mark.parametrize(
    ("first", "stops"),
    [pytest.param(5, True, id="it"), pytest.param(6, False, id="the next one")],
)
def test_the_committed_entry_itself_is_always_written(first: int, stops: bool) -> None:
    m = member(log=LOG)
    m.receive(push((), (5, 2), term=3, commit=5))
    if not stops:
        m.receive(push(((3, 1),), (5, 2), term=3))
        m.step(AcceptFailed(first))
        return
    with pytest.raises(InvariantError, match="entry 5 is committed but cannot be written"):
        m.step(AcceptFailed(first))


def test_what_lies_before_a_failed_write_stays_verified() -> None:
    m = member(log=LOG)
    m.receive(push(((2, 3), (3, 2)), (2, 1), term=3))  # 3..5 are here, 6..7 are new
    m.step(AcceptFailed(6))
    m.receive(heartbeat(3, commit=7))
    assert m.all(Commit) == [Commit(5)]


def test_a_refused_append_names_its_terms() -> None:
    with pytest.raises(InvariantError, match="append of 1 at term 1 behind term 2"):
        member(log=LOG).core.log.append(1, 1)


# --- the leader's pushes --------------------------------------------------------------------------


def test_a_push_without_entries_asks_for_no_bytes() -> None:
    m, _ = leader(log=LOG, noop=False)
    m.step(LinkUp(N1))
    probe = only(m.all(SendPush))
    assert (probe.peer, probe.token, probe.push.runs) == (N1, 0, ())


def test_nor_does_the_question_for_a_lost_ack() -> None:
    m, _ = synced()
    m.step(Appended(1))
    m.fetch(N1)
    m.tick(150)
    m.tick(150)
    again = only([e for e in m.all(SendPush) if e.peer == N1])
    assert (again.token, again.push.runs, again.push.prev_index) == (0, (), 1)


def test_the_last_byte_of_the_window_is_used() -> None:
    m, _ = synced(max_in_flight_bytes=101)
    m.step(Appended(2))
    fetch = only([f for f in m.all(Fetch) if f.peer == N1])
    m.step(Fetched(N1, fetch.token, ((1, 1),), 100))
    assert [(f.first, f.max_bytes) for f in m.all(Fetch) if f.peer == N1] == [(2, 1)]


def test_bytes_of_the_session_before_are_not_sent_in_the_next() -> None:
    """A read may be under way in a thread while the connection breaks and comes back."""
    m, _ = synced()
    m.step(Appended(1))
    late = only([f for f in m.all(Fetch) if f.peer == N1])
    m.step(LinkDown(N1))
    m.step(LinkUp(N1))
    session = m.session(N1)
    m.refuse(N1, session, 1, (1, -1))
    m.ack(N1, session, 0)
    now = only([f for f in m.all(Fetch) if f.peer == N1])
    assert now.token != late.token
    m.step(Fetched(N1, late.token, ((1, 1),), 100))
    assert m.effects == ()
    m.step(Fetched(N1, now.token, ((1, 1),), 100))
    assert [p.last_index for p in m.sent(Push, N1)] == [1]


def test_fetches_of_two_followers_are_told_apart() -> None:
    m, _ = synced()
    m.step(Appended(1))
    tokens = [f.token for f in m.all(Fetch)]
    assert len(set(tokens)) == 2
    assert 0 not in tokens


def probes_of(m: Member, *peers: Any) -> list[Any]:
    return [e.peer for e in m.all(SendPush) if e.peer in peers]


def test_a_probe_is_repeated_only_after_the_minimum_timeout() -> None:
    m, _ = leader(log=LOG)
    start_ms = m.now_ms
    asked: list[int] = []
    while m.now_ms < start_ms + 1800:
        hear_all(m)
        m.tick(150)
        asked += [m.now_ms - start_ms for _ in probes_of(m, N1)]
    assert asked == [1050]


def test_a_probe_is_late_when_more_than_the_timeout_has_passed() -> None:
    m, _ = leader(log=LOG, timing=Timing(heartbeat_ms=200))
    for _ in range(4):
        hear_all(m)
        m.tick(200)
    hear_all(m)
    m.tick(200)  # 1000 ms exactly
    assert probes_of(m, N1) == []
    hear_all(m)
    m.tick(200)
    assert probes_of(m, N1) == [N1]


def test_a_follower_that_is_not_connected_hides_no_other() -> None:
    m, _ = synced()
    m.step(Appended(1))
    m.fetch(N2)
    m.step(LinkDown(N1))
    m.tick(150)
    hear_all(m)
    m.tick(150)
    assert probes_of(m, N1, N2) == [N2]


@pytest.mark.parametrize(
    ("prev", "answers"),
    [
        pytest.param(2, True, id="the last sent"),
        pytest.param(3, False, id="never sent"),
    ],
)
def test_a_refusal_of_what_was_never_sent_answers_nothing(prev: int, answers: bool) -> None:
    m, sessions = synced()
    m.step(Appended(2))  # 1 and 2
    m.fetch(N1)
    m.refuse(N1, sessions[N1], prev, (1, -1))
    assert bool(m.effects) is answers


# --- the office -----------------------------------------------------------------------------------


def test_a_heartbeat_counts_until_the_longest_timeout_has_passed() -> None:
    timing = Timing(heartbeat_ms=200)
    for rounds, counts in ((10, True), (11, False)):
        m, _ = leader(timing=timing)
        sent_ms = m.now_ms
        seq = m.core._s.heartbeat_seq
        for _ in range(rounds):
            hear_only_acks(m)
            m.tick(200)
        m.receive(echo(N1, 1, seq))
        assert (m.core.lease_until_ms == sent_ms + 900) is counts


def hear_only_acks(m: Member) -> None:
    """Signs of life that are no echoes."""
    for peer in (N1, N2):
        m.ack(peer, 99, -1)


def test_the_death_of_one_that_was_ordered_nothing() -> None:
    m, _ = synced()
    m.step(PeerDied(N1))
    assert m.effects == ()


@pytest.mark.parametrize("best", [N1, N2])
def test_who_holds_most_takes_over(best: Any) -> None:
    m, sessions = synced()
    m.step(Appended(1))
    m.fetch(best)
    m.ack(best, sessions[best], 1)
    m.step(TransferRequested())
    assert m.sent(TimeoutNow, best)
    assert len(m.sent(TimeoutNow)) == 1


@pytest.mark.parametrize(
    ("silent_ms", "able"),
    [
        pytest.param(499, True, id="just heard"),
        pytest.param(500, False, id="silent for half a timeout"),
    ],
)
def test_who_was_heard_lately_takes_over(silent_ms: int, able: bool) -> None:
    m, _ = synced()
    m.now_ms += silent_ms
    m.step(TransferRequested())
    assert m.core.transferring is able


def test_the_calm_ends_to_the_millisecond() -> None:
    for waited_ms, gives_way in ((9_999, False), (10_000, True)):
        m, _ = synced(preferred=(N2,))
        m.core._s.calm_since_ms = m.now_ms + 150 - waited_ms
        hear_all(m)
        m.tick(150)
        assert bool(m.all(TransferWanted)) is gives_way


def test_alone_nobody_is_asked() -> None:
    m, _ = leader(1)
    assert m.core._s.config.self_id == N0
    m.tick(150)
    assert m.effects == ()
