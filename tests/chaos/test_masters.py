"""Two masters without a group and our own client: the guide's walk, and masters killed with -9."""

import asyncio
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledgermq import MessageExt, SendResult, sync
from ledgermq.client import instance
from ledgermq.client.transport import Transport
from ledgermq.remoting.connection import Connection
from tests.chaos.reading import read_queue
from tests.chaos.traffic import Place, collecting, consuming, place_of, sending
from tests.support import until, wait_until
from tests.support.masters import Masters

pytestmark = pytest.mark.chaos

A, B = "broker-a", "broker-b"
TOPIC = "TopicTest"
SYNC = {"flushDiskType": "SYNC_FLUSH"}
# In the order in which a producer uses them, whatever the first one is.
QUEUES = [(name, queue) for name in (A, B) for queue in range(4)]
WORKERS = 10


class RefusedError(Exception):
    """What the guide's listener throws."""


def queues_of(sent: list[SendResult]) -> list[tuple[str, int]]:
    return [(r.queue.broker_name, r.queue.queue_id) for r in sent]


def goes_round(queues: list[tuple[str, int]]) -> bool:
    """Whether each send went to the queue after the one before."""
    start = QUEUES.index(queues[0])
    return queues == [QUEUES[(start + i) % len(QUEUES)] for i in range(len(queues))]


@pytest.fixture(autouse=True)
def quick_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client looks at its routes, and sees a new master, every 30 s; here every second."""
    monkeypatch.setattr(instance, "ROUTE_REFRESH_S", 1.0)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masters]:
    """Two masters and two name servers, configured as the guide does."""
    with Masters(tmp_path_factory.mktemp("masters"), name_servers=2) as masters:
        yield masters


def send(masters: Masters, topic: str, count: int) -> list[SendResult]:
    """One producer's messages, each after the answer to the one before."""
    with sync.Producer("guide", masters.name_server) as producer:
        return [
            producer.send(topic, f"Hello RocketMQ {i}", tag=("TagA", "TagB")[i % 2], keys=f"k{i}")
            for i in range(count)
        ]


def test_producers_begin_anywhere_and_go_round_both_masters(walk: Masters) -> None:
    first, *others = (send(walk, TOPIC, 10) for _ in range(10))
    print("", *first, sep="\n")
    for sent in (first, *others):
        assert {r.status.name for r in sent} == {"SEND_OK"}
        assert goes_round(queues_of(sent)), sent
    assert len({queues_of(sent)[0] for sent in (first, *others)}) > 1, "the first is at random"


def test_what_a_consumer_refuses_comes_again(walk: Masters) -> None:
    """Ten messages of one tag of two, of both masters; each is refused the first time."""
    topic = "RefusedTopic"
    sent = send(walk, topic, 20)
    deliveries: list[MessageExt] = []
    with sync.Consumer("refusing", {topic: "TagB"}, walk.name_server, start="earliest") as consumer:
        while sum(m.reconsume_times == 1 for m in deliveries) < 10:
            try:
                for message in consumer:
                    deliveries.append(message)
                    if message.reconsume_times == 0:
                        raise RefusedError
                    if sum(m.reconsume_times == 1 for m in deliveries) == 10:
                        break
            except RefusedError:
                continue
    wanted = sorted((f"Hello RocketMQ {i}", n) for i in range(1, 20, 2) for n in (0, 1))
    assert sorted((m.body.decode(), m.reconsume_times) for m in deliveries) == wanted
    first_time = {m.broker_name for m in deliveries if m.reconsume_times == 0}
    assert first_time == {A, B} == {broker for broker, _ in queues_of(sent)}


def test_what_a_stopped_master_held_is_consumed_once_when_it_is_back(walk: Masters) -> None:
    topic = "HeldTopic"
    sent = send(walk, topic, 8)
    assert walk.terminate(walk[A]) == 0
    with collecting(walk.name_server, topic, "late") as received:
        wait_until(lambda: len(received) >= 4, 20, "what broker-b has")
        assert {m.broker_name for m in received} == {B}
        walk.restart(walk[A])
        wait_until(lambda: len(received) >= 8, 60, "what broker-a held")
    assert sorted(m.msg_id for m in received) == sorted(r.msg_id for r in sent)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that clients of this process asked for a connection to, in order."""
    addresses: list[str] = []
    original = Transport.connect

    async def connect(self: Transport, address: str, timeout_ms: int) -> Connection:
        addresses.append(address)
        return await original(self, address, timeout_ms)

    monkeypatch.setattr(Transport, "connect", connect)
    return addresses


async def test_a_master_killed_under_load_and_its_return(
    tmp_path: Path, dialled: list[str]
) -> None:
    """No send fails; what the killed master held is consumed once; new sends reach it again."""
    with Masters(tmp_path, extra_conf=SYNC) as masters:
        async with sending(masters.name_server, TOPIC, WORKERS) as sends:
            await until(lambda: len(sends.to(B)) >= 500, 30, "500 sends to broker-b")
            dialled.clear()
            await asyncio.to_thread(masters.kill9, masters[B])
            gone = len(sends.acked)
            held = [place_of(r) for r in sends.to(B)]
            await until(lambda: len(sends.acked) >= gone + 1000, 30, "1000 sends without broker-b")
            # Workers that had a send under way try again; after that the route has no broker-b.
            tries = dialled.count(masters[B].address)
            print(f"\n{tries} attempts at the dead address by {WORKERS} workers")
            assert tries <= 2 * WORKERS
            assert len(sends.to(B, since=gone)) <= WORKERS
            async with consuming(masters.name_server, TOPIC, "backlog") as times:
                await until(lambda: len(times) >= 1000, 30, "deliveries of broker-a")
                assert {place.broker for place in times} == {A}
                await asyncio.to_thread(masters.restart, masters[B])
                back = len(sends.acked)
                await until(lambda: len(sends.to(B, since=back)) >= 500, 30, "sends to broker-b")
                await until(lambda: times.keys() >= set(held), 60, "all that broker-b held")
                assert {times[place] for place in held} == {1}
        print(f"{len(sends.acked)} sends, {len(held)} held, gap {sends.longest_gap_s():.2f} s")
        print(*sends.to(B, since=back)[:3], sep="\n")
        assert sends.failed == []
        assert sends.longest_gap_s() < 2.0


async def test_every_acknowledged_message_outlives_the_kill_of_both(tmp_path: Path) -> None:
    """SYNC_FLUSH and kill -9 of both masters at once: each SEND_OK is found where it said."""
    with Masters(tmp_path, extra_conf=SYNC) as masters:
        async with sending(masters.name_server, TOPIC, WORKERS) as sends:
            await until(lambda: len(sends.acked) >= 1000, 30, "1000 sends")
            for node in masters.nodes:
                node.end(signal.SIGKILL)
            killed = len(sends.acked)
            for node in masters.nodes:
                await asyncio.to_thread(masters.restart, node)
            await until(
                lambda: all(len(sends.to(name, since=killed)) >= 100 for name in (A, B)),
                40,
                "sends to both again",
            )
        found: dict[Place, str] = {}
        for name, queue in itertools.product((A, B), range(4)):
            stored = await asyncio.to_thread(read_queue, masters[name].address, TOPIC, queue)
            assert sorted(stored) == list(range(len(stored))), "queue offsets are not dense"
            found |= {Place(name, queue, offset): msg_id for offset, msg_id in stored.items()}
        print(f"\n{killed} acknowledged before the kill, {len(sends.acked) - killed} after it")
        assert [r for r in sends.acked if found.get(place_of(r)) != r.msg_id] == []
