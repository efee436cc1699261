"""The 48-byte entry header around each commitlog record.

Layout, big-endian: magic i32, size i32 (48 + body), index i64, term i64, pos i64, channel i32,
chainCrc u32, bodyCrc u32, bodyLen i32. Source: DLedger 0.3.1.2, DLedgerEntryCoder. bodyCrc and
chainCrc are ours; upstream writes 0 there and reads neither.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from ledgermq.compiled import twin_in
from ledgermq.remoting.errors import PeerError

HEADER_BYTES = 48
MAGIC = 1
# The end of a segment: i32 -1, i32 bytes left; never less than this is left free.
BLANK_BYTES = 8
BLANK_MAGIC = -1

_HEADER = struct.Struct(">iiqqqiIIi")
# The header without its chainCrc: what the chain covers, in this order.
_COVERED = struct.Struct(">iiqqqiIi")
# Bytes before the chainCrc and where those behind it begin: together what the chain covers.
CHAIN_AT = 36
BEHIND_CHAIN = 40
_BLANK = struct.Struct(">ii")

Buffer = bytes | bytearray | memoryview


class EntryHeader(NamedTuple):
    """A decoded header; `size` is header and body in bytes."""

    magic: int
    size: int
    log_index: int
    term: int
    pos: int
    channel: int
    chain_crc: int
    body_crc: int
    body_len: int


class EntryError(PeerError):
    """Bytes that are no valid entry here."""

    def __init__(self, what: str) -> None:
        super().__init__(1, what)


def chain_of(chain: int, header: EntryHeader, body: Buffer) -> int:
    """CRC over (previous chain, header, body); never 0, which stands for "written by Java"."""
    covered = _COVERED.pack(
        header.magic,
        header.size,
        header.log_index,
        header.term,
        header.pos,
        header.channel,
        header.body_crc,
        header.body_len,
    )
    return crc32(body, crc32(covered, chain)) or 1


@twin_in("_entries")
def encode(index: int, term: int, pos: int, body: bytes, chain: int) -> tuple[bytes, int]:
    """The header for `body` at `pos`, and the new chain value."""
    size = HEADER_BYTES + len(body)
    body_crc = crc32(body)
    covered = _COVERED.pack(MAGIC, size, index, term, pos, 0, body_crc, len(body))
    chain = crc32(body, crc32(covered, chain)) or 1
    return _HEADER.pack(MAGIC, size, index, term, pos, 0, chain, body_crc, len(body)), chain


def decode(data: Buffer, at: int = 0) -> EntryHeader:
    """The header at `at`.

    Raises:
        EntryError: too short, or lengths that contradict each other.
    """
    if at + HEADER_BYTES > len(data):
        raise EntryError(f"{len(data) - at} bytes are no entry header")
    header = EntryHeader._make(_HEADER.unpack_from(data, at))
    if (
        header.magic != MAGIC
        or header.body_len < 1
        or header.size != HEADER_BYTES + header.body_len
    ):
        raise EntryError(
            f"no entry: magic {header.magic}, size {header.size}, body {header.body_len}"
        )
    return header


def check(header: EntryHeader, body: Buffer, chain: int) -> int:
    """Verify both checksums; return the new chain value.

    An entry of Java has none; none of those follows one of ours.

    Raises:
        EntryError: the bytes are not what was written.
    """
    if header.chain_crc == 0 and header.body_crc == 0 and chain == 0:
        return 0
    if crc32(body) != header.body_crc:
        raise EntryError(f"entry {header.log_index}: the body's checksum differs")
    value = chain_of(chain, header, body)
    if value != header.chain_crc:
        raise EntryError(f"entry {header.log_index}: it does not continue the entry before it")
    return value


def check_whole(data: memoryview, at: int, header: EntryHeader, chain: int) -> int:
    """`check` of an entry that lies whole at `at`, whose header is `header`."""
    size, chain_crc, body_crc = header.size, header.chain_crc, header.body_crc
    if chain_crc == 0 and body_crc == 0 and chain == 0:
        return 0
    if crc32(data[at + HEADER_BYTES : at + size]) != body_crc:
        raise EntryError(f"entry {header.log_index}: the body's checksum differs")
    first = crc32(data[at : at + CHAIN_AT], chain)
    value = crc32(data[at + BEHIND_CHAIN : at + size], first) or 1
    if value != chain_crc:
        raise EntryError(f"entry {header.log_index}: it does not continue the entry before it")
    return value


def walk(data: Buffer, at: int = 0) -> Iterator[tuple[int, EntryHeader]]:
    """(offset in data, header) of consecutive whole entries, from `at` on.

    Raises:
        EntryError: data ends inside an entry.
    """
    end = len(data)
    unpack, make = _HEADER.unpack_from, EntryHeader._make
    while at + HEADER_BYTES <= end:
        header = make(unpack(data, at))
        magic, size, body_len = header[0], header[1], header[8]
        if magic != MAGIC or body_len < 1 or size != HEADER_BYTES + body_len or at + size > end:
            break
        yield at, header
        at += size
    if at < end:
        header = decode(data, at)
        raise EntryError(f"entry {header.log_index} is cut short")


def blank(left: int) -> bytes:
    """The marker that ends a segment with `left` bytes to its end."""
    return _BLANK.pack(BLANK_MAGIC, left)


def is_blank(data: Buffer) -> bool:
    """Whether data starts with an end-of-segment marker."""
    return len(data) >= BLANK_BYTES and _BLANK.unpack_from(data)[0] == BLANK_MAGIC
