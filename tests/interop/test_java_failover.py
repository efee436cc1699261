"""The Java producer's endless loop while the leader is killed with -9."""

import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop import jvm
from tests.interop.conftest import unavailable
from tests.interop.java_client import JavaClient
from tests.support import wait_until
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.interop, pytest.mark.chaos]

VERSION = "4.9.5"


def _grows(file: Path, by: int) -> Callable[[], bool]:
    """A predicate: the file has that many lines more than now."""
    start = _lines(file)
    return lambda: _lines(file) >= start + by


def _lines(file: Path) -> int:
    return len(file.read_text("utf-8").splitlines()) if file.exists() else 0


def test_acknowledged_messages_survive_a_killed_leader(cluster: Cluster, tmp_path: Path) -> None:
    try:
        jvm.driver_classes(VERSION)
    except jvm.JavaMissingError as e:
        unavailable(str(e))
    client = JavaClient(VERSION, cluster.name_server, tmp_path)
    topic, acked = f"Loop_{uuid.uuid4().hex[:6]}", tmp_path / "acked.txt"
    killed = cluster.leader()
    assert killed is not None
    loop = f"loop,topic={topic},threads=4,pause=2,poll=500,timeout=1000,file={acked}"
    with client.running(loop):
        wait_until(lambda: _lines(acked) > 500, 30, "500 acknowledged sends")
        cluster.kill9(killed)
        start = time.monotonic()
        wait_until(lambda: cluster.leader() not in (None, killed), 60, "a new leader")
        wait_until(_grows(acked, 500), 60, "500 sends acknowledged by the new leader")
        print(f"500 new sends acknowledged {time.monotonic() - start:.1f} s after the kill")
    cluster.restart(killed, timeout_s=90)
    report = client.run(f"pull,topic={topic},group=P_{topic}")
    stored = {(e["queue"], e["offset"]): e["body"] for e in report.of("received", "pull")}
    for line in acked.read_text("utf-8").splitlines():
        body, _, queue, offset, _ = line.split("\t")
        assert stored.get((int(queue), int(offset))) == body, line
