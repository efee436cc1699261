"""The load loop as a process of its own, and what it was promised."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import wait_until
from tests.support.cluster import ROOT


@dataclass(frozen=True)
class Acked:
    """One message that got SEND_OK; `time_ms` when the answer was seen."""

    time_ms: int
    queue_id: int
    queue_offset: int
    msg_id: str


class Load:
    """A running load loop; its record grows while it runs."""

    def __init__(self, process: subprocess.Popen[str], record: Path) -> None:
        self.process = process
        self._record = record

    def acked(self) -> list[Acked]:
        """Everything acknowledged so far, in order of the answers."""
        if not self._record.exists():
            return []
        lines = self._record.read_text("utf-8").split("\n")[:-1]
        rows = (json.loads(line) for line in lines)
        return [Acked(r["timeMs"], r["queueId"], r["queueOffset"], r["msgId"]) for r in rows]

    def wait_for_more(self, count: int, timeout_s: float = 20.0) -> None:
        """Until `count` more messages are acknowledged."""
        target = len(self.acked()) + count
        wait_until(lambda: len(self.acked()) >= target, timeout_s, f"{count} more sends")

    def stop(self) -> str:
        """End the loop; what it printed."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=15)
        return out


@contextmanager
def load_loop(name_server: str, record: Path, workers: int = 10) -> Iterator[Load]:
    """Ten workers that send without end, like the guide's program."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "load_loop.py"), "--workers", str(workers),
         "--nameserver", name_server, "--record", str(record)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        yield Load(process, record)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


def longest_gap_ms(acked: list[Acked], around_ms: int) -> int:
    """The outage: from `around_ms` to the first answer of a message that was sent after it.

    The answers that were under way at that moment came before the gap, so the longest pause that
    ends after `around_ms` is what a user sees.
    """
    times = sorted(a.time_ms for a in acked)
    pairs = itertools.pairwise(times)
    return max((b - a for a, b in pairs if b >= around_ms and a <= around_ms + 10_000), default=0)
