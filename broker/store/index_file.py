"""One file of the key index, in upstream's layout.

Big-endian. Header of 40 bytes: begin and end time i64 (ms), begin and end physical offset i64,
slots in use i32, number of the next entry i32 (the first is 1). Then the slots, i32 each: the
newest entry of a chain, 0 for none. Then the entries of 20 bytes, by number: key hash i32, physical
offset i64, seconds after the begin time i32, the entry before it in its chain i32. The chain of a
hash is in slot `hash % slots`. Source: RocketMQ IndexFile, IndexHeader.

Entries are written first, then slots, then the header: what the header does not count was never
added, and `cut` takes it out of the chains.
"""

import errno
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ledgermq.dledger.disk import Disk
from ledgermq.dledger.errors import DamagedError, DiskFullError
from ledgermq.remoting.errors import StorageError

HEADER_BYTES = 40
SLOT_BYTES = 4
ENTRY_BYTES = 20
MAX_SECONDS = 0x7FFF_FFFF

ENTRY = struct.Struct(">iqii")
_HEADER = struct.Struct(">qqqqii")
_SLOT = struct.Struct(">i")
_NO_ENTRY = bytes(ENTRY_BYTES)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# Read or zeroed in one piece.
_BLOCK_ENTRIES = 4096


class Shape(NamedTuple):
    """How many slots and entries each file has; number 0 is no entry, so one less is used."""

    slots: int
    entries: int

    @property
    def size_bytes(self) -> int:
        """Length of a file."""
        return self.entry_at(self.entries)

    def entry_at(self, number: int) -> int:
        """Where an entry begins."""
        return HEADER_BYTES + self.slots * SLOT_BYTES + number * ENTRY_BYTES


class Header(NamedTuple):
    """What a file says of itself; times in ms since 1970, both ends inclusive.

    Attributes:
        used_slots: slots that lead to an entry.
        next_entry: number of the first entry that is not there yet.
    """

    begin_ms: int
    end_ms: int
    begin_pos: int
    end_pos: int
    used_slots: int
    next_entry: int


class Search:
    """What a query looks for, and what it has found.

    Attributes:
        hash: of the key.
        offsets: physical offsets found, newest first.
    """

    __slots__ = ("_begin_ms", "_end_ms", "_max_count", "hash", "offsets")

    def __init__(self, key_hash: int, max_count: int, begin_ms: int, end_ms: int) -> None:
        """Look for up to `max_count` offsets, stored between the times, both inclusive."""
        self.hash = key_hash
        self.offsets: list[int] = []
        self._max_count = max_count
        self._begin_ms = begin_ms
        self._end_ms = end_ms

    @property
    def is_done(self) -> bool:
        """Whether enough is found."""
        return len(self.offsets) >= self._max_count

    def may_be_in(self, begin_ms: int, end_ms: int) -> bool:
        """Whether a file of these times can hold more."""
        return not self.is_done and begin_ms <= self._end_ms and end_ms >= self._begin_ms

    def take(self, key_hash: int, offset: int, at_ms: int) -> bool:
        """Look at an entry, stored within a second from `at_ms`; False: go no further back."""
        if key_hash == self.hash and at_ms <= self._end_ms and at_ms + 999 >= self._begin_ms:
            self.offsets.append(offset)
        return not self.is_done and at_ms + 999 >= self._begin_ms


def follow(
    search: Search,
    header: Header,
    slots: int,
    head: int,
    read: Callable[[int], bytes | bytearray],
    *,
    down_to: int = 0,
) -> int:
    """Walk a chain from its newest entry, down to number `down_to`.

    Args:
        search: takes what fits.
        header: of the file; its end may be behind.
        slots: of the file.
        head: the newest entry's number.
        read: an entry's bytes.
        down_to: the last number that `read` knows.

    Returns:
        The number to go on with, 0 at the end of the chain or of the search.

    Raises:
        ValueError: this is no chain.
    """
    slot, number, newest = search.hash % slots, head, header.end_pos
    while number >= max(down_to, 1):
        key_hash, offset, seconds, before = ENTRY.unpack(read(number))
        if (
            not 0 <= before < number
            or key_hash < 0
            or key_hash % slots != slot
            or not header.begin_pos <= offset <= newest
            or seconds < 0
        ):
            raise ValueError(number)
        newest = offset
        if not search.take(key_hash, offset, header.begin_ms + seconds * 1000):
            return 0
        number = before
    return number


