"""Files of one fixed size, named by their start offset, seen as one address space.

All writes are `pwrite`: a page fault through a map holds the interpreter's lock, and a map write
on a full disk is SIGBUS. Reads on the event loop use `preadv(RWF_NOWAIT)`.
"""

import errno
import os
from pathlib import Path

from ledgermq.dledger.errors import CallerError, DiskFullError, StorageError

_NAME_DIGITS = 20
_ZERO_CHUNK = bytes(1 << 20)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class Segments:
    """Sparse files of `segment_bytes` each below one folder.

    Not safe for concurrent writes; `sync` and `read` may run in a thread.
    """

    def __init__(self, folder: Path, segment_bytes: int, *, mend_size: bool = False) -> None:
        """Open the files that are there.

        Args:
            folder: made when missing.
            segment_bytes: size of each file.
            mend_size: the size is known to be right: the last file, when it is shorter, lost its
                end and is filled up with zeros.

        Raises:
            CallerError: made with another size.
        """
        self.folder = folder
        self.segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._fds: dict[int, int] = {}
        self._dropped: list[int] = []
        self._dirty: set[int] = set()
        # Why a sync failed once: from then on none proves anything.
        self._failed: str | None = None
        self._nowait = _RWF_NOWAIT != 0
        names = sorted(p.name for p in folder.iterdir())
        found = [n for n in names if len(n) == _NAME_DIGITS and n.isdigit()]
        try:
            for name in found:
                self._adopt(folder / name, mend_size=mend_size and name == found[-1])
        except BaseException:
            self.close()
            raise

    def _adopt(self, path: Path, *, mend_size: bool) -> None:
        base, size = int(path.name), path.stat().st_size
        fits = size in (0, self.segment_bytes) or (mend_size and size < self.segment_bytes)
        if base % self.segment_bytes or not fits:
            raise CallerError(
                f"{path} has {size} bytes and starts at {base}; the configured segment size is"
                f" {self.segment_bytes}. Set the size the store was made with"
                " (mappedFileSizeCommitLog), or choose another storePathRootDir."
            )
        fd = self._fds[base] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if size < self.segment_bytes:
            os.ftruncate(fd, self.segment_bytes)

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
            done = os.pwrite(fd, data, offset)
            while done < len(data):
                done += os.pwrite(fd, memoryview(data)[done:], offset + done)
        except OSError as e:
            raise _translate(e, self.path_of(pos)) from e
        self._dirty.add(base)

    def _create(self, base: int) -> int:
        path = self.path_of(base)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(fd, self.segment_bytes)
            sync_folder(self.folder)
        except BaseException:
            os.close(fd)
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
            left = self.read(pos, min(len(_ZERO_CHUNK), end - pos)).rstrip(b"\0")
            if left:
                self.write(pos, _ZERO_CHUNK[: len(left)])

    def clear_after(self, pos: int) -> None:
        """Zero what lies between `pos` and the end of its segment; holes stay holes."""
        base = pos - pos % self.segment_bytes
        fd, end = self._fds.get(base), base + self.segment_bytes
        while fd is not None and pos < end:
            pos = base + _next_data(fd, pos - base, self.segment_bytes)
            size = min(len(_ZERO_CHUNK), end - pos)
            if self.read(pos, size) != _ZERO_CHUNK[:size]:
                self.write(pos, _ZERO_CHUNK[:size])
            pos += size

    def drop_from(self, base: int) -> None:
        """Remove the files that start at `base` or later, last first.

        They are emptied at once, but closed with the rest: a read may be under way in a thread,
        and must not find another file under its descriptor.
        """
        for b in sorted((b for b in self._fds if b >= base), reverse=True):
            fd = self._fds.pop(b)
            self._dropped.append(fd)
            self._dirty.discard(b)
            self.path_of(b).unlink()
            os.ftruncate(fd, 0)
        sync_folder(self.folder)

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
            fd = self._fds.get(base)
            if fd is None:
                continue
            try:
                os.fdatasync(fd)
            except OSError as e:
                self._failed = f"{self.path_of(base)}: fdatasync failed: {e.strerror}"
                raise StorageError(self._failed) from e

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
            return os.pread(fd, min(size, self.segment_bytes - offset), offset)
        except OSError as e:
            raise StorageError(f"{self.path_of(pos)}: read at {pos} failed: {e.strerror}") from e

    def read_nowait(self, pos: int, size: int) -> bytes | None:
        """`size` bytes at `pos` if the page cache has them all, else None."""
        offset = pos % self.segment_bytes
        fd = self._fds.get(pos - offset)
        if fd is None or not self._nowait or offset + size > self.segment_bytes:
            return None
        buffer = bytearray(size)
        try:
            got = os.preadv(fd, [buffer], offset, _RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as e:
            if e.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                self._nowait = False
                return None
            raise StorageError(f"{self.path_of(pos)}: read at {pos} failed: {e.strerror}") from e
        return bytes(buffer) if got == size else None

    def close(self) -> None:
        """Close the files."""
        for fd in (*self._fds.values(), *self._dropped):
            os.close(fd)
        self._fds.clear()
        self._dropped.clear()


def sync_folder(folder: Path) -> None:
    """Make file names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _next_data(fd: int, offset: int, size: int) -> int:
    """Where the file has bytes again, from `offset` on; `size` when nowhere."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as e:
        return size if e.errno == errno.ENXIO else offset


def _translate(e: OSError, path: Path) -> Exception:
    if e.errno in _NO_ROOM:
        return DiskFullError(f"{path}: no room left on the device; free some or move the store")
    return StorageError(f"{path}: write failed: {e.strerror}")
