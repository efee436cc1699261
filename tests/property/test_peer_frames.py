"""Frames between members: every message there and back in any chunks; no bytes do harm."""

from typing import Any
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.dledger.raft.messages import (
    Admit,
    Heartbeat,
    HeartbeatReply,
    Message,
    Push,
    PushReply,
    Seed,
    SeedReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from ledgermq.dledger.rpc import codec
from ledgermq.dledger.rpc.codec import Channel, FrameDecoder, Hello, Kind
from ledgermq.dledger.store import entry
from ledgermq.remoting.errors import FrameError

ids = st.text(max_size=8).map(NodeId)
numbers = st.integers(-1, (1 << 63) - 1)
flags = st.booleans()
standings = st.sampled_from(Standing)


@st.composite
def pushes(draw: st.DrawFn) -> Push:
    terms = sorted(draw(st.sets(st.integers(1, 1 << 40), max_size=4)))
    runs = tuple((t, draw(st.integers(1, 1000))) for t in terms)
    prev_term = draw(st.integers(-1, terms[0] if terms else 5))
    term = draw(st.integers(max([5, *terms]), 1 << 41))
    return Push(draw(ids), term, draw(numbers), draw(numbers), prev_term, runs, draw(numbers))


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(VoteRequest, ids, numbers, numbers, numbers, numbers, flags, flags, standings),
    st.builds(VoteReply, ids, numbers, numbers, flags, flags, standings, flags),
    st.builds(Heartbeat, ids, numbers, numbers, numbers),
    st.builds(HeartbeatReply, ids, numbers, numbers, standings, numbers),
    pushes(),
    st.builds(
        PushReply, ids, numbers, numbers, flags, numbers, numbers, numbers, numbers, standings
    ),
    st.builds(TimeoutNow, ids, numbers),
    st.builds(Admit, ids, numbers, numbers),
    st.builds(Seed, ids, *[numbers] * 10),
    st.builds(SeedReply, ids, numbers, numbers, numbers),
)


@given(st.lists(st.tuples(messages, st.binary(max_size=50)), max_size=5), st.data())
def test_there_and_back_in_any_chunks(
    sent: list[tuple[Message, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(codec.encode_message(m, payload) for m, payload in sent)
    decoder, frames, at = FrameDecoder(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        frames += decoder.feed(stream[at : at + step])
        at += step
    assert [(codec.message_of(f), f.payload) for f in frames] == sent


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_waited_for(data: bytes) -> None:
    decoder = FrameDecoder()
    try:
        frames = decoder.feed(data)
    except FrameError:
        return
    assert frames == []
    assert decoder._splitter._have == len(data)


@given(messages, st.binary(max_size=50), st.data())
def test_a_flipped_bit_is_noticed(message: Message, payload: bytes, data: st.DataObject) -> None:
    raw = bytearray(codec.encode_message(message, payload))
    at = data.draw(st.integers(4, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FrameError, match="checksum"):
        FrameDecoder().feed(bytes(raw))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(Kind)), st.lists(values, max_size=12), st.binary(max_size=100))
def test_well_framed_nonsense_is_a_frame_error(kind: Kind, head: list[Any], payload: bytes) -> None:
    (frame,) = FrameDecoder().feed(codec.encode(kind, tuple(head), payload))
    for read in (codec.message_of, codec.hello_of):
        try:
            read(frame)
        except FrameError:
            continue


@given(pushes(), st.binary(max_size=200))
@example(Push(NodeId("n0"), 5, 1, (1 << 63) - 1, -1, ((5, 1),), 0), b"")
def test_a_payload_that_is_not_what_the_push_says_is_a_frame_error(push: Push, raw: bytes) -> None:
    if not raw and not push.runs:
        codec.check_push(push, raw)
        return
    with pytest.raises(FrameError, match="push"):
        codec.check_push(push, raw)


def test_a_payload_that_is_what_the_push_says() -> None:
    raw, chain, at = b"", 0, 0
    for index, term in ((5, 2), (6, 2), (7, 3)):
        head, chain = entry.encode(index, term, at, b"body", chain)
        raw += head + b"body"
    codec.check_push(Push(NodeId("n0"), 3, 1, 4, 2, ((2, 2), (3, 1)), 4), raw)
    with pytest.raises(FrameError, match="carries entry 5 where 6 belongs"):
        codec.check_push(Push(NodeId("n0"), 3, 1, 5, 2, ((2, 2), (3, 1)), 4), raw)
    with pytest.raises(FrameError, match="announces"):
        codec.check_push(Push(NodeId("n0"), 3, 1, 4, 2, ((2, 1), (3, 2)), 4), raw)


@pytest.mark.parametrize("value", [4, -1, 1 << 40])
def test_a_standing_that_is_none_is_a_frame_error(value: int) -> None:
    raw = codec.encode(Kind.HEARTBEAT_REPLY, ("n0", 1, 2, value, 0))
    (frame,) = FrameDecoder().feed(raw)
    with pytest.raises(FrameError, match="HeartbeatReply"):
        codec.message_of(frame)


def test_a_standing_comes_back_as_one() -> None:
    raw = codec.encode_message(HeartbeatReply(NodeId("n0"), 1, 2, Standing.LOST))
    message = codec.message_of(FrameDecoder().feed(raw)[0])
    assert isinstance(message, HeartbeatReply)
    assert message.standing is Standing.LOST


def seed(**changes: int) -> Seed:
    known = {
        "term": 5,
        "session": 1,
        "base_index": 9,
        "base_term": 3,
        "base_pos": 4000,
        "base_chain": 77,
        "snapshot_index": 11,
        "snapshot_term": 4,
        "total_bytes": 100,
        "offset": 60,
    }
    return Seed(NodeId("n0"), **(known | changes))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(seed(), id="the last part"),
        pytest.param(seed(offset=0), id="the first"),
        pytest.param(seed(snapshot_index=9, snapshot_term=3), id="a snapshot of the base itself"),
    ],
)
def test_a_part_of_a_snapshot(message: Seed) -> None:
    codec.check_seed(message, bytes(40))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param(seed(offset=61), "40 bytes at 61 of a snapshot of 100", id="past its end"),
        pytest.param(seed(offset=-1), "40 bytes at -1", id="before its start"),
        pytest.param(seed(total_bytes=-1), "of a snapshot of -1", id="a negative size"),
        pytest.param(seed(base_index=-1), "up to -1@3", id="no base"),
        pytest.param(seed(snapshot_index=8), "a snapshot of 8@4 cannot", id="before the base"),
        pytest.param(seed(snapshot_term=2), "a snapshot of 11@2 cannot", id="of an older term"),
        pytest.param(seed(term=3), "up to 9@3 in term 3", id="of a term to come"),
    ],
)
def test_a_part_that_cannot_be(message: Seed, text: str) -> None:
    with pytest.raises(FrameError, match=text):
        codec.check_seed(message, bytes(40))


