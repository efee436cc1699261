"""Turns, ratios and their spread."""

import pytest

from bench.pairs import ratios, spread, turns


def test_the_sides_take_turns():
    assert list(turns(["a", "b"], 2)) == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_each_value_is_compared_with_its_own_round():
    ours, theirs = {0: 10.0, 1: 40.0}, {1: 20.0, 0: 10.0}
    assert ratios(ours, theirs) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param({0: 1.0}, {1: 1.0}, id="different rounds"),
        pytest.param({0: 0.0}, {0: 5.0}, id="we got nothing through"),
        pytest.param({0: 5.0}, {0: 0.0}, id="they got nothing through"),
        pytest.param({}, {}, id="nothing ran"),
    ],
)
def test_what_was_not_measured_twice_is_no_ratio(ours, theirs):
    assert ratios(ours, theirs) == []


def test_the_median_is_not_moved_by_one_bad_pair():
    found = spread([2.0, 2.1, 0.3, 2.2, 1.9])
    assert found is not None
    assert (found.median, found.low, found.high, found.count) == (2.0, 0.3, 2.2, 5)


def test_an_even_number_of_pairs_has_its_median_between_the_middle_ones():
    found = spread([1.0, 2.0, 3.0, 10.0])
    assert found is not None
    assert found.median == 2.5


def test_the_relative_spread_is_a_share_of_the_median():
    found = spread([1.0, 2.0, 2.5])
    assert found is not None
    assert found.relative == 0.75


def test_nothing_has_no_spread():
    assert spread([]) is None
