"""The runs must be able to fail: each test breaks one rule of the product, and a run notices.

Patches of the shipped source with the whole test suite against them are in `tests/mutants/`.
"""

from collections.abc import Callable
from typing import Any

import pytest

from ledgermq.broker.metadata import Metadata
from ledgermq.broker.offset_buffer import OffsetBuffer
from ledgermq.broker.placing import Placing
from ledgermq.broker.store.dispatch import Dispatcher
from ledgermq.dledger.appends import Appends
from ledgermq.dledger.flusher import Flusher
from ledgermq.dledger.ids import Standing
from ledgermq.dledger.raft import events as ev
from ledgermq.dledger.raft import replication
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.hard_state import HardState
from ledgermq.dledger.store.member_store import MemberStore
from ledgermq.dledger.store.segments import Segments

from .run import run_seed

pytestmark = pytest.mark.slow

SEEDS = 60


def caught() -> str:
    """Name of the first rule that any seed breaks."""
    for seed in range(SEEDS):
        violation = run_seed(seed).violation
        if violation:
            return violation
    return "nothing"


def ack_before_fsync(self: Appends) -> None:
    self._step(ev.Durable(self._ledger.end_index))
    self._flusher.request()


def forget_the_vote(self: HardState, term: int, vote: Any, standing: Standing) -> None:
    self.term, self.vote, self.standing = term, vote, standing


def sync_nothing(self: Segments) -> None:
    self._dirty.clear()


def commit_what_one_holds(s: Any) -> None:
    if s.durable >= s.term_first_index:
        s.advance_commit(s.durable)


def believe_every_sync(real: Callable[..., None]) -> Callable[..., None]:
    def done(self: Flusher, future: Any, target: int, epoch: int) -> None:
        real(self, future, min(target, self._ledger.end_index), self._ledger.epoch)

    return done


def show_what_is_written(real: Callable[..., None]) -> Callable[..., None]:
    def committed(self: Dispatcher, index: int) -> None:
        real(self, max(index, self._log.ledger.end_index))

    return committed


def apply_again(real: Callable[..., None]) -> Callable[..., None]:
    def restore(self: Metadata, data: bytes) -> None:
        real(self, data)
        self.offset_version += 1

    return restore


def answer_at_once(real: Callable[..., Any]) -> Callable[..., Any]:
    def place(self: Placing, message: Any, on_done: Any) -> Any:
        result = real(self, message, lambda _: None)
        on_done(result)
        return result

    return place


CASES = [
    pytest.param(
        Appends, "written", ack_before_fsync, {"durable_is_on_disk"}, id="ack before the fsync"
    ),
    pytest.param(Segments, "sync", sync_nothing, {"durable_is_on_disk"}, id="sync nothing"),
    pytest.param(
        HardState, "save", forget_the_vote, {"term_rises", "one_vote_per_term"},
        id="term and vote are not written",
    ),
    pytest.param(
        replication, "evaluate_commit", commit_what_one_holds, {"commit_needs_quorum"},
        id="commit what the leader alone holds",
    ),
    pytest.param(
        MemberStore, "_verdict", lambda self, **_: (Standing.MEMBER, ""),
        {"leader_completeness", "durable_stays", "one_leader_per_term", "unexpected_stop"},
        id="a wiped node votes",
    ),
    pytest.param(
        Flusher, "_done", believe_every_sync, {"durable_is_on_disk"},
        id="a sync from before a cut counts",
    ),
    pytest.param(
        # As messages that a reader gets too early, or as topics that nobody has made yet.
        Dispatcher, "committed", show_what_is_written, {"applied_is_committed", "equal_metadata"},
        id="show what is not committed",
    ),
    pytest.param(
        Metadata, "restore", apply_again, {"equal_metadata"}, id="apply twice after a restart"
    ),
    pytest.param(
        Placing, "place", answer_at_once, {"acks_are_committed"}, id="answer before the commit"
    ),
    pytest.param(
        OffsetBuffer, "flush", lambda self: None,
        {"offsets_survive_sigterm", "offsets_survive_hand_overs"},
        id="consumer offsets stay in memory",
    ),
    pytest.param(
        entry, "check", lambda header, body, chain: header.chain_crc,
        {"log_matching", "durable_stays", "unexpected_stop", "reads_are_true", "convergence",
         "repairs_work"},
        id="checksums are not looked at",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "broken", "rules"), CASES)
def test_a_broken_rule_is_noticed(
    owner: Any, name: str, broken: Any, rules: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wraps = broken.__code__.co_varnames[:1] == ("real",)
    monkeypatch.setattr(owner, name, broken(getattr(owner, name)) if wraps else broken)
    assert caught() in rules
