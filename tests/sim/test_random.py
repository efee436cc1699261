"""Seeded random runs. A failure prints its seed, the event and what led to it.

`LEDGERMQ_SIM_SEED=0x5f1c` reruns one seed, `LEDGERMQ_SIM_SEEDS=5000` runs more of them.
"""

import os
from random import Random

import pytest

from ledgermq.dledger.ids import Standing

from .harness import Cluster
from .invariants import require
from .nemesis import Nemesis, weather
from .store import SimStore

STEPS = 1500
SEEDS_PER_TEST = 15
HEAL_LIMIT_MS = 3000
CONVERGE_LIMIT_MS = 10_000


def make_cluster(seed: int) -> Cluster:
    """A cluster whose whole fate the seed decides."""
    rng = Random(seed)
    size = rng.choice((3, 3, 3, 5, 5, 2, 4))
    # A new group, or one that an operator has started.
    standing = rng.choice((Standing.EMPTY, Standing.MEMBER, Standing.MEMBER))
    cluster = Cluster(
        size,
        rng,
        weather(rng),
        max_in_flight_bytes=rng.choice((800, 8 << 20)),
        max_batch_bytes=rng.choice((300, 1 << 20)),
        preferred=("n0",) if rng.random() < 0.2 else (),
        make_store=lambda _: SimStore(standing),
    )
    cluster.snapshot_chance = rng.choice((0.0, 0.05))
    return cluster


def run_seed(seed: int, steps: int = STEPS) -> Cluster:
    """One run: trouble, then peace; raises with the whole story when a rule broke."""
    cluster = make_cluster(seed)
    cluster.start_all()
    nemesis = Nemesis(cluster, Random(seed ^ 0x5F1C), lies=seed % 3 == 0, losses=seed % 2 == 0)
    try:
        cluster.run_until(lambda: cluster.steps >= steps, 600_000)
        nemesis.stop()
        require_recovery(cluster)
    except Exception as e:
        e.add_note(
            f"seed={seed:#x} event={cluster.steps} nodes={len(cluster.nodes)}; rerun:"
            f" LEDGERMQ_SIM_SEED={seed:#x} pytest tests/sim/test_random.py\n{cluster.story()}"
        )
        raise
    return cluster


def require_recovery(cluster: Cluster) -> None:
    """After the trouble there is a leader soon, and all members become equal."""
    limit_ms = HEAL_LIMIT_MS + cluster.barred_for_ms()
    led = cluster.run_until(lambda: cluster.leader() is not None, limit_ms)
    require(led, "liveness", f"no leader {limit_ms} ms after all is healed")

    def settle() -> bool:
        return cluster.converged()

    require(
        cluster.run_until(settle, CONVERGE_LIMIT_MS),
        "convergence",
        f"logs still differ {CONVERGE_LIMIT_MS} ms after a leader is ready",
    )

    def work() -> bool:
        leader = cluster.ready_leader()
        return leader is not None and leader.propose(3) == 3

    # A hand-over may be under way.
    require(cluster.run_until(work, CONVERGE_LIMIT_MS), "liveness", "no leader takes work")
    require(cluster.run_until(settle, CONVERGE_LIMIT_MS), "convergence", "new work stays behind")


def seeds() -> list[list[int]]:
    """Seeds in groups, one test each."""
    if one := os.environ.get("LEDGERMQ_SIM_SEED"):
        return [[int(one, 0)]]
    count = int(os.environ.get("LEDGERMQ_SIM_SEEDS", "150"))
    return [
        list(range(first, min(first + SEEDS_PER_TEST, count)))
        for first in range(0, count, SEEDS_PER_TEST)
    ]


@pytest.mark.parametrize("group", seeds(), ids=lambda g: f"{g[0]:#x}..{g[-1]:#x}")
def test_every_invariant_holds_after_every_event(group: list[int]) -> None:
    for seed in group:
        run_seed(seed)


@pytest.mark.parametrize("seed", [3, 0x42], ids=hex)
def test_a_seed_gives_the_same_run(seed: int) -> None:
    first, second = (run_seed(seed) for _ in range(2))
    assert first.story() == second.story()
    assert (first.now_ms, first.steps) == (second.now_ms, second.steps)
