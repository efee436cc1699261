"""Commitlog records."""

import struct
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting import message_record
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message import (
    MAGIC_BLANK,
    MAGIC_V1,
    MAGIC_V2,
    RecordError,
    SysFlag,
    compress_body,
    decode_properties,
    decode_record,
    decode_records,
    encode_properties,
    host_text,
    pack_host,
    peek_record,
)
from tests.unit.remoting.messages import HOSTS, INT32, INT64, PROPERTIES, record

V6 = pack_host("[2001:db8::1]:10911")


def test_byte_for_byte() -> None:
    expected = b"".join(
        (
            struct.pack(">II", 91 + 5 + 9 + 33, MAGIC_V1),
            struct.pack(">Iii", zlib.crc32(b"hello") & 0x7FFFFFFF, 3, 7),
            struct.pack(">qqi", 11, 4096, 0),
            struct.pack(">q4BI", 1_795_259_755_132, 127, 0, 0, 1, 48026),
            struct.pack(">q4BI", 1_795_259_755_140, 10, 0, 0, 2, 10911),
            struct.pack(">iq", 2, 99),
            struct.pack(">i", 5) + b"hello",
            b"\x09GoldTopic",
            struct.pack(">h", 33) + b"TAGS\x01TagA\x02KEYS\x01k1 k2\x02UNIQ_KEY\x01ID\x02",
        )
    )
    assert record() == expected


def test_a_record_as_a_message() -> None:
    message = decode_record(record())
    assert message.topic == "GoldTopic"
    assert (message.queue_id, message.queue_offset, message.physical_offset) == (3, 11, 4096)
    assert (message.flag, message.sys_flag, message.reconsume_times) == (7, 0, 2)
    assert message.body == b"hello"
    assert (message.tag, message.keys) == ("TagA", ["k1", "k2"])
    assert message.properties == {"TAGS": "TagA", "KEYS": "k1 k2", "UNIQ_KEY": "ID"}
    assert message.born_timestamp_ms == 1_795_259_755_132
    assert message.store_timestamp_ms == 1_795_259_755_140
    assert (message.born_host, message.store_host) == ("127.0.0.1:48026", "10.0.0.2:10911")
    assert message.prepared_transaction_offset == 99
    assert message.msg_id == "ID"
    assert message.offset_msg_id == "0A00000200002A9F0000000000001000"
    assert message.store_size == len(record())
    assert message.broker_name == ""


def test_without_a_unique_key_the_id_is_the_offset_id() -> None:
    message = decode_record(record(properties=b""))
    assert message.msg_id == message.offset_msg_id
    assert (message.tag, message.keys, message.properties) == ("", [], {})


RECORDS = st.fixed_dictionaries(
    {
        "topic": st.text("abc%|-_", min_size=1, max_size=200).map(str.encode),
        "queue_id": INT32,
        "flag": INT32,
        "queue_offset": INT64,
        "physical_offset": INT64,
        # No bit that says how the body is compressed.
        "sys_flag": st.sampled_from([0, 4, 8, 12, 0x10, 0x20, 0x30, 2, 0xC0]),
        "born_timestamp_ms": INT64,
        "born_host": HOSTS,
        "store_timestamp_ms": INT64,
        "store_host": HOSTS,
        "reconsume_times": INT32,
        "prepared_transaction_offset": INT64,
        "body": st.binary(max_size=200),
        "properties": PROPERTIES.map(lambda p: encode_properties(p).encode()),
    }
)


@given(RECORDS, st.binary(max_size=40), st.binary(max_size=40))
def test_a_record_survives_anywhere_in_a_buffer(
    given_fields: dict[str, Any], before: bytes, after: bytes
) -> None:
    raw = record(**given_fields)
    buffer = before + raw + after
    message = decode_record(buffer, len(before))
    assert message.topic.encode() == given_fields["topic"]
    assert message.born_host == host_text(given_fields["born_host"])
    assert message.store_host == host_text(given_fields["store_host"])
    assert message.properties == decode_properties(given_fields["properties"])
    assert message.sys_flag & ~0x30 == given_fields["sys_flag"] & ~0x30
    assert bool(message.sys_flag & SysFlag.BORN_HOST_V6) == (len(given_fields["born_host"]) == 20)
    assert bool(message.sys_flag & SysFlag.STORE_HOST_V6) == (len(given_fields["store_host"]) == 20)
    for name in (
        "queue_id", "flag", "queue_offset", "physical_offset", "born_timestamp_ms",
        "store_timestamp_ms", "reconsume_times", "prepared_transaction_offset", "body",
    ):  # fmt: skip
        assert getattr(message, name) == given_fields[name]
    for view in (buffer, bytearray(buffer), memoryview(buffer)):
        peek = peek_record(view, len(before), check_crc=True)
        assert peek.size == message.store_size == len(raw)
        assert peek[1:7] == (
            message.queue_id,
            message.queue_offset,
            message.physical_offset,
            message.sys_flag,
            message.store_timestamp_ms,
            message.prepared_transaction_offset,
        )
        assert (peek.topic, peek.properties) == (given_fields["topic"], given_fields["properties"])


