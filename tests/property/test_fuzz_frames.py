"""Bytes of any kind into the readers of the remoting protocol: a refusal, nothing else."""

import inspect
import json
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting import fastjson, frame
from ledgermq.remoting.bodies.base import Body
from ledgermq.remoting.bodies.registration import RegisterBrokerBody
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.frame import CommandDecoder, SerializeType
from ledgermq.remoting.headers.base import Header
from ledgermq.remoting.message import decode_properties, decode_records
from ledgermq.remoting.message_batch import decode_batch
from ledgermq.remoting.message_compression import decompress_body
from ledgermq.remoting.message_id import parse_offset_msg_id
from tests.golden.captured import frames as golden_frames
from tests.support.fuzz import documents, fuzzing, mutated, profiles, texts

GOLDEN = [f.raw for f in golden_frames()]
MAX_REMARK = 3000


HEADER_MODULES = (
    "send", "transaction", "pull", "offset", "client", "topic", "broker", "namesrv", "query",
)  # fmt: skip
BODY_MODULES = ("route", "registration", "heartbeat", "consumer", "stats", "group")


def classes(package: str, names: tuple[str, ...], base: type) -> list[Any]:
    modules = [import_module(f"ledgermq.remoting.{package}.{name}") for name in names]
    found = {c for m in modules for _, c in inspect.getmembers(m, inspect.isclass)}
    return sorted((c for c in found if issubclass(c, base) and c is not base), key=str)


HEADERS = classes("headers", HEADER_MODULES, Header)
BODIES = classes("bodies", BODY_MODULES, Body)


def refuses(read: Callable[..., Any], *args: Any) -> Any:
    """What is read, or None when it is refused in a sentence of some length."""
    try:
        return read(*args)
    except PeerError as e:
        remark = e.remark
    assert 0 < len(remark) < MAX_REMARK
    return None


def feed(stream: bytes, cuts: list[int]) -> None:
    """Give a stream to a decoder in chunks; each command that comes out can be sent again."""
    decoder = CommandDecoder(1 << 20)
    at = 0
    for end in [*sorted(c % (len(stream) + 1) for c in cuts), len(stream)]:
        commands = refuses(decoder.feed, stream[at:end])
        if commands is None:
            return
        assert decoder._splitter._have <= len(stream)
        at = end
        for command in commands:
            for kind in SerializeType:
                with suppress(PeerError):
                    again = frame.decode(frame.encode(command, kind)[4:])
                    assert again.opaque == command.opaque


cuts = st.lists(st.integers(0, 1 << 16), max_size=4)
streams = st.lists(
    st.sampled_from(GOLDEN) | mutated(st.sampled_from(GOLDEN)) | st.binary(max_size=60), max_size=4
).map(b"".join)


@profiles(200, 20_000)
def test_streams(examples: int) -> None:
    fuzzing(examples)(given(streams, cuts)(feed))()


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """A frame with right lengths around a header of any kind."""
    header = draw(
        json_headers()
        | st.binary(max_size=80)
        | st.sampled_from(['{"code":', "[", '{"a":', '{"code":1,"extFields":{"a":']).map(
            lambda text: text.encode() * 20_000
        )
        | st.builds(
            lambda numbers, rest: struct.pack(">hbhiii", *numbers) + rest,
            st.tuples(*[st.sampled_from([0, 1, -1, 40, 127])] * 6),
            st.binary(max_size=60),
        )
    )
    body = draw(st.binary(max_size=20))
    marker = draw(st.sampled_from([0, 0, 1, 2, 255]))
    inner = bytes([marker]) + len(header).to_bytes(3) + header + body
    return len(inner).to_bytes(4) + inner


def json_headers() -> st.SearchStrategy[bytes]:
    names = ["code", "language", "version", "opaque", "flag", "remark", "extFields", "x"]
    fields = st.lists(st.tuples(st.sampled_from(names), documents), max_size=8)

    def text(pairs: list[tuple[str, object]]) -> bytes:
        # Not a dict: names may stand twice.
        inside = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
        return ("{" + inside + "}").encode()

    return fields.map(text)


@profiles(150, 20_000)
def test_headers_of_any_kind_in_right_frames(examples: int) -> None:
    fuzzing(examples)(given(framed(), cuts)(feed))()


@profiles(150, 20_000)
def test_header_fields(examples: int) -> None:
    @fuzzing(examples)
    @given(st.sampled_from(HEADERS), st.data())
    def read(cls: Any, data: st.DataObject) -> None:
        names = cls.__struct_encode_fields__
        ext = data.draw(st.dictionaries(st.sampled_from([*names, "x"]), texts, max_size=20))
        header = refuses(cls.from_ext, ext)
        assert header is None or cls.from_ext(header.to_ext()) == header

    read()


def json_like() -> st.SearchStrategy[bytes]:
    """Documents, also with keys that are no texts, twice, or references."""
    standard = documents.map(lambda d: json.dumps(d).encode())
    pieces = st.sampled_from(
        ['{', '}', '[', ']', ',', ':', '"a"', '{"a":1}', '{"$ref":"$"}', '{"$ref":"$.a[0]"}',
         '{"$ref":".."}', '{"$ref":"@"}', "1", "-", "NaN", "1e400", "9" * 500, "null", "\\", "\0"]
    )  # fmt: skip
    loose = st.lists(pieces, max_size=30).map(lambda p: "".join(p).encode())
    deep = st.builds(
        lambda opening, depth, closing: (opening * depth + "1" + closing * depth).encode(),
        st.sampled_from(["[", '{"a":', "{1:", "{", '{{"a":']),
        st.sampled_from([3, 60, 100, 5000]),
        st.sampled_from(["]", "}", ":1}", "}:1}"]),
    )
    return standard | mutated(standard) | loose | deep | st.binary(max_size=40)


@profiles(150, 20_000)
def test_json_bodies(examples: int) -> None:
    @fuzzing(examples)
    @given(st.sampled_from(BODIES), json_like())
    def read(cls: Any, raw: bytes) -> None:
        body = refuses(cls.decode, raw)
        if body is not None:
            assert len(body.encode()) < 1 << 20
        tree = refuses(fastjson.loads, raw)
        # Small in, small out; a reference may lead back to where it stands.
        assert not isinstance(tree, str) or len(tree) < 1 << 20

    read()


golden_bodies = st.sampled_from([f.command.body for f in golden_frames() if f.command.body])


@profiles(150, 20_000)
def test_binary_bodies(examples: int) -> None:
    @fuzzing(examples)
    @given(golden_bodies | mutated(golden_bodies) | st.binary(max_size=200), st.integers(0, 500))
    def read(raw: bytes, number: int) -> None:
        refuses(decode_batch, raw)
        refuses(decode_records, raw)
        refuses(RegisterBrokerBody.decode_compressed, raw, number)
        refuses(RegisterBrokerBody.decode, raw)
        refuses(decompress_body, raw, number)
        refuses(parse_offset_msg_id, raw.hex()[: number % 60])
        assert isinstance(decode_properties(raw), dict)

    read()


@cache
def bomb(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


@pytest.mark.parametrize(
    ("read", "arguments"),
    [
        pytest.param(decompress_body, (1,), id="message body"),
        pytest.param(RegisterBrokerBody.decode_compressed, (300,), id="registration"),
    ],
)
def test_a_zip_bomb(read: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    packed = bomb(80 << 20)
    assert len(packed) < 100 << 10
    assert refuses(read, packed, *arguments) is None
