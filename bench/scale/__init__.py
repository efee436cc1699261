"""What grows with the size of an installation: slopes for docs/scale.md.

    python -m bench scale            # about three minutes; a table, and scale.json
    python -m bench scale --quick    # small numbers: does it all run?

Real name servers and brokers; the many brokers and clients that talk to them are connections of
this process. Costs are processor time and memory of the server alone, so that what else the
machine does matters little.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench import proc

# Requests under way at once.
WINDOW = 64


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that was measured.

    Attributes:
        what: the quantity, with its unit at the end: "name server: us of CPU per registration".
        at: how large the installation was, for people: "3,000 brokers, 100 topics each".
        size: the number that grows.
        value: what was measured.
    """

    what: str
    at: str
    size: int
    value: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of many equal requests, for the server.

    Attributes:
        cpu_us: processor time per request, user and system.
        per_s: requests/s that got through.
    """

    cpu_us: float
    per_s: float


async def cost(pid: int, count: int, one: Callable[[int], Awaitable[object]]) -> Cost:
    """What `one(0)` … `one(count - 1)` cost the process `pid`."""
    loop = asyncio.get_running_loop()
    waiting = iter(range(count))

    async def work() -> None:
        for number in waiting:
            await one(number)

    gc.collect()
    before_s, begin_s = proc.cpu_s(pid), loop.time()
    await asyncio.gather(*(work() for _ in range(min(WINDOW, count))))
    took_s = loop.time() - begin_s
    return Cost((proc.cpu_s(pid) - before_s) / count * 1e6, count / took_s)


def slope(points: list[Point], what: str) -> float:
    """Growth of a quantity per unit of size, by least squares."""
    chosen = [p for p in points if p.what == what]
    mean_size = sum(p.size for p in chosen) / len(chosen)
    mean = sum(p.value for p in chosen) / len(chosen)
    spread = sum((p.size - mean_size) ** 2 for p in chosen)
    if not spread:
        return 0.0
    return sum((p.size - mean_size) * (p.value - mean) for p in chosen) / spread
