"""Whether bytes of the log are the message that a queue unit promises.

Unit and log lie in different files, and either may have changed on the disk. The entry header
before each record says what the record must be: nothing else reaches a client.
"""

import struct
from collections.abc import Sequence
from typing import Protocol
from zlib import crc32

from ledgermq.dledger.store import entry
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message_record import MAX_TOPIC_V1_BYTES, peek_record
from ledgermq.remoting.message_types import SysFlag

from .consume_queue import Unit

# Of the entry header: magic, size, index, pos, CRC and length of the body. Of a record with IPv4
# hosts: size, queue id, queue offset, physical offset, system flag, length of the message's body.
_HEADS = struct.Struct(">iiq8xq8xIi" + "I8xi4xqqi44xi")
_BODY_AT = 88
_HOSTS_V6 = SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6


class Check(Protocol):
    """Knows one queue and the place of its log."""

    def records(
        self, data: bytes, start: int, units: Sequence[Unit], offsets: Sequence[int]
    ) -> list[bytes] | None:
        """The records that `units` point to; None when one is not what it should be.

        Args:
            data: bytes of the log.
            start: physical offset of the first of them.
            units: where the records lie.
            offsets: their queue offsets.
        """


class RecordCheck:
    """Checks the records of one queue of a group: `Check` for entries."""

    def __init__(self, topic: str, queue_id: int, last_index: int) -> None:
        """`last_index`: of the last entry that may be shown."""
        name = topic.encode()
        prefix = 1 if len(name) <= MAX_TOPIC_V1_BYTES else 2
        self._topic = name
        self._prefixed = len(name).to_bytes(prefix) + name
        self._queue_id = queue_id
        self._last_index = last_index

    def records(
        self, data: bytes, start: int, units: Sequence[Unit], offsets: Sequence[int]
    ) -> list[bytes] | None:
        """See `Check.records`; `start` is where the first one's entry begins."""
        found: list[bytes] = []
        queue_id, last_index, topic = self._queue_id, self._last_index, self._prefixed
        try:
            for (physical_offset, size, _), offset in zip(units, offsets, strict=True):
                at = physical_offset - start
                (
                    magic, entry_size, index, pos, crc, length,
                    record_size, its_queue_id, its_offset, its_physical, flag, body_size,
                ) = _HEADS.unpack_from(data, at - entry.HEADER_BYTES)  # fmt: skip
                record = data[at : at + size]
                topic_at = _BODY_AT + body_size
                if not (
                    record_size == size == length
                    and its_offset == offset
                    and its_physical == physical_offset
                    and pos == physical_offset - entry.HEADER_BYTES
                    and entry_size == size + entry.HEADER_BYTES
                    and magic == entry.MAGIC
                    and its_queue_id == queue_id
                    and index <= last_index
                    and crc32(record) == crc
                    and record.startswith(topic, topic_at)
                    and not flag & _HOSTS_V6
                ) and not self._is_right(data, at, physical_offset, size, offset):
                    return None
                found.append(record)
        except (struct.error, IndexError):
            return None
        return found

    def _is_right(self, data: bytes, at: int, physical_offset: int, size: int, offset: int) -> bool:
        """The same check, slow, for every kind of record: IPv6 hosts, without an entry CRC."""
        try:
            header = entry.decode(data, at - entry.HEADER_BYTES)
            record = data[at : at + size]
            # Java writes no CRC of the entry; the record has one of its body.
            peek = peek_record(record, check_crc=header.body_crc == 0)
        except PeerError:
            return False
        return (
            header.pos == physical_offset - entry.HEADER_BYTES
            and header.log_index <= self._last_index
            and header.body_crc in (0, crc32(record))
            and header.body_len == size == len(record) == peek.size
            and peek.topic == self._topic
            and peek.queue_id == self._queue_id
            and peek.queue_offset == offset
            and peek.physical_offset == physical_offset
        )
