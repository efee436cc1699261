"""A cluster of fast-try.sh, and its virtual environment."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drill.fast_try import ROOT, FastTry
from tests.drill.reader import Reader
from tests.drill.shell import Shell


@pytest.fixture(scope="session")
def installed() -> None:
    """So that no test waits for an installation in the middle of something else."""
    script = f'root="{ROOT}"; . "{ROOT}/bin/python-env.sh"; ensure_venv'
    subprocess.run(["/bin/sh", "-c", script], check=True, timeout=300)


@pytest.fixture
def fast_try(installed: None, tmp_path: Path) -> Iterator[FastTry]:
    """A cluster's settings; what is left of it in the end is killed."""
    cluster = FastTry(tmp_path / "store")
    yield cluster
    cluster.kill_rest()


@pytest.fixture
def shell(installed: None, tmp_path: Path) -> Iterator[Shell]:
    """A shell in an empty folder."""
    opened = Shell(tmp_path / "shell")
    yield opened
    opened.close()


@pytest.fixture
def reader(installed: None, tmp_path: Path) -> Iterator[Reader]:
    """A reader at the start of a page."""
    begun = Reader(tmp_path)
    yield begun
    begun.close()
