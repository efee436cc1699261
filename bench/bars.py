"""Which bars hold, and the exit code that says so. Pure.

A result file (`runner.py`) holds samples; here they become one line per row of the table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .pairs import Spread, ratios, spread
from .shapes import Row

EXIT_HELD, EXIT_MISSED, EXIT_UNMEASURED = 0, 1, 3

Sample = dict[str, Any]
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """What a row came to.

    Attributes:
        value: of our side; None: it was never measured.
        theirs: of the side compared with.
        ratio: ours : theirs, round by round; ours alone where the row has no other side.
        pairs: the single ratios.
        errors: sends or reads that failed, of all samples of the row.
    """

    row: Row
    value: Spread | None
    theirs: Spread | None
    ratio: Spread | None
    pairs: tuple[float, ...]
    errors: int

    @property
    def holds(self) -> bool | None:
        """Whether the bar holds; None: there is no bar, or nothing was measured."""
        if self.row.bar is None or self.ratio is None:
            return None
        return reaches(self.ratio.median, self.row.bar, at_most=self.row.at_most)

    @property
    def aimed(self) -> bool | None:
        """Likewise for the aim."""
        if self.row.aim is None or self.ratio is None:
            return None
        return reaches(self.ratio.median, self.row.aim, at_most=self.row.at_most)


def reaches(value: float, bar: float, *, at_most: bool) -> bool:
    """Whether a value is on the right side of a bar, or on it."""
    return value <= bar if at_most else value >= bar


def line(row: Row, samples: Iterable[Sample]) -> Line:
    """Judge one row."""
    mine = [s for s in samples if s["group"] == row.group]
    ours = _by_round(mine, row.ours, row.load, row.metric)
    value, errors = spread(list(ours.values())), _errors(mine, row.ours, row.load)
    if row.theirs is None:
        return Line(row, value, None, value, tuple(ours.values()), errors)
    theirs = _by_round(mine, row.theirs, row.compared_load, row.metric)
    errors += _errors(mine, row.theirs, row.compared_load)
    pairs = ratios(ours, theirs)
    return Line(row, value, spread(list(theirs.values())), spread(pairs), tuple(pairs), errors)


def lines(rows: Iterable[Row], samples: Sequence[Sample]) -> list[Line]:
    """Judge all rows."""
    return [line(row, samples) for row in rows]


def missed(found: Iterable[Line]) -> list[Line]:
    """Rows whose bar does not hold."""
    return [one for one in found if one.holds is False]


def unmeasured(found: Iterable[Line]) -> list[Line]:
    """Rows without a single pair."""
    return [one for one in found if one.ratio is None]


def exit_code(found: Sequence[Line]) -> int:
    """0: all bars hold; 1: one was missed; 3: none missed, but a row was not measured."""
    if missed(found):
        return EXIT_MISSED
    return EXIT_UNMEASURED if unmeasured(found) else EXIT_HELD


def as_json(found: Line) -> dict[str, Any]:
    """A line for the result file; whoever reads it needs no table of rows."""
    row = found.row
    return {
        "name": row.name,
        "group": row.group,
        "load": row.load,
        "metric": row.metric,
        "ours": row.ours,
        "theirs": row.theirs,
        "their_load": row.compared_load,
        "value": _spread_json(found.value),
        "their_value": _spread_json(found.theirs),
        "ratio": _spread_json(found.ratio),
        "pairs": [round(p, _DIGITS) for p in found.pairs],
        "bar": row.bar,
        "aim": row.aim,
        "at_most": row.at_most,
        "holds": found.holds,
        "errors": found.errors,
    }


def _spread_json(found: Spread | None) -> dict[str, float] | None:
    if found is None:
        return None
    ends = {"median": found.median, "low": found.low, "high": found.high}
    return {k: round(v, _DIGITS) for k, v in ends.items()} | {"count": found.count}


def _by_round(samples: list[Sample], side: str, load: str, metric: str) -> dict[int, float]:
    """Round -> value, of the samples that have it."""
    return {
        s["round"]: s["values"][metric]
        for s in samples
        if s["side"] == side and s["load"] == load and s["values"].get(metric) is not None
    }


def _errors(samples: list[Sample], side: str, load: str) -> int:
    mine = [s for s in samples if s["side"] == side and s["load"] == load]
    return sum(sum(s.get("errors", {}).values()) for s in mine)
