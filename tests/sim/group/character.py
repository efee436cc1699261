"""What a seed decides before the run begins: the group, its disks, its weather, its troubles."""

from dataclasses import dataclass
from random import Random

KIB = 1 << 10

# Kinds of trouble that a seed may like best.
TASTES = ("network", "disk", "process", "mixed", "operator")


@dataclass(frozen=True, slots=True)
class Character:
    """One seed's.

    Attributes:
        nodes: 3 or 5.
        sync_flush: an entry counts after its fsync; without it a loss of power on a majority voids
            the promise.
        may_void: whether such a loss may happen in this run.
        early: trouble begins before the group has formed.
        segment_bytes: of the log's files.
        queue_bytes: of a queue's files.
        latency_us: least and most of a packet.
        frame_loss: share of control frames that are lost.
        frame_duplication: share that arrives twice.
        slow_us: what each write and sync of a disk takes more than usual.
        miss_chance: of a read that the page cache cannot answer.
        snapshot_s: time between two snapshots.
        pace_ms: mean time between two pieces of work.
        fault_ms: mean time between two faults.
        taste: kind of trouble that comes most.
        preferred: whether n0 is preferred as leader.
    """

    nodes: int
    sync_flush: bool
    may_void: bool
    early: bool
    segment_bytes: int
    queue_bytes: int
    latency_us: tuple[int, int]
    frame_loss: float
    frame_duplication: float
    slow_us: int
    miss_chance: float
    snapshot_s: float
    pace_ms: int
    fault_ms: int
    taste: str
    preferred: bool


def draw(rng: Random) -> Character:
    """The character of a run."""
    sync_flush = rng.random() < 0.85
    return Character(
        nodes=5 if rng.random() < 0.12 else 3,
        sync_flush=sync_flush,
        may_void=not sync_flush and rng.random() < 0.4,
        early=rng.random() < 0.2,
        segment_bytes=rng.choice((32, 48, 64, 128)) * KIB,
        queue_bytes=20 * rng.choice((16, 50, 200)),
        latency_us=(50, rng.choice((300, 1000, 1000, 5000, 30_000))),
        frame_loss=rng.choice((0.0, 0.0, 0.01, 0.1)),
        frame_duplication=rng.choice((0.0, 0.0, 0.02, 0.1)),
        slow_us=rng.choice((0, 0, 0, 1000, 5000)),
        miss_chance=rng.choice((0.0, 0.1, 0.5)),
        snapshot_s=rng.choice((2.0, 5.0, 15.0)),
        pace_ms=rng.choice((120, 180, 260)),
        fault_ms=rng.choice((450, 550, 650)),
        taste=rng.choice(TASTES),
        preferred=rng.random() < 0.1,
    )
