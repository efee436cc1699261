"""`python -m tests.mutants`: every mutant must be caught. See docs/testing.md, "Mutants"."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatch

from . import runner
from .catalogue import ROOT, CatalogueError, Mutant, check, load
from .runner import Outcome, State


def main(arguments: list[str]) -> int:
    """Exit code: 0 all caught, 1 survivors or patches that do not fit, 2 wrong arguments."""
    parser = argparse.ArgumentParser(prog="test.sh mutants", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="this one, or those of this file; * works"
    )
    parser.add_argument("--list", action="store_true", help="names and reasons, nothing is run")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    options = parser.parse_args(arguments)
    try:
        mutants = _chosen(load(), options.only)
        if options.list:
            print("\n".join(f"{m.name}: {m.why} ({m.file})" for m in mutants))
            return 0
        check(mutants, ROOT)
        start_s = time.monotonic()
        outcomes = runner.run(mutants, ROOT, _progress(len(mutants)))
    except CatalogueError as e:
        print(f"mutants: {e}", file=sys.stderr)
        return 1
    return _report(outcomes, time.monotonic() - start_s, as_json=options.json)


def _chosen(mutants: list[Mutant], patterns: list[str] | None) -> list[Mutant]:
    if not patterns:
        return mutants
    chosen = [m for m in mutants if any(fnmatch(m.name, p) or fnmatch(m.file, p) for p in patterns)]
    if not chosen:
        raise CatalogueError(f"no mutant called {', '.join(patterns)}; see --list")
    return chosen


def _progress(total: int) -> Callable[[Outcome], None]:
    done = 0

    def tell(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        line = f"[{done}/{total}] {outcome.mutant.name}: {outcome.state.value}"
        print(line, file=sys.stderr, flush=True)

    return tell


def _report(outcomes: list[Outcome], seconds: float, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps([_plain(o) for o in outcomes], indent=2))
    words = sys.stderr if as_json else sys.stdout
    if not as_json:
        print(runner.table(outcomes))
    for o in outcomes:
        if o.state is not State.CAUGHT:
            print(f"{o.state.value}: {o.mutant.name} ({o.mutant.file}): {o.by}", file=words)
            print(f"  what goes wrong: {o.mutant.why}", file=words)
    caught = sum(o.state is State.CAUGHT for o in outcomes)
    print(f"{seconds:.0f} s, {runner.WORKERS} at a time", file=words)
    print(f"mutants: {caught}/{len(outcomes)} caught", file=words)
    return 0 if caught == len(outcomes) else 1


def _plain(o: Outcome) -> dict[str, object]:
    return {
        "mutant": o.mutant.name,
        "file": o.mutant.file,
        "why": o.mutant.why,
        "state": o.state.value,
        "by": o.by,
        "error": o.error,
        "named": o.named,
        "seconds": round(o.seconds, 1),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
