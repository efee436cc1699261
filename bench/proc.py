"""What processes cost: processor time, memory, context switches. Linux only (/proc)."""

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Shared memory that only looks like a file.
_NO_FILES = ("/dev/shm/", "/dev/zero", "/memfd:", "/SYSV")


@dataclass(frozen=True)
class Memory:
    """Proportional set size of a process, in bytes: shared pages count by their share.

    Attributes:
        pss: all of it.
        without_files: without what shared maps of files hold (mapped logs, queues, indexes); the
            process's program and libraries, which are private maps, are in it.
        anonymous: only what no file backs: heap, stacks, code made at run time.
    """

    pss: int
    without_files: int
    anonymous: int


@dataclass
class Usage:
    """Of several processes over a while, by their names; complete when the block has ended.

    Attributes:
        seconds: how long the while was.
        cpu_s: processor seconds, user and system; a process that ended has none.
        switches: context switches, of all threads that still live.
    """

    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    switches: dict[str, int] = field(default_factory=dict)


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far, user and system, in steps of 10 ms.

    Raises:
        ProcessLookupError: it is gone.
    """
    # The name, in parentheses, may have blanks.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def context_switches(pid: int) -> int:
    """Voluntary and other context switches of its living threads so far."""
    total = 0
    for task in list(Path(f"/proc/{pid}/task").iterdir()):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            lines = (task / "status").read_text("ascii", "replace").splitlines()
            total += sum(int(line.split()[1]) for line in lines if "_ctxt_switches:" in line)
    return total


def memory(pid: int) -> Memory:
    """What it holds now.

    Raises:
        ProcessLookupError: it is gone.
    """
    pss = shared_files = anonymous = 0
    in_shared_file = False
    for line in _read(pid, "smaps").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            # 7f00-7f01 rw-s 00000000 fe:00 1234 /path
            path = words[5] if len(words) > 5 else ""
            in_shared_file = words[1][3] == "s" and path.startswith("/")
            in_shared_file &= not path.startswith(_NO_FILES)
        elif words[0] == "Pss:":
            pss += int(words[1])
            shared_files += int(words[1]) if in_shared_file else 0
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith("Pss_Anon:"):
            anonymous = int(line.split()[1])
    return Memory(pss << 10, (pss - shared_files) << 10, anonymous << 10)


def pss_bytes(pid: int, without_files: bool = True) -> int:
    """Proportional set size in bytes, with or without shared maps of files; see `Memory`."""
    now = memory(pid)
    return now.without_files if without_files else now.pss


@contextmanager
def usage(processes: Mapping[str, int]) -> Iterator[Usage]:
    """What the processes use while the block runs."""
    used = Usage()
    cpu_before = {name: cpu_s(pid) for name, pid in processes.items()}
    switches_before = {name: context_switches(pid) for name, pid in processes.items()}
    begin = time.monotonic()
    try:
        yield used
    finally:
        used.seconds = time.monotonic() - begin
        for name, pid in processes.items():
            with suppress(ProcessLookupError, FileNotFoundError):
                used.cpu_s[name] = round(cpu_s(pid) - cpu_before[name], 2)
                used.switches[name] = context_switches(pid) - switches_before[name]


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    total_kib = int(Path("/proc/meminfo").read_text("ascii").split()[1])
    return {
        "cpu": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "memory": f"{total_kib / (1 << 20):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text("utf-8", "replace")
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
