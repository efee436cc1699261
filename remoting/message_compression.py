"""Compressed message bodies: zlib written, all three of RocketMQ's kinds read."""

import importlib
import zlib
from typing import Any

from .codes import ResponseCode
from .errors import PeerError
from .message_types import SysFlag

# A small body must not become gigabytes.
MAX_BODY_BYTES = 64 << 20
_ZLIB_LEVEL = 5


def compress_body(body: bytes, sys_flag: int = 0) -> tuple[bytes, int]:
    """The zlib-compressed body and the system flag that says so."""
    flag = sys_flag & ~SysFlag.COMPRESSION_MASK | SysFlag.COMPRESSED | SysFlag.COMPRESSION_ZLIB
    return zlib.compress(body, _ZLIB_LEVEL), flag


def decompress_body(body: bytes, sys_flag: int) -> bytes:
    """The body in plain, however `sys_flag` says it is compressed.

    LZ4 and zstd bodies that are cut short read as what is left of them: the CRC of their record
    tells, not this.

    Raises:
        PeerError: damaged, larger than `MAX_BODY_BYTES`, or a kind that needs an optional library.
    """
    if not sys_flag & SysFlag.COMPRESSED:
        return body
    kind = sys_flag & SysFlag.COMPRESSION_MASK
    read = {SysFlag.COMPRESSION_LZ4: _lz4, SysFlag.COMPRESSION_ZSTD: _zstd}.get(kind, _zlib)
    plain = read(body)
    if len(plain) > MAX_BODY_BYTES:
        raise _refusal(f"is over {MAX_BODY_BYTES} bytes in plain")
    return plain


def _zlib(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as e:
        raise _refusal(f"is damaged: {e}") from e
    if not inflater.eof and len(plain) <= MAX_BODY_BYTES:
        raise _refusal("is cut short")
    return plain


def _lz4(body: bytes) -> bytes:
    frame = _library("lz4.frame", "lz4")
    try:
        plain: bytes = frame.LZ4FrameDecompressor().decompress(body, MAX_BODY_BYTES + 1)
    except (RuntimeError, EOFError) as e:
        raise _refusal(f"is damaged: {e}") from e
    return plain


def _zstd(body: bytes) -> bytes:
    zstandard = _library("zstandard", "zstd")
    try:
        plain: bytes = zstandard.ZstdDecompressor().stream_reader(body).read(MAX_BODY_BYTES + 1)
    except zstandard.ZstdError as e:
        raise _refusal(f"is damaged: {e}") from e
    return plain


def _library(module: str, extra: str) -> Any:
    """An optional library; `extra` is the name to install it by."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise _refusal(f"needs a library: pip install 'ledgermq[{extra}]'") from e


def _refusal(problem: str) -> PeerError:
    return PeerError(ResponseCode.SYSTEM_ERROR, f"compressed message body {problem}")
