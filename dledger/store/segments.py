"""Files of one fixed size, named by their start offset, seen as one address space.

All writes are `pwrite`: a page fault through a map holds the interpreter's lock, and a map write
on a full disk is SIGBUS. Reads on the event loop use `preadv(RWF_NOWAIT)`.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledgermq.dledger.disk import Disk, OsDisk, ensure_folder
from ledgermq.dledger.errors import CallerError, DiskFullError, StorageError, storage_error

_NAME_DIGITS = 20
_ZERO_CHUNK = bytes(1 << 20)
# What the usual file systems give a file at least at once.
_BLOCK_BYTES = 4096
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# Files that were dropped and are kept open: more than reads can be under way meanwhile.
_KEPT_OPEN = 64


class Segments:
    """Sparse files of `segment_bytes` each below one folder.

    Not safe for concurrent writes; `sync` and `read` may run in a thread.
    """

    def __init__(
        self,
        folder: Path,
        segment_bytes: int,
        *,
        mend_size: bool = False,
        disk: Disk | None = None,
    ) -> None:
        """Open the files that are there.

        Args:
            folder: made when missing.
            segment_bytes: size of each file.
            mend_size: the size is known to be right: a file that is shorter lost its end and is
                filled up with zeros.
            disk: of this machine unless given.

        Raises:
            CallerError: made with another size.
        """
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.disk: Disk = disk or OsDisk()
        with naming(folder, "open"):
            ensure_folder(self.disk, folder)
            names = self.disk.names(folder)
        self._fds: dict[int, int] = {}
        # Start offsets of those that had their full size when they were opened.
        self.whole: set[int] = set()
        self._dropped: list[int] = []
        self._dirty: set[int] = set()
        # Why a sync failed once: from then on none proves anything.
        self._failed: str | None = None
        found = [n for n in names if len(n) == _NAME_DIGITS and n.isdigit()]
        try:
            for name in found:
                self._adopt(folder / name, mend_size=mend_size)
            for base in self._fds.keys() - self.whole:
                with naming(self.path_of(base), "write"):
                    self.disk.truncate(self._fds[base], segment_bytes)
        except BaseException:
            self.close()
            raise

    def _adopt(self, path: Path, *, mend_size: bool) -> None:
        base = int(path.name)
        with naming(path, "open"):
            fd = self._fds[base] = self.disk.open(path)
            size = self.disk.size(fd)
        fits = size in (0, self.segment_bytes) or (mend_size and size < self.segment_bytes)
        if base % self.segment_bytes or not fits:
            raise CallerError(
                f"{path} has {size} bytes and starts at {base}; the configured segment size is"
                f" {self.segment_bytes}. Set the size the store was made with"
                " (mappedFileSizeCommitLog), or choose another storePathRootDir."
            )
        if size == self.segment_bytes:
            self.whole.add(base)

    @property
    def bases(self) -> list[int]:
        """Start offsets of the files present, ascending."""
        return sorted(self._fds)

    def path_of(self, pos: int) -> Path:
        """The file that holds `pos`."""
        return self.folder / f"{pos - pos % self.segment_bytes:0{_NAME_DIGITS}d}"

    # --- writing ------------------------------------------------------------------------------

    def write(self, pos: int, data: bytes | memoryview) -> None:
        """Write at `pos`; data may not cross a segment's end.

        Raises:
            DiskFullError: no room; bytes past the old end may be partly written.
            StorageError: the disk failed.
        """
        offset = pos % self.segment_bytes
        base = pos - offset
        if offset + len(data) > self.segment_bytes:
            raise CallerError(f"{len(data)} bytes at {pos} cross the end of a segment")
        try:
            fd = self._fds.get(base)
            if fd is None:
                fd = self._create(base)
            done = self.disk.pwrite(fd, data, offset)
            while done < len(data):
                done += self.disk.pwrite(fd, memoryview(data)[done:], offset + done)
        except OSError as e:
            raise translated(e, self.path_of(pos)) from e
        self._dirty.add(base)

    def _create(self, base: int) -> int:
        path = self.path_of(base)
        fd = self.disk.open(path, create=True)
        try:
            self.disk.truncate(fd, self.segment_bytes)
            self.disk.sync_folder(self.folder)
        except BaseException:
            self.disk.close(fd)
            raise
        self._fds[base] = fd
        return fd

    def zero(self, start: int, end: int) -> None:
        """Overwrite start..end (exclusive) with zeros, last bytes first.

        Backwards, so that a crash in between leaves a log that is longer than wanted, not one
        with a hole and old entries behind it.
        """
        pos = end
        while pos > start:
            base = (pos - 1) - (pos - 1) % self.segment_bytes
            low = max(start, base, pos - len(_ZERO_CHUNK))
            if base in self._fds:
                self.write(low, _ZERO_CHUNK[: pos - low])
            pos = low

    def wipe(self, start: int, end: int) -> None:
        """Zero what a failed write to start..end (exclusive, in one segment) has left there.

        Touches only what is not zero: the rest may have no room on the disk.
        """
        for pos in range(start, end, len(_ZERO_CHUNK)):
            self._wipe_chunk(pos, min(len(_ZERO_CHUNK), end - pos))

    def _wipe_chunk(self, start: int, size: int) -> None:
        data = self.read(start, size)
        if data == _ZERO_CHUNK[:size]:
            return
        at = 0
        while at < size:
            # Block by block: next to one with bytes may lie a hole.
            stop = min(at + _BLOCK_BYTES - (start + at) % _BLOCK_BYTES, size)
            if any(data[at:stop]):
                self.write(start + at, _ZERO_CHUNK[: stop - at])
            at = stop

    def clear_after(self, pos: int) -> None:
        """Zero what lies between `pos` and the end of its segment; holes stay holes."""
        for start, size in self.written_after(pos):
            self._wipe_chunk(start, size)

    def written_after(self, pos: int) -> Iterator[tuple[int, int]]:
        """(place, size) of what is no hole between `pos` and the end of its segment."""
        base = pos - pos % self.segment_bytes
        fd, end = self._fds.get(base), base + self.segment_bytes
        while fd is not None and pos < end:
            data = self.disk.next_data(fd, pos - base)
            if data is None:
                return
            pos = base + data
            size = min(len(_ZERO_CHUNK), end - pos)
            yield pos, size
            pos += size

    def drop_from(self, base: int) -> None:
        """Remove the files that start at `base` or later, last first."""
        self._drop([b for b in reversed(self.bases) if b >= base])

    def drop_below(self, base: int) -> None:
        """Remove the files that start before `base`, first first."""
        self._drop([b for b in self.bases if b < base])

    def _drop(self, bases: list[int]) -> None:
        """Remove files, in this order.

        They are emptied once their names are gone for good: a loss of power must not bring back an
        empty file. They are closed much later: a read may be under way in a thread, and must not
        find another file under its descriptor.
        """
        gone = [self._fds.pop(base) for base in bases]
        self._dropped += gone
        for base in bases:
            self._dirty.discard(base)
            self.disk.remove(self.path_of(base))
        # Also when there is nothing to remove: a process before this one may have been killed here.
        self.disk.sync_folder(self.folder)
        for fd in gone:
            self.disk.truncate(fd, 0)
        while len(self._dropped) > _KEPT_OPEN:
            self.disk.close(self._dropped.pop(0))

    def sync(self) -> None:
        """Put everything written so far on disk. May run in a thread.

        Raises:
            StorageError: it may not be there, and the page cache can no longer be trusted.
        """
        if self._failed is not None:
            # The kernel reports a failed write-back once; a second try would succeed in vain.
            raise StorageError(self._failed)
        dirty = list(self._dirty)
        self._dirty.difference_update(dirty)
        for base in dirty:
            self.sync_file(base)

    def sync_file(self, pos: int) -> None:
        """Put the file that holds `pos` on disk, whoever else syncs it just now; see `sync`."""
        fd = self._fds.get(pos - pos % self.segment_bytes)
        if fd is None:
            return
        try:
            self.disk.fdatasync(fd)
        except OSError as e:
            error = storage_error(e, self.path_of(pos), "fdatasync")
            self._failed = str(error)
            raise error from e

    # --- reading ------------------------------------------------------------------------------

    def read(self, pos: int, size: int) -> bytes:
        """Up to `size` bytes at `pos`, fewer at the end of a segment; b"" if there is none.

        May block on the disk.
        """
        offset = pos % self.segment_bytes
        fd = self._fds.get(pos - offset)
        if fd is None:
            return b""
        try:
            return self.disk.pread(fd, min(size, self.segment_bytes - offset), offset)
        except OSError as e:
            raise storage_error(e, self.path_of(pos), f"read at {pos}") from e

    def read_nowait(self, pos: int, size: int) -> bytes | None:
        """`size` bytes at `pos` if the page cache has them all, else None."""
        offset = pos % self.segment_bytes
        fd = self._fds.get(pos - offset)
        if fd is None or offset + size > self.segment_bytes:
            return None
        try:
            data = self.disk.pread_cached(fd, size, offset)
        except OSError as e:
            raise storage_error(e, self.path_of(pos), f"read at {pos}") from e
        return data if data is not None and len(data) == size else None

    def close(self) -> None:
        """Close the files."""
        for fd in (*self._fds.values(), *self._dropped):
            self.disk.close(fd)
        self._fds.clear()
        self._dropped.clear()


def translated(e: OSError, path: Path, what: str = "write") -> DiskFullError | StorageError:
    """What a failed call on `path` means to the log."""
    if e.errno in _NO_ROOM:
        return DiskFullError(f"{path}: no room left on the device; free some or move the store")
    return storage_error(e, path, what)


@contextmanager
def naming(path: Path, what: str) -> Iterator[None]:
    """Give what fails inside the name of its file or folder; see `translated`."""
    try:
        yield
    except OSError as e:
        raise translated(e, path, what) from e
