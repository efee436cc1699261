"""Term and vote, and the durable mark: facts that must survive everything."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from ledgermq.dledger.errors import StorageError
from ledgermq.dledger.ids import NONE, NodeId

from .slots import SlotFile


class HardState:
    """Term and vote in `hardstate`.

    Where that is missing, what Java left in `currterm` (properties currTerm, voteLeader) counts.
    """

    def __init__(self, folder: Path) -> None:
        self.term = 0
        self.vote: NodeId | None = None
        existed = (folder / "hardstate").exists()
        self._file = SlotFile(folder / "hardstate")
        if self._file.payload is not None:
            self.term, self.vote = _unpack(self._file, 2)
        elif not existed:
            self._import(folder / "currterm")

    def _import(self, path: Path) -> None:
        if not path.exists():
            return
        pairs = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        self.save(
            max(int(pairs.get("currTerm", "0")), 0), NodeId(pairs.get("voteLeader", "")) or None
        )

    def save(self, term: int, vote: NodeId | None) -> None:
        """Write and sync both; see `SlotFile.write`."""
        self._file.write(msgpack.packb((term, vote)))
        self.term, self.vote = term, vote

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the log up to which data and entry index are known to be on disk.

    Attributes:
        index: last durable entry, NONE for an empty log.
        pos: byte after that entry.
        chain: chain value of that entry.
        commit: commit index when the mark was made.
        clean: written by a clean stop.
    """

    index: int = NONE
    pos: int = 0
    chain: int = 0
    commit: int = NONE
    clean: bool = False


class MarkFile:
    """The durable mark in `mark`."""

    def __init__(self, folder: Path) -> None:
        self._file = SlotFile(folder / "mark")
        self.mark = Mark()
        # Without a mark the log may come from Java: nothing of it is known to be durable.
        self.present = self._file.payload is not None
        if self.present:
            index, pos, chain, commit, clean = _unpack(self._file, 5)
            self.mark = Mark(index, pos, chain, commit, clean)

    def save(self, mark: Mark) -> None:
        """Write and sync the mark; see `SlotFile.write`."""
        self._file.write(msgpack.packb((mark.index, mark.pos, mark.chain, mark.commit, mark.clean)))
        self.mark = mark
        self.present = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _unpack(file: SlotFile, count: int) -> list[Any]:
    values = msgpack.unpackb(file.payload)
    if not isinstance(values, list) or len(values) != count:
        raise StorageError(f"{file.path}: written by another version: {values!r}")
    return values
