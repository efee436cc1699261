"""`mqnamesrv` as a user types it."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ledgermq.namesrv.__main__ import main
from ledgermq.namesrv.config import load
from tests.support import free_ports

BOOT_LINE = "The Name Server boot success. serializeType=JSON, address 0.0.0.0:{}\n"


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@contextlib.contextmanager
def spawned(*arguments, log_home, flags=()):
    """A process of its own, gone at the end whatever happened."""
    home = str(Path(arguments[1]).parent)
    environment = {**os.environ, "ROCKETMQ_LOG_HOME": str(log_home), "HOME": home}
    with subprocess.Popen(
        [sys.executable, *flags, "-m", "ledgermq.namesrv", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def conf(tmp_path):
    [port] = free_ports(1)
    path = tmp_path / "namesrv.conf"
    path.write_text(f"listenPort = {port}\n")
    return path, port


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(capsys, flag):
    assert run(flag) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: mqnamesrv [-c <arg>] [-h] [-n <arg>] [-p]"
    for option in (
        "-c,--configFile <arg>",
        "-h,--help",
        "-n,--namesrvAddr",
        "-p,--printConfigItem",
    ):
        assert any(line.startswith(f" {option}") for line in lines), option


@pytest.mark.parametrize("flag", ["-p", "--printConfigItem"])
def test_p_prints_every_item(capsys, flag):
    assert run(flag) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "listenPort=9876  # default" in lines
    assert all("=" in line for line in lines)


def test_p_prints_the_file_s_values_and_its_warnings(capsys, tmp_path):
    path = tmp_path / "namesrv.conf"
    path.write_text("listenPort = 9877\nlistenPrt = 1\n")

    assert run("-c", str(path), "-p") == 0

    captured = capsys.readouterr()
    assert f"listenPort=9877  # {path}:1" in captured.out.splitlines()
    assert f"configStorePath={path}  # command line" in captured.out.splitlines()
    assert f"warning: {path}:2: unknown key listenPrt" in captured.err


def test_m_prints_the_important_items_only(capsys):
    assert run("-m") == 0

    lines = capsys.readouterr().out.splitlines()
    assert "listenPort=9876  # default" in lines
    assert not any(line.startswith("maxTopics") for line in lines)


def test_what_p_prints_is_a_file_again(capsys, tmp_path):
    path = tmp_path / "namesrv.conf"
    path.write_text("listenPort = 9877\nkvConfigPath=/a  # b\n")
    assert run("-c", str(path), "-p") == 0
    printed = tmp_path / "printed.conf"
    printed.write_text(capsys.readouterr().out)

    config, warnings = load(printed)

    assert warnings == []
    assert config == load(path)[0]
    assert config.kv_config_path == "/a  # b"


def test_java_s_options_are_ignored_with_a_line(capsys, monkeypatch):
    monkeypatch.setenv("JAVA_OPT", "-server -Xms256m")
    assert run("-p") == 0

    complaints = capsys.readouterr().err.splitlines()
    assert [c for c in complaints if "JAVA_OPT is ignored" in c] == complaints
    assert len(complaints) == 1


def test_n_is_accepted_and_said_to_have_no_effect(capsys):
    assert run("-n", "127.0.0.1:9876", "-m") == 0

    assert "-n has no effect" in capsys.readouterr().err


def test_a_wrong_option_shows_the_usage(capsys):
    assert run("-x") == 2

    message = capsys.readouterr().err
    assert "-x" in message
    assert "usage: mqnamesrv" in message


def test_a_bad_value_is_named_with_its_line(capsys, tmp_path):
    path = tmp_path / "namesrv.conf"
    path.write_text("listenPort = nine\n")

    assert run("-c", str(path)) == 1

    message = capsys.readouterr().err
    assert f"{path}:1: listenPort is 'nine'; write a whole number" in message


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_boots_logs_and_ends_cleanly(conf, tmp_path, number):
    path, port = conf
    with spawned("-c", str(path), log_home=tmp_path) as process:
        assert process.stdout.readline() == BOOT_LINE.format(port)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)

    assert (process.returncode, out, err) == (0, "", "")
    log = (tmp_path / "namesrv.log").read_text()
    assert f"name server listens on 0.0.0.0:{port}" in log
    assert "stopped" in log


@pytest.mark.slow
def test_a_taken_port_ends_with_its_number_and_the_way_to_the_holder(conf, tmp_path):
    path, port = conf
    with spawned("-c", str(path), log_home=tmp_path) as first:
        assert first.stdout.readline() == BOOT_LINE.format(port)
        with spawned("-c", str(path), log_home=tmp_path) as second:
            out, err = second.communicate(timeout=20)

    assert (second.returncode, out) == (1, "")
    assert f"lsof -i:{port}" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_broken_kv_file_ends_with_its_name(conf, tmp_path):
    path, _ = conf
    broken = tmp_path / "kv.json"
    broken.write_text("{")
    path.write_text(path.read_text() + f"kvConfigPath = {broken}\n")

    with spawned("-c", str(path), log_home=tmp_path) as process:
        _, err = process.communicate(timeout=20)

    assert process.returncode == 1
    assert f"{broken} is no kvConfig.json" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_it_runs_without_a_log_file(conf, tmp_path):
    path, port = conf
    no_folder = tmp_path / "file"
    no_folder.write_text("")

    with spawned("-c", str(path), log_home=no_folder) as process:
        assert process.stdout.readline() == BOOT_LINE.format(port)
        process.terminate()
        _, err = process.communicate(timeout=20)

    assert "warning: no log file" in err
    assert "ROCKETMQ_LOG_HOME" in err
    assert process.returncode == 0


@pytest.mark.slow
def test_it_refuses_to_run_without_its_checks(conf, tmp_path):
    path, _ = conf
    with spawned("-c", str(path), log_home=tmp_path, flags=["-O"]) as process:
        _, err = process.communicate(timeout=20)

    assert process.returncode == 1
    assert "start it without -O" in err
