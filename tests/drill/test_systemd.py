"""The units of deploy/: systemd accepts them, and what they start and stop works."""

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.drill.fast_try import ROOT, free_range
from tests.support import wait_until

pytestmark = pytest.mark.slow

UNITS = ROOT / "deploy"
INSTANCE = "broker-a"


class Service:
    """A unit, run as systemd would, with folders of this test's in place of the machine's."""

    def __init__(self, name: str, folder: Path, conf: str) -> None:
        text = (UNITS / name).read_text()
        for theirs, ours in (
            ("%i", INSTANCE),
            ("%S", str(folder / "state")),
            ("%L", str(folder / "logs")),
            ("/opt/ledgermq", str(folder / "opt")),
            ("/etc/ledgermq", str(folder / "etc")),
        ):
            text = text.replace(theirs, ours)
        self.keys = dict(re.findall(r"(?m)^(\w+)=(.*)$", text))
        if not (folder / "opt").exists():
            (folder / "opt").symlink_to(ROOT)
        home, self.logs = Path(self.keys["WorkingDirectory"]), folder / "logs"
        for made in (home, folder / "logs" / self.keys["LogsDirectory"], folder / "etc"):
            made.mkdir(parents=True, exist_ok=True)
        command = shlex.split(self.keys["ExecStart"])
        Path(command[-1]).write_text(conf)
        self.out = folder / f"{name}.out"
        environment = dict(e.split("=", 1) for e in re.findall(r"(?m)^Environment=(.*)$", text))
        # Of the caller's environment nothing but what the tests' installation needs.
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "LEDGERMQ_VENV"}}
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                command, cwd=home, env=kept | environment, stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def says(self, text: str) -> None:
        wait_until(lambda: text in self.out.read_text(), 30, f"{text} in {self.out}")

    def stop(self) -> None:
        """As systemd does: the signal, and only so much time."""
        self.process.send_signal(signal.Signals[self.keys["KillSignal"]])
        assert self.process.wait(int(self.keys["TimeoutStopSec"])) == 0

    def close(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def test_a_broker_starts_and_stops(installed: None, tmp_path: Path) -> None:
    port = free_range()
    namesrv = Service("ledgermq-namesrv.service", tmp_path, f"listenPort={port}\n")
    conf = (
        f"brokerName=broker-a\nlistenPort={port + 13}\nbrokerIP1=127.0.0.1\n"
        f"namesrvAddr=127.0.0.1:{port}\n"
    )
    broker = Service("ledgermq-broker@.service", tmp_path, conf)
    try:
        namesrv.says("The Name Server boot success")
        broker.says(f"The broker[broker-a, 127.0.0.1:{port + 13}] boot success")
        assert (tmp_path / "state" / "ledgermq" / INSTANCE / "store").is_dir()
        assert (broker.logs / "ledgermq" / INSTANCE / "broker.log").is_file()
        assert (broker.logs / "ledgermq" / "namesrv" / "namesrv.log").is_file()
        # The process that systemd knows is the broker itself, no shell before it.
        command = Path(f"/proc/{broker.process.pid}/cmdline").read_bytes()
        assert b"\0ledgermq.broker\0" in command
        broker.stop()
        namesrv.stop()
    finally:
        broker.close()
        namesrv.close()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_accepts_them(tmp_path: Path) -> None:
    names = []
    (tmp_path / "opt").symlink_to(ROOT)
    for path in UNITS.glob("*.service"):
        unit = tmp_path / path.name.replace("@", f"@{INSTANCE}")
        unit.write_text(path.read_text().replace("/opt/ledgermq/bin", f"{tmp_path}/opt/bin"))
        names.append(str(unit))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert len(names) == 2
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stderr, done.stderr
