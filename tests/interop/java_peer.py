"""The Java name server and brokers, run from published jars: the original to compare with.

    python -m tests.interop.java_peer [--single] [--version 4.9.5]

starts a cluster on free ports, prints the name server's address and ends it on Ctrl-C.
"""

import argparse
import signal
import tempfile
import threading
from pathlib import Path

from tests.interop import jvm
from tests.interop.java_client import LOGBACK
from tests.support.cluster import Cluster, Node

DEFAULT_VERSION = "4.9.5"
START_TIMEOUT_S = 90.0
_HEAPS = {
    "namesrv": ["-Xms128m", "-Xmx128m"],
    "broker": ["-Xms512m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m"],
}
_MAINS = {
    "namesrv": "org.apache.rocketmq.namesrv.NamesrvStartup",
    "broker": "org.apache.rocketmq.broker.BrokerStartup",
}
_LOG_CONFIGS = ("logback_namesrv.xml", "logback_broker.xml")
_LOG_CONFIGS_5 = ("rmq.namesrv.logback.xml", "rmq.broker.logback.xml")


class JavaLauncher:
    """Starts a node of `tests.support.cluster` as its Java original."""

    stop_grace_s = 20.0

    def __init__(self, version: str = DEFAULT_VERSION) -> None:
        self.version = version

    def argv(self, node: Node) -> list[str]:
        """Command line of the node."""
        conf = node.folder / "conf"
        conf.mkdir(exist_ok=True)
        for name in (*_LOG_CONFIGS, *_LOG_CONFIGS_5):
            (conf / name).write_text(LOGBACK, "utf-8")
        argv = ["java", *_HEAPS[node.role], "-Xshare:auto", *jvm.MODULE_FLAGS]
        argv += [*jvm.isolation(node.folder), f"-Drocketmq.home.dir={node.folder}"]
        argv += ["-cp", jvm.class_path(self.version, f"rocketmq-{node.role}")]
        return [*argv, _MAINS[node.role], "-c", str(node.conf)]

    def env(self, node: Node) -> dict[str, str]:
        """Its whole environment."""
        return jvm.environment() | {"HOME": str(node.folder)}


class JavaCluster(Cluster):
    """A Java name server and one DLedger group, or one plain ASYNC_MASTER broker.

    Flow control is relaxed, or a busy small machine refuses sends: `waitTimeMillsInSendQueue`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        version: str = DEFAULT_VERSION,
        single: bool = False,
        extra_conf: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            folder,
            brokers=1 if single else 3,
            extra_conf={"waitTimeMillsInSendQueue": "3000"} | (extra_conf or {}),
            launcher=JavaLauncher(version),
            replicated=not single,
        )

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start all nodes, wait until clients can send."""
        super().start(timeout_s)


def main() -> None:
    """Run a Java cluster until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run the Java original from published jars.")
    parser.add_argument("--single", action="store_true", help="one ASYNC_MASTER broker, no group")
    parser.add_argument("--version", default=DEFAULT_VERSION)
    options = parser.parse_args()
    jvm.require_tools()
    with (
        tempfile.TemporaryDirectory() as folder,
        JavaCluster(Path(folder), version=options.version, single=options.single) as cluster,
    ):
        over = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: over.set())
        print(cluster.name_server, *(f"{n.name}={n.address}" for n in cluster.nodes), flush=True)
        over.wait()


if __name__ == "__main__":
    main()
