"""All measurements of growth in turn, and what they say."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import proc

from . import Point, clients, groups, name_server, slope


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the installations are that are measured.

    Attributes:
        by_groups: groups that one name server knows.
        by_topics: topics of each group that one name server knows.
        clients: of one consumer group.
        groups: whole groups on this machine.
        repeats: of each request, at least.
        seconds: that idle groups are watched.
    """

    by_groups: list[int]
    by_topics: list[int]
    clients: list[int]
    groups: list[int]
    repeats: int
    seconds: float


FULL = Sizes([10, 100, 1000], [10, 100, 1000, 5000], [10, 100, 1000], [1, 4, 10], 3000, 20.0)
QUICK = Sizes([2, 4], [10, 20], [5, 20], [1, 2], 100, 2.0)


def all_points(sizes: Sizes, say: Callable[[str], object]) -> list[Point]:
    """Measure everything; `say` hears how far it is."""
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="ledgermq-scale-") as top:
        folder = Path(top)
        for part in ("name-server", "clients", "groups"):
            (folder / part).mkdir()
        for clients_count in sizes.clients:
            (folder / "clients" / str(clients_count)).mkdir()
        say("name server ...")
        points += asyncio.run(
            name_server.measure(
                folder / "name-server", sizes.by_groups, sizes.by_topics, sizes.repeats
            )
        )
        say("clients ...")
        points += asyncio.run(clients.measure(folder / "clients", sizes.clients, sizes.repeats))
        say("groups ...")
        points += groups.measure(folder / "groups", sizes.groups, sizes.seconds)
    return points


def as_json(points: list[Point]) -> str:
    """The machine, and every point."""
    found = {"machine": proc.machine(), "points": [asdict(point) for point in points]}
    return json.dumps(found, indent=2) + "\n"


def table(points: list[Point]) -> str:
    """Markdown: a line for each point, the slope with the last one of each quantity."""
    lines = ["| What | Where | Value |", "| --- | --- | ---: |"]
    for what in dict.fromkeys(point.what for point in points):
        same = [point for point in points if point.what == what]
        lines += [f"| {what} | {point.at} | {shown(point.value)} |" for point in same]
        if len({point.size for point in same}) > 1:
            lines.append(f"| {what} | each one more | {shown(slope(points, what))} |")
    return "\n".join(lines)


def shown(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
