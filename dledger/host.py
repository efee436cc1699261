"""What a member gets from its machine: clocks, chance, threads, a disk.

A simulation brings its own.
"""

import secrets
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ledgermq.remoting.clock import mono_ms, wall_ms

from .disk import Disk, OsDisk

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _threads(count: int, name: str) -> Executor:
    return ThreadPoolExecutor(count, thread_name_prefix=name)


def machine_boot_id() -> str:
    """Changes when the machine starts anew; "" where the system does not tell (macOS)."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Host:
    """The real machine by default.

    Attributes:
        mono_ms: clock that never steps, milliseconds.
        wall_ms: milliseconds since 1970.
        rng: source of election jitter.
        new_id: makes random names of stores and processes.
        boot_id: names the machine's present start; another one means that power may have failed.
        disk: where everything lies.
        threads: makes an executor of so many threads under a name.
    """

    mono_ms: Callable[[], int] = mono_ms
    wall_ms: Callable[[], int] = wall_ms
    rng: Random = field(default_factory=Random)
    new_id: Callable[[], str] = lambda: secrets.token_hex(8)
    boot_id: str = field(default_factory=machine_boot_id)
    disk: Disk = field(default_factory=OsDisk)
    threads: Callable[[int, str], Executor] = _threads
