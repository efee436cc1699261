"""The short way of a send must be seen in nothing but its speed."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.broker.metadata import TopicPut, encode_op
from ledgermq.broker.sending.answers import SendAnswers
from ledgermq.broker.sending.quick import QuickSends
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.broker.writer import AppendResult, OnDone
from ledgermq.dledger.errors import CallerError
from ledgermq.remoting import frame
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.errors import LedgerMQError, PeerError
from ledgermq.remoting.message_id import pack_host
from tests.golden.captured import CapturedFrame
from tests.golden.captured import frames as golden_frames
from tests.support.fuzz import fuzzing
from tests.unit.broker.fakes import topic

from .frames import (
    CONFIG,
    MAX_BODY,
    REFUSALS,
    RESULTS,
    TOPICS,
    Broker,
    known_topics,
    plain,
    sends,
    v2,
    whole,
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
