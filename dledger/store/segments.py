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

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._fds: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._nowait = _RWF_NOWAIT != 0
        for path in sorted(folder.iterdir()):
            if len(path.name) == _NAME_DIGITS and path.name.isdigit():
                self._adopt(path)

    def _adopt(self, path: Path) -> None:
        base, size = int(path.name), path.stat().st_size
        if base % self.segment_bytes or size not in (0, self.segment_bytes):
            raise CallerError(
                f"{path} has {size} bytes and starts at {base}; the configured segment size is"
                f" {self.segment_bytes}. Set the size the store was made with"
                " (mappedFileSizeCommitLog), or choose another storePathRootDir."
            )
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if size == 0:
            os.ftruncate(fd, self.segment_bytes)
        self._fds[base] = fd

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
        os.ftruncate(fd, self.segment_bytes)
        sync_folder(self.folder)
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

    def drop_from(self, base: int) -> None:
        """Remove the files that start at `base` or later, last first."""
        for b in sorted((b for b in self._fds if b >= base), reverse=True):
            os.close(self._fds.pop(b))
            self._dirty.discard(b)
            self.path_of(b).unlink()
        sync_folder(self.folder)

    def sync(self) -> None:
        """Put everything written so far on disk. May run in a thread.

        Raises:
            StorageError: it may not be there, and the page cache can no longer be trusted.
        """
        dirty = list(self._dirty)
        self._dirty.difference_update(dirty)
        for base in dirty:
            fd = self._fds.get(base)
            if fd is None:
                continue
            try:
                os.fdatasync(fd)
            except OSError as e:
                raise StorageError(f"{self.path_of(base)}: fdatasync failed: {e.strerror}") from e

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
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


def sync_folder(folder: Path) -> None:
    """Make file names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _translate(e: OSError, path: Path) -> Exception:
    if e.errno in _NO_ROOM:
        return DiskFullError(f"{path}: no room left on the device; free some or move the store")
    return StorageError(f"{path}: write failed: {e.strerror}")
