"""Our Raft core and its log alone: three processes, no broker, no clients.

    python -m bench.raft_ours --in-flight 64 --size 128 --seconds 5 --folder F

The leader itself proposes: so many proposals under way, each answered when a majority has written
it. `--sync` waits for their fsync too; without it, an entry counts when it is in the page cache,
which is more than pysyncobj does (it keeps entries in memory only).
"""

import asyncio
import logging
import tempfile
import time
from collections import deque
from pathlib import Path

import click

from ledgermq.dledger.ids import NodeId, RaftConfig
from ledgermq.dledger.member import ServerCallbacks, ServerConfig
from ledgermq.dledger.server import LogServer
from tests.support import until
from tests.support.ports import free_ports

from .raft_core import Measured, RaftOptions, raft_options, run_members

NOOP = b"the leader's own entry"
SEGMENT_BYTES = 1 << 30
FLUSH_INTERVAL_MS = 500
# No member lives longer than any measurement; its parent ends it before.
LIFE_S = 3600.0


def server_config(me: int, ports: list[int], folder: Path, *, sync: bool) -> ServerConfig:
    """One of the members."""
    ids = tuple(NodeId(f"n{i}") for i in range(len(ports)))
    return ServerConfig(
        raft=RaftConfig(ids[me], ids),
        group="bench",
        members={name: ("127.0.0.1", port) for name, port in zip(ids, ports, strict=True)},
        folder=folder / ids[me],
        data_folder=None,
        segment_bytes=SEGMENT_BYTES,
        sync_flush=sync,
        flush_interval_ms=FLUSH_INTERVAL_MS,
        address="127.0.0.1:1",
        listen_host="127.0.0.1",
    )


class Proposer:
    """Keeps proposals under way as long as this member leads.

    Invariant: `_waiting` has the (index, start) of every proposal that is not committed, in order.
    """

    def __init__(self, options: RaftOptions) -> None:
        self._body = b"x" * options.size
        self._wanted = options.in_flight
        self._waiting: deque[tuple[int, float]] = deque()
        self._filling = False
        self.measured = Measured(options)
        self.server: LogServer | None = None

    def on_commit(self, index: int) -> None:
        """Proposals up to there are done; as many begin."""
        now = time.perf_counter()
        while self._waiting and self._waiting[0][0] <= index:
            self.measured.note(self._waiting.popleft()[1], now)
        self.fill_soon()

    def fill_soon(self) -> None:
        """Propose after what runs now: `on_commit` is called in the middle of a step."""
        if not self._filling:
            self._filling = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._filling = False
        server = self.server
        if server is None or not self.leads or self.measured.over():
            return
        now = time.perf_counter()
        while len(self._waiting) < self._wanted:
            server.reserve(len(self._body))
            self._waiting.append((server.stage(self._body), now))

    @property
    def leads(self) -> bool:
        """Leads, and its first entry is committed."""
        server = self.server
        if server is None or not server.is_leader:
            return False
        return server.core.commit >= server.core.term_first_index


async def member(me: int, ports: list[int], folder: Path, options: RaftOptions) -> Measured | None:
    """Be one member until the measurement is over; the leader's figures."""
    proposer = Proposer(options)
    callbacks = ServerCallbacks(
        on_role=lambda *_: None,
        on_commit=proposer.on_commit,
        on_append_failed=proposer.measured.fail,
        on_hand_over=lambda: None,
        on_transfer_ended=lambda _: None,
        make_noop=lambda _term, _index: (len(NOOP), lambda _offset: NOOP),
        on_seeded=lambda _: None,
        on_stop=proposer.measured.fail,
    )
    server = LogServer(server_config(me, ports, folder, sync=options.sync), callbacks)
    await server.start()
    proposer.server = server
    try:
        # A follower is ended by its parent; the leader ends when it has measured.
        await until(lambda: proposer.leads and not server.core.joiners, LIFE_S, "leading")
        proposer.measured.begin()
        proposer.fill_soon()
        await until(proposer.measured.over, LIFE_S, "the end of the measurement")
    finally:
        await server.close()
    return proposer.measured


def child(me: int, ports: list[int], folder: Path, options: RaftOptions) -> Measured | None:
    """What one process does."""
    logging.basicConfig(level=logging.ERROR)
    return asyncio.run(member(me, ports, folder, options))


@click.command(help=__doc__)
@raft_options
@click.option("--sync", is_flag=True, help="an entry counts after its fsync")
def main(
    in_flight: int, size: int, seconds: float, warm_up: float, folder: Path | None, sync: bool
) -> None:
    """The command line."""
    options = RaftOptions(in_flight, size, seconds, warm_up, sync)
    with tempfile.TemporaryDirectory(dir=folder, prefix="raft-") as top:
        run_members(child, free_ports(3), Path(top), options)


if __name__ == "__main__":
    main()