class IndexFile:
    """A file by its path. Every method may wait for the disk: for threads.

    Each opens the file for itself, so that one may remove it while another reads.
    """

    __slots__ = ("disk", "path", "shape")

    def __init__(self, path: Path, disk: Disk, shape: Shape) -> None:
        """A file that exists, or that `make` makes."""
        self.path = path
        self.disk = disk
        self.shape = shape

    # --- reading ------------------------------------------------------------------------------

    def header(self) -> Header:
        """The header, after a look at the ends of the file.

        Raises:
            DamagedError: the file is of another shape, or its header is not true.
        """
        with self._open("read") as fd:
            size = self.disk.size(fd)
            if size != self.shape.size_bytes:
                raise self._damaged(0, f"{size} bytes, not {self.shape.size_bytes}")
            header = self._read_header(fd)
            if header.next_entry > 1:
                first, last = (self._entry(fd, number) for number in (1, header.next_entry - 1))
                if first[1] != header.begin_pos or last[1] != header.end_pos:
                    raise self._damaged(0, "the header does not fit the entries")
        return header

    def _read_header(self, fd: int) -> Header:
        data = self.disk.pread(fd, HEADER_BYTES, 0)
        if len(data) != HEADER_BYTES:
            raise self._damaged(len(data), "it ends here")
        header = Header._make(_HEADER.unpack(data))
        if header.next_entry == 0:  # as a file begins
            header = header._replace(next_entry=1)
        if (
            not 1 <= header.next_entry <= self.shape.entries
            or not 0 <= header.used_slots <= min(self.shape.slots, header.next_entry - 1)
            or not 0 <= header.begin_pos <= header.end_pos
        ):
            raise self._damaged(0, f"{header} is not possible")
        return header

    def search(self, search: Search, header: Header, head: int | None = None) -> None:
        """Add what this file holds.

        Args:
            search: what is looked for.
            header: of this file.
            head: the entry to begin with, when the slot on disk does not tell.

        Raises:
            DamagedError: a chain leads nowhere; what was found before stays.
        """
        with self._open("read") as fd:
            if head is None:
                at = HEADER_BYTES + search.hash % self.shape.slots * SLOT_BYTES
                (head,) = _SLOT.unpack(self._whole(fd, SLOT_BYTES, at))
                if not 0 <= head < header.next_entry:
                    raise self._damaged(at, f"the slot says {head}")
            try:
                follow(search, header, self.shape.slots, head, lambda n: self._entry_bytes(fd, n))
            except ValueError as e:
                number = e.args[0]
                raise self._damaged(self.shape.entry_at(number), f"entry {number}") from e

    def read_slots(self, block_bytes: int) -> Iterator[tuple[int, bytes]]:
        """(first slot, bytes) of all blocks of slots that are not empty."""
        empty = bytes(block_bytes)
        with self._open("read") as fd:
            for at in range(0, self.shape.slots * SLOT_BYTES, block_bytes):
                size = min(block_bytes, self.shape.slots * SLOT_BYTES - at)
                data = self._whole(fd, size, HEADER_BYTES + at)
                if data != empty[:size]:
                    yield at // SLOT_BYTES, data

    def first_from(self, pos: int, header: Header) -> int:
        """Number of the first entry of a record at physical offset `pos` or above."""
        with self._open("read") as fd:
            numbers = range(1, header.next_entry)
            return 1 + bisect_left(numbers, pos, key=lambda n: self._entry(fd, n)[1])

    def _entry(self, fd: int, number: int) -> tuple[int, int, int, int]:
        return ENTRY.unpack(self._entry_bytes(fd, number))

    def _entry_bytes(self, fd: int, number: int) -> bytes:
        return self._whole(fd, ENTRY_BYTES, self.shape.entry_at(number))

    def _whole(self, fd: int, size: int, at: int) -> bytes:
        data = self.disk.pread(fd, size, at)
        if len(data) != size:
            raise self._damaged(at + len(data), "it ends here")
        return data

    # --- writing ------------------------------------------------------------------------------

    def make(self) -> None:
        """Make the file, sparse and empty; its name is on disk afterwards."""
        with self._open("make", create=True) as fd:
            self.disk.truncate(fd, self.shape.size_bytes)
        self.disk.sync_folder(self.path.parent)

    def write(
        self, header: Header, first: int, entries: bytes, slots: Iterable[tuple[int, bytes]]
    ) -> None:
        """Add entries from number `first` on, and the slots (first one, bytes) that lead to them.

        Raises:
            DiskFullError: no room; to be repeated as a whole.
        """
        with self._open("write") as fd:
            self._pwrite(fd, entries, self.shape.entry_at(first))
            for slot, data in slots:
                self._pwrite(fd, data, HEADER_BYTES + slot * SLOT_BYTES)
            self._pwrite(fd, _HEADER.pack(*header), 0)

    def cut(self, header: Header, count: int) -> Header:
        """Take out the entries from number `count` (at least 2) on; the new header.

        Also those that the header does not count: a writer was killed before it could.

        Raises:
            DamagedError: what is taken out was no chain.
        """
        with self._open("write") as fd:
            end = self._written_end(fd, header.next_entry)
            heads, freed = self._heads_without(fd, count, end, header.next_entry)
            _, end_pos, seconds, _ = self._entry(fd, count - 1)
            if count != header.next_entry:
                end_ms = min(header.end_ms, header.begin_ms + seconds * 1000)
                used = header.used_slots - freed
                header = header._replace(
                    next_entry=count, end_pos=end_pos, end_ms=end_ms, used_slots=used
                )
            # First the count: killed after it, the next start takes out the same again.
            self._pwrite(fd, _HEADER.pack(*header), 0)
            for slot, head in heads.items():
                self._pwrite(fd, _SLOT.pack(head), HEADER_BYTES + slot * SLOT_BYTES)
            # From the end: what is left after a kill begins at `count`, where it is looked for.
            for first in reversed(range(count, end, _BLOCK_ENTRIES)):
                size = min(_BLOCK_ENTRIES, end - first) * ENTRY_BYTES
                self._pwrite(fd, bytes(size), self.shape.entry_at(first))
        return header

    def _written_end(self, fd: int, count: int) -> int:
        """Number after the last entry written, counted or not."""
        for first in range(count, self.shape.entries, _BLOCK_ENTRIES):
            for number, data in self._block(fd, first, self.shape.entries):
                if data == _NO_ENTRY:
                    return number
        return self.shape.entries

    def _heads_without(
        self, fd: int, count: int, end: int, counted: int
    ) -> tuple[dict[int, int], int]:
        """(slots that lead to entries from `count` to `end` -> their heads before, slots freed)."""
        heads: dict[int, int] = {}
        freed = 0
        for first in range(count, end, _BLOCK_ENTRIES):
            for number, data in self._block(fd, first, end):
                key_hash, _, _, before = ENTRY.unpack(data)
                if not 0 <= before < number or key_hash < 0:
                    raise self._damaged(self.shape.entry_at(number), f"entry {number}")
                heads.setdefault(key_hash % self.shape.slots, before)
                freed += before == 0 and number < counted
        for slot, before in list(heads.items()):
            at = HEADER_BYTES + slot * SLOT_BYTES
            (head,) = _SLOT.unpack(self._whole(fd, SLOT_BYTES, at))
            if head < count:
                del heads[slot]  # the entry was written, the slot was not
            elif before >= count:
                raise self._damaged(at, f"the slot says {head}")
        return heads, freed

    def _block(self, fd: int, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        size = min(_BLOCK_ENTRIES, end - first) * ENTRY_BYTES
        data = self._whole(fd, size, self.shape.entry_at(first))
        for at in range(0, size, ENTRY_BYTES):
            yield first + at // ENTRY_BYTES, data[at : at + ENTRY_BYTES]

    def sync(self) -> None:
        """Put it on disk."""
        with self._open("fdatasync") as fd:
            self.disk.fdatasync(fd)

    def _pwrite(self, fd: int, data: bytes, at: int) -> None:
        left = memoryview(data)
        while left:
            done = self.disk.pwrite(fd, left, at)
            left, at = left[done:], at + done

    # --- both ---------------------------------------------------------------------------------

    @contextmanager
    def _open(self, what: str, *, create: bool = False) -> Iterator[int]:
        try:
            fd = self.disk.open(self.path, create=create)
            try:
                yield fd
            finally:
                self.disk.close(fd)
        except OSError as e:
            if e.errno in _NO_ROOM:
                raise DiskFullError(
                    f"{self.path}: no room left on the device; free some or move the store"
                ) from e
            raise StorageError(f"{self.path}: {what} failed: {e.strerror}") from e

    def _damaged(self, at: int, what: str) -> DamagedError:
        return DamagedError(self.path, at, what)
