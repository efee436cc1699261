"""Key indexes for tests: small files, a known log, and disks that stop half-way."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ledgermq.broker.store.index_keys import keys_of
from ledgermq.broker.store.key_index import KeyIndex
from ledgermq.broker.store.record_keys import keys_in
from ledgermq.dledger.disk import OsDisk
from ledgermq.remoting.message_record import encode_record

SLOTS, ENTRIES = 7, 20
FIRST_MS = 1_700_000_000_000
EVER = (0, 2**63 - 1)
_WHOLE_BYTES = 40


class Killed(Exception):
    """The process ends here."""


class BreakingDisk(OsDisk):
    """The real one, until `writes_left` writes are done, or while it is full.

    Attributes:
        events: what was synced or made, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writes_left = 1 << 60
        self.is_full = False
        self.events: list[tuple[str, str]] = []
        self._paths: dict[int, Path] = {}

    def open(self, path: Path, *, create: bool = False) -> int:
        fd = super().open(path, create=create)
        self._paths[fd] = path
        if create:
            self.events.append(("made", path.name))
        return fd

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        if self.is_full:
            raise OSError(errno.ENOSPC, "no room")
        if self.writes_left <= 0:
            raise Killed
        self.writes_left -= 1
        # A signal may interrupt a write between two pages; a number never lies in both.
        size = len(data) // 8 * 4 if len(data) > _WHOLE_BYTES else len(data)
        return os.pwrite(fd, data[:size], offset)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.events.append(("synced", self._paths[fd].name))


class Row(NamedTuple):
    """A record as the index sees it."""

    topic: str
    properties: bytes
    offset: int
    store_ms: int


def rows(count: int) -> list[Row]:
    """Records of two topics, each with a unique key, every third with one or two of KEYS."""
    made: list[Row] = []
    for n in range(count):
        properties = f"UNIQ_KEY\x01U{n:04d}\x02TAGS\x01a\x02"
        if n % 3 == 0:
            properties += f"KEYS\x01k{n % 4}" + (f" 键{n}" if n % 2 else "") + "\x02"
        made.append(Row("TU"[n % 2], properties.encode(), 48 + 300 * n, FIRST_MS + 700 * n))
    return made


def answers(log: list[Row]) -> dict[tuple[str, str], list[int]]:
    """Topic and key -> physical offsets, newest first."""
    expected: dict[tuple[str, str], list[int]] = {}
    for row in log:
        for key in keys_of(row.properties):
            expected.setdefault((row.topic, key.decode()), []).insert(0, row.offset)
    return expected


def open_index(
    folder: Path,
    threads: ThreadPoolExecutor,
    disk: OsDisk | None = None,
    *,
    slots: int = SLOTS,
    entries: int = ENTRIES,
) -> KeyIndex:
    """An index that is to be recovered yet."""
    return KeyIndex(folder, disk or OsDisk(), threads, slots=slots, entries=entries)


def put(index: KeyIndex, row: Row, sys_flag: int = 0) -> None:
    """Put one record."""
    data = encode_record(
        topic=row.topic.encode(),
        queue_id=0,
        flag=0,
        queue_offset=0,
        physical_offset=row.offset,
        sys_flag=sys_flag,
        born_timestamp_ms=row.store_ms,
        born_host=bytes(8),
        store_timestamp_ms=row.store_ms,
        store_host=bytes(8),
        reconsume_times=0,
        prepared_transaction_offset=0,
        body=b"",
        properties=row.properties,
    )
    found = keys_in(data, [(row.offset, 0, len(data))])
    assert not found.unreadable
    index.put(found.keys, row.offset)


async def put_from(index: KeyIndex, log: list[Row], position: int) -> None:
    """Put and write what begins at `position` or above."""
    for row in log:
        if row.offset >= position:
            put(index, row)
            if index.is_full:
                await index.flush()
    await index.flush()


async def all_answers(index: KeyIndex, log: list[Row]) -> dict[tuple[str, str], list[int]]:
    """What the index says to every question of `answers`, empty ones left out."""
    found = {asked: (await index.query(*asked, 100, *EVER)).offsets for asked in answers(log)}
    return {asked: offsets for asked, offsets in found.items() if offsets}


def contents(folder: Path) -> dict[str, bytes]:
    """All files by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
