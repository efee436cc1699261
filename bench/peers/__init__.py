"""Servers to be measured, each as real processes in a folder of its own.

`ours` and `java` speak RocketMQ's protocol, `nats` its own; `echo` is the limit of an asyncio
server.

    with ours.group(folder, flush="SYNC_FLUSH") as peer:
        peer.create_topic("T", queues=8)
        ...  # load on peer.name_server; proc.usage(peer.processes)

A peer that was entered has answered one message: its leader is known. Leaving it kills its
processes: what they have stored is thrown away with the folder. It raises PeerError where one of
them had ended by itself, for then the figures are of something else.
"""

import atexit
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

HOST = "127.0.0.1"


class PeerError(Exception):
    """A peer could not be started or does not answer; the text ends with what its logs say."""


class Peer(Protocol):
    """What all of them have.

    Attributes:
        name: for tables, such as "java-4.9.5 group ASYNC_FLUSH".
        start_s: seconds from the start of the first process to the first acknowledged message.
    """

    name: str
    start_s: float

    @property
    def processes(self) -> Mapping[str, int]:
        """Process id by name, of those that run."""

    def leader(self) -> str:
        """Name of the process that takes writes now.

        Raises:
            PeerError: there is none at the moment.
        """

    def kill9(self, name: str) -> None:
        """Kill a process, and wait until it is gone."""

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(self, *_: object) -> None:
        """Kill every process."""


class Processes:
    """Started by us, and surely ended by us."""

    def __init__(self) -> None:
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._killed: set[str] = set()

    @property
    def running(self) -> dict[str, int]:
        """Process id by name."""
        return {name: p.pid for name, p in self._started.items() if p.poll() is None}

    def start(
        self, name: str, argv: list[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Start one; what it prints is added to `log`."""
        self._killed.discard(name)
        with log.open("ab") as out:
            self._started[name] = subprocess.Popen(
                argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        atexit.unregister(self.kill_all)
        atexit.register(self.kill_all)

    def ended(self) -> list[str]:
        """Those that are no longer there though nobody killed them here, with their status."""
        here = [(n, p) for n, p in self._started.items() if n not in self._killed]
        return [f"{name} ended with {p.returncode}" for name, p in here if p.poll() is not None]

    def kill9(self, name: str) -> None:
        """Kill one, and wait until it is gone."""
        self._killed.add(name)
        self._started[name].kill()
        self._started[name].wait()

    def kill_all(self) -> None:
        """Kill all that run."""
        for name in self._started:
            self.kill9(name)
        atexit.unregister(self.kill_all)
