"""Hosts as stored in records, and the two kinds of message ids."""

import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from .codes import ResponseCode
from .errors import PeerError

_PORT = struct.Struct(">I")
_OFFSET = struct.Struct(">q")
_HOST4 = struct.Struct(">4BI")
# pid, hash, ms in the month, counter
_UNIQUE = struct.Struct(">HIIH")


class OffsetMsgId(NamedTuple):
    """What an offset message id says: who stored the message, and where in its commitlog."""

    ip: str
    port: int
    offset: int


@lru_cache(maxsize=4096)
def pack_host(address: str) -> bytes:
    """'ip:port' or '[ip6]:port' as records hold it: 4 or 16 bytes of IP, 4 of port.

    Raises:
        PeerError: not an IP address and a port.
    """
    ip, _, port = address.rpartition(":")
    try:
        return ip_address(ip.strip("[]")).packed + _PORT.pack(int(port))
    except (ValueError, struct.error) as e:
        raise PeerError(
            ResponseCode.SYSTEM_ERROR, f"host {address!r} is not ip:port, e.g. 127.0.0.1:10911"
        ) from e


@lru_cache(maxsize=4096)
def host_text(host: bytes) -> str:
    """What `pack_host` packs, as text; `host` has 8 or 20 bytes."""
    if len(host) == 8:
        a, b, c, d, port = _HOST4.unpack(host)
        return f"{a}.{b}.{c}.{d}:{port}"
    return f"[{IPv6Address(host[:16])}]:{_PORT.unpack_from(host, 16)[0]}"


def offset_msg_id(ip: str, port: int, offset: int) -> str:
    """The id by which any broker finds a message: upper-case hex of host and commitlog offset."""
    return host_offset_msg_id(ip_address(ip).packed + _PORT.pack(port), offset)


def host_offset_msg_id(host: bytes, offset: int) -> str:
    """`offset_msg_id` of a packed host."""
    return (host + _OFFSET.pack(offset)).hex().upper()


def parse_offset_msg_id(text: str) -> OffsetMsgId:
    """Read an offset message id.

    Raises:
        PeerError: not 32 or 56 hex digits.
    """
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(text) != 2 * len(data) or len(data) not in (16, 28):
        raise PeerError(
            ResponseCode.INVALID_PARAMETER,
            f"message id {text!r} is no offset message id: 32 hex digits (56 with IPv6)",
        )
    ip, port, offset = data[:-12], data[-12:-8], data[-8:]
    address = IPv4Address(ip) if len(ip) == 4 else IPv6Address(ip)
    return OffsetMsgId(str(address), _PORT.unpack(port)[0], _OFFSET.unpack(offset)[0])


class UniqueIdMaker:
    """Makes client message ids (UNIQ_KEY): upper-case hex, 32 digits, 56 with an IPv6 address.

    In order: IP, process id, a number for this maker, ms since the local month began, a counter.
    Unique among makers that differ in IP, process id or the ms of their making, for a month.
    """

    def __init__(self, ip: bytes, pid: int, now_ms: Callable[[], int]) -> None:
        self._ip = ip
        self._pid = pid & 0xFFFF
        self._now_ms = now_ms
        # Java: the class loader's hash.
        self._salt = zlib.crc32(b"%d %d %s" % (pid, now_ms(), ip))
        self._counter = 0
        self._month_ms = self._month_end_ms = 0

    def next_id(self) -> str:
        """A new id."""
        now_ms = self._now_ms()
        if not self._month_ms <= now_ms < self._month_end_ms:
            self._month_ms, self._month_end_ms = _month(now_ms)
        self._counter = (self._counter + 1) & 0xFFFF
        unique = _UNIQUE.pack(self._pid, self._salt, now_ms - self._month_ms, self._counter)
        return (self._ip + unique).hex().upper()


def _month(now_ms: int) -> tuple[int, int]:
    """Begin and end of the local month, ms since 1970."""
    now = datetime.fromtimestamp(now_ms / 1000, tz=UTC).astimezone()
    begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    months = begin.year * 12 + begin.month
    end = begin.replace(year=months // 12, month=months % 12 + 1)
    return int(begin.timestamp() * 1000), int(end.timestamp() * 1000)
