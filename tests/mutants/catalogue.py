"""The mutants: small wrong changes of the shipped source, and the tests that must notice them."""

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent


class CatalogueError(Exception):
    """A mutant that says nothing: it no longer fits the source, or names what does not exist."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change.

    Attributes:
        name: short, unique.
        why: what would go wrong for a user.
        file: below the root.
        old: what stands there, exactly once.
        new: what the mutant has instead.
        tests: pytest arguments, the cheapest first.
    """

    name: str
    why: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The source with the change; CatalogueError when it does not fit or is no program."""
        found = text.count(self.old)
        if found != 1:
            raise CatalogueError(
                f"{self.name}: its `old` text is {found} times in {self.file}, not once;"
                " bring the patch up to the source"
            )
        changed = text.replace(self.old, self.new)
        try:
            compile(changed, self.file, "exec")
        except SyntaxError as e:
            raise CatalogueError(f"{self.name}: {self.file} is no Python then: {e}") from e
        if changed == text:
            raise CatalogueError(f"{self.name}: changes nothing")
        return changed


def load(folder: Path = FOLDER) -> list[Mutant]:
    """Every mutant of the `*.toml` files, in their order."""
    mutants = [
        Mutant(
            **{key: entry[key] for key in ("name", "why", "file", "old", "new")},
            tests=tuple(entry["tests"]),
        )
        for path in sorted(folder.glob("*.toml"))
        for entry in tomllib.loads(path.read_text())["mutant"]
    ]
    twice = [name for name, count in Counter(m.name for m in mutants).items() if count > 1]
    if twice:
        raise CatalogueError(f"two mutants of one name: {', '.join(twice)}")
    return mutants


def check(mutants: list[Mutant], root: Path) -> None:
    """Refuse, before anything runs, what does not fit the tree."""
    problems: list[str] = []
    for m in mutants:
        try:
            m.applied((root / m.file).read_text())
        except (CatalogueError, FileNotFoundError) as e:
            problems.append(str(e))
        gone = [t for t in m.tests if not (root / t.partition("::")[0]).exists()]
        if gone or not m.tests:
            problems.append(f"{m.name}: no such test: {', '.join(gone) or 'none is named'}")
    if problems:
        raise CatalogueError("\n".join(problems))
