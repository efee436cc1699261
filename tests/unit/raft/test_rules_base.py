"""Where a rule about bases, snapshots and standing begins and ends.

Each of these was a change of the core that no other test noticed (docs/testing.md, "Mutants").
"""

from itertools import pairwise

import pytest

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import Standing
from ledgermq.dledger.raft.effects import Fetch, Role, SendPush, SendSeed
from ledgermq.dledger.raft.events import Appended, BeginMoved, Durable, Fetched, LinkUp
from ledgermq.dledger.raft.log_view import LogView
from ledgermq.dledger.raft.messages import Push, Seed, VoteReply

from .drive import N1, N2, candidate, hear_all, leader, member, synced

BASE = (9, 3)
LOG = ((3, 2), (5, 3))  # 10..11 of term 3, 12..14 of term 5


# --- votes ----------------------------------------------------------------------------------------


def test_stores_that_were_wiped_between_pre_vote_and_vote_elect_nobody() -> None:
    """Two empty stores of three may have held what was committed."""
    m = candidate(log=((1, 3), (2, 3)))
    for peer in (N1, N2):
        m.receive(VoteReply(peer, 3, 3, True, False, Standing.EMPTY, holds_log=False))
    assert m.core.role is Role.CANDIDATE


# --- a log with a base ----------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(9, 15))
def test_runs_rise_strictly_behind_a_base_that_moved(index: int) -> None:
    log = LogView(LOG, *BASE)
    log.move_base(index)
    firsts, terms = log._firsts, log._terms
    assert all(a < b for a, b in pairwise(firsts))
    assert all(a < b for a, b in pairwise(terms))
    assert firsts[:1] == ([index + 1] if index < 14 else [])


def seed(base: tuple[int, int]) -> Seed:
    return Seed(N1, 5, 1, *base, 4000, 77, base[0] + 2, 5, 300, 0)


def test_a_snapshot_may_not_contradict_the_last_committed_entry() -> None:
    with pytest.raises(InvariantError, match="says that entry 12 is of term 3; it is committed"):
        member(base=BASE, log=LOG, commit=12).receive(seed((12, 3)))
    assert member(base=BASE, log=LOG, commit=11).receive(seed((12, 3)))


# --- the leader -----------------------------------------------------------------------------------


def test_a_snapshot_that_reaches_the_end_of_the_log_is_enough() -> None:
    m, sessions = leader(base=BASE, log=LOG)
    session = sessions[N1]
    m.refuse(N1, session, 14, (4, -1))
    assert m.all(SendSeed)
    end = m.core.log.last_index
    m.ack(N1, session, end)
    assert m.core.match_of(N1) == end
    m.step(Appended(1))
    assert [f.first for f in m.all(Fetch) if f.peer == N1] == [end + 1]


def test_a_begin_that_moves_finds_everybody_who_is_behind() -> None:
    """The first follower needs nothing, the second does."""
    m, sessions = synced()
    m.step(Appended(5))
    fetches = {f.peer: f.token for f in m.all(Fetch)}
    m.step(Fetched(N1, fetches[N1], ((1, 5),), 500))
    m.step(Durable(5))
    m.ack(N1, sessions[N1], 5)
    m.step(BeginMoved(5))
    assert m.all(SendSeed) == [SendSeed(N2, sessions[N2])]


def test_a_begin_that_moves_while_a_follower_was_never_connected() -> None:
    m, _ = leader(links=False)
    m.step(LinkUp(N1))
    session = m.session(N1)
    m.refuse(N1, session, 0, (0, -1))
    m.ack(N1, session, -1)
    m.fetch(N1)
    m.ack(N1, session, 0)
    assert m.core.commit == 0
    m.step(BeginMoved(1))
    assert m.effects == ()
    m.step(LinkUp(N2))
    assert [p.prev_index for p in m.sent(Push, N2)] == [0]


def test_a_repeated_probe_asks_for_no_bytes() -> None:
    m, _ = leader(log=((1, 3),))
    repeated: list[SendPush] = []
    while not repeated:
        hear_all(m)
        m.tick(150)
        repeated = [e for e in m.all(SendPush) if e.peer == N1]
    assert [e.token for e in repeated] == [0]
