"""From records to what the key index keeps of their keys, many records at a time."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.compiled import twin_in
from ledgermq.remoting.message_properties import HASH_BLOCK_CHARS, java_hash, java_hash_blocks
from ledgermq.remoting.message_record import MAGIC_V1, RecordError, peek_record
from ledgermq.remoting.message_types import SysFlag

from .index_keys import index_hash, is_indexed, keys_of

_INTERNAL = INTERNAL_TOPIC.encode()
# Magic, system flag, store time, body size of a record with IPv4 hosts.
_V4 = struct.Struct(">4xI28xi16xq20xi")
_V6_FLAGS = SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6
_WORD = 0xFFFF_FFFF
_SIGN = 0x8000_0000
# 31 to the power of each length of a key that fits into one block, as hashes count.
_FACTORS = [pow(31, length, 1 << 32) for length in range(HASH_BLOCK_CHARS + 1)]

# A key of a record: hash, physical offset, store time in ms since 1970.
HashedKey = tuple[int, int, int]
# Physical offset of a record, where it begins in some data, and where it ends.
Place = tuple[int, int, int]


class RecordKeys(NamedTuple):
    """The keys of some records, in their order.

    Attributes:
        keys: of all of them.
        unreadable: physical offset of what is no record, and why.
    """

    keys: list[HashedKey]
    unreadable: list[tuple[int, str]]


@twin_in("_record_keys")
def keys_in(data: bytes, places: Sequence[Place]) -> RecordKeys:
    """The keys of the records that lie in `data` at these places.

    Those of the internal topic have none.
    """
    found = RecordKeys([], [])
    # Keys whose hash is not known yet: (hash of "topic#", key, physical offset, store time).
    waiting: list[tuple[int, bytes, int, int]] = []
    prefixes: dict[bytes, int] = {}
    for offset, begin, end in places:
        try:
            topic, properties, sys_flag, store_ms = _parts(data, begin, end)
            if topic == _INTERNAL or not is_indexed(sys_flag):
                continue
            prefix = prefixes.get(topic)
            if prefix is None:
                prefix = prefixes[topic] = java_hash(f"{topic.decode()}#") & _WORD
        except (RecordError, UnicodeDecodeError) as e:
            found.unreadable.append((offset, str(e)))
            continue
        waiting += [(prefix, key, offset, store_ms) for key in keys_of(properties)]
    found.keys.extend(_hashed(waiting))
    return found


def _parts(data: bytes, begin: int, end: int) -> tuple[bytes, bytes, int, int]:
    """Topic, properties, system flag and store time of the record that lies there.

    Raises:
        RecordError: this is no record.
    """
    if begin + _V4.size < end:
        magic, sys_flag, store_ms, body_size = _V4.unpack_from(data, begin)
        topic_at = begin + _V4.size + body_size + 1
        if magic == MAGIC_V1 and not sys_flag & _V6_FLAGS and body_size >= 0 and topic_at <= end:
            # The way of nearly all records, twice as fast.
            topic_end = topic_at + data[topic_at - 1]
            properties_at = topic_end + 2
            if properties_at + int.from_bytes(data[topic_end:properties_at]) == end:
                return data[topic_at:topic_end], data[properties_at:end], sys_flag, store_ms
    peek = peek_record(data[begin:end])
    return peek.topic, peek.properties, peek.sys_flag, peek.store_timestamp_ms


def _hashed(keys: list[tuple[int, bytes, int, int]]) -> list[HashedKey]:
    """(hash, physical offset, store time) of each key."""
    short = [
        key.rjust(HASH_BLOCK_CHARS, b"\0")
        for _, key, _, _ in keys
        if len(key) <= HASH_BLOCK_CHARS and key.isascii()
    ]
    of_short = iter(java_hash_blocks(b"".join(short)))
    hashed: list[HashedKey] = []
    for prefix, key, offset, store_ms in keys:
        if len(key) <= HASH_BLOCK_CHARS and key.isascii():
            value = (prefix * _FACTORS[len(key)] + next(of_short)) & _WORD
        else:
            text = key.decode(errors="replace")
            units = len(text.encode("utf-16-le")) // 2
            value = (prefix * pow(31, units, 1 << 32) + java_hash(text)) & _WORD
        if value >= _SIGN:
            value = index_hash(value - (1 << 32))
        hashed.append((value, offset, store_ms))
    return hashed
