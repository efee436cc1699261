"""A log in memory whose every entry is committed, and a replica's queues and metadata on it.

The bytes are those of a real log: entries with both checksums, segments, a begin that moves. What
lies on the disk, queue files, mark and snapshots, is real.
"""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ledgermq.broker.metadata import LogBegin, Metadata, Op, TopicDelete, TopicPut, encode_op
from ledgermq.broker.store.dispatch import Arrivals, DispatchCallbacks, Dispatcher
from ledgermq.broker.store.group_source import GroupSource
from ledgermq.broker.store.pulls import PullResult
from ledgermq.broker.store.reader import MessageReader
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.disk import Disk, OsDisk
from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.host import Host
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.begin import Begin
from ledgermq.dledger.store.snapshots import Snapshot, SnapshotStore
from ledgermq.remoting.message import MessageExt, decode_records, encode_record, pack_host
from tests.support import until
from tests.unit.broker.fakes import topic as topic_config

SEGMENT_BYTES = 4096
QUEUE_BYTES = 100
FIRST_MS = 1_700_000_000_000
HOST = pack_host("10.0.0.1:10911")


class FakeLog:
    """What the dispatcher and the reader ask of a `LogServer`."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.config = SimpleNamespace(folder=folder, segment_bytes=SEGMENT_BYTES)
        self.host = Host(disk=disk or OsDisk())
        self.snapshots = SnapshotStore(folder / "snapshot", self.host.disk)
        self.begin = Begin(0, 0, -1, 0)
        self.stopped = False
        self.data = bytearray()
        self.places: list[tuple[int, int]] = []
        self.chains: list[int] = []
        self.term = 1
        self.next_offsets: dict[tuple[str, int], int] = {}
        self.in_cache = True
        self.saves = 0
        # How full the disks are: the own one, and the fullest of the others.
        self.own_percent = self.others_percent = 0

    # --- writing ------------------------------------------------------------------------------

    @property
    def end_index(self) -> int:
        return len(self.places) - 1

    @property
    def end_pos(self) -> int:
        return sum(self.places[-1]) if self.places else 0

    def append(
        self, topic: str, queue_id: int, body: bytes, *, properties: str = "", sys_flag: int = 0
    ) -> int:
        """One record at the end, with the queue offset that is its turn."""
        offset = self.next_offsets.get((topic, queue_id), 0)

        def record(physical_offset: int) -> bytes:
            return encode_record(
                topic=topic.encode(),
                queue_id=queue_id,
                flag=0,
                queue_offset=offset,
                physical_offset=physical_offset,
                sys_flag=sys_flag,
                born_timestamp_ms=0,
                born_host=HOST,
                store_timestamp_ms=FIRST_MS + len(self.places),
                store_host=HOST,
                reconsume_times=0,
                prepared_transaction_offset=0,
                body=body,
                properties=properties.encode(),
            )

        size = entry.HEADER_BYTES + len(record(0))
        pos = self.end_pos
        if pos % SEGMENT_BYTES + size + entry.BLANK_BYTES > SEGMENT_BYTES:
            pos += SEGMENT_BYTES - pos % SEGMENT_BYTES
        content = record(pos + entry.HEADER_BYTES)
        chain = self.chains[-1] if self.chains else 0
        head, chain = entry.encode(len(self.places), self.term, pos, content, chain)
        self.data.extend(bytes(pos - len(self.data)))
        self.data += head + content
        self.places.append((pos, size))
        self.chains.append(chain)
        self.next_offsets[topic, queue_id] = offset + 1
        return self.end_index

    def apply(self, op: Op) -> int:
        """One change of the metadata."""
        if isinstance(op, TopicDelete):
            for key in [k for k in self.next_offsets if k[0] == op.name]:
                del self.next_offsets[key]
        return self.append(INTERNAL_TOPIC, 0, encode_op(op))

    # --- what is asked ------------------------------------------------------------------------

    @property
    def ledger(self) -> Any:
        return SimpleNamespace(end_index=self.end_index, end_pos=self.end_pos, data=self)

    def read(self, pos: int, size: int) -> bytes:
        """As `Segments.read`."""
        end = min(pos + size, pos - pos % SEGMENT_BYTES + SEGMENT_BYTES)
        return bytes(self.data[pos:end]) if pos >= self.begin.pos else b""

    def read_nowait(self, pos: int, size: int) -> bytes | None:
        found = self.read(pos, size)
        return found if self.in_cache and len(found) == size else None

    async def read_at(self, pos: int, size: int) -> bytes:
        await asyncio.sleep(0)
        return self.read(pos, size)

    def cached_entries(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int] | None:
        return self._entries(first, last, max_bytes) if self.in_cache else None

    async def read_entries(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int]:
        await asyncio.sleep(0)
        return self._entries(first, last, max_bytes)

    def _entries(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int]:
        assert self.begin.index <= first <= last <= self.end_index
        parts: list[bytes] = []
        for index in range(first, last + 1):
            pos, size = self.places[index]
            if parts and (
                sum(map(len, parts)) + size > max_bytes
                or pos // SEGMENT_BYTES != self.places[first][0] // SEGMENT_BYTES
            ):
                return b"".join(parts), index - 1
            data = bytes(self.data[pos : pos + size])
            chain = self.chains[index - 1] if index else 0
            try:
                header = entry.decode(data)
                entry.check(header, data[entry.HEADER_BYTES :], chain)
                if header.pos != pos:
                    raise entry.EntryError("elsewhere")
            except entry.EntryError as e:
                if parts:
                    return b"".join(parts), index - 1
                raise DamagedError(f"data/{pos:020d}", pos, e.remark) from e
            parts.append(data)
        return b"".join(parts), last

    def segment_begins(self) -> list[tuple[int, int]]:
        firsts: dict[int, int] = {}
        for index, (pos, _) in enumerate(self.places):
            if index >= self.begin.index:
                firsts.setdefault(pos - pos % SEGMENT_BYTES, index)
        return sorted(firsts.items())

    def report_disk(self, percent: int) -> None:
        self.own_percent = percent

    def fullest_disk_percent(self) -> int:
        return max(self.own_percent, self.others_percent)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await asyncio.sleep(0)
        self.snapshots.save(snapshot)
        self.saves += 1

    def move_begin(self, index: int) -> None:
        assert self.snapshots.newest is not None
        assert self.snapshots.newest.index >= index - 1
        assert self.places[index][0] % SEGMENT_BYTES == 0
        self.begin = Begin(index, self.places[index][0], self.term, self.chains[index - 1])


class Replica:
    """Dispatcher, metadata and reader on a log; `start` again after `stop` or `crash`."""

    def __init__(self, folder: Path, log: FakeLog, queue_bytes: int = QUEUE_BYTES) -> None:
        self.folder = folder
        self.log = log
        self.queue_bytes = queue_bytes
        self.failures: list[Exception] = []
        self.arrived: list[Arrivals] = []

    async def start(self, *, follow: bool = True) -> None:
        """Open what is on the disk; dispatch all of the log with `follow`."""
        self.log.snapshots = SnapshotStore(self.log.config.folder / "snapshot", self.log.host.disk)
        self.failures = []
        self.metadata = Metadata()
        self.dispatcher = Dispatcher(
            cast(Any, self.log), self.folder / "consumequeue", self.queue_bytes, self.metadata
        )
        source = GroupSource(
            cast(Any, self.log),
            applied=lambda: self.dispatcher.applied,
            on_damage=self.dispatcher.fail,
        )
        self.reader = MessageReader(source, self.dispatcher)
        await self.dispatcher.start(
            DispatchCallbacks(
                lambda _index, arrivals: self.arrived.append(arrivals),
                lambda _change: None,
                self.failures.append,
            )
        )
        if follow:
            await self.follow()

    async def follow(self, commit: int | None = None) -> None:
        """Dispatch up to `commit`, or fail."""
        target = self.log.end_index if commit is None else commit
        self.dispatcher.committed(target)
        await until(
            lambda: (
                self.failures or (self.dispatcher.serving and self.dispatcher.applied >= target)
            ),
            what=f"dispatch up to {target}",
        )

    async def stop(self) -> None:
        await self.dispatcher.close()

    async def crash(self) -> None:
        """As `kill -9`: what is written is there, nothing more is done."""
        d = self.dispatcher
        d._stopped = True
        for task in (d._task, d._flush_task):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        d.queues.close()
        d._mark_file.close()
        d._threads.shutdown(wait=True)

    async def snapshot(self) -> None:
        """What the keeper does now and then."""
        await self.dispatcher._keeper._save()

    # --- looking ------------------------------------------------------------------------------

    async def pull(self, topic: str, queue_id: int, offset: int, **more: Any) -> PullResult:
        limits: dict[str, Any] = {"max_count": 32, "max_bytes": 1 << 20, "codes": None, **more}
        found = self.reader.find(topic, queue_id, offset, **limits)
        return found or await self.reader.find_later(topic, queue_id, offset, **limits)

    async def messages(self, topic: str, queue_id: int) -> list[MessageExt]:
        """Every message of a queue, as a consumer gets them."""
        found: list[MessageExt] = []
        offset = self.reader.min_offset(topic, queue_id)
        while True:
            pulled = await self.pull(topic, queue_id, offset)
            if not pulled.units:
                return found
            body = self.reader.read_nowait(topic, queue_id, pulled)
            if body is None:
                body = await self.reader.read(topic, queue_id, pulled)
            assert body is not None
            found += decode_records(body)
            offset = pulled.next_offset

    def rows(self) -> list[Any]:
        """Bounds of every queue."""
        return sorted(self.dispatcher.queues.rows())

    def units(self) -> dict[tuple[str, int], list[Any]]:
        """Units of every queue."""
        queues = self.dispatcher.queues
        return {
            (r.topic, r.queue_id): queues.get(r.topic, r.queue_id).read(r.min_offset, 1 << 30)
            for r in self.rows()
        }


def put_topic(log: FakeLog, name: str, queues: int = 2) -> int:
    return log.apply(TopicPut(topic_config(name, queues)))


def fill(log: FakeLog, count: int, topic: str = "T", queues: int = 2, size: int = 20) -> None:
    for n in range(count):
        body = f"{topic}-{len(log.places)}-".encode() * size
        log.append(topic, n % queues, body, properties=f"TAGS\x01t{n % 3}\x02")


def move_begin(log: FakeLog, segment: int) -> int:
    """Log that the log begins at its n-th segment; its first index."""
    index = log.segment_begins()[segment][1]
    log.apply(LogBegin(index))
    return index
