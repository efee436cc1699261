"""Small logs on disk for the tests of the store."""

from collections.abc import Iterable
from pathlib import Path

from ledgermq.dledger.store import entry
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.recovery import open_ledger

SEGMENT_BYTES = 4096


def open_small(folder: Path) -> Ledger:
    return open_ledger(folder, SEGMENT_BYTES)


def append(ledger: Ledger, bodies: Iterable[bytes], term: int = 1) -> None:
    """One write of all bodies."""
    for body in bodies:
        ledger.stage(term, body)
    ledger.write_staged()


def entries(ledger: Ledger, max_bytes: int = 1 << 30) -> list[tuple[int, bytes]]:
    """(term, body) of the whole log, read from the files."""
    found: list[tuple[int, bytes]] = []
    while len(found) <= ledger.end_index:
        data, reached = ledger.read_entries(len(found), ledger.end_index, max_bytes)
        for at, header in entry.walk(data):
            assert header.log_index == len(found)
            found.append((header.term, data[at + entry.HEADER_BYTES : at + header.size]))
        assert reached == len(found) - 1
    return found


def place(ledger: Ledger, index: int) -> tuple[Path, int, int]:
    """(file, byte in it, size) of an entry."""
    unit = ledger.index.get(index)
    assert unit is not None
    return ledger.data.path_of(unit.pos), unit.pos % ledger.data.segment_bytes, unit.size


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path: Path, at: int) -> None:
    overwrite(path, at, bytes([head(path, at + 1)[at] ^ 0x10]))


def head(path: Path, size: int) -> bytes:
    """The first bytes of a file that may be large and sparse."""
    with path.open("rb") as file:
        return file.read(size)


def crash(ledger: Ledger) -> None:
    """The process ends: files are closed, nothing is marked."""
    ledger.abandon()
