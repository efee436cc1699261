"""Whether bytes of a plain commitlog are the message that a queue unit promises."""

import struct
from collections.abc import Sequence
from zlib import crc32

from ledgermq.broker.store.consume_queue import Unit
from ledgermq.remoting.message_record import (
    MAGIC_V1,
    MAGIC_V2,
    MAX_TOPIC_V1_BYTES,
    RecordError,
    peek_record,
)
from ledgermq.remoting.message_types import SysFlag

# With IPv4 hosts: size, magic, CRC of the body, queue id, queue offset, physical offset, system
# flag, length of the body.
_HEAD = struct.Struct(">iIIi4xqqi44xi")
_BODY_AT = _HEAD.size
_CRC_MASK = 0x7FFFFFFF
_HOSTS_V6 = SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6


class PlainCheck:
    """Implements `Check` for one queue: magic, place, queue, offset, and the CRC of the body."""

    def __init__(self, topic: str, queue_id: int, end_pos: int) -> None:
        """`end_pos`: byte after the last record that may be shown."""
        name = topic.encode()
        prefix = 1 if len(name) <= MAX_TOPIC_V1_BYTES else 2
        self._magic = MAGIC_V1 if prefix == 1 else MAGIC_V2
        self._topic = name
        self._prefixed = len(name).to_bytes(prefix) + name
        self._queue_id = queue_id
        self._end_pos = end_pos

    def records(
        self, data: bytes, start: int, units: Sequence[Unit], offsets: Sequence[int]
    ) -> list[bytes] | None:
        """See `Check.records`."""
        found: list[bytes] = []
        queue_id, end_pos, topic = self._queue_id, self._end_pos, self._prefixed
        right_magic = self._magic
        try:
            for (physical_offset, size, _), offset in zip(units, offsets, strict=True):
                at = physical_offset - start
                its_size, magic, crc, its_queue_id, its_offset, its_physical, flag, body_size = (
                    _HEAD.unpack_from(data, at)
                )
                record = data[at : at + size]
                topic_at = _BODY_AT + body_size
                if not (
                    its_size == size == len(record)
                    and magic == right_magic
                    and its_offset == offset
                    and its_physical == physical_offset
                    and its_queue_id == queue_id
                    and physical_offset + size <= end_pos
                    and body_size >= 0
                    and crc32(memoryview(record)[_BODY_AT:topic_at]) & _CRC_MASK == crc
                    and record.startswith(topic, topic_at)
                    and not flag & _HOSTS_V6
                ) and not self._is_right(record, physical_offset, size, offset):
                    return None
                found.append(record)
        except (struct.error, IndexError):
            return None
        return found

    def _is_right(self, record: bytes, physical_offset: int, size: int, offset: int) -> bool:
        """The same check, slow, for records of IPv6 hosts too."""
        try:
            peek = peek_record(record, check_crc=True)
        except RecordError:
            return False
        return (
            peek.size == size == len(record)
            and peek.topic == self._topic
            and peek.queue_id == self._queue_id
            and peek.queue_offset == offset
            and peek.physical_offset == physical_offset
            and physical_offset + size <= self._end_pos
        )
