"""Properties, tags, ids, batches, compression."""

import struct
import sys
import zlib
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting import message_compression
from ledgermq.remoting.errors import CallerError, PeerError
from ledgermq.remoting.message import (
    BatchItem,
    Message,
    UniqueIdMaker,
    compress_body,
    decode_batch,
    decode_properties,
    decompress_body,
    encode_batch,
    encode_properties,
    host_text,
    java_hash,
    offset_msg_id,
    pack_host,
    parse_offset_msg_id,
    tags_code,
)
from tests.unit.remoting.messages import HOSTS, INT32, PROPERTIES

# --- properties -------------------------------------------------------------------------------


@given(PROPERTIES)
def test_properties_survive(properties: dict[str, str]) -> None:
    text = encode_properties(properties)
    assert decode_properties(text) == properties
    assert decode_properties(text.encode()) == properties
    # 4.9.5 leaves the last separator out.
    assert decode_properties(text[:-1]) == properties


def test_properties_text() -> None:
    assert encode_properties({"KEYS": "k1", "WAIT": "true"}) == "KEYS\x01k1\x02WAIT\x01true\x02"
    assert encode_properties({"empty": "", "": "x"}) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="none"),
        pytest.param("A\x011\x02A\x012\x02", {"A": "2"}, id="the last one counts"),
        pytest.param("A\x01\x02\x01b\x02x\x02\x02C\x013", {"C": "3"}, id="pieces are skipped"),
        pytest.param("A\x01b\x01c\x02", {"A": "b\x01c"}, id="a separator in a value"),
    ],
)
def test_properties_as_java_reads_them(text: str, expected: dict[str, str]) -> None:
    assert decode_properties(text) == expected


def test_bytes_that_are_no_text_do_not_lose_the_message() -> None:
    assert decode_properties(b"A\x01\xff\x02B\x01ok\x02") == {"A": "\ufffd", "B": "ok"}


@pytest.mark.parametrize(
    "properties", [{"a\x01": "b"}, {"a\x02": "b"}, {"a": "b\x01"}, {"a": "b\x02"}]
)
def test_a_separator_in_a_property_is_refused(properties: dict[str, str]) -> None:
    with pytest.raises(CallerError, match="separate properties"):
        encode_properties(properties)


def test_what_a_message_carries_as_properties() -> None:
    message = Message("t", b"", tag="A", keys=["k1", "k2"], properties={"x": "y"}, delay_level=3)
    assert message.all_properties() == {"x": "y", "TAGS": "A", "KEYS": "k1 k2", "DELAY": "3"}
    assert message.properties == {"x": "y"}
    assert Message("t", b"").all_properties() == {}


# --- hashes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("a", 97),
        ("TagA", 2598919),
        ("TagTx", 80567198),
        ("polygenelubricants", -(2**31)),
        ("中", 0x4E2D),
        ("😀", 31 * 0xD83D + 0xDE00),
        ("é", 0xE9),
    ],
)
def test_java_hash(text: str, value: int) -> None:
    assert java_hash(text) == value


@given(st.text(max_size=30))
def test_java_hash_is_a_signed_32_bit_polynomial(text: str) -> None:
    data = text.encode("utf-16-be", "surrogatepass")
    units = struct.unpack(f">{len(data) // 2}H", data)
    value = sum(u * 31 ** (len(units) - 1 - i) for i, u in enumerate(units)) % 2**32
    assert java_hash(text) == (value - 2**32 if value >= 2**31 else value)


def test_tags_code() -> None:
    assert tags_code("TagA") == 2598919
    assert tags_code("") == tags_code(None) == 0


# --- ids --------------------------------------------------------------------------------------


@given(HOSTS)
def test_hosts_survive(host: bytes) -> None:
    assert pack_host(host_text(host)) == host


@pytest.mark.parametrize("address", ["", "localhost:1", "1.2.3.4", "1.2.3.4:x", "1.2.3.4:-1"])
def test_a_host_that_is_no_address_is_a_peer_error(address: str) -> None:
    with pytest.raises(PeerError, match="is not ip:port"):
        pack_host(address)


