"""The log on disk: entries in segments, their index, and how far it is known to be durable.

Not thread safe, but for `sync`, `read_entries` and `verify`, which may run in a thread.
"""

import logging
from dataclasses import replace

from ledgermq.dledger.errors import (
    DamagedError,
    DiskFullError,
    InvariantError,
    StorageError,
    storage_error,
)
from ledgermq.dledger.ids import NONE, Standing

from . import entry
from .begin import Begin, BeginFile
from .clean_writes import CleanWrites
from .entry_index import EntryIndex
from .hard_state import Mark, MarkFile
from .segments import Segments
from .staging import StagedLog
from .tail_cache import TailCache
from .walked import Walked
from .zero_ahead import ZeroAhead

log = logging.getLogger(__name__)


class Ledger(StagedLog):
    """Append, cut at either end, read. `recovery.open_ledger` makes one.

    Attributes:
        damage: what was found broken at the start; the log ends before it.
        standing_hint: what that means for the node's vote.
    """

    def __init__(
        self, data: Segments, index: EntryIndex, marks: MarkFile, begins: BeginFile, mark: Mark
    ) -> None:
        """Open at `mark`, whose entry is the last."""
        super().__init__(data, index, begins.begin, mark)
        self.marks = marks
        self.begins = begins
        self.damage: DamagedError | None = None
        self.standing_hint = Standing.MEMBER
        self.cache = TailCache()
        # Rises with every cut: a sync begun before it proves nothing past it.
        self.epoch = 0
        # Set by a member that syncs before it counts an entry.
        self.zero_ahead: ZeroAhead | None = None
        # What lies behind the end in the files is not of this log. It stays until something
        # better comes: until then it is the only trace of what was there.
        self.untidy = False
        self._clean_writes = CleanWrites(data, sync_zeros=True)

    # --- the leader's appends -----------------------------------------------------------------

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
        if self.untidy:
            self._tidy()
        try:
            self._clean_writes.write(writes)
        except DiskFullError:
            self.drop_staged()
            raise
        data = writes[0][1] if len(writes) == 1 else b"".join(d for _, d in writes if len(d) > 8)
        self.cache.add(first, self._staged, data)
        self._advance()
        if self.zero_ahead is not None:
            self.zero_ahead.after_write(self.end_pos)
        return count

    def _advance(self) -> None:
        """What was staged is in the files. Units that find no room stay in memory."""
        self.end_index, self.end_pos = self._staged, self._staged_pos
        self.chain = self._staged_chain
        if self.index.needs_flush:
            try:
                self.index.flush()
            except DiskFullError as e:
                # The entries are in the log: this must not look like a failed append.
                log.error("the entry index stays behind: %s", e)

    # --- the follower's appends ---------------------------------------------------------------

    def append_copied(self, data: bytes, first: int, found: Walked | None = None) -> None:
        """Append the leader's entries from index `first` on; earlier ones are skipped.

        Args:
            data: entries, one behind the other.
            first: index of the first one to append.
            found: the entries in `data`, when they are known.

        Raises:
            EntryError: they do not continue this log; nothing was appended.
            DiskFullError: no room; nothing was appended.
        """
        try:
            if found is None:
                found = Walked(data)
            known = 0
            while known < len(found) and found[known][1].log_index < first:
                known += 1
            self.stage_copies(found, known)
        except entry.EntryError:
            self.drop_staged()
            raise
        self.write_staged()

    def keep_staged(self, *, durable: bool) -> None:
        """What was staged lies in the files already. Unless it is `durable`, it is written anew.

        Raises:
            DiskFullError: it could not be; the entries in the files are as they were, but this
                object is of no use any more.
        """
        self._close_run()
        writes, self._writes = self._writes, []
        if not durable:
            for pos, data in writes:
                self.data.write(pos, data)
        self._advance()

    # --- cutting ------------------------------------------------------------------------------

    def truncate(self, first: int) -> None:
        """Cut `first` and everything behind it; the cut is on disk when this returns.

        Raises:
            InvariantError: `first` lies before the log's begin.
            DamagedError: the entry before it is not what was written; nothing was cut.
            StorageError: the cut may be incomplete; stop the node.
        """
        if first > self.end_index:
            return
        if first < self.begin.index:
            raise InvariantError(f"cut from {first} of a log that begins at {self.begin.index}")
        self._check_last_kept(first - 1)
        self.epoch += 1
        if self.zero_ahead is not None:
            self.zero_ahead.settle()
        if self.untidy:
            self._tidy()
        end_pos, chain = self._end_before(first)
        self._cut(first, end_pos, chain, self.end_pos)
        self.cache.truncate(first)
        self._stand_at(first - 1, end_pos, chain)

    def _check_last_kept(self, index: int) -> None:
        """Entry `index` will be vouched for by its place and chain value alone: is it right?

        Raises:
            DamagedError: it is not what was written.
        """
        if index >= self.begin.index:
            self.read_entries(index, index, 1)

    def _stand_at(self, end_index: int, end_pos: int, chain: int) -> None:
        """The log ends here now, and nothing is staged."""
        self.end_index, self.end_pos, self.chain = end_index, end_pos, chain
        self._staged, self._staged_pos, self._staged_chain = end_index, end_pos, chain
        self._reserved = (-1, 0)
        self._forget_firsts()
        if self.zero_ahead is not None:
            self.zero_ahead.cut(end_pos)

    def _cut(self, first: int, end_pos: int, chain: int, old_end_pos: int | None) -> None:
        """Remove the bytes of entry `first` and of all behind it, on disk too.

        The mark says what is being cut before the first byte changes: after a crash in between
        nobody can tell a half done cut from damage.

        Args:
            first: goes, with all behind it.
            end_pos: byte after entry `first` - 1.
            chain: chain value of that entry.
            old_end_pos: byte after the last entry; None: something may lie anywhere.
        """
        old = self.marks.mark
        kept = Mark(first - 1, end_pos, chain, min(old.commit, first - 1))
        if old.index < first:
            kept = replace(old, clean=False)
        self.marks.save(replace(kept, cut=first))
        following = end_pos - end_pos % self.data.segment_bytes + self.data.segment_bytes
        try:
            self.data.drop_from(following)
            if old_end_pos is None:
                self.data.clear_after(end_pos)
                self.index.clear_after(first)
            else:
                self.data.zero(end_pos, min(old_end_pos, following))
                self.index.truncate(first, self.end_index + 1)
            self.data.sync()
        except (DiskFullError, OSError) as e:
            raise StorageError(f"{self.data.folder}: the cut of entry {first} failed: {e}") from e
        self.marks.save(replace(kept, cut=NONE))

    def _tidy(self) -> None:
        """Remove what lies behind the end and is not of this log.

        Raises:
            DiskFullError: the entry index could not be written; nothing has changed.
        """
        if self.begin != self.begins.begin or self.begins.damage is not None:
            self._empty_files(self.begin)
        else:
            # The mark will say that all up to the end is on disk.
            try:
                self.index.flush(self.end_index + 1)
            except DiskFullError:
                self.drop_staged()
                raise
            self.data.sync()
            self.index.segments.sync()
            self._cut(self.end_index + 1, self.end_pos, self.chain, None)
        self.untidy = False

    def reset(self, begin: Begin) -> None:
        """Forget every entry, and go on at `begin`; all on disk when this returns.

        Raises:
            StorageError: stop the node; the next start finishes it.
        """
        self.epoch += 1
        if self.zero_ahead is not None:
            self.zero_ahead.settle()
        self.drop_staged()
        self._clean_writes.forget()
        self._empty_files(begin)
        self.index.start_at(begin.index)
        self.cache.clear()
        self.begin, self.untidy = begin, False
        self._stand_at(begin.index - 1, begin.pos, begin.chain)

    def _empty_files(self, begin: Begin) -> None:
        """Remove all files; the flag has this done again after a crash."""
        self.begins.save(begin, resetting=True)
        try:
            self.data.drop_from(0)
            self.index.segments.drop_from(0)
        except OSError as e:
            raise storage_error(e, self.data.folder, "removal of files") from e
        self.marks.save(Mark(begin.index - 1, begin.pos, begin.chain, begin.index - 1))
        self.begins.save(begin)

    def move_begin(self, index: int) -> None:
        """Drop the entries before `index`, the first of a segment, which must be in the log.

        The new begin is on disk before the first file goes: a start drops what is left before it.

        Raises:
            InvariantError: `index` is not such an entry.
            DamagedError: the last one that goes is not what was written, so nobody can tell what
                the first one that stays continues.
            StorageError: stop the node.
        """
        if index == self.begin.index:
            return
        if not self.begin.index < index <= self.end_index:
            raise InvariantError(f"{self._not_held(index)}; it cannot begin there")
        pos, before = self._header(index).pos, self._header(index - 1)
        if pos % self.data.segment_bytes:
            raise InvariantError(f"entry {index} at {pos} is not the first of its file")
        self._check_last_kept(index - 1)
        begin = Begin(index, pos, before.term, before.chain_crc)
        self.begins.save(begin)
        self.begin = begin
        self._forget_firsts()
        self.drop_before_begin()

    def drop_before_begin(self) -> None:
        """Remove the files that lie before the begin."""
        try:
            self.data.drop_below(self.begin.pos)
            self.index.drop_below(self.begin.index)
        except OSError as e:
            raise storage_error(e, self.data.folder, "removal of files") from e

    # --- reading ------------------------------------------------------------------------------

    def cached_entries(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int] | None:
        """`read_entries` from memory, or None when they are no longer there."""
        return self.cache.get(first, last, max_bytes)

    # --- durability ---------------------------------------------------------------------------

    def sync(self) -> None:
        """Put the data written so far on disk. May run in a thread."""
        self.data.sync()

    def prepare_mark(self, commit: int, *, clean: bool = False) -> Mark | None:
        """The mark of the present end, None when it is the stored one; then `commit_mark`.

        None also before the first change to a log that was found broken: the stored mark is what
        tells the next start that something is missing.
        """
        if self.untidy:
            return None
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
            self.data.sync()
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
        self.begins.close()
