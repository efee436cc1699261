"""The log on disk: entries in segments, their index, and how far it is known to be durable.

Not thread safe, but for `sync` and `read_entries`, which may run in a thread.
"""

import logging
from dataclasses import replace

from ledgermq.dledger.errors import (
    CallerError,
    DamagedError,
    DiskFullError,
    InvariantError,
    StorageError,
)

from . import entry
from .entry_index import EntryIndex, IndexUnit
from .hard_state import Mark, MarkFile
from .segments import Segments
from .tail_cache import TailCache
from .zero_ahead import ZeroAhead

log = logging.getLogger(__name__)


class Ledger:
    """Append, truncate, read. `recovery.open_ledger` makes one.

    Attributes:
        end_index: last entry, NONE when empty. Invariant: contiguous from 0.
        end_pos: byte after it; the next entry lands here or at the start of the next segment.
        chain: chain value of the last entry.
    """

    def __init__(self, data: Segments, index: EntryIndex, marks: MarkFile, mark: Mark) -> None:
        """Open at `mark`, whose entry is the last."""
        self.data = data
        self.index = index
        self.marks = marks
        self.end_index = mark.index
        self.end_pos = mark.pos
        self.chain = mark.chain
        self.cache = TailCache()
        # Rises with every cut: a sync begun before it proves nothing past it.
        self.epoch = 0
        # Set by a member that syncs before it counts an entry.
        self.zero_ahead: ZeroAhead | None = None
        self._pending: list[bytes] = []
        self._pending_start = 0
        self._writes: list[tuple[int, bytes]] = []
        # Places of failed writes that could not be zeroed.
        self._litter: list[tuple[int, int]] = []
        self._staged = mark.index
        self._staged_pos = mark.pos
        self._staged_chain = mark.chain

    # --- the leader's appends -----------------------------------------------------------------

    def reserve(self, body_bytes: int) -> int:
        """Where the next entry will lie: its pos in bytes; the body starts 48 bytes on.

        Source of the rule: an entry never crosses a segment, and 8 bytes stay free for the marker.

        Raises:
            CallerError: no segment can hold it.
        """
        size = entry.HEADER_BYTES + body_bytes
        if body_bytes < 1 or not self._fits(size):
            raise CallerError(
                f"a record of {body_bytes} bytes cannot be stored; one has at least 1 byte and at"
                f" most {self.data.segment_bytes - entry.HEADER_BYTES - entry.BLANK_BYTES}"
                " (mappedFileSizeCommitLog)"
            )
        return self._place(size)

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
        pos = self.reserve(len(body))
        self._staged += 1
        head, chain = entry.encode(self._staged, term, pos, body, self._staged_chain)
        self._stage_bytes(pos, (head, body), entry.HEADER_BYTES + len(body), term)
        self._staged_chain = chain
        return self._staged

    def _stage_bytes(self, pos: int, parts: tuple[bytes, ...], size: int, term: int) -> None:
        if pos != self._staged_pos:
            self._close_run()
            self._writes.append((self._staged_pos, entry.blank(pos - self._staged_pos)))
            self._staged_pos = pos
        if not self._pending:
            self._pending_start = pos
        self._pending.extend(parts)
        self.index.append(pos, size, self._staged, term)
        self._staged_pos = pos + size

    def _close_run(self) -> None:
        if self._pending:
            self._writes.append((self._pending_start, b"".join(self._pending)))
            self._pending = []

    def write_staged(self) -> int:
        """Write what was staged (not synced); return how many entries.

        Raises:
            DiskFullError: nothing was appended.
        """
        self._close_run()
        writes, self._writes = self._writes, []
        first, count = self.end_index + 1, self._staged - self.end_index
        if not count:
            return 0
        if self.zero_ahead is not None:
            self.zero_ahead.before_write(self._staged_pos)
        try:
            self._sweep()
            for pos, data in writes:
                self.data.write(pos, data)
        except DiskFullError:
            self._undo_staged(writes)
            raise
        data = writes[0][1] if len(writes) == 1 else b"".join(d for _, d in writes if len(d) > 8)
        self.cache.add(first, self._staged, data)
        self.end_index, self.end_pos = self._staged, self._staged_pos
        self.chain = self._staged_chain
        self._flush_index()
        if self.zero_ahead is not None:
            self.zero_ahead.after_write(self.end_pos)
        return count

    def _flush_index(self) -> None:
        """Write out units when there are many; without room for them they stay in memory."""
        if self.index.needs_flush:
            try:
                self.index.flush()
            except DiskFullError as e:
                # The entries are in the log: this must not look like a failed append.
                log.error("the entry index stays behind: %s", e)

    def _undo_staged(self, writes: list[tuple[int, bytes]]) -> None:
        """Take staged entries back after a failed write; leave zeros where bytes may be."""
        self.drop_staged()
        self._litter.extend((pos, pos + len(data)) for pos, data in writes)
        try:
            self._sweep()
        except DiskFullError as e:
            # A file system that never writes in place; to be done before the next append.
            log.error("%s", e)

    def _sweep(self) -> None:
        """Zero what failed writes have left: it must not lie behind later entries."""
        while self._litter:
            self.data.wipe(*self._litter[-1])
            self._litter.pop()

    # --- the follower's appends ---------------------------------------------------------------

    def append_copied(self, data: bytes, first: int) -> None:
        """Append the leader's entries from index `first` on; earlier ones are skipped.

        Raises:
            EntryError: they do not continue this log; nothing was appended.
            DiskFullError: no room; nothing was appended.
        """
        try:
            for at, header in entry.walk(data):
                if header.log_index >= first:
                    self._copy_one(data, at, header)
        except entry.EntryError:
            self.drop_staged()
            raise
        self.write_staged()

    def _copy_one(self, data: bytes, at: int, header: entry.EntryHeader) -> None:
        pos = self._place(header.size) if self._fits(header.size) else -1
        if header.log_index != self._staged + 1 or header.pos != pos:
            raise entry.EntryError(
                f"entry {header.log_index} at {header.pos} does not follow entry {self._staged},"
                f" which ends at {self._staged_pos}"
            )
        body = memoryview(data)[at + entry.HEADER_BYTES : at + header.size]
        chain = entry.check(header, body, self._staged_chain)
        self._staged += 1
        self._stage_bytes(pos, (data[at : at + header.size],), header.size, header.term)
        self._staged_chain = chain

    def drop_staged(self) -> None:
        """Forget what was staged and not written."""
        self._pending.clear()
        self._writes.clear()
        self.index.truncate(self.end_index + 1, self._staged + 1)
        self._staged, self._staged_pos = self.end_index, self.end_pos
        self._staged_chain = self.chain

    # --- cutting ------------------------------------------------------------------------------

    def truncate(self, first: int) -> None:
        """Cut `first` and everything behind it; the cut is on disk when this returns.

        The mark says what is being cut before the first byte changes: after a crash in between
        nobody can tell a half done cut from damage.

        Raises:
            StorageError: the cut may be incomplete; stop the node.
        """
        if first > self.end_index:
            return
        self.epoch += 1
        if self.zero_ahead is not None:
            self.zero_ahead.settle()
        end_pos, chain = self._end_before(first)
        old = self.marks.mark
        kept = Mark(first - 1, end_pos, chain, min(old.commit, first - 1))
        if old.index < first:
            kept = replace(old, clean=False)
        self.marks.save(replace(kept, cut=first))
        self._destroy(first, end_pos)
        self.end_index, self.end_pos, self.chain = first - 1, end_pos, chain
        self._staged, self._staged_pos, self._staged_chain = first - 1, end_pos, chain
        if self.zero_ahead is not None:
            self.zero_ahead.cut(end_pos)
        self.marks.save(kept)

    def _destroy(self, first: int, end_pos: int) -> None:
        """Remove the bytes of `first` and all behind it, on disk too."""
        pos, segment_bytes = self._unit(first).pos, self.data.segment_bytes
        following = pos - pos % segment_bytes + segment_bytes
        try:
            self.data.drop_from(following)
            self.data.zero(end_pos, min(self.end_pos, following))
            self.index.truncate(first, self.end_index + 1)
            self.cache.truncate(first)
            self.data.sync()
        except (DiskFullError, OSError) as e:
            raise StorageError(f"{self.data.folder}: the cut of entry {first} failed: {e}") from e

    def _end_before(self, index: int) -> tuple[int, int]:
        """(byte after entry `index` - 1, its chain value).

        Raises:
            DamagedError: it is not where the index says.
        """
        if index == 0:
            return 0, 0
        unit = self._unit(index - 1)
        try:
            head = entry.decode(self.data.read(unit.pos, entry.HEADER_BYTES))
        except entry.EntryError as e:
            raise self._damage(unit, e.remark) from e
        if head.log_index != index - 1 or head.size != unit.size:
            raise self._damage(unit, f"entry {index - 1} is not here")
        return unit.pos + unit.size, head.chain_crc

    def _damage(self, unit: IndexUnit, what: str) -> DamagedError:
        return DamagedError(
            self.data.path_of(unit.pos),
            unit.pos % self.data.segment_bytes,
            f"{what}. Move this store away and let the node be filled from the leader, while all"
            " others run; if only the"
            f" entry index {self.index.segments.folder} is broken, remove that",
        )

    def _unit(self, index: int) -> IndexUnit:
        unit = self.index.get(index)
        if unit is None:
            raise StorageError(f"{self.index.segments.folder}: no unit of entry {index}")
        return unit

    # --- reading ------------------------------------------------------------------------------

    def cached_entries(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int] | None:
        """`read_entries` from memory, or None when they are no longer there."""
        return self.cache.get(first, last, max_bytes)

    def read_entries(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int]:
        """(encoded entries, last index) from `first` on: at least one, within one segment.

        May read from the disk. What it returns is as it was written: followers would refuse it
        otherwise, and each of them would suffer from this node's bad disk.

        Raises:
            DamagedError: what lies there is not the entry asked for.
        """
        unit = self._unit(first)
        chain = self._end_before(first)[1]
        data = self.data.read(unit.pos, max(max_bytes, unit.size))
        end, reached, problem = 0, first - 1, ""
        try:
            while reached < last and end + entry.HEADER_BYTES <= len(data):
                header = entry.decode(data, end)
                stop = end + header.size
                if header.log_index != reached + 1 or header.pos != unit.pos + end:
                    problem = f"entry {reached + 1} is not here"
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
            raise self._damage(unit, problem or f"entry {first} is cut short")
        return data[:end], reached

    # --- durability ---------------------------------------------------------------------------

    def sync(self) -> None:
        """Put the data written so far on disk. May run in a thread."""
        self.data.sync()

    def prepare_mark(self, commit: int, *, clean: bool = False) -> Mark | None:
        """The mark of the present end, None when it is the stored one; then `commit_mark`."""
        self.index.flush()
        mark = Mark(self.end_index, self.end_pos, self.chain, min(commit, self.end_index), clean)
        return None if self.marks.present and mark == self.marks.mark else mark

    def commit_mark(self, mark: Mark, epoch: int) -> None:
        """Put data and index on disk, then the mark that says so. May run in a thread."""
        self.data.sync()
        self.index.segments.sync()
        if epoch == self.epoch:
            self.marks.save(mark)

    def save_mark(self, commit: int, *, clean: bool = False) -> None:
        """Record that everything up to the end, data and index, is on disk."""
        mark = self.prepare_mark(commit, clean=clean)
        if mark is not None:
            self.commit_mark(mark, self.epoch)

    def close(self, commit: int) -> None:
        """Stop cleanly: mark and close."""
        if self._staged != self.end_index:
            raise InvariantError("closed with staged entries")
        try:
            if self.zero_ahead is not None:
                self.zero_ahead.settle()
            self.save_mark(commit, clean=True)
        except DiskFullError as e:
            log.error("the durable mark stays behind: %s", e)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files, promise nothing: the next start looks for the end itself."""
        self.index.close()
        self.data.close()
        self.marks.close()
