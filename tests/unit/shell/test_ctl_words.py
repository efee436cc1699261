"""What the ctl scripts say without a process, and how they read a boot line."""

import re
from pathlib import Path

import pytest

from tests.unit.shell import sh

BIN = sh.ROOT / "bin"


@pytest.mark.parametrize("script", ["namesrv-ctl.sh", "broker-ctl.sh"])
@pytest.mark.parametrize(
    ("words", "code"),
    [([], 2), (["begin"], 2), (["stop", "n0"], 2), (["status", "-v"], 2), (["help"], 0)],
)
def test_usage(tmp_path: Path, script: str, words: list[str], code: int) -> None:
    result = sh.run("sh", BIN / script, *words, cwd=tmp_path)
    assert result.returncode == code
    shown = result.stderr if code else result.stdout
    assert shown.startswith(f"usage: {script} start | stop | restart | status\n")
    for word in ("start", "stop", "restart", "status"):
        assert re.search(rf"^  {word} ", shown, re.MULTILINE)


@pytest.mark.parametrize("script", ["namesrv-ctl.sh", "broker-ctl.sh"])
def test_when_nothing_runs(tmp_path: Path, script: str) -> None:
    folder = tmp_path / "a 存储"
    folder.mkdir()
    status = sh.run("sh", BIN / script, "status", cwd=folder)
    assert status.returncode == 5
    assert status.stdout.endswith("of this folder runs.\n")
    assert sh.run("sh", BIN / script, "stop", cwd=folder).returncode == 0
    assert list(folder.iterdir()) == []


def test_a_link_to_it_works(tmp_path: Path) -> None:
    (tmp_path / "broker-ctl.sh").symlink_to(BIN / "broker-ctl.sh")
    assert "usage: broker-ctl.sh" in sh.run(tmp_path / "broker-ctl.sh", "help").stdout


NAMESRV = "The Name Server boot success. serializeType=JSON, address 0.0.0.0:9876"
BROKER = "The broker[{}, 10.0.0.1:10911] boot success. serializeType=JSON{}"


@pytest.mark.parametrize(
    ("script", "line", "read"),
    [
        pytest.param("namesrv", NAMESRV, "0.0.0.0:9876", id="name server"),
        pytest.param(
            "broker",
            BROKER.format("a", " and name server is x:1;y:2"),
            "10.0.0.1:10911 x:1;y:2",
            id="two name servers",
        ),
        pytest.param("broker", BROKER.format("a", ""), "10.0.0.1:10911 ", id="no name server"),
        pytest.param(
            "broker", BROKER.format("a, b|c]", ""), "10.0.0.1:10911 ", id="an odd broker name"
        ),
        pytest.param("broker", NAMESRV, None, id="the other kind's line"),
        pytest.param("namesrv", "Traceback", None, id="something else"),
    ],
)
def test_boot_lines(script: str, line: str, read: str | None) -> None:
    text = (BIN / f"{script}-ctl.sh").read_text()
    (program,) = re.findall(r"^boot_line='(.*)'$", text, re.MULTILINE)
    result = sh.run("sh", "-c", 'printf "%s\\n" "$1" | sed -n "$2"', "sh", line, program)
    assert result.stdout == ("" if read is None else f"{read}\n")
