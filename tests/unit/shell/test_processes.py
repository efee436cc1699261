"""Which processes are taken for ours, and what mqshutdown says about them."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.shell import sh

PYTHON = "/usr/bin/python3.11"
BROKER = ["/x y/.venv/bin/python", "-P", "-m", "ledgermq.broker", "-c", "/s/broker-n0.conf"]
MakeProcess = Callable[..., int]


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A folder that stands in for /proc."""
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "self" / "cmdline").touch()
    return folder


@pytest.fixture
def process(proc: Path) -> Iterator[MakeProcess]:
    """Makes real processes that sleep, shown in `proc` with the program and arguments given."""
    started: list[subprocess.Popen[bytes]] = []

    def make(program: str, arguments: list[str]) -> int:
        child = subprocess.Popen(["sleep", "60"])
        started.append(child)
        folder = proc / str(child.pid)
        folder.mkdir()
        (folder / "exe").symlink_to(program)
        (folder / "cmdline").write_bytes("".join(f"{word}\0" for word in arguments).encode())
        (folder / "status").write_text("Name:\tpython\nVmRSS:\t   43008 kB\n")
        return child.pid

    yield make
    for child in started:
        child.kill()
        child.wait()


def shutdown(proc: Path, what: str) -> subprocess.CompletedProcess[str]:
    return sh.run("sh", sh.ROOT / "bin" / "mqshutdown", what, LEDGERMQ_PROC=proc)


@pytest.mark.parametrize(
    ("program", "arguments", "ours"),
    [
        pytest.param(PYTHON, BROKER, True, id="python -m"),
        pytest.param(f"{PYTHON} (deleted)", BROKER, True, id="its file replaced by an update"),
        pytest.param(
            PYTHON, ["/v/bin/python", "/v/bin/mqbroker", "-c", "x"], True, id="pip's command"
        ),
        pytest.param(PYTHON, ["python", "-m", "ledgermq.broker"], True, id="no arguments"),
        pytest.param("/bin/dash", ["sh", "-c", *BROKER], False, id="a shell that starts one"),
        pytest.param("/usr/bin/vim", ["vim", *BROKER], False, id="an editor"),
        pytest.param("/usr/bin/java", ["java", *BROKER], False, id="Java"),
        pytest.param(PYTHON, ["python", "-m", "ledgermq.namesrv"], False, id="the other kind"),
        pytest.param(PYTHON, ["python", "-m", "ledgermq.brokers"], False, id="a longer name"),
        pytest.param(PYTHON, [], False, id="a zombie, which has no arguments"),
    ],
)
def test_what_mqshutdown_takes_for_a_broker(
    proc: Path, process: MakeProcess, program: str, arguments: list[str], ours: bool
) -> None:
    pid = process(program, arguments)
    result = shutdown(proc, "broker")
    if ours:
        assert result.returncode == 0
        assert result.stdout.splitlines() == [
            f"The mqbroker({pid}) is running...",
            f"Send shutdown request to mqbroker({pid}) OK",
        ]
    else:
        assert result.returncode == 255
        assert result.stdout == "No mqbroker running.\n"


def test_mqshutdown_sends_sigterm_to_all_of_a_kind(proc: Path, process: MakeProcess) -> None:
    pids = sorted(process(PYTHON, BROKER) for _ in range(2))
    namesrv = process(PYTHON, ["python", "-m", "ledgermq.namesrv"])
    result = shutdown(proc, "broker")
    shown = " ".join(str(pid) for pid in sorted(pids, key=str))
    assert result.stdout.splitlines()[0] == f"The mqbroker({shown}) is running..."
    for pid in pids:
        assert exit_code(pid) == -signal.SIGTERM
    result = shutdown(proc, "namesrv")
    assert result.stdout.splitlines()[1] == f"Send shutdown request to mqnamesrv({namesrv}) OK"
    assert exit_code(namesrv) == -signal.SIGTERM


def exit_code(pid: int) -> int:
    import os

    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("words", [[], ["java"], ["mqbroker"]])
def test_mqshutdown_without_a_known_kind_says_how(words: list[str]) -> None:
    result = sh.run("sh", sh.ROOT / "bin" / "mqshutdown", *words)
    assert result.returncode == 2
    assert "usage: mqshutdown broker | namesrv" in result.stderr


