"""Commitlog records: the form in which messages are stored, replicated and pulled.

Big-endian: size u32, magic u32, body CRC u32, queue id i32, flag i32, queue offset i64, physical
offset i64, system flag i32, born time i64, born host (4 or 16 bytes of IP, 4 of port), store time
i64, store host, reconsume times i32, prepared transaction offset i64, body i32 + bytes, topic
(V1: 1 byte of length, V2: 2) + text, properties i16 + text.

Source: CommitLog, MessageExtEncoder and MessageDecoder of RocketMQ 4.9 and 5.3.
"""

import struct
import zlib
from functools import lru_cache
from typing import NamedTuple

from ledgermq.compiled import twin_in

from .codes import ResponseCode
from .errors import PeerError
from .message_batch import MAX_PROPERTIES_BYTES
from .message_compression import decompress_body
from .message_id import host_offset_msg_id, host_text
from .message_properties import PropertyName, decode_properties
from .message_types import MessageExt, SysFlag

MAGIC_V1 = 0xDAA320A7
# Topic length of two bytes; written when the topic is over 127 bytes.
MAGIC_V2 = 0xDAA320AB
# Not a record: the rest of a commitlog file.
MAGIC_BLANK = 0xCBD43194

MAX_TOPIC_V1_BYTES = 0x7F
MAX_TOPIC_BYTES = 0x7FFF
# Bodies of one answer together, in plain: 16 MiB of zlib can stand for 16 GiB.
MAX_PLAIN_BYTES = 256 << 20

# Size, magic, CRC, queue id, flag, queue offset, physical offset, system flag, born time.
_HEAD = struct.Struct(">IIIiiqqiq")
# Store time; reconsume times, prepared transaction offset, body size.
_LONG = struct.Struct(">q")
_TAIL = struct.Struct(">iqi")
_V4 = struct.Struct(">IIIiiqqiq8sq8siqi")
# Of a record with IPv4 hosts: size, magic, queue id, queue offset, physical offset, system flag,
# store time, prepared transaction offset, body size.
_PEEK_V4 = struct.Struct(">II4xi4xqqi8x8xq8x4xqi")
_SHORT = struct.Struct(">H")
_HOST_FLAGS = SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6
# Empty topic, body and properties, IPv4 hosts.
MIN_RECORD_BYTES = _V4.size + 3
# Everything but the hosts, the topic and its length, body and properties.
_FIXED_BYTES = _V4.size - 16 + _SHORT.size

Buffer = bytes | bytearray | memoryview


class RecordError(PeerError):
    """Bytes that are no record, or fields that fit into none."""

    def __init__(self, problem: str, code: int = ResponseCode.SYSTEM_ERROR) -> None:
        super().__init__(code, f"message record: {problem}")


class RecordPeek(NamedTuple):
    """What dispatch to queues and index needs of a record; times in ms since 1970."""

    size: int
    queue_id: int
    queue_offset: int
    physical_offset: int
    sys_flag: int
    store_timestamp_ms: int
    prepared_transaction_offset: int
    topic: bytes
    properties: bytes


class _Layout(NamedTuple):
    """Where the parts of a checked record are, absolute in its buffer."""

    head: tuple[int, int, int, int, int, int, int, int, int]
    store_timestamp_at: int
    tail_at: int
    body_at: int
    body_end: int
    topic_at: int
    topic_end: int
    properties_at: int
    end: int


