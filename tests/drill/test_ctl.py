"""namesrv-ctl.sh and broker-ctl.sh: ours, and those that a guide has its readers write."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.drill.fast_try import ROOT, FastTry, free_range
from tests.drill.shell import Shell, has_ended, processes_below
from tests.support import wait_until

pytestmark = pytest.mark.slow

CTL = {kind: f"sh '{ROOT}/bin/{kind}-ctl.sh'" for kind in ("namesrv", "broker")}


class Folder:
    """A folder with a name server's and a broker's configuration on free ports."""

    def __init__(self, shell: Shell, name: str) -> None:
        self.shell = shell
        self.path = shell.folder / name
        self.path.mkdir()
        self.port = first = free_range()
        self.namesrv = f"localhost:{first}"
        self.broker = f"127.0.0.1:{first + 13}"
        (self.path / "namesrv.conf").write_text(f"listenPort={first}\n")
        (self.path / "broker.conf").write_text(
            f"brokerName={name}\nbrokerIP1=127.0.0.1\nlistenPort={first + 13}\n"
        )

    def ctl(self, kind: str, words: str, code: int = 0) -> str:
        return self.shell.type(f"{CTL[kind]} {words}", code, cwd=self.path)

    def pid(self, kind: str) -> int:
        return int((self.path / f"{kind}.pid").read_text())


@pytest.fixture
def here(shell: Shell) -> Folder:
    """A folder of its own, as `mkdir m1 && cd m1`."""
    # Ours look for their own processes only; let them see the real ones.
    del shell.env["LEDGERMQ_PROC"]
    return Folder(shell, "m 1")


def test_a_day_of_a_broker(here: Folder) -> None:
    said = here.ctl("namesrv", "start -c namesrv.conf")
    pid = here.pid("namesrv")
    assert said == f"The name server of this folder runs: pid {pid}, 0.0.0.0:{here.port}\n"
    said = here.ctl("broker", f'start -n "{here.namesrv};localhost:1" -c broker.conf')
    runs = f"The broker of this folder runs: pid {here.pid('broker')}, {here.broker}"
    with_both = f"{runs}, registered as 0 with {here.namesrv}, no answer with localhost:1\n"
    wait_until(lambda: here.ctl("broker", "status") == with_both, what=with_both)
    assert said.startswith(runs)
    # The guides' -Duser.home=`pwd` is this folder, though nobody typed it.
    assert (here.path / "store").is_dir()
    assert {f.name for f in (here.path / "logs" / "rocketmqlogs").iterdir()} == {
        "broker.log",
        "namesrv.log",
    }
    assert list(here.shell.home.iterdir()) == []

    old = here.pid("broker")
    assert here.ctl("broker", "start").startswith("It runs already.\n")
    assert here.pid("broker") == old
    said = here.ctl("broker", "restart")
    assert f"Stopped the broker of this folder, pid {old}." in said
    assert has_ended(old)
    assert here.pid("broker") != old
    assert here.broker in said, "restart keeps the arguments"

    old = here.pid("broker")
    assert here.ctl("broker", "stop") == f"Stopped the broker of this folder, pid {old}.\n"
    assert has_ended(old)
    assert here.ctl("broker", "status", code=5) == "No broker of this folder runs.\n"
    assert here.ctl("broker", "stop") == "No broker of this folder runs.\n"
    here.ctl("namesrv", "status")
    here.ctl("namesrv", "stop")
    assert not list(here.path.glob("*.pid"))
    assert not list(here.path.glob("*.args"))


def test_a_killed_broker_is_restarted_as_it_was(here: Folder) -> None:
    here.ctl("broker", "start -c broker.conf")
    old = here.pid("broker")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: has_ended(old), what="the end of the broker")
    here.ctl("broker", "status", code=5)
    said = here.ctl("broker", "restart")
    assert f"pid {here.pid('broker')}, {here.broker}, no name server known" in said


def test_new_arguments_and_a_lost_nohup_out(here: Folder) -> None:
    here.ctl("broker", "start -c broker.conf")
    (here.path / "nohup.out").unlink()
    assert "stood in nohup.out, which is gone" in here.ctl("broker", "status")
    said = here.ctl("broker", f"restart -c broker.conf -n {here.namesrv}")
    assert said.endswith(f"{here.broker}, no answer with {here.namesrv}\n")


def test_each_folder_has_its_own(here: Folder) -> None:
    there = Folder(here.shell, "m2")
    for folder in (here, there):
        folder.ctl("namesrv", "start -c namesrv.conf")
    # A pid file may have come with a copied folder: `cp -r 1m 2m`.
    pid = here.pid("namesrv")
    (there.path / "broker.pid").write_text(f"{pid}\n")
    assert there.ctl("broker", "stop") == "No broker of this folder runs.\n"
    own = there.pid("namesrv")
    (there.path / "namesrv.pid").write_text(f"{pid}\n")
    there.ctl("namesrv", "stop")
    assert not has_ended(pid)
    assert not has_ended(own)
    here.ctl("namesrv", "stop")
    assert has_ended(pid)


@pytest.mark.parametrize("old", ["", "not a number\n", "4194000\n", f"{os.getpid()}\n"])
def test_an_old_pid_file_does_no_harm(here: Folder, old: str) -> None:
    (here.path / "namesrv.pid").write_text(old)
    here.ctl("namesrv", "status", code=5)
    here.ctl("namesrv", "stop")
    here.ctl("namesrv", "start -c namesrv.conf")


def test_a_start_that_fails_says_why(here: Folder) -> None:
    done = subprocess.run(
        ["sh", str(ROOT / "bin" / "broker-ctl.sh"), "start", "-c", "none.conf"],
        cwd=here.path, env=here.shell.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "The broker ended during the start" in done.stderr
    assert "none.conf" in done.stderr
    here.ctl("broker", "status", code=5)
    assert not list(here.path.glob("*.pid"))


def test_it_outlives_its_terminal(here: Folder) -> None:
    line = f"{CTL['namesrv']} start -c namesrv.conf"
    shown = here.shell.type_at_terminal(line, here.path, hang_up=True)
    assert f"pid {here.pid('namesrv')}, " in shown
    here.ctl("namesrv", "status")


def test_ctrl_c_leaves_nothing_running(here: Folder) -> None:
    # A boot line that never comes: no write to nohup.out reaches the disk's file.
    (here.path / "nohup.out").symlink_to("/dev/null")
    starting = subprocess.Popen(
        ["sh", str(ROOT / "bin" / "namesrv-ctl.sh"), "start", "-c", "namesrv.conf"],
        cwd=here.path, env=here.shell.env, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_until((here.path / "namesrv.args").exists, what="the start")
    os.killpg(starting.pid, signal.SIGINT)
    said = starting.communicate(timeout=60)[1]
    assert starting.returncode == 130, said
    # A subshell of the script that was ended may finish its line.
    wait_until(lambda: processes_below(here.path) == [], what="the end of all")
    assert not (here.path / "namesrv.pid").exists()


# --- as a guide has its readers write them --------------------------------------------------------

GUIDES_CTL = """#!/bin/bash
case $1 in
    start)
        export JAVA_OPT="-Duser.home=`pwd`"
        nohup sh $ROCKETMQ_HOME/bin/mq{kind} {arguments} &
        ;;
    stop)
        sh $ROCKETMQ_HOME/bin/mqshutdown {kind}
        ;;
    *)
        echo "{kind}-ctl.sh start | stop"
        ;;
