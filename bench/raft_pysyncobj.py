"""pysyncobj's Raft core alone: three processes, one replicated method.

    python -m bench.raft_pysyncobj --in-flight 64 --size 128 --seconds 5

It is run as fast as it was found to go: ticks in the main thread (its own thread would fight for
the interpreter), one message per entry for a single proposal under way, else batches every 5 ms.
Its log is a list in memory, never compacted here, and nothing is written to a disk. It uses pickle
between its nodes: loopback only.
"""

import logging
import time
from pathlib import Path
from typing import Any

import click

from tests.support.ports import free_ports

from .raft_core import Measured, RaftOptions, raft_options, run_members

BATCH_S = 0.005
# How long a tick waits for the network: below the batch's period, or batches leave late.
TICK_S = 0.001
_MISSING = "pysyncobj is not installed: pip install 'ledgermq[test]', or pip install pysyncobj"


def make_node(me: int, ports: list[int], options: RaftOptions) -> Any:
    """One member."""
    from pysyncobj import SyncObj, SyncObjConf, replicated  # noqa: PLC0415 - an extra

    class Register(SyncObj):  # type: ignore[misc]
        """Holds the last value."""

        @replicated  # type: ignore[misc]
        def put(self, value: bytes) -> None:
            """Keep it."""
            self.value = value

    addresses = [f"127.0.0.1:{port}" for port in ports]
    batched = options.in_flight > 1
    conf = SyncObjConf(
        autoTick=False,
        appendEntriesUseBatch=batched,
        # Unbatched it is only the heartbeat.
        appendEntriesPeriod=BATCH_S if batched else 0.1,
        connectionRetryTime=0.2,
        logCompactionMinEntries=1 << 40,
        logCompactionMinTime=1 << 30,
    )
    return Register(addresses[me], [a for i, a in enumerate(addresses) if i != me], conf=conf)


def child(me: int, ports: list[int], _folder: Path, options: RaftOptions) -> Measured | None:
    """Be one member until the measurement is over; the leader's figures."""
    # It warns at each cut of entries that were applied already, hundreds in a healthy group.
    logging.basicConfig(level=logging.ERROR)
    node, measured = make_node(me, ports, options), Measured(options)
    body = b"x" * options.size

    def propose() -> None:
        started = time.perf_counter()

        def done(_: object, error: int) -> None:
            if error:
                measured.fail(f"fail reason {error}")
            else:
                measured.note(started, time.perf_counter())
            if not measured.over():
                propose()

        node.put(body, callback=done)

    # A follower is ended by its parent.
    while not (node.isReady() and leads(node)):
        node.doTick(TICK_S)
    measured.begin()
    for _ in range(options.in_flight):
        propose()
    while not measured.over():
        node.doTick(TICK_S)
    return measured


def leads(node: Any) -> bool:
    """Whether this member leads, and both others are connected."""
    status = node.getStatus()
    connected = [v for k, v in status.items() if k.startswith("partner_node_status_server_")]
    return bool(node._isLeader()) and all(v == 2 for v in connected)


@click.command(help=__doc__)
@raft_options
def main(in_flight: int, size: int, seconds: float, warm_up: float, folder: Path | None) -> None:
    """The command line."""
    try:
        import pysyncobj  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise click.ClickException(_MISSING) from None
    options = RaftOptions(in_flight, size, seconds, warm_up)
    run_members(child, free_ports(3), folder or Path(), options)


if __name__ == "__main__":
    main()
