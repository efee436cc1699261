"""The short way of a send must be seen in nothing but its speed."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.broker.features import send
from ledgermq.broker.metadata import Metadata, TopicPut, encode_op
from ledgermq.broker.sending.answers import SendAnswers
from ledgermq.broker.sending.quick import QuickSends
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.broker.writer import AppendResult, OnDone, OnEachDone, OutgoingRecord
from ledgermq.dledger.errors import CallerError
from ledgermq.remoting import frame
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import LedgerMQError, PeerError
from ledgermq.remoting.message_id import pack_host
from ledgermq.remoting.registry import ProcessorRegistry
from tests.golden.captured import CapturedFrame
from tests.golden.captured import frames as golden_frames
from tests.support.fuzz import fuzzing
from tests.unit.broker.fakes import BROKER, topic

MAX_BODY = 64
CONFIG = replace(BROKER, max_message_size=MAX_BODY)
TOPICS = {
    "T": topic("T"),
    "A_b-c|%9": topic("A_b-c|%9", 1),
    "Wide": TopicConfig(topic_name="Wide", read_queue_nums=8, write_queue_nums=2),
    "Narrow": TopicConfig(topic_name="Narrow", read_queue_nums=2, write_queue_nums=8),
    "NoQueues": topic("NoQueues", 0),
    "ReadOnly": topic("ReadOnly", perm=4),
    "WriteOnly": topic("WriteOnly", perm=2),
    "%RETRY%G": topic("%RETRY%G", 1),
    "%DLQ%G": topic("%DLQ%G", 1),
    "bad name!": topic("bad name!"),
    "主题": topic("主题"),
    "L" * 127: topic("L" * 127),
    "L" * 128: topic("L" * 128),
    "SCHEDULE_TOPIC_XXXX": topic("SCHEDULE_TOPIC_XXXX", 18),
    "TBW102": topic("TBW102", 8, perm=7),
    INTERNAL_TOPIC: topic(INTERNAL_TOPIC, 1),
}
STORED = AppendResult(7, 4711)


class Node:
    """Takes messages, answers them with `outcome`, or raises `error`."""

    def __init__(self, outcome: AppendResult | PeerError = STORED) -> None:
        self.records: list[OutgoingRecord] = []
        self.outcome = outcome
        self.error: Exception | None = None
        self.tries = 0
        self.takes_runs = True
        self.runs: list[int] = []

    def append(self, message: OutgoingRecord, on_done: OnDone) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.records.append(message)
        on_done(self.outcome)

    def append_all(self, messages: list[OutgoingRecord], on_done: OnDone) -> list[AppendResult]:
        self.records += messages
        on_done(self.outcome)
        return [STORED for _ in messages]

    def append_each(self, messages: list[OutgoingRecord], on_done: OnEachDone) -> bool:
        self.runs.append(len(messages))
        if not self.takes_runs:
            return False
        if self.error is not None:
            raise self.error
        self.records += messages
        outcome = self.outcome
        on_done(outcome if isinstance(outcome, PeerError) else [outcome for _ in messages])
        return True

    async def put_topic(self, _config: object) -> None:
        raise PeerError(14, "no topic is made here")


class Client(Connection):
    """A connection whose other side keeps what it is sent."""

    def __init__(self, registry: ProcessorRegistry) -> None:
        super().__init__(registry)
        self.remote = "10.1.2.3:45678"
        self.heard: list[bytes] = []
        self.reasons: list[str] = []

    def send_bytes(self, data: bytes) -> None:
        self.heard.append(data)

    def close(self, reason: str = "") -> None:
        self.reasons.append(reason)


def known_topics() -> Metadata:
    metadata = Metadata()
    for n, config in enumerate(TOPICS.values()):
        metadata.apply(n, 1, encode_op(TopicPut(config)))
    return metadata


class Broker:
    """What a frame meets: the short way, the long way, or one after the other."""

    def __init__(
        self, outcome: AppendResult | PeerError = STORED, metadata: Metadata | None = None
    ) -> None:
        self.metadata = metadata or known_topics()
        self.is_open = True
        self.node = Node(outcome)
        answers = SendAnswers(CONFIG, pack_host(CONFIG.address))
        node = cast(Any, self.node)
        self.registry = ProcessorRegistry()
        send.register(self.registry, send.SendService(node, self.metadata, CONFIG, answers))
        self.quick = QuickSends(node, self.metadata, CONFIG, answers, is_open=lambda: self.is_open)
        self.client = Client(self.registry)

    def takes(self, data: bytes) -> bool:
        """Whether a frame goes the short way."""
        return self.quick(self.client, [data], 0) == 1

    async def take(self, *frames: bytes) -> None:
        """Whole frames come in, as bytes from a socket do."""
        self.client.data_received(b"".join(len(data).to_bytes(4) + data for data in frames))
        for _ in range(3):  # a topic that is to be made first
            await asyncio.sleep(0)

    @property
    def traces(self) -> tuple[list[OutgoingRecord], list[bytes], list[str]]:
        return self.node.records, self.client.heard, self.client.reasons


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found:
        yield found


def whole(header: bytes, body: bytes = b"x", kind: int = 0) -> bytes:
    return bytes([kind]) + len(header).to_bytes(3) + header + body


def v2(**changes: Any) -> dict[str, Any]:
    """The header fields of a plain send; None: left out."""
    fields = {
        "a": "PG", "b": "T", "c": "TBW102", "d": "4", "e": "2", "f": "0", "g": "1700000000000",
        "h": "0", "i": "UNIQ_KEY\x01FD01\x02", "j": "0", "k": "false", "m": "false",
    } | changes  # fmt: skip
    return {k: v for k, v in fields.items() if v is not None}


def plain(body: bytes = b"x", top: dict[str, Any] | None = None, **changes: Any) -> bytes:
    command = {"code": 310, "extFields": v2(**changes), "flag": 0, "language": "JAVA"}
    command |= {"opaque": 9, "version": 403} | (top or {})
    return whole(json.dumps(command, separators=(",", ":")).encode(), body)


# --- any frame --------------------------------------------------------------------------------

QUEUE_IDS = st.sampled_from([0, 1, 2, 3, 4, 7, 8, -1, 2**31 - 1, -(2**31), 2**31])
SYS_FLAGS = st.sampled_from([0, 0, 1, 2, 3, 4, 8, 12, 0x10, 0x20, 0x301, 1 << 8, -1, 2**31])
PARTS = st.sampled_from(
    [
        "UNIQ_KEY\x01FD01", 'UNIQ_KEY\x01a"b\\c', "UNIQ_KEY\x01é", "UNIQ_KEY\x01", "UNIQ_KEY\x01%d",
        "X_UNIQ_KEY\x01wrong", "TAGS\x01TagA", "TAGS\x01标签", "KEYS\x01k1 k2", "WAIT\x01true",
        "DELAY\x010", "DELAY\x013", "TIMER_DELAY_SEC\x015", "TIMER_DELIVER_MS\x010", "MODEL\x01x",
        "TRAN_MSG\x01true", "TRAN_MSG\x01false", f"REAL_TOPIC\x01{INTERNAL_TOPIC}",
        f"RETRY_TOPIC\x01{INTERNAL_TOPIC}", "REAL_TOPIC\x01T", "\x01", "", "no separator",
        "a\x01\U0001f600", "a\x01\x00\x1f\x7f",
    ]
)  # fmt: skip
PLAIN_PARTS = st.sampled_from(["UNIQ_KEY\x01FD01", "TAGS\x01TagA", "KEYS\x01k", "naïve\x01标签"])
PROPERTIES = st.tuples(
    st.lists(st.one_of(*[PLAIN_PARTS] * 3, PARTS), max_size=3), st.booleans()
).map(lambda p: "\x02".join(p[0]) + ("\x02" if p[1] else ""))
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, 5, 5.0, 1.5, True, False, "", " 1", "1.0", "0x1", "abc", 10**30, [], {}]
)
TRUTHS = st.sampled_from(["false", "false", "true", "true", "0", "1", "", True, None, "no"])


def one_in(draw: st.DrawFn, count: int) -> bool:
    """True for one of so many examples."""
    return draw(st.sampled_from(range(count))) == 1


def few(of: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Often none of them."""
    return st.one_of(st.just([]), st.lists(of, min_size=1, max_size=2))


