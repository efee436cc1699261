"""Runs shell functions of the project with a made-up PATH, /proc and virtual environment."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# What the scripts use of the system; a PATH of only these has no Python.
_TOOLS = (
    "sh cat cksum cut date dirname find head id kill ls mkdir mv nohup printf ps readlink rm rmdir"
    " sed setsid sleep sort tail touch tr uname"
)


def tools_folder(folder: Path) -> Path:
    """A folder for PATH with the system's tools, but no Python."""
    folder.mkdir(parents=True)
    for name in _TOOLS.split():
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


def program(path: Path, text: str) -> Path:
    """Write a shell program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def run(*words: object, cwd: Path | None = None, **env: object) -> subprocess.CompletedProcess[str]:
    """Run a program with exactly these variables besides PATH and HOME."""
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    variables |= {name: str(value) for name, value in env.items()}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def call(script: str, root: Path = ROOT, **env: object) -> subprocess.CompletedProcess[str]:
    """Run lines of shell after sourcing bin/python-env.sh and bin/processes.sh."""
    sourced = f'. "{ROOT}/bin/python-env.sh"; . "{ROOT}/bin/processes.sh"'
    return run("/bin/sh", "-c", f'root="{root}"; {sourced}; {script}', **env)
