"""Whether the queue files can be relied on: a fact that a snapshot from elsewhere cannot know."""

from pathlib import Path
from typing import Final

from ledgermq.dledger.disk import Disk
from ledgermq.dledger.store.slots import SlotFile, read_values, write_values

MARK_VERSION: Final = 1


class QueueMark:
    """In two slots, so that a full disk cannot stop a node from giving its queues up.

    Attributes:
        reliable: the files hold what the newest complete snapshot says, or what follows from it.
    """

    def __init__(self, path: Path, segment_bytes: int, disk: Disk) -> None:
        """Open; files of another size than `segment_bytes` are not reliable.

        Raises:
            CallerError: a newer program wrote it.
        """
        self._segment_bytes = segment_bytes
        # What a damaged one said is lost: the queues can be made anew.
        self._file = SlotFile(path, disk, tolerant=True)
        self.reliable = False
        if self._file.payload is not None:
            try:
                size, reliable = read_values(self._file, MARK_VERSION, 2)
            except BaseException:
                self.close()
                raise
            self.reliable = reliable is True and size == segment_bytes

    def save(self, *, reliable: bool) -> None:
        """Note it on disk: before the first file changes, or after the last was synced."""
        if reliable != self.reliable or self._file.payload is None:
            write_values(self._file, MARK_VERSION, self._segment_bytes, reliable)
            self.reliable = reliable

    def close(self) -> None:
        """Close the file."""
        self._file.close()
