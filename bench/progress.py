"""How far a run is and how long it will go on: lines on stderr."""

import sys
import time
from collections.abc import Callable
from typing import TextIO


class Progress:
    """Counts expected seconds against those that passed.

    Expectations are rough; what was left of them is stretched by how they did so far.
    """

    def __init__(
        self,
        expected_s: float,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._all_s = max(expected_s, 0.001)
        self._done_s = 0.0
        self._out = out
        self._clock = clock
        self._begin = clock()

    def done(self, expected_s: float) -> None:
        """A part is over that was expected to take so long."""
        self._done_s += expected_s

    def left_s(self) -> float:
        """Seconds that are still to come."""
        rest_s = max(self._all_s - self._done_s, 0.0)
        if not self._done_s:
            return rest_s
        return rest_s * (self._clock() - self._begin) / self._done_s

    def say(self, text: str) -> None:
        """One line, with the time left."""
        out = self._out or sys.stderr
        print(f"[{shown(self.left_s())} left] {text}", file=out, flush=True)


def shown(seconds: float) -> str:
    """Seconds for people: 48 s, 12 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