@pytest.mark.parametrize("version", [0, 1, 2, codec.VERSION + 1, 255])
def test_another_version_is_refused_with_what_to_do(version: int) -> None:
    raw = bytearray(codec.encode(Kind.TIMEOUT_NOW, ("n0", 1)))
    raw[8] = version
    raw[4:8] = crc32(raw[8:]).to_bytes(4)
    text = f"of version {version}; this node speaks version 3: install the same ledgermq on all"
    with pytest.raises(FrameError, match=text):
        FrameDecoder().feed(bytes(raw))


def hello(**changes: Any) -> Hello:
    known: dict[str, Any] = {
        "group": "G",
        "sender": "n0",
        "receiver": "n1",
        "channel": int(Channel.DATA),
        "boot_id": "b",
        "store_id": "s",
        "segment_bytes": 1 << 30,
        "address": "",
        "members": "n0;n1",
    }
    return Hello(**(known | changes))


def test_hello_there_and_back() -> None:
    (frame,) = FrameDecoder().feed(codec.encode_hello(Kind.WELCOME, hello(address="h:1")))
    assert (frame.kind, codec.hello_of(frame)) == (Kind.WELCOME, hello(address="h:1"))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param((1 << 30).to_bytes(4), "over the limit of 20971520", id="too long"),
        pytest.param(b"\0\0\0\3abc", "peer frame of 3 bytes", id="too short"),
        pytest.param(b"\0\0\0\x08" + bytes(8), "checksum", id="checksum"),
        pytest.param(codec.encode(Kind.PUSH, ())[:8] + b"\2", "", id="half a frame"),
    ],
)
def test_frames_that_cannot_be(raw: bytes, text: str) -> None:
    if not text:
        assert FrameDecoder().feed(raw) == []
        return
    with pytest.raises(FrameError, match=text):
        FrameDecoder().feed(raw)


def test_a_decoder_buffers_no_more_than_its_limit() -> None:
    decoder = FrameDecoder(1000)
    with pytest.raises(FrameError, match="limit of 1000"):
        decoder.feed((1001).to_bytes(4))
    decoder = FrameDecoder(1000)
    assert decoder.feed((1000).to_bytes(4) + bytes(999)) == []
    with pytest.raises(FrameError, match="checksum"):
        decoder.feed(b"x")
