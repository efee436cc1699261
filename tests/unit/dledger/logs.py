"""Small logs on disk for the tests of the store."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ledgermq.dledger.disk import Disk, OsDisk
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.recovery import open_ledger
from ledgermq.dledger.store.slots import SlotFile

SEGMENT_BYTES = 4096
# Entries 0..3, 4..7 and 8..9 of these share a file.
BODIES = [bytes([65 + i]) * 900 for i in range(10)]


def open_small(folder: Path, suspect: int | None = None, disk: Disk | None = None) -> Ledger:
    return open_ledger(folder, SEGMENT_BYTES, suspect=suspect, disk=disk)


def append(ledger: Ledger, bodies: Iterable[bytes], term: int = 1) -> None:
    """One write of all bodies."""
    for body in bodies:
        ledger.stage(term, body)
    ledger.write_staged()


def entries(ledger: Ledger, max_bytes: int = 1 << 30) -> list[tuple[int, bytes]]:
    """(term, body) of the whole log, read from the files."""
    found: list[tuple[int, bytes]] = []
    first = ledger.begin.index
    while first + len(found) <= ledger.end_index:
        data, reached = ledger.read_entries(first + len(found), ledger.end_index, max_bytes)
        for at, header in entry.walk(data):
            assert header.log_index == first + len(found)
            found.append((header.term, data[at + entry.HEADER_BYTES : at + header.size]))
        assert reached == first + len(found) - 1
    return found


def copied(source: Ledger, first: int, last: int) -> bytes:
    """Entries as a push carries them: across segments."""
    parts, at = [], first
    while at <= last:
        data, at = source.read_entries(at, last, 1 << 30)
        parts.append(data)
        at += 1
    return b"".join(parts)


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


def written(path: Path, *payloads: bytes) -> None:
    """A file of slots after these writes."""
    file = SlotFile(path)
    for payload in payloads:
        file.write(payload)
    file.close()


def marked_at(folder: Path, marked: int, bodies: Sequence[bytes] = BODIES) -> Ledger:
    """A log whose first `marked` entries are below the mark."""
    ledger = open_small(folder)
    append(ledger, bodies[:marked])
    ledger.save_mark(marked - 1)
    append(ledger, bodies[marked:])
    return ledger


def reopened(folder: Path) -> list[tuple[int, bytes]]:
    ledger = open_small(folder)
    found = entries(ledger)
    ledger.close(0)
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    """The log's files, as they are."""
    return {p.name: p.read_bytes() for p in sorted((folder / "data").iterdir())}


class PowerCut(BaseException):
    """The process is gone."""


class MortalDisk(OsDisk):
    """A disk whose k-th change does not happen, nor any after it."""

    def __init__(self, calls: int = 1 << 60) -> None:
        super().__init__()
        self.left = calls
        self._open: set[int] = set()

    def _count(self) -> None:
        if self.left <= 0:
            raise PowerCut
        self.left -= 1

    def open(self, path: Path, *, create: bool = False) -> int:
        fd = super().open(path, create=create)
        self._open.add(fd)
        return fd

    def lock(self, path: Path, *, folder: bool = False) -> int:
        fd = super().lock(path, folder=folder)
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:  # type: ignore[override]
        self._open.discard(fd)
        os.close(fd)

    def close_all(self) -> None:
        """What the end of the process does."""
        for fd in list(self._open):
            self.close(fd)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        self._count()
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        self._count()
        os.ftruncate(fd, size)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._count()

    def rename(self, old: Path, new: Path) -> None:  # type: ignore[override]
        self._count()
        old.replace(new)

    def remove(self, path: Path) -> None:
        self._count()
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        self._count()


def crash(ledger: Ledger) -> None:
    """The process ends: files are closed, nothing is marked."""
    ledger.abandon()
