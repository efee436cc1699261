"""A real master on a simulated disk: killed, or without power, at any call of its disk.

Nothing that was promised is lost, changed, doubled or out of order: see `plain_world`. What is
promised: with SYNC_FLUSH all that was answered; with ASYNC_FLUSH all that was answered before a
kill, and a prefix of it before a loss of power. Topics, groups and deletions that were answered are
promised in any case. `LEDGERMQ_PLAIN_SEEDS=500` runs more seeds.
"""

import logging
import os
from collections import Counter

import pytest

from .plain_world import PlainWorld

SEEDS = int(os.environ.get("LEDGERMQ_PLAIN_SEEDS", "14"))
LIVES = 5
# So often at least a broker is ended in each of these phases; else this shows too little.
LEAST = {
    "start": 10,
    "working": 15,
    "written, not synced": 8,
    "deletion": 4,
    "keeping": 2,
    "stop": 1,
}


def run(seeds: range, *, sync_flush: bool) -> tuple[Counter[str], Counter[str]]:
    phases: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for seed in seeds:
        world = PlainWorld(seed, sync_flush=sync_flush)
        try:
            world.run(LIVES)
        except Exception as e:
            e.add_note(f"seed {seed}")
            raise
        phases += world.phases
        counts += world.counts
    return phases, counts


@pytest.mark.parametrize("sync_flush", [True, False])
def test_what_was_promised_is_there(sync_flush: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    phases, counts = run(range(SEEDS), sync_flush=sync_flush)
    assert {p: n for p, n in LEAST.items() if phases[p] < n} == {}, phases
    assert min(counts["answered"], counts["looked at"]) > 2000, counts
    assert counts["deletions"] > 100, counts
    assert counts["clean stops"] >= 2, counts


def test_a_seed_is_one_run() -> None:
    found = []
    for _ in range(2):
        world = PlainWorld(3, sync_flush=True)
        world.run(2)
        found.append((world.world.fingerprint, world.phases, world.counts))
    assert found[0] == found[1]
