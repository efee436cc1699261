"""Framing: lengths, markers, chunks, damage."""

import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting import frame
from ledgermq.remoting.command import RemotingCommand, next_opaque, request, response
from ledgermq.remoting.errors import FrameError
from ledgermq.remoting.frame import CommandDecoder, SerializeType

INT32 = st.integers(-(2**31), 2**31 - 1)
# Java cannot encode half a surrogate pair either.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUE = TEXT.filter(bool)
COMMANDS = st.builds(
    RemotingCommand,
    st.integers(0, 0x7FFF),
    st.dictionaries(VALUE, VALUE, max_size=5),
    st.binary(max_size=200),
    remark=st.none() | VALUE,
    opaque=INT32,
    flag=st.integers(0, 3),
    language=st.sampled_from(["JAVA", "GO", "PYTHON", "NODE_JS"]),
    version=st.integers(-(2**15), 2**15 - 1),
)


def fields(c: RemotingCommand) -> tuple[object, ...]:
    return (c.code, c.ext, c.body, c.remark, c.opaque, c.flag, c.language, c.version)


def raw_frame(header: bytes, body: bytes = b"", marker: int = 0) -> bytes:
    inner = bytes([marker]) + len(header).to_bytes(3) + header + body
    return len(inner).to_bytes(4) + inner


@given(COMMANDS, st.sampled_from(SerializeType))
def test_a_command_survives(command: RemotingCommand, kind: SerializeType) -> None:
    raw = frame.encode(command, kind)
    assert int.from_bytes(raw[:4]) == len(raw) - 4
    assert raw[4] == kind
    assert fields(frame.decode(raw[4:])) == fields(command)


@given(st.lists(st.tuples(COMMANDS, st.sampled_from(SerializeType)), max_size=6), st.data())
def test_any_chunking_gives_the_same_commands(
    sent: list[tuple[RemotingCommand, SerializeType]], data: st.DataObject
) -> None:
    stream = b"".join(frame.encode(c, kind) for c, kind in sent)
    decoder = CommandDecoder()
    got: list[RemotingCommand] = []
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, 80))
        got += decoder.feed(stream[at : at + step])
        at += step
    assert [fields(c) for c in got] == [fields(c) for c, _ in sent]


def test_json_header_is_what_java_reads() -> None:
    command = RemotingCommand(310, {"a": "g"}, b"xy", remark="r", opaque=7, flag=2)
    raw = frame.encode(command)
    size = int.from_bytes(raw[5:8])
    assert raw[8 + size :] == b"xy"
    assert json.loads(raw[8 : 8 + size]) == {
        "code": 310,
        "language": "PYTHON",
        "version": 409,
        "opaque": 7,
        "flag": 2,
        "serializeTypeCurrentRPC": "JSON",
        "remark": "r",
        "extFields": {"a": "g"},
    }


def test_binary_header_byte_for_byte() -> None:
    command = RemotingCommand(14, {"consumerGroup": "CG"}, opaque=7, version=401)
    raw = frame.encode(command, SerializeType.ROCKETMQ)
    ext = b"\0\x0dconsumerGroup\0\0\0\x02CG"
    header = bytes.fromhex("000E 03 0191 00000007 00000000 00000000") + struct.pack(">i", len(ext))
    assert raw == raw_frame(header + ext, marker=1)


def test_empty_ext_is_still_an_object() -> None:
    # A Java client dereferences extFields of a reply without a null check.
    assert b'"extFields":{}' in frame.encode(response(0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "no room", id="empty"),
        pytest.param(b"\0\0\0", "no room", id="no header length"),
        pytest.param(b"\0\0\0\x05{}", "header of 5 bytes in a frame of 6", id="header cut"),
        pytest.param(b"\x02\0\0\0", "unknown header serialisation 2", id="marker"),
        pytest.param(b"\0\0\0\x03abc", "not JSON", id="no JSON"),
        pytest.param(b"\0\0\0\x02[]", "not a command", id="no object"),
        pytest.param(b"\0\0\0\x02{}", "not a command", id="no code"),
        pytest.param(b"\x01\0\0\0", "damaged", id="empty binary header"),
    ],
)
def test_a_damaged_frame_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        frame.decode(data)


def test_a_frame_over_the_limit_is_refused_before_it_is_there() -> None:
    decoder = CommandDecoder(max_frame_bytes=100)
    with pytest.raises(FrameError, match="101 bytes is over the limit of 100"):
        decoder.feed((101).to_bytes(4))


def test_http_is_refused_with_a_hint() -> None:
    with pytest.raises(FrameError, match="speaking RocketMQ's protocol"):
        CommandDecoder().feed(b"GET / HTTP/1.1\r\n")


def test_a_frame_of_just_the_limit_passes() -> None:
    command = RemotingCommand(1, body=b"x" * 100)
    raw = frame.encode(command)
    (got,) = CommandDecoder(max_frame_bytes=len(raw) - 4).feed(raw)
    assert got.body == command.body


@given(st.binary(max_size=300))
def test_random_bytes_give_commands_or_frame_errors(data: bytes) -> None:
    with suppress(FrameError):
        CommandDecoder().feed(data)


@given(st.sampled_from([0, 1]), st.binary(max_size=200))
def test_random_headers_give_commands_or_frame_errors(marker: int, header: bytes) -> None:
    with suppress(FrameError):
        frame.decode(raw_frame(header, marker=marker)[4:])


@given(COMMANDS, st.sampled_from(SerializeType), st.data())
def test_one_changed_byte_gives_a_command_or_a_frame_error(
    command: RemotingCommand, kind: SerializeType, data: st.DataObject
) -> None:
    raw = bytearray(frame.encode(command, kind)[4:])
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    with suppress(FrameError):
        frame.decode(bytes(raw))


def test_opaque_numbers_differ_and_fit_java() -> None:
    numbers = [next_opaque() for _ in range(1000)]
    assert len(set(numbers)) == 1000
    assert all(0 <= n < 2**31 for n in numbers)


def test_kinds_of_commands() -> None:
    asked, answered = request(10, {"a": "b"}), response(1, "no")
    oneway = RemotingCommand(15, flag=2)
    assert (asked.is_response, asked.is_oneway) == (False, False)
    assert (answered.is_response, answered.is_oneway) == (True, False)
    assert (oneway.is_response, oneway.is_oneway) == (False, True)
    assert repr(asked).startswith(f"<request code=10 opaque={asked.opaque}")
    assert repr(answered).startswith("<reply code=1")
    assert repr(oneway).startswith("<oneway code=15")
