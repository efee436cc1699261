"""The runner itself: what is caught, what survives, what is refused."""

from pathlib import Path

import pytest

from . import runner
from .catalogue import ROOT, CatalogueError, Mutant, check, load
from .runner import Outcome, State

SOURCE = '''
def add(a: int, b: int) -> int:
    """Sum."""
    return a + b


def double(a: int) -> int:
    """Twice."""
    total = 0
    while total < 2 * a:
        total += 1
    return total
'''
TESTS = """
import pytest
from ledgermq.dledger.sums import add, double

@pytest.mark.parametrize("a", [0, 1])
def test_add(a):
    assert add(a, 1) == a + 1

def test_double():
    assert double(2) == 4
"""
WIDER = """
from ledgermq.dledger.sums import add

def test_add_of_large_numbers():
    assert add(1000, 1) == 1001
"""
NAMED = "tests/unit/sums/test_sums.py"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of the same layout as ours, with one module and two files of tests."""
    root = tmp_path / "root"
    for file, text in {
        "ledgermq/__init__.py": "",
        "dledger/__init__.py": "",
        "dledger/sums.py": SOURCE,
        "tests/__init__.py": "",
        "tests/mutants/__init__.py": "",
        "tests/mutants/first_failure.py": (Path(__file__).parent / "first_failure.py").read_text(),
        NAMED: TESTS,
        "tests/unit/dledger/test_wider.py": WIDER,
        "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
    }.items():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "ledgermq" / "dledger").symlink_to("../dledger")
    return root


def mutant(name: str, old: str, new: str, test: str = NAMED) -> Mutant:
    return Mutant(name, "wrong", "dledger/sums.py", old, new, (test,))


def test_every_kind_of_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "NAMED_LIMIT_S", 8)
    mutants = [
        mutant("caught", "a + b", "a - b"),
        mutant("caught by the wider set", "return a + b", "return min(a + b, 1000)"),
        mutant("survives", '"""Sum."""', '"""Total."""'),
        mutant("hangs", "total += 1", "total += 0", NAMED + "::test_double"),
        mutant("no program", "return a + b", "return c"),
    ]
    heard: list[Outcome] = []
    outcomes = {o.mutant.name: o for o in runner.run(mutants, root, heard.append)}
    assert {o.mutant.name for o in heard} == set(outcomes)
    assert [o.state for o in outcomes.values()] == [
        State.CAUGHT, State.CAUGHT, State.SURVIVED, State.CAUGHT, State.BROKEN,
    ]  # fmt: skip
    assert outcomes["caught"].by == NAMED + "::test_add[0]"
    assert outcomes["caught"].named
    assert outcomes["caught by the wider set"].by.endswith("::test_add_of_large_numbers")
    assert not outcomes["caught by the wider set"].named
    assert outcomes["hangs"].by == "hangs: stopped after 8 s"
    assert "NameError" in outcomes["no program"].by
    table = runner.table(outcomes.values())
    assert "survives" in table
    assert "SURVIVED: no test noticed" in table
    assert (root / "dledger" / "sums.py").read_text() == SOURCE  # only copies are changed


def test_nothing_is_proved_while_a_named_test_fails_anyway(root: Path) -> None:
    (root / NAMED).write_text(TESTS + "\ndef test_broken():\n    assert False\n")
    with pytest.raises(CatalogueError, match=r"fails already(.|\n)*test_broken"):
        runner.run([mutant("m", "a + b", "a - b")], root, lambda _: None)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        pytest.param(mutant("m", "a * b", "a"), "0 times in dledger/sums.py", id="gone"),
        pytest.param(mutant("m", "int", "str"), "5 times in dledger/sums.py", id="several"),
        pytest.param(mutant("m", "a + b", "a +"), "is no Python then", id="no python"),
        pytest.param(mutant("m", "a + b", "a + b"), "changes nothing", id="no change"),
        pytest.param(mutant("m", "a + b", "a", "tests/x.py"), "no such test", id="no test"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(root: Path, changed: Mutant, complaint: str) -> None:
    with pytest.raises(CatalogueError, match=complaint):
        check([changed], root)


def test_names_are_unique(tmp_path: Path) -> None:
    entry = '[[mutant]]\nname="m"\nwhy="w"\nfile="f"\nold="a"\nnew="b"\ntests=["t"]\n'
    (tmp_path / "a.toml").write_text(entry)
    assert [m.name for m in load(tmp_path)] == ["m"]
    (tmp_path / "b.toml").write_text(entry)
    with pytest.raises(CatalogueError, match="two mutants of one name: m"):
        load(tmp_path)


def test_every_mutant_of_ours_fits_the_source() -> None:
    mutants = load()
    assert len(mutants) >= 30
    check(mutants, ROOT)


@pytest.mark.parametrize(
    ("file", "folders"),
    [
        ("dledger/raft/core.py", ["tests/unit/raft"]),
        ("dledger/ids.py", ["tests/unit/dledger"]),
        ("bin/ports.py", ["tests/unit"]),
    ],
)
def test_the_wider_set_is_the_closest(root: Path, file: str, folders: list[str]) -> None:
    (root / "tests" / "unit" / "raft").mkdir()
    assert runner.wide_tests(file, root) == folders
