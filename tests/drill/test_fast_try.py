"""fast-try.sh with real processes: what a new user does first."""

import os
import pty
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drill.fast_try import FastTry, copy_of_the_tree
from tests.support import wait_until

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000


def test_the_main_job(fast_try: FastTry) -> None:
    shown = fast_try("start").stdout
    ids = re.findall(r"^RaftCluster +RaftNode00 +(\d) +\S+:\d+", shown, re.MULTILINE)
    assert len(ids) == 3, shown
    assert ids[0] == "0"
    assert f"Logs: {fast_try.store}/logs" in shown
    next_commands = shown.partition("Next: ")[2]
    assert len(next_commands.strip().splitlines()) == 3
    for word in ("sendMessage", "kill-leader", "stop"):
        assert word in next_commands

    roles = fast_try.status()
    assert [role for role, _ in roles.values()].count("leader") == 1
    assert len({pid for _, pid in roles.values()}) == 4

    again = fast_try("start")
    assert "It runs already" in again.stdout
    assert fast_try.status() == roles

    disk = sum(p.stat().st_blocks * 512 for p in fast_try.store.rglob("*") if p.is_file())
    assert disk < 100 * MEGABYTE
    assert "boot success" in fast_try("logs", "n1").stdout

    assert "Stopped:" in fast_try("stop").stdout
    assert fast_try.processes() == []
    assert fast_try("status", code=5).stdout.count(" down ") == 4


def test_the_leader_is_killed_and_started_again(fast_try: FastTry) -> None:
    fast_try("start")
    before = fast_try.status()
    leader = fast_try.leader()
    now_ms = time.time() * 1000
    said = fast_try("kill-leader").stdout
    killed = re.search(
        r"Killed (\S+), the leader of RaftNode00: pid (\d+) at .* \((\d+) ms\)", said
    )
    assert killed, said
    assert killed[1] == leader
    assert int(killed[2]) == before[leader][1]
    assert 0 <= int(killed[3]) - now_ms < 60_000
    assert re.search(r"^n\d leads RaftNode00 after \d+ ms", said, re.MULTILINE)

    after = fast_try.status(code=5)
    assert after[leader] == ("down", 0)
    assert [role for role, _ in after.values()].count("leader") == 1
    assert f"{leader} runs again" in fast_try("restart", leader).stdout
    wait_until(
        lambda: fast_try.status()[leader][0].startswith("follower"), what=f"{leader} following"
    )


def test_a_living_node_is_restarted(fast_try: FastTry) -> None:
    fast_try("start")
    old = fast_try.status()["n1"][1]
    fast_try("restart", "n1")
    new = fast_try.status()["n1"][1]
    assert new not in (0, old)


def test_start_brings_back_what_is_missing(fast_try: FastTry) -> None:
    fast_try("start")
    before = fast_try.status()
    os.kill(before["n2"][1], signal.SIGKILL)
    wait_until(lambda: before["n2"][1] not in fast_try.processes(), what="the end of n2")
    assert "Starting: n2." in fast_try("start").stdout
    after = fast_try.status()
    assert {name: pid for name, (_, pid) in after.items() if name != "n2"} == {
        name: pid for name, (_, pid) in before.items() if name != "n2"
    }


def test_pid_files_of_the_last_boot_do_no_harm(fast_try: FastTry) -> None:
    run = fast_try.store / "run"
    run.mkdir(parents=True)
    # A number that is another program's now, one that is nobody's, and rubbish.
    (run / "n0.pid").write_text(f"{os.getpid()}\n")
    (run / "n1.pid").write_text("4194000\n")
    (run / "n2.pid").write_text("not a number\n")
    fast_try("stop")
    fast_try("start")
    assert len(fast_try.processes()) == 4


def test_settings_are_kept_for_the_other_commands(fast_try: FastTry) -> None:
    fast_try("start")
    for name in ("NAMESRV_PORT", "BROKER_PORT", "DLEDGER_PORT"):
        del fast_try.env[name]
    assert fast_try.leader()
    fast_try("kill-leader")
    assert "Stopped:" in fast_try("stop").stdout


