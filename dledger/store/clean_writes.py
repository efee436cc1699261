"""Writes behind a log's end that leave nothing there when the disk is full."""

import logging

from ledgermq.dledger.errors import DiskFullError

from .segments import Segments

log = logging.getLogger(__name__)


class CleanWrites:
    """Writes all or nothing, as far as a start of the node can see.

    Invariant: what a failed write left is zeroed before anything is written behind it.
    """

    def __init__(self, segments: Segments, *, sync_zeros: bool = False) -> None:
        """Write to `segments`.

        Args:
            segments: of the log.
            sync_zeros: have the zeros on the disk before anything else is written in their place.
                A group needs that: after a loss of power a refused entry could come back where
                another one of the same index and term has been acknowledged.
        """
        self._segments = segments
        self._sync_zeros = sync_zeros
        # Places of failed writes that could not be zeroed.
        self._litter: list[tuple[int, int]] = []
        # Places that were zeroed since the last write.
        self._swept: list[int] = []

    def write(self, writes: list[tuple[int, bytes]]) -> None:
        """Write each piece at its place.

        Raises:
            DiskFullError: none of it counts; where bytes may be are zeros, now or later.
            StorageError: the disk failed.
        """
        try:
            self.sweep()
            while self._swept:
                self._segments.sync_file(self._swept[-1])
                self._swept.pop()
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
            pos, _ = self._litter.pop()
            if self._sync_zeros:
                self._swept.append(pos)

    def forget(self) -> None:
        """The files were emptied."""
        self._litter.clear()
        self._swept.clear()
