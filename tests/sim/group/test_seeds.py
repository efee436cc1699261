"""A few seeds for every check; `make sim` runs thousands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.world import S

from .report import Report
from .run import run_seed

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("seed", range(0x5F1C, 0x5F1C + 6), ids=hex)
def test_every_rule_holds_after_every_step(seed: int) -> None:
    outcome = run_seed(seed)
    assert not outcome.violation, outcome.text
    assert outcome.acknowledged
    assert outcome.read


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Nothing depends on the order of a set of texts, nor on where objects lie in memory."""
    code = (
        "from tests.sim.group.run import run_seed;"
        f" print(run_seed(4, trouble_us={15 * S}).fingerprint)"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert printed[0] == printed[1] != ""


def test_a_broken_seed_and_a_missing_mark_fail_the_report() -> None:
    report = Report()
    outcome = run_seed(0x5F1C, trouble_us=2 * S)
    report.add(outcome)
    assert report.breaches() == []
    outcome.violation = "some_rule"
    report.add(outcome)
    assert report.breaches() == [f"seed {0x5F1C:#x} breaks some_rule"]
    assert json.loads(report.as_json())["violations"][0]["violation"] == "some_rule"
    report.seeds = 1000
    assert any("seeds with" in b for b in report.breaches())
    assert any("leader changes" in b for b in report.breaches())