def test_offset_ids() -> None:
    text = offset_msg_id("127.0.0.1", 54911, 0xE6)
    assert text == "7F0000010000D67F00000000000000E6"
    assert parse_offset_msg_id(text) == ("127.0.0.1", 54911, 0xE6)
    assert parse_offset_msg_id(text.lower()) == ("127.0.0.1", 54911, 0xE6)
    long = offset_msg_id("2001:db8::1", 10911, 5)
    assert len(long) == 56
    assert parse_offset_msg_id(long) == ("2001:db8::1", 10911, 5)


@pytest.mark.parametrize("text", ["", "7F", "x" * 32, "7F " * 16, "0" * 34])
def test_what_is_no_offset_id_is_a_peer_error(text: str) -> None:
    with pytest.raises(PeerError, match="is no offset message id"):
        parse_offset_msg_id(text)


@given(st.text(max_size=60))
def test_random_text_is_an_offset_id_or_a_peer_error(text: str) -> None:
    with suppress(PeerError):
        parse_offset_msg_id(text)


class Clock:
    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def test_unique_ids() -> None:
    clock = Clock(1_795_259_755_132)
    maker = UniqueIdMaker(b"\x7f\0\0\x01", 0x12345, clock)
    ids = [maker.next_id() for _ in range(70_000)]
    # The counter has 16 bits: one ms is good for 65536 ids.
    assert len(set(ids)) == 65_536
    assert all(len(i) == 32 and i == i.upper() for i in ids[:10])
    assert ids[0].startswith("7F0000012345")
    assert len(UniqueIdMaker(bytes(16), 1, clock).next_id()) == 56


def test_unique_ids_of_two_makers_differ() -> None:
    clock = Clock(1_795_259_755_132)
    ids = set()
    for ip, pid, now_ms in ((1, 1, 0), (2, 1, 0), (1, 2, 0), (1, 65537, 0), (1, 1, 1)):
        clock.now_ms = 1_795_259_755_132 + now_ms
        maker = UniqueIdMaker(ip.to_bytes(4), pid, clock)
        clock.now_ms = 1_795_259_800_000
        ids.add(maker.next_id())
    assert len(ids) == 5


@pytest.mark.parametrize("now_ms", [1_795_259_755_132, 1_798_761_500_000, 951_000_000_000])
def test_the_time_in_an_id_starts_with_the_month(now_ms: int) -> None:
    clock = Clock(now_ms)
    maker = UniqueIdMaker(bytes(4), 1, clock)
    first = int(maker.next_id()[20:28], 16)
    assert 0 <= first < 31 * 86_400_000 + 3_600_000
    clock.now_ms += 1234
    assert int(maker.next_id()[20:28], 16) == first + 1234
    clock.now_ms += 40 * 86_400_000
    assert 0 <= int(maker.next_id()[20:28], 16) < 31 * 86_400_000 + 3_600_000
    # A clock that was set back must not make the time negative.
    clock.now_ms -= 90 * 86_400_000
    assert 0 <= int(maker.next_id()[20:28], 16) < 31 * 86_400_000 + 3_600_000


# --- batches ----------------------------------------------------------------------------------

ITEMS = st.lists(
    st.builds(BatchItem, INT32, st.binary(max_size=50), st.binary(max_size=50)), max_size=5
)


@given(ITEMS)
def test_a_batch_survives(items: list[BatchItem]) -> None:
    assert decode_batch(encode_batch(items)) == items


def test_a_batch_byte_for_byte() -> None:
    data = encode_batch([BatchItem(5, b"b0", b"KEYS\x01b0\x02")])
    assert data == struct.pack(">iiiii", 32, 0, 0, 5, 2) + b"b0\0\x08KEYS\x01b0\x02"


