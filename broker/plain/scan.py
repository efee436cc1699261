"""Records of a plain commitlog as bytes: where each one lies, and whether it is what was written.

A record never crosses files: when it and 8 bytes more do not fit behind the last one, a blank
(bytes left in the file as int32, then the magic of a blank) ends the file and the record starts the
next. Bytes that were never written are zero.

Source: message-format §1; CommitLog of RocketMQ 4.9 and 5.3.
"""

import struct
from collections.abc import Iterator
from typing import Final

from ledgermq.remoting.message_record import (
    MAGIC_BLANK,
    MAGIC_V1,
    MAGIC_V2,
    MIN_RECORD_BYTES,
    Buffer,
    RecordError,
    RecordPeek,
    peek_record,
)
from ledgermq.remoting.message_types import SysFlag

BLANK_BYTES: Final = 8
# Of the log that is gone through at a time.
CHUNK_BYTES: Final = 1 << 20
# The least that a disk writes whole when its power fails.
_SECTOR_BYTES = 512
_BLANK = struct.Struct(">II")
# Size, magic, physical offset.
_START = struct.Struct(">II20xq")
_SYS_FLAG_AT = 36
_STORE_TIME_AT = 56
_V6_EXTRA_BYTES = 12
_MAGICS = (MAGIC_V1, MAGIC_V2)
_MAGIC_AT = 4

# --- places ---------------------------------------------------------------------------------------


def blank(left: int) -> bytes:
    """What ends a file that has `left` bytes to its end."""
    return _BLANK.pack(left, MAGIC_BLANK)


def is_blank(data: Buffer, at: int = 0) -> bool:
    """Whether a blank lies at byte `at` of `data`: the log goes on in the next file."""
    return len(data) - at >= BLANK_BYTES and _BLANK.unpack_from(data, at)[1] == MAGIC_BLANK


def next_file(pos: int, segment_bytes: int) -> int:
    """Start of the file after the one of `pos`."""
    return pos - pos % segment_bytes + segment_bytes


def place(pos: int, record_bytes: int, segment_bytes: int) -> int:
    """Where a record lies that follows one which ends at `pos`."""
    left = segment_bytes - pos % segment_bytes
    return pos if record_bytes + BLANK_BYTES <= left else pos + left


# --- records --------------------------------------------------------------------------------------


def walk(data: Buffer, pos: int) -> Iterator[tuple[int, int]]:
    """(byte in `data`, size) of the whole records that `data`, which lies at `pos`, begins with.

    Stops at the first thing that is none: the end of the data or of the log, a record that is cut
    short, a blank, or bytes that do not say that they lie where they do. Looks no further into a
    record; see `check`.
    """
    at, end = 0, len(data)
    while at + _START.size <= end:
        size, magic, its_pos = _START.unpack_from(data, at)
        if magic not in _MAGICS or its_pos != pos + at or size < MIN_RECORD_BYTES:
            return
        if at + size > end:
            return
        yield at, size
        at += size


def size_at(data: Buffer, at: int = 0) -> int:
    """Size of the record whose first bytes lie at `at`; 0: no record begins like that."""
    if len(data) - at < _START.size:
        return 0
    size: int
    size, magic, _ = _START.unpack_from(data, at)
    return size if magic in _MAGICS and size >= MIN_RECORD_BYTES else 0


def check(data: Buffer, pos: int, left: int) -> RecordPeek:
    """The record that `data` begins with, if it is what was written at `pos`.

    Args:
        data: the record, and perhaps more.
        pos: where it lies in the log.
        left: bytes from there to the end of the file.

    Raises:
        RecordError: it is none, or another one, or its body has changed.
    """
    if not size_at(data):
        raise RecordError("none begins there")
    peek = peek_record(data, check_crc=True)
    if peek.physical_offset != pos:
        raise RecordError(f"it says that it lies at {peek.physical_offset}, not at {pos}")
    if peek.size + BLANK_BYTES > left:
        raise RecordError(f"a size of {peek.size} with {left} bytes left in the file")
    if not peek.topic or b"\0" in peek.topic:
        raise RecordError(f"its topic {peek.topic!r} is none")
    return peek


def lost_sector(properties: bytes, end: int) -> bool:
    """Whether a sector of the properties, which end at byte `end` of their file, is all zeros.

    The record's CRC is of the body only. A loss of power can take the last sector of a record that
    was not synced, and nothing else in it would tell.
    """
    if b"\0" not in properties:
        return False
    start = at = end - len(properties)
    while at < end:
        stop = min(at - at % _SECTOR_BYTES + _SECTOR_BYTES, end)
        if not any(properties[at - start : stop - start]):
            return True
        at = stop
    return False


def store_time_ms(head: Buffer) -> int | None:
    """Store time (ms since 1970) of the record that begins with `head`; None: it is no record."""
    if not size_at(head):
        return None
    sys_flag = int.from_bytes(head[_SYS_FLAG_AT : _SYS_FLAG_AT + 4])
    at = _STORE_TIME_AT + (_V6_EXTRA_BYTES if sys_flag & SysFlag.BORN_HOST_V6 else 0)
    return int.from_bytes(head[at : at + 8]) or None


# Bytes that `store_time_ms` needs.
HEAD_BYTES: Final = _STORE_TIME_AT + _V6_EXTRA_BYTES + 8


def find_intact(data: bytes, pos: int, segment_bytes: int) -> int | None:
    """Where the first intact record in `data` lies, which may begin anywhere in the log at `pos`.

    Such a record behind a broken one means that the broken one was whole once.
    """
    found = [_find_intact(data, pos, segment_bytes, magic.to_bytes(4)) for magic in _MAGICS]
    return min((place for place in found if place is not None), default=None)


def _find_intact(data: bytes, pos: int, segment_bytes: int, magic: bytes) -> int | None:
    at = data.find(magic, _MAGIC_AT)
    while at >= 0:
        start = at - _MAGIC_AT
        # Cheap first: few other bytes say the very place where they lie.
        if next(walk(memoryview(data)[start:], pos + start), None) is not None:
            try:
                left = segment_bytes - (pos + start) % segment_bytes
                check(memoryview(data)[start:], pos + start, left)
            except RecordError:
                pass
            else:
                return pos + start
        at = data.find(magic, at + 1)
    return None