def test_a_pid_is_ours_only_with_our_configuration_file(proc: Path, process: MakeProcess) -> None:
    pid = process(PYTHON, BROKER)
    script = f'is_module {pid} ledgermq.broker "$CONF" && echo ours'
    found = {
        conf: sh.call(script, LEDGERMQ_PROC=proc, CONF=conf).stdout
        for conf in ("/s/broker-n0.conf", "/s/broker-n1.conf", "/s/*")
    }
    assert found == {"/s/broker-n0.conf": "ours\n", "/s/broker-n1.conf": "", "/s/*": ""}


def test_memory_is_told_in_megabytes(proc: Path, process: MakeProcess) -> None:
    pid = process(PYTHON, BROKER)
    assert sh.call(f"memory_mb {pid}", LEDGERMQ_PROC=proc).stdout == "42\n"
    assert sh.call("memory_mb 1", LEDGERMQ_PROC=proc).stdout == "0\n"


PS = """
case "$*" in
"-A -o pid=") printf ' 11\\n 12\\n 13\\n' ;;
*"-p 11 -o stat="*) echo 'S+   /opt/Python -P -m ledgermq.broker -c /a b/n0.conf' ;;
*"-p 12 -o stat="*) echo 'Z    (Python) -m ledgermq.broker -c /a b/n0.conf' ;;
*"-p 13 -o stat="*) echo 'S    vim -m ledgermq.broker -c /a b/n0.conf' ;;
*"-p 13 -o comm="*) echo /usr/bin/vim ;;
*"-o comm="*) echo '/opt/my apps/Python.app/Contents/MacOS/Python' ;;
*"-p 11 -o rss="*) echo ' 43008' ;;
esac
"""


def test_without_proc_ps_is_asked(tmp_path: Path) -> None:
    tools = sh.tools_folder(tmp_path / "tools")
    (tools / "ps").unlink(missing_ok=True)
    sh.program(tools / "ps", PS)
    script = (
        'pids_of broker; memory_mb 11; is_module 11 ledgermq.broker "/a b/n0.conf" && echo ours'
    )
    result = sh.call(script, PATH=tools, LEDGERMQ_PROC=tmp_path / "none")
    assert result.stdout.splitlines() == ["11", "42", "ours"]


def test_a_process_that_just_turns_into_its_program_has_not_ended(
    proc: Path, process: MakeProcess
) -> None:
    """For an instant of exec a process has no command line; a zombie never has one again."""
    pid = process(PYTHON, [])
    cmdline = proc / str(pid) / "cmdline"
    ended = f"has_ended {pid} && echo ended"
    assert sh.call(ended, LEDGERMQ_PROC=proc).stdout == "ended\n"
    turning = f'sleep() {{ echo python >"{cmdline}"; }}; {ended}'
    assert sh.call(turning, LEDGERMQ_PROC=proc).stdout == ""
    assert sh.call("has_ended 99999999 && echo ended", LEDGERMQ_PROC=proc).stdout == "ended\n"


def test_nor_is_it_gone(proc: Path, process: MakeProcess) -> None:
    """It would be left behind by whoever had just asked it to end."""
    pid = process(PYTHON, [])
    cmdline = proc / str(pid) / "cmdline"
    turning = f'sleep() {{ echo python >"{cmdline}"; }}; wait_gone 0 {pid} || echo there'
    assert sh.call(turning, LEDGERMQ_PROC=proc).stdout == "there\n"
    cmdline.unlink()
    cmdline.parent.rename(proc / "other")
    assert sh.call(f"wait_gone 0 {pid} && echo gone", LEDGERMQ_PROC=proc).stdout == "gone\n"


def test_a_start_that_waits_for_its_nodes_does_not_take_its_helper_for_ended(
    tmp_path: Path,
) -> None:
    """Else nobody looks after the nodes any more, and a start that fails takes its whole time."""
    looks, helper = tmp_path / "looks", sh.program(tmp_path / "python", "exec sleep 5")
    result = sh.call(
        f"""
        . "$root/bin/fast-try/launch.sh"
        HOST=localhost NAMESRV_PORT=1 python="{helper}" log="{tmp_path}"
        command_line() {{ echo look >>"{looks}"; [ "$(wc -l <"{looks}")" -le 1 ] || echo python; }}
        ended_early() {{ name=n0; }}
        describe() {{ :; }}
        give_up() {{ kill "$watcher"; exit 1; }}
        wait_registered 1 1 G=1
        """
    )
    assert result.returncode == 1
    assert "n0 ended during the start" in result.stderr
