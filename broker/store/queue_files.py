"""The files of all consume queues: each of one size, few of them open at a time."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from ledgermq.dledger.disk import Disk
from ledgermq.dledger.errors import storage_error
from ledgermq.dledger.store.segments import translated
from ledgermq.remoting.errors import StorageError

_MAX_OPEN_FILES = 256
T = TypeVar("T")


class QueueFiles:
    """Reads and writes by path; the longest unused file is closed first.

    For one thread, but for `read` and `size`, which open the file anew.

    Attributes:
        segment_bytes: size of each file.
    """

    def __init__(self, segment_bytes: int, disk: Disk, threads: Executor) -> None:
        """`threads` run what may wait for the disk."""
        self.segment_bytes = segment_bytes
        self.disk = disk
        self._threads = threads
        self._fds: OrderedDict[Path, int] = OrderedDict()

    async def in_thread(self, function: Callable[..., T], *args: object) -> T:
        """Call what may wait for the disk."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    # --- reading ------------------------------------------------------------------------------

    def read_cached(self, path: Path, size: int, offset: int) -> bytes | None:
        """`size` bytes if all are in memory; None: a thread must look for them."""
        try:
            fd = self._get(path, create=False)
            data = None if fd is None else self.disk.pread_cached(fd, size, offset)
        except OSError as e:
            raise translated(e, path, "read") from e
        # The cache may hold the first of several pages, and not the next.
        return data if data is not None and len(data) == size else None

    def read(self, path: Path, size: int, offset: int) -> bytes:
        """Up to `size` bytes, b"" without a file; may wait for the disk, in a thread.

        By a descriptor of its own: another thread may close a shared one, and its number may
        then be another file's.
        """
        try:
            fd = self.disk.open(path)
        except FileNotFoundError:
            return b""
        except OSError as e:
            raise translated(e, path, "open") from e
        try:
            return self.disk.pread(fd, size, offset)
        except OSError as e:
            raise translated(e, path, "read") from e
        finally:
            self.disk.close(fd)

    def size(self, path: Path) -> int | None:
        """Length of a file in bytes, None when there is none."""
        try:
            fd = self.disk.open(path)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise translated(e, path, "open") from e
        try:
            return self.disk.size(fd)
        except OSError as e:
            raise translated(e, path, "read") from e
        finally:
            self.disk.close(fd)

    # --- writing ------------------------------------------------------------------------------

    def write(self, path: Path, data: memoryview, offset: int) -> None:
        """Write into a file, which is made when missing.

        Raises:
            DiskFullError: no room.
        """
        try:
            fd = self._get(path, create=True)
            if fd is None:
                raise StorageError(f"{path}: it cannot be made")
            while data:
                done = self.disk.pwrite(fd, data, offset)
                data, offset = data[done:], offset + done
        except OSError as e:
            raise translated(e, path, "write") from e

    def _get(self, path: Path, *, create: bool) -> int | None:
        fd = self._fds.get(path)
        if fd is not None:
            self._fds.move_to_end(path)
            return fd
        fd = self._open(path, create=create)
        if fd is None:
            return None
        self._fds[path] = fd
        if len(self._fds) > _MAX_OPEN_FILES:
            self.disk.close(self._fds.popitem(last=False)[1])
        return fd

    def _open(self, path: Path, *, create: bool) -> int | None:
        try:
            fd = self.disk.open(path, create=create)
        except FileNotFoundError:
            if not create:
                return None
            self.disk.make_folder(path.parent)
            fd = self.disk.open(path, create=True)
        try:
            if create and self.disk.size(fd) < self.segment_bytes:
                self.disk.truncate(fd, self.segment_bytes)
        except BaseException:
            self.disk.close(fd)
            raise
        return fd

    # --- removing -----------------------------------------------------------------------------

    def forget(self, where: Path) -> None:
        """Close a file, or all in a folder: it is about to be removed."""
        for path in [p for p in self._fds if p.is_relative_to(where)]:
            self.disk.close(self._fds.pop(path))

    def close(self) -> None:
        """Close every file."""
        for fd in self._fds.values():
            self.disk.close(fd)
        self._fds.clear()


def sync(disk: Disk, files: Iterable[Path], folders: Iterable[Path]) -> None:
    """Put files and the names in folders on disk; one removed meanwhile needs none.

    May run in a thread.
    """
    for path in files:
        try:
            fd = disk.open(path)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise storage_error(e, path, "open") from e
        try:
            disk.fdatasync(fd)
        except OSError as e:
            raise storage_error(e, path, "fdatasync") from e
        finally:
            disk.close(fd)
    for folder in folders:
        try:
            disk.sync_folder(folder)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise storage_error(e, folder, "fsync") from e
