"""The list of members gets longer between two runs of a group: nothing acknowledged is lost."""

from random import Random

import pytest

from ledgermq.dledger.ids import Standing

from .harness import Cluster
from .nemesis import Nemesis, weather
from .test_random import require_recovery

STEPS = 500


@pytest.mark.parametrize("first", range(0, 40, 10))
@pytest.mark.parametrize(("before", "after"), [(3, 5), (2, 3), (3, 4), (5, 7)])
def test_new_members_count_when_they_hold_everything(before: int, after: int, first: int) -> None:
    """The invariants look at every event: one leader a term, which holds all that was committed."""
    for seed in range(first, first + 10):
        rng = Random(seed)
        cluster = Cluster(before, rng, weather(rng))
        cluster.start_all()
        cluster.run_until(lambda c=cluster: c.ready_leader() is not None, 60_000)
        trouble = Nemesis(cluster, Random(seed ^ 0x5F1C), lies=False, losses=False)
        cluster.run_until(lambda c=cluster: c.steps >= STEPS, 600_000)
        trouble.stop()
        committed = len(cluster.invariants.committed)
        # At any moment: nobody says when they are equal.
        cluster.run(rng.randint(0, 3000))
        cluster.grow(after)
        trouble = Nemesis(cluster, Random(seed ^ 0x6E65), lies=False, losses=True)
        cluster.run_until(lambda c=cluster: c.steps >= 3 * STEPS, 600_000)
        trouble.stop()
        require_recovery(cluster)
        assert len(cluster.nodes) == after
        assert len(cluster.invariants.committed) > committed > 0
        assert all(n.store.standing is Standing.MEMBER for n in cluster.nodes.values())
