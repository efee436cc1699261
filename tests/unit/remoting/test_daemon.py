"""The two servers' command lines, as processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