def test_two_clusters_side_by_side_one_with_two_groups(fast_try: FastTry, tmp_path: Path) -> None:
    other = FastTry(tmp_path / "other", EXTRA_CONF="defaultTopicQueueNums=3")
    try:
        fast_try("start")
        shown = other("start", "two-groups").stdout
        for group in ("RaftNode00", "RaftNode01"):
            ids = re.findall(rf"^RaftCluster +{group} +(\d) ", shown, re.MULTILINE)
            assert len(ids) == 3, shown
        assert len(other.status()) == 7
        assert "RaftNode01-" in other("kill-leader", "RaftNode01").stdout
        conf = (other.store / "conf" / "broker-RaftNode01-n0.conf").read_text()
        assert conf.endswith("\ndefaultTopicQueueNums=3\n")
        assert [role for role, _ in fast_try.status().values()].count("leader") == 1
    finally:
        other("clean", "--yes")
    assert not other.store.exists()
    assert len(fast_try.processes()) == 4


def test_a_taken_port_is_named_with_its_holder(fast_try: FastTry) -> None:
    port = int(fast_try.env["BROKER_PORT"]) + 10
    with socket.create_server(("127.0.0.1", port)):
        said = fast_try("start", code=4).stderr
    assert f"port {port} (n1) by pid {os.getpid()} (" in said
    assert "BROKER_PORT" in said
    assert fast_try.processes() == []


def outgoing_connection(to: tuple[str, int]) -> socket.socket:
    """One whose port nothing else holds, not even a closed connection; nor the two behind it."""
    while True:
        client = socket.create_connection(to, source_address=("127.0.0.1", 0))
        port = client.getsockname()[1]
        if port < 65_000 and all(is_bindable(port + i) for i in (1, 2)):
            return client
        client.close()


def is_bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_a_port_of_an_outgoing_connection_is_waited_for(fast_try: FastTry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = outgoing_connection(server.getsockname())
        fast_try.env["DLEDGER_PORT"] = str(client.getsockname()[1])
        # Linger 0: closed with a reset, so that nothing of it stays behind.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        hang_up = threading.Timer(1.5, client.close)
        hang_up.start()
        fast_try("start")
        hang_up.join()


@pytest.mark.parametrize("begun", ["run/start.lock", "conf/broker-n0.conf", "run/n2.pid"])
def test_ctrl_c_leaves_nothing_running(fast_try: FastTry, begun: str) -> None:
    starting = subprocess.Popen(
        ["sh", str(fast_try.script), "start"],
        env=fast_try.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_until((fast_try.store / begun).exists, what=begun)
    # A terminal sends it to everything in the foreground.
    os.killpg(starting.pid, signal.SIGINT)
    said = starting.communicate(timeout=60)[0]
    assert starting.returncode == 130, said
    assert "Traceback" not in said
    assert fast_try.processes() == []
    assert list((fast_try.store / "run").glob("*.pid")) == []


def test_a_closed_terminal_does_not_end_the_cluster(fast_try: FastTry) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/bin/sh", ["sh", str(fast_try.script), "start"], fast_try.env)
    shown = b""
    while b"kill-leader" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert len(fast_try.processes()) == 4
    assert fast_try.leader()


def test_clean_asks_first_and_then_removes_all(fast_try: FastTry) -> None:
    fast_try("start")
    fast_try("stop")
    assert "Nothing removed" in fast_try("clean", code=1).stderr
    assert (fast_try.store / "node00").is_dir()
    fast_try("clean", "--yes")
    assert not fast_try.store.exists()


def test_a_node_that_cannot_start_is_shown_with_its_error(fast_try: FastTry) -> None:
    fast_try.env["EXTRA_CONF"] = "flushDiskType=SOMETIMES"
    said = fast_try("start", code=1).stderr
    assert "flushDiskType" in said
    assert "SOMETIMES" in said
    assert fast_try.processes() == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own belong to one user."""
    with tempfile.TemporaryDirectory(prefix="ledgermq-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_fresh_copy_as_an_ordinary_user(open_folder: Path) -> None:
    """Without git, in a path with blanks and Chinese characters, with an environment of its own."""
    home = open_folder / "我的 文件"
    home.mkdir()
    root = copy_of_the_tree(home / "ledger mq")
    become: tuple[str, ...] = ()
    if os.geteuid() == 0:
        become = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        for path in (home, *home.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    cluster = FastTry(home / "存储 1", root, HOME=str(home), LEDGERMQ_VENV="")
    try:
        shown = cluster("start", before=become)
        assert "Installing ledgermq" in shown.stderr
        assert len(re.findall(r"^RaftCluster ", shown.stdout, re.MULTILINE)) == 3
        assert (root / ".venv" / "pyvenv.cfg").is_file()
        assert "Stopped:" in cluster("stop", before=become).stdout
    finally:
        cluster.kill_rest()
