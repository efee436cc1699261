"""Opening a log after any kind of stop.

Up to the durable mark the log is known to be on disk. Past it, whole entries whose checksums
continue the chain are taken back and synced again before anything is promised on them (after a
failed fsync the page cache lies); the first one that is not ends the log. What that means depends
on the place (docs/adr/0003):

- at or below the mark: damage. The log ends before it, and the node must not vote;
- past the mark, with an intact entry behind it: the log may lack a tail it had acknowledged;
- past the mark, with nothing behind it: a torn tail, which nobody was told of.

In the first two cases the bytes behind the end stay as they are until the log changes: they are
the only trace of what was there.
"""

import logging
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from ledgermq.dledger.disk import Disk, OsDisk, ensure_folder
from ledgermq.dledger.errors import DamagedError, DiskFullError
from ledgermq.dledger.ids import NONE, Standing

from . import entry
from .begin import Begin, BeginFile
from .entry_index import EntryIndex
from .hard_state import Mark, MarkFile
from .ledger import Ledger
from .segments import Segments, naming
from .torn_tail import next_intact

log = logging.getLogger(__name__)

_READ_BYTES = 4 << 20


def open_ledger(
    folder: Path,
    segment_bytes: int,
    data_folder: Path | None = None,
    *,
    disk: Disk | None = None,
    suspect: int | None = None,
    snapshot_index: int | None = None,
) -> Ledger:
    """Open or create the log below `folder` (`data/`, `index/`, `mark`, `begin`).

    Args:
        folder: of the store.
        segment_bytes: size of its log files.
        data_folder: where those lie, when not in `folder`.
        disk: of this machine unless given.
        suspect: a byte of the log: everything from its segment on is verified.
        snapshot_index: up to where a snapshot replaces the log, NONE when there is none; without
            one that reaches the begin, the entries behind it are of no use. None: do not ask.

    Returns:
        The log; see its `damage` and `standing_hint`.

    Raises:
        CallerError: made with another segment size, or by a newer program.
        DiskFullError: entries past the mark could not be written again.
    """
    disk = disk or OsDisk()
    with naming(folder, "open"):
        ensure_folder(disk, folder)
    with ExitStack() as opened:
        marks = MarkFile(folder, disk)
        opened.callback(marks.close)
        begins = BeginFile(folder, disk)
        opened.callback(begins.close)
        # With a mark, the identity beside it vouches for the segment size.
        known_size = marks.present or marks.damage is not None
        data = Segments(
            data_folder or folder / "data", segment_bytes, mend_size=known_size, disk=disk
        )
        opened.callback(data.close)
        index = EntryIndex(folder / "index", disk)
        opened.callback(index.close)
        ledger = _Recovery(data, index, marks, begins).run(suspect, snapshot_index)
        opened.pop_all()
    return ledger


