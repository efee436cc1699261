"""What was measured: versions of everything that takes part."""

import platform
import shutil
import subprocess
from functools import cache
from importlib import metadata

from ledgermq import __version__

from .programs import ROOT
from .tools import NATS_VERSION

_TIMEOUT_S = 10.0


@cache
def versions() -> dict[str, str]:
    """Name -> version; what is not installed is left out."""
    commit = _first_line("git", "describe", "--always", "--dirty")
    found = {
        "ledgermq": f"{__version__} {commit}".strip(),
        "python": platform.python_version(),
        "go": _first_line("go", "version"),
        "java": _first_line("java", "-version"),
        "rocketmq": _rocketmq(),
        "nats-server": NATS_VERSION,
        "pysyncobj": _package("pysyncobj"),
    }
    return {name: version for name, version in found.items() if version}


def _rocketmq() -> str:
    from tests.interop.java_peer import DEFAULT_VERSION  # noqa: PLC0415 - needs pytest's package

    return DEFAULT_VERSION


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _first_line(*argv: str) -> str:
    """What a program says first; "" when there is no such program."""
    if shutil.which(argv[0]) is None:
        return ""
    done = subprocess.run(
        argv, cwd=ROOT, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S
    )
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0].strip() if lines and not done.returncode else ""
