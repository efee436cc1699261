"""The sides: ways to run what is measured, each started fresh in a folder of its own.

Only one of them runs at a time: the machine has two cores, and an idle JVM takes its share.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import rows

Protocol = Literal["remoting", "nats", "echo", "none"]

# Load before the first measured row. HotSpot compiles what has run thousands of times: with one
# connection per thread Java's figures rise for 15 s, with its own client for a minute. CPython has
# nothing to compile: caches and log files are made.
JVM_WARM_UP_S = 45.0
WARM_UP_S = 3.0


@dataclass(frozen=True, slots=True)
class Side:
    """One way to run a cluster.

    Attributes:
        title: for people.
        protocol: what its load has to speak; "none": the load starts its own processes.
        open: a folder -> the peer, to be entered.
        expected_start_s: for the time left.
        warm_up_s: load before the first measured row of a start.
        module: the program of a load that starts its own processes.
    """

    title: str
    protocol: Protocol
    open: Callable[[Path], AbstractContextManager[Any]]
    expected_start_s: float = 2.0
    warm_up_s: float = WARM_UP_S
    module: str = ""


def _ours(
    flush: str = "ASYNC_FLUSH", *, pure: bool = False, brokers: int = 3
) -> Callable[[Path], AbstractContextManager[Any]]:
    def open_(folder: Path) -> AbstractContextManager[Any]:
        from .peers import ours  # noqa: PLC0415 - `list` and `table` start nothing

        launcher = ours.InstalledLauncher(pure=pure)
        return ours.group(folder, flush=flush, brokers=brokers, launcher=launcher)

    return open_


def _ours_alone(*, pure: bool) -> Callable[[Path], AbstractContextManager[Any]]:
    def open_(folder: Path) -> AbstractContextManager[Any]:
        from .peers import ours  # noqa: PLC0415 - as above

        return ours.single(folder, launcher=ours.InstalledLauncher(pure=pure))

    return open_


def _java(folder: Path) -> AbstractContextManager[Any]:
    from .peers import java  # noqa: PLC0415 - as above

    return java.group(folder)


def _java_alone(folder: Path) -> AbstractContextManager[Any]:
    from .peers import java  # noqa: PLC0415 - as above

    return java.single(folder)


def _nats(*, sync_always: bool) -> Callable[[Path], AbstractContextManager[Any]]:
    def open_(folder: Path) -> AbstractContextManager[Any]:
        from . import tools  # noqa: PLC0415 - as above
        from .peers import nats  # noqa: PLC0415

        return nats.NatsGroup(folder, tools.build_nats(tools.cache()), sync_always=sync_always)

    return open_


def _echo(folder: Path) -> AbstractContextManager[Any]:
    from .peers import echo  # noqa: PLC0415 - as above

    return echo.EchoPeer(folder)


class Nothing:
    """For loads that start their own processes."""

    name = ""
    start_s = 0.0

    def __init__(self, _folder: Path) -> None:
        self.processes: dict[str, int] = {}

    def __enter__(self) -> "Nothing":
        return self

    def __exit__(self, *_: object) -> None:
        pass


SIDES = {
    rows.OURS: Side("ledgermq compiled, ASYNC_FLUSH", "remoting", _ours()),
    rows.OURS_SYNC: Side("ledgermq compiled, SYNC_FLUSH", "remoting", _ours("SYNC_FLUSH")),
    rows.OURS_ALONE: Side("ledgermq compiled, single master", "remoting", _ours_alone(pure=False)),
    rows.OURS_ONE: Side("ledgermq compiled, group of one", "remoting", _ours(brokers=1)),
    rows.PURE: Side("ledgermq pure, ASYNC_FLUSH", "remoting", _ours(pure=True)),
    rows.PURE_ALONE: Side("ledgermq pure, single master", "remoting", _ours_alone(pure=True)),
    rows.JAVA: Side("Java DLedger, ASYNC_FLUSH", "remoting", _java, 9.0, JVM_WARM_UP_S),
    rows.JAVA_ALONE: Side("Java, single master", "remoting", _java_alone, 6.0, JVM_WARM_UP_S),
    rows.NATS: Side("NATS JetStream R3", "nats", _nats(sync_always=False)),
    rows.NATS_SYNC: Side("NATS JetStream R3, sync always", "nats", _nats(sync_always=True)),
    rows.ECHO: Side("bare asyncio echo", "echo", _echo, 0.5, 1.0),
    rows.RAFT_OURS: Side("our Raft core", "none", Nothing, 0.0, 0.0, "bench.raft_ours"),
    rows.RAFT_PYSYNCOBJ: Side("pysyncobj", "none", Nothing, 0.0, 0.0, "bench.raft_pysyncobj"),
}
