"""The Java name server and brokers, run from published jars: the original to compare with.

    python -m tests.interop.java_peer [--masters broker-a,broker-b] [--version 4.9.5]

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
from tests.support.masters import Masters

DEFAULT_VERSION = "4.9.5"
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


# A busy small machine refuses sends without it.
RELAXED = {"waitTimeMillsInSendQueue": "3000"}


class JavaLauncher:
    """Starts a node of `tests.support.cluster` as its Java original."""

    start_timeout_s = 90.0
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
        return [*argv, _MAINS[node.role], "-c", str(node.conf), *node.options]

    def env(self, node: Node) -> dict[str, str]:
        """Its whole environment."""
        return jvm.environment() | {"HOME": str(node.folder)}


def java_group(folder: Path, version: str = DEFAULT_VERSION) -> Cluster:
    """A Java name server and one DLedger group."""
    return Cluster(folder, extra_conf=RELAXED, launcher=JavaLauncher(version))


def main() -> None:
    """Run a Java cluster until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run the Java original from published jars.")
    parser.add_argument("--masters", help="without a group: broker-a, or broker-a,broker-b")
    parser.add_argument("--version", default=DEFAULT_VERSION)
    options = parser.parse_args()
    jvm.require_tools()
    with tempfile.TemporaryDirectory() as folder, _cluster(Path(folder), options) as cluster:
        over = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: over.set())
        print(cluster.name_server, *(f"{n.name}={n.address}" for n in cluster.nodes), flush=True)
        over.wait()


def _cluster(folder: Path, options: argparse.Namespace) -> Cluster:
    if options.masters is None:
        return java_group(folder, options.version)
    launcher = JavaLauncher(options.version)
    return Masters(folder, options.masters.split(","), extra_conf=RELAXED, launcher=launcher)


if __name__ == "__main__":
    main()
