"""The smoke of CI: what counts as slower."""

import json

import pytest

from bench import smoke
from bench.pairs import Spread, spread

STORED = {"ratios": {"a": 0.2, "b": 0.1}, "tolerance": 0.6}


def measured(a: float, b: float) -> dict[str, Spread | None]:
    return {"a": spread([a] * 3), "b": spread([b] * 3)}


@pytest.mark.parametrize(
    ("tries", "status"),
    [
        pytest.param([(0.2, 0.1)], 0, id="as stored"),
        pytest.param([(0.121, 0.5)], 0, id="within the tolerance"),
        pytest.param([(0.119, 0.1), (0.2, 0.1)], 0, id="slow once is a busy machine"),
        pytest.param([(0.2, 0.059), (0.2, 0.059)], 1, id="slow twice"),
        pytest.param([(0.119, 0.1), (0.2, 0.059)], 0, id="each was well once"),
        pytest.param([(0.119, 0.059), (0.2, 0.059)], 1, id="one of two was slow twice"),
    ],
)
def test_what_is_slow_twice_is_slow(tries: list[tuple[float, float]], status: int) -> None:
    left = [measured(*each) for each in tries]
    assert smoke.compare(lambda: left.pop(0), STORED) == status
    assert not left, "no more tries than are needed"


def test_what_was_not_measured_or_never_stored_is_not_well() -> None:
    assert smoke.compare(lambda: {"a": None, "b": spread([9.0])}, STORED) == 1
    assert smoke.compare(lambda: measured(9, 9), {}) == 1


def test_what_is_stored_has_every_load() -> None:
    assert set(json.loads(smoke.STORED.read_text())["ratios"]) == {
        load.name for load in smoke.LOADS
    }
