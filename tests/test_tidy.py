"""The house's rules that no other tool checks: lengths, names, leftovers, the layout."""

import ast
import itertools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("remoting", "dledger", "broker", "namesrv", "client", "admin", "compiled")
MAX_FILE_LINES = 400
MAX_TEST_FILE_LINES = 600
MAX_FUNCTION_LINES = 70
MAX_FUNCTION_LINES_P90 = 35
# Names of folders that exist on the machine of whoever wrote the line, and nowhere else.
FOREIGN_PATHS = re.compile(r"(?<![\w.$}])/(work|root|home/\w+|Users/\w+)/")
LEFTOVERS = re.compile(r"\b(TODO|FIXME|XXX)\b")
OUR_SUFFIXES = {
    ".py",
    ".sh",
    ".md",
    ".toml",
    ".conf",
    ".properties",
    ".xml",
    ".txt",
    ".java",
    ".go",
    "",
}


def source_files() -> list[Path]:
    folders = [ROOT / name for name in PACKAGES]
    return sorted(itertools.chain(*(f.rglob("*.py") for f in folders), ROOT.glob("bin/*.py")))


def test_files() -> list[Path]:
    return sorted(p for top in ("bench", "tests") for p in (ROOT / top).rglob("*.py"))


test_files.__test__ = False  # type: ignore[attr-defined]


def our_files() -> list[Path]:
    """Everything written by hand."""
    tops = (*PACKAGES, "bench", "bin", "conf", "docs", "examples", "tests", ".ci")
    below = itertools.chain(*((ROOT / top).rglob("*") for top in tops))
    files = [p for p in itertools.chain(ROOT.glob("*"), below) if p.is_file()]
    generated = {"__pycache__", "target", ".coverage"}
    return sorted(p for p in files if p.suffix in OUR_SUFFIXES and not generated & set(p.parts))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> list[tuple[str, int]]:
    """(file:line name, lines) of every function."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [
        (f"{shown(path)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]


def test_there_is_something_to_check() -> None:
    assert len(source_files()) > 30
    assert len(our_files()) > len(source_files())


def too_long(files: list[Path], limit: int) -> dict[str, int]:
    counts = {shown(path): len(path.read_text().splitlines()) for path in files}
    return {name: lines for name, lines in counts.items() if lines > limit}


def test_no_file_is_too_long() -> None:
    files = [*source_files(), ROOT / "fast-try.sh", ROOT / "test.sh", *ROOT.glob("bin/**/*.sh")]
    assert not too_long(files, MAX_FILE_LINES), "split them by what they are about"
    assert not too_long(test_files(), MAX_TEST_FILE_LINES)


def test_no_function_is_too_long() -> None:
    files = [*source_files(), *test_files()]
    over = [f for path in files for f in functions(path) if f[1] > MAX_FUNCTION_LINES]
    assert not over


@pytest.mark.parametrize("package", PACKAGES)
def test_most_functions_are_short(package: str) -> None:
    lengths = sorted(n for p in (ROOT / package).rglob("*.py") for _, n in functions(p))
    if lengths:
        assert lengths[int(len(lengths) * 0.9)] <= MAX_FUNCTION_LINES_P90


def test_packages_are_imported_by_their_full_name() -> None:
    flat = re.compile(rf"^\s*(from|import) ({'|'.join(PACKAGES)})\b", re.MULTILINE)
    files = [*source_files(), *test_files(), *(ROOT / "examples").rglob("*.py")]
    wrong = [shown(p) for p in files if flat.search(p.read_text())]
    assert not wrong, "write ledgermq.remoting, not remoting: that name may be a user's file"


def test_relative_imports_stay_in_their_folder() -> None:
    wrong = [
        f"{shown(path)}:{node.lineno}"
        for path in source_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level > 1 + depth(path)
    ]
    assert not wrong


def depth(path: Path) -> int:
    """How many folders lie between a file and its top-level package."""
    return len(path.relative_to(ROOT).parts) - 2


def test_each_package_has_its_link_and_is_typed() -> None:
    for name in PACKAGES:
        link = ROOT / "ledgermq" / name
        assert link.is_symlink(), f"ledgermq/{name} must be a link"
        assert str(link.readlink()) == f"../{name}"
        assert (ROOT / name / "py.typed").is_file()
    assert (ROOT / "ledgermq" / "py.typed").is_file()
    linked = {p.name for p in (ROOT / "ledgermq").iterdir() if p.is_symlink()}
    assert linked == set(PACKAGES)


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {p.parent for name in PACKAGES for p in (ROOT / name).rglob("*.py")}
    assert not [shown(f) for f in folders if not (f / "__init__.py").is_file()]


def test_nothing_is_called_utils() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert not [shown(p) for p in source_files() if p.name in vague]


def lines_matching(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    return [
        f"{shown(path)}:{number}: {line.strip()[:80]}"
        for path in files
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_is_left_to_do() -> None:
    files = [p for p in our_files() if p != Path(__file__).resolve() and p.name != "pyproject.toml"]
    assert not lines_matching(LEFTOVERS, files)
    assert not lines_matching(re.compile(r"raise NotImplementedError"), source_files())


def test_no_file_knows_its_authors_machine() -> None:
    assert not lines_matching(FOREIGN_PATHS, [p for p in our_files() if p.name != "test_tidy.py"])


def test_sources_have_plain_quotes_and_dashes() -> None:
    odd = re.compile("[\u2018\u2019\u201c\u201d\u2013\u2014\u00a0\u200b\uff0c\uff1b\uff1a]")
    files = [*source_files(), ROOT / "fast-try.sh", ROOT / "test.sh", *ROOT.glob("bin/**/*.sh")]
    assert not lines_matching(odd, files)


def test_each_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *itertools.chain(*project["project"]["optional-dependencies"].values()),
        *project["build-system"]["requires"],
    ]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    names = {re.split(r"[<>=!~\[ ;]", line)[0] for line in wanted}
    assert not sorted(name for name in names if f"`{name}`" not in page)


def test_the_page_of_dependencies_names_no_others() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    listed = re.findall(r"^\| `([\w.-]+)` \|", page, re.MULTILINE)
    project = (ROOT / "pyproject.toml").read_text()
    assert listed
    assert not [name for name in listed if not re.search(rf'"{re.escape(name)}[<>="\[]', project)]


def test_scripts_can_be_run() -> None:
    scripts = ["fast-try.sh", "test.sh", ".ci/run", "bin/dledger/fast-try.sh", "bin/tools.sh"]
    scripts += ["bin/mqnamesrv", "bin/mqbroker", "bin/mqadmin", "bin/mqshutdown"]
    assert not [name for name in scripts if not (ROOT / name).stat().st_mode & 0o100]