class _Recovery:
    """The files of a log on their way to a Ledger."""

    def __init__(
        self, data: Segments, index: EntryIndex, marks: MarkFile, begins: BeginFile
    ) -> None:
        self.data = data
        self.index = index
        self.marks = marks
        self.begins = begins

    def run(self, suspect: int | None, snapshot_index: int | None) -> Ledger:
        begin = self.begins.begin
        if self.begins.resetting:
            ledger = self._at(self._base)
            ledger.reset(begin)
            return ledger
        useless = self.begins.damage or self._without_snapshot(snapshot_index)
        if useless is not None:
            return self._forgotten(useless)
        if begin.index:
            self._at(self._base).drop_before_begin()
        ledger = self._recovered(self._start(suspect))
        if not _index_agrees(ledger):
            log.warning("%s: rebuilt from the data", self.index.segments.folder)
            ledger = self._recovered(self._base)
            if not _index_agrees(ledger):
                raise DamagedError(self.data.folder, 0, "the terms of its entries fall")
        self._judge(ledger)
        return ledger

    def _at(self, mark: Mark) -> Ledger:
        self.index.start_at(mark.index + 1)
        return Ledger(self.data, self.index, self.marks, self.begins, mark)

    @property
    def _base(self) -> Mark:
        """The place before the first entry: what is known when nothing else is."""
        begin = self.begins.begin
        commit = max(self.marks.mark.commit, begin.index - 1)
        return Mark(begin.index - 1, begin.pos, begin.chain, commit)

    # --- a log that is of no use --------------------------------------------------------------

    def _without_snapshot(self, snapshot_index: int | None) -> DamagedError | None:
        begin = self.begins.begin
        if snapshot_index is None or snapshot_index >= begin.index - 1:
            return None
        return DamagedError(
            self.data.path_of(begin.pos),
            0,
            f"the log begins at entry {begin.index}, and no intact snapshot holds the state before",
        )

    def _forgotten(self, damage: DamagedError) -> Ledger:
        """An empty log, which will be filled from the very beginning; the files stay for now."""
        self.index.start_at(0)
        ledger = Ledger(self.data, self.index, self.marks, self.begins, Mark())
        ledger.begin = Begin()
        _end_here(ledger, Standing.DAMAGED, damage)
        return ledger

    # --- where to start -----------------------------------------------------------------------

    def _start(self, suspect: int | None) -> Mark:
        """The mark, if data and entry index still reach it; else a place before it."""
        mark = self.marks.mark
        if mark.index < self.begins.begin.index:
            return self._base
        self.index.start_at(mark.index + 1)
        unit = self.index.get(mark.index)
        if unit is None or unit.pos + unit.size != mark.pos:
            log.warning("%s: rebuilt from the data", self.index.segments.folder)
            return self._base
        doubtful = self._incomplete(unit.pos) if suspect is None else suspect
        if doubtful is not None and doubtful <= unit.pos:
            return self._before(doubtful)
        header = _header(self.data, unit.pos)
        if header is None or (header.log_index, header.chain_crc) != (mark.index, mark.chain):
            return self._before(unit.pos)
        return mark

    def _incomplete(self, end: int) -> int | None:
        """First segment below `end` that is gone or has lost its end."""
        data = self.data
        wanted = range(self.begins.begin.pos, end, data.segment_bytes)
        return next((b for b in wanted if b not in data.whole), None)

    def _before(self, pos: int) -> Mark:
        """The end of the last segment before that of `pos` that an intact entry continues."""
        pos -= pos % self.data.segment_bytes
        for base in reversed([b for b in self.data.bases if self.begins.begin.pos < b <= pos]):
            found = self._end_before(base)
            if found is not None:
                return found
        return self._base

    def _end_before(self, base: int) -> Mark | None:
        """The end of the entry before the one at `base`, if both are intact."""
        header = _header(self.data, base)
        unit = self.index.get(header.log_index - 1) if header else None
        before = _header(self.data, unit.pos) if unit else None
        if header is None or before is None or before.log_index != header.log_index - 1:
            return None
        end_pos = before.pos + before.size
        if end_pos - end_pos % self.data.segment_bytes + self.data.segment_bytes != base:
            return None
        body = self.data.read(base + entry.HEADER_BYTES, header.body_len)
        try:
            entry.check(header, body, before.chain_crc)
        except entry.EntryError:
            return None
        return Mark(before.log_index, end_pos, before.chain_crc, self._base.commit)

    # --- taking back --------------------------------------------------------------------------

    def _recovered(self, start: Mark) -> Ledger:
        """Take what lies behind `start` in the files, up to a cut that was ordered."""
        ledger, mark = self._at(start), self.marks.mark
        wanted = None if mark.cut == NONE else mark.cut - 1
        if self.data.bases:
            if ledger.end_index < mark.index:
                _take(ledger, mark.index, durable=True)
            if ledger.end_index >= mark.index:
                _take(ledger, wanted, durable=False)
        return ledger

    def _judge(self, ledger: Ledger) -> None:
        """Is it all there? If so, what is behind the end goes, and a new mark is made."""
        mark, data = self.marks.mark, self.data
        pos = ledger.next_pos(ledger.end_pos)
        if ledger.end_index < mark.index:
            what = f"the log ends at entry {ledger.end_index}, but {mark.index} was on disk"
            _end_here(ledger, Standing.DAMAGED, _damage(data, pos, what))
            data.sync()
            return
        intact = next_intact(ledger) if mark.cut == NONE else None
        if intact is None:
            end_pos, size = ledger.end_pos, data.segment_bytes
            with naming(data.folder, "removal of files"):
                data.drop_from(end_pos - end_pos % size + size)
            data.clear_after(end_pos)
        self._save_mark(ledger, max(mark.commit, ledger.begin.index - 1))
        if intact is not None:
            what = f"entry {ledger.end_index + 1} is broken, entry {intact} behind it is not"
            _end_here(ledger, Standing.LOST, _damage(data, pos, what))

    def _save_mark(self, ledger: Ledger, commit: int) -> None:
        mark = self.marks.mark
        if mark.cut != NONE:
            # The next start must not cut again what is appended from now on.
            ledger.sync()
            self.marks.save(Mark(mark.index, mark.pos, mark.chain, mark.commit))
        try:
            ledger.save_mark(commit)
        except DiskFullError as e:
            log.error("the durable mark stays behind: %s", e)
            ledger.sync()


