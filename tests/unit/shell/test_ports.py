"""Which ports are found taken, and by whom."""

import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.shell import sh

HOST = "127.0.0.1"


@pytest.fixture
def ports() -> Any:
    """The script bin/ports.py as a module."""
    spec = importlib.util.spec_from_file_location("ports_script", sh.ROOT / "bin" / "ports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as server:
        yield server


def number(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def check(*pairs: str) -> Any:
    return sh.run(sys.executable, "-I", "-S", sh.ROOT / "bin" / "ports.py", HOST, *pairs)


def test_a_listener_is_named_with_its_pid_and_command(listener: socket.socket) -> None:
    result = check(f"{number(listener)}=n1, Raft")
    assert result.returncode == 4
    assert f"port {number(listener)} (n1, Raft) by pid {os.getpid()} (" in result.stdout
    # Some test runners give their process a title of its own.
    assert "python" in result.stdout or "pytest" in result.stdout


def test_ports_of_one_holder_share_a_line(listener: socket.socket) -> None:
    with socket.create_server((HOST, 0)) as other:
        result = check(f"{number(listener)}=a", f"{number(other)}=b")
    assert len(result.stdout.splitlines()) == 1


def test_free_ports_are_free(listener: socket.socket) -> None:
    port = number(listener)
    listener.close()
    result = check(f"{port}=namesrv")
    assert (result.returncode, result.stdout) == (0, "")


def test_a_listener_on_every_address_is_found(ports: Any) -> None:
    with socket.create_server(("", 0)) as server:
        assert not ports.is_free(HOST, number(server))


def outgoing(listener: socket.socket) -> socket.socket:
    """A connection to `listener`; nothing else, not even a closed connection, has its own port."""
    return socket.create_connection(listener.getsockname(), source_address=(HOST, 0))


def test_a_port_of_an_outgoing_connection_is_tried_again(
    ports: Any, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = outgoing(listener)
    port = number(client)
    pauses: list[float] = []

    def hang_up(seconds: float) -> None:
        pauses.append(seconds)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()

    monkeypatch.setattr(ports.time, "sleep", hang_up)
    assert ports.wait_for_outgoing(HOST, [port]) == []
    assert len(pauses) == 1


def test_a_listener_is_not_waited_for(
    ports: Any, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports.time, "sleep", lambda _: pytest.fail("waited"))
    assert ports.wait_for_outgoing(HOST, [number(listener)]) == [number(listener)]


def test_an_outgoing_connection_that_stays_is_reported(
    ports: Any, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "RETRY_S", 0.0)
    with outgoing(listener) as client:
        assert ports.wait_for_outgoing(HOST, [number(client)]) == [number(client)]
        assert f"pid {os.getpid()} (" in ports.holder(number(client))


LSOF = """p71
f12
n127.0.0.1:52000->127.0.0.1:40911
p72
f9
n*:40911
"""


def test_without_proc_lsof_names_the_holder(
    ports: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sh.program(tmp_path / "lsof", f"cat <<'END'\n{LSOF}END")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert ports.pids_from_lsof(40911) == [72]
