"""A folder to type in, as a reader of RocketMQ's guides does."""

import os
import pty
import re
import signal
import subprocess
from pathlib import Path

from tests.drill.fast_try import ROOT
from tests.support import wait_until

BOOT_SECONDS = 30


def has_ended(pid: int) -> bool:
    """True for a zombie too, which its new parent has not yet fetched."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return True


def processes_below(folder: Path) -> list[int]:
    """The name servers and brokers that were started in this folder or one inside it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder) and re.search(
                rb"\0ledgermq\.(namesrv|broker)\0", (process / "cmdline").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return found


class Shell:
    """A folder to type in, with the guides' environment, and the processes begun there."""

    def __init__(self, folder: Path, **env: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.proc = folder / "proc"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "cmdline").touch()
        self.begun: list[int] = []
        self._terminals: list[int] = []
        # The guides type $ROCKETMQ_HOME without quotes; the checkout's own path may have a blank.
        (folder / "rocketmq").symlink_to(ROOT)
        self.env = os.environ | {
            "HOME": str(self.home),
            "ROCKETMQ_HOME": str(folder / "rocketmq"),
            # mqshutdown stops all of a kind: here only those of this test are shown to it.
            "LEDGERMQ_PROC": str(self.proc),
            **env,
        }

    def type(self, line: str, code: int = 0, cwd: Path | None = None) -> str:
        """Run a line and return what it printed."""
        result = subprocess.run(
            ["/bin/sh", "-c", line], cwd=cwd or self.folder, env=self.env, capture_output=True,
            text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout

    def begin(self, line: str, cwd: Path | None = None) -> int:
        """Run a line that ends with '&'; the shell is left at once, as by closing a terminal."""
        pid = int(self.type(f"{line} echo $!", cwd=cwd))
        self.begun.append(pid)
        (self.proc / str(pid)).symlink_to(f"/proc/{pid}")
        return pid

    def type_at_terminal(self, line: str, cwd: Path, *, hang_up: bool = False) -> str:
        """Run a line at a terminal, where nohup makes its nohup.out; what it printed.

        With `hang_up` the terminal is closed after the line, else when this shell is.
        """
        ours, theirs = pty.openpty()
        os.set_blocking(ours, False)
        done = subprocess.run(
            ["/bin/sh", "-c", line], cwd=cwd, env=self.env, timeout=120, check=False,
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=hang_up,
        )  # fmt: skip
        try:
            shown = os.read(ours, 1 << 16).decode()
        except BlockingIOError:
            shown = ""
        self._terminals += [theirs, ours]
        if hang_up:
            self._close_terminals()
        assert done.returncode == 0, shown
        return shown.replace("\r\n", "\n")

    def _close_terminals(self) -> None:
        while self._terminals:
            os.close(self._terminals.pop())

    def adopt(self) -> list[int]:
        """Take what runs below this folder for begun here; the pids that are new."""
        new = [pid for pid in processes_below(self.folder) if pid not in self.begun]
        for pid in new:
            self.begun.append(pid)
            (self.proc / str(pid)).symlink_to(f"/proc/{pid}")
        return new

    def says(self, file: Path, pattern: str) -> re.Match[str]:
        """Wait for a line in a file."""
        found = wait_until(
            lambda: file.exists() and re.search(pattern, file.read_text()),
            timeout_s=BOOT_SECONDS,
            what=f"{pattern!r} in {file}",
        )
        assert isinstance(found, re.Match)
        return found

    def close(self) -> None:
        """Kill what is left."""
        self.adopt()
        for pid in self.begun:
            if not has_ended(pid):
                os.kill(pid, signal.SIGKILL)
        self._close_terminals()
