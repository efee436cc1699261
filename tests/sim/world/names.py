"""Folders: which names there are, and which of them a loss of power would leave."""

import errno
import os
from pathlib import Path, PurePath
from random import Random
from typing import NamedTuple, Union

from .inode import Inode, Loss

Node = Union["Folder", Inode]


class NameOp(NamedTuple):
    """Names that changed at once; None: it is gone."""

    number: int
    changes: tuple[tuple[str, Node | None], ...]


class Folder:
    """Names of one folder.

    Attributes:
        entries: as a process sees them.
        durable: as they are on the platter.
        log: changes that are not there yet, oldest first.
    """

    __slots__ = ("durable", "entries", "log")

    def __init__(self) -> None:
        self.entries: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}
        self.log: list[NameOp] = []

    def change(self, number: int, *changes: tuple[str, Node | None]) -> None:
        """Change names, in one step."""
        _apply(self.entries, changes)
        self.log.append(NameOp(number, changes))

    def sync(self) -> None:
        """All names are on the platter."""
        self.durable = dict(self.entries)
        self.log.clear()

    def lose_power(self, loss: Loss, cut: int, rng: Random) -> None:
        """Keep the oldest of the changes: a journal keeps them in order."""
        count = sum(op.number < cut for op in self.log)
        if loss is Loss.LOST:
            count = 0
        elif loss is Loss.REORDERED:
            count = rng.randint(0, len(self.log))
        for op in self.log[:count]:
            _apply(self.durable, op.changes)
        self.log.clear()
        self.entries = dict(self.durable)


def _apply(names: dict[str, Node], changes: tuple[tuple[str, Node | None], ...]) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Names:
    """All folders of a disk, from the root on."""

    def __init__(self) -> None:
        self.root = Folder()

    def find(self, path: PurePath, *, durable: bool = False) -> Node | None:
        """What is called so, None: nothing."""
        node: Node = self.root
        for part in path.parts[1:] if path.is_absolute() else path.parts:
            if not isinstance(node, Folder):
                return None
            found = (node.durable if durable else node.entries).get(part)
            if found is None:
                return None
            node = found
        return node

    def folder(self, path: PurePath) -> Folder:
        """The folder of this name.

        Raises:
            FileNotFoundError: there is none.
            NotADirectoryError: it is a file.
        """
        node = self.find(path)
        if node is None:
            raise error(errno.ENOENT, path)
        if not isinstance(node, Folder):
            raise error(errno.ENOTDIR, path)
        return node

    def chain(self, path: PurePath) -> list[tuple[Folder, str, Node]]:
        """(folder, name in it, what that is) from the root to `path`."""
        found: list[tuple[Folder, str, Node]] = []
        node: Node = self.root
        for part in path.parts[1:] if path.is_absolute() else path.parts:
            assert isinstance(node, Folder)
            found.append((node, part, node.entries[part]))
            node = node.entries[part]
        return found

    def folders(self) -> list[Folder]:
        """All that a process sees, parents first."""
        found = [self.root]
        for folder in found:
            found.extend(n for n in folder.entries.values() if isinstance(n, Folder))
        return found

    def lose_power(self, loss: Loss, cut: int, rng: Random) -> None:
        """See `Folder.lose_power`; what no name leads to is gone."""
        todo = [self.root]
        for folder in todo:
            folder.lose_power(loss, cut, rng)
            todo.extend(n for n in folder.entries.values() if isinstance(n, Folder))

    def files(self, *, durable: bool) -> list[tuple[str, Inode]]:
        """(path, file) of all files."""
        found: list[tuple[str, Inode]] = []
        todo: list[tuple[str, Folder]] = [("", self.root)]
        for at, folder in todo:
            for name, node in (folder.durable if durable else folder.entries).items():
                if isinstance(node, Folder):
                    todo.append((f"{at}/{name}", node))
                else:
                    found.append((f"{at}/{name}", node))
        return found


def error(number: int, path: PurePath | str = "") -> OSError:
    """What the system would raise."""
    return OSError(number, os.strerror(number), str(path))


def as_path(path: Path | str) -> Path:
    """Invariants name files by text."""
    return path if isinstance(path, Path) else Path(path)
