"""The official Java clients, unmodified, from Maven Central: one JVM per version, many steps."""

import uuid
from collections import Counter
from pathlib import Path

import pytest

from tests.interop import jvm
from tests.interop.conftest import unavailable
from tests.interop.java_client import JavaClient, Report
from tests.support.cluster import Cluster

pytestmark = pytest.mark.interop

VERSIONS = ["4.3.1", "4.5.1", "4.9.5", "5.3.3"]
VIP_CLIENTS = ["4.3.1"]
RUN = uuid.uuid4().hex[:6]


def _steps(version: str) -> list[str]:
    name = f"{RUN}_{version.replace('.', '_')}"
    first, tagged, ways, retried = (f"{kind}_{name}" for kind in ("T", "Tag", "Way", "Retry"))
    group = f"group=G_{name}"
    return [
        f"produce,topic={first},count=50",
        f"consume,topic={first},{group},count=50",
        f"produce,as=more,topic={first},count=10",
        f"consume,as=again,topic={first},{group},count=10",
        f"pull,topic={first},group=P_{name},view=true",
        f"produce,as=tagged,topic={tagged},count=30,tags=TagA;TagB;TagC",
        f"consume,as=filtered,topic={tagged},group=F_{name},count=20,expression=TagA || TagC",
        f"oneway,topic={ways},count=20",
        f"async,topic={ways},count=20",
        f"batch,topic={ways},count=10",
        f"produce,as=large,topic={ways},count=2,size=20000",
        f"consume,as=ways,topic={ways},group=W_{name},count=52",
        f"produce,as=refused,topic={retried},count=5",
        f"consume,as=retry,topic={retried},group=R_{name},count=5,fail=once,level=1",
    ]


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def report(version: str, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What one JVM with that client saw, step by step."""
    home: Path = tmp_path_factory.mktemp(f"client-{version}")
    try:
        jvm.driver_classes(version)
    except jvm.JavaMissingError as e:
        unavailable(str(e))
    return JavaClient(version, cluster.name_server, home).run(*_steps(version), timeout_s=180)


def _bodies(label: str, count: int) -> list[str]:
    return sorted(f"{label}-{i}" for i in range(count))


def test_sync_sends_are_acknowledged_at_distinct_places(report: Report) -> None:
    sent = report.of("sent", "produce")
    assert [e["body"] for e in sent] == [f"produce-{i}" for i in range(50)]
    assert {e["status"] for e in sent} == {"SEND_OK"}
    assert {e["broker"] for e in sent} == {"RaftNode00"}
    assert len({(e["queue"], e["offset"]) for e in sent}) == 50
    assert len({e["offsetMsgId"] for e in sent}) == 50


def test_an_auto_created_topic_has_the_client_s_four_queues_used_in_turn(report: Report) -> None:
    per_queue = Counter(e["queue"] for e in report.of("sent", "produce"))
    assert sorted(per_queue) == [0, 1, 2, 3]
    assert max(per_queue.values()) - min(per_queue.values()) <= 1


def test_push_consumer_gets_exactly_what_was_sent(report: Report) -> None:
    assert report.bodies("received", "consume") == _bodies("produce", 50)


def test_messages_arrive_at_the_places_their_acknowledgement_named(report: Report) -> None:
    sent = {e["body"]: (e["queue"], e["offset"], e["msgId"]) for e in report.of("sent", "produce")}
    received = report.of("received", "consume")
    assert {e["body"]: (e["queue"], e["offset"], e["msgId"]) for e in received} == sent


def test_tag_and_keys_arrive(report: Report) -> None:
    for event in report.of("received", "consume"):
        number = event["body"].rpartition("-")[2]
        assert (event["tags"], event["keys"]) == ("TagA", f"key{number}")


def test_a_second_run_of_the_group_gets_only_new_messages(report: Report) -> None:
    assert report.bodies("received", "again") == _bodies("more", 10)


def test_pull_consumer_walks_every_queue(report: Report) -> None:
    expected = sorted(_bodies("produce", 50) + _bodies("more", 10))
    assert report.bodies("received", "pull") == expected
    queues = report.of("queue", "pull")
    assert [q["min"] for q in queues] == [0] * 4
    assert sum(q["max"] for q in queues) == 60
    assert [q["atTimeZero"] for q in queues] == [0] * 4


def test_pull_consumer_commits_and_reads_back_its_offsets(report: Report) -> None:
    committed = report.of("committed", "pull")
    assert sum(e["fetched"] for e in committed) == 60
    assert [e["fetched"] for e in committed] == [e["offset"] for e in committed]


def test_a_message_is_found_by_its_offset_id(report: Report) -> None:
    viewed = report.of("viewed", "pull")
    assert len(viewed) == 4
    assert all(e["same"] for e in viewed)


def test_tag_filter_passes_two_of_three_tags(report: Report) -> None:
    received = report.of("received", "filtered")
    assert Counter(e["tags"] for e in received) == {"TagA": 10, "TagC": 10}
    wanted = sorted(f"tagged-{i}" for i in range(30) if i % 3 != 1)
    assert report.bodies("received", "filtered") == wanted


def test_async_sends_are_acknowledged(report: Report) -> None:
    assert report.of("error", "async") == []
    assert report.bodies("sent", "async") == _bodies("async", 20)
    assert {e["status"] for e in report.of("sent", "async")} == {"SEND_OK"}


def test_a_batch_is_acknowledged_with_an_id_per_message(report: Report) -> None:
    (sent,) = report.of("sent", "batch")
    assert sent["status"] == "SEND_OK"
    assert len(set(sent["offsetMsgId"].split(","))) == 10
    assert len(set(sent["msgId"].split(","))) == 10


@pytest.mark.parametrize(("way", "count"), [("oneway", 20), ("async", 20), ("batch", 10)])
def test_each_way_of_sending_arrives(report: Report, way: str, count: int) -> None:
    received = [b for b in report.bodies("received", "ways") if b.startswith(f"{way}-")]
    assert received == _bodies(way, count)


def test_a_body_large_enough_to_be_compressed_arrives_whole(report: Report) -> None:
    received = [b for b in report.bodies("received", "ways") if b.startswith("large-")]
    assert received == [f"large-{i}".ljust(20_000, ".") for i in range(2)]


def test_a_refused_message_is_delivered_again(report: Report) -> None:
    received = report.of("received", "retry")
    times = Counter((e["body"], e["reconsumeTimes"]) for e in received)
    assert times == {(f"refused-{i}", n): 1 for i in range(5) for n in (0, 1)}
    # The client puts the name of the original topic back.
    assert {e["topic"] for e in received} == {received[0]["topic"]}


def test_the_vip_channel_is_used_where_it_is_the_default(
    report: Report, version: str, cluster: Cluster
) -> None:
    if not report.dialled:
        pytest.skip("no /proc on this system: the client's connections cannot be seen")
    leader = cluster.leader()
    assert leader is not None
    assert (leader.port - 2 in report.dialled) == (version in VIP_CLIENTS)
