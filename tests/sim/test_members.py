"""Members come and go while all of a group is stopped: nothing acknowledged is lost.

New ones are EMPTY, so any number may come; of the old ones one at a time may go.
"""

from random import Random

import pytest

from ledgermq.dledger.ids import Standing

from .harness import Cluster
from .nemesis import Nemesis, weather
from .test_random import require_recovery

STEPS = 500


@pytest.mark.parametrize("first", range(0, 12, 6))
@pytest.mark.parametrize(("before", "after"), [(3, 5), (2, 3), (5, 7), (5, 4), (4, 3), (3, 2)])
def test_another_list_of_members(before: int, after: int, first: int) -> None:
    """The invariants look at every event: one leader a term, which holds all that was committed."""
    for seed in range(first, first + 6):
        rng = Random(seed)
        cluster = Cluster(before, rng, weather(rng))
        cluster.start_all()
        cluster.run_until(lambda c=cluster: c.ready_leader() is not None, 60_000)
        trouble = Nemesis(cluster, Random(seed ^ 0x5F1C), lies=False, losses=False)
        cluster.run_until(lambda c=cluster: c.steps >= STEPS, 600_000)
        trouble.stop()
        committed = len(cluster.invariants.committed)
        # At any moment: nobody says when they are equal.
        cluster.run(rng.randint(0, 500))
        cluster.change_members(after)
        trouble = Nemesis(cluster, Random(seed ^ 0x6E65), lies=False, losses=True)
        cluster.run_until(lambda c=cluster: c.steps >= 3 * STEPS, 600_000)
        trouble.stop()
        require_recovery(cluster)
        assert len(cluster.nodes) == after
        assert len(cluster.invariants.committed) > committed > 0
        assert all(n.store.standing is Standing.MEMBER for n in cluster.nodes.values())
