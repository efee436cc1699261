"""ledgermq: a group of three or a single master. The Java original is started in the same way."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from bench import tools
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.headers.send import SendMessageRequestV2
from ledgermq.remoting.headers.topic import CreateTopicRequest
from tests.support import wait_until
from tests.support.cluster import ROOT, Cluster, Launcher, Node, PythonLauncher, ask
from tests.support.masters import Masters

from . import PeerError

# The same on both sides, and what both have by default: log files of 1 GiB, queue files of 300,000
# entries. Both make them at full size with nothing in them (sparse).
SIZES = {"mappedFileSizeCommitLog": str(1 << 30), "mappedFileSizeConsumeQueue": "6000000"}
READY_TOPIC = "BenchReady"
# Of our sources.
SUFFIXES = (".py", ".pyx", ".pxd")
TOPIC_TIMEOUT_S = 30.0


class InstalledLauncher(PythonLauncher):
    """Our nodes as `pip install` leaves them: a copy of the package, compiled beforehand.

    A checkout would be compiled at each start where PYTHONDONTWRITEBYTECODE is set, and its edits
    would get into a benchmark that runs.
    """

    def __init__(self, *, pure: bool = True) -> None:
        """`pure`: without the compiled twins."""
        self._pure = pure
        self._packages = installed(pure=pure)

    def env(self, node: Node) -> dict[str, str]:
        """Its whole environment."""
        return super().env(node) | {
            "PYTHONPATH": str(self._packages),
            "LEDGERMQ_PURE": "1" if self._pure else "0",
        }


def installed(*, pure: bool = True) -> Path:
    """Folder with a copy of the package as it is now, made when there is none yet.

    Args:
        pure: without the compiled twins, which need a C compiler and Cython.
    """
    sources = sorted(p for p in (ROOT / "ledgermq").glob("**/*.py"))
    for package in sorted(p for p in (ROOT / "ledgermq").iterdir() if p.is_symlink()):
        sources += sorted(p for p in package.resolve().rglob("*.p*") if p.suffix in SUFFIXES)
    digest = hashlib.sha256(f"{sys.version} {pure}".encode())
    for path in sources:
        digest.update(b"\0%s\0%s" % (str(path).encode(), path.read_bytes()))
    folder = tools.cache() / f"ledgermq-{digest.hexdigest()[:16]}"
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.{os.getpid()}")
        unwanted = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
        shutil.copytree(ROOT / "ledgermq", part / "ledgermq", ignore=unwanted)
        if not pure:
            from hatch_build import build  # noqa: PLC0415 - it needs Cython

            build(part / "ledgermq" / "compiled")
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(part)], check=True)
        with suppress(FileExistsError):  # another run was faster
            part.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
    return folder


class RemotingPeer:
    """A cluster of RocketMQ's protocol.

    Args:
        name: for tables.
        cluster: not started yet.

    Attributes:
        start_s: seconds from the start of the name server to the first acknowledged message.
    """

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name = name
        self.start_s = 0.0
        self.cluster = cluster

    @property
    def name_server(self) -> str:
        """Address of the name server."""
        return self.cluster.name_server

    @property
    def processes(self) -> Mapping[str, int]:
        """Process id by name, name servers too."""
        nodes = [*self.cluster.nodes, *self.cluster.name_servers]
        return {node.name: node.pid for node in nodes if node.alive}

    @property
    def brokers(self) -> Mapping[str, int]:
        """Process id by name, brokers alone."""
        return {node.name: node.pid for node in self.cluster.nodes if node.alive}

    def leader(self) -> str:
        """Name of the broker that takes writes."""
        return self._leader().name

    def leader_address(self) -> str:
        """Where it listens."""
        return self._leader().address

    def kill9(self, name: str) -> None:
        """Kill a process, and wait until it is gone."""
        self.cluster.kill9(self._node(name))

    def restart(self, name: str) -> None:
        """Start a process again, and wait until the name server lists it."""
        self.cluster.restart(self._node(name))

    def recovery_s(self, name: str) -> float:
        """Start a process that was killed; seconds until a message is acknowledged again."""
        begin = time.monotonic()
        self.cluster.spawn(self._node(name))
        self._until(self._took_a_message, self.cluster.launcher.start_timeout_s)
        return time.monotonic() - begin

    def create_topic(self, topic: str, queues: int) -> None:
        """Create a topic, and wait until clients find it.

        Raises:
            PeerError: it was refused.
        """
        header = CreateTopicRequest(
            topic=topic,
            default_topic="TBW102",
            read_queue_nums=queues,
            write_queue_nums=queues,
            perm=6,
            topic_filter_type="SINGLE_TAG",
            topic_sys_flag=0,
            order=False,
        )
        wanted = request(RequestCode.UPDATE_AND_CREATE_TOPIC, header.to_ext())
        reply = ask(self.leader_address(), wanted, TOPIC_TIMEOUT_S)
        if reply.code:
            raise PeerError(f"{self.name} refused topic {topic}: {reply.code} {reply.remark}")
        wait_until(lambda: self._queues(topic) == queues, TOPIC_TIMEOUT_S, f"a route of {topic}")

    def __enter__(self) -> Self:
        begin = time.monotonic()
        timeout_s = self.cluster.launcher.start_timeout_s
        try:
            for node in self.cluster.name_servers:
                self.cluster.spawn(node)
            self._until(self._name_server_answers, timeout_s)
            for node in self.cluster.nodes:
                self.cluster.spawn(node)
            self._until(self._took_a_message, timeout_s)
            self.start_s = time.monotonic() - begin
            self.cluster.wait_ready(timeout_s)
        except BaseException:
            self.cluster.stop(grace_s=0)
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        nodes = [*self.cluster.nodes, *self.cluster.name_servers]
        ended = [node for node in nodes if not node.alive and not node.told_to_end]
        story = "\n".join(f"{node.name} ended by itself\n{node.log_tail()}" for node in ended)
        self.cluster.stop(grace_s=0)
        if story and error is None:
            raise PeerError(f"{self.name}: {story}")
        if story and error is not None:
            error.add_note(f"{self.name}: {story}")

    def _until(self, met: object, timeout_s: float) -> None:
        """`wait_until` of the cluster, which notices a process that ended."""
        self.cluster._wait(met, timeout_s, f"{self.name} ready")

    def _name_server_answers(self) -> bool:
        with suppress(OSError):
            ask(self.name_server, request(RequestCode.GET_BROKER_CLUSTER_INFO))
            return True
        return False

    def _took_a_message(self) -> bool:
        with suppress(OSError, PeerError):
            return ask(self.leader_address(), first_message()).code == 0
        return False

    def _leader(self) -> Node:
        brokers = (self.cluster.route("TBW102") or {}).get("brokerDatas", [])
        addresses = {b.get("brokerAddrs", {}).get("0") for b in brokers}
        for node in self.cluster.nodes:
            if node.address in addresses:
                return node
        raise PeerError(f"{self.name} has no leader: {brokers}")

    def _node(self, name: str) -> Node:
        nodes = [*self.cluster.nodes, *self.cluster.name_servers]
        return next(node for node in nodes if node.name == name)

    def _queues(self, topic: str) -> int:
        queues = (self.cluster.route(topic) or {}).get("queueDatas", [])
        return sum(q["writeQueueNums"] for q in queues)


def first_message() -> RemotingCommand:
    """A send to a topic that the first of them creates."""
    header = SendMessageRequestV2(
        producer_group="bench",
        topic=READY_TOPIC,
        default_topic="TBW102",
        default_topic_queue_nums=1,
        queue_id=0,
        sys_flag=0,
        born_timestamp=int(time.time() * 1000),
        flag=0,
        properties="",
    )
    return request(RequestCode.SEND_MESSAGE_V2, header.to_ext(), b"x")


def group(
    folder: Path,
    *,
    flush: str = "ASYNC_FLUSH",
    brokers: int = 3,
    conf: Mapping[str, str] | None = None,
    launcher: Launcher | None = None,
    name: str = "ledgermq",
) -> RemotingPeer:
    """A name server and brokers that replicate; flush: "SYNC_FLUSH" or "ASYNC_FLUSH"."""
    extra = settings(flush, conf)
    launcher = launcher or InstalledLauncher()
    cluster = Cluster(folder, brokers=brokers, extra_conf=extra, launcher=launcher)
    return RemotingPeer(f"{name} group {flush}", cluster)


def single(
    folder: Path,
    *,
    flush: str = "ASYNC_FLUSH",
    conf: Mapping[str, str] | None = None,
    launcher: Launcher | None = None,
    name: str = "ledgermq",
) -> RemotingPeer:
    """A name server and one master without replication (brokerRole ASYNC_MASTER)."""
    extra = settings(flush, conf)
    masters = Masters(
        folder, ["broker-a"], extra_conf=extra, launcher=launcher or InstalledLauncher()
    )
    return RemotingPeer(f"{name} single {flush}", masters)


def settings(flush: str, conf: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a measured broker is told beyond its addresses; `conf` wins."""
    return SIZES | {"flushDiskType": flush} | dict(conf or {})
