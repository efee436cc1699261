"""The body of a batch (code 320): several messages of one topic, back to back.

Each is: total size i32, magic i32 (0), body CRC i32 (0), flag i32, body i32 + bytes, properties
i16 + text.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from .codes import ResponseCode
from .errors import CallerError, PeerError

MAX_PROPERTIES_BYTES = 0x7FFF

_HEAD = struct.Struct(">iiiii")
_SHORT = struct.Struct(">h")
_FIXED_BYTES = _HEAD.size + _SHORT.size


class BatchItem(NamedTuple):
    """One message of a batch; `properties` as `encode_properties` writes them, in UTF-8."""

    flag: int
    body: bytes
    properties: bytes


def encode_batch(items: Iterable[BatchItem]) -> bytes:
    """The body that carries `items`.

    Raises:
        CallerError: properties over `MAX_PROPERTIES_BYTES`.
    """
    parts: list[bytes] = []
    for flag, body, properties in items:
        if len(properties) > MAX_PROPERTIES_BYTES:
            raise CallerError(
                f"properties of {len(properties)} bytes are over {MAX_PROPERTIES_BYTES}"
            )
        size = _FIXED_BYTES + len(body) + len(properties)
        parts += (
            _HEAD.pack(size, 0, 0, flag, len(body)),
            body,
            _SHORT.pack(len(properties)),
            properties,
        )
    return b"".join(parts)


def decode_batch(body: bytes) -> list[BatchItem]:
    """The messages of a batch body.

    Raises:
        PeerError: sizes that do not add up.
    """
    items: list[BatchItem] = []
    at = 0
    while at < len(body):
        if len(body) - at < _FIXED_BYTES:
            raise _refusal(at, f"{len(body) - at} bytes are left over")
        size, _, _, flag, body_size = _HEAD.unpack_from(body, at)
        body_at = at + _HEAD.size
        body_end = body_at + body_size
        end = at + size
        if body_size < 0 or end > len(body) or body_end + 2 > end:
            raise _refusal(at, f"size {size} and body size {body_size} do not fit")
        (properties_size,) = _SHORT.unpack_from(body, body_end)
        if body_end + 2 + properties_size != end:
            raise _refusal(at, f"size {size} and properties size {properties_size} do not fit")
        items.append(BatchItem(flag, body[body_at:body_end], body[body_end + 2 : end]))
        at = end
    return items


def _refusal(at: int, problem: str) -> PeerError:
    return PeerError(ResponseCode.MESSAGE_ILLEGAL, f"batch message at byte {at}: {problem}")
