"""Message properties: their text form, their names, and the hash of tags."""

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from .errors import CallerError

_NAME_END: Final = "\x01"
_VALUE_END: Final = "\x02"

# `java_hash_blocks` works on so many characters each.
HASH_BLOCK_CHARS: Final = 32
_BLOCK_END = struct.Struct(f">{HASH_BLOCK_CHARS - 4}xI")
_BLOCK_FACTOR: Final = pow(31, HASH_BLOCK_CHARS, 1 << 32)
_WORD: Final = 0xFFFF_FFFF
# Up to here the plain loop is faster.
_SHORT_TEXT_CHARS: Final = 12


def _folds(size: int) -> list[tuple[int, int, int]]:
    """(field width in bits, mask of every second field, factor) for each step of a fold."""
    steps: list[tuple[int, int, int]] = []
    for width_bytes in (1, 2, 4, 8, 16):
        field = (b"\xff" * min(width_bytes, 4)).rjust(2 * width_bytes, b"\0")
        mask = int.from_bytes(field * (size // (2 * width_bytes)))
        steps.append((8 * width_bytes, mask, pow(31, width_bytes, 1 << 32)))
    return steps


_FOLDED_BYTES: Final = 256 * HASH_BLOCK_CHARS
_FOLDS: Final = _folds(_FOLDED_BYTES)


class PropertyName:
    """Names that brokers and clients give a meaning to; users' own names live beside them."""

    KEYS: Final = "KEYS"
    TAGS: Final = "TAGS"
    WAIT: Final = "WAIT"
    UNIQ_KEY: Final = "UNIQ_KEY"
    DELAY: Final = "DELAY"
    CLUSTER: Final = "CLUSTER"
    REAL_TOPIC: Final = "REAL_TOPIC"
    REAL_QID: Final = "REAL_QID"
    RETRY_TOPIC: Final = "RETRY_TOPIC"
    ORIGIN_MESSAGE_ID: Final = "ORIGIN_MESSAGE_ID"
    RECONSUME_TIME: Final = "RECONSUME_TIME"
    MAX_RECONSUME_TIMES: Final = "MAX_RECONSUME_TIMES"
    TRAN_MSG: Final = "TRAN_MSG"
    PGROUP: Final = "PGROUP"
    TRANSACTION_ID: Final = "__transactionId__"
    TRANSACTION_CHECK_TIMES: Final = "TRANSACTION_CHECK_TIMES"
    TRAN_PREPARED_QUEUE_OFFSET: Final = "TRAN_PREPARED_QUEUE_OFFSET"
    CHECK_IMMUNITY_TIME_IN_SECONDS: Final = "CHECK_IMMUNITY_TIME_IN_SECONDS"
    CORRELATION_ID: Final = "CORRELATION_ID"
    REPLY_TO_CLIENT: Final = "REPLY_TO_CLIENT"
    TTL: Final = "TTL"
    MSG_TYPE: Final = "MSG_TYPE"
    PUSH_REPLY_TIME: Final = "PUSH_REPLY_TIME"
    MSG_REGION: Final = "MSG_REGION"
    TRACE_ON: Final = "TRACE_ON"
    INSTANCE_ID: Final = "INSTANCE_ID"
    MIN_OFFSET: Final = "MIN_OFFSET"
    MAX_OFFSET: Final = "MAX_OFFSET"
    CONSUME_START_TIME: Final = "CONSUME_START_TIME"
    POP_CK: Final = "POP_CK"
    DLQ_ORIGIN_TOPIC: Final = "DLQ_ORIGIN_TOPIC"
    DLQ_ORIGIN_MESSAGE_ID: Final = "DLQ_ORIGIN_MESSAGE_ID"


def encode_properties(properties: Mapping[str, str]) -> str:
    r"""Properties as text: name, \x01, value, \x02, repeated; empty names and values left out.

    Raises:
        CallerError: a name or value holds one of the separators.
    """
    parts: list[str] = []
    for name, value in properties.items():
        if _VALUE_END in name or _VALUE_END in value or _NAME_END in name or _NAME_END in value:
            raise CallerError(
                f"property {name!r}={value!r} holds \\x01 or \\x02, which separate properties"
            )
        if name and value:
            parts += (name, _NAME_END, value, _VALUE_END)
    return "".join(parts)


def decode_properties(text: str | bytes) -> dict[str, str]:
    r"""Read what `encode_properties`, or Java, writes.

    The last \x02 may be missing (4.9.5 does not write it); a name that stands twice has its last
    value; pieces without a name or a value are skipped. Bytes that are no UTF-8 read as U+FFFD, as
    in Java: properties come from users, and one bad one must not make a message unreadable.
    """
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    properties: dict[str, str] = {}
    for piece in text.split(_VALUE_END):
        name, _, value = piece.partition(_NAME_END)
        if name and value:
            properties[name] = value
    return properties


def java_hash(text: str) -> int:
    """Java's `String.hashCode`: a signed 32-bit number over the UTF-16 units."""
    value = 0
    if text.isascii():
        data = text.encode()
        if len(data) <= _SHORT_TEXT_CHARS:
            for unit in data:
                value = 31 * value + unit
        else:
            for block in java_hash_blocks(
                data.rjust(-(-len(data) // HASH_BLOCK_CHARS) * HASH_BLOCK_CHARS, b"\0")
            ):
                value = (value * _BLOCK_FACTOR + block) & _WORD
        value &= _WORD
    else:
        for unit in memoryview(text.encode("utf-16", "surrogatepass")).cast("H")[1:]:
            value = (31 * value + unit) & _WORD
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value


def java_hash_blocks(blocks: bytes) -> list[int]:
    """The hash of every `HASH_BLOCK_CHARS` bytes of ASCII, unsigned; many in one go are cheap.

    Zero bytes before a text do not change its hash.
    """
    # One large number with a field per character: neighbours are joined, all at once, into fields
    # of twice the width, until each is a block. Fields stay below their width: of wide ones only
    # 32 bits are kept.
    fields = int.from_bytes(blocks)
    for width, mask, factor in _FOLDS if len(blocks) <= _FOLDED_BYTES else _folds(len(blocks)):
        fields = (fields & mask) + ((fields >> width) & mask) * factor
    return [value for (value,) in _BLOCK_END.iter_unpack(fields.to_bytes(len(blocks)))]


@lru_cache(maxsize=4096)
def tags_code(tags: str | None) -> int:
    """What a consume queue stores of a message's tags: their Java hash, 0 without tags."""
    return java_hash(tags) if tags else 0
