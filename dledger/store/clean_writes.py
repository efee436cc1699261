"""Writes behind a log's end that leave nothing there when the disk is full."""

import logging

from ledgermq.dledger.errors import DiskFullError

from .segments import Segments

log = logging.getLogger(__name__)


class CleanWrites:
    """Writes all or nothing, as far as a start of the node can see.

    Invariant: what a failed write left is zeroed before anything is written behind it.
    """

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        # Places of failed writes that could not be zeroed.
        self._litter: list[tuple[int, int]] = []

    def write(self, writes: list[tuple[int, bytes]]) -> None:
        """Write each piece at its place.

        Raises:
            DiskFullError: none of it counts; where bytes may be are zeros, now or later.
            StorageError: the disk failed.
        """
        try:
            self.sweep()
            for pos, data in writes:
                self._segments.write(pos, data)
        except DiskFullError:
            self._litter.extend((pos, pos + len(data)) for pos, data in writes)
            try:
                self.sweep()
            except DiskFullError as e:
                # A file system that never writes in place; to be done before the next write.
                log.error("%s", e)
            raise

    def sweep(self) -> None:
        """Zero what failed writes have left: it must not lie behind later entries.

        Raises:
            DiskFullError: some of it stays for now.
        """
        while self._litter:
            self._segments.wipe(*self._litter[-1])
            self._litter.pop()

    def forget(self) -> None:
        """The files were emptied."""
        self._litter.clear()
