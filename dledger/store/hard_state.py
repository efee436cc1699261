"""Term and vote, and the durable mark: facts that must survive everything."""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import msgpack

from ledgermq.dledger.errors import DamagedError, StorageError
from ledgermq.dledger.ids import NONE, NodeId

from .slots import SlotFile


class HardState:
    """Term and vote in `hardstate`.

    Where that is missing, what Java left in `currterm` (properties currTerm, voteLeader) counts.
    """

    def __init__(self, folder: Path) -> None:
        self.term = 0
        self.vote: NodeId | None = None
        self._file = SlotFile(folder / "hardstate")
        try:
            if self._file.payload is not None:
                self.term, self.vote = _unpack(self._file, 2)
            else:
                self._import(folder / "currterm")
        except BaseException:
            self.close()
            raise

    def _import(self, path: Path) -> None:
        if not path.exists():
            return
        pairs = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        try:
            term = max(int(pairs.get("currTerm", "0")), 0)
        except ValueError as e:
            raise DamagedError(path, 0, f"its currTerm is no number ({e})") from e
        self.save(term, NodeId(pairs.get("voteLeader", "")) or None)

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
        cut: what lies at this index and behind it was ordered away; NONE: nothing was. Found at
            a start, it means that the cut may be half done.
    """

    index: int = NONE
    pos: int = 0
    chain: int = 0
    commit: int = NONE
    clean: bool = False
    cut: int = NONE


class MarkFile:
    """The durable mark in `mark`."""

    def __init__(self, folder: Path) -> None:
        self._file = SlotFile(folder / "mark")
        self.mark = Mark()
        # Without a mark the log may come from Java: nothing of it is known to be durable.
        self.present = self._file.payload is not None
        if self.present:
            try:
                self.mark = Mark(*_unpack(self._file, 6))
            except BaseException:
                self.close()
                raise

    def save(self, mark: Mark) -> None:
        """Write and sync the mark; see `SlotFile.write`."""
        self._file.write(msgpack.packb(astuple(mark)))
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
