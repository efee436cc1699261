"""Bad input gets a clear error, and the sends of a producer beside it all succeed."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.load import Load, load_loop
from tests.support import wait_until
from tests.support.cluster import Cluster, reserve_port

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).resolve().parents[2]
OVERSIZED = (64 << 20).to_bytes(4) + b"\x00\x00\x00\x10"
GARBAGE = b"\x00\x00\x00\x20" + bytes(range(255, 0, -1))
HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
FULL_WIDTH_COMMA = "\uff0c"
HALF_A_FRAME = b"\x00\x00\x00\x40\x00\x00"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as c:
        yield c


@pytest.fixture(scope="module")
def load(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """A producer beside all these tests; not one of its sends may fail."""
    record = tmp_path_factory.mktemp("load") / "acked.jsonl"
    with load_loop(cluster.name_server, record, workers=2) as running:
        running.wait_for_more(20)
        yield running
        printed = running.stop()
    assert printed.splitlines()[-1].endswith("failure 0"), printed


@pytest.fixture
def still_sending(load: Load) -> Iterator[None]:
    """Sends go on after the test as before it."""
    yield
    load.wait_for_more(20)


def closed_by_server(port: int, data: bytes) -> bool:
    """Send bytes; whether the other side closes the connection."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.settimeout(5)
        s.sendall(data)
        try:
            return s.recv(4096) == b""
        except ConnectionResetError:
            return True


@pytest.mark.parametrize(
    "data", [GARBAGE, HTTP, OVERSIZED], ids=["garbage", "a browser", "oversized frame"]
)
@pytest.mark.usefixtures("still_sending")
def test_bytes_that_are_no_frame(cluster: Cluster, data: bytes) -> None:
    """The connection is closed, the reason logged; name server, broker and peer port alike."""
    leader = cluster.leader()
    assert leader is not None
    raft_port = cluster.raft_ports[cluster.nodes.index(leader)]
    for port in (cluster.name_servers[0].port, leader.port, leader.port - 2, raft_port):
        assert closed_by_server(port, data), port
    log = (leader.folder / "logs" / "broker.log").read_text()
    assert "over the limit" in log or "bad bytes" in log
    assert all(n.alive for n in cluster.nodes)


@pytest.mark.usefixtures("still_sending")
def test_half_a_frame(cluster: Cluster) -> None:
    """A connection that stops in the middle of a frame disturbs nobody."""
    leader = cluster.leader()
    assert leader is not None
    with socket.create_connection(("127.0.0.1", leader.port), 5) as s:
        s.sendall(HALF_A_FRAME)
    assert leader.alive


def conf_of_n0(cluster: Cluster, tmp_path: Path, **changes: str) -> Path:
    """n0's configuration with other ports and store, and `changes`."""
    values = dict(
        line.split(" = ", 1) for line in cluster.nodes[0].conf.read_text().splitlines() if line
    )
    values |= {"listenPort": str(reserve_port(-2)), "storePathRootDir": str(tmp_path / "store")}
    values |= changes
    path = tmp_path / "broker.conf"
    path.write_text("".join(f"{k} = {v}\n" for k, v in values.items()), "utf-8")
    return path


def start_broker(conf: Path) -> subprocess.Popen[str]:
    """A broker process that is expected to fail or to complain."""
    return subprocess.Popen(
        [sys.executable, "-m", "ledgermq.broker", "-c", str(conf)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ROCKETMQ_LOG_HOME": str(conf.parent / "logs"),
        },
        cwd=conf.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def refused(conf: Path) -> str:
    """What a broker prints that refuses its configuration."""
    process = start_broker(conf)
    try:
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 1, out
    assert "Traceback" not in out
    return out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"listenPort": ""}, ["listenPort"], id="missing value"),
        pytest.param(
            {"namesrvAddr": f"127.0.0.1:9876{FULL_WIDTH_COMMA}127.0.0.1:9877"},
            [FULL_WIDTH_COMMA],
            id="full-width comma",
        ),
        pytest.param({"dLegerSelfId": "n7"}, ["n7", "dLegerPeers"], id="self id not in peers"),
    ],
)
@pytest.mark.usefixtures("still_sending")
def test_configuration(
    cluster: Cluster, tmp_path: Path, changes: dict[str, str], words: list[str]
) -> None:
    """The error names file, line, key and what is wrong."""
    out = refused(conf_of_n0(cluster, tmp_path, **changes))
    assert "broker.conf:" in out
    for word in (*changes, *words):
        assert word in out


@pytest.mark.usefixtures("still_sending")
def test_unknown_key(cluster: Cluster, tmp_path: Path) -> None:
    """A key that nobody knows warns, with the key that was probably meant."""
    conf = conf_of_n0(cluster, tmp_path, flushDiskTyp="SYNC_FLUSH")
    done = subprocess.run(
        [sys.executable, "-m", "ledgermq.broker", "-c", str(conf), "-m"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "broker.conf:" in done.stderr
    assert "flushDiskTyp" in done.stderr
    assert "flushDiskType" in done.stderr


@pytest.mark.usefixtures("still_sending")
def test_store_of_another_node(cluster: Cluster, tmp_path: Path) -> None:
    """A node does not open a folder that holds another node's log."""
    store = cluster.nodes[1].folder / "store"
    out = refused(conf_of_n0(cluster, tmp_path, storePathRootDir=str(store)))
    assert "holds the store of node 'n1'" in out


@pytest.mark.usefixtures("still_sending")
def test_store_in_use(cluster: Cluster, tmp_path: Path) -> None:
    """Two processes do not share a store."""
    store = cluster.nodes[0].folder / "store"
    assert "in use by another process" in refused(
        conf_of_n0(cluster, tmp_path, storePathRootDir=str(store))
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"dLegerGroup": "Other"}, "dLegerGroup", id="another group"),
        pytest.param({"dLegerSelfId": "n9"}, "dLegerPeers", id="unknown id"),
        pytest.param({"mappedFileSizeCommitLog": "65536"}, "mappedFileSize", id="segment size"),
    ],
)
@pytest.mark.usefixtures("still_sending")
def test_wrong_peer(cluster: Cluster, tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    """A peer of another make is refused by the group, and is told why."""
    own = changes.get("dLegerSelfId", "n0")
    n1, n2 = (f"n{i}-127.0.0.1:{cluster.raft_ports[i]}" for i in (1, 2))
    peers = f"{own}-127.0.0.1:{reserve_port()};{n1};{n2}"
    process = start_broker(conf_of_n0(cluster, tmp_path, dLegerPeers=peers, **changes))
    log = tmp_path / "logs" / "broker.log"
    try:
        wait_until(
            lambda: log.exists() and "refuses this node" in log.read_text(), 20, "the refusal"
        )
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=20)
    assert reason in log.read_text()
    assert "Traceback" not in out
    assert any(reason in (n.folder / "logs/broker.log").read_text() for n in cluster.nodes[1:])
