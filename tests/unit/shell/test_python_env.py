"""Which Python is taken, when the project is installed again, and the lock around it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.shell import sh

FIND = 'if find_python; then echo "took $base_python"; else no_python; fi'
USABLE = "exit 0"
SHIM = 'echo "pyenv: command not found" >&2; exit 127'
TOO_OLD = "exit 4"
NO_ENSUREPIP = "echo python3.12; exit 5"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    return sh.tools_folder(tmp_path / "tools")


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        pytest.param({"python3": USABLE}, "python3", id="the plain name"),
        pytest.param(
            {"python3.11": USABLE, "python3.13": USABLE}, "python3.13", id="the newest first"
        ),
        pytest.param(
            {"python3.13": SHIM, "python3.12": SHIM, "python3.11": USABLE},
            "python3.11",
            id="a shim that does not run is passed over",
        ),
        pytest.param({"python3.12": NO_ENSUREPIP, "python3": USABLE}, "python3", id="no ensurepip"),
        pytest.param({"python3.11": TOO_OLD, "python3": USABLE}, "python3", id="too old inside"),
    ],
)
def test_the_first_python_that_works_is_taken(
    tools: Path, pythons: dict[str, str], taken: str
) -> None:
    for name, text in pythons.items():
        sh.program(tools / name, text)
    assert sh.call(FIND, PATH=tools).stdout == f"took {taken}\n"


def test_the_named_python_goes_first_even_with_a_blank_in_its_path(
    tools: Path, tmp_path: Path
) -> None:
    sh.program(tools / "python3", USABLE)
    mine = sh.program(tmp_path / "my pythons" / "python3.14", USABLE)
    assert sh.call(FIND, PATH=tools, PYTHON=mine).stdout == f"took {mine}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [(SHIM, "does not run"), (TOO_OLD, "is older than 3.11"), (NO_ENSUREPIP, "has no ensurepip")],
)
def test_a_named_python_that_cannot_be_used_is_reported(
    tools: Path, tmp_path: Path, text: str, reason: str
) -> None:
    sh.program(tools / "python3", USABLE)
    mine = sh.program(tmp_path / "mine", text)
    result = sh.call(FIND, PATH=tools, PYTHON=mine)
    assert result.stdout == "took python3\n"
    assert f"PYTHON={mine} {reason}" in result.stderr


def test_without_a_python_the_install_lines_are_printed(tools: Path) -> None:
    sh.program(tools / "python3.13", SHIM)
    result = sh.call(FIND, PATH=tools)
    assert result.returncode == 3
    for line in ("apt-get install python3 python3-venv", "dnf install", "brew install"):
        assert line in result.stderr


def test_without_ensurepip_the_missing_package_is_named(tools: Path) -> None:
    sh.program(tools / "python3", NO_ENSUREPIP)
    result = sh.call(FIND, PATH=tools)
    assert result.returncode == 3
    assert "apt-get install python3.12-venv" in result.stderr


# --- installed or not ---------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small tree with the project's folders, in a path with a blank and Chinese characters."""
    root = tmp_path / "my 检出"
    (root / "ledgermq").mkdir(parents=True)
    (root / "ledgermq" / "__init__.py").touch()
    (root / "pyproject.toml").write_text("[project]\n")
    (root / "hatch_build.py").write_text("")
    for name in ("remoting", "dledger", "broker", "namesrv", "client", "admin", "compiled"):
        (root / name).mkdir()
        (root / name / "a.py").write_text("x = 1\n")
        (root / "ledgermq" / name).symlink_to(f"../{name}")
    return root


@pytest.fixture
def fake_venv(checkout: Path) -> Path:
    """A virtual environment whose Python writes down what it is asked, and obeys nothing."""
    venv = checkout / ".venv"
    sh.program(venv / "bin" / "python", f'echo "$@" >>"{venv}/asked"')
    return venv


def asked(venv: Path) -> list[str]:
    return (venv / "asked").read_text().splitlines() if (venv / "asked").exists() else []


def installs(venv: Path) -> list[str]:
    return [line.split()[-1] for line in asked(venv) if " install " in line]


def test_an_unchanged_tree_is_installed_once(checkout: Path, fake_venv: Path) -> None:
    for _ in range(2):
        assert sh.call("ensure_venv", root=checkout).returncode == 0
    assert installs(fake_venv) == ["."]
    assert not (checkout / ".venv.lock").exists()


