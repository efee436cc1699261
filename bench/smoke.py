"""For CI: has ledgermq become slower? Its group against the bare asyncio echo, pair by pair.

It is the group as it is installed by default, in pure Python. Machines of CI differ and are shared,
so no time is compared: the ratio of each load to the echo in the same run is, with the one in
smoke.json, and only far below it is a failure. Both servers run all the time here: the one that
waits has next to nothing to do.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import proc
from .bars import EXIT_UNMEASURED
from .commands import Commands
from .measures import Bench, measure, warm_up
from .pairs import Spread, ratios, spread, turns
from .peers import PeerError
from .programs import LoadError
from .rows import ECHO, PURE
from .shapes import Load
from .sides import SIDES

STORED = Path(__file__).with_name("smoke.json")
LOADS = (
    Load("64x1", connections=64),
    Load("1x64", in_flight=64),
    Load("batch32", connections=8, batch=32),
)
# What is left of the stored ratio on a busy or another machine; a real loss is sought beyond it.
TOLERANCE = 0.6
# A neighbour on the machine is no loss either: only what is slow twice is slow.
TRIES = 2


@dataclass(frozen=True, slots=True)
class Judged:
    """One load against what was stored for it.

    Attributes:
        measured: None: no pair had both sides.
        stored: None: nothing was recorded for it yet.
    """

    load: str
    measured: Spread | None
    stored: float | None
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it is near enough."""
        if self.measured is None or self.stored is None:
            return False
        return self.measured.median >= self.stored * self.tolerance

    def __str__(self) -> str:
        if self.measured is None:
            return f"{self.load}: not measured"
        m = self.measured
        text = f"{self.load}: {m.median:.4f} of the echo ({m.low:.4f} to {m.high:.4f})"
        if self.stored is None:
            return f"{text}; nothing is stored: record it with `python -m bench smoke --record`"
        floor = self.stored * self.tolerance
        verdict = "ok" if self.ok else "SLOWER"
        return f"{text}; stored {self.stored:.4f}, at least {floor:.4f}: {verdict}"


def judge(measured: Mapping[str, Spread | None], stored: Mapping[str, Any]) -> list[Judged]:
    """Compare each load with what was stored."""
    known, tolerance = stored.get("ratios", {}), stored.get("tolerance", TOLERANCE)
    return [Judged(load, found, known.get(load), tolerance) for load, found in measured.items()]


def run(commands: Commands, *, pairs: int, seconds: float, record: bool) -> int:
    """Measure and compare; the exit status."""
    try:
        if record:
            return _record(measure_all(commands, pairs, seconds))
        stored = json.loads(STORED.read_text("utf-8")) if STORED.exists() else {}
        return compare(lambda: measure_all(commands, pairs, seconds), stored)
    except (PeerError, LoadError, AssertionError, OSError) as e:
        say(f"not measured: {type(e).__name__}: {e}")
        return EXIT_UNMEASURED


def _record(measured: Mapping[str, Spread | None]) -> int:
    text = json.dumps(recorded(measured), indent=2)
    STORED.write_text(f"{text}\n", "utf-8")
    say(f"stored in {STORED}: {text}")
    return 0 if all(measured.values()) else 1


def compare(
    measure_loads: Callable[[], Mapping[str, Spread | None]], stored: Mapping[str, Any]
) -> int:
    """Measure until each load was well once, `TRIES` times at most; the exit status."""
    slow: set[str] | None = None
    for _ in range(TRIES):
        found = judge(measure_loads(), stored)
        for one in found:
            say(str(one))
        slow = {one.load for one in found if not one.ok and (slow is None or one.load in slow)}
        if not slow:
            return 0
        say(f"slow so far: {', '.join(sorted(slow))}; what is slow {TRIES} times is slow")
    return 1


def recorded(measured: Mapping[str, Spread | None]) -> dict[str, Any]:
    """What smoke.json holds."""
    return {
        "ratios": {load: round(s.median, 5) for load, s in measured.items() if s},
        "tolerance": TOLERANCE,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": proc.machine(),
    }


def measure_all(commands: Commands, pairs: int, seconds: float) -> dict[str, Spread | None]:
    """Ratios to the echo by load."""
    with tempfile.TemporaryDirectory(prefix="ledgermq-smoke-") as top, ExitStack() as stack:
        benches = {}
        for side in (PURE, ECHO):
            folder = Path(top) / side
            folder.mkdir()
            peer = stack.enter_context(SIDES[side].open(folder))
            benches[side] = Bench(SIDES[side], peer, folder, seconds, commands)
            warm_up(benches[side])
        return {load.name: _measure_load(benches, load, pairs) for load in LOADS}


def _measure_load(benches: Mapping[str, Bench], load: Load, pairs: int) -> Spread | None:
    per_s: dict[str, dict[int, float]] = {side: {} for side in benches}
    for number, side in turns(list(benches), pairs):
        found = measure(benches[side], load)
        per_s[side][number] = found.values["per_s"]
        errors = f", errors {found.errors}" if found.errors else ""
        p99 = found.values.get("p99_us", 0.0) / 1000
        say(f"{load.name} {side}: {found.values['per_s']:,.0f}/s, p99 {p99:.1f} ms{errors}")
    return spread(_told(load, ratios(per_s[PURE], per_s[ECHO])))


def _told(load: Load, found: Iterable[float]) -> list[float]:
    found = list(found)
    say(f"{load.name} ratios: {', '.join(f'{r:.4f}' for r in found)}")
    return found


def say(text: str) -> None:
    """On stdout: the samples belong into the log of the CI run."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