esac
"""


def write_guides_ctl(folder: Path, kind: str, arguments: str) -> None:
    script = folder / f"{kind}-ctl.sh"
    script.write_text(GUIDES_CTL.format(kind=kind, arguments=arguments))
    script.chmod(0o755)


def moved_conf(folder: Path, shipped: str, broker_port: int) -> Path:
    """A shipped file with a port of this test's."""
    text = (ROOT / "conf" / "2m-noslave" / shipped).read_text()
    conf = folder / shipped
    conf.write_text(re.sub(r"(?m)^listenPort=.*", f"listenPort={broker_port}", text))
    return conf


def test_two_masters_with_the_guides_scripts(shell: Shell) -> None:
    first = free_range()
    servers = f"127.0.0.1:{first};127.0.0.1:{first + 1}"
    folders = [shell.folder / name for name in ("201", "202")]
    pids: dict[str, int] = {}
    for n, folder in enumerate(folders):
        folder.mkdir()
        (folder / "namesrv.conf").write_text(f"listenPort={first + n}\n")
        write_guides_ctl(folder, "namesrv", "-c namesrv.conf")
        conf = moved_conf(folder, f"broker-{'ab'[n]}.properties", first + 13 + 10 * n)
        write_guides_ctl(folder, "broker", f'-n "{servers}" -c {conf}')
        for kind, boot in (
            ("namesrv", "Name Server boot success"),
            ("broker", "broker.* boot success"),
        ):
            assert "start | stop" in shell.type_at_terminal(f"./{kind}-ctl.sh", folder)
            shell.type_at_terminal(f"./{kind}-ctl.sh start", folder)
            shell.says(folder / "nohup.out", boot)
            (pids[f"{kind} {n}"],) = shell.adopt()
        assert f"name server is {servers}" in (folder / "nohup.out").read_text()
        assert (folder / "logs" / "rocketmqlogs" / "broker.log").exists()
        assert (folder / "store" / f"broker-{'ab'[n]}").is_dir()

    def both_registered() -> bool:
        shown = shell.type(f'sh $ROCKETMQ_HOME/bin/mqadmin clusterList -n "{servers}"')
        return len(re.findall(r"^DefaultCluster +broker-[ab] +0 ", shown, re.MULTILINE)) == 2

    wait_until(both_registered, timeout_s=30, what="two masters")
    assert list(shell.home.iterdir()) == []
    stopped = shell.type_at_terminal("./broker-ctl.sh stop", folders[0])
    assert stopped.count("Send shutdown request to mqbroker(") == 1
    shell.type_at_terminal("./namesrv-ctl.sh stop", folders[0])
    wait_until(lambda: all(has_ended(pid) for pid in pids.values()), what="the end of all")


def test_the_scripts_do_not_disturb_fast_try(here: Folder, fast_try: FastTry) -> None:
    fast_try("start", "single")
    here.ctl("namesrv", "start -c namesrv.conf")
    here.ctl("namesrv", "stop")
    assert fast_try.status()["namesrv"][1]
