"""One name server and one broker without a group, used by the official Java clients.

Two brokers in turn: one as `mqbroker -n HOST:PORT` starts it, stopped and started again; one with a
file and SYNC_FLUSH, killed with -9 and started again. Two clients at each, one JVM per client.
"""

import re
import socket
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.conftest import JAVA_PEER, java_client, masters_under_test
from tests.interop.java_client import Report, Session, mqadmin
from tests.support import wait_until
from tests.support.masters import Masters

pytestmark = pytest.mark.interop

RUN = uuid.uuid4().hex[:6]
# Flush -> the clients that do everything, and those that only send, consume and look up.
CLIENTS = {"ASYNC_FLUSH": ("4.9.5", "4.3.1"), "SYNC_FLUSH": ("5.3.3", "4.5.1")}
SENT, MORE = 20, 5
QUICK_OFFSETS = {"flushConsumerOffsetInterval": "500"}


@dataclass
class Story:
    """What one broker and its clients went through.

    Attributes:
        reports: by version of the client.
        running, stopped: files of the store before the stop and after it.
        status: exit status of the broker when it was stopped.
        printed: what Java's mqadmin said, by command.
    """

    flush: str
    reports: dict[str, Report]
    running: set[str]
    stopped: set[str]
    status: int
    printed: dict[str, str]


