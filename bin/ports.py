"""Name the taken ones among the ports a cluster needs, and who holds them.

    python ports.py HOST PORT=LABEL...

Prints a line per holder; exits 4 when a port is taken. A port of the ephemeral range that no
one listens on is held by an outgoing connection: such ports are tried again for some seconds.
"""

import contextlib
import errno
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

EXIT_TAKEN = 4
RETRY_S = 5.0
_PAUSE_S = 0.1
_DEFAULT_RANGE = (49152, 65535)


def is_free(host: str, port: int) -> bool:
    """True when a server could listen on the port, on `host` and on every address."""
    for address in ("0.0.0.0", host):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen()
            except OSError as e:
                if e.errno == errno.EADDRINUSE:
                    return False
                raise SystemExit(f"Cannot listen on {address}:{port}: {e.strerror}") from e
    return True


def has_listener(host: str, port: int) -> bool:
    """True when something answers there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def ephemeral_range() -> tuple[int, int]:
    """First and last port that the system gives to outgoing connections."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return _DEFAULT_RANGE
    return int(low), int(high)


def holder(port: int) -> str:
    """The processes that hold the port, with their command lines."""
    pids = pids_from_proc(port) if Path("/proc/net/tcp").exists() else pids_from_lsof(port)
    if not pids:
        return f"another user's process (sudo lsof -i :{port} names it)"
    return ", ".join(f"pid {pid} ({command(pid)})" for pid in pids)


def pids_from_proc(port: int) -> list[int]:
    """Who has a socket with this local port, listeners first (Linux)."""
    inodes: dict[str, bool] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0":
                inodes[f"socket:[{fields[9]}]"] = fields[3] == "0A"
    found = {pid: inodes[name] for pid, name in _sockets() if name in inodes}
    listeners = [pid for pid, listens in found.items() if listens]
    return sorted(listeners or found)


def _sockets() -> Iterator[tuple[int, str]]:
    """(pid, "socket:[inode]") of all that one may see."""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        # Another user's, or a file or process that is gone meanwhile.
        with contextlib.suppress(OSError):
            for fd in folder.iterdir():
                with contextlib.suppress(OSError):
                    yield int(folder.parent.name), str(fd.readlink())


def pids_from_lsof(port: int) -> list[int]:
    """Who has a socket with this local port (macOS has lsof)."""
    if not shutil.which("lsof"):
        return []
    shown = subprocess.run(
        ["lsof", "-nP", f"-iTCP:{port}", "-Fpn"], capture_output=True, text=True, check=False
    ).stdout
    rows = re.findall(r"^p(\d+)\n((?:[^p].*\n?)*)", shown, re.MULTILINE)
    ours = re.compile(rf"^n[^>\s]*:{port}(->|$)", re.MULTILINE)
    return sorted({int(pid) for pid, names in rows if ours.search(names)})


def command(pid: int) -> str:
    """The command line of a process, as far as it is told."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        text = b" ".join(words).decode(errors="replace").strip()
    except OSError:
        text = subprocess.run(
            ["ps", "-ww", "-p", str(pid), "-o", "args="],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    return text or "command unknown"


def wait_for_outgoing(host: str, ports: list[int]) -> list[int]:
    """The ports that stay taken; those held by an outgoing connection get `RETRY_S` seconds."""
    low, high = ephemeral_range()
    end = time.monotonic() + RETRY_S
    taken = [port for port in ports if not is_free(host, port)]
    while taken and time.monotonic() < end:
        if not all(low <= port <= high and not has_listener(host, port) for port in taken):
            break
        time.sleep(_PAUSE_S)
        taken = [port for port in taken if not is_free(host, port)]
    return taken


def main() -> None:
    """Check the ports named on the command line."""
    host, *pairs = sys.argv[1:]
    labels = {int(port): label for port, _, label in (pair.partition("=") for pair in pairs)}
    taken: dict[str, list[str]] = {}
    for port in wait_for_outgoing(host, list(labels)):
        taken.setdefault(holder(port), []).append(f"{port} ({labels[port]})")
    for who, ports in taken.items():
        print(f"Taken: port {', '.join(ports)} by {who}.")
    sys.exit(EXIT_TAKEN if taken else 0)


if __name__ == "__main__":
    main()
