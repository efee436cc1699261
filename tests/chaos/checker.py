"""Judges a history. Pure: it knows nothing of brokers, only what clients were told and saw.

Each rule gives the violations that it finds; a run is right when there are none. `test_checker.py`
shows for every rule a history that lies in just that way.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

from .history import History, MaxSeen, Outcome, ProgressSeen, Queue, Send

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

MS = 1_000_000
# Of one rule at most so many are told.
MOST = 20


class Violation(NamedTuple):
    """A rule that was broken, and how."""

    rule: str
    text: str


Rule = Callable[[History], Iterator[str]]


def check(history: History, *, lost_progress_ms: int) -> list[Violation]:
    """All violations.

    Args:
        history: of a run that has ended, with everything healed and read at the end.
        lost_progress_ms: what a consumer group may forget of its progress, by the time at which
            it was told to the broker.
    """
    rules: dict[str, Rule] = {
        "stored_where_it_was_said": stored_where_it_was_said,
        "nothing_unsent": nothing_unsent,
        "at_most_once": at_most_once,
        "offsets_dense": offsets_dense,
        "replicas_equal": replicas_equal,
        "real_time_order": real_time_order,
        "acknowledged_is_visible": acknowledged_is_visible,
        "max_never_falls": max_never_falls,
        "seen_stays": seen_stays,
        "progress_kept": lambda h: progress_kept(h, lost_progress_ms * MS),
    }
    return [
        Violation(name, text)
        for name, rule in rules.items()
        for _, text in zip(range(MOST), rule(history), strict=False)
    ]


def stored_where_it_was_said(h: History) -> Iterator[str]:
    """An acknowledged message is at its place on every replica."""
    places = _places(h)
    for send in h.sends:
        if send.outcome is not Outcome.OK:
            continue
        for node, held in places.items():
            found = held.get((send.queue, send.offset))
            if found != send.value:
                what = "nothing" if found is None else repr(found)
                yield f"{_said(send)} and {node} has {what} there"


def nothing_unsent(h: History) -> Iterator[str]:
    """Whatever is read was sent, to that queue, and not refused."""
    allowed = {(s.queue, s.value) for s in h.sends if s.outcome is not Outcome.FAILED}
    for queue, offset, value, where in _all_read(h):
        if (queue, value) not in allowed:
            yield f"{where} has {value!r} at {offset} of {_name(queue)}: nobody sent that there"


def at_most_once(h: History) -> Iterator[str]:
    """What was sent once is stored once."""
    for node, queues in h.replicas.items():
        first: dict[str, tuple[Queue, int]] = {}
        for queue, records in queues.items():
            for offset, value in records:
                before = first.setdefault(value, (queue, offset))
                if before != (queue, offset):
                    yield (
                        f"{node} has {value!r} at {before[1]} of {_name(before[0])} and at"
                        f" {offset} of {_name(queue)}"
                    )


def offsets_dense(h: History) -> Iterator[str]:
    """Offsets of a queue rise by one."""
    for node, queues in h.replicas.items():
        for queue, records in queues.items():
            for (before, _), (offset, _) in pairwise(records):
                if offset != before + 1:
                    yield f"{node}: {offset} follows {before} in {_name(queue)}"


def replicas_equal(h: History) -> Iterator[str]:
    """Nodes that are at rest hold the same."""
    nodes = list(h.replicas)
    for node in nodes[1:]:
        first, other = h.replicas[nodes[0]], h.replicas[node]
        for queue in sorted({*first, *other}):
            mine, theirs = first.get(queue, []), other.get(queue, [])
            if mine != theirs:
                at = next(
                    (n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b),
                    min(len(mine), len(theirs)),
                )
                yield (
                    f"{_name(queue)} differs from message {at} on: {nodes[0]} has"
                    f" {mine[at : at + 1]}, {node} has {theirs[at : at + 1]}"
                )


def real_time_order(h: History) -> Iterator[str]:
    """What was acknowledged before something else was begun lies before it.

    Holds for a queue as soon as each send took effect at one moment between its two ends.
    """
    for queue, stored in _stored_sends(h).items():
        latest: Send | None = None  # of those with smaller offsets, the one begun last
        for offset, send in stored:
            acknowledged = send.outcome is Outcome.OK
            if latest is not None and acknowledged and send.ended_ns < latest.begun_ns:
                yield (
                    f"{_name(queue)}: {send.value!r} at {offset} was acknowledged before"
                    f" {latest.value!r} was sent, which lies before it"
                )
            if latest is None or send.begun_ns > latest.begun_ns:
                latest = send


def acknowledged_is_visible(h: History) -> Iterator[str]:
    """A leader that is asked after an acknowledgement knows of the message."""
    known: dict[Queue, list[Known]] = defaultdict(list)
    for send in h.sends:
        if send.outcome is Outcome.OK:
            known[send.queue].append(Known(send.ended_ns, send.offset + 1))
    for seen, least in _below(_asked_of_leaders(h), known):
        yield f"{_told(seen)}, and the message at {least - 1} had been acknowledged"


def max_never_falls(h: History) -> Iterator[str]:
    """Who asks a leader later sees no shorter queue."""
    known: dict[Queue, list[Known]] = defaultdict(list)
    for seen in h.max_seen:
        if seen.as_leader:
            known[seen.queue].append(Known(seen.ended_ns, seen.max_offset))
    for record in h.records_seen:
        known[record.queue].append(Known(record.ended_ns, record.offset + 1))
    for later, least in _below(_asked_of_leaders(h), known):
        yield f"{_told(later)}, and {least} had been seen before"


def seen_stays(h: History) -> Iterator[str]:
    """A message that was shown is there at the end, on every replica."""
    places = _places(h)
    for seen in h.records_seen:
        for node, held in places.items():
            found = held.get((seen.queue, seen.offset))
            if found != seen.value:
                yield (
                    f"{seen.node} showed {seen.value!r} at {seen.offset} of {_name(seen.queue)};"
                    f" at the end {node} has {'nothing' if found is None else repr(found)} there"
                )


def progress_kept(h: History, lost_ns: int) -> Iterator[str]:
    """A group goes on where it was, but for what it told in the last moments."""
    known: dict[tuple[str, Queue], list[Known]] = defaultdict(list)
    for commit in h.commits:
        if commit.outcome is Outcome.OK:
            known[commit.group, commit.queue].append(
                Known(commit.ended_ns + lost_ns, commit.offset)
            )
    asked: dict[tuple[str, Queue], list[Asked[ProgressSeen]]] = defaultdict(list)
    for seen in h.progress_seen:
        asked[seen.group, seen.queue].append(Asked(seen.begun_ns, seen.offset, seen))
    for late, least in _below(asked, known):
        yield f"{late.group} is at {late.offset} of {_name(late.queue)}, and had told {least}"


# --- inside -----------------------------------------------------------------------------------


class Known(NamedTuple):
    """From some moment on a number is at least so large."""

    from_ns: int
    least: int


class Asked(NamedTuple, Generic[T]):
    """A number, as an answer told it to a question that was begun at some moment."""

    begun_ns: int
    number: int
    answer: T


def _below(
    asked: Mapping[K, list[Asked[T]]], known: Mapping[K, list[Known]]
) -> Iterator[tuple[T, int]]:
    """Answers that are smaller than what was known when they were asked for, and that number."""
    for key, answers in asked.items():
        facts = deque(sorted(known.get(key, [])))
        least = 0
        for question in sorted(answers, key=lambda a: a.begun_ns):
            while facts and facts[0].from_ns < question.begun_ns:
                least = max(least, facts.popleft().least)
            if question.number < least:
                yield question.answer, least


def _asked_of_leaders(h: History) -> dict[Queue, list[Asked[MaxSeen]]]:
    asked: dict[Queue, list[Asked[MaxSeen]]] = defaultdict(list)
    for seen in h.max_seen:
        if seen.as_leader:
            asked[seen.queue].append(Asked(seen.begun_ns, seen.max_offset, seen))
    return asked


def _told(seen: MaxSeen) -> str:
    return f"{seen.node} said {seen.max_offset} for {_name(seen.queue)}"


def _places(h: History) -> dict[str, dict[tuple[Queue, int], str]]:
    return {
        node: {(q, offset): value for q, records in queues.items() for offset, value in records}
        for node, queues in h.replicas.items()
    }


def _all_read(h: History) -> Iterable[tuple[Queue, int, str, str]]:
    for node, queues in h.replicas.items():
        for queue, records in queues.items():
            for offset, value in records:
                yield queue, offset, value, node
    for seen in h.records_seen:
        yield seen.queue, seen.offset, seen.value, seen.node


def _stored_sends(h: History) -> dict[Queue, list[tuple[int, Send]]]:
    """Sends that are stored, by place: where any replica has them, or where the answer said."""
    by_value = {send.value: send for send in h.sends}
    found: dict[Queue, dict[int, Send]] = defaultdict(dict)
    for send in h.sends:
        if send.outcome is Outcome.OK:
            found[send.queue].setdefault(send.offset, send)
    for queues in h.replicas.values():
        for queue, records in queues.items():
            for offset, value in records:
                if value in by_value:
                    found[queue].setdefault(offset, by_value[value])
    return {queue: sorted(sends.items()) for queue, sends in found.items()}


def _said(send: Send) -> str:
    return f"{send.value!r} was acknowledged at {send.offset} of {_name(send.queue)}"


def _name(queue: Queue) -> str:
    return f"{queue.topic}/{queue.queue_id}"
