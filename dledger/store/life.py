"""What the store has gone through: how the last run ended, and what was found broken in it."""

from pathlib import Path

from ledgermq.dledger.disk import Disk
from ledgermq.dledger.errors import DamagedError

from .slots import SlotFile, read_values, write_values

_FORMAT_VERSION = 1


class LifeFile:
    """How the process before this one ran and ended, in `life`.

    Attributes:
        present: there is such a file; without one nothing is known.
        running: it did not stop cleanly.
        boot_id: of the machine's start in which it ran.
        sync_flush: whether it counted entries only after their fsync.
        damage: nobody can read it.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._file = SlotFile(folder / "life", disk, tolerant=True)
        self.boot_id, self.sync_flush, self.running = "", True, False
        self.damage: DamagedError | None = self._file.damage
        self.present = self._file.payload is not None
        if self.present:
            try:
                self.boot_id, self.sync_flush, self.running = read_values(
                    self._file, _FORMAT_VERSION, 3
                )
            except BaseException:
                self.close()
                raise

    def may_have_lost_power(self, boot_id: str) -> bool:
        """Whether bytes that were written and not synced may be gone.

        A system that does not name its starts ("") cannot say no.
        """
        same_start = boot_id != "" and boot_id == self.boot_id
        return self.running and not same_start

    def save(self, boot_id: str, *, sync_flush: bool, running: bool) -> None:
        """Write and sync; see `SlotFile.write`."""
        write_values(self._file, _FORMAT_VERSION, boot_id, sync_flush, running)
        self.boot_id, self.sync_flush, self.running = boot_id, sync_flush, running

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class SuspectFile:
    """Where a read met something broken, in `damage`: the next start looks there first.

    Attributes:
        pos: start of the segment to verify from, in bytes; None: nothing is suspected.
        text: what was found; "" when only the entry index was wrong, which is derived.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._file = SlotFile(folder / "damage", disk, tolerant=True)
        self.pos: int | None = None
        self.text = ""
        if self._file.damage is not None:
            # It is nearly always empty; if it was not, everything is under suspicion.
            self.pos, self.text = 0, str(self._file.damage)
        elif self._file.payload is not None:
            try:
                self.pos, self.text = read_values(self._file, _FORMAT_VERSION, 2)
            except BaseException:
                self.close()
                raise

    def save(self, pos: int | None, text: str) -> None:
        """Write and sync; see `SlotFile.write`."""
        write_values(self._file, _FORMAT_VERSION, pos, text[:1000])
        self.pos, self.text = pos, text

    def close(self) -> None:
        """Close the file."""
        self._file.close()