@pytest.mark.parametrize(
    ("size", "magic"), [(1, MAGIC_V1), (127, MAGIC_V1), (128, MAGIC_V2), (255, MAGIC_V2)]
)
def test_long_topics_make_the_second_version(size: int, magic: int) -> None:
    raw = record(topic=b"t" * size)
    assert int.from_bytes(raw[4:8]) == magic
    assert decode_record(raw).topic == "t" * size


def test_ipv6_hosts() -> None:
    raw = record(born_host=V6, store_host=V6)
    message = decode_record(raw)
    assert message.sys_flag == SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6
    assert message.born_host == message.store_host == "[2001:db8::1]:10911"
    assert len(message.offset_msg_id) == 56
    # The client's claim about hosts is not believed.
    assert decode_record(record(sys_flag=0x31 & ~1)).sys_flag == 0


def test_records_back_to_back() -> None:
    raws = [record(queue_offset=n, body=b"x" * n) for n in range(5)]
    assert [m.queue_offset for m in decode_records(b"".join(raws))] == [0, 1, 2, 3, 4]
    assert decode_records(b"") == []
    with pytest.raises(RecordError, match="too few"):
        decode_records(b"".join(raws) + b"\0")


def test_a_compressed_body_is_read_in_plain() -> None:
    body, sys_flag = compress_body(b"z" * 5000)
    message = decode_record(record(body=body, sys_flag=sys_flag))
    assert message.body == b"z" * 5000
    assert message.sys_flag == 0x301


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"properties": b"x" * 32768}, id="properties"),
        pytest.param({"topic": b"x" * 32768}, id="topic"),
        pytest.param({"queue_id": 2**31}, id="queue id"),
        pytest.param({"physical_offset": 2**63}, id="offset"),
        pytest.param({"queue_offset": 2**63, "born_host": V6}, id="offset with IPv6"),
    ],
)
def test_what_fits_no_record_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RecordError) as caught:
        record(**changes)
    assert caught.value.code == 13


def patched(at: int, data: bytes) -> bytes:
    raw = bytearray(record())
    raw[at : at + len(data)] = data
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "0 bytes at byte 0 are too few", id="empty"),
        pytest.param(record()[:90], "too few", id="less than any record"),
        pytest.param(record()[:-1], "size 138 at byte 0 does not fit", id="one byte missing"),
        pytest.param(patched(4, MAGIC_BLANK.to_bytes(4)), "magic 0xCBD43194", id="blank"),
        pytest.param(bytes(200), "magic 0x00000000", id="zeros"),
        pytest.param(patched(0, b"\0\0\0\x5a"), "size 90 at byte 0 does not fit", id="size small"),
        pytest.param(patched(0, b"\x7f\xff\xff\xff"), "does not fit", id="size huge"),
        pytest.param(patched(84, b"\xff\xff\xff\xff"), "body size -1", id="body negative"),
        pytest.param(patched(84, b"\0\0\x7f\0"), "body size 32512", id="body huge"),
        pytest.param(patched(93, b"\xff"), "topic and properties", id="topic long"),
        pytest.param(patched(93, b"\x08"), "topic and properties", id="topic short"),
        pytest.param(patched(103, b"\0\0"), "topic and properties", id="properties short"),
        pytest.param(patched(36, b"\0\0\0\x30"), "not fit", id="hosts of another size"),
        pytest.param(patched(88, b"j"), "body CRC", id="body changed"),
        pytest.param(patched(94, b"\xff"), "topic is not UTF-8", id="topic no text"),
    ],
)
def test_damage_is_a_record_error(raw: bytes, message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        decode_record(raw)
    assert caught.value.code == 1


def test_a_place_before_the_buffer_is_a_record_error() -> None:
    with pytest.raises(RecordError):
        peek_record(record(), -5)


def test_the_crc_may_be_left_unchecked() -> None:
    raw = patched(88, b"j")
    assert peek_record(raw).size == len(raw)
    assert decode_record(raw, check_crc=False).body == b"jello"


@given(st.binary(max_size=200))
def test_random_bytes_give_a_record_or_a_peer_error(data: bytes) -> None:
    for raw in (data, data[:4] + MAGIC_V1.to_bytes(4) + data[8:]):
        with suppress(PeerError):
            decode_record(raw)
        with suppress(RecordError):
            peek_record(raw)


@given(RECORDS, st.data())
def test_a_changed_or_cut_record_gives_a_record_or_a_peer_error(
    given_fields: dict[str, Any], data: st.DataObject
) -> None:
    raw = bytearray(record(**given_fields))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(0, len(raw))) :]
    with suppress(PeerError):
        decode_record(raw)
    with suppress(PeerError):
        decode_record(raw, check_crc=False)
    with suppress(RecordError):
        peek_record(raw, check_crc=True)


def test_an_answer_of_many_small_bodies_that_are_large_in_plain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_record, "MAX_PLAIN_BYTES", 1 << 20)
    body, sys_flag = compress_body(bytes(300 << 10))
    one = record(body=body, sys_flag=sys_flag)
    assert len(decode_records(one * 3)) == 3
    with pytest.raises(RecordError, match="over 1048576 bytes in one answer"):
        decode_records(one * 4)
