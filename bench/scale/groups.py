"""Whole broker groups side by side on this machine, nearly idle."""

import time
from contextlib import ExitStack
from pathlib import Path

from bench import proc
from bench.peers.ours import InstalledLauncher, settings
from tests.support import wait_until
from tests.support.cluster import Cluster

from . import Point

_SETTLE_S = 3.0


def measure(folder: Path, sizes: list[int], seconds: float) -> list[Point]:
    """Points for so many groups of three under one name server."""
    points: list[Point] = []
    for count in sizes:
        points += _measure_one(folder / str(count), count, seconds)
    return points


def _measure_one(folder: Path, count: int, seconds: float) -> list[Point]:
    folder.mkdir()
    with ExitStack() as stack:
        first = Cluster(folder / "0", extra_conf=_settings(0), launcher=InstalledLauncher())
        stack.callback(first.stop, 0)
        clusters = [first]
        first.start()
        for number in range(1, count):
            cluster = Cluster(
                folder / str(number), extra_conf=_settings(number), launcher=InstalledLauncher()
            )
            cluster.name_servers = first.name_servers
            stack.callback(_kill, cluster)
            for node in cluster.nodes:
                cluster.spawn(node)
            clusters.append(cluster)
        brokers = [node for cluster in clusters for node in cluster.nodes]
        wait_until(lambda: len(first.listed()) == len(brokers), 60.0, "all brokers")
        wait_until(lambda: _leaders(first, count) == count, 60.0, "a leader of each group")
        time.sleep(_SETTLE_S)
        pids = {f"{node.folder}": node.pid for node in brokers}
        server = first.name_servers[0].pid
        with proc.usage(pids | {"name server": server}) as used:
            time.sleep(seconds)
        memory = sum(proc.pss_bytes(pid) for pid in pids.values())
    busy = sum(used.cpu_s[name] for name in pids) / used.seconds
    at = f"{count} groups of three brokers, idle"
    return [
        Point("groups: share of a processor, all brokers", at, count, busy),
        Point("groups: MB of all brokers", at, count, memory / 1e6),
        Point(
            "groups: share of a processor, name server", at, count,
            used.cpu_s["name server"] / used.seconds,
        ),
    ]  # fmt: skip


def _settings(number: int) -> dict[str, str]:
    name = f"RaftNode{number:03d}"
    return settings("ASYNC_FLUSH") | {"brokerName": name, "dLegerGroup": name}


def _leaders(cluster: Cluster, count: int) -> int:
    return sum(1 for n in range(count) if 0 in cluster.broker_ids(f"RaftNode{n:03d}"))


def _kill(cluster: Cluster) -> None:
    """End its brokers; the name server is the first one's."""
    cluster.name_servers = []
    cluster.stop(0)
