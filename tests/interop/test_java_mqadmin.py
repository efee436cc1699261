"""The Java `mqadmin` against our cluster."""

import uuid
from pathlib import Path

import pytest

from tests.interop import jvm
from tests.interop.conftest import unavailable
from tests.interop.java_client import mqadmin
from tests.support import wait_until
from tests.support.cluster import Cluster

pytestmark = pytest.mark.interop

VERSIONS = ["4.9.5", "5.3.3"]
QUEUES = 6


class Printed:
    """What `mqadmin` of one version printed, by command."""

    def __init__(self, version: str, cluster: Cluster, home: Path) -> None:
        self.version = version
        self.topic = f"Admin_{uuid.uuid4().hex[:6]}"
        self.cluster_list, self.update_topic = mqadmin(
            version,
            cluster.name_server,
            home,
            "clusterList",
            f"updateTopic -t {self.topic} -c RaftCluster -r {QUEUES} -w {QUEUES}",
        )
        wait_until(lambda: cluster.route(self.topic), what=f"a route of {self.topic}")
        topic = f"-t {self.topic}"
        lines = ("topicList", f"topicRoute {topic}", f"topicStatus {topic}")
        printed = mqadmin(version, cluster.name_server, home, *lines)
        self.topic_list, self.topic_route, self.topic_status = printed


@pytest.fixture(scope="module", params=VERSIONS)
def printed(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Printed:
    version = str(request.param)
    try:
        jvm.class_path(version, "rocketmq-tools", "rocketmq-client")
    except jvm.JavaMissingError as e:
        unavailable(str(e))
    return Printed(version, cluster, tmp_path_factory.mktemp(f"mqadmin-{version}"))


def _rows(text: str) -> list[list[str]]:
    """Cells of each line below the heading."""
    lines = [line for line in text.splitlines() if line.strip()]
    start = next((i for i, line in enumerate(lines) if line.startswith("#")), None)
    assert start is not None, f"no table in:\n{text}"
    return [line.split() for line in lines[start + 1 :]]


def test_cluster_list_shows_one_row_per_node(printed: Printed, cluster: Cluster) -> None:
    rows = _rows(printed.cluster_list)
    assert [row[:2] for row in rows] == [["RaftCluster", "RaftNode00"]] * 3, printed.cluster_list
    ids = [int(row[2]) for row in rows]
    assert ids[0] == 0
    assert set(ids) < {0, 1, 2, 3}
    assert len(set(ids)) == 3
    assert {row[3] for row in rows} == {n.address for n in cluster.nodes}


def test_cluster_list_has_a_value_in_every_column(printed: Printed) -> None:
    rows = _rows(printed.cluster_list)
    columns = {"4.9.5": 10, "5.3.3": 14}[printed.version]
    assert [len(row) for row in rows] == [columns] * 3, printed.cluster_list


def test_update_topic_succeeds_on_the_leader(printed: Printed, cluster: Cluster) -> None:
    leader = cluster.leader()
    assert leader is not None
    assert f"create topic to {leader.address} success." in printed.update_topic
    assert f"topicName={printed.topic}, readQueueNums={QUEUES}" in printed.update_topic


def test_topic_list_has_the_new_topic(printed: Printed) -> None:
    assert printed.topic in printed.topic_list.split()


def test_topic_route_names_all_three_brokers(printed: Printed, cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert f'"{node.address}"' in printed.topic_route
    assert f'"readQueueNums":{QUEUES}' in printed.topic_route
    assert f'"writeQueueNums":{QUEUES}' in printed.topic_route


def test_topic_status_shows_every_queue(printed: Printed) -> None:
    rows = [row for row in _rows(printed.topic_status) if row[0] == "RaftNode00"]
    assert [row[:4] for row in rows] == [["RaftNode00", str(q), "0", "0"] for q in range(QUEUES)]
