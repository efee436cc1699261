"""The words of the log, and what a group agrees on."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

NodeId = NewType("NodeId", str)

# Terms and indexes are plain ints in byte loops; -1 stands for "none" in both. The first elected
# term is 1, the first index is 0.
NONE = -1
# Before every moment that a clock can show.
NEVER_MS = -(1 << 60)


class Standing(IntEnum):
    """Whether what a member remembers can be relied on; kept on its disk with term and vote.

    Only a MEMBER's vote and acknowledgement count in a majority. The others count where all voters
    agree, and become MEMBER again when a leader admits them (docs/adr/0002).
    """

    MEMBER = 0
    # The store was just made: new, or wiped; nobody can tell which.
    EMPTY = 1
    # The end of the log may lack entries that this member had acknowledged.
    LOST = 2
    # Entries are broken that were known to be on the disk.
    DAMAGED = 3


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds that a group lives by.

    Invariant: heartbeat_ms * 3 <= election_min_ms < election_max_ms; else a busy machine elects.
    """

    heartbeat_ms: int = 150
    election_min_ms: int = 1000
    election_max_ms: int = 2000
    # A candidate that was told of the leader's death waits rank times this.
    hint_rank_ms: int = 40
    hint_retry_min_ms: int = 50
    hint_retry_max_ms: int = 150
    # For so long after a start or a hint, retries are quick.
    hint_span_ms: int = 5000
    # A leader gives way to a preferred one after so much quiet.
    preferred_calm_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """What one member must know of its group.

    Invariant: self_id is in voters; voters are sorted.
    """

    self_id: NodeId
    voters: tuple[NodeId, ...]
    timing: Timing = Timing()
    preferred: tuple[NodeId, ...] = ()
    # Per follower: entries sent and not yet acknowledged.
    max_in_flight_bytes: int = 8 << 20
    max_batch_bytes: int = 1 << 20

    @property
    def quorum(self) -> int:
        """Members that make a majority."""
        return len(self.voters) // 2 + 1

    @property
    def peers(self) -> tuple[NodeId, ...]:
        """The other members."""
        return tuple(v for v in self.voters if v != self.self_id)
