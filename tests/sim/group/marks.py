"""Rare situations that a run is worth little without; each must come up in many seeds."""

from collections import Counter
from enum import Enum


class Mark(Enum):
    """What came up."""

    TAIL_TRUNCATED = "an uncommitted tail truncated"
    CRASH_BEFORE_SYNC = "a crash between pwrite and fdatasync"
    SYNC_AFTER_CUT = "an fsync that ends after a cut"
    SEED_UNDER_WRITES = "re-seeding under writes"
    TOPIC_ACROSS_FAILOVER = "a topic deleted and re-created across a failover"
    AMNESIAC_ADMITTED = "an amnesiac node admitted again"
    TRANSFER_RACES_ELECTION = "a transfer racing an election"
    CANDIDATES_COLLIDE = "hinted candidates colliding"
    LATE_ACK = "a late ack from an old session dropped"


# Seeds of a CI run in which each must have come up.
LEAST_SEEDS = 20

Marks = Counter[Mark]
