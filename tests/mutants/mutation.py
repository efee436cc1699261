"""`python -m tests.mutants.mutation`: mutmut over dledger/raft; at least 95 % must be killed.

mutmut makes every small change it knows to every function of the core (compares, constants, calls,
operators, arguments) and runs the core's unit tests and scenarios against each. It wants plain
folders, so it gets a copy in which the links of ledgermq/ are the folders themselves.
See docs/testing.md, "Mutants".
"""

import argparse
import ast
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from .catalogue import FOLDER, ROOT
from .tree import PACKAGES

TARGET = "dledger/raft"
MIN_KILLED_PERCENT = 95.0
_MEMORY_BYTES = 4 << 30
_CONFIGURATION = f"""[mutmut]
source_paths=ledgermq
only_mutate=ledgermq/{TARGET}/*.py
timeout_multiplier=5.0
pytest_add_cli_args=
    -p
    no:cacheprovider
    -p
    no:xdist
    -p
    no:cov
    -x
pytest_add_cli_args_test_selection=
    tests/unit/raft
    tests/scenario
"""
# Exit codes that mutmut keeps per mutant; anything else is a mistake of its own or of ours.
_VERDICTS = {0: "survived", 1: "killed", 3: "killed", 33: "survived"}
_TIMEOUTS = (-24, 24, 36, 152, 255)


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change that no test noticed; `old` and `new` are the lines that differ."""

    file: str
    line: int
    function: str
    old: str
    new: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What an explanation names; no line number, since these move."""
        return self.file, self.function, self.old, self.new


def main(arguments: list[str]) -> int:
    """Exit code: 0 enough are killed and the rest is explained, 1 not so."""
    parser = argparse.ArgumentParser(prog="test.sh mutation", description=__doc__)
    parser.add_argument("--sample", metavar="SEED", help="a fifth of the mutants, by this seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the survivors as JSON, too")
    options = parser.parse_args(arguments)
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ledgermq-mutation-") as name:
        folder = Path(name)
        _prepare(folder)
        if not _run_mutmut(folder, options.jobs, _patterns(options.sample)):
            return 1
        verdicts = _verdicts(folder)
        survivors = [_survivor(folder, m) for m, v in sorted(verdicts.items()) if v == "survived"]
    if options.json:
        options.json.write_text(json.dumps([s.key for s in survivors], indent=1))
    print(f"\nran {time.monotonic() - start_s:.0f} s")
    return _report(Counter(verdicts.values()), survivors, whole=options.sample is None)


def _prepare(folder: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "data", "java", "target")
    (folder / "ledgermq").mkdir()
    for path in (ROOT / "ledgermq").iterdir():
        if path.is_file():
            shutil.copy2(path, folder / "ledgermq")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / "ledgermq" / package, ignore=ignored)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignored)
    shutil.copy2(ROOT / "pyproject.toml", folder)
    (folder / "setup.cfg").write_text(_CONFIGURATION)


def _patterns(seed: str | None) -> list[str]:
    """Names to run: all, or those whose number ends with one of two digits."""
    if seed is None:
        return []
    return [f"*__mutmut_*{digit}" for digit in sorted(Random(seed).sample(range(10), 2))]


def _run_mutmut(folder: Path, jobs: int, patterns: list[str]) -> bool:
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs), *patterns]
    log = folder / "mutmut.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        if hasattr(resource, "prlimit"):
            with suppress(ProcessLookupError):  # what a mutant may take, inherited
                limits = (_MEMORY_BYTES, _MEMORY_BYTES)
                resource.prlimit(process.pid, resource.RLIMIT_AS, limits)
        code = process.wait()
    if code:
        print(log.read_text(errors="replace")[-3000:])
        print("mutation: mutmut could not do its work; do the core's own tests pass?")
    return code == 0


def _verdicts(folder: Path) -> dict[str, str]:
    """Mutant -> killed, timeout or survived; those not in the sample are left out."""
    found: dict[str, str] = {}
    for path in sorted((folder / "mutants" / "ledgermq" / TARGET).glob("*.meta")):
        for mutant, code in json.loads(path.read_text())["exit_code_by_key"].items():
            if code is None:
                continue
            verdict = "timeout" if code in _TIMEOUTS else _VERDICTS.get(code)
            if verdict is None:
                raise SystemExit(f"mutation: {mutant} ended with code {code}: neither yes nor no")
            found[mutant] = verdict
    if not found:
        raise SystemExit("mutation: there are no results")
    return found


def _survivor(folder: Path, mutant: str) -> Survivor:
    shown = subprocess.run(
        [sys.executable, "-m", "mutmut", "show", mutant],
        cwd=folder, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    old = [line[1:].strip() for line in shown if re.match(r"-(?!--)", line)]
    new = [line[1:].strip() for line in shown if re.match(r"\+(?!\+\+)", line)]
    module, _, mangled = mutant.rpartition(".")
    file = module.removeprefix("ledgermq.").replace(".", "/") + ".py"
    function = re.sub(r"__mutmut_\d+$", "", mangled).removeprefix("x").strip("ǁ")
    function = function.replace("ǁ", ".") if "ǁ" in mangled else function.removeprefix("_")
    line = _line_of(ROOT / file, function, old[0] if old else "")
    return Survivor(file, line, function, " / ".join(old), " / ".join(new))


def _line_of(path: Path, function: str, text: str) -> int:
    """Line in the source of a statement within a function; that of the function if not found."""
    source = path.read_text()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        is_it = isinstance(node, ast.FunctionDef) and node.name == function.rpartition(".")[2]
        if is_it and isinstance(node, ast.FunctionDef) and node.end_lineno:
            for number in range(node.lineno, node.end_lineno + 1):
                if lines[number - 1].strip() == text:
                    return number
    return 1


def explanations() -> dict[tuple[str, str, str, str], str]:
    """Changes that alter nothing anybody could notice, with the reason."""
    table = tomllib.loads((FOLDER / "equivalent" / "raft.toml").read_text())
    return {
        (group["file"], group["function"], change[0], change[1]): group["why"]
        for group in table.get("equivalent", [])
        for change in group["changes"]
    }


def _report(counts: Counter[str], survivors: list[Survivor], *, whole: bool) -> int:
    known = explanations()
    unexplained = [s for s in survivors if s.key not in known]
    for s in unexplained:
        print(f"survived: {s.file}:{s.line} in {s.function}\n  - {s.old}\n  + {s.new}")
    stale = known.keys() - {s.key for s in survivors}
    if whole and stale:
        for file, function, old, new in sorted(stale):
            print(f"explained, but killed or gone: {file} {function}\n  - {old}\n  + {new}")
    total = counts.total()
    killed = counts["killed"] + counts["timeout"]
    percent = 100 * killed / total
    print(
        f"mutants {total}: killed {counts['killed']}, timeouts {counts['timeout']}, survived"
        f" {counts['survived']} ({len(survivors) - len(unexplained)} explained)"
    )
    print(f"mutation: {percent:.1f} % killed, at least {MIN_KILLED_PERCENT:.0f} % are asked for")
    # Of a sample the share says little: a function or two weigh too much in it.
    return 0 if (percent >= MIN_KILLED_PERCENT or not whole) and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
