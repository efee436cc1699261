"""What many runs add up to, and whether that is enough."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from .marks import LEAST_SEEDS, Mark
from .run import Outcome

# In 95 % of the seeds there must be so many of both.
LEAST_CHANGES = 2
LEAST_FAULTS = 40
LEAST_SHARE = 0.95
# Simulated over real time on two idle cores; and what even a machine at half its speed reaches.
USUAL_RATIO = 100
LEAST_RATIO = 50
# Marks are asked of runs of at least so many seeds.
MARKED_SEEDS = 1000


@dataclass
class Report:
    """Sums over seeds.

    Attributes:
        real_s: from the beginning to now.
        lively: seeds with enough leader changes and faults.
        marked: seeds in which each mark came up.
        violations: outcomes of seeds that broke a rule.
    """

    seeds: int = 0
    events: int = 0
    simulated_us: int = 0
    cpu_s: float = 0.0
    real_s: float = 0.0
    looks: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    committed: int = 0
    read: int = 0
    changes: int = 0
    lively: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    marked: Counter[str] = field(default_factory=Counter)
    violations: list[Outcome] = field(default_factory=list)

    def add(self, o: Outcome) -> None:
        """One more seed."""
        self.seeds += 1
        self.events += o.events
        self.simulated_us += o.simulated_us
        self.cpu_s += o.cpu_s
        self.looks.update(o.looks)
        self.acknowledged += o.acknowledged
        self.committed += o.committed
        self.read += o.read
        self.changes += o.elected
        self.faults.update(o.faults)
        self.operations.update(o.operations)
        self.marked.update({name: 1 for name, n in o.marks.items() if n})
        if o.elected >= LEAST_CHANGES and sum(o.faults.values()) >= LEAST_FAULTS:
            self.lively += 1
        if o.violation:
            self.violations.append(o)

    @property
    def ratio(self) -> float:
        """Simulated over real time, of all processors together."""
        return self.simulated_us / 1e6 / self.real_s if self.real_s else 0.0

    @property
    def ratio_of_one(self) -> float:
        """The same for one processor that did nothing else."""
        return self.simulated_us / 1e6 / self.cpu_s if self.cpu_s else 0.0

    @property
    def led(self) -> float:
        """Share of the looks of clients that found a leader."""
        return self.looks["led"] / max(self.looks.total(), 1)

    @property
    def share(self) -> float:
        """Share of seeds with enough going on."""
        return self.lively / self.seeds if self.seeds else 0.0

    def breaches(self) -> list[str]:
        """What is not as it must be."""
        found = [f"seed {o.seed:#x} breaks {o.violation}" for o in self.violations]
        if self.seeds < MARKED_SEEDS:
            return found
        found += [
            f"only {self.marked[m.name]} seeds with {m.value}; {LEAST_SEEDS} are wanted"
            for m in Mark
            if self.marked[m.name] < LEAST_SEEDS
        ]
        if self.share < LEAST_SHARE:
            found.append(
                f"{self.share:.1%} of the seeds have {LEAST_CHANGES} leader changes and"
                f" {LEAST_FAULTS} faults; {LEAST_SHARE:.0%} are wanted"
            )
        if self.ratio < LEAST_RATIO:
            found.append(f"simulated time is {self.ratio:.0f} times real time, not {LEAST_RATIO}")
        return found

    def lines(self) -> list[str]:
        """The table at the end."""
        slow = "" if self.ratio >= USUAL_RATIO else f"; {USUAL_RATIO} x and more on two idle cores"
        rows = [
            ("seeds", f"{self.seeds}"),
            ("events", f"{self.events:,}"),
            (
                "simulated / real time",
                f"{self.ratio:.0f} x ({self.simulated_us / 3.6e9:.1f} h{slow})",
            ),
            ("the same of one processor", f"{self.ratio_of_one:.0f} x"),
            ("leader changes", f"{self.changes:,}"),
            ("a leader is ready", f"{self.led:.0%} of the time"),
            ("entries committed", f"{self.committed:,}"),
            ("acknowledgements", f"{self.acknowledged:,}"),
            ("messages read", f"{self.read:,}"),
            (
                f">= {LEAST_CHANGES} changes, >= {LEAST_FAULTS} faults",
                f"{self.share:.1%} of the seeds",
            ),
            ("faults", f"{sum(self.faults.values()):,}"),
            *_counts(self.faults),
            ("operations", f"{sum(self.operations.values()):,}"),
            *_counts(self.operations),
            ("seeds with", ""),
            *((f"  {m.value}", f"{self.marked[m.name]}") for m in Mark),
            ("violations", f"{len(self.violations)}"),
        ]
        width = max(len(name) for name, _ in rows) + 2
        return [f"{name:<{width}}{value}".rstrip() for name, value in rows]

    def as_json(self) -> str:
        """Everything, for machines."""
        values: dict[str, Any] = {**vars(self), "violations": [asdict(o) for o in self.violations]}
        values["ratio"] = self.ratio
        values["share"] = self.share
        values["breaches"] = self.breaches()
        return json.dumps(values, indent=1)


def _counts(counter: Counter[str]) -> list[tuple[str, str]]:
    return [(f"  {name}", f"{count:,}") for name, count in counter.most_common()]
