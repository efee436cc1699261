"""A reader of a page of the documentation: a fresh copy, a home folder, terminals to type in.

Ports, the folder of the store and the home folder are the test's; nothing else is changed. The
machines that a page speaks of, 192.168.0.11 and so on, are folders with ports of their own.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.drill.fast_try import ROOT, copy_of_the_tree, free_range
from tests.unit.docs.blocks import Block

BLOCK_TIMEOUT_S = 60
# What a block says first: on which of the machines it is typed.
ON_MACHINES = re.compile(r"# on (192\.168\.0\.\d+(?:(?:, | and )192\.168\.0\.\d+)*)\n")
MACHINES = ("192.168.0.11", "192.168.0.12", "192.168.0.13")

_NOT_THE_READERS = {"NAMESRV_ADDR", "LEDGERMQ_VENV", "EXTRA_CONF", "HOST", "JAVA_OPT",
                    "ROCKETMQ_HOME", "ROCKETMQ_LOG_HOME", "VIRTUAL_ENV"}  # fmt: skip


class Terminal:
    """A shell that stays: folder and exported variables go from one block to the next."""

    def __init__(self, folder: Path, start: Path, env: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._env = env
        self._start = start
        self._printed = folder / "printed"
        self._state = folder / "state"
        self._state.write_text("")

    def type(self, text: str, where: str, **env: str) -> str:
        """Run lines; what they printed. `env` is for these lines only."""
        forget = "".join(f"unset {name}; " for name in env)
        remember = f"{{ {forget}export -p; echo cd \"'$PWD'\"; }} >'{self._state}'"
        # Into a file: what goes on in the background would keep a pipe open.
        with self._printed.open("w+") as out:
            done = subprocess.run(
                ["/bin/sh", "-ec", f". '{self._state}'\n{text}\n{remember}\n"],
                cwd=self._start, env=self._env | env, check=False, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, timeout=BLOCK_TIMEOUT_S,
            )  # fmt: skip
        shown = self._printed.read_text()
        assert done.returncode == 0, f"{where}: {shown}"
        assert "Traceback" not in shown, f"{where}: {shown}"
        return shown


class Reader:
    """A copy of the checkout, a home folder and a terminal; types block after block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = copy_of_the_tree(folder / "ledgermq")
        venv = Path(os.environ.get("LEDGERMQ_VENV") or ROOT / ".venv")
        # The installation is tested elsewhere; here it would only take time.
        (self.root / ".venv").symlink_to(venv)
        self.home = folder / "home"
        self.proc = folder / "proc"
        for made in (self.home / "shop", self.proc / "self", folder / "bin"):
            made.mkdir(parents=True)
        (self.proc / "self" / "cmdline").touch()
        self._bring_python3(folder / "bin")
        self.first_port = free_range()
        self.name_server = f"localhost:{self.first_port}"
        self._move_ports()
        self.env = {k: v for k, v in os.environ.items() if k not in _NOT_THE_READERS} | {
            "HOME": str(self.home),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "STORE_ROOT": str(folder / "store"),
            "NAMESRV_PORT": str(self.first_port),
            "BROKER_PORT": str(self.first_port + 3),
            "DLEDGER_PORT": str(self.first_port + 80),
        }
        self._terminal = Terminal(folder / "terminal", self.root, self.env)
        self._machines: dict[str, Machine] = {}

    def _bring_python3(self, folder: Path) -> None:
        """The machine's own python3 may be too old."""
        python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        script = folder / "python3"
        script.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
        script.chmod(0o755)

    def _move_ports(self) -> None:
        """Give the files in conf/, which name ports of their own, this test's."""
        first = self.first_port
        conf = self.root / "conf"
        for file in (*conf.rglob("*.conf"), *conf.rglob("*.properties")):
            text = file.read_text().replace("/tmp/rmqstore", f"{self.home}/rmqstore")
            text = text.replace("9876", str(first))
            text = re.sub(r"\b309([123])1\b", lambda m: str(first + 50 + 5 * int(m[1])), text)
            text = re.sub(r"\b109([12])1\b", lambda m: str(first + 60 + 5 * int(m[1])), text)
            text = re.sub(r"\b4091([123])\b", lambda m: str(first + 90 + int(m[1])), text)
            file.write_text(text)

    def type(self, block: Block, page: str = "README.md") -> str:
        """Run a shell block as it stands; what it printed."""
        where = f"{page}:{block.line}"
        if found := ON_MACHINES.match(block.text):
            names = re.findall(r"192\.168\.0\.\d+", found[1])
            return "".join(self.machine(name).type(block.text, where) for name in names)
        text = block.text.replace("localhost:9876", self.name_server)
        if "mqshutdown" in text:
            self._show_own_processes()
            return self._terminal.type(text, where, LEDGERMQ_PROC=str(self.proc))
        return self._terminal.type(text, where)

    def machine(self, name: str) -> "Machine":
        """The machine with that address, set up when it is first spoken of."""
        if not self._machines:
            first = free_range()
            self._machines = {m: Machine(self, n, first) for n, m in enumerate(MACHINES)}
        return self._machines[name]

    def run(self, block: Block) -> str:
        """Save a Python block as the file it names, run it; what it printed."""
        shop = self.home / "shop"
        (shop / block.file_name).write_text(block.text)
        done = subprocess.run(
            [str(shop / ".venv" / "bin" / "python"), str(shop / block.file_name)],
            cwd=shop, env=self.env | {"NAMESRV_ADDR": self.name_server}, capture_output=True,
            text=True, timeout=BLOCK_TIMEOUT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"README.md:{block.line}: {done.stderr}"
        assert "Traceback" not in done.stderr, f"README.md:{block.line}: {done.stderr}"
        return done.stdout

    def own_processes(self) -> list[int]:
        """Whatever runs in this copy's folder or in a home folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink().is_relative_to(self.folder) and (
                    process / "cmdline"
                ).read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def _show_own_processes(self) -> None:
        """Before mqshutdown, which stops all of a kind, and must not see other tests' ones."""
        for pid in self.own_processes():
            if not (self.proc / str(pid)).is_symlink():
                (self.proc / str(pid)).symlink_to(f"/proc/{pid}")

    def brokers(self, name_server: str) -> list[tuple[str, int]]:
        """(broker name, id) of each row of clusterList."""
        done = subprocess.run(
            ["sh", "bin/mqadmin", "clusterList", "-n", name_server],
            cwd=self.root, env=self.env, check=False, capture_output=True, text=True,
            timeout=BLOCK_TIMEOUT_S,
        )  # fmt: skip
        rows = re.findall(r"^\w+Cluster +(\S+) +(\d+) ", done.stdout, re.MULTILINE)
        return sorted((name, int(number)) for name, number in rows)

    def close(self) -> None:
        """Kill what is left."""
        for pid in self.own_processes():
            os.kill(pid, signal.SIGKILL)


class Machine:
    """One of a page's machines: a home folder and ports of its own on this one."""

    def __init__(self, reader: Reader, number: int, first_port: int) -> None:
        self._root = reader.root
        self._first = first_port
        self._number = number
        home = reader.folder / MACHINES[number]
        home.mkdir()
        self._namesrv_conf = home / "moved-namesrv.conf"
        self._namesrv_conf.write_text(f"listenPort={first_port + number}\n")
        self._terminal = Terminal(home / "terminal", home, reader.env | {"HOME": str(home)})
        self.name_server = f"127.0.0.1:{first_port + number}"

    def type(self, text: str, where: str) -> str:
        """Run a block with this machine's addresses."""
        return self._terminal.type(self._translated(text), where)

    def _translated(self, text: str) -> str:
        for n, address in enumerate(MACHINES):
            text = text.replace(f"{address}:9876", f"127.0.0.1:{self._first + n}")
            text = text.replace(f"{address}:40911", f"127.0.0.1:{self._first + 80 + n}")
        text = re.sub(r"192\.168\.0\.\d+", "127.0.0.1", text)
        text = re.sub(r"\b[13]0911\b", str(self._first + 13 + 10 * self._number), text)
        text = text.replace("/opt/ledgermq", str(self._root))
        start = 'namesrv-ctl.sh" start'
        return text.replace(start, f"{start} -c '{self._namesrv_conf}'")
