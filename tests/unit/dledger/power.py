"""A disk that loses what was not synced when the power fails.

The files are real ones: the page cache. Beside them it keeps what the platter would hold: bytes
after the `fdatasync` of their file, names after the `sync_folder` of their folder.
"""

import errno
import os
from collections import defaultdict
from pathlib import Path

from ledgermq.dledger.disk import OsDisk
from tests.unit.dledger.logs import PowerCut


class PowerDisk(OsDisk):
    """`calls`: so many changes happen, then the power fails; `PowerCut` in the next one.

    Attributes:
        failing_syncs: so many of the next syncs fail. What they were to write never reaches the
            platter unless it is written again: the page cache takes it for clean.
    """

    def __init__(self, calls: int = 1 << 60) -> None:
        super().__init__()
        self.failing_syncs = 0
        self._left = calls
        self._open: set[int] = set()
        # By inode: length, and the writes in their order; the files may be large and sparse.
        self._platter: dict[int, tuple[int, list[tuple[int, bytes]]]] = {}
        self._dirty: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._names: dict[Path, dict[str, int]] = {}

    def _count(self) -> None:
        if self._left <= 0:
            raise PowerCut
        self._left -= 1

    # --- changes --------------------------------------------------------------------------------

    def open(self, path: Path, *, create: bool = False) -> int:
        fresh = not path.exists()
        fd = super().open(path, create=create)
        self._open.add(fd)
        if fresh:
            self._forget(_inode(fd))
        return fd

    def lock(self, path: Path, *, folder: bool = False) -> int:
        fd = super().lock(path, folder=folder)
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:  # type: ignore[override]
        self._open.discard(fd)
        os.close(fd)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        self._count()
        done = os.pwrite(fd, data, offset)
        self._dirty[_inode(fd)].append((offset, done))
        return done

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        self._count()
        os.ftruncate(fd, size)

    def rename(self, old: Path, new: Path) -> None:  # type: ignore[override]
        self._count()
        old.replace(new)

    def remove(self, path: Path) -> None:
        self._count()
        super().remove(path)

    # --- syncs ----------------------------------------------------------------------------------

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._count()
        inode = _inode(fd)
        writes = self._dirty.pop(inode, [])
        if self.failing_syncs:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        _, held = self._platter.get(inode, (0, []))
        held += [(offset, os.pread(fd, count, offset)) for offset, count in writes]
        self._platter[inode] = (self.size(fd), held)

    def sync_folder(self, folder: Path) -> None:
        self._count()
        entries = [p for p in folder.iterdir() if p.is_file()]
        self._names[folder] = {p.name: p.stat().st_ino for p in entries}

    # --- the end --------------------------------------------------------------------------------

    def fail(self, root: Path) -> None:
        """The power fails: below `root` there is only what the platter holds. It can go on."""
        for fd in list(self._open):
            self.close(fd)
        for path in [p for p in root.rglob("*") if p.is_file()]:
            path.unlink()
        platter, self._platter = self._platter, {}
        self._dirty.clear()
        self._left = 1 << 60
        for folder, names in self._names.items():
            for name, inode in names.items():
                names[name] = self._restore(folder / name, *platter.get(inode, (0, [])))

    def _restore(self, path: Path, size: int, writes: list[tuple[int, bytes]]) -> int:
        """A file as the platter has it; its inode."""
        with path.open("wb") as file:
            for offset, data in writes:
                os.pwrite(file.fileno(), data, offset)
            file.truncate(size)
            inode = _inode(file.fileno())
        self._platter[inode] = (size, writes)
        return inode

    def _forget(self, inode: int) -> None:
        """A number that a removed file had."""
        self._platter.pop(inode, None)
        self._dirty.pop(inode, None)


def _inode(fd: int) -> int:
    return os.fstat(fd).st_ino
