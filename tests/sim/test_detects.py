"""The random runs must be able to fail: each test breaks one rule of the core and is caught."""

from typing import Any

import pytest

from ledgermq.dledger.ids import NONE, Standing
from ledgermq.dledger.raft import admission, candidate, core, follower, replication
from ledgermq.dledger.raft.effects import Role
from ledgermq.dledger.raft.messages import PushReply, VoteReply
from ledgermq.dledger.raft.progress import Progress
from ledgermq.dledger.raft.quorum import Grant, quorum_value
from ledgermq.dledger.raft.state import RaftState

from .invariants import ViolationError
from .test_random import run_seed

SEEDS = 400


def caught(seeds: range = range(SEEDS)) -> str:
    """Name of the first invariant that any seed breaks."""
    for seed in seeds:
        try:
            run_seed(seed)
        except ViolationError as e:
            return e.name
        except AssertionError:
            return "assertion"
    return "nothing"


def ack_log_end(s: RaftState) -> None:
    if s.leader is not None and s.push_session != NONE:
        end = s.log.last_index
        s.send(s.leader, PushReply(s.config.self_id, s.term, s.push_session, True, end))


def ack_durable_unverified(s: RaftState) -> None:
    if s.leader is not None and s.push_session != NONE:
        s.send(s.leader, PushReply(s.config.self_id, s.term, s.push_session, True, s.durable))


def commit_own_log_end(s: RaftState) -> None:
    matches = [p.match for p in s.progress.values()]
    index = quorum_value([*matches, s.log.last_index], s.config.quorum)
    if index >= s.term_first_index:
        s.advance_commit(index)


def count_every_ack(claims: list[tuple[Standing | None, int]], quorum: int) -> int:
    return quorum_value([value for _, value in claims], quorum)


def count_every_vote(own: Standing, grants: list[Grant], voters: int, quorum: int) -> bool:
    return len(grants) >= quorum


def admit_without_barrier(s: RaftState, p: Progress, standing: Standing, in_session: bool) -> None:
    p.standing = standing
    p.barrier = NONE


def be_member_when_elected(s: RaftState) -> None:
    s.standing = Standing.MEMBER
    replication._commit(s)
    admission.admit(s, again=False)


def count_pre_votes_as_votes(s: RaftState, m: VoteReply) -> None:
    if s.role is Role.CANDIDATE and m.granted:
        granted = s.pre_granted if s.pre_voting else s.granted
        granted[m.sender] = Grant(m.standing, m.holds_log)
        count = candidate._count_pre_votes if s.pre_voting else candidate._count_votes
        count(s)


@pytest.mark.parametrize(
    ("module", "name", "broken", "invariants"),
    [
        pytest.param(
            candidate, "_up_to_date", lambda s, m: True,
            {"leader_completeness", "committed_stays"}, id="votes for a shorter log",
        ),
        pytest.param(
            follower, "acknowledge", ack_log_end, {"durable_acks"}, id="acks what is not durable",
        ),
        pytest.param(
            follower, "acknowledge", ack_durable_unverified,
            {"verified_acks", "commit_needs_quorum"},
            id="acks what is not verified",
        ),
        pytest.param(
            replication, "evaluate_commit", commit_own_log_end, {"commit_needs_quorum"},
            id="counts itself before its fsync",
        ),
        pytest.param(
            replication, "ask_again", lambda s: None, {"convergence", "liveness"},
            id="never asks for a lost ack",
        ),
        pytest.param(
            replication, "group_value", count_every_ack, {"commit_needs_quorum"},
            id="counts the acks of those that forgot",
        ),
        pytest.param(
            candidate, "elects", count_every_vote,
            {"leader_completeness", "one_leader_per_term", "committed_never_changes"},
            id="counts the votes of those that forgot",
        ),
        pytest.param(
            replication, "evaluate_commit", be_member_when_elected,
            {"commit_needs_quorum", "liveness"},
            id="counts itself before it committed anything",
        ),
        pytest.param(
            admission, "heard", admit_without_barrier, {"admission_is_complete"},
            id="admits at once",
        ),
    ],
)  # fmt: skip
def test_a_broken_rule_is_caught(
    module: Any, name: str, broken: Any, invariants: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, broken)
    assert caught() in invariants


def test_a_vote_that_is_not_written_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sim.store.SimStore.save_hard_state", lambda s, t, v, standing: None)
    assert caught() in {"durable_votes", "persisted_term", "persisted_standing"}


def test_an_answer_to_another_question_counted_as_a_vote_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(core._MESSAGES, VoteReply, count_pre_votes_as_votes)
    assert caught() in {"one_leader_per_term", "leader_completeness"}


def test_a_vote_just_after_a_restart_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rare: two members must restart while the leader is cut off and its lease still runs.
    monkeypatch.setattr(core, "LEASE_SHARE", 0)
    assert caught(range(500, 510)) == "lease_is_exclusive"


def test_a_vote_while_a_leader_is_heard_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rare: the others' refusals and the pre-vote must fail to help as well.
    monkeypatch.setattr(RaftState, "hears_leader", lambda s: False)
    assert caught(range(1300, 1310)) == "lease_is_exclusive"