def text_or_number(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return st.one_of(numbers.map(str), numbers, numbers.map(float).map(str))


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """Header fields: those of a plain send, but for a few."""
    found = v2(i=draw(PROPERTIES))
    rare: dict[str, st.SearchStrategy[Any]] = {
        "b": st.sampled_from(
            [*TOPICS, *["Wide", "Narrow", "L" * 127] * 2, "Missing", "%RETRY%Missing", ""]
        ),
        "c": st.sampled_from(["TBW102", "Missing", "T"]),
        "e": text_or_number(QUEUE_IDS),
        "f": text_or_number(SYS_FLAGS),
        "g": text_or_number(st.sampled_from([0, -1, 2**63 - 1, 2**63])),
        "h": text_or_number(st.sampled_from([0, 1, 2**31 - 1, -(2**31), 2**31])),
        "j": text_or_number(st.sampled_from([0, 1, 17, -1])),
        "k": TRUTHS,
        "m": TRUTHS,
        "l": text_or_number(st.integers(0, 3)),
        "n": st.sampled_from(["broker-a", None]),
        "lmqHop": st.just("1"),
        "lmqClient": st.sampled_from(["10.9.9.9:1", "nobody"]),
        "lmqHoldMs": st.just("5"),
        "unknown": st.sampled_from(["x", 5, None, "lmqHop", '"code":310']),
        "topic": st.just("Wide"),
    }
    for name in draw(few(st.sampled_from([*sorted(rare), *"bbbbeeeeffmmmg"]))):
        found[name] = draw(rare[name])
    if one_in(draw, 7):
        name = draw(st.sampled_from("abcdefghijk"))
        found[name] = draw(ODD)
        if draw(st.booleans()):
            del found[name]
    return found


@st.composite
def tops(draw: st.DrawFn) -> dict[str, Any]:
    """What stands around the header fields."""
    found: dict[str, Any] = {"code": 310, "extFields": draw(fields()), "opaque": draw(OPAQUES)}
    if not one_in(draw, 5):
        return found | {"flag": 0, "language": "JAVA", "version": 403}
    odd: dict[str, st.SearchStrategy[Any]] = {
        "code": st.sampled_from([10, 320, 310.0, "310", 36, None, 2**31]),
        "flag": st.sampled_from([1, 2, 3, 4, "0", 0.0, None]),
        "opaque": st.sampled_from(["7", 2**31, 1.5, None]),
        "version": st.sampled_from([0, 121, "479", 2**31, None]),
        "language": st.sampled_from(["GO", "NOPE", 4, 99, None, True, []]),
        "remark": st.sampled_from([None, "", "a remark"]),
        "extFields": st.sampled_from([None, {}, [], "x"]),
        "serializeTypeCurrentRPC": st.sampled_from(["JSON", 0]),
        "more": st.sampled_from([{"code": 310}, [1, {}], "lmqHop"]),
    }
    for name in draw(few(st.sampled_from(sorted(odd)))):
        found[name] = draw(odd[name])
    return found


OPAQUES = st.integers(-(2**31), 2**31 - 1)
BODIES = st.binary(max_size=8) | st.integers(MAX_BODY - 1, MAX_BODY + 2).map(bytes)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """The header as bytes; now and then not quite JSON."""
    compact = {"separators": (",", ":")} if not one_in(draw, 9) else {}
    found = json.dumps(draw(tops()), ensure_ascii=draw(st.booleans()), **cast(Any, compact))
    data = found.encode("utf-8", "surrogatepass")
    if not one_in(draw, 7):
        return data
    old, new = draw(
        st.sampled_from(
            [
                (b"FD01", b"FD\xff"), (b'"T"', b'"T\xc3"'), (b"PG", b"\xf0\x28"), (b"}", b""),
                (b'"T"', b'"\\u0054"'), (b'"b"', b'"\\u0062"'), (b"FD01", b"\\ud800"),
                (b"PG", b"\\ud83d"), (b"FD01", b"\xed\xa0\x80"), (b'"code"', b'"c\\u006fde"'),
                (b'"e"', b'"e":"1","e"'), (b'"m"', b'"m":"true","m"'), (b"{", b" \t{"),
                (b'"code"', b'"code":10,"code"'), (b'"opaque"', b'"code":10,"opaque"'),
                (b'"extFields"', b'"extFields":{},"extFields"'), (b"FD01", b"\x02\x01"),
                (b'"extFields"', b'"flag":2,"extFields"'), (b'"a"', b'"\\u006cmqHop":"1","a"'),
            ]
        )
    )  # fmt: skip
    return data.replace(old, new, 1 if draw(st.booleans()) else -1)


@st.composite
def sends(draw: st.DrawFn) -> bytes:
    """A frame; now and then its header's length lies."""
    header, body = draw(headers()), draw(BODIES)
    data = bytearray(whole(header, body, draw(st.sampled_from([0] * 20 + [1, 2]))))
    if one_in(draw, 15):
        wrong = draw(
            st.sampled_from([0, 1, len(header) - 1, len(header) + 1, len(data), 2**24 - 1])
        )
        data[1:4] = wrong.to_bytes(3)
    return bytes(data[: draw(st.integers(1, 5))]) if one_in(draw, 50) else bytes(data)


PLAIN_ONES = st.builds(
    plain, BODIES, st.fixed_dictionaries({"opaque": OPAQUES}), e=st.sampled_from("012")
)
ANY_SENDS = st.one_of(*[PLAIN_ONES] * 3, sends())
REFUSALS = st.sampled_from([PeerError(2, "broker busy"), PeerError(14, "kein Platz, 没有空间")])
RESULTS = st.builds(
    AppendResult, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.booleans()
)


@pytest.mark.parametrize(
    ("outcomes", "examples"),
    [pytest.param(RESULTS, 600, id="stored"), pytest.param(REFUSALS, 200, id="refused")],
)
def test_what_is_taken_is_stored_and_answered_as_on_the_long_way(
    runner: asyncio.Runner,
    outcomes: st.SearchStrategy[AppendResult | PeerError],
    examples: int,
) -> None:
    taken = left = 0
    metadata = known_topics()
    fingerprint = metadata.fingerprint()
    lasting = Broker(metadata=metadata)  # one that has seen many names already

    @fuzzing(examples)
    @given(sends(), outcomes)
    def each(data: bytes, outcome: AppendResult | PeerError) -> None:
        nonlocal taken, left
        long, short = Broker(outcome, metadata), Broker(outcome, metadata)
        runner.run(long.take(data))
        is_taken = short.takes(data)
        assert lasting.takes(data) == is_taken
        if is_taken:
            taken += 1
            assert short.traces == long.traces
            assert len(short.client.heard) == 1
            assert [len(r) for r in (short.node.records, short.client.reasons)] == [1, 0]
        else:
            left += 1
            assert short.traces == ([], [], [])
            assert short.node.tries == 0
        assert metadata.fingerprint() == fingerprint

    each()
    assert min(taken, left) > examples // 20, (taken, left)  # else it says little


def test_a_header_of_any_bytes_is_left_alone_or_taken_as_on_the_long_way(
    runner: asyncio.Runner,
) -> None:
    """A plain send whose bytes were changed one by one, each to a few others."""
    good = plain(i="UNIQ_KEY\x01FD01\x02")
    taken, metadata = 0, known_topics()
    for at in range(len(good)):
        for value in (good[at] ^ 1, good[at] ^ 0x80, 0x22, 0x30, 0x7D):
            data = good[:at] + bytes([value]) + good[at + 1 :]
            short = Broker(metadata=metadata)
            if short.takes(data):
                taken += 1
                long = Broker(metadata=metadata)
                runner.run(long.take(data))
                assert short.traces == long.traces, data
            else:
                assert short.traces == ([], [], []), data
    assert taken > 100


@pytest.mark.parametrize("takes_runs", [True, False], ids=["in one go", "one by one"])
@pytest.mark.parametrize("outcomes", [RESULTS, REFUSALS], ids=["stored", "refused"])
def test_frames_that_came_together_are_stored_and_answered_as_on_the_long_way(
    runner: asyncio.Runner,
    outcomes: st.SearchStrategy[AppendResult | PeerError],
    takes_runs: bool,
) -> None:
    metadata = known_topics()
    runs: list[int] = []

    @fuzzing(150)
    @given(st.lists(ANY_SENDS, min_size=1, max_size=8), outcomes)
    def each(frames: list[bytes], outcome: AppendResult | PeerError) -> None:
        long, short = Broker(outcome, metadata), Broker(outcome, metadata)
        short.node.takes_runs = takes_runs
        short.registry.shortcut = short.quick
        runner.run(long.take(*frames))
        runner.run(short.take(*frames))
        records, heard, reasons = long.traces
        assert short.node.records == records
        assert short.client.reasons == reasons
        assert b"".join(short.client.heard) == b"".join(heard)
        runs.extend(short.node.runs)

    each()
    assert max(runs) >= 4
    assert len(runs) > 50


def test_no_more_than_a_bounded_number_goes_in_one_go() -> None:
    broker = Broker()
    frames = [plain(top={"opaque": n}) for n in range(600)]
    at, stops = 0, []
    while at < len(frames):
        at = broker.quick(broker.client, frames, at)
        stops.append(at)
    assert stops == [256, 512, 600]
    assert broker.node.runs == [256, 256, 88]
    answers = b"".join(broker.client.heard)
    assert [a.opaque for a in frame.CommandDecoder().feed(answers)] == list(range(600))


def test_a_run_that_raises_is_tried_one_by_one(runner: asyncio.Runner) -> None:
    """The first of them then goes the long way, which says why."""
    broker = Broker()
    broker.node.error = CallerError("no room")
    frames = [plain(top={"opaque": n}) for n in range(3)]
    assert broker.quick(broker.client, frames, 0) == 0
    assert (broker.node.runs, broker.node.tries) == ([3], 1)
    broker.node.error = None
    assert broker.quick(broker.client, frames, 1) == 3
    assert len(broker.node.records) == 2


def test_a_run_ends_before_the_first_that_is_not_plain() -> None:
    broker = Broker()
    frames = [plain(), plain(e="1"), plain(m="true"), plain(), plain(top={"flag": 2}), plain()]
    assert [broker.quick(broker.client, frames, at) for at in range(6)] == [2, 2, 2, 4, 4, 6]
    assert broker.node.runs == [2]
    assert [r.queue_id for r in broker.node.records] == [2, 1, 1, 2, 2]


# --- what is taken, and what is not -----------------------------------------------------------


def captured(note: str) -> list[CapturedFrame]:
    return [
        f
        for f in golden_frames()
        if f.command.code == 310 and not f.command.is_response and f.note.endswith(f": {note}")
    ]


def brings(frame_: CapturedFrame) -> Broker:
    """A broker that has the topic of a captured send, and takes its body."""
    broker = Broker()
    wanted = topic(frame_.command.ext["b"], 8)
    broker.metadata.apply(broker.metadata.applied_index + 1, 1, encode_op(TopicPut(wanted)))
    return broker


@pytest.mark.parametrize(
    "note", ["producer sync", "producer sync no tag", "producer auto-create topic"]
)
def test_the_plain_sends_of_javas_clients_are_taken(runner: asyncio.Runner, note: str) -> None:
    found = captured(note)
    assert {f.name.split(":")[0] for f in found} == {"4.9.5", "5.3.3"}
    for one in found:
        short, long = brings(one), brings(one)
        assert short.takes(one.raw[4:]), one.name
        runner.run(long.take(one.raw[4:]))
        assert short.traces == long.traces
        reply = frame.decode(short.client.heard[0][4:])
        assert (reply.code, reply.opaque, reply.flag) == (0, one.command.opaque, 1)
        assert reply.ext["queueId"] == one.command.ext["e"]


@pytest.mark.parametrize(
    "note",
    [
        "producer oneway", "producer delayed", "transaction unknown",
        "producer sync send binary header", "producer oneway binary header",
    ],
)  # fmt: skip
def test_what_is_special_in_javas_sends_goes_the_long_way(note: str) -> None:
    found = captured(note)
    assert found
    for one in found:
        broker = brings(one)
        assert not broker.takes(one.raw[4:]), one.name
        assert broker.traces == ([], [], [])


@pytest.mark.parametrize(
    ("data", "is_taken"),
    [
        pytest.param(plain(), True, id="a plain one"),
        pytest.param(plain(b""), True, id="without a body"),
        pytest.param(plain(i=None), True, id="without properties"),
        pytest.param(plain(f="1"), True, id="compressed"),
        pytest.param(plain(j="3"), True, id="one of a consumer's attempts"),
        pytest.param(plain(bytes(MAX_BODY)), True, id="the largest body"),
        pytest.param(plain(bytes(MAX_BODY + 1)), False, id="a larger one"),
        pytest.param(plain(b="Wide", e="1"), True, id="the last queue to write to"),
        pytest.param(plain(b="Wide", e="2"), False, id="a queue to read from only"),
        pytest.param(plain(e="-1"), False, id="any queue"),
        pytest.param(plain(b="ReadOnly"), False, id="a topic nobody may write to"),
        pytest.param(plain(b="Missing"), False, id="no such topic"),
        pytest.param(plain(b="%RETRY%G", e="0"), False, id="a retry"),
        pytest.param(plain(b=INTERNAL_TOPIC, e="0"), False, id="the internal topic"),
        pytest.param(plain(b="SCHEDULE_TOPIC_XXXX"), False, id="a topic closed to clients"),
        pytest.param(plain(m="true"), False, id="a batch"),
        pytest.param(plain(f="4"), False, id="half of a transaction"),
        pytest.param(plain(i="DELAY\x013\x02"), False, id="delayed"),
        pytest.param(plain(i="TRAN_MSG\x01true\x02"), False, id="of a transaction"),
        pytest.param(plain(i=f"X\x01{INTERNAL_TOPIC}\x02"), False, id="the internal topic inside"),
        pytest.param(plain(lmqHop="1"), False, id="forwarded"),
        pytest.param(plain(top={"flag": 2}), False, id="one-way"),
        pytest.param(plain(top={"flag": 1}), False, id="an answer"),
        pytest.param(plain(top={"code": 10}), False, id="10"),
        pytest.param(plain(top={"code": 320}), False, id="320"),
        pytest.param(plain(top={"more": "x" * (64 << 10)}), False, id="a huge header"),
        pytest.param(plain()[:30], False, id="cut in its header"),
        pytest.param(b"\0\0\0", False, id="no room for a length"),
    ],
)
@pytest.mark.parametrize("is_known", [False, True], ids=["a new topic", "one sent to before"])
def test_which_frames_are_taken(data: bytes, is_taken: bool, is_known: bool) -> None:
    broker = Broker()
    if is_known:
        for name in TOPICS:
            broker.takes(plain(b=name, e="0"))
        broker.node.records.clear()
        broker.client.heard.clear()
    assert broker.takes(data) is is_taken
    assert len(broker.node.records) == len(broker.client.heard) == is_taken


def test_a_change_of_the_topic_counts_at_once() -> None:
    broker = Broker()
    assert broker.takes(plain())
    broker.metadata.topics["T"] = topic("T", perm=4)
    assert not broker.takes(plain())
    broker.metadata.topics["T"] = topic("T", 2)
    assert not broker.takes(plain())
    assert broker.takes(plain(e="1"))
    del broker.metadata.topics["T"]
    assert not broker.takes(plain(e="1"))
    assert len(broker.node.records) == 2


def test_a_broker_that_takes_no_writes_takes_none_the_short_way() -> None:
    broker = Broker()
    answers = SendAnswers(CONFIG, pack_host(CONFIG.address))
    closed = replace(CONFIG, broker_permission=4)
    node = cast(Any, broker.node)
    quick = QuickSends(node, broker.metadata, closed, answers, is_open=lambda: True)
    assert quick(broker.client, [plain()], 0) == 0
    assert broker.traces == ([], [], [])


# --- the gate, and an append that raises ------------------------------------------------------


def test_nothing_is_taken_while_the_gate_is_closed(runner: asyncio.Runner) -> None:
    broker = Broker()
    broker.is_open = False
    assert not broker.takes(plain())
    assert broker.traces == ([], [], [])
    broker.is_open = True
    assert broker.takes(plain())
    broker.is_open = False
    assert not broker.takes(plain())
    assert len(broker.node.records) == 1


@pytest.mark.parametrize(
    "error", [PeerError(13, "a field is out of range"), CallerError("no room")]
)
def test_an_append_that_raises_goes_the_long_way(
    runner: asyncio.Runner, error: LedgerMQError
) -> None:
    short, long = Broker(), Broker()
    short.node.error = long.node.error = error
    assert not short.takes(plain())
    assert short.traces == ([], [], [])
    short.registry.shortcut = short.quick
    runner.run(short.take(plain()))
    runner.run(long.take(plain()))
    assert short.traces == long.traces
    [answer] = short.client.heard
    reply = frame.decode(answer[4:])
    assert (reply.opaque, reply.is_response) == (9, True)
    assert reply.code == (13 if isinstance(error, PeerError) else 1)
    assert (short.node.tries, long.node.tries) == (3, 1)


def test_the_answer_may_come_later() -> None:
    """It is one frame, to the connection that asked, whatever came in between."""
    broker = Broker()
    waiting: list[OnDone] = []
    cast(Any, broker.node).append = lambda _message, done: waiting.append(done)
    assert broker.takes(plain(top={"opaque": 1}, e="1"))
    assert broker.takes(plain(top={"opaque": 2}, i=None))
    assert not broker.client.heard
    waiting[1](PeerError(14, "refused"))
    waiting[0](AppendResult(5, 96, sync_timed_out=True))
    replies = [frame.decode(data[4:]) for data in broker.client.heard]
    assert [(r.opaque, r.code, r.remark) for r in replies] == [(2, 14, "refused"), (1, 10, None)]
    assert replies[1].ext["msgId"].endswith(f"{96:016X}")
    assert (replies[1].ext["queueId"], replies[1].ext["transactionId"]) == ("1", "FD01")


# --- frames that nobody can read --------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="an empty frame"),
        pytest.param(plain(top={"remark": 5}), id="a remark that is no text"),
        pytest.param(plain(top={"remark": {"a": 1}}), id="a remark that is an object"),
        pytest.param(
            plain(top={"remark": "@"}).replace(b"@", b"\xff"), id="a remark that is not UTF-8"
        ),
        pytest.param(plain(n="xlmqClient", z={}), id="a field that is no plain value"),
        pytest.param(
            whole(
                plain(z=" lmqClient", y="10.9.9.9:1")[4:-1].replace(b'"y"', b'"\\u006cmqClient"')
            ),
            id="a client's address in disguise",
        ),
    ],
)
def test_odd_frames_come_to_the_same_with_and_without_the_short_way(
    runner: asyncio.Runner, data: bytes
) -> None:
    with_it, without = Broker(), Broker()
    with_it.registry.shortcut = with_it.quick
    runner.run(with_it.take(data))
    runner.run(without.take(data))
    assert with_it.traces == without.traces


def test_a_command_made_by_us_is_taken() -> None:
    """The JSON that this project's own client writes."""
    broker = Broker()
    ext = {k: str(v) for k, v in v2().items()}
    data = frame.encode(RemotingCommand(310, ext, b"x", opaque=3))[4:]
    assert broker.takes(data)
