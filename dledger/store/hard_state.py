"""Term, vote and standing, and the durable mark: facts that must survive everything."""

from dataclasses import astuple, dataclass
from pathlib import Path

from ledgermq.dledger.disk import Disk, OsDisk, read_file
from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.ids import NONE, NodeId, Standing

from .segments import naming
from .slots import SlotFile, read_values, write_values

# The forms before these named no version: (term, vote), and the mark alone.
_STATE_VERSION = 2
_MARK_VERSION = 2


class HardState:
    """Term, vote and standing in `hardstate`.

    Where that is missing, what Java left in `currterm` (properties currTerm, voteLeader) counts.

    Attributes:
        present: there was one; the rest is what a member that never voted has otherwise.
        earlier_form: it was written before standings were kept.
        damage: there was one, and nobody can read it.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        """Open or create.

        Raises:
            DamagedError: `currterm` cannot be read.
            CallerError: a newer program wrote it.
        """
        disk = disk or OsDisk()
        self.term = 0
        self.vote: NodeId | None = None
        self.standing = Standing.MEMBER
        self.earlier_form = False
        self._file = SlotFile(folder / "hardstate", disk, tolerant=True)
        self.damage: DamagedError | None = self._file.damage
        self.present = self._file.payload is not None
        try:
            if self.present:
                self._load()
            elif self.damage is None:
                self._import(disk, folder / "currterm")
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        values = read_values(self._file, _STATE_VERSION, 3, unversioned=2)
        self.term, self.vote = values[0], values[1]
        self.earlier_form = len(values) == 2
        if not self.earlier_form:
            self.standing = Standing(values[2])

    def _import(self, disk: Disk, path: Path) -> None:
        with naming(path, "read"):
            data = read_file(disk, path)
        if data is None:
            return
        pairs = dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)
        try:
            self.term = max(int(pairs.get("currTerm", "0")), 0)
        except ValueError as e:
            raise DamagedError(path, 0, f"its currTerm is no number ({e})") from e
        self.vote = NodeId(pairs.get("voteLeader", "")) or None

    def save(self, term: int, vote: NodeId | None, standing: Standing) -> None:
        """Write and sync all three; see `SlotFile.write`."""
        write_values(self._file, _STATE_VERSION, term, vote, int(standing))
        self.term, self.vote, self.standing = term, vote, standing

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
    """The durable mark in `mark`.

    Attributes:
        present: there is one. Without it the log may come from Java: nothing of it is known to
            be durable.
        found: there was one when it was opened.
        damage: there was one, and nobody can read it.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.folder = folder
        self._file = SlotFile(folder / "mark", disk, tolerant=True)
        self.mark = Mark()
        self.damage: DamagedError | None = self._file.damage
        self.present = self.found = self._file.payload is not None
        if self.present:
            try:
                self.mark = Mark(*read_values(self._file, _MARK_VERSION, 6, unversioned=6))
            except BaseException:
                self.close()
                raise

    def save(self, mark: Mark) -> None:
        """Write and sync the mark; see `SlotFile.write`."""
        write_values(self._file, _MARK_VERSION, *astuple(mark))
        self.mark = mark
        self.present = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
