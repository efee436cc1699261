"""The registration body, plain and compressed."""

import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting.bodies import registration
from ledgermq.remoting.bodies.registration import (
    MAX_TOPICS,
    DataVersion,
    RegisterBrokerBody,
    TopicConfig,
    TopicConfigSerializeWrapper,
)
from ledgermq.remoting.errors import PeerError

V4_9_5, V5_3_3 = 403, 479
NAMES = st.text("abcXYZ%|-_", min_size=1, max_size=12)
TOPICS = st.builds(
    TopicConfig,
    topic_name=NAMES,
    read_queue_nums=st.integers(0, 2**31 - 1),
    write_queue_nums=st.integers(0, 2**31 - 1),
    perm=st.integers(0, 15),
    topic_filter_type=st.sampled_from(["SINGLE_TAG", "MULTI_TAG"]),
    attributes=st.dictionaries(NAMES, NAMES | st.just("a b c"), max_size=2),
)
BODIES = st.builds(
    lambda topics, version, servers: RegisterBrokerBody(
        topic_config_serialize_wrapper=TopicConfigSerializeWrapper(
            topic_config_table={t.topic_name: t for t in topics}, data_version=version
        ),
        filter_server_list=servers,
    ),
    st.lists(TOPICS, max_size=4),
    st.builds(
        DataVersion,
        state_version=st.integers(0, 2**62),
        timestamp=st.integers(0, 2**62),
        counter=st.integers(0, 2**62),
    ),
    st.lists(NAMES, max_size=2),
)


@given(BODIES, st.sampled_from([V4_9_5, V5_3_3]))
def test_compressed_survives(body: RegisterBrokerBody, version: int) -> None:
    data = body.encode_compressed(version)
    assert RegisterBrokerBody.decode_compressed(data, version) == body


@given(BODIES)
def test_plain_survives(body: RegisterBrokerBody) -> None:
    assert RegisterBrokerBody.decode(body.encode()) == body


def test_topic_text() -> None:
    topic = TopicConfig(topic_name="T", read_queue_nums=4, write_queue_nums=8, perm=6)
    assert topic.to_text() == "T 4 8 6 SINGLE_TAG"
    topic.attributes["+a"] = "b c"
    assert topic.to_text() == 'T 4 8 6 SINGLE_TAG {"+a":"b c"}'
    assert TopicConfig.from_text(topic.to_text()) == topic


@pytest.mark.parametrize(
    "text", ["", "T 4 8", "T a 8 6 SINGLE_TAG", "T 4 8 6 SINGLE_TAG {", "T 4 8 6 SINGLE_TAG [1]"]
)
def test_a_damaged_topic_text_is_a_peer_error(text: str) -> None:
    with pytest.raises(PeerError, match="body is no TopicConfig"):
        TopicConfig.from_text(text)


def chunk(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


VERSION = chunk(b'{"counter":1}')


def test_what_java_writes() -> None:
    data = VERSION + struct.pack(">i", 1) + chunk(b"T 4 8 6 SINGLE_TAG") + chunk(b"[]")
    mappings = struct.pack(">i", 2) + chunk(b"{}") + chunk(b"{}")
    body = RegisterBrokerBody.decode_compressed(zlib.compress(data + mappings), V5_3_3)
    assert body.topic_config_serialize_wrapper.data_version.counter == 1
    assert list(body.topic_config_serialize_wrapper.topic_config_table) == ["T"]
    assert RegisterBrokerBody.decode_compressed(zlib.compress(data), V4_9_5) == body


def test_an_absent_filter_server_list() -> None:
    data = VERSION + struct.pack(">ii", 0, 0)
    body = RegisterBrokerBody.decode_compressed(zlib.compress(data), V4_9_5)
    assert body.filter_server_list == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "ends at byte 0 where a length", id="empty"),
        pytest.param(struct.pack(">i", -1), "length -1 at byte 0", id="negative"),
        pytest.param(struct.pack(">i", 9) + b"{}", "chunk of 9 bytes", id="chunk cut"),
        pytest.param(VERSION + struct.pack(">i", 1), "ends at byte 21", id="topic missing"),
        pytest.param(VERSION + struct.pack(">i", 1) + chunk(b"\xff"), "not UTF-8", id="no text"),
        pytest.param(VERSION + struct.pack(">i", 0) + chunk(b"{"), "filter servers", id="servers"),
        pytest.param(VERSION + struct.pack(">i", 0) + chunk(b"[]"), "ends at", id="mappings"),
    ],
)
def test_a_damaged_compressed_body_is_a_peer_error(data: bytes, message: str) -> None:
    with pytest.raises(PeerError, match=message):
        RegisterBrokerBody.decode_compressed(zlib.compress(data), V5_3_3)


def test_what_is_not_compressed_is_a_peer_error() -> None:
    with pytest.raises(PeerError, match="not compressed as announced"):
        RegisterBrokerBody.decode_compressed(b"{}", V4_9_5)
    with pytest.raises(PeerError, match="cut short"):
        RegisterBrokerBody.decode_compressed(zlib.compress(VERSION)[:-3], V4_9_5)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "MAX_BODY_BYTES", 1000)
    with pytest.raises(PeerError, match="over 1000 bytes"):
        RegisterBrokerBody.decode_compressed(zlib.compress(bytes(2000)), V4_9_5)


@given(st.binary(max_size=100), st.booleans())
def test_random_bytes_give_a_body_or_a_peer_error(data: bytes, compress: bool) -> None:
    with suppress(PeerError):
        RegisterBrokerBody.decode_compressed(zlib.compress(data) if compress else data, V5_3_3)


def test_a_small_body_of_very_many_topics_is_refused_before_they_are_made() -> None:
    chunk = b"\0\0\0\x08T 1 1 6 X"
    plain = b"\0\0\0\2{}" + (MAX_TOPICS + 1).to_bytes(4) + chunk * (MAX_TOPICS + 1)
    with pytest.raises(PeerError, match=f"over the limit of {MAX_TOPICS}"):
        RegisterBrokerBody.decode_compressed(zlib.compress(plain), 300)
