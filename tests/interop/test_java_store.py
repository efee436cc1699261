"""One store, opened by our plain broker and by the Java original in turn.

Each of them sends and consumes; the next one must find all of it. In between the broker is stopped
or killed with -9.
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.interop.conftest import JAVA_PEER, java_client, masters_under_test
from tests.interop.java_client import Report, Session
from tests.interop.java_peer import JavaLauncher
from tests.support import wait_until
from tests.support.masters import Masters

pytestmark = pytest.mark.interop

# Small, so that there are several files of each kind; both brokers must have the same sizes.
SMALL = {
    "mappedFileSizeCommitLog": str(256 << 10),
    "mappedFileSizeConsumeQueue": "1000",
    "maxHashSlotNum": "200",
    "maxIndexNum": "500",
    "flushConsumerOffsetInterval": "500",
}
COUNT, BODY = 300, 1000
# Who opens the store; the last one only reads.
LEGS = ("ours", "java", "back", "again")
WRITERS, READERS = LEGS[:-1], LEGS[1:]
JAVA_S = ("java", "again")
# After a kill upstream goes so much further back than the checkpoint says. What is older than that
# it finds only if the checkpoint is right.
UPSTREAM_TIMES_AHEAD_S = 3.5
# How the broker ends, and the original that opens the store.
CASES = [("stopped", "4.9.5"), ("killed", "4.9.5"), ("killed", "5.3.3")]


@dataclass
class Exchange:
    """What was seen.

    Attributes:
        report: of all steps of all legs.
        files: of the store after each leg, relative.
    """

    report: Report
    files: list[set[str]] = field(default_factory=list)

    def sent(self, leg: str) -> dict[tuple[int, int], str]:
        """Queue and offset of each acknowledged message of a leg: its body."""
        return {(e["queue"], e["offset"]): e["body"] for e in self.report.of("sent", leg)}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    end, version = request.param
    return end, version


@pytest.fixture(scope="module")
def broker(
    jdk: None, case: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Masters]:
    folder = tmp_path_factory.mktemp("-".join(case))
    with masters_under_test(folder, "broker-a", conf=SMALL) as one:
        yield one


@pytest.fixture(scope="module")
def exchange(
    broker: Masters, case: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Exchange:
    end, version = case
    node = broker.nodes[0]
    ours = broker.launcher
    topic = f"Store_{uuid.uuid4().hex[:6]}"
    with java_client(version, broker, tmp_path_factory.mktemp("client")).session() as session:
        seen = Exchange(session.report)
        for number, leg in enumerate(LEGS, start=1):
            if leg in READERS:
                broker.launcher = JavaLauncher(JAVA_PEER or version) if leg in JAVA_S else ours
                broker.restart(node)
                _read(session, topic, leg)
            if leg in WRITERS:
                _write(session, topic, leg)
                if end == "killed":
                    _wait_for_saved_offsets(broker, topic, number * COUNT)
                    if leg == LEGS[1]:
                        time.sleep(UPSTREAM_TIMES_AHEAD_S)
                # Nothing but the log has these yet when the end comes.
                session.run(f"produce,as=last-{leg},topic=Last_{topic},count=50,keys=last-{leg}-")
            if end == "killed" or leg not in WRITERS:
                broker.kill9(node)
            else:
                broker.terminate(node)
            seen.files.append(_files(node.folder / "store"))
    return seen


def _read(session: Session, topic: str, leg: str) -> None:
    """What the legs before have left, before anything new is sent."""
    session.run(f"pull,as=pull-{leg},topic={topic},group=Pull_{leg}_{topic}")
    session.run(f"find,as=find-{leg},topic={topic},keys={';'.join(_some_keys(leg))}")
    last = [f"last-{b}-{i}" for b in _before(leg) for i in (0, 49)]
    session.run(f"find,as=last-find-{leg},topic=Last_{topic},keys={';'.join(last)}")


def _write(session: Session, topic: str, leg: str) -> None:
    send = f"topic={topic},keys={leg}"
    session.run(f"produce,as={leg},{send},count={COUNT},size={BODY}")
    # The group of all legs: it goes on where it was.
    session.run(f"consume,as=consume-{leg},topic={topic},group=G_{topic},count={COUNT}")
    # Batches, compressed bodies, and messages that go the way of a redelivery.
    other = f"topic=Other_{topic}"
    session.run(f"batch,as=batch-{leg},{other},count=10")
    session.run(f"produce,as=large-{leg},{other},count=2,size=20000")
    session.run(
        f"consume,as=other-{leg},{other},group=Other_{leg}_{topic},"
        f"count={12 * (LEGS.index(leg) + 1)},fail=once,level=1"
    )


def _wait_for_saved_offsets(broker: Masters, topic: str, total: int) -> None:
    """Before a kill -9: upstream writes consumer offsets every few seconds only."""
    wait_until(
        lambda: sum(broker.saved_offsets(broker.nodes[0], topic, f"G_{topic}").values()) == total,
        20,
        f"{total} in consumerOffset.json",
    )


def _files(store: Path) -> set[str]:
    return {str(p.relative_to(store)) for p in store.rglob("*")}


def _before(leg: str) -> tuple[str, ...]:
    return LEGS[: LEGS.index(leg)]


def _some_keys(leg: str) -> dict[str, str]:
    """Keys of the legs before, and the bodies that have them."""
    return {
        f"{b}{i}": f"{b}-{i}".ljust(BODY, ".")
        for b in _before(leg)
        for i in (0, COUNT // 2, COUNT - 1)
    }


def _check_found(exchange: Exchange, step: str, wanted: dict[str, str]) -> None:
    found = exchange.report.of("found", step)
    assert {e["key"]: e["body"] for e in found} == wanted
    assert len(found) == len(wanted), "each is found once"
    assert all(e["byUniqueKey"] == e["byOffsetId"] == e["body"] for e in found)


@pytest.mark.parametrize("leg", READERS)
def test_all_messages_are_where_they_were(exchange: Exchange, leg: str) -> None:
    sent = {place: body for b in _before(leg) for place, body in exchange.sent(b).items()}
    assert len(sent) == COUNT * len(_before(leg)), "places are used once"
    received = exchange.report.of("received", f"pull-{leg}")
    assert {(e["queue"], e["offset"]): e["body"] for e in received} == sent
    assert len(received) == len(sent)
    queues = exchange.report.of("queue", f"pull-{leg}")
    assert [q["min"] for q in queues] == [0] * 4
    assert sum(q["max"] for q in queues) == len(sent)


@pytest.mark.parametrize("leg", WRITERS)
def test_queue_offsets_go_on_where_they_ended(exchange: Exchange, leg: str) -> None:
    places = {place for b in (*_before(leg), leg) for place in exchange.sent(b)}
    lengths = [sum(queue == q for queue, _ in places) for q in range(4)]
    assert places == {(q, offset) for q in range(4) for offset in range(lengths[q])}


@pytest.mark.parametrize("leg", WRITERS)
def test_the_group_goes_on_where_it_was(exchange: Exchange, leg: str) -> None:
    received = exchange.report.bodies("received", f"consume-{leg}")
    assert received == sorted(exchange.sent(leg).values())


@pytest.mark.parametrize("leg", READERS)
def test_older_messages_are_found_by_key(exchange: Exchange, leg: str) -> None:
    _check_found(exchange, f"find-{leg}", _some_keys(leg))


@pytest.mark.parametrize("leg", READERS)
def test_what_was_sent_just_before_the_end_is_found_by_key(exchange: Exchange, leg: str) -> None:
    wanted = {f"last-{b}-{i}": f"last-{b}-{i}" for b in _before(leg) for i in (0, 49)}
    _check_found(exchange, f"last-find-{leg}", wanted)


@pytest.mark.parametrize("leg", WRITERS)
def test_batches_compressed_bodies_and_redeliveries_are_read(exchange: Exchange, leg: str) -> None:
    legs = (*_before(leg), leg)
    wanted = [f"batch-{b}-{i}" for b in legs for i in range(10)]
    wanted += [f"large-{b}-{i}".ljust(20_000, ".") for b in legs for i in range(2)]
    received = exchange.report.of("received", f"other-{leg}")
    for times in (0, 1):
        bodies = [e["body"] for e in received if e["reconsumeTimes"] == times]
        assert sorted(bodies) == sorted(wanted), times


def test_there_are_several_files_of_each_kind(exchange: Exchange, case: tuple[str, str]) -> None:
    topic = exchange.report.of("received", "consume-ours")[0]["topic"]
    for number, files in enumerate(exchange.files[: len(WRITERS)]):
        logs = sorted(f for f in files if f.startswith("commitlog/"))
        names = [f"commitlog/{i * (256 << 10):020d}" for i in range(len(logs))]
        assert logs == names
        assert len(logs) >= 2 + number
        assert f"consumequeue/{topic}/0/00000000000000001000" in files
        assert sum(f.startswith("index/") for f in files) >= 2
        assert ("abort" in files) == (case[0] == "killed")
