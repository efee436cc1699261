"""README.md, typed from its first block to its last by a reader with a fresh copy.

Ports, the folder of the store and the home folder are this test's; nothing else is changed.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drill.fast_try import ROOT, copy_of_the_tree, free_range
from tests.support import wait_until
from tests.unit.docs.blocks import Block, blocks_of

pytestmark = pytest.mark.slow

GROUP_ROW = re.compile(r"^RaftCluster +RaftNode00 +(\d) ", re.MULTILINE)
BLOCK_TIMEOUT_S = 60


class Reader:
    """A copy of the checkout, a home folder and a terminal; types block after block."""

    def __init__(self, folder: Path) -> None:
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
        self._move_ports()
        self.printed = folder / "printed"
        self.env = {k: v for k, v in os.environ.items() if k not in _NOT_THE_READERS} | {
            "HOME": str(self.home),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "STORE_ROOT": str(folder / "store"),
            "NAMESRV_PORT": str(self.first_port),
            "BROKER_PORT": str(self.first_port + 3),
            "DLEDGER_PORT": str(self.first_port + 80),
        }

    def _bring_python3(self, folder: Path) -> None:
        """The machine's own python3 may be too old."""
        python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        script = folder / "python3"
        script.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
        script.chmod(0o755)

    def _move_ports(self) -> None:
        """Give conf/dledger, which names ports of its own, this test's."""
        for conf in (self.root / "conf" / "dledger").glob("*.conf"):
            text = conf.read_text().replace("/tmp/rmqstore", f"{self.home}/rmqstore")
            text = text.replace("9876", str(self.first_port))
            text = re.sub(r"309([123])1", lambda m: str(self.first_port + 50 + 5 * int(m[1])), text)
            text = re.sub(r"4091([123])", lambda m: str(self.first_port + 90 + int(m[1])), text)
            conf.write_text(text)

    def type(self, block: Block) -> str:
        """Run a shell block as it stands; what it printed."""
        if "mqshutdown" in block.text:
            self._show_own_processes()
        text = block.text.replace("localhost:9876", f"localhost:{self.first_port}")
        # Into a file: what goes on in the background would keep a pipe open.
        with self.printed.open("w+") as out:
            done = subprocess.run(
                ["/bin/sh", "-ec", text], cwd=self.root, env=self.env, check=False,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                timeout=BLOCK_TIMEOUT_S,
            )  # fmt: skip
        shown = self.printed.read_text()
        assert done.returncode == 0, f"README.md:{block.line}: {shown}"
        assert "Traceback" not in shown, f"README.md:{block.line}: {shown}"
        self.env |= dict(re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE))
        return shown

    def run(self, block: Block) -> str:
        """Save a Python block as the file it names, run it; what it printed."""
        shop = self.home / "shop"
        (shop / block.file_name).write_text(block.text)
        done = subprocess.run(
            [str(shop / ".venv" / "bin" / "python"), str(shop / block.file_name)],
            cwd=shop, env=self.env, capture_output=True, text=True, timeout=BLOCK_TIMEOUT_S,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"README.md:{block.line}: {done.stderr}"
        assert "Traceback" not in done.stderr, f"README.md:{block.line}: {done.stderr}"
        return done.stdout

    def own_processes(self) -> list[int]:
        """Whatever runs in this copy's folder."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "cwd").readlink() == self.root and (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def _show_own_processes(self) -> None:
        """Before mqshutdown, which stops all of a kind, and must not see other tests' ones."""
        for pid in self.own_processes():
            (self.proc / str(pid)).symlink_to(f"/proc/{pid}")
        self.env["LEDGERMQ_PROC"] = str(self.proc)

    def cluster_is_complete(self) -> bool:
        """Whether clusterList shows a leader and two followers."""
        done = subprocess.run(
            ["sh", "bin/mqadmin", "clusterList"], cwd=self.root, env=self.env, check=False,
            capture_output=True, text=True, timeout=BLOCK_TIMEOUT_S,
        )  # fmt: skip
        ids = GROUP_ROW.findall(done.stdout)
        return len(ids) == 3 and "0" in ids

    def close(self) -> None:
        """Kill what is left."""
        for pid in self.own_processes():
            os.kill(pid, signal.SIGKILL)


_NOT_THE_READERS = {"NAMESRV_ADDR", "LEDGERMQ_VENV", "EXTRA_CONF", "HOST", "JAVA_OPT",
                    "ROCKETMQ_HOME", "ROCKETMQ_LOG_HOME", "VIRTUAL_ENV"}  # fmt: skip


@pytest.fixture
def reader(installed: None, tmp_path: Path) -> Iterator[Reader]:
    """A reader at the start of the page."""
    begun = Reader(tmp_path)
    yield begun
    begun.close()


def test_every_block_of_the_readme_works(reader: Reader) -> None:
    shown: dict[str, str] = {}
    for block in blocks_of(ROOT / "README.md"):
        if block.language == "python":
            shown[block.file_name] = reader.run(block)
        elif block.language == "sh":
            shown[block.text] = reader.type(block)
            if "nohup sh bin/mqbroker" in block.text:
                wait_until(reader.cluster_is_complete, 30, "a leader and two followers by hand")
    check_the_tour(shown)
    check_the_snippets(shown)
    wait_until(lambda: not reader.own_processes(), 20, "the end of everything")


def output_of(shown: dict[str, str], command: str) -> str:
    """What the block with that command printed."""
    (found,) = [printed for text, printed in shown.items() if command in text]
    return found


def check_the_tour(shown: dict[str, str]) -> None:
    assert len(GROUP_ROW.findall(output_of(shown, "fast-try.sh status"))) == 3
    looked = output_of(shown, "bin/mqadmin sendMessage")
    assert "SEND_OK" in looked
    assert "BODY: Hello RocketMQ" in looked
    quickstart = output_of(shown, "quickstart.Producer")
    assert quickstart.count("SendResult [sendStatus=SEND_OK") == 1000
    assert quickstart.count("Receive New Messages:") == 1000
    drill = output_of(shown, "kill-leader")
    assert re.search(r"^Killed n\d, the leader of RaftNode00", drill, re.MULTILINE)
    assert sorted(GROUP_ROW.findall(drill))[0] == "0"
    seconds = [int(n) for n in re.findall(r"^\S+ success (\d+) failure", drill, re.MULTILINE)]
    assert seconds[-2] > 0, "the sends went on after the kill"
    assert re.search(r"^all: success \d+ failure 0$", drill, re.MULTILINE)
    by_hand = output_of(shown, "topicRoute -n")
    assert '"writeQueueNums": 8' in by_hand
    assert "flushDiskType=SYNC_FLUSH" in by_hand
    assert output_of(shown, "mqshutdown broker").count("Send shutdown request to") == 2


def check_the_snippets(shown: dict[str, str]) -> None:
    assert shown["send.py"].startswith("SendResult [sendStatus=SEND_OK")
    assert "99 more" in shown["send.py"]
    received = [line.rsplit(" ", 1)[1] for line in shown["receive.py"].splitlines()]
    assert sorted(map(int, received)) == list(range(1, 101))
    assert sum(map(int, re.findall(r"^(\d+) messages", shown["poll.py"], re.MULTILINE))) == 100
    sent, refused, polled = shown["errors.py"].splitlines()
    assert "SEND_OK" in sent
    assert "no blanks in names" in refused
    assert "next: " in refused
    assert int(polled.split()[0]) > 0