def test_a_changed_file_is_noticed_even_with_an_old_date(checkout: Path, fake_venv: Path) -> None:
    sh.call("ensure_venv", root=checkout)
    changed = checkout / "broker" / "a.py"
    changed.write_text("x = 2\n")
    os.utime(changed, (1_000_000, 1_000_000))
    sh.call("ensure_venv", root=checkout)
    assert installs(fake_venv) == [".", "."]


def test_bytecode_does_not_count_as_a_change(checkout: Path, fake_venv: Path) -> None:
    sh.call("ensure_venv", root=checkout)
    (checkout / "broker" / "__pycache__").mkdir()
    (checkout / "broker" / "__pycache__" / "a.pyc").touch()
    sh.call("ensure_venv", root=checkout)
    assert installs(fake_venv) == ["."]


def test_what_the_tests_need_stays_when_the_sources_change(checkout: Path, fake_venv: Path) -> None:
    sh.call("ensure_venv test", root=checkout)
    sh.call("ensure_venv", root=checkout)
    assert installs(fake_venv) == [".[test]"]
    (checkout / "admin" / "b.py").touch()
    sh.call("ensure_venv", root=checkout)
    assert installs(fake_venv) == [".[test]", ".[test]"]


def test_the_compiled_parts_are_asked_for_once_and_stay(checkout: Path, fake_venv: Path) -> None:
    sh.program(
        fake_venv / "bin" / "python",
        f'echo "$@ hooks=$HATCH_BUILD_HOOKS_ENABLE" >>"{fake_venv}/asked"',
    )
    sh.call("ensure_venv", root=checkout)
    for _ in range(2):
        sh.call("LEDGERMQ_COMPILE=1; ensure_venv", root=checkout)
        sh.call("ensure_venv", root=checkout)
    (checkout / "broker" / "b.py").touch()
    sh.call("ensure_venv test", root=checkout)
    sh.call("LEDGERMQ_COMPILE=0; ensure_venv", root=checkout)
    sh.call("ensure_venv", root=checkout)
    asked_for = [line.split()[-1] for line in asked(fake_venv) if " install " in line]
    assert asked_for == ["hooks=", "hooks=1", "hooks=1", "hooks="]


def test_what_was_asked_for_outlives_a_failed_install(checkout: Path, fake_venv: Path) -> None:
    asks = f'echo "$@ hooks=$HATCH_BUILD_HOOKS_ENABLE" >>"{fake_venv}/asked"'
    sh.program(fake_venv / "bin" / "python", f"{asks}; case $* in *install*) exit 1 ;; esac")
    assert sh.call("LEDGERMQ_COMPILE=1; ensure_venv test", root=checkout).returncode == 3
    sh.program(fake_venv / "bin" / "python", asks)
    assert sh.call("ensure_venv", root=checkout).returncode == 0
    installed = [line for line in asked(fake_venv) if " install " in line]
    assert [line.split()[-2:] for line in installed] == [[".[test]", "hooks=1"]] * 2


def test_a_failed_install_is_tried_again(checkout: Path) -> None:
    sh.program(checkout / ".venv" / "bin" / "python", 'case "$*" in *install*) exit 1 ;; esac')
    for _ in range(2):
        result = sh.call("ensure_venv", root=checkout)
        assert result.returncode == 3
        assert "PIP_INDEX_URL" in result.stderr
    assert not (checkout / ".venv.lock").exists()


def test_a_copy_without_links_is_refused(checkout: Path) -> None:
    (checkout / "ledgermq" / "broker").unlink()
    (checkout / "ledgermq" / "broker").write_text("../broker")
    result = sh.call("ensure_venv", root=checkout)
    assert result.returncode == 1
    assert "lost its symbolic links" in result.stderr


def test_a_folder_with_other_things_is_not_made_an_environment(
    checkout: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "diary.txt").write_text("dear diary")
    result = sh.call("ensure_venv", root=checkout, LEDGERMQ_VENV=mine)
    assert result.returncode == 1
    assert (mine / "diary.txt").read_text() == "dear diary"


# --- the lock -----------------------------------------------------------------------------------


def test_a_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    gone = subprocess.Popen(["true"])
    gone.wait()
    lock.mkdir()
    (lock / "pid").write_text(f"{gone.pid}\n")
    result = sh.call(f'take_lock "{lock}"; echo taken')
    assert result.stdout == "taken\n"


def test_a_lock_of_a_living_process_is_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.mkdir()
    (lock / "pid").write_text(f"{os.getpid()}\n")
    result = sh.call(f'LOCK_WAIT_S=1; take_lock "{lock}"; echo taken')
    assert result.returncode == 1
    assert f"Process {os.getpid()} has held {lock}" in result.stderr
    assert (lock / "pid").read_text() == f"{os.getpid()}\n"
