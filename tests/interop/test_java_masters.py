"""A guide's walk through two masters without slaves, with the official Java client.

Ten messages go round the queues of both masters and are consumed, tags and a refused delivery with
them; one master goes away under a stream of sends and comes back; one goes away with messages that
nobody has consumed yet, and these are consumed when it is back.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.interop.conftest import JAVA_PEER, java_client, masters_under_test
from tests.interop.java_client import Event, Report, Session, mqadmin
from tests.support.cluster import Node
from tests.support.masters import Masters

pytestmark = pytest.mark.interop

VERSIONS = ["4.9.5", "5.3.3"]
A, B = "broker-a", "broker-b"
# In the order in which a producer uses them, whatever the first one is.
QUEUES = [(name, queue) for name in (A, B) for queue in range(4)]
# A Java producer looks at its routes 10 ms after its start. If just then the first of its messages
# have made a topic on one master only, it uses that one alone for the next 30 s.
SETTLED = "settle=300"
# The walk waits for so many sends before each of its turns.
SOME = 40
STREAM = "stream"
End = Callable[[Node], object]


@dataclass
class Walk:
    """What was seen on the way.

    Attributes:
        report: of all steps.
        masters: the two brokers.
        route: of the topic after the first ten messages.
        cluster_list: printed by Java's mqadmin while all was well.
        turns: how many sends were acknowledged when broker-b began to leave, when it was gone, and
            when it was started again.
        while_gone: bodies that were consumed of the held messages before broker-b came back.
    """

    report: Report
    masters: Masters
    route: list[tuple[str, int]] = field(default_factory=list)
    cluster_list: str = ""
    turns: list[int] = field(default_factory=list)
    while_gone: list[str] = field(default_factory=list)

    def sent(self, step: str) -> list[tuple[str, int]]:
        """Broker and queue of each acknowledged send."""
        return [(e["broker"], e["queue"]) for e in self.report.of("sent", step)]

    def broker_of(self, received: Event) -> str:
        """Name of the broker that a message came from."""
        return self.masters.name_at(received["storeHost"])


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def masters(jdk: None, version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masters]:
    with masters_under_test(
        tmp_path_factory.mktemp(f"masters-{version}"), A, B, name_servers=2
    ) as two:
        yield two


@pytest.fixture(scope="module")
def walk(masters: Masters, version: str, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    client = java_client(version, masters, tmp_path_factory.mktemp(f"client-{version}"))
    topic = f"Walk_{uuid.uuid4().hex[:6]}"
    # The broker goes away once by SIGTERM and once by kill -9: in either order.
    ends: list[End] = [masters.terminate, masters.kill9]
    first_end, second_end = ends if version == VERSIONS[0] else ends[::-1]
    with client.session() as session:
        seen = Walk(session.report, masters)
        _ten_messages(session, seen, topic)
        tool = JAVA_PEER or version
        home = tmp_path_factory.mktemp("mqadmin")
        (seen.cluster_list,) = mqadmin(tool, masters.name_server, home, "clusterList")
        _stream(session, seen, topic, first_end)
        _held_messages(session, seen, f"{topic}_held", second_end)
    return seen


def _ten_messages(session: Session, seen: Walk, topic: str) -> None:
    session.run(f"produce,as=ten,topic={topic},count=10,tags=TagA;TagB,{SETTLED}")
    masters = seen.masters
    session.until(
        lambda: all(len(_queues(masters.route(topic, s))) == 2 for s in masters.name_servers),
        10,
        "both masters in the route",
    )
    seen.route = _queues(masters.route(topic))
    session.run(f"consume,as=once,topic={topic},group=Once_{topic},count=10")
    session.run(
        f"consume,as=refused,topic={topic},group=Refused_{topic},count=10,fail=once,level=1"
    )
    session.run(f"consume,as=tagged,topic={topic},group=Tag_{topic},count=5,expression=TagB")
    keys = ";".join(f"key{i}" for i in range(10))
    session.run(f"find,as=found,topic={topic},keys={keys}")
    # More producers: each begins anywhere, and goes round from there.
    for label in ("second", "third"):
        session.run(f"produce,as={label},topic={topic},count=8")


def _stream(session: Session, seen: Walk, topic: str, end: End) -> None:
    """Sends and deliveries go on while broker-b goes away and comes back."""
    report, masters = seen.report, seen.masters
    session.begin(f"consume,as=follow,topic={topic},group=Once_{topic},count=0")
    session.begin(f"stream,as={STREAM},topic={topic},poll=500")
    session.until(lambda: len(seen.sent(STREAM)) >= SOME, 20, "the stream to flow")
    leaving = len(seen.sent(STREAM))
    end(masters[B])
    gone = len(seen.sent(STREAM))
    session.until(lambda: len(seen.sent(STREAM)) >= gone + SOME, 30, "sends without broker-b")
    seen.turns = [leaving, gone, len(seen.sent(STREAM))]
    masters.restart(masters[B])
    session.until(
        lambda: [b for b, _ in seen.sent(STREAM)[seen.turns[-1] :]].count(B) >= SOME,
        30,
        "sends to broker-b",
    )
    session.end(STREAM)
    bodies = {e["body"] for e in report.of("sent", STREAM)}
    session.until(
        lambda: bodies <= {e["body"] for e in report.of("received", "follow")},
        60,
        "every acknowledged message to be consumed",
    )
    session.end("follow")


def _held_messages(session: Session, seen: Walk, topic: str, end: End) -> None:
    """Eight messages, one in each queue; broker-b has four of them when it goes away."""
    report, masters = seen.report, seen.masters
    session.run(f"produce,as=held,topic={topic},count=8,{SETTLED}")
    end(masters[B])
    session.begin(f"consume,as=late,topic={topic},group=Late_{topic},count=8,linger=1000")
    session.until(lambda: len(report.of("received", "late")) >= 4, 30, "what broker-a has")
    seen.while_gone = report.bodies("received", "late")
    masters.restart(masters[B])
    session.wait("late", 60)


def _queues(route: dict[str, Any] | None) -> list[tuple[str, int]]:
    """Broker and number of queues for writing, in the order of names."""
    return sorted(
        (q["brokerName"], q["writeQueueNums"]) for q in (route or {}).get("queueDatas", [])
    )


def _goes_round(sent: list[tuple[str, int]]) -> bool:
    """Whether each send went to the queue after the one before."""
    start = QUEUES.index(sent[0])
    return sent == [QUEUES[(start + i) % len(QUEUES)] for i in range(len(sent))]


def _bodies(label: str, count: int) -> list[str]:
    return sorted(f"{label}-{i}" for i in range(count))


def test_cluster_list_shows_both_masters_with_id_0(walk: Walk) -> None:
    rows = [line.split() for line in walk.cluster_list.splitlines()]
    shown = [row[:4] for row in rows if row[:1] == ["DefaultCluster"]]
    assert shown == [["DefaultCluster", n.name, "0", n.address] for n in walk.masters.nodes]


def test_a_topic_is_made_on_both_masters_by_sending_to_it(walk: Walk) -> None:
    assert walk.route == [(A, 4), (B, 4)]
    assert Counter(e["status"] for e in walk.report.of("sent", "ten")) == {"SEND_OK": 10}
    assert {broker for broker, _ in walk.sent("ten")} == {A, B}


@pytest.mark.parametrize("producer", ["ten", "second", "third", "held"])
def test_a_producer_goes_round_the_queues_of_both_masters(walk: Walk, producer: str) -> None:
    sent = walk.sent(producer)
    assert _goes_round(sent), sent
    assert set(QUEUES) == set(sent)


def test_one_consumer_gets_the_messages_of_both_masters(walk: Walk) -> None:
    received = walk.report.of("received", "once")
    places = {e["body"]: (e["broker"], e["queue"]) for e in walk.report.of("sent", "ten")}
    assert len(received) == 10
    assert {e["body"]: (walk.broker_of(e), e["queue"]) for e in received} == places


def test_a_tag_passes_its_messages_of_both_masters(walk: Walk) -> None:
    received = walk.report.of("received", "tagged")
    assert sorted(e["body"] for e in received) == [f"ten-{i}" for i in range(1, 10, 2)]
    assert {e["tags"] for e in received} == {"TagB"}
    assert {walk.broker_of(e) for e in received} == {A, B}


def test_messages_of_both_masters_are_found_by_key(walk: Walk) -> None:
    found = walk.report.of("found", "found")
    assert [(e["key"], e["body"]) for e in found] == [(f"key{i}", f"ten-{i}") for i in range(10)]
    assert all(e["byUniqueKey"] == e["byOffsetId"] == e["body"] for e in found)


def test_what_a_consumer_refuses_comes_again_with_reconsume_times_1(walk: Walk) -> None:
    received = walk.report.of("received", "refused")
    times = Counter((e["body"], e["reconsumeTimes"]) for e in received)
    assert times == {(f"ten-{i}", n): 1 for i in range(10) for n in (0, 1)}
    first, again = (
        {walk.broker_of(e) for e in received if e["reconsumeTimes"] == n} for n in (0, 1)
    )
    assert first == again == {A, B}


def test_no_send_fails_while_a_master_goes_and_comes_back(walk: Walk) -> None:
    assert walk.report.of("error", STREAM) == []
    assert {e["status"] for e in walk.report.of("sent", STREAM)} == {"SEND_OK"}


def test_sends_go_on_to_the_other_master_and_return(walk: Walk) -> None:
    leaving, gone, back = walk.turns
    sent = walk.sent(STREAM)
    assert _goes_round(sent[:leaving]), sent
    # An acknowledgement of the last moment may be printed after the end.
    assert {broker for broker, _ in sent[gone + 2 : back]} == {A}
    assert _goes_round(sent[-SOME // 2 :]), sent


def test_every_acknowledged_message_is_consumed(walk: Walk) -> None:
    sent = [(e["broker"], e["queue"], e["offset"]) for e in walk.report.of("sent", STREAM)]
    # By place: a send whose answer the killed master took with it is stored on the other one too.
    times = Counter(
        (walk.broker_of(e), e["queue"], e["offset"])
        for e in walk.report.of("received", "follow")
        if e["body"].startswith(STREAM)
    )
    assert times.keys() >= set(sent)
    twice = {place for place, count in times.items() if count > 1}
    print(f"\n{len(sent)} sent, {len(twice)} consumed again after the return of broker-b")
    # What was consumed and not yet committed at the broker when it went away comes again.
    assert {broker for broker, _, _ in twice} <= {B}
    assert not twice & set(sent[walk.turns[-1] :])


def test_what_a_master_held_is_consumed_once_when_it_is_back(walk: Walk) -> None:
    held_by_a = sorted(e["body"] for e in walk.report.of("sent", "held") if e["broker"] == A)
    assert walk.while_gone == held_by_a
    assert walk.report.bodies("received", "late") == _bodies("held", 8)
