"""Texts of a broker.conf value -> typed values, and back. Every reader raises ValueError.

The error text of a reader completes the sentence "<key> <problem>", and ends with what to do.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Reader = Callable[[str], object]
Address = tuple[str, int]

# As Chinese input methods type them: they look right, and are no separators and no digits.
_FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {"\u3000": " "}
_PEER_ID = re.compile(r"[A-Za-z][0-9]+")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

MAX_INT = 2**31 - 1


def wide_characters(value: str) -> dict[str, str]:
    """Each full-width character of a text -> the ASCII one that was meant."""
    return {c: _FULL_WIDTH[c] for c in value if c in _FULL_WIDTH}


def text(value: str) -> str:
    """Any text."""
    return value


def folder(value: str) -> Path:
    """A path; a leading ~ is the home folder."""
    return Path(value).expanduser()


def ip_address(value: str) -> str:
    """An IP address, as records hold it; a host name would not do."""
    try:
        ipaddress.ip_address(value)
    except ValueError as e:
        raise ValueError(
            f"is {value!r}, not an IP address. Write the one that clients reach, like 192.168.1.201"
        ) from e
    return value


def boolean(value: str) -> bool:
    """`true` or `false`, in any case."""
    lowered = value.lower()
    if lowered not in {"true", "false"}:
        raise ValueError(f"is {value!r}, not true or false. Write one of the two")
    return lowered == "true"


def integer(low: int = 0, high: int = MAX_INT) -> Reader:
    """A whole number from `low` to `high`."""

    def read(value: str) -> int:
        try:
            number = int(value) if value.isascii() and "_" not in value else None
        except ValueError:
            number = None
        if number is None:
            raise ValueError(f"is {value!r}, not a whole number. Write digits only")
        if not low <= number <= high:
            raise ValueError(f"is {number}, outside {low} to {high}. Choose a number inside")
        return number

    return read


port = integer(1, 65535)


def choice(*names: str) -> Reader:
    """One of the names, exactly."""

    def read(value: str) -> str:
        if value not in names:
            raise ValueError(f"is {value!r}, not one of {', '.join(names)}. Write one of them")
        return value

    return read


def _items(value: str, example: str) -> list[str]:
    """The parts of a `;` list; a `;` at the end adds none."""
    for wide, narrow in wide_characters(value).items():
        raise ValueError(
            f"holds the full-width character {wide!r}. Type the ASCII {narrow!r}: {example}"
        )
    for wrong, name in ((",", "a comma"), (" ", "a blank"), ("\t", "a tab")):
        if wrong in value:
            raise ValueError(f"holds {name}. Separate the entries by ';' alone: {example}")
    return [item for item in value.split(";") if item]


def _address(value: str, example: str) -> Address:
    host, colon, number = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not number.isascii() or not number.isdigit():
        raise ValueError(f"holds {value!r}, not host:port. Write it like {example}")
    if not 1 <= int(number) <= 65535:
        raise ValueError(f"holds {value!r}: a port lies between 1 and 65535. Correct it")
    return host, int(number)


_SERVERS = "127.0.0.1:9876;127.0.0.1:9877"
_PEERS = "n0-127.0.0.1:40911;n1-127.0.0.1:40912;n2-127.0.0.1:40913"


def addresses(value: str) -> tuple[str, ...]:
    """`host:port;host:port` -> the entries, each once, in order."""
    entries = _items(value, _SERVERS)
    for entry in entries:
        _address(entry, _SERVERS)
    return tuple(dict.fromkeys(entries))


def peer_ids(value: str) -> tuple[str, ...]:
    """`n0;n1` -> the ids, in order."""
    return tuple(_peer_id(item) for item in _items(value, "n0;n1"))


def peer_id(value: str) -> str:
    """One id of a peer, like n0."""
    return _peer_id(value)


def _peer_id(value: str) -> str:
    # A follower registers as (digits after the first letter) + 1, so digits there must be.
    if not _PEER_ID.fullmatch(value):
        raise ValueError(
            f"holds the id {value!r}. An id is one letter and then digits, like n0; rename it"
        )
    return value


def peers(value: str) -> dict[str, Address]:
    """`n0-host:port;…` -> id -> (host, port).

    The id ends at the first '-', so that a host name may hold one.
    """
    found: dict[str, Address] = {}
    for entry in _items(value, _PEERS):
        name, dash, place = entry.partition("-")
        if not dash:
            raise ValueError(f"holds {entry!r}, not id-host:port. Write it like {_PEERS}")
        address = _address(place, _PEERS)
        if _peer_id(name) in found:
            raise ValueError(f"names {name!r} twice. Give every peer an id of its own")
        if address in found.values():
            raise ValueError(f"holds the address {place} twice. Every peer listens elsewhere")
        found[name] = address
    return found


def delay_levels(value: str) -> tuple[int, ...]:
    """`1s 5s 10m` -> the delay of level 1, 2, 3 in ms."""
    levels = []
    for item in value.split():
        number, unit = item[:-1], _UNIT_MS.get(item[-1])
        if unit is None or not number.isascii() or not number.isdigit() or int(number) == 0:
            raise ValueError(
                f"holds {item!r}. A level is a number and one of s, m, h, d; blanks between: 1s 5m"
            )
        levels.append(int(number) * unit)
    return tuple(levels)


def hours(value: str) -> tuple[str, ...]:
    """`04;16` -> hours of the day, as written."""
    found = tuple(_items(value, "04;16"))
    for item in found:
        if not item.isascii() or not item.isdigit() or int(item) > 23:
            raise ValueError(f"holds {item!r}, not an hour from 00 to 23. Write it like 04;16")
    return found


def show(value: object) -> str:
    """A typed value as broker.conf writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ";".join(f"{name}-{host}:{number}" for name, (host, number) in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and isinstance(value[0], int):
            return " ".join(_show_delay(ms) for ms in value)
        return ";".join(value)
    return "" if value is None else str(value)


def _show_delay(delay_ms: int) -> str:
    unit = next(u for u in ("d", "h", "m", "s") if delay_ms % _UNIT_MS[u] == 0)
    # Upstream writes 60m as 1h but never days; keep the largest unit that divides.
    return f"{delay_ms // _UNIT_MS[unit]}{unit}"
