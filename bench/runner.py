"""Runs groups of rows: the sides in turn, each on a fresh start, and keeps every sample.

The result file is written after each start, so that a run that is ended early is not lost.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import bars, measures, proc, report, versions
from .commands import Commands
from .measures import Bench
from .pairs import turns
from .peers import PeerError
from .programs import LoadError
from .progress import Progress
from .shapes import Group, Load
from .sides import SIDES, Side

SCHEMA = 1
RESULT_FILE = "result.json"
# Of one load beyond its seconds: starts of programs, topics.
_OVERHEAD_S = 0.5
# What the other kinds of loads are expected to take.
_KIND_S = {
    "consume": 6.0, "failover": measures.OUTAGE_S, "start": 0.0, "memory": 20.0, "raft": 8.0,
    "grow": 200.0, "recover": 3.0,
}  # fmt: skip
_QUICK_WARM_UP = 0.3


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often.

    Attributes:
        pairs: rounds; each gives one ratio per row.
        seconds: how long each send load is measured.
        quick: few, short, and with short warm-ups: to see that everything runs.
    """

    pairs: int
    seconds: float
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one side, for one group."""

    group: Group
    round: int
    side: str


@dataclass
class Run:
    """A run and what it found so far.

    Attributes:
        file: where the result goes.
        samples: one per load that ran, as in the file.
        failures: loads and starts that did not work, as text.
    """

    groups: Sequence[Group]
    options: Options
    commands: Commands
    file: Path
    samples: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def starts(self) -> Iterator[Start]:
        """In the order in which they run: group by group, and in a group A B A B."""
        for group in self.groups:
            for number, side in turns(group.sides, self.options.pairs):
                yield Start(group, number, side)

    def go(self, progress: Progress) -> list[bars.Line]:
        """Run everything; the table."""
        starts = list(self.starts())
        for i, start in enumerate(starts, 1):
            side = SIDES[start.side]
            where = f"{start.group.name}, round {start.round + 1} of {self.options.pairs}"
            progress.say(f"start {i} of {len(starts)}: {side.title} ({where})")
            self._run_start(start, progress)
            self.save()
            progress.done(self.expected_s(start))
        return self.lines()

    def expected_s(self, start: Start) -> float:
        """How long a start takes, roughly."""
        side = SIDES[start.side]
        loads = start.group.loads_of(start.side)
        return side.expected_start_s + self._warm_up_s(side, loads) + sum(map(self._load_s, loads))

    def lines(self) -> list[bars.Line]:
        """The table of what there is so far."""
        return bars.lines([row for g in self.groups for row in g.rows], self.samples)

    def save(self) -> None:
        """Write the result file, whole or not at all."""
        found = {
            "schema": SCHEMA,
            "date": self.date,
            "machine": proc.machine(),
            "versions": versions.versions(),
            "options": asdict(self.options),
            "sides": {name: SIDES[name].title for g in self.groups for name in g.sides},
            "rows": [bars.as_json(line) for line in self.lines()],
            "failures": self.failures,
            "samples": self.samples,
        }
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        part.replace(self.file)

    # --- inside -------------------------------------------------------------------------------

    def _load_s(self, load: Load) -> float:
        own = _KIND_S.get(load.kind)
        if own is not None:
            return own
        opening_s = measures.OPEN_S + measures.CALM_S if load.topics > 1 else 0.0
        return opening_s + self.options.seconds + self.commands.warm_up_s(load) + _OVERHEAD_S

    def _warm_up_s(self, side: Side, loads: Sequence[Load]) -> float:
        """None where only life and memory are looked at: it would be part of them."""
        if all(load.kind in {"failover", "start", "memory", "raft"} for load in loads):
            return 0.0
        return side.warm_up_s * (_QUICK_WARM_UP if self.options.quick else 1.0)

    def _run_start(self, start: Start, progress: Progress) -> None:
        side = SIDES[start.side]
        loads = start.group.loads_of(start.side)
        warm = replace(side, warm_up_s=self._warm_up_s(side, loads))
        folder = Path(tempfile.mkdtemp(prefix="ledgermq-bench-"))
        name = f"{start.group.name}-{start.round + 1}-{start.side}"
        failures_before = len(self.failures)
        try:
            with side.open(folder) as peer:
                bench = Bench(warm, peer, folder, self.options.seconds, self.commands)
                if warm.warm_up_s:
                    measures.warm_up(bench)
                for load in loads:
                    self._run_load(start, bench, load, progress)
        except (PeerError, LoadError, AssertionError, OSError) as e:
            self._fail(start, None, e, progress)
        finally:
            if len(self.failures) > failures_before:
                keep_logs(folder, self.file.parent / f"failed-{name}")
            shutil.rmtree(folder, ignore_errors=True)

    def _run_load(self, start: Start, bench: Bench, load: Load, progress: Progress) -> None:
        begin, busy_before = time.monotonic(), os.getloadavg()[0]
        try:
            found = measures.measure(bench, load)
        except (PeerError, LoadError, AssertionError, OSError) as e:
            self._fail(start, load, e, progress)
            return
        self.samples.append(
            {
                "group": start.group.name,
                "round": start.round,
                "side": start.side,
                "load": load.name,
                "values": {k: round(v, 4) for k, v in found.values.items()},
                "errors": found.errors,
                "took_s": round(time.monotonic() - begin, 2),
                "load_average_before": busy_before,
                "raw": found.raw,
            }
        )
        progress.say(f"  {load.name}: {shown(found.values)}{errors_shown(found.errors)}")

    def _fail(self, start: Start, load: Load | None, error: Exception, progress: Progress) -> None:
        what = load.name if load else "start"
        self.failures.append(
            {
                "group": start.group.name,
                "round": start.round,
                "side": start.side,
                "load": what,
                "error": f"{type(error).__name__}: {error}",
            }
        )
        progress.say(f"  {what} FAILED: {type(error).__name__}: {error}")


def keep_logs(folder: Path, target: Path) -> None:
    """Copy what the servers said: their folder is removed."""
    for log in folder.rglob("*.log"):
        if log.is_file():
            to = target / log.relative_to(folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(log, to)


_SHOWN = ("per_s", "pull_per_s", "p50_us", "p99_us", "gap_ms", "start_s", "pss_mb", "all_cpu_us")


def shown(values: dict[str, float]) -> str:
    """The values that a watching person wants."""
    return ", ".join(
        f"{name} {report.value(values[name], name)}" for name in _SHOWN if name in values
    )


def errors_shown(errors: dict[str, int]) -> str:
    """Errors, when there are any."""
    return f"; errors: {errors}" if errors else ""
