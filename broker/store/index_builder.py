"""The index file that grows: its slots in memory, its newest entries waiting for a write."""

import mmap
import sys
from array import array
from collections.abc import Iterator, Sequence

from ledgermq.compiled import twin_in
from ledgermq.dledger.errors import DamagedError

from .index_file import (
    ENTRY,
    ENTRY_BYTES,
    HEADER_BYTES,
    MAX_SECONDS,
    SLOT_BYTES,
    Header,
    IndexFile,
    Search,
    follow,
)
from .record_keys import HashedKey

# A twin knows it too.
PAGE_SLOTS = 1024
# Dirty pages are written in one piece with the clean ones between them, up to so many.
_MAX_GAP_PAGES = 16
_MAX_RUN_PAGES = 256
_LOAD_BYTES = 1 << 20


class _Slots:
    """The slots of a file in memory.

    An anonymous map: pages that were never used take no memory, and the rest is given back at once.
    It is no map of a file.
    """

    __slots__ = ("_memory", "dirty", "numbers")

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * SLOT_BYTES)
        self.numbers = memoryview(self._memory).cast("i")
        self.dirty = bytearray(-(-count // PAGE_SLOTS))

    def load(self, file: IndexFile, count: int) -> None:
        """Take over a file with so many entries; may wait for the disk."""
        for first, data in file.read_slots(_LOAD_BYTES):
            block = array("i", data)
            if sys.byteorder == "little":
                block.byteswap()
            if not 0 <= min(block) <= max(block) < count:
                raise DamagedError(file.path, HEADER_BYTES + first * SLOT_BYTES, "slots")
            self.numbers[first : first + len(block)] = memoryview(block)

    def runs(self) -> Iterator[tuple[int, bytes]]:
        """(first slot, bytes as on disk) of what has changed."""
        page = self.dirty.find(1)
        while page >= 0:
            end = page + 1
            while end - page < _MAX_RUN_PAGES:
                near = self.dirty.find(1, end, end + _MAX_GAP_PAGES)
                if near < 0:
                    break
                end = near + 1
            block = array("i", self.numbers[page * PAGE_SLOTS : end * PAGE_SLOTS].tobytes())
            if sys.byteorder == "little":
                block.byteswap()
            yield page * PAGE_SLOTS, block.tobytes()
            page = self.dirty.find(1, end)

    def close(self) -> None:
        """Give the memory back."""
        self.numbers.release()
        self._memory.close()


@twin_in("_record_keys")
def chained(
    keys: Sequence[HashedKey], numbers: memoryview, dirty: bytearray, number: int, begin_ms: int
) -> tuple[bytes, int]:
    """The entries of keys, put at the heads of their chains, and how many slots were empty before.

    Args:
        keys: in the order of the log.
        numbers: the slots, i32 each; changed.
        dirty: pages of slots that have changed; changed.
        number: of the first entry.
        begin_ms: begin time of the file.
    """
    slots, used = len(numbers), 0
    pack, entries = ENTRY.pack, []
    for key_hash, offset, store_ms in keys:
        slot = key_hash % slots
        before = numbers[slot]
        if before == 0:
            used += 1
        numbers[slot] = number
        dirty[slot // PAGE_SLOTS] = 1
        seconds = (store_ms - begin_ms) // 1000 if store_ms > begin_ms > 0 else 0
        entries.append(
            pack(key_hash, offset, seconds if seconds < MAX_SECONDS else MAX_SECONDS, before)
        )
        number += 1
    return b"".join(entries), used


class IndexBuilder:
    """Chains new entries in memory; `write` brings them to the file.

    One thread at a time: nothing is linked or searched while a write runs.

    Attributes:
        file: on disk, with all entries below number `flushed`.
        header: counts also what waits.
        flushed: number of the first entry that waits.
    """

    def __init__(self, file: IndexFile, header: Header) -> None:
        """Go on with a file; `load` reads its slots when it is not empty."""
        self.file = file
        self.header = header
        self.flushed = header.next_entry
        self._shape = file.shape
        self._slots = _Slots(file.shape.slots)
        self._waiting = bytearray()

    def load(self) -> None:
        """Read the slots; may wait for the disk.

        Raises:
            DamagedError: they lead to entries that are not there.
        """
        self._slots.load(self.file, self.header.next_entry)

    @property
    def room(self) -> int:
        """How many more entries the file can take."""
        return self._shape.entries - self.header.next_entry

    @property
    def waiting(self) -> int:
        """Entries that are not in the file yet."""
        return self.header.next_entry - self.flushed

    def link(self, keys: Sequence[HashedKey]) -> None:
        """Add keys in the order of the log, no more than there is room for."""
        header = self.header
        assert len(keys) <= self.room
        if not keys:
            return
        if header.next_entry == 1:
            _, begin_pos, begin_ms = keys[0]
            header = header._replace(begin_pos=begin_pos, begin_ms=begin_ms)
        entries, used = chained(
            keys, self._slots.numbers, self._slots.dirty, header.next_entry, header.begin_ms
        )
        self._waiting += entries
        _, end_pos, end_ms = keys[-1]
        self.header = header._replace(
            end_ms=end_ms,
            end_pos=end_pos,
            used_slots=header.used_slots + used,
            next_entry=header.next_entry + len(keys),
        )

    def write(self) -> None:
        """Bring what waits to the file; may wait for the disk.

        Raises:
            DiskFullError: no room; everything waits on.
        """
        if not self.waiting:
            return
        self.file.write(self.header, self.flushed, bytes(self._waiting), self._slots.runs())
        self.flushed = self.header.next_entry
        self._waiting.clear()
        self._slots.dirty = bytearray(len(self._slots.dirty))

    def search(self, search: Search) -> int:
        """Add what waits; the number to go on with in the file, 0 for none.

        Raises:
            DamagedError: a chain leads nowhere.
        """
        header = self.header
        if not search.may_be_in(header.begin_ms, header.end_ms):
            return 0
        head = self._slots.numbers[search.hash % self._shape.slots]
        try:
            return follow(
                search, header, self._shape.slots, head, self._waiting_entry, down_to=self.flushed
            )
        except ValueError as e:
            raise DamagedError(self.file.path, 0, f"entry {e.args[0]} in memory") from e

    def _waiting_entry(self, number: int) -> bytearray:
        at = (number - self.flushed) * ENTRY_BYTES
        return self._waiting[at : at + ENTRY_BYTES]

    def close(self) -> None:
        """Give the memory back."""
        self._slots.close()
