"""The client library against name servers and brokers that answer anything."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st

from ledgermq.client import assignment, instance, member
from ledgermq.client.errors import BackgroundFailure, ClientError
from ledgermq.client.producer import Producer
from ledgermq.client.push_consumer import Consumer
from ledgermq.remoting import frame
from ledgermq.remoting.bodies.consumer import ConsumerIdList
from ledgermq.remoting.bodies.route import BrokerData, QueueData, TopicRouteData
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.headers.pull import PullMessageResponse
from ledgermq.remoting.headers.send import SendMessageResponse
from tests.golden.captured import frames as golden_frames
from tests.property.test_fuzz_frames import framed, json_like
from tests.support.fuzz import Attacked, attacked, mutated, profiles, texts

GOLDEN_BODIES = [f.command.body for f in golden_frames() if f.request is not None]
# What brokers ask of clients: check a transaction, members changed, reset offsets, running info …
ASKED = [39, 40, 220, 221, 307, 309, 326, 9999]
# Most requests of a client in one example: one that never pauses would send thousands.
MOST_ASKED = 400
TIMEOUT_S = 0.15


class Liar:
    """A name server and broker in one; `answers` is what it says next, over and over."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.honest = 0.0
        self.asked = 0
        self.address = ""
        self._random = Random(0)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> "Liar":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()
        await self._server.wait_closed()

    def hang_up(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def begin(self, answers: list[Any], honest: float) -> None:
        """Forget the example before; `honest`: how often the truth is told."""
        self.answers, self.honest, self.asked = answers, honest, 0
        self._random.seed(len(answers))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = frame.CommandDecoder()
        self._writers.add(writer)
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                for command in decoder.feed(data):
                    if not command.is_response:
                        self._say(writer, command)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    def _say(self, writer: asyncio.StreamWriter, command: RemotingCommand) -> None:
        self.asked += 1
        if self._random.random() < self.honest:
            answer = self._truth(command)
        else:
            lie = self.answers[self.asked % len(self.answers)]
            if isinstance(lie, bytes):
                writer.write(lie)
                return
            answer = RemotingCommand(
                lie.code, dict(lie.ext), lie.body, remark=lie.remark, flag=lie.flag
            )
        if answer.is_response:
            answer.opaque = command.opaque
        writer.write(frame.encode(answer))

    def _truth(self, command: RemotingCommand) -> RemotingCommand:
        """Enough of it for a client to go on to its next request."""
        queue = QueueData(broker_name="b", read_queue_nums=2, write_queue_nums=2, perm=6)
        broker = BrokerData(cluster="c", broker_name="b", broker_addrs={0: self.address})
        match command.code:
            case RequestCode.GET_ROUTEINFO_BY_TOPIC:
                route = TopicRouteData(queue_datas=[queue], broker_datas=[broker])
                return response(0, body=route.encode())
            case RequestCode.GET_CONSUMER_LIST_BY_GROUP:
                return response(0, body=ConsumerIdList(consumer_id_list=[CLIENT]).encode())
            case RequestCode.PULL_MESSAGE:
                header = PullMessageResponse(
                    suggest_which_broker_id=0, next_begin_offset=0, min_offset=0, max_offset=0
                )
                return response(19, "none", header.to_ext())
            case RequestCode.SEND_MESSAGE_V2:
                done = SendMessageResponse(msg_id="", queue_id=0, queue_offset=0)
                return response(0, None, done.to_ext())
            case _:
                return response(0, ext={"offset": "0"})


CLIENT = "127.0.0.1@fuzz"


@st.composite
def routes(draw: st.DrawFn) -> bytes:
    """A route with right types and wrong values."""
    number = st.sampled_from([-1, 0, 1, 3, 70_000, 2**31 - 1, 2**62])
    address = st.sampled_from(
        ["", "x", ":", "h:", "h:x", "127.0.0.1:" + "9" * 5000, "127.0.0.1:1", "\0:1", "[::1]:1",
         "a..b:1", "x" * 300 + ":1", "127.0.0.1:65536", "\udc80".encode(errors="replace").decode()]
    )  # fmt: skip
    name = st.sampled_from(["b", "", "\0", "x" * 1000])
    queues = st.builds(
        QueueData, broker_name=name, read_queue_nums=number, write_queue_nums=number, perm=number
    )
    addresses = st.dictionaries(st.integers(-1, 2), address, max_size=3)
    brokers = st.builds(BrokerData, cluster=name, broker_name=name, broker_addrs=addresses)
    return TopicRouteData(
        queue_datas=draw(st.lists(queues, max_size=3)),
        broker_datas=draw(st.lists(brokers, max_size=3)),
    ).encode()


fields = [
    *PullMessageResponse.__struct_encode_fields__,
    *SendMessageResponse.__struct_encode_fields__,
    "offset",
    "consumerGroup",
]
bodies = (
    json_like()
    | routes()
    | st.sampled_from(GOLDEN_BODIES)
    | mutated(st.sampled_from(GOLDEN_BODIES))
    | st.just(ConsumerIdList(consumer_id_list=[CLIENT, CLIENT, ""]).encode())
)
replies = st.builds(
    lambda code, ext, body, remark, flag: RemotingCommand(
        code, ext, body, remark=remark, flag=flag
    ),
    st.sampled_from([0, 0, 0, 0, 1, 2, 10, 11, 12, 14, 17, 19, 20, 21, 22, 24, 25, 26, 99, -1]),
    st.dictionaries(st.sampled_from(fields), texts, max_size=8),
    bodies,
    st.none() | st.text(max_size=5) | st.just("not the leader"),
    st.just(1),
)
questions = st.builds(
    lambda code, ext, body, flag: RemotingCommand(code, ext, body, flag=flag),
    st.sampled_from(ASKED),
    st.dictionaries(st.sampled_from(fields), texts, max_size=4),
    bodies,
    st.sampled_from([0, 2]),
)
answers = st.lists(replies | questions | framed(), min_size=1, max_size=8)
honesty = st.sampled_from([0.0, 0.5, 0.8, 0.95])


@pytest.fixture(scope="module")
def liar() -> Any:
    with attacked(lambda: Liar().start(), Liar.stop) as target:
        yield target


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for longer than the tests want to."""
    ms = int(TIMEOUT_S * 1000)
    monkeypatch.setattr(member, "_CLOSE_COMMIT_TIMEOUT_MS", ms)
    monkeypatch.setattr(member, "_MEMBERS_TIMEOUT_MS", ms)
    monkeypatch.setattr(instance, "_CLOSE_TIMEOUT_MS", ms)
    monkeypatch.setattr(instance, "_HEARTBEAT_TIMEOUT_MS", ms)
    monkeypatch.setattr(instance, "client_id", lambda _ip: CLIENT)
    monkeypatch.setattr(assignment, "_START_TIMEOUT_MS", ms)


async def nothing_left(liar: Liar, before: set["asyncio.Task[Any]"]) -> None:
    """The client is gone with all that it had started."""
    liar.hang_up()
    for _ in range(500):
        if asyncio.all_tasks() <= before:
            return
        await asyncio.sleep(0.002)
    raise AssertionError(asyncio.all_tasks() - before)


def sound(error: ClientError) -> None:
    """What the application is told is what the servers did, not a defect of the library."""
    if isinstance(error, BackgroundFailure):
        assert "cannot be read" in str(error) or "refused" in str(error), repr(error.__cause__)


Work = Callable[[Liar], Any]


async def tried(liar: Liar, work: Work, most_asked: int = MOST_ASKED) -> None:
    before = asyncio.all_tasks()
    try:
        await work(liar)
    except ClientError as e:
        sound(e)
    assert liar.asked <= most_asked
    await nothing_left(liar, before)


async def produce(liar: Liar) -> None:
    async with Producer("PG", liar.address, timeout=TIMEOUT_S) as producer:
        with suppress(ClientError):
            await producer.send("T", b"x")
        with suppress(ClientError):
            await producer.send_batch("T", [b"x", b"y"])
        await producer.send_many("T", [b"x"] * 5)


async def consume(liar: Liar) -> None:
    async with Consumer("CG", "T", liar.address, start="earliest", timeout=TIMEOUT_S) as consumer:
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                async for _ in consumer:
                    assert len(consumer._member._ready) <= 10_000


@profiles(12, 2000)
@pytest.mark.parametrize("work", [produce, consume])
def test_lies(liar: Attacked[Liar], work: Work, examples: int) -> None:
    @liar.given(examples, answers, honesty)
    async def attack(server: Liar, said: list[Any], honest: float) -> None:
        server.begin(said, honest)
        async with asyncio.timeout(20):
            await tried(server, work)
