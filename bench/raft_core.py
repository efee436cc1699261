"""What the two Raft cores that are measured alone have in common: options, figures, processes.

Each program runs three members as processes on loopback. The leader itself proposes, keeps so many
proposals under way, and prints one JSON object: `messages` are proposals whose outcome the leader
knows.
"""

import functools
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import click

from . import proc
from .latency import percentiles

START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class RaftOptions:
    """One measurement.

    Attributes:
        in_flight: proposals under way.
        size: bytes of each.
        sync: an entry counts after its fsync.
    """

    in_flight: int
    size: int
    seconds: float
    warm_up: float
    sync: bool = False


class Measured:
    """Counts and latencies of the proposals that began in the measured time."""

    def __init__(self, options: RaftOptions) -> None:
        self._options = options
        self._begin = self._end = float("inf")
        self._last = 0.0
        self._latencies_s: list[float] = []
        self._errors: Counter[str] = Counter()

    def begin(self) -> None:
        """The warm-up starts now."""
        self._begin = time.perf_counter() + self._options.warm_up
        self._end = self._begin + self._options.seconds

    def over(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() >= self._end

    def note(self, started: float, now: float) -> None:
        """A proposal was committed."""
        if self._begin <= started and now <= self._end:
            self._latencies_s.append(now - started)
            self._last = now

    def fail(self, error: object) -> None:
        """One was not."""
        self._errors[str(error)[:120]] += 1

    def report(self) -> dict[str, Any]:
        """The JSON of all load programs, as far as it applies."""
        count, seconds = len(self._latencies_s), self._last - self._begin
        return {
            "messages": count,
            "seconds": round(max(seconds, 0.0), 3),
            "per_s": round(count / seconds, 1) if count and seconds > 0 else 0.0,
            **percentiles(self._latencies_s),
            "errors": dict(self._errors),
        }


Child = Callable[[int, list[int], Path, RaftOptions], Measured | None]


def raft_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that both programs have."""
    options = [
        click.option("--in-flight", default=64, show_default=True, help="proposals under way"),
        click.option("--size", default=128, show_default=True, help="bytes of a proposal"),
        click.option("--seconds", default=5.0, show_default=True),
        click.option("--warm-up", default=1.0, show_default=True, help="seconds before these"),
        click.option("--folder", type=click.Path(path_type=Path), help="where logs are written"),
    ]
    return functools.reduce(lambda found, option: option(found), reversed(options), command)


def run_members(child: Child, ports: list[int], folder: Path, options: RaftOptions) -> None:
    """Start a process per port, print what the leader reports, end the others.

    Exits with status 1 when none reports.
    """
    context = multiprocessing.get_context("spawn")
    pipes, members = [], []
    for me in range(len(ports)):
        ours, theirs = context.Pipe(duplex=False)
        member = context.Process(target=_be, args=(child, me, ports, folder, options, theirs))
        member.start()
        theirs.close()
        pipes.append(ours)
        members.append(member)
    try:
        found = _first(pipes, START_TIMEOUT_S + options.warm_up + options.seconds)
        if found is None:
            sys.stderr.write("no member led and reported in time\n")
            sys.exit(1)
        cpu = {f"n{i}": proc.cpu_s(m.pid) for i, m in enumerate(members) if m.is_alive() and m.pid}
        sys.stdout.write(json.dumps(found | {"cpu_s_by_member": cpu}) + "\n")
    finally:
        for member in members:
            member.kill()
            member.join()


def _be(child: Child, me: int, ports: list[int], folder: Path, options: RaftOptions,
        report: Connection) -> None:  # fmt: skip
    measured = child(me, ports, folder, options)
    if measured is not None:
        report.send(measured.report())
        # The parent looks at this process once more, then kills it.
        time.sleep(START_TIMEOUT_S)


def _first(pipes: Sequence[Connection], timeout_s: float) -> dict[str, Any] | None:
    """What the first member to report says; one that ends without a word is left out."""
    left, end = list(pipes), time.monotonic() + timeout_s
    while left:
        ready = wait(left, max(0.0, end - time.monotonic()))
        if not ready:
            return None
        for pipe in ready:
            assert isinstance(pipe, Connection)
            try:
                found: dict[str, Any] = pipe.recv()
            except EOFError:
                left.remove(pipe)
            else:
                return found
    return None