def test_properties_too_long_for_a_batch() -> None:
    with pytest.raises(CallerError, match="32768 bytes are over 32767"):
        encode_batch([BatchItem(0, b"", b"x" * 32768)])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"\0" * 21, "21 bytes are left over", id="less than a message"),
        pytest.param(struct.pack(">5ih", 23, 0, 0, 0, 0, 0), "size 23", id="past the end"),
        pytest.param(struct.pack(">5ih", 22, 0, 0, 0, -1, 0), "body size -1", id="negative body"),
        pytest.param(struct.pack(">5ih", 22, 0, 0, 0, 1, 0), "body size 1", id="body past the end"),
        pytest.param(struct.pack(">5ih", 22, 0, 0, 0, 0, 1), "properties size 1", id="properties"),
        pytest.param(struct.pack(">5ih", 22, 0, 0, 0, 0, -1), "properties size -1", id="negative"),
        pytest.param(struct.pack(">5ih", -5, 0, 0, 0, 0, 0), "size -5", id="negative size"),
        pytest.param(struct.pack(">5ih", 0, 0, 0, 0, 0, 0), "size 0", id="no progress"),
    ],
)
def test_a_damaged_batch_is_a_peer_error(data: bytes, message: str) -> None:
    with pytest.raises(PeerError, match=message) as caught:
        decode_batch(data)
    assert caught.value.code == 13


@given(ITEMS.filter(bool), st.data())
def test_a_changed_batch_gives_messages_or_a_peer_error(
    items: list[BatchItem], data: st.DataObject
) -> None:
    raw = bytearray(encode_batch(items))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(PeerError):
        decode_batch(bytes(raw))
    with suppress(PeerError):
        decode_batch(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


# --- compression ------------------------------------------------------------------------------


@given(st.binary(max_size=500), st.sampled_from([0, 4, 0x201]))
def test_zlib_survives(body: bytes, sys_flag: int) -> None:
    compressed, flag = compress_body(body, sys_flag)
    assert flag == sys_flag & 4 | 0x301
    assert decompress_body(compressed, flag) == body
    # Older clients say no kind at all.
    assert decompress_body(compressed, 1) == body


def test_what_is_not_compressed_stays() -> None:
    assert decompress_body(b"x", 0x300) == b"x"


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"no zlib", "is damaged"), (b"", "is cut short"), (zlib.compress(b"abc")[:-1], "cut short")],
)
def test_damaged_zlib_is_a_peer_error(body: bytes, message: str) -> None:
    with pytest.raises(PeerError, match=message):
        decompress_body(body, 0x301)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_compression, "MAX_BODY_BYTES", 1000)
    assert len(decompress_body(zlib.compress(bytes(1000)), 0x301)) == 1000
    with pytest.raises(PeerError, match="over 1000 bytes in plain"):
        decompress_body(zlib.compress(bytes(1001)), 0x301)


@pytest.mark.parametrize(
    ("sys_flag", "module", "extra"), [(0x101, "lz4.frame", "lz4"), (0x201, "zstandard", "zstd")]
)
def test_a_missing_library_is_named(
    sys_flag: int, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    with pytest.raises(PeerError, match=rf"pip install 'ledgermq\[{extra}\]'"):
        decompress_body(b"x", sys_flag)


def fake_libraries(monkeypatch: pytest.MonkeyPatch, read: Any) -> None:
    """Modules of the shape of lz4.frame and zstandard whose decompressors call `read`."""
    lz4, frame = ModuleType("lz4"), ModuleType("lz4.frame")
    frame.LZ4FrameDecompressor = lambda: SimpleNamespace(decompress=read)  # type: ignore[attr-defined]
    zstandard = ModuleType("zstandard")
    zstandard.ZstdError = ValueError  # type: ignore[attr-defined]
    zstandard.ZstdDecompressor = lambda: SimpleNamespace(  # type: ignore[attr-defined]
        stream_reader=lambda body: SimpleNamespace(read=lambda limit: read(body, limit))
    )
    for name, module in (("lz4", lz4), ("lz4.frame", frame), ("zstandard", zstandard)):
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("sys_flag", [0x101, 0x201])
def test_other_kinds_go_to_their_library(sys_flag: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_libraries(monkeypatch, lambda body, limit: body[::-1][:limit])
    assert decompress_body(b"abc", sys_flag) == b"cba"


@pytest.mark.parametrize(("sys_flag", "error"), [(0x101, RuntimeError), (0x201, ValueError)])
def test_damage_found_by_a_library_is_a_peer_error(
    sys_flag: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(body: bytes, limit: int) -> bytes:
        raise error("bad frame")

    fake_libraries(monkeypatch, read)
    with pytest.raises(PeerError, match="is damaged: bad frame"):
        decompress_body(b"abc", sys_flag)
