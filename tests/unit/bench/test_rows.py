"""The table of rows is whole: no row asks for what nobody runs."""

import pytest

from bench import rows
from bench.measures import _KINDS
from bench.sides import SIDES


def test_names_are_unique():
    names = [row.name for row in rows.all_rows()]
    assert not sorted({name for name in names if names.count(name) > 1})
    groups = [group.name for group in rows.GROUPS]
    assert len(groups) == len(set(groups))


@pytest.mark.parametrize("group", rows.GROUPS, ids=lambda g: g.name)
def test_each_row_finds_its_loads_and_sides(group):
    loads = {load.name for load in group.loads}
    assert len(loads) == len(group.loads)
    for row in group.rows:
        assert row.group == group.name
        assert row.load in loads
        assert row.compared_load in loads
        assert {side for side, _ in row.needs()} <= set(group.sides)


@pytest.mark.parametrize("group", rows.GROUPS, ids=lambda g: g.name)
def test_nothing_runs_that_no_row_wants(group):
    for side in group.sides:
        assert group.loads_of(side)
    wanted = {load for row in group.rows for _, load in row.needs()}
    assert {load.name for load in group.loads} == wanted


def test_sides_and_kinds_are_known():
    assert {side for group in rows.GROUPS for side in group.sides} <= set(SIDES)
    assert {load.kind for group in rows.GROUPS for load in group.loads} <= set(_KINDS)


def test_failover_is_the_last_load_of_its_start():
    for group in rows.GROUPS:
        kinds = [load.kind for load in group.loads]
        assert "failover" not in kinds[:-1]


@pytest.mark.parametrize(
    ("name", "bar", "aim"),
    [
        ("lean-128-64x1", 2.2, 3.0),
        ("lean-1k-64x1", 2.2, 3.0),
        ("lean-128-1x1", 3.0, None),
        ("lean-128-1x64", 3.2, 4.5),
        ("lean-128-batch32", 4.0, None),
        ("lean-128-64x1-sync", 1.2, None),
        ("lean-128-1x64-sync", 1.8, None),
        ("lean-128-1x1-sync", 0.9, None),
        ("java-client-128-sync64", 1.8, 2.5),
        ("java-client-128-sync1", 2.0, None),
        ("java-client-128-async256", 2.0, None),
        ("java-client-128-batch32", 2.5, None),
        ("consume-java", 1.0, None),
        ("alone-sync64", 0.6, 1.0),
        ("latency-p99", 0.5, None),
        ("start", 0.25, None),
        ("memory-idle", 0.15, None),
        ("nats-128-1x64", 1.0, None),
        ("nats-128-64x1-sync", 0.8, 1.1),
        ("echo-64x1", 0.25, 0.35),
        ("python-client-128-sync64-per-s", 8000.0, None),
        ("python-client-128-async256-per-s", 20_000.0, None),
        ("consume-python-per-s", 60_000.0, None),
        ("growth", 0.85, None),
        ("append-at-10gb", 0.85, None),
        ("append-at-20gb", 0.85, None),
        ("memory-at-20gb", 1.2, None),
        ("recovery-20gb", 5.0, None),
    ],
)
def test_the_bars_are_the_promised_ones(name, bar, aim):
    row = next(r for r in rows.all_rows() if r.name == name)
    assert (row.bar, row.aim) == (bar, aim)


def test_everything_is_chosen_when_nothing_is_named():
    assert [g.name for g in rows.chosen([])] == [g.name for g in rows.GROUPS]


def test_a_row_is_chosen_with_what_it_needs_and_nothing_else():
    (group,) = rows.chosen(["lean-128-64x1"])
    assert group.sides == (rows.OURS, rows.JAVA)
    assert [load.name for load in group.loads] == ["64x1"]
    assert [row.name for row in group.rows] == ["lean-128-64x1"]


def test_a_group_and_a_pattern_are_chosen():
    found = rows.chosen(["echo", "nats-*-1x64*"])
    assert [g.name for g in found] == ["nats-128", "nats-1k", "echo"]


def test_a_side_runs_only_the_loads_that_are_compared_there():
    (group,) = rows.chosen(["lean-128-64x1", "lean-128-1x1-sync"])
    assert [load.name for load in group.loads_of(rows.OURS)] == ["64x1"]
    assert [load.name for load in group.loads_of(rows.OURS_SYNC)] == ["1x1"]
    assert [load.name for load in group.loads_of(rows.JAVA)] == ["1x1", "64x1"]


def test_a_name_that_matches_nothing_is_refused():
    with pytest.raises(LookupError, match="'lean-129'"):
        rows.chosen(["echo", "lean-129"])
