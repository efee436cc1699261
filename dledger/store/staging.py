"""Entries that were given their place in the log and are not written yet."""

from collections.abc import Iterable, Sequence

from ledgermq.dledger.errors import CallerError

from . import entry
from .begin import Begin
from .entry_index import EntryIndex
from .hard_state import Mark
from .reading import LogReader
from .segments import Segments
from .walked import Walked, encode_run


class StagedLog(LogReader):
    """A log, and what is to be written behind its end in one go."""

    def __init__(self, data: Segments, index: EntryIndex, begin: Begin, mark: Mark) -> None:
        """Nothing is staged."""
        super().__init__(data, index, begin, mark)
        self._pending: list[entry.Buffer] = []
        self._pending_start = 0
        self._writes: list[tuple[int, bytes]] = []
        self._staged = mark.index
        self._staged_pos = mark.pos
        self._staged_chain = mark.chain
        # (size of a body, place of its entry) as `reserve` told them, until something changes.
        self._reserved = (-1, 0)

    @property
    def staged_index(self) -> int:
        """The last entry, staged ones included."""
        return self._staged

    def reserve(self, body_bytes: int) -> int:
        """Where the next entry will lie: its pos in bytes; the body starts 48 bytes on.

        Source of the rule: an entry never crosses a segment, and 8 bytes stay free for the marker.

        Raises:
            CallerError: no segment can hold it.
        """
        size = entry.HEADER_BYTES + body_bytes
        if body_bytes < 1 or not self._fits(size):
            raise self._misfit(body_bytes)
        pos = self._place(size)
        self._reserved = (body_bytes, pos)
        return pos

    def reserve_run(self, body_sizes: Iterable[int]) -> list[int]:
        """`reserve` for entries that follow each other: the pos of each."""
        segment_bytes, pos = self.data.segment_bytes, self._staged_pos
        places: list[int] = []
        for body_bytes in body_sizes:
            size = entry.HEADER_BYTES + body_bytes
            if body_bytes < 1 or not self._fits(size):
                raise self._misfit(body_bytes)
            left = segment_bytes - pos % segment_bytes
            if size + entry.BLANK_BYTES > left:
                pos += left
            places.append(pos)
            pos += size
        return places

    def _misfit(self, body_bytes: int) -> CallerError:
        return CallerError(
            f"a record of {body_bytes} bytes cannot be stored; one has at least 1 byte and at"
            f" most {self.data.segment_bytes - entry.HEADER_BYTES - entry.BLANK_BYTES}"
            " (mappedFileSizeCommitLog)"
        )

    def _fits(self, size: int) -> bool:
        return size + entry.BLANK_BYTES <= self.data.segment_bytes

    def _place(self, size: int) -> int:
        left = self.data.segment_bytes - self._staged_pos % self.data.segment_bytes
        if size + entry.BLANK_BYTES <= left:
            return self._staged_pos
        return self._staged_pos + left

    def stage(self, term: int, body: bytes) -> int:
        """Prepare one entry at the place `reserve` named; return its index.

        Nothing is written before `write_staged`.
        """
        size, pos = self._reserved
        if size != len(body):
            pos = self.reserve(len(body))
        self._staged += 1
        head, chain = entry.encode(self._staged, term, pos, body, self._staged_chain)
        size = entry.HEADER_BYTES + len(body)
        self.index.append(pos, size, self._staged, term)
        self._stage_bytes(pos, (head, body), size)
        self._staged_chain = chain
        return self._staged

    def stage_run(self, term: int, bodies: Sequence[bytes]) -> int:
        """`stage` entries that follow each other, at least one; the index of the last.

        Raises:
            CallerError: no segment can hold one of them; nothing was staged.
        """
        places = self.reserve_run(map(len, bodies))
        begin, segment_bytes = 0, self.data.segment_bytes
        while begin < len(bodies):
            pos, end = places[begin], begin + 1
            while end < len(bodies) and places[end] // segment_bytes == pos // segment_bytes:
                end += 1
            data, units, chain = encode_run(
                self._staged + 1, term, pos, bodies[begin:end], self._staged_chain
            )
            self.index.extend(units)
            self._staged += end - begin
            self._stage_bytes(pos, (data,), len(data))
            self._staged_chain = chain
            begin = end
        return self._staged

    def _stage_bytes(self, pos: int, parts: tuple[entry.Buffer, ...], size: int) -> None:
        self._reserved = (-1, 0)
        if pos != self._staged_pos:
            self._close_run()
            self._writes.append((self._staged_pos, entry.blank(pos - self._staged_pos)))
            self._staged_pos = pos
        if not self._pending:
            self._pending_start = pos
        self._pending.extend(parts)
        self._staged_pos = pos + size

    def _close_run(self) -> None:
        if self._pending:
            self._writes.append((self._pending_start, b"".join(self._pending)))
            self._pending = []

    def stage_copies(self, found: Walked, n: int = 0) -> None:
        """`stage_copy` of the entries from number `n` on.

        Raises:
            EntryError: one does not continue this log; those before it stay staged.
        """
        while n < len(found):
            n += self._stage_run(found, n)
            if n < len(found):
                # Of another file, of Java, or wrong.
                self.stage_copy(memoryview(found.data), *found[n])
                n += 1

    def _stage_run(self, found: Walked, n: int) -> int:
        """Stage the entries from number `n` on, as many as are plainly right; how many."""
        pos = self._staged_pos
        room = self.data.segment_bytes - pos % self.data.segment_bytes - entry.BLANK_BYTES
        count, chain = found.plain_run(n, self._staged + 1, pos, room, self._staged_chain)
        if not count:
            return 0
        begin, (last, header) = found[n][0], found[n + count - 1]
        self._reserved = (-1, 0)
        if not self._pending:
            self._pending_start = pos
        self._pending.append(memoryview(found.data)[begin : last + header.size])
        self.index.extend(found.units(n, count))
        self._staged += count
        self._staged_pos, self._staged_chain = header.pos + header.size, chain
        return count

    def stage_copy(self, data: memoryview, at: int, header: entry.EntryHeader) -> None:
        """Prepare the entry that lies whole at `at` in `data`, as its leader made it.

        Raises:
            EntryError: it does not continue this log; what was staged before it stays.
        """
        size, index = header.size, self._staged + 1
        pos = self._place(size) if self._fits(size) else -1
        if header.log_index != index or header.pos != pos:
            raise entry.EntryError(
                f"entry {header.log_index} at {header.pos} does not follow entry {self._staged},"
                f" which ends at {self._staged_pos}"
            )
        chain = entry.check_whole(data, at, header, self._staged_chain)
        self._staged = index
        self.index.append(pos, size, index, header.term)
        self._stage_bytes(pos, (data[at : at + size],), size)
        self._staged_chain = chain

    def drop_staged(self) -> None:
        """Forget what was staged and not written."""
        self._pending.clear()
        self._writes.clear()
        self._reserved = (-1, 0)
        self.index.truncate(self.end_index + 1, self._staged + 1)
        self._staged, self._staged_pos = self.end_index, self.end_pos
        self._staged_chain = self.chain
