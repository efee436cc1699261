"""A cluster of fast-try.sh for a test."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def free_range() -> int:
    """The first of 100 ports that are free now, below the range of outgoing connections."""
    while True:
        first = random.randrange(10_000, 32_000, 100)
        if all(is_free(first + n) for n in range(100)):
            return first


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class FastTry:
    """One cluster of fast-try.sh: its settings, and how to call it."""

    def __init__(self, store: Path, root: Path = ROOT, **env: str) -> None:
        self.store = store
        self.script = root / "fast-try.sh"
        self.root = root
        first = free_range()
        self.namesrv = f"127.0.0.1:{first}"
        self.env = {name: value for name, value in os.environ.items() if name != "NAMESRV_ADDR"} | {
            "STORE_ROOT": str(store),
            "NAMESRV_PORT": str(first),
            "BROKER_PORT": str(first + 3),
            "DLEDGER_PORT": str(first + 80),
            **env,
        }

    def __call__(
        self, *words: str, code: int = 0, before: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [*before, "sh", str(self.script), *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result

    def status(self, code: int = 0) -> dict[str, tuple[str, int]]:
        """Node -> (role, pid)."""
        lines = self("status", code=code).stdout.splitlines()[1:]
        rows = [re.split(r"  +", line) for line in lines]
        return {row[0]: (row[1], int(row[2]) if row[2] != "-" else 0) for row in rows}

    def admin(self, *words: str) -> str:
        """What a subcommand of mqadmin prints."""
        done = subprocess.run(
            ["sh", str(self.root / "bin" / "mqadmin"), *words, "-n", self.namesrv],
            env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def send(self, *bodies: str) -> None:
        """One message to TopicTest for each body."""
        for body in bodies:
            assert "SEND_OK" in self.admin("sendMessage", "-t", "TopicTest", "-p", body)

    def bodies(self) -> list[str]:
        """Those of all messages in TopicTest, sorted."""
        shown = self.admin("consumeMessage", "-t", "TopicTest")
        return sorted(re.findall(r"BODY: (.*)$", shown, re.MULTILINE))

    def leader(self) -> str:
        return next(name for name, (role, _) in self.status().items() if role == "leader")

    def kill_rest(self) -> None:
        """Kill whatever a failed test left behind."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Whatever runs with a configuration file of this store."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if f"-c\0{self.store}/".encode() in words:
                found.append(int(folder.name))
        return found


def copy_of_the_tree(target: Path) -> Path:
    """The files of a release: no .git, no environment."""
    leave = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", "target", ".hyp*")
    shutil.copytree(ROOT, target, symlinks=True, ignore=leave)
    return target
