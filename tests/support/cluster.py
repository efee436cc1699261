"""A cluster of real processes: name servers and one broker group, on loopback.

    with Cluster(tmp_path) as cluster:        # one name server, three brokers, a leader
        killed = cluster.leader()
        cluster.kill9(killed)
        wait_until(lambda: cluster.leader() not in (None, killed), what="a new leader")

Everything is blocking, so that it can be used from any test; from an async test go through
`asyncio.to_thread` where a pause of the loop would matter.
"""

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from ledgermq.remoting import frame
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from tests.support import wait_until
from tests.support.ports import reserve_port

HOST = "127.0.0.1"
CLUSTER_NAME = "RaftCluster"
GROUP = "RaftNode00"
ROOT = Path(__file__).resolve().parents[2]
LOG_TAIL_LINES = 40


class NodeFailedError(AssertionError):
    """A process ended, or was not ready in time; the text carries the tails of its logs."""


@dataclass(eq=False)
class Node:
    """One process of the cluster; it keeps its port, folder and configuration when restarted."""

    name: str
    role: str
    port: int
    folder: Path
    conf: Path
    # More of the command line, behind `-c F`.
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    # True between our own signal and the next start: any other end of the process is a failure.
    told_to_end: bool = False

    @property
    def address(self) -> str:
        """The address clients see."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the latest start."""
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def end(self, number: signal.Signals) -> None:
        """Send a signal that ends it; nothing happens when it is gone already."""
        self.told_to_end = True
        if self.process is not None:
            self.process.send_signal(number)

    def wait(self, grace_s: float) -> int:
        """Exit status; after the grace (seconds) it is killed, and the status is -9."""
        assert self.process is not None, f"{self.name} was never started"
        try:
            return self.process.wait(max(grace_s, 0.0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Last lines of its output and of each of its log files."""
        parts = [f"==== {self.name} ({self.role}, port {self.port}, alive={self.alive})"]
        for path in [self.folder / "stdout.log", *sorted(self.folder.glob("logs/**/*.log"))]:
            if path.exists() and path.stat().st_size:
                text = path.read_text("utf-8", "replace").splitlines()[-lines:]
                parts += [f"---- {path}", *text]
        return "\n".join(parts)


class Launcher(Protocol):
    """How a node becomes a process; the Java peer has its own."""

    start_timeout_s: float
    stop_grace_s: float

    def argv(self, node: Node) -> list[str]:
        """Command line of the node."""

    def env(self, node: Node) -> dict[str, str]:
        """Its whole environment."""


class PythonLauncher:
    """Our own nodes: `python -m ledgermq.broker -c F`."""

    start_timeout_s = 30.0
    stop_grace_s = 10.0

    def argv(self, node: Node) -> list[str]:
        """Command line of the node."""
        module = f"ledgermq.{node.role}"
        return [sys.executable, "-m", module, "-c", str(node.conf), *node.options]

    def env(self, node: Node) -> dict[str, str]:
        """Its whole environment: HOME and logs inside the node's folder."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HOME": str(node.folder),
            "ROCKETMQ_LOG_HOME": str(node.folder / "logs"),
        }


def ask(address: str, command: RemotingCommand, timeout_s: float = 3.0) -> RemotingCommand:
    """One request on a connection of its own; OSError when nobody answers in time."""
    host, _, port = address.rpartition(":")
    decoder = frame.CommandDecoder()
    with socket.create_connection((host, int(port)), timeout_s) as s:
        s.settimeout(timeout_s)
        s.sendall(frame.encode(command))
        while chunk := s.recv(65_536):
            for reply in decoder.feed(chunk):
                if reply.is_response and reply.opaque == command.opaque:
                    return reply
    raise ConnectionError(f"{address} closed the connection without an answer")


class Cluster:
    """Name servers and one replicated broker group.

    Args:
        folder: everything the nodes write goes here.
        brokers: members of the group, n0, n1, ….
        name_servers: independent name servers.
        extra_conf: lines added to each broker's configuration; they win over ours.
        launcher: how nodes are started; our own processes by default.

    Attributes:
        launcher: may be set to another one while a node is down; it starts the node again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        brokers: int = 3,
        name_servers: int = 1,
        extra_conf: Mapping[str, str] | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        self.folder = folder
        self.launcher = launcher or PythonLauncher()
        self._extra_conf = dict(extra_conf or {})
        self.name_servers = [self._new_node(f"namesrv{i}", "namesrv") for i in range(name_servers)]
        self.nodes = [self._new_node(f"n{i}", "broker") for i in range(brokers)]
        self.raft_ports = [reserve_port() for _ in self.nodes]

    @property
    def name_server(self) -> str:
        """Addresses of the name servers, as clients take them."""
        return ";".join(n.address for n in self.name_servers)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout_s: float | None = None) -> None:
        """Start all nodes, wait until clients can send.

        Raises:
            NodeFailedError: a node ended, or no leader was seen in time; nothing is left running.
        """
        timeout_s = timeout_s or self.launcher.start_timeout_s
        try:
            for node in self.name_servers:
                self.spawn(node)
            self._wait(lambda: all(map(_listens, self.name_servers)), timeout_s, "name servers")
            for node in self.nodes:
                self.spawn(node)
            self.wait_ready(timeout_s)
        except BaseException:
            self.stop(grace_s=0)
            raise

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until every living name server lists all living brokers, one as id 0 for sends."""
        servers = [n for n in self.name_servers if n.alive]
        self._wait(
            lambda: all(map(self._is_complete, servers)),
            timeout_s,
            "all brokers, one with id 0, in the route of TBW102",
        )

    def stop(self, grace_s: float | None = None) -> dict[str, int]:
        """End every process by its pid, brokers first; exit status by node name, -9 if killed."""
        grace_s = self.launcher.stop_grace_s if grace_s is None else grace_s
        status: dict[str, int] = {}
        for nodes in (self.nodes, self.name_servers):
            started = [n for n in nodes if n.process]
            for node in started:
                node.end(signal.SIGTERM if grace_s else signal.SIGKILL)
            end = time.monotonic() + grace_s
            status |= {n.name: n.wait(end - time.monotonic()) for n in started}
        atexit.unregister(self._kill_all)
        return status

    def spawn(self, node: Node) -> None:
        """Start one node; returns at once."""
        assert not node.alive, f"{node.name} runs already as pid {node.pid}"
        self._write_conf(node)
        node.told_to_end = False
        with (node.folder / "stdout.log").open("ab") as out:
            node.process = subprocess.Popen(
                self.launcher.argv(node),
                env=self.launcher.env(node),
                cwd=node.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        atexit.unregister(self._kill_all)
        atexit.register(self._kill_all)

    def kill9(self, node: Node) -> None:
        """`kill -9`, and wait until the process is gone."""
        node.end(signal.SIGKILL)
        node.wait(30.0)

    def terminate(self, node: Node, timeout_s: float = 30.0) -> int:
        """SIGTERM, and wait for the clean end; the exit status, -9 when it did not end in time."""
        node.end(signal.SIGTERM)
        return node.wait(timeout_s)

    def restart(self, node: Node, timeout_s: float | None = None) -> None:
        """Start a node again (stopping it first if it runs), wait until it is listed."""
        timeout_s = timeout_s or self.launcher.start_timeout_s
        if node.alive:
            self.terminate(node)
        self.spawn(node)
        if node.role == "namesrv":
            self._wait(lambda: _listens(node), timeout_s, f"{node.name} listening")
        else:
            self._wait(
                lambda: _listens(node) and node.address in self.listed(),
                timeout_s,
                f"{node.name} listed",
            )

    def leader(self) -> Node | None:
        """The node that the name servers list as broker id 0, if there is one."""
        address = self.broker_ids().get(0)
        return next((n for n in self.nodes if n.address == address), None)

    def broker_ids(self, group: str = GROUP) -> dict[int, str]:
        """Broker id -> address, by the first living name server; empty when none answers."""
        return self._broker_table().get(group, {})

    def listed(self) -> set[str]:
        """Addresses of all brokers, by the first living name server."""
        return {address for ids in self._broker_table().values() for address in ids.values()}

    def route(self, topic: str, server: Node | None = None) -> dict[str, Any] | None:
        """TopicRouteData by a name server, else the first living one; None: it has no route."""
        return _route(server or next(n for n in self.name_servers if n.alive), topic)

    def logs(self) -> str:
        """Tails of all logs, to be shown when a test fails."""
        return "\n".join(n.log_tail() for n in [*self.name_servers, *self.nodes] if n.process)

    def _broker_table(self) -> dict[str, dict[int, str]]:
        """Broker name -> broker id -> address; empty when no name server answers."""
        server = next((n for n in self.name_servers if n.alive), None)
        cluster_info = request(RequestCode.GET_BROKER_CLUSTER_INFO)
        body = _answer(server, cluster_info) if server else None
        table = (body or {}).get("brokerAddrTable", {})
        return {
            name: {int(i): address for i, address in data["brokerAddrs"].items()}
            for name, data in table.items()
        }

    def _new_node(self, name: str, role: str) -> Node:
        folder = self.folder / name
        folder.mkdir(parents=True)
        # A broker listens on port - 2 as well; Java's replication takes port + 1.
        port = reserve_port(-2, 1) if role == "broker" else reserve_port()
        return Node(name, role, port, folder, folder / f"{role}.conf")

    def _write_conf(self, node: Node) -> None:
        if node.role == "namesrv":
            values = {"listenPort": str(node.port)}
        else:
            values = self._broker_values(node) | self._extra_conf
        node.conf.write_text("".join(f"{k} = {v}\n" for k, v in values.items()), "utf-8")

    def _broker_values(self, node: Node) -> dict[str, str]:
        peers = (f"{n.name}-{HOST}:{p}" for n, p in zip(self.nodes, self.raft_ports, strict=True))
        return {
            "brokerClusterName": CLUSTER_NAME,
            "brokerName": GROUP,
            "brokerIP1": HOST,
            "listenPort": str(node.port),
            "namesrvAddr": self.name_server,
            "storePathRootDir": str(node.folder / "store"),
            "enableDLegerCommitLog": "true",
            "dLegerGroup": GROUP,
            "dLegerPeers": ";".join(peers),
            "dLegerSelfId": node.name,
        }

    def _wait(self, predicate: Any, timeout_s: float, what: str) -> None:
        def checked() -> bool:
            for node in [*self.name_servers, *self.nodes]:
                if node.process and not node.alive and not node.told_to_end:
                    raise NodeFailedError(
                        f"{node.name} ended with status {node.process.returncode}\n{self.logs()}"
                    )
            return bool(predicate())

        try:
            wait_until(checked, timeout_s, what)
        except NodeFailedError:
            raise
        except AssertionError as e:
            raise NodeFailedError(f"{e}\n{self.logs()}") from None

    def _is_complete(self, server: Node) -> bool:
        brokers = (_route(server, "TBW102") or {}).get("brokerDatas", [])
        ids = [b.get("brokerAddrs", {}) for b in brokers]
        listed = {address for b in ids for address in b.values()}
        return all("0" in b for b in ids) and listed >= {n.address for n in self.nodes if n.alive}

    def _kill_all(self) -> None:
        for node in [*self.nodes, *self.name_servers]:
            if node.alive:
                self.kill9(node)


def _listens(node: Node) -> bool:
    try:
        socket.create_connection((HOST, node.port), 1).close()
    except OSError:
        return False
    return True


def _answer(node: Node, command: RemotingCommand) -> dict[str, Any] | None:
    """Body of a successful answer, None for any other and when nobody answers."""
    try:
        reply = ask(node.address, command)
    except OSError:
        return None
    return _decode(reply.body) if reply.code == 0 else None


def _decode(body: bytes) -> dict[str, Any]:
    # Java writes broker ids without quotes: {0:"127.0.0.1:10911"}.
    return msgspec.json.decode(re.sub(rb"([{,])(\d+):", rb'\1"\2":', body), type=dict[str, Any])


def _route(server: Node, topic: str) -> dict[str, Any] | None:
    fields = {"topic": topic, "acceptStandardJsonOnly": "true"}
    return _answer(server, request(RequestCode.GET_ROUTEINFO_BY_TOPIC, fields))