def _end_here(ledger: Ledger, standing: Standing, damage: DamagedError) -> None:
    ledger.untidy = True
    ledger.standing_hint, ledger.damage = standing, damage
    log.error("%s", damage)


def _header(data: Segments, pos: int) -> entry.EntryHeader | None:
    try:
        header = entry.decode(data.read(pos, entry.HEADER_BYTES))
    except entry.EntryError:
        return None
    return header if header.pos == pos else None


def _damage(data: Segments, pos: int, what: str) -> DamagedError:
    path, base = data.path_of(pos), pos - pos % data.segment_bytes
    if base not in data.bases:
        later = [b for b in data.bases if b > base]
        there = f", but {data.path_of(later[0])} is there" if later else ""
        return DamagedError(path, 0, f"the file is gone{there}: {what}")
    return DamagedError(path, pos - base, what)


def _take(ledger: Ledger, last: int | None, *, durable: bool) -> None:
    """Append, from where the ledger stands, what lies behind it in the files; none past `last`."""
    while ledger.end_index != last:
        at = ledger.next_pos(ledger.end_pos)
        before = ledger.end_index
        cut_short = _stage_chunk(ledger, ledger.data.read(at, _READ_BYTES), last)
        if cut_short and ledger.staged_index == before:
            # One entry that is larger than a read.
            _stage_chunk(ledger, ledger.data.read(at, cut_short), last)
        ledger.keep_staged(durable=durable)
        if ledger.end_index == before:
            return


def _stage_chunk(ledger: Ledger, chunk: bytes, last: int | None) -> int:
    """Stage the whole, valid entries at the chunk's start; size of one that it cuts short, or 0."""
    at = 0
    try:
        while ledger.staged_index != last and at + entry.HEADER_BYTES <= len(chunk):
            header = entry.decode(chunk, at)
            if at + header.size > len(chunk):
                return header.size
            ledger.stage_copy(memoryview(chunk), at, header)
            at += header.size
    except entry.EntryError:
        pass
    return 0


# --- terms ----------------------------------------------------------------------------------------


def _index_agrees(ledger: Ledger) -> bool:
    """Whether the units that tell the terms are those of the data; all of them after a rebuild."""
    try:
        runs = [(ledger.begin.term, 0), *term_runs(ledger)]
    except DamagedError:
        return False
    return all(term <= following for (term, _), (following, _) in pairwise(runs))


def term_runs(ledger: Ledger) -> list[tuple[int, int]]:
    """(term, count) of all entries from the begin on, by looking up only where the term changes."""
    runs: list[tuple[int, int]] = []
    first = ledger.begin.index
    while first <= ledger.end_index:
        term = _term(ledger, first)
        low, high = first, ledger.end_index
        while low < high:
            middle = (low + high + 1) // 2
            if _term(ledger, middle) == term:
                low = middle
            else:
                high = middle - 1
        runs.append((term, low - first + 1))
        first = low + 1
    return runs


def _term(ledger: Ledger, at: int) -> int:
    unit = ledger.index.get(at)
    header = _header(ledger.data, unit.pos) if unit else None
    if header is None:
        raise ledger.index.damage(at)
    ledger.index.check(header)
    if header.log_index != at:
        raise ledger.index.damage(at)
    return header.term
