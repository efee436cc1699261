"""Which bars hold."""

import json

import pytest

from bench import bars
from tests.unit.bench.builders import pairs, row, sample


@pytest.mark.parametrize(
    ("changes", "values", "holds"),
    [
        pytest.param({}, [(20, 10), (40, 10), (30, 10)], True, id="above"),
        pytest.param({}, [(20, 10)], True, id="just reached"),
        pytest.param({}, [(19, 10), (50, 10), (19, 10)], False, id="one good pair is not enough"),
        pytest.param({"at_most": True, "bar": 0.5}, [(5, 10)], True, id="small enough"),
        pytest.param({"at_most": True, "bar": 0.5}, [(6, 10)], False, id="too large"),
        pytest.param({"bar": None}, [(1, 10)], None, id="for information"),
        pytest.param({}, [(1, None)], None, id="no pair"),
    ],
)
def test_the_median_decides(changes, values, holds):
    found = bars.line(row(**changes), pairs(*values))
    assert found.holds is holds


def test_the_aim_is_judged_apart():
    found = bars.line(row(), pairs((25, 10)))
    assert (found.holds, found.aimed) == (True, False)


def test_samples_of_other_groups_sides_and_loads_do_not_count():
    noise = [
        sample("ours", 1.0) | {"group": "other"},
        sample("ours", 1.0, load="other"),
        sample("ours-sync", 1.0),
    ]
    found = bars.line(row(), [*pairs((30, 10)), *noise])
    assert found.pairs == (3.0,)


def test_a_row_may_compare_two_loads_of_one_side():
    samples = [sample("ours", 90.0, load="many"), sample("ours", 100.0, load="one")]
    one = row(load="many", theirs="ours", their_load="one", bar=0.85, aim=None)
    assert bars.line(one, samples).pairs == (0.9,)


def test_a_row_without_another_side_is_held_against_a_number():
    samples = [sample("ours", value, number=n) for n, value in enumerate((7000, 9000, 8500))]
    found = bars.line(row(theirs=None, bar=8000.0, aim=None), samples)
    assert (found.ratio.median, found.holds) == (8500, True)


def test_errors_of_both_sides_are_counted():
    samples = [
        sample("ours", 30.0, errors={"2": 3}),
        sample("java", 10.0, errors={"timeout": 1, "14": 1}),
    ]
    assert bars.line(row(), samples).errors == 5


@pytest.mark.parametrize(
    ("values", "code"),
    [
        pytest.param([(30, 10), (30, 10)], bars.EXIT_HELD, id="all hold"),
        pytest.param([(10, 10), (30, 10)], bars.EXIT_MISSED, id="one missed"),
        pytest.param([(30, 10), None], bars.EXIT_UNMEASURED, id="one not measured"),
        pytest.param([(10, 10), None], bars.EXIT_MISSED, id="a miss outweighs what is not known"),
    ],
)
def test_the_exit_code_says_the_worst(values, code):
    found = [bars.line(row(), pairs(*([v] if v else []))) for v in values]
    assert bars.exit_code(found) == code


def test_a_line_can_be_written_as_json():
    found = json.loads(json.dumps(bars.as_json(bars.line(row(), pairs((30, 10), (20, 10))))))
    assert found["ratio"] == {"median": 2.5, "low": 2.0, "high": 3.0, "count": 2}
    assert found["holds"] is True
    assert found["their_load"] == "l"


def test_an_unmeasured_line_too():
    found = bars.as_json(bars.line(row(), []))
    assert (found["ratio"], found["value"], found["pairs"]) == (None, None, [])
