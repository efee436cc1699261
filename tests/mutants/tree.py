"""A copy of the sources to break, and pytest runs in it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("remoting", "dledger", "broker", "namesrv", "client", "admin", "compiled")
_COPIED = ("ledgermq", *PACKAGES, "tests", "conf", "docs", "pyproject.toml", "README.md")
_MEMORY_BYTES = 4 << 30
# Fixed, so that a run can be repeated; whatever one mutant made hypothesis remember is forgotten.
_OPTIONS = ("-q", "-x", "--tb=short", "--hypothesis-seed=0")
_FEW_SEEDS = {"LEDGERMQ_SIM_SEEDS": "30"}
_OFF = ("cacheprovider", "cov", "xdist")


@dataclass(frozen=True, slots=True)
class Failure:
    """What made a run fail; `test` "" when it was stopped for lasting too long."""

    test: str
    error: str


class Tree:
    """One copy, with one changed file at most."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        self._report = folder / "first-failure.json"
        self._temporary = folder / "tmp"
        copied = [root / name for name in _COPIED if (root / name).exists()]
        for path in copied:
            _copy(path, folder / path.name)

    def run(self, tests: Iterable[str], limit_s: float) -> Failure | None:
        """Run tests up to the first failure; None when all of them pass."""
        self._report.unlink(missing_ok=True)
        shutil.rmtree(self._temporary, ignore_errors=True)
        shutil.rmtree(self.folder / ".hypothesis", ignore_errors=True)
        log = self.folder / "pytest.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*_pytest(), f"--basetemp={self._temporary}", *tests],
                cwd=self.folder,
                env={**os.environ, **_FEW_SEEDS, "LEDGERMQ_FIRST_FAILURE": str(self._report)},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            code = _wait(process, limit_s)
        if code is None:
            return Failure("", f"hangs: stopped after {limit_s:.0f} s")
        if code == 0:
            return None
        if self._report.exists():
            return Failure(**json.loads(self._report.read_text()))
        return Failure("(pytest itself)", f"exit {code}: {log.read_text(errors='replace')[-300:]}")

    @contextmanager
    def changed(self, file: str, text: str) -> Iterator[None]:
        """While this lasts, `file` holds `text`."""
        path = self.folder / file
        before = path.read_text()
        try:
            _write(path, text)
            yield
        finally:
            _write(path, before)


def _pytest() -> list[str]:
    off = [word for plugin in _OFF for word in ("-p", f"no:{plugin}")]
    return [sys.executable, "-m", "pytest", *_OPTIONS, *off, "-p", "tests.mutants.first_failure"]


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        # The links in ledgermq/ are relative: they point into the copy.
        skipped = shutil.ignore_patterns("__pycache__", "target", ".hypothesis", "*.so")
        shutil.copytree(path, target, symlinks=True, ignore=skipped)
    else:
        shutil.copy2(path, target)


def _write(path: Path, text: str) -> None:
    """Two changes in one second may have one size: the compiled file would pass for current."""
    path.write_text(text)
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> int | None:
    """The exit code; None when it had to be killed, with all it started."""
    if hasattr(resource, "prlimit"):
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    end_s = time.monotonic() + limit_s
    try:
        return process.wait(max(end_s - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Also what a test has left behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
