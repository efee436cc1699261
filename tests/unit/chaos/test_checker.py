"""The checker of the chaos runs: silent on what is right, loud on every kind of lie."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.checker import MS, check
from tests.chaos.history import (
    Commit,
    History,
    MaxSeen,
    Outcome,
    ProgressSeen,
    Queue,
    RecordSeen,
    Send,
)

LOST_MS = 250
NODES = ("n0", "n1", "n2")
QUEUES = [Queue("T", 0), Queue("T", 1), Queue("U", 0)]
GROUP = "G"


class Log:
    """A log that keeps its word: each operation takes effect at one moment between its ends."""

    def __init__(self, seed: int, count: int) -> None:
        self.rng = Random(seed)
        self.now_ns = 0
        self.queues: dict[Queue, list[str]] = {queue: [] for queue in QUEUES}
        self.progress: dict[Queue, int] = dict.fromkeys(QUEUES, 0)
        self.history = History()
        for number in range(count):
            self._one(number)
        stored = {q: list(enumerate(values)) for q, values in self.queues.items()}
        self.history.replicas = dict.fromkeys(NODES, stored)

    def _one(self, number: int) -> None:
        rng, queue = self.rng, self.rng.choice(QUEUES)
        # Ends overlap those of neighbours; moments of effect follow each other.
        self.now_ns += rng.randint(1, 40) * MS
        begun_ns = self.now_ns - rng.randint(1, 120) * MS
        ended_ns = self.now_ns + rng.randint(1, 120) * MS
        values, h = self.queues[queue], self.history
        match rng.choice(["send", "send", "send", "max", "record", "commit", "progress"]):
            case "send":
                h.sends.append(self._send(f"v{number}", queue, begun_ns, ended_ns))
            case "max":
                as_leader = rng.random() < 0.7
                told = len(values) if as_leader else rng.randint(0, len(values))
                h.max_seen.append(MaxSeen("n0", as_leader, queue, begun_ns, ended_ns, told))
            case "record" if values:
                at = rng.randrange(len(values))
                h.records_seen.append(
                    RecordSeen(rng.choice(NODES), queue, begun_ns, ended_ns, at, values[at])
                )
            case "commit":
                at = self.progress[queue] = rng.randint(self.progress[queue], len(values))
                h.commits.append(Commit(GROUP, queue, begun_ns, ended_ns, Outcome.OK, at))
            case "progress":
                at = self.progress[queue]
                h.progress_seen.append(ProgressSeen(GROUP, queue, begun_ns, ended_ns, at))

    def _send(self, value: str, queue: Queue, begun_ns: int, ended_ns: int) -> Send:
        values = self.queues[queue]
        outcome = self.rng.choice([Outcome.OK] * 6 + [Outcome.UNKNOWN] * 2 + [Outcome.FAILED])
        offset = len(values) if outcome is Outcome.OK else -1
        if outcome is Outcome.OK or (outcome is Outcome.UNKNOWN and self.rng.random() < 0.5):
            values.append(value)
        return Send("p", value, queue, begun_ns, ended_ns, outcome, offset)


def rules_broken(history: History) -> set[str]:
    return {violation.rule for violation in check(history, lost_progress_ms=LOST_MS)}


@given(st.integers(0, 1 << 32), st.integers(0, 120))
def test_a_log_that_keeps_its_word_is_right(seed: int, count: int) -> None:
    assert check(Log(seed, count).history, lost_progress_ms=LOST_MS) == []


# --- lies -------------------------------------------------------------------------------------

Q = QUEUES[0]


def send(value: str, at_ms: int, offset: int, outcome: Outcome = Outcome.OK, **more: int) -> Send:
    """A send that takes 10 ms."""
    begun_ns, ended_ns = at_ms * MS, (at_ms + more.get("takes_ms", 10)) * MS
    return Send("p", value, Q, begun_ns, ended_ns, outcome, offset)


def good() -> History:
    """a, b and c one after the other, looked at in between."""
    history = History()
    history.sends = [send("a", 0, 0), send("b", 20, 1), send("c", 40, 2)]
    history.max_seen = [MaxSeen("n0", True, Q, (t + 12) * MS, (t + 14) * MS, n) for n, t in
                        ((1, 0), (2, 20), (3, 40))]  # fmt: skip
    history.records_seen = [RecordSeen("n1", Q, 60 * MS, 61 * MS, 1, "b")]
    history.commits = [Commit(GROUP, Q, 70 * MS, 71 * MS, Outcome.OK, 2)]
    history.progress_seen = [ProgressSeen(GROUP, Q, 400 * MS, 401 * MS, 2)]
    history.replicas = {node: {Q: [(0, "a"), (1, "b"), (2, "c")]} for node in NODES}
    return history


def held(*values: str, first: int = 0) -> dict[Queue, list[tuple[int, str]]]:
    return {Q: list(enumerate(values, first))}


def everywhere(*values: str) -> Callable[[History], None]:
    def lie(h: History) -> None:
        h.replicas = {node: held(*values) for node in NODES}

    return lie


def one_replica(*values: str) -> Callable[[History], None]:
    def lie(h: History) -> None:
        h.replicas["n2"] = held(*values)

    return lie


def lost_and_replaced(h: History) -> None:
    h.sends.append(send("d", 60, -1, Outcome.UNKNOWN))
    everywhere("a", "d", "c")(h)


def swapped(h: History) -> None:
    h.sends[0] = replace(h.sends[0], offset=1)
    h.sends[1] = replace(h.sends[1], offset=0)
    h.records_seen.clear()
    h.max_seen.clear()
    everywhere("b", "a", "c")(h)


def unknown_before_its_time(h: History) -> None:
    """It lies before what had been acknowledged when it was begun."""
    h.sends[1] = send("b", 20, -1, Outcome.UNKNOWN)
    h.sends.append(send("z", 0, 2))
    h.sends[2] = send("c", 40, 3)
    h.max_seen.clear()
    everywhere("a", "b", "z", "c")(h)


def stale_leader(h: History) -> None:
    h.max_seen.append(MaxSeen("n2", True, Q, 55 * MS, 56 * MS, 2))


def shorter_than_what_was_shown(h: History) -> None:
    h.sends[2] = send("c", 40, 2, takes_ms=1000)
    h.max_seen.append(MaxSeen("n2", True, Q, 90 * MS, 91 * MS, 2))


def shown_and_gone(h: History) -> None:
    h.sends.append(send("d", 60, -1, Outcome.UNKNOWN))
    h.records_seen.append(RecordSeen("n1", Q, 70 * MS, 71 * MS, 3, "d"))


def progress_lost(h: History) -> None:
    h.progress_seen.append(ProgressSeen(GROUP, Q, (71 + LOST_MS + 1) * MS, 400 * MS, 1))


def refused_and_stored(h: History) -> None:
    h.sends.append(send("d", 60, -1, Outcome.FAILED))
    everywhere("a", "b", "c", "d")(h)


def in_another_queue(h: History) -> None:
    for queues in h.replicas.values():
        queues[QUEUES[1]] = [(0, "c")]


def gap(h: History) -> None:
    for node in NODES:
        h.replicas[node] = {Q: [(0, "a"), (1, "b"), (2, "c"), (4, "e")]}
    h.sends.append(send("e", 60, -1, Outcome.UNKNOWN))


LIES: list[tuple[Callable[[History], None], set[str]]] = [
    (everywhere("a", "b"), {"stored_where_it_was_said"}),
    (one_replica("a", "b"), {"stored_where_it_was_said", "replicas_equal"}),
    (everywhere("a", "b", "x"), {"stored_where_it_was_said", "nothing_unsent"}),
    (everywhere("a", "b", "c", "x"), {"nothing_unsent"}),
    (refused_and_stored, {"nothing_unsent"}),
    (everywhere("a", "b", "c", "b"), {"at_most_once", "real_time_order"}),
    (in_another_queue, {"at_most_once", "nothing_unsent"}),
    (gap, {"offsets_dense"}),
    (lost_and_replaced, {"stored_where_it_was_said", "seen_stays"}),
    (swapped, {"real_time_order"}),
    (unknown_before_its_time, {"real_time_order"}),
    (stale_leader, {"acknowledged_is_visible", "max_never_falls"}),
    (shorter_than_what_was_shown, {"max_never_falls"}),
    (shown_and_gone, {"seen_stays"}),
    (progress_lost, {"progress_kept"}),
]


def test_the_story_without_a_lie_is_right() -> None:
    assert check(good(), lost_progress_ms=LOST_MS) == []


@pytest.mark.parametrize(("lie", "rules"), LIES, ids=lambda x: getattr(x, "__qualname__", ""))
def test_a_lie_is_found(lie: Callable[[History], None], rules: set[str]) -> None:
    history = good()
    lie(history)
    assert rules_broken(history) == rules


def test_every_rule_finds_some_lie() -> None:
    from tests.chaos import checker

    history = good()
    rules = {name for _, names in LIES for name in names}
    told = {v.rule for v in check(history, lost_progress_ms=0)}
    assert not told
    assert rules == {
        name
        for name, rule in vars(checker).items()
        if callable(rule) and getattr(rule, "__module__", "") == checker.__name__
        and name.islower() and not name.startswith("_") and name != "check"
    }  # fmt: skip


@given(st.integers(0, 1 << 32), st.sampled_from(["drop", "alter", "swap", "twice"]))
def test_a_log_that_breaks_its_word_is_found_out(seed: int, how: str) -> None:
    """Whatever it does to one acknowledged message of a long run."""
    log = Log(seed, 150)
    history, rng = log.history, log.rng
    sends = [s for s in history.sends if s.outcome is Outcome.OK]
    chosen = rng.choice(sends)
    stored = {q: list(records) for q, records in history.replicas["n0"].items()}
    records = stored[chosen.queue]
    match how:
        case "drop":
            records[:] = [r for r in records if r[1] != chosen.value]
        case "alter":
            records[chosen.offset] = (chosen.offset, "altered")
        case "swap":
            other = (chosen.offset + 1) % len(records)
            a, b = records[chosen.offset][1], records[other][1]
            records[chosen.offset] = (chosen.offset, b)
            records[other] = (other, a)
        case "twice":
            records.append((len(records), chosen.value))
    history.replicas = dict.fromkeys(NODES, stored)
    is_same = how == "swap" and len(records) == 1
    assert bool(rules_broken(history)) is not is_same


def test_what_is_unknown_may_be_there_or_not() -> None:
    history = good()
    history.sends.append(send("d", 60, -1, Outcome.UNKNOWN))
    assert check(history, lost_progress_ms=LOST_MS) == []
    everywhere("a", "b", "c", "d")(history)
    assert check(history, lost_progress_ms=LOST_MS) == []


def test_an_unknown_send_may_take_effect_long_after() -> None:
    history = good()
    history.sends.append(send("d", 0, -1, Outcome.UNKNOWN))
    everywhere("a", "b", "c", "d")(history)
    assert check(history, lost_progress_ms=LOST_MS) == []


def test_a_follower_may_know_less() -> None:
    history = good()
    history.max_seen.append(MaxSeen("n2", False, Q, 90 * MS, 91 * MS, 1))
    assert check(history, lost_progress_ms=LOST_MS) == []


def test_only_so_many_of_a_kind_are_told() -> None:
    history = good()
    history.sends += [send(f"s{n}", 60, 3 + n, takes_ms=100) for n in range(100)]
    assert len(check(history, lost_progress_ms=LOST_MS)) == 20
