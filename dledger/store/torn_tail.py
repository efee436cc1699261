"""What lies behind the last valid entry of a log: nothing, a torn tail, or signs of damage."""

from zlib import crc32

from . import entry
from .reading import LogReader

# How far behind a broken entry an intact one is looked for.
_LOOK_AHEAD_BYTES = 8 << 20


def next_intact(log: LogReader) -> int | None:
    """Index of a whole entry somewhere behind the log's end; None: none is near.

    An intact entry behind a broken one means that the broken one was there once. Either it has
    rotted, or the power failed before it was synced and the disk had taken the later one first.
    """
    data = log.data
    pos = log.next_pos(log.end_pos)
    starts = [pos + 1, *[base for base in data.bases if base > pos][:1]]
    for start in starts:
        found = _find_intact(data.read(start, _LOOK_AHEAD_BYTES), start, log.end_index + 1)
        if found is not None:
            return found
    return None


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