@twin_in("_record")
def encode_record(
    *,
    topic: bytes,
    queue_id: int,
    flag: int,
    queue_offset: int,
    physical_offset: int,
    sys_flag: int,
    born_timestamp_ms: int,
    born_host: bytes,
    store_timestamp_ms: int,
    store_host: bytes,
    reconsume_times: int,
    prepared_transaction_offset: int,
    body: bytes,
    properties: bytes,
) -> bytes:
    """One record.

    A `topic` of over 127 bytes makes a V2 record. Hosts are 8 or 20 bytes, see `pack_host`, and
    decide the two host bits of `sys_flag`, whatever it says. `body` is as stored, so compressed
    when `sys_flag` says so; `properties` as `encode_properties` writes them, in UTF-8.

    Raises:
        RecordError: topic or properties too long, or a number out of its field's range.
    """
    topic_size, properties_size, body_size = len(topic), len(properties), len(body)
    if properties_size > MAX_PROPERTIES_BYTES or topic_size > MAX_TOPIC_BYTES:
        raise too_long(topic_size, properties_size)
    if topic_size <= MAX_TOPIC_V1_BYTES:
        magic, topic_prefix = MAGIC_V1, topic_size.to_bytes()
    else:
        magic, topic_prefix = MAGIC_V2, _SHORT.pack(topic_size)
    host_bytes = len(born_host) + len(store_host)
    size = _FIXED_BYTES + host_bytes + len(topic_prefix) + topic_size + body_size + properties_size
    crc = zlib.crc32(body) & 0x7FFFFFFF
    try:
        if host_bytes == 16:
            fixed = _V4.pack(
                size, magic, crc, queue_id, flag, queue_offset, physical_offset,
                sys_flag & ~_HOST_FLAGS, born_timestamp_ms, born_host, store_timestamp_ms,
                store_host, reconsume_times, prepared_transaction_offset, body_size,
            )  # fmt: skip
        else:
            sys_flag = _with_host_flags(sys_flag, born_host, store_host)
            head = _HEAD.pack(
                size, magic, crc, queue_id, flag, queue_offset, physical_offset, sys_flag,
                born_timestamp_ms,
            )  # fmt: skip
            tail = _TAIL.pack(reconsume_times, prepared_transaction_offset, body_size)
            fixed = b"".join((head, born_host, _LONG.pack(store_timestamp_ms), store_host, tail))
        return b"".join(
            (fixed, body, topic_prefix, topic, _SHORT.pack(properties_size), properties)
        )
    except struct.error as e:
        raise out_of_range(str(e)) from e


def too_long(topic_bytes: int, properties_bytes: int) -> RecordError:
    """Why a record of so many bytes cannot be."""
    return RecordError(
        f"topic of {topic_bytes} bytes or properties of {properties_bytes} are over 32767",
        ResponseCode.MESSAGE_ILLEGAL,
    )


def out_of_range(what: str) -> RecordError:
    """Why a record of such numbers cannot be."""
    return RecordError(f"a field is out of range: {what}", ResponseCode.MESSAGE_ILLEGAL)


def _with_host_flags(sys_flag: int, born_host: bytes, store_host: bytes) -> int:
    sys_flag &= ~_HOST_FLAGS
    if len(born_host) == 20:
        sys_flag |= SysFlag.BORN_HOST_V6
    if len(store_host) == 20:
        sys_flag |= SysFlag.STORE_HOST_V6
    return sys_flag


def peek_record(buf: Buffer, at: int = 0, *, check_crc: bool = False) -> RecordPeek:
    """The record at byte `at`, without its body; the next one is `size` bytes on.

    Raises:
        RecordError: no record there, cut short, or (with `check_crc`) a body that changed.
    """
    if not check_crc:
        found = _peek_v4(buf, at)
        if found is not None:
            return found
    where = _layout(buf, at)
    if check_crc:
        _check_crc(buf, where)
    size, _, _, queue_id, _, queue_offset, physical_offset, sys_flag, _ = where.head
    return RecordPeek(
        size,
        queue_id,
        queue_offset,
        physical_offset,
        sys_flag,
        _LONG.unpack_from(buf, where.store_timestamp_at)[0],
        _LONG.unpack_from(buf, where.tail_at + 4)[0],
        bytes(buf[where.topic_at : where.topic_end]),
        bytes(buf[where.properties_at : where.end]),
    )


