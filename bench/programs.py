"""The programs that make load: their command lines, and the one JSON object that each prints."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
# A program ends by itself after its seconds; this much later something is wrong.
GRACE_S = 60.0
_SHOWN_CHARS = 2000


class LoadError(Exception):
    """A load could not run; the text ends with what it printed."""


class Program:
    """One load program, under way.

    Args:
        argv: its command line.
        cpu: the processor it is held on; None: any.

    Usage: `with Program(argv) as p: ...; result = p.result(30)`; left earlier, it is killed.
    """

    def __init__(self, argv: Sequence[str], cpu: int | None = None) -> None:
        self._argv = list(argv)
        self._cpu = cpu
        # Not a pipe: nobody reads it while the program runs.
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - `__exit__`
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._argv,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            # A group of its own: some programs are only the parent of what makes the load.
            start_new_session=True,
        )
        if self._cpu is not None:
            # Threads that it starts later inherit it; there is no other before main().
            os.sched_setaffinity(self._process.pid, {self._cpu})
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
        self._errors.close()

    def result(self, timeout_s: float) -> dict[str, Any]:
        """Wait for its end; the object it printed.

        Raises:
            LoadError: it failed, or did not end in time.
        """
        assert self._process is not None, "not started"
        try:
            out, _ = self._process.communicate(timeout=timeout_s + GRACE_S)
        except subprocess.TimeoutExpired:
            raise LoadError(
                self._story(f"did not end within {timeout_s + GRACE_S:.0f} s")
            ) from None
        if self._process.returncode:
            raise LoadError(self._story(f"ended with status {self._process.returncode}"))
        try:
            found = json.loads(out.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise LoadError(self._story(f"printed no JSON but {out[:200]!r}")) from None
        if not isinstance(found, dict):
            raise LoadError(self._story(f"printed {out[:200]!r}"))
        return found

    def _story(self, what: str) -> str:
        self._errors.seek(0)
        return f"{' '.join(self._argv)}\n{what}\n{self._errors.read()[-_SHOWN_CHARS:]}"


def run(argv: Sequence[str], timeout_s: float, cpu: int | None = None) -> dict[str, Any]:
    """Run one to its end.

    Raises:
        LoadError: see `Program.result`.
    """
    with Program(argv, cpu) as program:
        return program.result(timeout_s)


def flags(**values: object) -> list[str]:
    """Command-line options: `in_flight=3` is `--in-flight 3`; True has no value, False is none."""
    found: list[str] = []
    for name, value in values.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            found.append(option)
        elif value is not False:
            found += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    return found


def python(module: str, *arguments: str) -> list[str]:
    """A module of ours as a program."""
    return [sys.executable, "-m", module, *arguments]


def last_cpu() -> int | None:
    """Where the lean generator is held; None on one core."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[-1] if len(cpus) > 1 else None
