"""The Markdown table and the charts."""

from xml.etree import ElementTree

import pytest

from bench import plots, report
from tests.unit.bench.builders import pairs, result, row, sample


def test_a_row_shows_values_ratio_bar_and_verdict():
    page = report.markdown(result([row()], pairs((2500, 1000), (2000, 1000))))
    line = "| g-l | 2,250/s | Java DLedger | 1,000/s | 2.25 (2.00 to 2.50, 2 pairs) |"
    assert f"{line} at least 2, aim 3 | held |" in page
    assert "1 of 1 bars hold." in page


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(35, "aim reached"), (25, "held"), (15, "**missed**"), (None, "not measured")],
)
def test_the_verdict(value, verdict):
    found = result([row()], pairs((value, 10)))
    assert report.verdict(found["rows"][0]) == verdict


def test_what_was_missed_and_what_failed_is_named():
    failures = [
        {"group": "g", "round": 1, "side": "java", "load": "l", "error": "PeerError: no\nlog"}
    ]
    rows = [row(name="slow"), row(name="absent", load="other")]
    page = report.markdown(result(rows, pairs((1, 10)), failures=failures))
    assert "0 of 2 bars hold. Missed: slow. Not measured: absent." in page
    assert "- g, round 2, java, l: PeerError: no\n" in page
    assert "log" not in page.partition("Failed:")[2]


def test_errors_and_another_load_are_told():
    samples = [
        sample("ours", 9.0, load="many", errors={"2": 3}),
        sample("ours", 10.0, load="one"),
    ]
    one = row(load="many", theirs="ours", their_load="one")
    page = report.markdown(result([one], samples))
    assert "| g-l (3 errors) |" in page
    assert "| ledgermq, one |" in page


def test_a_quick_run_says_so():
    options = {"pairs": 2, "seconds": 2.0, "quick": True}
    page = report.markdown(result([row()], pairs((1, 1)), options=options))
    assert "2 pairs, 2 s each; quick" in page


@pytest.mark.parametrize(
    ("number", "metric", "text"),
    [
        (12345.6, "per_s", "12,346/s"),
        (45.67, "p99_us", "45.7 us"),
        (1.234, "start_s", "1.23 s"),
        (0.5, "unknown", "0.50"),
    ],
)
def test_numbers_have_few_digits_and_a_unit(number, metric, text):
    assert report.value(number, metric) == text


def test_a_chart_is_xml_with_a_bar_per_row():
    rows = [row(name="g-a<b"), row(name="g-unmeasured", load="other")]
    charts = plots.charts(result(rows, pairs((25, 10), (30, 10))))
    assert list(charts) == ["g"]
    svg = ElementTree.fromstring(charts["g"])
    texts = ["".join(e.itertext()) for e in svg.iter() if e.tag.endswith("text")]
    assert "a<b" in texts
    assert "2.75 (>= 2)" in texts
    assert "unmeasured" not in texts


def test_rows_without_another_side_have_no_chart():
    found = result([row(theirs=None)], [sample("ours", 5.0)])
    assert plots.charts(found) == {}


def test_a_bar_is_as_long_as_its_ratio():
    svg = plots.chart("t", result([row(bar=None)], pairs((20, 10)))["rows"], {})
    widths = [e.get("width") for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("rect")]
    assert widths[1] == "460.0"


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (4.5, [0, 1, 2, 3, 4]),
        (30.0, [0, 10, 20, 30]),
        (0.3, [0, 0.1, 0.2, 0.3]),
    ],
)
def test_ticks_are_round_numbers(top, expected):
    assert plots.ticks(top) == pytest.approx(expected)