def _peek_v4(buf: Buffer, at: int) -> RecordPeek | None:
    """`peek_record` of nearly all records; None: look closer."""
    available = len(buf) - at
    if at < 0 or available < MIN_RECORD_BYTES:
        return None
    (
        size, magic, queue_id, queue_offset, physical_offset, sys_flag, store_ms, prepared,
        body_size,
    ) = _PEEK_V4.unpack_from(buf, at)  # fmt: skip
    topic_at = at + _PEEK_V4.size + body_size + 1
    end = at + size
    if (
        magic != MAGIC_V1 or sys_flag & _HOST_FLAGS or body_size < 0
        or size > available or topic_at + 2 > end
    ):  # fmt: skip
        return None
    topic_end = topic_at + buf[topic_at - 1]
    properties_at = topic_end + 2
    if properties_at > end or properties_at + (buf[topic_end] << 8 | buf[topic_end + 1]) != end:
        return None
    return RecordPeek(
        size, queue_id, queue_offset, physical_offset, sys_flag, store_ms, prepared,
        bytes(buf[topic_at:topic_end]), bytes(buf[properties_at:end]),
    )  # fmt: skip


def decode_record(buf: Buffer, at: int = 0, *, check_crc: bool = True) -> MessageExt:
    """The record at byte `at` as a message; the next one is `store_size` bytes on.

    Raises:
        RecordError: no record there, cut short, or (with `check_crc`) a body that changed.
        PeerError: the body cannot be decompressed.
    """
    message = _decode_v4(buf, at, check_crc=check_crc)
    if message is not None:
        return message
    where = _layout(buf, at)
    if check_crc:
        _check_crc(buf, where)
    (
        size, _, _, queue_id, flag, queue_offset, physical_offset, sys_flag, born_timestamp_ms,
    ) = where.head  # fmt: skip
    reconsume_times, prepared_offset, _ = _TAIL.unpack_from(buf, where.tail_at)
    return _message(
        bytes(buf[where.topic_at : where.topic_end]), queue_id, flag, queue_offset,
        physical_offset, size, sys_flag, born_timestamp_ms,
        bytes(buf[at + _HEAD.size : where.store_timestamp_at]),
        _LONG.unpack_from(buf, where.store_timestamp_at)[0],
        bytes(buf[where.store_timestamp_at + 8 : where.tail_at]), reconsume_times, prepared_offset,
        bytes(buf[where.body_at : where.body_end]), bytes(buf[where.properties_at : where.end]),
    )  # fmt: skip


def _decode_v4(buf: Buffer, at: int, *, check_crc: bool) -> MessageExt | None:
    """`decode_record` of nearly all records; None: look closer, there may be an error to tell."""
    available = len(buf) - at
    if at < 0 or available < MIN_RECORD_BYTES:
        return None
    (
        size, magic, crc, queue_id, flag, queue_offset, physical_offset, sys_flag, born_ms, born,
        store_ms, store, reconsume_times, prepared, body_size,
    ) = _V4.unpack_from(buf, at)  # fmt: skip
    body_at = at + _V4.size
    body_end = body_at + body_size
    end = at + size
    if (
        magic != MAGIC_V1 or sys_flag & _HOST_FLAGS or body_size < 0
        or size > available or body_end + 3 > end
    ):  # fmt: skip
        return None
    topic_end = body_end + 1 + buf[body_end]
    properties_at = topic_end + 2
    if properties_at > end or properties_at + (buf[topic_end] << 8 | buf[topic_end + 1]) != end:
        return None
    body = bytes(buf[body_at:body_end])
    if check_crc and zlib.crc32(body) & 0x7FFFFFFF != crc:
        return None
    return _message(
        bytes(buf[body_end + 1 : topic_end]), queue_id, flag, queue_offset, physical_offset, size,
        sys_flag, born_ms, born, store_ms, store, reconsume_times, prepared, body,
        bytes(buf[properties_at:end]),
    )  # fmt: skip


