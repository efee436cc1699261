"""Opening a log after any kind of stop.

Up to the durable mark the log is known to be on disk. Past it, whole entries whose checksums
continue the chain are taken back and synced again before anything is promised on them (after a
failed fsync the page cache lies); the first one that is not ends the log. A broken entry with an
intact one behind it is damage, not a torn tail.
"""

import logging
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from zlib import crc32

from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.ids import NONE

from . import entry
from .entry_index import UNIT_BYTES, EntryIndex
from .hard_state import Mark, MarkFile
from .ledger import Ledger
from .segments import Segments

log = logging.getLogger(__name__)

_READ_BYTES = 4 << 20
# How far behind a broken entry an intact one is looked for.
_LOOK_AHEAD_BYTES = 8 << 20


def open_ledger(folder: Path, segment_bytes: int, data_folder: Path | None = None) -> Ledger:
    """Open or create the log below `folder` (`data/`, `index/`, `mark`).

    Raises:
        DamagedError: bytes that were durable are not what was written.
        CallerError: made with another segment size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        marks = MarkFile(folder)
        opened.callback(marks.close)
        # With a mark, the identity beside it vouches for the segment size.
        data = Segments(data_folder or folder / "data", segment_bytes, mend_size=marks.present)
        opened.callback(data.close)
        _refuse_gaps(data)
        index = EntryIndex(folder / "index")
        opened.callback(index.close)
        ledger = _recover(data, index, marks, _start(marks, data, index))
        opened.pop_all()
    return ledger


def _refuse_gaps(data: Segments) -> None:
    """Every file from the first byte of the log on must be there."""
    for number, base in enumerate(data.bases):
        if base != number * data.segment_bytes:
            missing = data.path_of(number * data.segment_bytes)
            raise DamagedError(
                missing,
                0,
                f"the file is gone, but {data.path_of(base)} is there. Bring it back, or move this"
                " store away and let the node be filled from the leader, while all others run",
            )


def _recover(data: Segments, index: EntryIndex, marks: MarkFile, start: Mark) -> Ledger:
    index.start_at(start.index + 1)
    ledger = Ledger(data, index, marks, start)
    if data.bases:
        _take_tail(ledger)
    if not _index_agrees(ledger):
        if start.index == NONE:
            raise DamagedError(data.folder, 0, "the terms of its entries fall")
        log.warning("%s: rebuilt from the data", index.segments.folder)
        return _recover(data, index, marks, Mark(commit=start.commit))
    ledger.save_mark(start.commit)
    return ledger


def _index_agrees(ledger: Ledger) -> bool:
    """Whether the units that tell the terms are those of the data; all of them after a rebuild."""
    try:
        runs = term_runs(ledger)
    except DamagedError:
        return False
    return all(term < following for (term, _), (following, _) in pairwise(runs))


def _start(marks: MarkFile, data: Segments, index: EntryIndex) -> Mark:
    """The mark, if data and entry index still reach it; else the beginning."""
    mark = marks.mark
    if mark.index == NONE:
        return mark
    if not data.bases:
        raise DamagedError(
            data.folder, 0, f"its files are gone, but entries 0..{mark.index} were on disk"
        )
    index.start_at(mark.index + 1)
    unit = index.get(mark.index)
    if unit is None or unit.pos + unit.size != mark.pos:
        # The entry index is derived: rebuild it from the data.
        return Mark(commit=mark.commit)
    head = _decode_or_damage(data, unit.pos)
    if head.log_index != mark.index or head.chain_crc != mark.chain:
        raise DamagedError(
            data.path_of(unit.pos), unit.pos % data.segment_bytes, f"entry {mark.index} is not here"
        )
    return mark


def _decode_or_damage(data: Segments, pos: int) -> entry.EntryHeader:
    try:
        return entry.decode(data.read(pos, entry.HEADER_BYTES))
    except entry.EntryError as e:
        raise DamagedError(data.path_of(pos), pos % data.segment_bytes, e.remark) from e


def term_runs(ledger: Ledger) -> list[tuple[int, int]]:
    """(term, count) of all entries, by looking up only where the term changes."""
    runs: list[tuple[int, int]] = []
    first = 0
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
    unit, place = ledger.index.get(at), at * UNIT_BYTES
    if unit is not None:
        head = ledger.data.read(unit.pos, entry.HEADER_BYTES)
        try:
            header = entry.decode(head)
        except entry.EntryError:
            unit = None
        else:
            if (header.log_index, header.term, header.size) == (at, unit.term, unit.size):
                return unit.term
    index = ledger.index.segments
    raise DamagedError(
        index.path_of(place),
        place % index.segment_bytes,
        f"no unit of entry {at}; remove the folder to have it rebuilt from the data",
    )


def _take_tail(ledger: Ledger) -> None:
    """Append, from where the ledger stands, what lies behind it in the files."""
    data, mark = ledger.data, ledger.marks.mark
    wanted = None if mark.cut == NONE else mark.cut - 1
    while ledger.end_index != wanted:
        chunk = data.read(_next_pos(data, ledger.end_pos), _READ_BYTES)
        if not _take_chunk(ledger, chunk, wanted):
            break
    if ledger.end_index < mark.index:
        pos = _next_pos(data, ledger.end_pos)
        raise DamagedError(
            data.path_of(pos),
            pos % data.segment_bytes,
            f"the log ends at entry {ledger.end_index}, but {mark.index} was on disk. Move this"
            " store away and let the node be filled from the leader, while all others run",
        )
    if wanted is None:
        _refuse_damage(ledger)
    _clear_tail(ledger)


def _next_pos(data: Segments, end_pos: int) -> int:
    """Where the entry behind `end_pos` starts, if there is one."""
    if not entry.is_blank(data.read(end_pos, entry.BLANK_BYTES)):
        return end_pos
    return end_pos + data.segment_bytes - end_pos % data.segment_bytes


def _take_chunk(ledger: Ledger, chunk: bytes, wanted: int | None) -> bool:
    """Take whole, valid entries at the chunk's start, none past `wanted`; whether there was one."""
    end, chain, index, cut_short = 0, ledger.chain, ledger.end_index, 0
    try:
        while index != wanted and end + entry.HEADER_BYTES <= len(chunk):
            header = entry.decode(chunk, end)
            stop = end + header.size
            if header.log_index != index + 1:
                break
            if stop > len(chunk):
                cut_short = header.size
                break
            chain = entry.check(header, memoryview(chunk)[end + entry.HEADER_BYTES : stop], chain)
            end, index = stop, header.log_index
    except entry.EntryError:
        cut_short = 0
    if end == 0 and cut_short:
        return _take_large(ledger, cut_short)
    return end > 0 and _append(ledger, chunk[:end])


