"""Which files of the key index can be kept at a start. May wait for the disk: for threads.

The index is made from the log: what is doubtful is removed and made again. The newest file loses at
least the entries of its last record, which may have more keys than were written.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ledgermq.dledger.disk import Disk
from ledgermq.dledger.errors import DamagedError
from ledgermq.remoting.errors import StorageError

from .index_file import Header, IndexFile, Shape

log = logging.getLogger(__name__)

# yyyyMMddHHmmssSSS
NAME_CHARS = 17


class Held(NamedTuple):
    """A file and its header."""

    file: IndexFile
    header: Header


def open_files(folder: Path, disk: Disk, shape: Shape, *, trusted: bool) -> list[Held]:
    """The files that are right, oldest first; the others are removed.

    Args:
        folder: of the index.
        disk: where it lies.
        shape: of each file.
        trusted: nothing written is lost. Else only files are kept that were put on disk as a whole:
            all but the newest.
    """
    paths = [folder / name for name in disk.names(folder) if _is_name(name)]
    if paths and not trusted:
        log.warning("%s: made again from the log, its end may be lost", paths[-1])
        disk.remove(paths.pop())
    held: list[Held] = []
    for at, path in enumerate(paths):
        file = IndexFile(path, disk, shape)
        try:
            header = file.header()
            if held and header.begin_pos < held[-1].header.end_pos:
                raise DamagedError(path, 0, "it begins before the end of the file before it")
        except StorageError as e:
            remove_from(disk, paths[at:], str(e))
            break
        held.append(Held(file, header))
    return held


def _is_name(name: str) -> bool:
    return len(name) == NAME_CHARS and name.isascii() and name.isdigit()


def remove_from(disk: Disk, paths: Sequence[Path], reason: str) -> None:
    """Remove files, newest first: a kill meanwhile leaves no gap."""
    log.warning("%d file(s) of the key index are made again from the log: %s", len(paths), reason)
    for path in reversed(paths):
        disk.remove(path)


def settle(disk: Disk, held: list[Held], end_pos: int) -> int | None:
    """Make the newest file one that can be gone on with.

    Args:
        disk: where the files lie.
        held: the files; those that hold nothing below `end_pos` are removed.
        end_pos: byte after the last record of the log that is known.

    Returns:
        The physical offset from which records are to be put again; None: all that there are.
    """
    while held:
        file, header = held[-1]
        position = min(end_pos, header.end_pos)
        try:
            count = file.first_from(position, header)
            if count > 1:
                held[-1] = Held(file, file.cut(header, count))
                if position < end_pos:
                    return position
                continue  # the time of the record that is the last now is known by the second only
        except StorageError as e:
            remove_from(disk, [file.path], str(e))
        else:
            disk.remove(file.path)
        held.pop()
    return None
