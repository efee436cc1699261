"""Where the log begins: what lay before was dropped, or never was here."""

from dataclasses import astuple, dataclass
from pathlib import Path

from ledgermq.dledger.disk import Disk
from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.ids import NONE

from .slots import SlotFile, read_values, write_values

_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Begin:
    """A place where a log can begin.

    Attributes:
        index: first entry held.
        pos: where it lies, or will lie: the start of a segment, in bytes.
        term: of entry `index` - 1; NONE when there is none.
        chain: chain value of that entry; 0 when there is none.
    """

    index: int = 0
    pos: int = 0
    term: int = NONE
    chain: int = 0


class BeginFile:
    """The begin in `begin`; a log without one begins at 0.

    Attributes:
        resetting: the log is being emptied, to go on at `begin`; found at a start, it means that
            this may be half done.
        damage: nobody knows where the log begins.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._file = SlotFile(folder / "begin", disk, tolerant=True)
        self.begin = Begin()
        self.resetting = False
        self.damage: DamagedError | None = self._file.damage
        if self._file.payload is not None:
            try:
                *place, self.resetting = read_values(self._file, _FORMAT_VERSION, 5)
                self.begin = Begin(*place)
            except BaseException:
                self.close()
                raise

    def save(self, begin: Begin, *, resetting: bool = False) -> None:
        """Write and sync; see `SlotFile.write`."""
        write_values(self._file, _FORMAT_VERSION, *astuple(begin), resetting)
        self.begin, self.resetting, self.damage = begin, resetting, None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
