"""A member that comes back gives no vote before the lease has run out that may count on it.

Ongaro's dissertation 6.4: a lease rests on followers that give no vote for a while. A restart
must not make a follower forget that it heard a leader a moment ago.
"""

from typing import Any

import pytest

from ledgermq.dledger.ids import RaftConfig
from ledgermq.dledger.raft.core import RaftCore
from ledgermq.dledger.raft.events import Received
from ledgermq.dledger.raft.log_view import LogView
from ledgermq.dledger.raft.messages import VoteReply

from .drive import N0, N1, N2, LeastJitter, Member, heartbeat, vote

LOG = ((1, 2), (3, 1))
LAST = (2, 3)


def started_now(**kwargs: Any) -> Member:
    """A process that starts now; those of `drive.member` have started long ago."""
    return Member(RaftCore(RaftConfig(N0, (N0, N1, N2)), LeastJitter(), 0, **kwargs))


def restarted() -> Member:
    return started_now(term=3, vote=N1, log=LogView(LOG))


def answers(m: Member, *, pre: bool, after_ms: int) -> VoteReply:
    m.step(Received(vote(N2, 4, LAST, pre=pre)), after_ms)
    (reply,) = m.sent(VoteReply)
    return reply


@pytest.mark.parametrize("pre", [True, False], ids=["pre-vote", "vote"])
@pytest.mark.parametrize(
    ("after_ms", "granted"),
    [
        pytest.param(0, False, id="at once"),
        pytest.param(899, False, id="while a lease may last"),
        pytest.param(900, True, id="when it has run out"),
    ],
)
def test_a_restarted_member_waits_before_it_votes(pre: bool, after_ms: int, granted: bool) -> None:
    m = restarted()
    reply = answers(m, pre=pre, after_ms=after_ms)
    assert reply.granted is granted
    assert m.core.term == (4 if granted and not pre else 3)


def test_nor_does_it_stand_before() -> None:
    m = restarted()
    assert m.core.deadline_ms == 900 + 40  # its rank comes on top
    assert m.tick(939) == ()
    assert m.tick(1) != ()


def test_a_member_that_never_heard_anybody_votes_at_once() -> None:
    m = started_now()
    m.step(Received(vote(N2, 1)))
    assert [r.granted for r in m.sent(VoteReply)] == [True]


def test_a_leader_heard_after_the_restart_counts_from_then() -> None:
    m = restarted()
    m.receive(heartbeat(3), after_ms=600)
    assert answers(m, pre=False, after_ms=999).granted is False
    assert answers(m, pre=False, after_ms=1).granted is True


def test_a_forced_vote_does_not_wait() -> None:
    m = restarted()
    m.step(Received(vote(N2, 4, LAST, forced=True)))
    assert [r.granted for r in m.sent(VoteReply)] == [True]
