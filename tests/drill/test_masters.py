"""fast-try.sh single and 2m-noslave: brokers without a group, with real processes."""

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.drill.fast_try import FastTry
from tests.support import wait_until

pytestmark = pytest.mark.slow

BODIES = [f"message {n}" for n in range(8)]


def kill(cluster: FastTry, node: str) -> None:
    pid = cluster.status()[node][1]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in cluster.processes(), what=f"the end of {node}")


def test_a_single_broker(fast_try: FastTry) -> None:
    shown = fast_try("start", "single").stdout
    port = int(fast_try.env["BROKER_PORT"])
    assert re.search(rf"^DefaultCluster +broker-a +0 +127\.0\.0\.1:{port} ", shown, re.MULTILINE)
    next_commands = shown.partition("Next: ")[2]
    assert len(next_commands.strip().splitlines()) == 3
    assert "kill-leader" not in next_commands
    roles = fast_try.status()
    assert [role for role, _ in roles.values()] == ["name server", "master"]
    assert "It runs already" in fast_try("start", "single").stdout
    assert fast_try.status() == roles

    fast_try.send(*BODIES)
    assert fast_try.bodies() == BODIES
    assert "broker-a runs again" in fast_try("restart", "broker-a").stdout
    assert fast_try.status()["broker-a"][1] not in (0, roles["broker-a"][1])
    assert fast_try.bodies() == BODIES
    kill(fast_try, "broker-a")
    assert fast_try.status(code=5)["broker-a"] == ("down", 0)
    assert "Starting: broker-a." in fast_try("start", "single").stdout
    assert fast_try.bodies() == BODIES

    assert "boot success" in fast_try("logs", "broker-a").stdout
    assert "Stopped:" in fast_try("stop").stdout
    assert fast_try.processes() == []
    assert fast_try("status", code=5).stdout.count(" down ") == 2
    fast_try("start", "single")
    assert fast_try.bodies() == BODIES
    fast_try("clean", "--yes")
    assert fast_try.processes() == []
    assert not fast_try.store.exists()


def test_two_masters(fast_try: FastTry) -> None:
    shown = fast_try("start", "2m-noslave").stdout
    port = int(fast_try.env["BROKER_PORT"])
    for name, at in (("broker-a", port), ("broker-b", port + 10)):
        assert re.search(rf"^DefaultCluster +{name} +0 +127\.0\.0\.1:{at} ", shown, re.MULTILINE)
    assert [role for role, _ in fast_try.status().values()] == ["name server", "master", "master"]
    fast_try.admin("updateTopic", "-c", "DefaultCluster", "-t", "TopicTest", "-r", "4", "-w", "4")
    topic = fast_try.admin("topicStatus", "-t", "TopicTest")
    assert len(re.findall(r"^broker-[ab] ", topic, re.MULTILINE)) == 8
    fast_try.send(*BODIES)
    assert fast_try.bodies() == BODIES

    kill(fast_try, "broker-a")
    assert fast_try.status(code=5)["broker-b"][0] == "master"
    # Sends go on at the other one.
    more = [f"without a {n}" for n in range(3)]
    fast_try.send(*more)
    assert "broker-a runs again" in fast_try("restart", "broker-a").stdout
    assert fast_try.bodies() == sorted(BODIES + more)
    fast_try("stop")
    assert fast_try.processes() == []
    fast_try("start", "2m-noslave")
    assert fast_try.bodies() == sorted(BODIES + more)
    fast_try("clean", "--yes")
    assert not fast_try.store.exists()


def test_kill_leader_says_what_to_do_instead(fast_try: FastTry) -> None:
    fast_try("start", "single")
    said = fast_try("kill-leader", code=2).stderr
    assert "'single' has no leader" in said
    assert f"kill -9 {fast_try.status()['broker-a'][1]} " in said
    assert "restart broker-a" in said


@pytest.mark.parametrize(("runs", "asked"), [("single", ""), ("dledger", "2m-noslave")])
def test_another_deployment_is_refused(fast_try: FastTry, runs: str, asked: str) -> None:
    fast_try("start", runs)
    before = fast_try.status()
    said = fast_try("start", *asked.split(), code=1).stderr
    assert f"'{runs}' runs in {fast_try.store}" in said
    assert re.search(rf"fast-try\.sh\"? start {runs}$", said, re.MULTILINE)
    assert re.search(r"fast-try\.sh\"? stop$", said, re.MULTILINE)
    assert fast_try.status() == before


def test_another_deployment_after_a_stop(fast_try: FastTry) -> None:
    fast_try("start", "single")
    fast_try.send("before")
    fast_try("stop")
    # The second master joins the first one, whose messages stay.
    fast_try("start", "2m-noslave")
    assert list(fast_try.status()) == ["namesrv", "broker-a", "broker-b"]
    assert fast_try.bodies() == ["before"]


def test_the_settings_reach_masters(fast_try: FastTry) -> None:
    fast_try.env |= {"EXTRA_CONF": "defaultTopicQueueNums=3", "HOST": "127.0.0.1"}
    fast_try("start", "2m-noslave")
    for name in ("NAMESRV_PORT", "BROKER_PORT", "DLEDGER_PORT", "EXTRA_CONF"):
        del fast_try.env[name]
    assert fast_try.status()["broker-b"][0] == "master"
    assert "defaultTopicQueueNums=3" in (fast_try.store / "conf" / "broker-b.conf").read_text()
    fast_try("restart", "broker-b")
    assert "defaultTopicQueueNums=3" in (fast_try.store / "conf" / "broker-b.conf").read_text()
    assert "Stopped:" in fast_try("stop").stdout


def test_single_and_a_group_side_by_side(fast_try: FastTry, tmp_path: Path) -> None:
    other = FastTry(tmp_path / "other")
    try:
        fast_try("start", "single")
        other("start")
        assert other.leader()
        assert fast_try.status()["broker-a"][0] == "master"
    finally:
        other("clean", "--yes")
    assert len(fast_try.processes()) == 2


def test_a_masters_taken_port_is_named(fast_try: FastTry) -> None:
    port = int(fast_try.env["BROKER_PORT"]) + 8
    with socket.create_server(("127.0.0.1", port)):
        said = fast_try("start", "2m-noslave", code=4).stderr
    assert f"port {port} (broker-b, for old clients) by pid {os.getpid()} (" in said
    assert fast_try.processes() == []


def test_a_master_that_cannot_start_is_shown_with_its_error(fast_try: FastTry) -> None:
    fast_try.env["EXTRA_CONF"] = "flushDiskType=SOMETIMES"
    said = fast_try("start", "single", code=1).stderr
    assert "flushDiskType" in said
    assert fast_try.processes() == []
