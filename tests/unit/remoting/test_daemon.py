"""The two servers' command lines, as processes."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ledgermq.remoting.daemon import obey_java_opt, spare_memory

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("program", ["ledgermq.broker", "ledgermq.namesrv"])
def test_an_early_error_is_said_once(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", program, "-c", str(tmp_path / "nix.conf")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "ROCKETMQ_LOG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("nix.conf") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["ledgermq.broker", "ledgermq.namesrv"])
def test_a_wrong_option_names_the_way_out(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", program, "--nonsense"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "Try: mq" in done.stderr


@pytest.mark.parametrize(
    ("options", "home", "ignored"),
    [
        pytest.param("", None, None, id="none"),
        pytest.param(" ", None, None, id="blank"),
        pytest.param("-Duser.home=/u", "/u", None, id="home"),
        pytest.param(" -Duser.home=/a b/c ", "/a b/c", None, id="home with a blank"),
        pytest.param("-server -Duser.home=/u -Xmx1g", "/u", "-server -Xmx1g", id="between"),
        pytest.param("-server -Xms256m", None, "-server -Xms256m", id="memory"),
        pytest.param("-Xuser.home=/u", None, "-Xuser.home=/u", id="another option"),
    ],
)
def test_of_java_s_options_the_home_counts(
    options: str, home: str | None, ignored: str | None
) -> None:
    env = {"JAVA_OPT": options}
    warnings = obey_java_opt(env)
    assert env == ({"HOME": home, "LEDGERMQ_USER_HOME": home} if home else {})
    assert [w.rpartition(": ")[2] for w in warnings] == ([ignored] if ignored else [])
    assert obey_java_opt(env) == []


def test_glibc_takes_both_of_its_settings() -> None:
    assert spare_memory() is (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize("answer", [OSError("no such library"), TypeError("NoneType")])
def test_another_c_library_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, answer: Exception
) -> None:
    def library(_: object) -> object:
        raise answer

    monkeypatch.setattr("ctypes.CDLL", library)
    assert not spare_memory()


def test_a_c_library_without_such_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not spare_memory()
