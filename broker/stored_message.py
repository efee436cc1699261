"""A stored record as a message to store again, its body untouched.

What the broker rewrites (a retry now, later a delayed or committed copy) must keep body and system
flag as they are: the body may be compressed in a way this broker cannot read.
"""

import struct

from ledgermq.remoting.message import SysFlag, host_offset_msg_id, peek_record

from .writer import OutgoingRecord

# Offsets within a record, see message-format §1.
_FLAG = struct.Struct(">i")
_FLAG_AT = 16
_BORN_TIME = struct.Struct(">q")
_BORN_TIME_AT = 40
_BORN_HOST_AT = 48
_STORE_TIME_BYTES = 8
_TAIL = struct.Struct(">iqi")  # reconsume times, prepared transaction offset, body length


def read_stored(record: bytes) -> OutgoingRecord:
    """The message in a record.

    Raises:
        PeerError: `record` is not exactly one record.
    """
    peek = peek_record(record)
    born_host_end = _BORN_HOST_AT + _host_bytes(peek.sys_flag & SysFlag.BORN_HOST_V6)
    store_host_bytes = _host_bytes(peek.sys_flag & SysFlag.STORE_HOST_V6)
    tail_at = born_host_end + _STORE_TIME_BYTES + store_host_bytes
    reconsume_times, prepared_offset, body_bytes = _TAIL.unpack_from(record, tail_at)
    body_at = tail_at + _TAIL.size
    return OutgoingRecord(
        topic=peek.topic.decode(),
        queue_id=peek.queue_id,
        body=record[body_at : body_at + body_bytes],
        properties=peek.properties,
        flag=_FLAG.unpack_from(record, _FLAG_AT)[0],
        sys_flag=peek.sys_flag,
        born_timestamp_ms=_BORN_TIME.unpack_from(record, _BORN_TIME_AT)[0],
        born_host=record[_BORN_HOST_AT:born_host_end],
        reconsume_times=reconsume_times,
        prepared_transaction_offset=prepared_offset,
    )


def offset_id(record: bytes) -> str:
    """The offset message id of a record: who stored it, and where.

    Raises:
        PeerError: `record` is no record.
    """
    peek = peek_record(record)
    store_host_at = (
        _BORN_HOST_AT + _host_bytes(peek.sys_flag & SysFlag.BORN_HOST_V6) + _STORE_TIME_BYTES
    )
    store_host_end = store_host_at + _host_bytes(peek.sys_flag & SysFlag.STORE_HOST_V6)
    return host_offset_msg_id(record[store_host_at:store_host_end], peek.physical_offset)


def _host_bytes(is_v6: int) -> int:
    return 20 if is_v6 else 8
