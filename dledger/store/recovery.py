"""Opening a log after any kind of stop.

Up to the durable mark the log is known to be on disk. Past it, whole entries whose checksums
continue the chain are taken back and synced again before anything is promised on them (after a
failed fsync the page cache lies); the first one that is not ends the log. A broken entry with an
intact one behind it is damage, not a torn tail.
"""

from pathlib import Path
from zlib import crc32

from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.ids import NONE

from . import entry
from .entry_index import EntryIndex
from .hard_state import Mark, MarkFile
from .ledger import Ledger
from .segments import Segments

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
    data = Segments(data_folder or folder / "data", segment_bytes)
    index = EntryIndex(folder / "index")
    marks = MarkFile(folder)
    start = _start(marks, data, index)
    index.start_at(start.index + 1)
    ledger = Ledger(data, index, marks, start)
    if data.bases:
        _take_tail(ledger)
    ledger.save_mark(start.commit)
    return ledger


def _start(marks: MarkFile, data: Segments, index: EntryIndex) -> Mark:
    """The mark, if data and entry index still reach it; else the beginning."""
    mark = marks.mark
    if mark.index == NONE:
        return mark
    if not data.bases:
        raise DamagedError(
            data.folder, 0, f"its files are gone, but entries 0..{mark.index} were on disk"
        )
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
        term = _term(ledger.index, first)
        low, high = first, ledger.end_index
        while low < high:
            middle = (low + high + 1) // 2
            if _term(ledger.index, middle) == term:
                low = middle
            else:
                high = middle - 1
        runs.append((term, low - first + 1))
        first = low + 1
    return runs


def _term(index: EntryIndex, at: int) -> int:
    unit = index.get(at)
    if unit is None:
        raise DamagedError(
            index.segments.path_of(at * 32),
            at * 32 % index.segments.segment_bytes,
            f"no unit of entry {at}; remove the folder to have it rebuilt from the data",
        )
    return unit.term


def _take_tail(ledger: Ledger) -> None:
    """Append, from where the ledger stands, what lies behind it in the files."""
    data = ledger.data
    mark = ledger.marks.mark
    while True:
        pos = ledger.end_pos
        chunk = data.read(pos, _READ_BYTES)
        if entry.is_blank(chunk) or (not chunk and pos % data.segment_bytes == 0):
            following = pos + data.segment_bytes - pos % data.segment_bytes
            if chunk and following in data.bases and _enter(ledger, following):
                continue
            break
        if not _take_chunk(ledger, chunk):
            break
    if ledger.end_index < mark.index:
        raise DamagedError(
            data.path_of(ledger.end_pos),
            ledger.end_pos % data.segment_bytes,
            f"the log ends at entry {ledger.end_index}, but {mark.index} was on disk",
        )
    _refuse_damage(ledger)
    _clear_tail(ledger)


def _enter(ledger: Ledger, pos: int) -> bool:
    """Whether the segment at `pos` starts with the next entry; if so, continue there."""
    return _take_chunk(ledger, ledger.data.read(pos, _READ_BYTES))


def _take_chunk(ledger: Ledger, chunk: bytes) -> bool:
    """Take whole, valid entries at the chunk's start; whether there was one."""
    end = 0
    chain, index = ledger.chain, ledger.end_index
    last_size = 0
    while end + entry.HEADER_BYTES <= len(chunk):
        try:
            header = entry.decode(chunk, end)
        except entry.EntryError:
            break
        if header.log_index != index + 1:
            break
        last_size = header.size
        if end + header.size > len(chunk):
            break
        try:
            body = memoryview(chunk)[end + entry.HEADER_BYTES : end + header.size]
            chain = entry.check(header, body, chain)
        except entry.EntryError:
            break
        end, index, last_size = end + header.size, header.log_index, 0
    if end == 0:
        if _READ_BYTES < last_size < ledger.data.segment_bytes:
            return _take_large(ledger, last_size)
        return False
    try:
        ledger.append_copied(chunk[:end], ledger.end_index + 1)
    except entry.EntryError:
        return False
    return True


def _take_large(ledger: Ledger, size: int) -> bool:
    """One entry that is larger than a read."""
    chunk = ledger.data.read(ledger.reserve(size - entry.HEADER_BYTES), size)
    if len(chunk) < size:
        return False
    try:
        ledger.append_copied(chunk, ledger.end_index + 1)
    except entry.EntryError:
        return False
    return True


def _refuse_damage(ledger: Ledger) -> None:
    """An intact entry behind the end means that what is between was damaged, not torn."""
    pos, data = ledger.end_pos, ledger.data
    after = data.read(pos, _LOOK_AHEAD_BYTES)
    if not any(after[: entry.HEADER_BYTES]):
        return
    wanted = (ledger.end_index + 2).to_bytes(8)
    at = after.find(wanted, 8)
    while at >= 8:
        if _intact(after, at - 8, pos):
            raise DamagedError(
                data.path_of(pos),
                pos % data.segment_bytes,
                f"entry {ledger.end_index + 1} is broken, entry {ledger.end_index + 2} behind it"
                " is not. Move this store away and let the node be filled from the leader",
            )
        at = after.find(wanted, at + 1)


def _intact(data: bytes, at: int, base_pos: int) -> bool:
    try:
        header = entry.decode(data, at)
    except entry.EntryError:
        return False
    body = data[at + entry.HEADER_BYTES : at + header.size]
    if header.pos != base_pos + at or len(body) != header.body_len or not header.body_crc:
        return False
    return crc32(body) == header.body_crc


def _clear_tail(ledger: Ledger) -> None:
    """Zeros from the end on, so that an old entry cannot come back behind a new one."""
    data = ledger.data
    base = ledger.end_pos - ledger.end_pos % data.segment_bytes
    if any(b > base for b in data.bases):
        data.drop_from(base + data.segment_bytes)
    if base not in data.bases:
        return
    pos, end = ledger.end_pos, base + data.segment_bytes
    while pos < end:
        chunk = data.read(pos, min(_READ_BYTES, end - pos))
        if not any(chunk):
            break
        data.zero(pos, pos + len(chunk))
        pos += len(chunk)
