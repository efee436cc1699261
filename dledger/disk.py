# ruff: noqa: D102 - what each method does is said once, in `Disk`
"""The few things that the log asks of a disk, so that a simulated one can stand in for it.

Everything that must survive goes through here; nothing else in the store calls the system. Errors
are plain OSErrors: the callers know what each of them means.
"""

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Protocol

_RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_NO_NOWAIT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Disk(Protocol):
    """Files by descriptor, folders by path. `fdatasync` and `pread` may be called by threads."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """Descriptor for reading and writing. FileNotFoundError: not there, nor to be made."""

    def close(self, fd: int) -> None:
        """Close a descriptor."""

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes at `offset`; may wait for the disk."""

    def pread_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        """Up to `size` bytes if the page cache has them; None: not there, or nobody can tell.

        Fewer bytes say nothing about the file: the cache may have the first pages only.
        """

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write at `offset`; how many bytes were written."""

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file, or extend it by a hole."""

    def size(self, fd: int) -> int:
        """Length of a file in bytes."""

    def next_data(self, fd: int, offset: int) -> int | None:
        """Where the file has bytes again from `offset` on; None: nowhere."""

    def fdatasync(self, fd: int) -> None:
        """What was written so far is on disk when this returns."""

    def lock(self, path: Path, *, folder: bool = False) -> int:
        """Lock a file (made when missing) or a folder until the descriptor is closed.

        BlockingIOError: another process holds it.
        """

    def names(self, folder: Path) -> list[str]:
        """Names in a folder, sorted; none when it does not exist."""

    def exists(self, path: Path) -> bool:
        """Whether there is a file or folder."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder and its parents unless they exist."""

    def remove(self, path: Path) -> None:
        """Remove a file; none is fine."""

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder and all in it; none is fine."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or folder another name, replacing a file of that name."""

    def sync_folder(self, folder: Path) -> None:
        """Names in a folder are on disk when this returns."""


class OsDisk:
    """The disk of this machine."""

    # The hot ones are the system calls themselves.
    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    truncate = staticmethod(os.ftruncate)
    fdatasync = staticmethod(getattr(os, "fdatasync", os.fsync))
    rename = staticmethod(os.replace)

    def __init__(self) -> None:
        # Set when a file system turns out not to know the flag.
        self._can_ask_cache = _RWF_NOWAIT != 0

    def open(self, path: Path, *, create: bool = False) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)

    def pread_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        if not self._can_ask_cache:
            return None
        buffer = bytearray(size)
        try:
            got = os.preadv(fd, [buffer], offset, _RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as e:
            if e.errno not in _NO_NOWAIT:
                raise
            self._can_ask_cache = False
            return None
        return bytes(buffer) if got == size else bytes(buffer[:got])

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def next_data(self, fd: int, offset: int) -> int | None:
        try:
            return os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as e:
            # A file system that does not know the question: every byte may be data.
            return None if e.errno == errno.ENXIO else offset

    def lock(self, path: Path, *, folder: bool = False) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR | os.O_CREAT
        fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def names(self, folder: Path) -> list[str]:
        try:
            return sorted(p.name for p in folder.iterdir())
        except FileNotFoundError:
            return []

    def exists(self, path: Path) -> bool:
        return path.exists()

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_folder(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def sync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def ensure_folder(disk: Disk, folder: Path) -> None:
    """Make a folder unless it is there; all names in it and above it that are new are on disk.

    A process before this one may have been killed between making a file and syncing its name: such
    a file must not be built upon before that is done.
    """
    made = [p for p in (folder, *folder.parents) if not disk.exists(p)]
    disk.make_folder(folder)
    for path in reversed(made):
        disk.sync_folder(path.parent)
    disk.sync_folder(folder)


def read_file(disk: Disk, path: Path) -> bytes | None:
    """A whole file; None when there is none."""
    try:
        fd = disk.open(path)
    except FileNotFoundError:
        return None
    try:
        parts: list[bytes] = []
        at = 0
        while part := disk.pread(fd, max(disk.size(fd) - at, 1), at):
            parts.append(part)
            at += len(part)
        return b"".join(parts)
    finally:
        disk.close(fd)


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Write a whole file: after a crash there is the old one or the new one, never a mixture."""
    temporary = path.with_name(path.name + ".tmp")
    disk.remove(temporary)
    fd = disk.open(temporary, create=True)
    try:
        done = 0
        while done < len(data):
            done += disk.pwrite(fd, memoryview(data)[done:], done)
        disk.fdatasync(fd)
    finally:
        disk.close(fd)
    disk.rename(temporary, path)
    disk.sync_folder(path.parent)