def _take_large(ledger: Ledger, size: int) -> bool:
    """One entry that is larger than a read."""
    chunk = ledger.data.read(_next_pos(ledger.data, ledger.end_pos), size)
    return len(chunk) == size and _append(ledger, chunk)


def _append(ledger: Ledger, entries: bytes) -> bool:
    try:
        ledger.append_copied(entries, ledger.end_index + 1)
    except entry.EntryError:
        return False
    return True


def _refuse_damage(ledger: Ledger) -> None:
    """An intact entry behind a broken one means that the broken one was damaged, not torn.

    Zeros where an entry would start are no broken entry: nothing was ever written there, or it
    was lost with the power before it was synced.
    """
    data = ledger.data
    pos = _next_pos(data, ledger.end_pos)
    if not any(data.read(pos, entry.HEADER_BYTES)):
        return
    following = pos + data.segment_bytes - pos % data.segment_bytes
    for start in (pos + 1, following):
        intact = _find_intact(data.read(start, _LOOK_AHEAD_BYTES), start, ledger.end_index + 1)
        if intact is not None:
            raise DamagedError(
                data.path_of(pos),
                pos % data.segment_bytes,
                f"entry {ledger.end_index + 1} is broken, entry {intact} behind it"
                " is not. Move this store away and let the node be filled from the leader,"
                " while all others run",
            )


def _find_intact(data: bytes, base_pos: int, after: int) -> int | None:
    """Index of the first whole entry past `after` in `data`, which lies at `base_pos`."""
    magic = entry.MAGIC.to_bytes(4)
    at = data.find(magic)
    while at >= 0:
        # Cheap first: few other bytes say the very place where they lie.
        if data[at + 24 : at + 32] == (base_pos + at).to_bytes(8):
            index = _intact_index(data, at)
            if index is not None and index > after:
                return index
        at = data.find(magic, at + 1)
    return None


def _intact_index(data: bytes, at: int) -> int | None:
    try:
        header = entry.decode(data, at)
    except entry.EntryError:
        return None
    body = data[at + entry.HEADER_BYTES : at + header.size]
    if len(body) != header.body_len:
        return None
    written_by_java = header.body_crc == 0 and header.chain_crc == 0
    return header.log_index if written_by_java or crc32(body) == header.body_crc else None


def _clear_tail(ledger: Ledger) -> None:
    """Zeros from the end on, so that an old entry cannot come back behind a new one."""
    data = ledger.data
    base = ledger.end_pos - ledger.end_pos % data.segment_bytes
    if any(b > base for b in data.bases):
        data.drop_from(base + data.segment_bytes)
    data.clear_after(ledger.end_pos)
