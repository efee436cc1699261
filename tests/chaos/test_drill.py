"""The drill of the guides: kill the leader under load, lose nothing, go on, take it back."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.load import Load, load_loop, longest_gap_ms
from tests.chaos.reading import missing
from tests.support import wait_until
from tests.support.cluster import ROOT, Cluster, Node

pytestmark = pytest.mark.chaos

TOPIC = "TopicTest"
TRIALS = 3
MIN_SENDS_PER_S = 1000
SYNC = {"flushDiskType": "SYNC_FLUSH"}


def cluster_list(cluster: Cluster) -> dict[str, str]:
    """Address -> BID, as `mqadmin clusterList` prints them."""
    done = subprocess.run(
        [sys.executable, "-m", "ledgermq.admin.mqadmin", "clusterList", "-n", cluster.name_server],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("RaftCluster")]
    return {row[3]: row[2] for row in rows}


def holder_of(port: int) -> int:
    """Pid of the process that listens on a port, the way the guide finds it (lsof -i)."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rsplit(":", 1)[1], 16) == port and fields[3] == "0A":
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(fd.readlink()) for fd in (process / "fd").iterdir()]
        except OSError:
            continue
        if inodes & set(links):
            return int(process.name)
    raise AssertionError(f"nobody listens on {port}")


def catch_up(cluster: Cluster, node: Node, load: Load) -> None:
    """Start the killed node again; it is listed as a follower and serves what was sent before."""
    before = load.acked()
    cluster.restart(node)
    assert cluster_list(cluster)[node.address] in {"1", "2", "3"}
    wait_until(
        lambda: not missing(node.address, TOPIC, before[-200:]), 20, f"{node.name} caught up"
    )


def one_trial(folder: Path) -> int:
    """One fresh cluster, one killed leader; the outage in ms."""
    with Cluster(folder, extra_conf=SYNC) as cluster:
        with load_loop(cluster.name_server, folder / "acked.jsonl") as load:
            load.wait_for_more(1000)
            began, count = time.monotonic(), len(load.acked())
            load.wait_for_more(2000)
            rate = (len(load.acked()) - count) / (time.monotonic() - began)
            leader = wait_until(cluster.leader, what="a leader")
            assert holder_of(leader.port) == leader.pid
            killed_ms = time.time_ns() // 1_000_000
            cluster.kill9(leader)
            load.wait_for_more(2000)
            listed = wait_until(
                lambda: {b: a for a, b in cluster_list(cluster).items()}.get("0"), what="BID 0"
            )
            assert listed != leader.address
            catch_up(cluster, leader, load)
            load.stop()
        acked = load.acked()
        wait_until(
            lambda: not any(missing(n.address, TOPIC, acked) for n in cluster.nodes),
            20,
            "every acknowledged message at its queue and offset on every node",
        )
        assert rate >= MIN_SENDS_PER_S, f"only {rate:.0f} sends/s before the kill"
        outage_ms = longest_gap_ms(acked, killed_ms)
        print(f"\noutage {outage_ms} ms, {len(acked)} acknowledged, {rate:.0f} sends/s before")
        return outage_ms


def test_killed_leader(tmp_path: Path) -> None:
    """Three fresh clusters; every SEND_OK is kept and the outage is short."""
    outages = [one_trial(tmp_path / str(i)) for i in range(TRIALS)]
    print(f"\noutages: {outages} ms, median {statistics.median(outages)} ms")
    assert statistics.median(outages) < 2000


def test_sigterm_of_the_leader_hands_over(tmp_path: Path) -> None:
    """A stop of the leader costs no send."""
    with Cluster(tmp_path, extra_conf=SYNC) as cluster:
        with load_loop(cluster.name_server, tmp_path / "acked.jsonl") as load:
            load.wait_for_more(1000)
            leader = wait_until(cluster.leader, what="a leader")
            stopped_ms = time.time_ns() // 1_000_000
            assert cluster.terminate(leader) == 0
            load.wait_for_more(1000)
            printed = load.stop()
        acked = load.acked()
        print(f"\nlongest gap {longest_gap_ms(acked, stopped_ms)} ms")
        assert printed.splitlines()[-1].endswith("failure 0"), printed
        others = [n for n in cluster.nodes if n is not leader]
        wait_until(
            lambda: not any(missing(n.address, TOPIC, acked) for n in others), 20, "all readable"
        )


def test_all_killed_at_once(tmp_path: Path) -> None:
    """kill -9 of every broker: after the restart every acknowledged message is there."""
    with Cluster(tmp_path, extra_conf=SYNC) as cluster:
        with load_loop(cluster.name_server, tmp_path / "acked.jsonl") as load:
            load.wait_for_more(2000)
            for node in cluster.nodes:
                cluster.kill9(node)
            for node in cluster.nodes:
                cluster.spawn(node)
            load.wait_for_more(500)
            load.stop()
        acked = load.acked()
        wait_until(
            lambda: not any(missing(n.address, TOPIC, acked) for n in cluster.nodes),
            20,
            "all readable everywhere",
        )


def test_minority_does_not_acknowledge(tmp_path: Path) -> None:
    """One node of three alone takes nothing; with a second one sends go on."""
    with Cluster(tmp_path, extra_conf=SYNC) as cluster:
        with load_loop(cluster.name_server, tmp_path / "acked.jsonl") as load:
            load.wait_for_more(500)
            leader = wait_until(cluster.leader, what="a leader")
            followers = [n for n in cluster.nodes if n is not leader]
            for node in followers:
                cluster.kill9(node)
            dead_ms = time.time_ns() // 1_000_000
            wait_until(lambda: cluster.leader() is None, 10, "the lone node to step down")
            cluster.spawn(followers[0])
            load.wait_for_more(500)
            load.stop()
        acked = load.acked()
        pause = longest_gap_ms(acked, dead_ms)
        assert pause > 500, f"sends were acknowledged without a majority (pause {pause} ms)"
        alive = [leader, followers[0]]
        wait_until(
            lambda: not any(missing(n.address, TOPIC, acked) for n in alive), 20, "all readable"
        )
