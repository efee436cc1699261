"""Reading a log: nothing leaves it that is not what was written."""

from ledgermq.dledger.errors import DamagedError, StorageError

from . import entry
from .begin import Begin
from .entry_index import EntryIndex, IndexUnit
from .hard_state import Mark
from .segments import Segments


class LogReader:
    """Finds entries and checks them.

    Attributes:
        begin: where the log begins.
        end_index: last entry, begin.index - 1 when empty. Invariant: contiguous from the begin.
        end_pos: byte after it; the next entry lands here or at the start of the next segment.
        chain: chain value of the last entry.
    """

    def __init__(self, data: Segments, index: EntryIndex, begin: Begin, mark: Mark) -> None:
        """A log from `begin` to `mark`."""
        self.data = data
        self.index = index
        self.begin = begin
        self.end_index = mark.index
        self.end_pos = mark.pos
        self.chain = mark.chain
        self._firsts: dict[int, int] = {}

    # --- places -------------------------------------------------------------------------------

    def next_pos(self, end_pos: int) -> int:
        """Where the entry behind `end_pos` starts, if there is one."""
        if not entry.is_blank(self.data.read(end_pos, entry.BLANK_BYTES)):
            return end_pos
        return end_pos + self.data.segment_bytes - end_pos % self.data.segment_bytes

    def segment_begins(self) -> list[tuple[int, int]]:
        """(start in bytes, index of its first entry) of each segment that has one.

        Raises:
            DamagedError: see `first_index_in`.
        """
        bases = [b for b in self.data.bases if self.begin.pos <= b < self.end_pos]
        return [(base, self.first_index_in(base)) for base in bases]

    def first_index_in(self, base: int) -> int:
        """Index of the first entry in the segment that starts at `base`.

        Raises:
            DamagedError: there is none.
        """
        if base == self.begin.pos:
            return self.begin.index
        if base not in self._firsts:
            try:
                header = entry.decode(self.data.read(base, entry.HEADER_BYTES))
            except entry.EntryError as e:
                raise self._damaged(base, e.remark) from e
            if header.pos != base or not self.begin.index < header.log_index <= self.end_index:
                raise self._damaged(base, "another entry lies here")
            self._firsts[base] = header.log_index
        return self._firsts[base]

    def _forget_firsts(self) -> None:
        """Segments were dropped at either end."""
        kept = range(self.begin.pos, self.end_pos)
        self._firsts = {base: index for base, index in self._firsts.items() if base in kept}

    def _unit(self, index: int) -> IndexUnit:
        unit = self.index.get(index)
        if unit is None:
            if index < self.begin.index:
                raise self._not_held(index)
            raise self.index.damage(index)
        return unit

    def _header(self, index: int) -> entry.EntryHeader:
        unit = self._unit(index)
        what = f"entry {index} is not here"
        try:
            header = entry.decode(self.data.read(unit.pos, entry.HEADER_BYTES))
            if (header.log_index, header.pos, header.size) == (index, unit.pos, unit.size):
                return header
        except entry.EntryError as e:
            what = e.remark
        raise self._blame(unit, what)

    def _end_before(self, index: int) -> tuple[int, int]:
        """(byte after entry `index` - 1, its chain value).

        Raises:
            DamagedError: it is not where the index says.
        """
        if index == self.begin.index:
            return self.begin.pos, self.begin.chain
        header = self._header(index - 1)
        return header.pos + header.size, header.chain_crc

    # --- blame --------------------------------------------------------------------------------

    def _not_held(self, index: int) -> StorageError:
        return StorageError(
            f"{self.data.folder}: entry {index} is not in the log, which holds"
            f" {self.begin.index}..{self.end_index}"
        )

    def _damaged(self, pos: int, what: str) -> DamagedError:
        return DamagedError(
            self.data.path_of(pos),
            pos % self.data.segment_bytes,
            f"{what}. Restart the node: the leader fills it again, while a majority of the others"
            " runs",
        )

    def _blame(self, unit: IndexUnit, what: str) -> StorageError:
        """The error for what was not found at a unit's place: the data is broken, or the unit."""
        if unit.log_index < self.begin.index:
            return self._not_held(unit.log_index)  # dropped while it was read
        try:
            end_pos, chain = self._end_before(unit.log_index)
        except StorageError:
            return self._damaged(unit.pos, what)
        pos = self.next_pos(end_pos)
        try:
            header = entry.decode(self.data.read(pos, entry.HEADER_BYTES))
            entry.check(header, self.data.read(pos + entry.HEADER_BYTES, header.body_len), chain)
        except entry.EntryError:
            return self._damaged(pos, what)
        return self.index.damage(unit.log_index)

    def _blame_chain(self, unit: IndexUnit, what: str) -> StorageError:
        """The error for an entry that does not check: it, or the chain value before it."""
        first, blamed = unit.log_index, self._blame(unit, what)
        while first > self.begin.index + 1:
            before = self._header(first - 1)
            body = self.data.read(before.pos + entry.HEADER_BYTES, before.body_len)
            try:
                entry.check(before, body, self._end_before(first - 1)[1])
            except entry.EntryError as e:
                first, blamed = first - 1, self._damaged(before.pos, e.remark)
            else:
                break
        return blamed

    # --- reading ------------------------------------------------------------------------------

    def read_entries(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int]:
        """(encoded entries, last index) from `first` on: at least one, within one segment.

        May read from the disk. What it returns is as it was written: followers would refuse it
        otherwise, and each of them would suffer from this node's bad disk.

        Raises:
            DamagedError: what lies there is not the entry asked for.
            StorageError: the log does not hold `first`.
        """
        if not self.begin.index <= first <= self.end_index:
            raise self._not_held(first)
        unit = self._unit(first)
        chain = self._end_before(first)[1]
        data = self.data.read(unit.pos, max(max_bytes, unit.size))
        end, reached, problem = 0, first - 1, ""
        try:
            while reached < last and end + entry.HEADER_BYTES <= len(data):
                header = entry.decode(data, end)
                stop = end + header.size
                if header.log_index != reached + 1 or header.pos != unit.pos + end:
                    break
                if stop > len(data):
                    break
                chain = entry.check(
                    header, memoryview(data)[end + entry.HEADER_BYTES : stop], chain
                )
                end, reached = stop, header.log_index
        except entry.EntryError as e:
            problem = e.remark
        if reached < first:
            raise self._blame_chain(unit, problem or f"entry {first} is not here, or cut short")
        return data[:end], reached

    def verify(self, first: int, max_bytes: int) -> int:
        """Check some entries from `first` on and their index units; where to go on.

        May read from the disk and run in a thread.

        Raises:
            DamagedError: one of them is not what was written.
        """
        if first > self.end_index:
            return first
        data, reached = self.read_entries(first, self.end_index, max_bytes)
        self.index.check_all([header for _, header in entry.walk(data)])
        return reached + 1
