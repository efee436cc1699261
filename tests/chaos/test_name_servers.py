"""Three independent name servers: one dies, all goes on."""

from pathlib import Path

import pytest

from ledgermq.remoting.bodies.route import ClusterInfo
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import request
from tests.chaos.load import load_loop
from tests.support import wait_until
from tests.support.cluster import Cluster, ask

pytestmark = pytest.mark.chaos


def leader_at(address: str) -> str | None:
    """Address of broker id 0 at one name server."""
    reply = ask(address, request(RequestCode.GET_BROKER_CLUSTER_INFO))
    brokers = ClusterInfo.decode(reply.body).broker_addr_table
    return brokers["RaftNode00"].broker_addrs.get(0) if "RaftNode00" in brokers else None


def test_one_of_three_dies(tmp_path: Path) -> None:
    """Sends go on, a new leader is found through the others, the restarted one learns all."""
    with Cluster(tmp_path, name_servers=3) as cluster:
        first, *others = cluster.name_servers
        with load_loop(cluster.name_server, tmp_path / "acked.jsonl") as load:
            load.wait_for_more(300)
            cluster.kill9(first)
            load.wait_for_more(1000)
            killed = wait_until(cluster.leader, what="a leader")
            cluster.kill9(killed)
            load.wait_for_more(1000)
            seen = {leader_at(n.address) for n in others}
            assert len(seen) == 1
            assert seen != {killed.address}
            cluster.restart(first)
            wait_until(lambda: leader_at(first.address) in seen, 15, "the restarted one to know")
            printed = load.stop()
        assert printed.splitlines()[-1].endswith("failure 0"), printed
