"""Three real log servers in one process: loopback sockets, files below a folder."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ledgermq.dledger.ids import NodeId, RaftConfig, Timing
from ledgermq.dledger.member import ServerCallbacks, ServerConfig
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.snapshots import Snapshot
from ledgermq.dledger.store.tail_cache import TailCache
from tests.support import free_ports, until

NOOP = b"the leader's own entry"
TIMING = Timing(heartbeat_ms=50, election_min_ms=400, election_max_ms=800)


@dataclass
class Member:
    """One member and what it told its broker; it keeps its folder when started again."""

    config: ServerConfig
    cache_bytes: int | None = None
    server: LogServer | None = None
    commits: list[int] = field(default_factory=list)
    stops: list[Exception] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)
    seeded: list[Snapshot] = field(default_factory=list)
    before_hand_over: Callable[[], object] = lambda: None

    @property
    def id(self) -> NodeId:
        return self.config.raft.self_id

    @property
    def log(self) -> LogServer:
        assert self.server is not None
        return self.server

    @property
    def up(self) -> bool:
        return self.server is not None and not self.server.stopped

    @property
    def leads(self) -> bool:
        """Leads, and its own entry is committed."""
        log = self.server
        return log is not None and log.is_leader and log.core.commit >= log.core.term_first_index

    def _hand_over(self) -> None:
        self.before_hand_over()

    def make(self) -> LogServer:
        self.commits.clear()
        callbacks = ServerCallbacks(
            on_role=lambda *_: None,
            on_commit=self.commits.append,
            on_append_failed=self.failed.append,
            on_hand_over=self._hand_over,
            on_transfer_ended=lambda _: None,
            make_noop=lambda _term, _index: (len(NOOP), lambda _offset: NOOP),
            on_seeded=self.seeded.append,
            on_stop=self.stops.append,
        )
        self.server = LogServer(self.config, callbacks)
        if self.cache_bytes is not None:
            self.server.ledger.cache = TailCache(self.cache_bytes)
        return self.server

    async def start(self) -> None:
        await self.make().start()

    async def close(self) -> None:
        if self.server is not None:
            await self.server.close()

    def put(self, *bodies: bytes) -> int:
        """Stage bodies; index of the last."""
        index = -1
        for body in bodies:
            self.log.reserve(len(body))
            index = self.log.stage(body)
        return index

    async def all_entries(self, end: int) -> list[tuple[int, bytes]]:
        """(term, body) of 0..end, from the files."""
        found: list[tuple[int, bytes]] = []
        while len(found) <= end:
            data, _ = await self.log.read_entries(len(found), end, 1 << 20)
            for at, h in entry.walk(data):
                found.append((h.term, data[at + entry.HEADER_BYTES : at + h.size]))
        return found


class Group:
    def __init__(self, folder: Path, count: int = 3, **changes: Any) -> None:
        ports = free_ports(count)
        ids = [NodeId(f"n{i}") for i in range(count)]
        addresses = {i: ("127.0.0.1", p) for i, p in zip(ids, ports, strict=True)}
        base = ServerConfig(
            raft=RaftConfig(ids[0], tuple(ids), TIMING),
            group="G",
            members=addresses,
            folder=folder,
            data_folder=None,
            segment_bytes=64 << 10,
            sync_flush=True,
            flush_interval_ms=20,
            address="127.0.0.1:1",
            listen_host="127.0.0.1",
        )
        base = replace(base, **changes)
        self.members = {
            i: Member(replace(base, raft=replace(base.raft, self_id=i), folder=folder / i))
            for i in ids
        }

    def __iter__(self) -> Any:
        return iter(self.members.values())

    async def leader(self, *, other_than: Member | None = None) -> Member:
        def find() -> Member | None:
            return next((m for m in self if m.up and m.leads and m is not other_than), None)

        found = await until(find, what="a leader")
        assert isinstance(found, Member)
        await until(lambda: not found.log.core.joiners, what="all who run are members")
        return found

    def followers(self, leader: Member) -> list[Member]:
        return [m for m in self if m is not leader]

    async def committed(self, index: int, members: Any = None) -> None:
        wanted = list(members if members is not None else [m for m in self if m.up])
        await until(
            lambda: all(m.log.core.commit >= index for m in wanted),
            what=f"commit {index} on {[m.id for m in wanted]}",
        )

    async def agree(self, end: int) -> list[tuple[int, bytes]]:
        """Everybody that runs holds the same log up to `end`; it is returned."""
        await self.committed(end)
        first, *others = [await m.all_entries(end) for m in self if m.up]
        assert all(o == first for o in others)
        for m in self:
            assert m.commits == sorted(set(m.commits))
        return first


@asynccontextmanager
async def running(group: Group) -> AsyncIterator[Group]:
    try:
        await asyncio.gather(*(m.start() for m in group))
        yield group
    finally:
        await asyncio.gather(*(m.close() for m in group))


def errors_in(caplog: Any) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def count(texts: list[str], matches: Callable[[str], bool]) -> int:
    return sum(map(matches, texts))
