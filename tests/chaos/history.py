"""What clients did and saw during a chaos run: the only thing that the checker believes.

Times are of one monotonic clock, in ns. An operation whose answer never came, or left open what
became of it, is UNKNOWN: it may have taken effect at any time after it was begun, or never.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Queue(NamedTuple):
    """A queue of a topic; `queue_id` from 0."""

    topic: str
    queue_id: int


class Outcome(Enum):
    """How an operation ended for who asked."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Send:
    """One attempt to append one message; its value is sent once and by nobody else.

    Attributes:
        producer: who sent it.
        value: the message's body.
        queue: where it was to go.
        begun_ns: before the request was written.
        ended_ns: when the answer had been read; meaningless when UNKNOWN.
        outcome: FAILED only when it surely was not stored.
        offset: queue offset in the answer; -1: there was none.
    """

    producer: str
    value: str
    queue: Queue
    begun_ns: int
    ended_ns: int
    outcome: Outcome
    offset: int = -1


@dataclass(frozen=True, slots=True)
class MaxSeen:
    """A node told where a queue ends: the offset of its next message."""

    node: str
    as_leader: bool
    queue: Queue
    begun_ns: int
    ended_ns: int
    max_offset: int


@dataclass(frozen=True, slots=True)
class RecordSeen:
    """A node showed a message."""

    node: str
    queue: Queue
    begun_ns: int
    ended_ns: int
    offset: int
    value: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A consumer told how far its group is: it will read `offset` next."""

    group: str
    queue: Queue
    begun_ns: int
    ended_ns: int
    outcome: Outcome
    offset: int


@dataclass(frozen=True, slots=True)
class ProgressSeen:
    """A consumer asked how far its group is."""

    group: str
    queue: Queue
    begun_ns: int
    ended_ns: int
    offset: int


@dataclass(slots=True)
class History:
    """One run.

    Attributes:
        replicas: node -> queue -> what it held after everything was healed: (offset, value) in
            the order in which it was read.
    """

    sends: list[Send] = field(default_factory=list)
    max_seen: list[MaxSeen] = field(default_factory=list)
    records_seen: list[RecordSeen] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    progress_seen: list[ProgressSeen] = field(default_factory=list)
    replicas: dict[str, dict[Queue, list[tuple[int, str]]]] = field(default_factory=dict)