def _message(
    topic: bytes,
    queue_id: int,
    flag: int,
    queue_offset: int,
    physical_offset: int,
    size: int,
    sys_flag: int,
    born_timestamp_ms: int,
    born_host: bytes,
    store_timestamp_ms: int,
    store_host: bytes,
    reconsume_times: int,
    prepared_offset: int,
    stored_body: bytes,
    properties_text: bytes,
) -> MessageExt:
    properties = decode_properties(properties_text)
    by_offset = host_offset_msg_id(store_host, physical_offset)
    value = properties.get
    # By position, as it is made for every message that is read.
    return MessageExt(
        _topic_text(topic),
        queue_id,
        queue_offset,
        physical_offset,
        size,
        decompress_body(stored_body, sys_flag),
        value(PropertyName.TAGS, ""),
        value(PropertyName.KEYS, "").split(),
        properties,
        flag,
        sys_flag,
        born_timestamp_ms,
        store_timestamp_ms,
        host_text(born_host),
        host_text(store_host),
        reconsume_times,
        prepared_offset,
        value(PropertyName.UNIQ_KEY, by_offset),
        by_offset,
    )


def decode_records(body: Buffer) -> list[MessageExt]:
    """All records of `body`, which holds them back to back, as a pull's reply does.

    Raises:
        PeerError: as `decode_record`; or more than `MAX_PLAIN_BYTES` in all.
    """
    messages: list[MessageExt] = []
    at = plain_bytes = 0
    while at < len(body):
        message = decode_record(body, at)
        messages.append(message)
        at += message.store_size
        plain_bytes += len(message.body)
        if plain_bytes > MAX_PLAIN_BYTES:
            raise RecordError(f"compressed bodies of over {MAX_PLAIN_BYTES} bytes in one answer")
    return messages


def _layout(buf: Buffer, at: int) -> _Layout:
    """Where everything is, every length checked."""
    available = len(buf) - at
    if at < 0 or available < MIN_RECORD_BYTES:
        raise RecordError(f"{available} bytes at byte {at} are too few")
    head = _HEAD.unpack_from(buf, at)
    size, magic, sys_flag = head[0], head[1], head[7]
    if magic not in (MAGIC_V1, MAGIC_V2):
        raise RecordError(f"magic 0x{magic:08X} at byte {at} is none")
    end = at + size
    store_timestamp_at = at + _HEAD.size + (20 if sys_flag & SysFlag.BORN_HOST_V6 else 8)
    tail_at = store_timestamp_at + 8 + (20 if sys_flag & SysFlag.STORE_HOST_V6 else 8)
    body_at = tail_at + _TAIL.size
    prefix = 1 if magic == MAGIC_V1 else 2
    if size > available or body_at + prefix + 2 > end:
        raise RecordError(f"size {size} at byte {at} does not fit ({available} bytes there)")
    body_size: int = _TAIL.unpack_from(buf, tail_at)[2]
    body_end = body_at + body_size
    if body_size < 0 or body_end + prefix + 2 > end:
        raise RecordError(f"body size {body_size} at byte {at} does not fit")
    topic_at = body_end + prefix
    topic_end = topic_at + int.from_bytes(buf[body_end:topic_at])
    properties_at = topic_end + 2
    if properties_at > end or properties_at + int.from_bytes(buf[topic_end:properties_at]) != end:
        raise RecordError(f"topic and properties sizes at byte {at} do not fit")
    return _Layout(
        head, store_timestamp_at, tail_at, body_at, body_end, topic_at, topic_end, properties_at,
        end,
    )  # fmt: skip


def _check_crc(buf: Buffer, where: _Layout) -> None:
    crc = zlib.crc32(buf[where.body_at : where.body_end]) & 0x7FFFFFFF
    if crc != where.head[2]:
        raise RecordError(f"body CRC 0x{crc:08X} is not the stored 0x{where.head[2]:08X}")


@lru_cache(maxsize=1024)
def _topic_text(topic: bytes) -> str:
    try:
        return topic.decode()
    except UnicodeDecodeError as e:
        raise RecordError(f"topic is not UTF-8: {e}") from e