@pytest.fixture(scope="module", params=CLIENTS)
def flush(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def single(jdk: None, flush: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masters]:
    folder = tmp_path_factory.mktemp(f"single-{flush}")
    if flush == "ASYNC_FLUSH":
        broker = masters_under_test(folder, "broker-a", bare=True)
    else:
        conf = {"flushDiskType": flush} | QUICK_OFFSETS
        broker = masters_under_test(folder, "broker-a", conf=conf)
    with broker:
        yield broker


@pytest.fixture(scope="module")
def story(single: Masters, flush: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    everything, few = CLIENTS[flush]
    node = single.nodes[0]
    with ExitStack() as stack:
        sessions = {}
        for version in (everything, few):
            client = java_client(version, single, tmp_path_factory.mktemp(f"client-{version}"))
            sessions[version] = stack.enter_context(client.session())
        _before(sessions[everything], sessions[few], everything, few)
        running = _files(node.folder / "store")
        if flush == "ASYNC_FLUSH":
            status = single.terminate(node)
        else:
            _wait_for_saved_offsets(single, everything, few)
            single.kill9(node)
            status = -9
        stopped = _files(node.folder / "store")
        single.restart(node)
        for version, session in sessions.items():
            _after(session, version)
    printed = _ask_mqadmin(everything, single, tmp_path_factory.mktemp("mqadmin"))
    reports = {version: session.report for version, session in sessions.items()}
    return Story(flush, reports, running, stopped, status, printed)


def _name(kind: str, version: str) -> str:
    return f"{kind}_{RUN}_{version.replace('.', '_')}"


def _first_steps(version: str) -> list[str]:
    first, group = _name("T", version), _name("G", version)
    return [
        f"produce,topic={first},count={SENT},tags=TagA;TagB;TagC",
        f"consume,topic={first},group={group},count={SENT}",
        f"find,topic={first},keys=key3;key7",
    ]


def _before(everything: Session, few: Session, version: str, other: str) -> None:
    """The first half of the story."""
    ways = _name("Ways", version)
    for step in (
        *_first_steps(version),
        f"consume,as=filtered,topic={_name('T', version)},group={_name('F', version)},"
        f"count={SENT * 2 // 3},expression=TagA || TagB",
        f"oneway,topic={ways},count=20",
        f"async,topic={ways},count=20",
        f"batch,topic={ways},count=10",
        f"produce,as=large,topic={ways},count=2,size=20000",
        f"consume,as=ways,topic={ways},group={_name('W', version)},count=52",
    ):
        everything.run(step)
    for step in _first_steps(other):
        few.run(step)


def _after(session: Session, version: str) -> None:
    """The second half, after the broker was started again."""
    first, group = _name("T", version), _name("G", version)
    session.run(f"produce,as=more,topic={first},count={MORE},keys=more")
    session.run(f"consume,as=again,topic={first},group={group},count={MORE}")
    session.run(f"pull,topic={first},group={_name('P', version)},view=true")
    session.run(f"find,as=still,topic={first},keys=key3;key7;more1")


def _wait_for_saved_offsets(single: Masters, *versions: str) -> None:
    """Before a kill -9: upstream writes consumer offsets every few seconds only."""
    names = [(_name("T", version), _name("G", version)) for version in versions]
    wait_until(
        lambda: all(
            sum(single.saved_offsets(single.nodes[0], topic, group).values()) == SENT
            for topic, group in names
        ),
        20,
        f"offsets of {names} in consumerOffset.json",
    )


def _ask_mqadmin(version: str, single: Masters, home: Path) -> dict[str, str]:
    topic, group = _name("T", version), _name("G", version)
    # Between versions of the original some commands fail: 5.3.3 asks what 4.9.5 does not know.
    tool = JAVA_PEER or version
    lines = (
        "clusterList",
        f"queryMsgByKey -t {topic} -k key3",
        f"topicStatus -t {topic}",
        f"consumerProgress -g {group}",
    )
    printed = mqadmin(tool, single.name_server, home, *lines)
    return {line.split()[0]: text for line, text in zip(lines, printed, strict=True)}


def _files(store: Path) -> set[str]:
    return {str(p.relative_to(store)) for p in store.rglob("*")}


def _bodies(label: str, count: int) -> list[str]:
    return sorted(f"{label}-{i}" for i in range(count))


def _rows(text: str) -> list[list[str]]:
    """Cells of the lines below the heading."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    start = next(i for i, cells in enumerate(lines) if cells[0].startswith("#"))
    return lines[start + 1 :]


def test_every_send_is_acknowledged_by_the_broker_of_the_expected_name(story: Story) -> None:
    name = socket.gethostname() if story.flush == "ASYNC_FLUSH" else "broker-a"
    for version, report in story.reports.items():
        sent = report.of("sent", "produce")
        assert [e["body"] for e in sent] == [f"produce-{i}" for i in range(SENT)], version
        assert {(e["status"], e["broker"]) for e in sent} == {("SEND_OK", name)}, version
        assert len({(e["queue"], e["offset"]) for e in sent}) == SENT, version
        assert len({e["offsetMsgId"] for e in sent}) == SENT, version


def test_an_auto_created_topic_has_four_queues_used_in_turn(story: Story) -> None:
    for version, report in story.reports.items():
        queues = [e["queue"] for e in report.of("sent", "produce")]
        assert queues == [(queues[0] + i) % 4 for i in range(SENT)], version


def test_consumers_get_each_message_once_at_its_place(story: Story) -> None:
    for version, report in story.reports.items():
        sent = {e["body"]: (e["queue"], e["offset"], e["msgId"], f"key{i}")
                for i, e in enumerate(report.of("sent", "produce"))}  # fmt: skip
        received = report.of("received", "consume")
        assert len(received) == SENT, version
        assert {
            e["body"]: (e["queue"], e["offset"], e["msgId"], e["keys"]) for e in received
        } == sent, version


def test_tag_filter_passes_two_of_three_tags(story: Story) -> None:
    report = story.reports[CLIENTS[story.flush][0]]
    received = report.of("received", "filtered")
    assert Counter(e["tags"] for e in received) == {"TagA": 7, "TagB": 7}


def test_each_way_of_sending_arrives(story: Story) -> None:
    report = story.reports[CLIENTS[story.flush][0]]
    assert report.of("error", "async") == []
    assert {e["status"] for e in report.of("sent", "async")} == {"SEND_OK"}
    (batch,) = report.of("sent", "batch")
    assert (batch["status"], len(set(batch["offsetMsgId"].split(",")))) == ("SEND_OK", 10)
    large = [f"large-{i}".ljust(20_000, ".") for i in range(2)]
    sent = _bodies("oneway", 20) + _bodies("async", 20) + _bodies("batch", 10) + large
    assert report.bodies("received", "ways") == sorted(sent)


def _check_found(report: Report, step: str, wanted: dict[str, str]) -> None:
    found = report.of("found", step)
    assert {e["key"]: e["body"] for e in found} == wanted, found
    assert len(found) == len(wanted), found
    assert all(e["keys"] == e["key"] for e in found)
    assert all(e["byUniqueKey"] == e["byOffsetId"] == e["body"] for e in found), found
    sent = {e["msgId"]: e["offsetMsgId"] for s in ("produce", "more") for e in report.of("sent", s)}
    assert all(sent[e["msgId"]] == e["offsetMsgId"] for e in found), found


def test_messages_are_found_by_key_by_unique_key_and_by_offset_id(story: Story) -> None:
    for report in story.reports.values():
        _check_found(report, "find", {"key3": "produce-3", "key7": "produce-7"})


def test_after_the_restart_the_group_gets_only_new_messages(story: Story) -> None:
    for version, report in story.reports.items():
        assert report.bodies("received", "again") == _bodies("more", MORE), version


def test_after_the_restart_everything_is_where_it_was(story: Story) -> None:
    for version, report in story.reports.items():
        sent = {(e["queue"], e["offset"]): e["body"]
                for step in ("produce", "more") for e in report.of("sent", step)}  # fmt: skip
        received = report.of("received", "pull")
        assert {(e["queue"], e["offset"]): e["body"] for e in received} == sent, version
        queues = report.of("queue", "pull")
        assert [(q["min"], q["atTimeZero"]) for q in queues] == [(0, 0)] * 4, version
        assert sum(q["max"] for q in queues) == SENT + MORE, version
        assert all(e["same"] for e in report.of("viewed", "pull")), version


def test_after_the_restart_old_and_new_messages_are_found(story: Story) -> None:
    wanted = {"key3": "produce-3", "key7": "produce-7", "more1": "more-1"}
    for report in story.reports.values():
        _check_found(report, "still", wanted)


def test_the_store_has_upstream_s_files(story: Story) -> None:
    topic = _name("T", CLIENTS[story.flush][0])
    always = {"checkpoint", "lock", "commitlog/00000000000000000000"}
    always |= {f"consumequeue/{topic}/{q}/00000000000000000000" for q in range(4)}
    assert always | {"abort"} <= story.running
    assert sum(f.startswith("index/") for f in story.running) == 1
    tables = {f"config/{t}.json" for t in ("topics", "subscriptionGroup", "consumerOffset")}
    assert always | tables <= story.stopped
    assert ("abort" in story.stopped) == (story.flush == "SYNC_FLUSH")
    if story.flush == "ASYNC_FLUSH":
        assert story.status == (143 if JAVA_PEER else 0)


def test_java_s_mqadmin_shows_the_broker(story: Story, single: Masters) -> None:
    name = socket.gethostname() if story.flush == "ASYNC_FLUSH" else "broker-a"
    (row,) = _rows(story.printed["clusterList"])
    assert row[:4] == ["DefaultCluster", name, "0", single.nodes[0].address]
    status = _rows(story.printed["topicStatus"])
    assert [row[:3] for row in status if row[0] == name] == [[name, str(q), "0"] for q in range(4)]


def test_java_s_mqadmin_finds_a_message_by_its_key(story: Story) -> None:
    version = CLIENTS[story.flush][0]
    sent = story.reports[version].of("sent", "produce")[3]
    rows = _rows(story.printed["queryMsgByKey"])
    assert rows == [[sent["msgId"], str(sent["queue"]), str(sent["offset"])]]


def test_java_s_mqadmin_shows_that_nothing_is_left_to_consume(story: Story) -> None:
    printed = story.printed["consumerProgress"]
    assert re.findall(r"Diff Total: (\d+)", printed) == ["0"], printed
