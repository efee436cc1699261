"""The JSON and the binary header: what foreign clients send, and what does not fit."""

import struct

import pytest

from ledgermq.remoting import header_json, header_rocketmq
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.errors import FrameError


def test_json_ext_values_of_any_type_become_text() -> None:
    header = b'{"code":10,"extFields":{"s":"x","i":8,"b":true,"f":false,"d":1.5,"n":null,"z":-1}}'
    command = header_json.decode(header, b"")
    assert command.ext == {"s": "x", "i": "8", "b": "true", "f": "false", "d": "1.5", "z": "-1"}


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ('"GO"', "GO"),
        ('"KLINGON"', ""),
        ("0", "JAVA"),
        ("13", "NODE_JS"),
        ("14", ""),
        ("-1", ""),
        ("null", ""),
    ],
)
def test_language_by_name_or_ordinal(language: str, name: str) -> None:
    command = header_json.decode(b'{"code":1,"language":%s}' % language.encode(), b"")
    assert command.language == name


def test_language_ordinals() -> None:
    assert header_json.language_ordinal("PYTHON") == 3
    assert header_json.language_ordinal("") == 7  # OTHER


def test_json_defaults() -> None:
    command = header_json.decode(b'{"code":34}', b"body")
    assert (command.opaque, command.flag, command.version, command.remark) == (0, 0, 0, None)
    assert (command.ext, command.body) == ({}, b"body")


def test_numbers_given_as_text_are_read() -> None:
    command = header_json.decode(b'{"code":"34","opaque":"5","flag":"2"}', b"")
    assert (command.code, command.opaque, command.flag) == (34, 5, 2)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b'{"code":99999999999}', id="code over 32 bits"),
        pytest.param(b'{"code":1,"opaque":2147483648}', id="opaque over 32 bits"),
        pytest.param(b'{"code":1,"extFields":{"a":{}}}', id="ext value is an object"),
        pytest.param(b'{"code":1,"extFields":[]}', id="ext is a list"),
        pytest.param(b'{"code":1,"extFields":{"a":"\\ud800"}}', id="half a surrogate pair"),
        pytest.param(b'{"code":1,"x":' + b"[" * 100_000, id="deep nesting"),
        pytest.param(b'{"code":"x","x":' + b"[" * 100_000, id="deep nesting, second try"),
        pytest.param(b'{"code":1,"remark":"\xff"}', id="not UTF-8"),
        pytest.param(b'{"code":null}', id="code is null"),
    ],
)
def test_a_json_header_java_could_not_read_is_refused(header: bytes) -> None:
    with pytest.raises(FrameError, match="header is not"):
        header_json.decode(header, b"")


def fixed(remark_size: int, ext: bytes, ext_size: int | None = None) -> bytes:
    size = len(ext) if ext_size is None else ext_size
    return struct.pack(">hbhiiii", 10, 0, 393, 1, 0, remark_size, size) + ext


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param(b"\0" * 20, "damaged", id="cut in the fixed part"),
        pytest.param(fixed(-1, b""), "field of -1 bytes", id="negative remark"),
        pytest.param(fixed(1000, b""), "field of 1000 bytes", id="remark past the end"),
        pytest.param(fixed(0, b"", 5), "5 bytes, 0 present", id="ext cut"),
        pytest.param(fixed(0, b"abc", 2), "2 bytes, 3 present", id="bytes after ext"),
        pytest.param(fixed(0, b"", -1), "-1 bytes", id="negative ext"),
        pytest.param(fixed(0, b"\0\x09k"), "field of 9 bytes", id="key past the end"),
        pytest.param(fixed(0, b"\xff\xffk"), "field of -1 bytes", id="negative key"),
        pytest.param(fixed(0, b"\0\x01k\0\0\0\x05v"), "field of 5 bytes", id="value past the end"),
        pytest.param(fixed(0, b"\0\x01k\0\0"), "damaged", id="value size cut"),
        pytest.param(fixed(0, b"\0\x01\xff\0\0\0\0"), "damaged", id="key is not UTF-8"),
    ],
)
def test_a_damaged_binary_header_is_refused(header: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        header_rocketmq.decode(header, b"")


def test_binary_empty_value_is_absent() -> None:
    command = header_rocketmq.decode(fixed(0, b"\0\x01k\0\0\0\0\0\x01l\0\0\0\x01v"), b"")
    assert command.ext == {"l": "v"}
    assert command.remark is None


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(RemotingCommand(200050), id="code"),
        pytest.param(RemotingCommand(-1), id="negative code"),
        pytest.param(RemotingCommand(1, opaque=2**31), id="opaque"),
        pytest.param(RemotingCommand(1, {"k" * 40000: "v"}), id="key"),
    ],
)
def test_what_does_not_fit_the_binary_header_is_refused(command: RemotingCommand) -> None:
    with pytest.raises(FrameError, match="does not fit the binary header"):
        header_rocketmq.encode(command)
