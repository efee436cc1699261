"""The binary ROCKETMQ header serialisation.

Layout, all big-endian: code i16, language i8, version i16, opaque i32, flag i32, remark i32 + text,
ext bytes i32, then key i16 + text, value i32 + text. A zero length stands for null.
"""

import struct

from .command import RemotingCommand
from .errors import FrameError
from .header_json import language_name, language_ordinal

type_marker = 1

_FIXED = struct.Struct(">hbhiii")
_INT = struct.Struct(">i")
_SHORT = struct.Struct(">h")
# A code past int16 (200050 …) cannot be sent this way.
_MAX_CODE = 0x7FFF


def decode(header: bytes, body: bytes) -> RemotingCommand:
    """Decode one binary header.

    Raises:
        FrameError: lengths that do not add up, or text that is not UTF-8.
    """
    try:
        code, language, version, opaque, flag, remark_len = _FIXED.unpack_from(header)
        at = _FIXED.size
        remark, at = _take(header, at, remark_len)
        (ext_len,) = _INT.unpack_from(header, at)
        ext = _decode_ext(header, at + 4, ext_len)
    except (struct.error, UnicodeDecodeError) as e:
        raise FrameError(f"binary header is damaged: {e}") from e
    return RemotingCommand(
        code,
        ext,
        body,
        remark=remark or None,
        opaque=opaque,
        flag=flag,
        language=language_name(language),
        version=version,
    )


def _take(data: bytes, at: int, length: int) -> tuple[str, int]:
    end = at + length
    if length < 0 or end > len(data):
        raise FrameError(f"binary header field of {length} bytes leaves the header")
    return data[at:end].decode(), end


def _decode_ext(header: bytes, at: int, length: int) -> dict[str, str]:
    end = at + length
    if length < 0 or end != len(header):
        raise FrameError(f"binary header's ext fields: {length} bytes, {len(header) - at} present")
    ext: dict[str, str] = {}
    while at < end:
        (key_len,) = _SHORT.unpack_from(header, at)
        key, at = _take(header, at + 2, key_len)
        (value_len,) = _INT.unpack_from(header, at)
        value, at = _take(header, at + 4, value_len)
        if value:
            ext[key] = value
    return ext


def encode(command: RemotingCommand) -> bytes:
    """Encode a header in binary form.

    Raises:
        FrameError: the code does not fit 16 bits, or another field its own.
    """
    if not 0 <= command.code <= _MAX_CODE:
        raise FrameError(f"code {command.code} does not fit the binary header; use JSON")
    try:
        return _encode(command)
    except struct.error as e:
        raise FrameError(f"a field does not fit the binary header: {e}") from e


def _encode(command: RemotingCommand) -> bytes:
    remark = (command.remark or "").encode()
    parts: list[bytes] = []
    for key, value in command.ext.items():
        k, v = key.encode(), value.encode()
        parts += (_SHORT.pack(len(k)), k, _INT.pack(len(v)), v)
    ext = b"".join(parts)
    fixed = _FIXED.pack(
        command.code,
        language_ordinal(command.language),
        command.version,
        command.opaque,
        command.flag,
        len(remark),
    )
    return b"".join((fixed, remark, _INT.pack(len(ext)), ext))
