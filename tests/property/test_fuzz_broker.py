"""A running broker under requests and bytes of any kind, while a good client is served."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from ledgermq.broker.app import LEADER_CODES, BrokerApp
from ledgermq.broker.forward import CLIENT_FIELD, HOLD_FIELD, HOP_FIELD
from ledgermq.remoting import frame
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.connection import MAX_REMARK_CHARS
from tests.golden.captured import frames as golden_frames
from tests.property.test_fuzz_frames import HEADERS, framed, json_like, streams
from tests.support.brokers import Brokers
from tests.support.fuzz import Attacked, Stranger, attacked, documents, profiles, texts

# Where the attack may make things: names that the checks below do not count.
FIELDS = sorted(
    {name for cls in HEADERS for name in cls.__struct_encode_fields__}
    | {HOP_FIELD, CLIENT_FIELD, HOLD_FIELD}
)
LIKELY = {
    "topic": "T", "b": "T", "consumerGroup": "CG", "group": "CG", "producerGroup": "PG", "a": "PG",
    "defaultTopic": "TBW102", "c": "TBW102", "defaultTopicQueueNums": "4", "d": "4", "queueId": "0",
    "e": "0", "sysFlag": "0", "f": "0", "bornTimestamp": "1", "g": "1", "flag": "0", "h": "0",
    "queueOffset": "0", "maxMsgNums": "32", "commitOffset": "0", "subVersion": "0", "offset": "48",
    "suspendTimeoutMillis": "10", "readQueueNums": "1", "writeQueueNums": "1", "perm": "6",
    "timestamp": "0", "delayLevel": "0", "clientID": "c", "topicFilterType": "SINGLE_TAG",
    "topicSysFlag": "0", "order": "false", "groupName": "CG", "subscription": "*",
}  # fmt: skip
# Held no longer than this where there is no answer at once.
HOLD_MS = 50
# Most objects of a kind that may be left when an attack is over.
LEFT_OVER = 16


def codes(app: BrokerApp) -> list[int]:
    """Every request code that the broker serves."""
    return sorted(code for code, _ in app._listener._registry.items())


async def start(folder: Path, nodes: int) -> Brokers:
    group = Brokers(folder, nodes=nodes)
    await group.__aenter__()
    await group.create_topic("T")
    await group.send("T")
    if nodes > 1:
        await group.followers()
    return group


async def stop(group: Brokers) -> None:
    await group.__aexit__()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A broker for all the attacks of this file: what one leaves behind meets the next."""
    folder = tmp_path_factory.mktemp("one")
    with attacked(lambda: start(folder, 1), stop) as target:
        yield target


async def still_well(group: Brokers) -> None:
    """Served as before, nothing piled up."""
    app = await group.leader()
    assert not app.failed.done()
    await group.send("T", b"good")
    assert len(app._listener.connections) <= LEFT_OVER
    for connection in app._listener.connections:
        assert not connection._waiting
        assert len(connection._tasks) <= LEFT_OVER
        assert connection._decoder._splitter._have == 0 or connection.remote != "good"
    assert app.gate._held_bytes == 0 or app.gate.holding
    assert len(app.gate._held) <= LEFT_OVER
    assert app.node.pending_count == 0


@profiles(40, 3000)
def test_bytes(one: Attacked[Brokers], examples: int) -> None:
    @one.given(examples, st.lists(streams | framed(), max_size=3))
    async def attack(group: Brokers, chunks: list[bytes]) -> None:
        app = await group.leader()
        stranger = await Stranger.dial(app.config.listen_port)
        try:
            for chunk in chunks:
                await stranger.say(chunk)
                await group.send("T", b"good")
        finally:
            await stranger.leave()
        await still_well(group)


@st.composite
def requests(draw: st.DrawFn, served: list[int]) -> RemotingCommand:
    """A request that is served: likely fields, some of them replaced, missing or unknown."""
    ext = dict(LIKELY)
    for name in draw(st.lists(st.sampled_from(sorted(LIKELY)), max_size=5)):
        ext.pop(name, None)
    ext |= draw(st.dictionaries(st.sampled_from(FIELDS), texts, max_size=5))
    ext.setdefault(HOLD_FIELD, str(HOLD_MS))
    body = draw(
        json_like()
        | st.sampled_from([f.command.body for f in golden_frames() if f.request is None])
        | documents.map(lambda d: repr(d).encode())
    )
    code = draw(st.sampled_from(served))
    return RemotingCommand(
        code,
        ext,
        body,
        flag=draw(st.sampled_from([0, 0, 0, 2])),
        opaque=draw(st.sampled_from([0, 1, -1, 2**31 - 1])),
        version=draw(st.sampled_from([0, 409, 1000])),
    )


async def answered(app: BrokerApp, command: RemotingCommand) -> RemotingCommand | None:
    """The answer on a connection of its own; None when the connection was closed instead."""
    stranger = await Stranger.dial(app.config.listen_port)
    decoder = frame.CommandDecoder()
    try:
        await stranger.say(frame.encode(command))
        if command.is_oneway:
            return None
        while data := await stranger.hear():
            for answer in decoder.feed(data):
                if answer.is_response:
                    return answer
        return None
    finally:
        await stranger.leave()


@profiles(120, 10_000)
def test_every_request_code_with_any_fields(
    one: Attacked[Brokers], examples: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It works, or refuses in a sentence; never a Python error, which would be a defect."""

    async def served(group: Brokers) -> list[int]:
        return codes(await group.leader())

    kinds = one.run(served(one.nodes))
    assert set(kinds) >= LEADER_CODES | {RequestCode.PULL_MESSAGE, RequestCode.HEART_BEAT}

    @one.given(examples, requests(kinds))
    async def attack(group: Brokers, command: RemotingCommand) -> None:
        caplog.clear()
        app = await group.leader()
        answer, _ = await asyncio.gather(answered(app, command), group.send("T", b"good"))
        if answer is not None:
            assert answer.code == 0 or answer.remark, command
            assert len(answer.remark or "") < 2 * MAX_REMARK_CHARS
        errors = [r for r in caplog.records if r.exc_info]
        assert not errors, (command, errors[0].exc_info)
        await still_well(group)


def test_every_code_with_nothing_at_all(one: Attacked[Brokers]) -> None:
    async def ask_all(group: Brokers) -> None:
        app = await group.leader()
        for code in codes(app):
            for ext in ({}, LIKELY):
                command = RemotingCommand(code, {**ext, HOLD_FIELD: str(HOLD_MS)})
                answer = await answered(app, command)
                assert answer is not None, code
                assert answer.code == 0 or answer.remark, code
        await still_well(group)

    one.run(ask_all(one.nodes))
