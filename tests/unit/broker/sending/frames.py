"""Frames of sends, plain ones and any others, and a broker that they come to."""

import asyncio
import json
from dataclasses import replace
from typing import Any, cast

from hypothesis import strategies as st

from ledgermq.broker.features import send
from ledgermq.broker.metadata import Metadata, TopicPut, encode_op
from ledgermq.broker.sending.answers import SendAnswers
from ledgermq.broker.sending.quick import QuickSends
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.broker.writer import AppendResult, OnDone, OnEachDone, OutgoingRecord
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message_id import pack_host
from ledgermq.remoting.registry import ProcessorRegistry
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
