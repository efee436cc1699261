"""Applies the mutants one at a time to copies of the tree and looks which test notices."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from queue import SimpleQueue

from .catalogue import CatalogueError, Mutant
from .tree import Failure, Tree

WORKERS = 2
NAMED_LIMIT_S = 90
WIDE_LIMIT_S = 240
BASELINE_LIMIT_S = 300

# What is run when none of the named tests notices.
WIDE = {
    "dledger/raft": ("tests/unit/raft", "tests/scenario", "tests/sim"),
    "dledger": ("tests/unit/dledger", "tests/property", "tests/sim"),
    "broker": ("tests/unit/broker", "tests/sim"),
    "namesrv": ("tests/unit/namesrv",),
}
# A mutant that dies of these is no program, and proves nothing about the tests.
_NO_PROGRAM = (
    "NameError",
    "UnboundLocalError",
    "ImportError",
    "ModuleNotFoundError",
    "SyntaxError",
)


class State(Enum):
    """How a mutant ended."""

    CAUGHT = "caught"
    SURVIVED = "survived"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        by: the test that noticed, or why there is none.
        error: what that test said.
        named: whether it was one of the tests that the mutant names.
    """

    mutant: Mutant
    state: State
    by: str
    error: str
    named: bool
    seconds: float


def run(mutants: list[Mutant], root: Path, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """All of them, two at a time; `tell` hears of each as it ends.

    Raises:
        CatalogueError: a named test fails without any mutant.
    """
    with ExitStack() as opened:
        trees: SimpleQueue[Tree] = SimpleQueue()
        for _ in range(WORKERS):
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="ledgermq-mutants-"))
            trees.put(Tree(root, Path(folder)))
        pool = opened.enter_context(ThreadPoolExecutor(WORKERS))
        _require_baseline(mutants, trees, pool)

        def judge(mutant: Mutant) -> Outcome:
            with _borrowed(trees) as tree:
                outcome = _judge(mutant, tree)
            tell(outcome)
            return outcome

        return list(pool.map(judge, mutants))


@contextmanager
def _borrowed(trees: SimpleQueue[Tree]) -> Iterator[Tree]:
    tree = trees.get()
    try:
        yield tree
    finally:
        trees.put(tree)


def _require_baseline(
    mutants: list[Mutant], trees: SimpleQueue[Tree], pool: ThreadPoolExecutor
) -> None:
    named = list(dict.fromkeys(t for m in mutants for t in m.tests))

    def half(tests: list[str]) -> Failure | None:
        with _borrowed(trees) as tree:
            return tree.run(tests, BASELINE_LIMIT_S) if tests else None

    halves = [named[at::WORKERS] for at in range(WORKERS)]
    failures = [f for f in pool.map(half, halves) if f is not None]
    if failures:
        raise CatalogueError(
            "without any mutant a named test fails already:\n"
            + "\n".join(f"  {f.test}: {f.error}" for f in failures)
        )


def _judge(mutant: Mutant, tree: Tree) -> Outcome:
    start_s = time.monotonic()
    text = mutant.applied((tree.folder / mutant.file).read_text())
    with tree.changed(mutant.file, text):
        found = tree.run(mutant.tests, NAMED_LIMIT_S)
        named = found is not None
        if found is None:
            found = tree.run(wide_tests(mutant.file, tree.folder), WIDE_LIMIT_S)
    if found is None or (not named and not found.test):
        # The wider set may take too long without any mutant.
        state, error = State.SURVIVED, ""
        by = "no test noticed" if found is None else f"the wider set {found.error}"
    else:
        state, by, error = State.CAUGHT, found.test or found.error, found.error
        if found.error.startswith(_NO_PROGRAM):
            state, by = State.BROKEN, f"it is no program: {found.error}"
        elif not named and _fails_anyway(found, tree):
            state, by = State.BROKEN, f"{found.test} fails without the mutant too"
    return Outcome(mutant, state, by, error, named, time.monotonic() - start_s)


def _fails_anyway(found: Failure, tree: Tree) -> bool:
    return bool(found.test) and tree.run([found.test], NAMED_LIMIT_S) is not None


def wide_tests(file: str, root: Path) -> list[str]:
    """The folders of tests for a source file: those of the longest prefix that has any."""
    prefix = max((p for p in WIDE if file.startswith(p + "/")), key=len, default="")
    return [t for t in WIDE.get(prefix, ("tests/unit",)) if (root / t).exists()]


def table(outcomes: Iterable[Outcome]) -> str:
    """One line per mutant: its name, the test that caught it, seconds."""
    rows = [(o.mutant.name, _shown(o), f"{o.seconds:.1f}") for o in outcomes]
    width = max((len(name) for name, _, _ in rows), default=0)
    lines = [f"{'mutant':<{width}}  {'s':>5}  caught by"]
    lines += [f"{name:<{width}}  {seconds:>5}  {by}" for name, by, seconds in rows]
    return "\n".join(lines)


def _shown(o: Outcome) -> str:
    if o.state is not State.CAUGHT:
        return f"{o.state.value.upper()}: {o.by}"
    return o.by if o.named else f"{o.by} (of the wider set)"
