"""The disk of a machine: page cache, platter, names, and everything that can go wrong with them.

A sync proves only what was written before it began. Names are on the platter after `sync_folder`
of their folder; a folder's own name, and those of the folders it lies in, with the first
`sync_folder` in it (`strict_folders`: only with one of its parent).
"""

import errno
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from .inode import PAGE, Inode, Loss
from .names import Folder, Names, Node, as_path, error

if TYPE_CHECKING:
    from .world import World

# How long calls in threads take: at least, and at most so much more.
_SYNC_US = (40, 400)
_CALL_US = (2, 40)


class SimDisk:
    """Survives every process. Processes reach it through `ProcessDisk`.

    Attributes:
        fail_syncs: so many of the next syncs give EIO; what they were to write is never written,
            but the page cache takes it for clean.
        fail_reads: so many of the next reads give EIO.
        fail_writes: so many of the next writes give EIO.
        room: bytes left before ENOSPC, None for plenty. What has its blocks can be overwritten.
        slow_us: added to each write and sync; on the loop it stalls the process.
        miss_chance: that `pread_cached` finds nothing.
        strict_folders: see above.
        counts: syncs, and faults that struck, by name.
        number: of the last change.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.names = Names()
        self.number = 0
        self.fail_syncs = 0
        self.fail_reads = 0
        self.fail_writes = 0
        self.room: int | None = None
        self.slow_us = 0
        self.miss_chance = 0.05
        self.strict_folders = False
        self.counts: Counter[str] = Counter()
        # Locked files and folders.
        self.locks: dict[Node, int] = {}
        self._last_fd = 2

    def next_fd(self) -> int:
        """A descriptor that was never used before."""
        self._last_fd += 1
        return self._last_fd

    def next_number(self) -> int:
        """Number of the next change."""
        self.number += 1
        return self.number

    def call_us(self) -> int:
        """How long a call takes in a thread."""
        return _CALL_US[0] + int(self.world.random() * _CALL_US[1])

    def sync_us(self) -> int:
        """How long a sync takes in a thread."""
        return _SYNC_US[0] + int(self.world.random() * _SYNC_US[1]) + self.slow_us

    # --- files ----------------------------------------------------------------------------------

    def read(self, inode: Inode, size: int, offset: int) -> bytes:
        """From the page cache, or EIO."""
        if self.fail_reads:
            self.fail_reads -= 1
            self.counts["failed reads"] += 1
            raise error(errno.EIO)
        return inode.cache.read(offset, size)

    def write(self, inode: Inode, data: bytes, offset: int) -> int:
        """Into the page cache; how much found room. EIO or ENOSPC."""
        if self.fail_writes:
            self.fail_writes -= 1
            self.counts["failed writes"] += 1
            raise error(errno.EIO)
        if not data:
            return 0
        blocks = inode.new_blocks(offset, len(data))
        if blocks:
            if self.room is not None:
                data = self._squeeze(blocks, data, offset)
            inode.blocks.update(blocks)
        self.number += 1
        inode.write(self.number, offset, data)
        return len(data)

    def _squeeze(self, blocks: list[int], data: bytes, offset: int) -> bytes:
        """As much of `data` as there is room for; takes blocks that have none out of the list."""
        assert self.room is not None
        fitting = max(self.room, 0) // PAGE
        if fitting < len(blocks):
            self.counts["full"] += 1
            data = data[: max(blocks[fitting] * PAGE - offset, 0)]
            del blocks[fitting:]
            if not data:
                raise error(errno.ENOSPC)
        self.room -= len(blocks) * PAGE
        return data

    def cut(self, inode: Inode, length: int) -> None:
        """Cut or extend a file."""
        before = len(inode.blocks)
        inode.cut(self.next_number(), length)
        self._free(before - len(inode.blocks))

    def _free(self, blocks: int) -> None:
        if self.room is not None:
            self.room += blocks * PAGE

    def sync(self, inode: Inode, up_to: int) -> None:
        """The end of a sync that began when `up_to` was the number of the last change."""
        if self.fail_syncs:
            self.fail_syncs -= 1
            self.counts["failed syncs"] += 1
            inode.fail_sync(up_to)
            raise error(errno.EIO)
        inode.sync(up_to)

    # --- names ----------------------------------------------------------------------------------

    def open(self, path: Path, *, create: bool) -> Inode:
        """The file of this name. FileNotFoundError, IsADirectoryError."""
        node = self.names.find(path)
        if isinstance(node, Folder):
            raise error(errno.EISDIR, path)
        if node is None:
            if not create:
                raise error(errno.ENOENT, path)
            node = Inode()
            self.names.folder(path.parent).change(self.next_number(), (path.name, node))
        return node

    def make_folder(self, path: Path) -> None:
        """With its parents."""
        folder = self.names.root
        for part in path.parts[1:] if path.is_absolute() else path.parts:
            node = folder.entries.get(part)
            if node is None:
                node = Folder()
                folder.change(self.next_number(), (part, node))
            if not isinstance(node, Folder):
                raise error(errno.EEXIST, path)
            folder = node

    def remove(self, path: Path) -> None:
        """A file; none is fine."""
        node = self.names.find(path)
        if node is None:
            return
        if isinstance(node, Folder):
            raise error(errno.EISDIR, path)
        self.names.folder(path.parent).change(self.next_number(), (path.name, None))
        self._free(len(node.blocks))

    def remove_folder(self, path: Path) -> None:
        """A folder and all in it, piece by piece; none is fine."""
        folder = self.names.find(path)
        if not isinstance(folder, Folder):
            return
        for name, node in sorted(folder.entries.items()):
            if isinstance(node, Folder):
                self.remove_folder(path / name)
            else:
                self.remove(path / name)
        self.names.folder(path.parent).change(self.next_number(), (path.name, None))

    def rename(self, old: Path, new: Path) -> None:
        """Within one folder it is one step; between two it is two."""
        node = self.names.find(old)
        if node is None:
            raise error(errno.ENOENT, old)
        source, target = self.names.folder(old.parent), self.names.folder(new.parent)
        replaced = target.entries.get(new.name)
        if isinstance(replaced, Folder) and replaced.entries:
            raise error(errno.ENOTEMPTY, new)
        if source is target:
            source.change(self.next_number(), (old.name, None), (new.name, node))
        else:
            number = self.next_number()
            target.change(number, (new.name, node))
            source.change(number, (old.name, None))
        if isinstance(replaced, Inode):
            self._free(len(replaced.blocks))

    def sync_folder(self, path: Path) -> None:
        """Its names are on the platter, or EIO."""
        if self.fail_syncs:
            self.fail_syncs -= 1
            self.counts["failed syncs"] += 1
            raise error(errno.EIO, path)
        folder = self.names.folder(path)
        folder.sync()
        if not self.strict_folders:
            for parent, name, node in self.names.chain(path):
                parent.durable[name] = node

    # --- trouble --------------------------------------------------------------------------------

    def power_loss(self, loss: Loss, rng: Random) -> None:
        """Only the platter is left, and of what was not synced a part; see `Loss`."""
        files = self.names.files(durable=False)
        numbers = {op.number for _, inode in files for op in inode.log}
        numbers.update(op.number for folder in self.names.folders() for op in folder.log)
        cut = rng.choice(sorted(numbers)) if numbers else 0
        if loss is Loss.PREFIX and rng.random() < 0.1:
            cut = self.number + 1
        self.names.lose_power(loss, cut, rng)
        for _, inode in self.names.files(durable=True):
            inode.lose_power(loss, cut, rng)
        self.counts[f"power losses, {loss.value}"] += 1
        self.locks.clear()

    def drop_caches(self) -> None:
        """Clean pages are read anew from the platter: what a failed sync forgot is gone."""
        for _, inode in self.names.files(durable=False):
            inode.drop_cache()

    def rot(self, wanted: Callable[[str], bool], rng: Random) -> tuple[str, int] | None:
        """Flip a byte of some block in use, on the platter and in the cache.

        Args:
            wanted: whether a file may be hit, by its path.
            rng: chooses file and byte.

        Returns:
            (path, offset), or None when there is nothing to hit.
        """
        found = [
            (path, inode)
            for path, inode in self.names.files(durable=True)
            if inode.platter.data and wanted(path)
        ]
        if not found:
            return None
        path, inode = rng.choice(found)
        offset = rng.randrange(min(len(inode.platter.data), max(inode.platter.length, 1)))
        self.rot_at(path, offset, rng.randrange(1, 256))
        return path, offset

    def rot_at(self, path: Path | str, offset: int, flip: int = 1) -> None:
        """Flip the bits `flip` of one byte, on the platter and in the cache."""
        node = self.names.find(as_path(path), durable=True)
        assert isinstance(node, Inode)
        for image in (node.platter, node.cache):
            if offset < len(image.data):
                image.data[offset] ^= flip
        self.counts["rot"] += 1

    def wipe(self) -> None:
        """Another, empty disk."""
        self.names = Names()
        self.locks.clear()
        self.counts["wipes"] += 1

    # --- for invariants -------------------------------------------------------------------------

    def durable_files(self) -> list[str]:
        """Paths that a loss of power would leave for sure."""
        return sorted(path for path, _ in self.names.files(durable=True))

    def durable_read(self, path: Path | str, offset: int, size: int) -> bytes | None:
        """Bytes that a loss of power would leave for sure; None: not even the file."""
        node = self.names.find(as_path(path), durable=True)
        return node.platter.read(offset, size) if isinstance(node, Inode) else None

    def durable_size(self, path: Path | str) -> int | None:
        """Length of a file after a loss of power, if nothing more is written."""
        node = self.names.find(as_path(path), durable=True)
        return node.platter.length if isinstance(node, Inode) else None

    def unsynced_bytes(self) -> int:
        """What a loss of power could take."""
        files = self.names.files(durable=False)
        return sum(len(op.data or b"") for _, inode in files for op in inode.log)
