"""The disk as one process sees it: descriptors, locks, and the time that calls take."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .inode import Inode
from .names import Folder, Node, error

if TYPE_CHECKING:
    from .process import Process
    from .sim_disk import SimDisk


class Killed(BaseException):
    """Ends whatever a process was doing when it was killed; nothing it does has an effect."""


class ProcessDisk:
    """A `Disk`. In a thread each call lets the world go on before it acts.

    Once the process is dead, calls raise `Killed` and do nothing.
    """

    def __init__(self, process: "Process", disk: "SimDisk") -> None:
        self._process = process
        self._disk = disk
        self._files: dict[int, Inode] = {}
        self._locks: dict[int, Node] = {}
        # Dead, or a trap is set: look closer at each call.
        self._odd = False
        self._dead = False
        self._trap: tuple[Callable[[], None], str | None] | None = None
        self._trap_in = 0

    @property
    def is_slow(self) -> bool:
        """Whether waiting for it is felt."""
        return self._disk.slow_us > 0

    def set_trap(self, n: int, action: Callable[[], None], kind: str | None) -> None:
        """See `Process.at_disk_call`."""
        self._trap, self._trap_in, self._odd = (action, kind), n, True

    def clear_trap(self) -> None:
        """See `Process.disarm`."""
        self._trap, self._odd = None, self._dead

    def release(self) -> None:
        """The process is dead: its descriptors and locks are gone."""
        self._dead = self._odd = True
        self._trap = None
        for node in self._locks.values():
            self._disk.locks.pop(node, None)
        self._locks.clear()
        self._files.clear()

    def _look(self, kind: str) -> None:
        if self._dead:
            raise Killed
        if self._trap is None or self._trap[1] not in (None, kind):
            return
        self._trap_in -= 1
        if self._trap_in <= 0:
            action, self._trap, self._odd = self._trap[0], None, False
            action()
            if self._dead:
                raise Killed

    def _wait(self, kind: str) -> None:
        """A call that is neither a hot one nor a sync."""
        if self._odd:
            self._look(kind)
        job = self._process.job
        if job is not None:
            job.wait(self._disk.call_us())

    def _file(self, fd: int) -> Inode:
        file = self._files.get(fd)
        if file is None:
            raise error(errno.EBADF)
        return file

    # --- files ----------------------------------------------------------------------------------

    def open(self, path: Path, *, create: bool = False) -> int:
        self._wait("open")
        inode = self._disk.open(path, create=create)
        fd = self._disk.next_fd()
        self._files[fd] = inode
        return fd

    def close(self, fd: int) -> None:
        # Never `Killed`: the dead close what they hold while they unwind.
        if self._dead:
            return
        if self._files.pop(fd, None) is not None:
            return
        node = self._locks.pop(fd, None)
        if node is None:
            raise error(errno.EBADF)
        self._disk.locks.pop(node, None)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._wait("pread")
        return self._disk.read(self._file(fd), size, offset)

    def pread_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        if self._odd:
            self._look("pread_cached")
        disk = self._disk
        chance = disk.world.random()
        if chance < disk.miss_chance:
            # Every other time the first pages are there, and those behind them are not.
            is_partly = size > 1 and chance < disk.miss_chance / 2
            return disk.read(self._file(fd), size // 2, offset) if is_partly else None
        return disk.read(self._file(fd), size, offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self._odd:
            self._look("pwrite")
        process, disk = self._process, self._disk
        if process.job is not None:
            process.job.wait(disk.call_us() + disk.slow_us)
        elif disk.slow_us:
            process.owed_us += disk.slow_us
        return disk.write(self._file(fd), bytes(data), offset)

    def truncate(self, fd: int, size: int) -> None:
        self._wait("truncate")
        self._disk.cut(self._file(fd), size)

    def size(self, fd: int) -> int:
        self._wait("size")
        return self._file(fd).cache.length

    def next_data(self, fd: int, offset: int) -> int | None:
        self._wait("next_data")
        return self._file(fd).next_data(offset)

    def fdatasync(self, fd: int) -> None:
        if self._odd:
            self._look("fdatasync")
        process, disk = self._process, self._disk
        inode, up_to = self._file(fd), disk.number
        disk.counts["syncs"] += 1
        if process.job is not None:
            process.job.wait(disk.sync_us())
        elif disk.slow_us:
            process.owed_us += disk.slow_us
        disk.sync(inode, up_to)

    # --- names ----------------------------------------------------------------------------------

    def lock(self, path: Path, *, folder: bool = False) -> int:
        self._wait("lock")
        disk = self._disk
        node: Node = disk.names.folder(path) if folder else disk.open(path, create=True)
        if node in disk.locks:
            raise BlockingIOError(errno.EAGAIN, "locked", str(path))
        fd = disk.next_fd()
        self._locks[fd] = node
        disk.locks[node] = fd
        return fd

    def names(self, folder: Path) -> list[str]:
        self._wait("names")
        node = self._disk.names.find(folder)
        return sorted(node.entries) if isinstance(node, Folder) else []

    def exists(self, path: Path) -> bool:
        self._wait("exists")
        return self._disk.names.find(path) is not None

    def make_folder(self, folder: Path) -> None:
        self._wait("make_folder")
        self._disk.make_folder(folder)

    def remove(self, path: Path) -> None:
        self._wait("remove")
        self._disk.remove(path)

    def remove_folder(self, folder: Path) -> None:
        self._wait("remove_folder")
        self._disk.remove_folder(folder)

    def rename(self, old: Path, new: Path) -> None:
        self._wait("rename")
        self._disk.rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        if self._odd:
            self._look("sync_folder")
        process, disk = self._process, self._disk
        disk.counts["syncs"] += 1
        if process.job is not None:
            process.job.wait(disk.sync_us())
        elif disk.slow_us:
            process.owed_us += disk.slow_us
        disk.sync_folder(folder)
