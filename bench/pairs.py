"""Who runs when, and what a row of measured pairs says. Pure.

One machine drifts: its clock speed, its disk, its neighbours. So the sides take turns (A B A B),
each B is compared with the A just before it, and what counts is the median of these ratios.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of some values.

    Invariant: low <= median <= high; count >= 1.
    """

    median: float
    low: float
    high: float
    count: int

    @property
    def relative(self) -> float:
        """How far the ends lie apart, as a share of the median; 0 when the median is 0."""
        return (self.high - self.low) / abs(self.median) if self.median else 0.0


def spread(values: Sequence[float]) -> Spread | None:
    """The median and the ends; None of nothing."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def turns(sides: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """(round, side) in the order in which they run: each side once per round."""
    for number in range(rounds):
        for side in sides:
            yield number, side


def ratios(ours: dict[int, float], theirs: dict[int, float]) -> list[float]:
    """Ratio of each round that both sides measured, in the order of the rounds.

    A value that is not above 0 is no measurement: a load that got nothing through.
    """
    both = sorted(set(ours) & set(theirs))
    return [ours[n] / theirs[n] for n in both if ours[n] > 0 and theirs[n] > 0]
