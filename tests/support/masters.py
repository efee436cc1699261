"""Brokers without a group, as real processes: one alone, or several masters that share the load.

with Masters(tmp_path) as masters:                    # one name server, broker-a, broker-b
    masters.kill9(masters["broker-b"])
    masters.restart(masters["broker-b"])
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ledgermq.remoting import properties
from tests.support.cluster import HOST, ROOT, Cluster, Launcher, Node

CONF = ROOT / "conf" / "2m-noslave"


class Masters(Cluster):
    """Name servers and plain masters.

    Args:
        folder: everything the nodes write goes here.
        names: the brokers; each is configured by its file of conf/2m-noslave, but for its port, its
            address and its folder. The file's name server gives way to the option -n.
        bare: nothing is configured but what keeps a broker apart from others of this machine, its
            port and its address; name server and store come as `mqbroker -n HOST:PORT` has them.
        name_servers: independent name servers.
        extra_conf: lines added to each broker's configuration; they win over ours.
        launcher: how nodes are started; our own processes by default.
    """

    def __init__(
        self,
        folder: Path,
        names: Iterable[str] = ("broker-a", "broker-b"),
        *,
        bare: bool = False,
        name_servers: int = 1,
        extra_conf: Mapping[str, str] | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        super().__init__(
            folder,
            brokers=0,
            name_servers=name_servers,
            extra_conf=extra_conf,
            launcher=launcher,
        )
        self._bare = bare
        self.nodes = [self._new_node(name, "broker") for name in names]
        for node in self.nodes:
            node.options = ("-n", self.name_server)

    def __getitem__(self, name: str) -> Node:
        """The broker of that name."""
        return next(n for n in self.nodes if n.name == name)

    def name_at(self, address: str) -> str:
        """Name of the broker at an address; Java prints it with a leading slash."""
        return next(n.name for n in self.nodes if n.address == address.lstrip("/"))

    def saved_offsets(self, node: Node, topic: str, group: str) -> dict[int, int]:
        """Queue id -> consumer offset in the broker's file; empty when it has none."""
        path = node.folder / "store" / "config" / "consumerOffset.json"
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            # Not saved yet, or a save is between its two renames.
            return {}
        # Java writes numbers as keys: {0:12,1:7}.
        text = re.sub(r"([{,])(\d+):", r'\1"\2":', text)
        table: dict[str, Any] = json.loads(text)["offsetTable"].get(f"{topic}@{group}", {})
        return {int(queue): offset for queue, offset in table.items()}

    def _broker_values(self, node: Node) -> dict[str, str]:
        values = {"brokerIP1": HOST, "listenPort": str(node.port)}
        if self._bare:
            return values
        path = CONF / f"{node.name}.properties"
        lines = properties.parse(path.read_text("utf-8"), str(path))
        shipped = {line.key: line.value for line in lines}
        return shipped | values | {"storePathRootDir": str(node.folder / "store")}
