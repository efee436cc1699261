"""A master on a simulated machine that loses its power, and what its clients were told."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from ledgermq.broker.config import BrokerConfig
from ledgermq.broker.engine import EngineEvents
from ledgermq.broker.plain.master import Master
from ledgermq.broker.writer import AppendResult, OutgoingRecord
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message import decode_records, pack_host
from tests.sim.world import Loss, Process, ProcessGone, S, World

from .plain_truth import QUEUES, Broken, Sent, Topic

ROOT = Path("/m/store")
# What an operator, or a bad disk, may take away while nothing runs.
PARTS = ("consumequeue", "snapshot", "checkpoint", "index", "life", "abort", "deleted queue")
_CALLS = (None, None, "pwrite", "fdatasync", "fdatasync", "rename", "sync_folder", "remove")
_BORN = pack_host("1.2.3.4:5")


class PlainWorld:
    """One seed: lives of one broker, each ended somehow.

    Attributes:
        phases: in which phases it was ended, how often.
        counts: what else has happened.
    """

    def __init__(self, seed: int, *, sync_flush: bool) -> None:
        self.rng = Random(seed)
        self.sync_flush = sync_flush
        self.world = World(seed)
        self.machine = self.world.machine("m")
        self.topics = [Topic(f"T{i}") for i in range(5)]
        self.groups: set[str] = set()
        self.phases: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.config = BrokerConfig(
            broker_name="m",
            broker_ip1="10.0.0.1",
            listen_port=10911,
            store_path_root_dir=ROOT,
            flush_disk_type="SYNC_FLUSH" if sync_flush else "ASYNC_FLUSH",
            mapped_file_size_commit_log=16 << 10,
            mapped_file_size_consume_queue=200,
            max_hash_slot_num=16,
            max_index_num=64,
            flush_interval_commit_log_ms=60,
            flush_interval_consume_queue_ms=40,
            flush_consume_queue_thorough_interval_ms=200,
            flush_consumer_offset_interval_ms=70,
            clean_resource_interval_ms=90,
            delete_commit_log_files_interval_ms=5,
            delete_consume_queue_files_interval_ms=5,
            # The files of a simulated disk are very old; only a full disk lets them go.
            file_reserved_hours=10_000_000,
        )
        self.master: Master | None = None
        self.stage = ""
        self._used_ratio = 0.1
        self._failure: Exception | None = None
        # Since somebody looked last.
        self._is_unkept = False
        self._lost_power = False

    # --- lives --------------------------------------------------------------------------------

    def run(self, lives: int) -> None:
        """Live so often; the last one is only looked at."""
        with self.world:
            for _ in range(lives):
                self._live()
                self._harm()
            self._live(to_look=True)

    def _live(self, *, to_look: bool = False) -> None:
        self.machine.disk.room = None
        process = self.machine.boot()
        self.stage, self.master, self._used_ratio = "start", None, 0.1
        power = self.rng.random() < 0.6
        if not to_look and self.rng.random() < 0.8:
            in_start = self.rng.random() < 0.3
            n = self.rng.randrange(1, 60 if in_start else 500)
            kind = self.rng.choice(_CALLS)
            process.at_disk_call(n, lambda: self._end(power=power), kind)
        with suppress(ProcessGone):
            process.call(self._begin, process, power, to_look)
        limit = (20 if to_look else self.rng.choice([0.2, 0.8, 2])) * S
        self.world.run_until(lambda: self._is_over(process, to_look), int(limit))
        if self._failure is not None:
            raise Broken(f"it stopped by itself: {self._failure}") from self._failure
        if process.alive and to_look:
            assert self.stage == "seen", f"it hangs: {self.stage}"
        elif process.alive and self.rng.random() < 0.6:
            self._stop(process)
        self._end(power=power)

    def _is_over(self, process: Process, to_look: bool) -> bool:
        return not process.alive or self._failure is not None or (to_look and self.stage == "seen")

    def _stop(self, process: Process) -> None:
        """A clean stop, unless something ends it earlier."""
        if self.stage != "working":
            return
        self.stage = "stop"
        if self.rng.random() < 0.6:
            power, n = self.rng.random() < 0.6, self.rng.randrange(1, 30)
            process.at_disk_call(n, lambda: self._end(power=power))
        process.spawn(self._close(process))
        self.world.run_until(lambda: not process.alive or self.stage == "stopped", 20 * S)
        if self.stage == "stopped":
            self.counts["clean stops"] += 1

    async def _close(self, process: Process) -> None:
        assert self.master is not None
        self.machine.disk.room = None
        await self.master.close()
        process.disk.remove(ROOT / "abort")
        self.stage = "stopped"

    def _end(self, *, power: bool) -> None:
        process = self.machine.process
        if process is None or not process.alive:
            return
        for phase in self._phase():
            self.phases[phase] += 1
        self._lost_power |= power
        if power:
            self.machine.power_loss(self.rng.choice(list(Loss)))
        else:
            process.kill()

    def _phase(self) -> list[str]:
        found = [self.stage]
        master = self.master
        if master is None or self.stage != "working":
            return found
        if master.node._deleting:
            found.append("deletion")
        if master._keeper._busy.locked():
            found.append("keeping")
        if master._trimming:
            found.append("trimming")
        if master._log.end_pos > master._appends.flusher.synced_pos:
            found.append("written, not synced")
        return found

    def _harm(self) -> None:
        """Sometimes a part of the store is gone when it starts again; one part at a time."""
        if self._is_unkept or self.rng.random() < 0.6:
            return
        disk, part = self.machine.disk, self.rng.choice(PARTS)
        self.counts[f"without {part}"] += 1
        self._is_unkept |= part == "snapshot"
        path = ROOT / part
        if part == "deleted queue":
            part, path = "consumequeue", ROOT / "consumequeue" / f"T{self.rng.randrange(5)}" / "0"
        if disk.names.find(path) is None:
            return
        if part in ("consumequeue", "snapshot", "index"):
            disk.remove_folder(path)
        else:
            disk.remove(path)

    # --- one life -----------------------------------------------------------------------------

    def _begin(self, process: Process, power: bool, to_look: bool) -> None:
        events = EngineEvents(
            on_ready=lambda _: None,
            on_applied=lambda _pos, _arrivals: None,
            on_change=lambda _: None,
            on_stop=self._stopped,
        )
        self.master = Master(
            self.config, events, process.host(), disk_used_ratio=lambda: self._used_ratio
        )
        process.disk.close(process.disk.open(ROOT / "abort", create=True))
        process.spawn(self._work(process, self.master, to_look))

    def _stopped(self, reason: Exception) -> None:
        self._failure = self._failure or reason

    async def _work(self, process: Process, master: Master, to_look: bool) -> None:
        await master.open()
        await master.join()
        await self._look(master)
        if to_look:
            self.stage = "seen"
            return
        self.stage = "working"
        for i, topic in enumerate(self.topics):
            process.spawn(self._use(master, topic, Random(self.rng.getrandbits(64)), i))
        fills = self.rng.random() < 0.4
        while self.stage == "working":
            await asyncio.sleep(0.05 + self.rng.random() * 0.3)
            self._used_ratio = self.rng.choice([0.1, 0.87])
            if fills and self.stage == "working":
                self.machine.disk.room = self.rng.choice([None, None, 0, 3 * 4096, 20 * 4096])

    async def _use(self, master: Master, topic: Topic, rng: Random, number: int) -> None:
        while self.stage == "working":
            await asyncio.sleep(rng.random() * 0.02)
            what = rng.random()
            with suppress(PeerError):
                if topic.is_there is not True or topic.is_going:
                    topic.is_there = None
                    config = TopicConfig(topic.name, QUEUES, QUEUES, 6)
                    await master.node.put_topic(config)
                    topic.is_there = True
                elif what < 0.05:
                    await self._delete(master, topic)
                elif what < 0.08:
                    name = f"G{number}{rng.randrange(20)}"
                    await master.node.put_group(SubscriptionGroupConfig(group_name=name))
                    self.groups.add(name)
                elif what < 0.2:
                    self._commit(master, topic, rng)
                else:
                    await self._send(master, topic, rng)

    async def _delete(self, master: Master, topic: Topic) -> None:
        topic.is_going = True
        await master.node.delete_topic(topic.name)
        self.counts["deletions"] += 1
        topic.renew()
        topic.is_there, topic.is_going = False, False

    def _commit(self, master: Master, topic: Topic, rng: Random) -> None:
        queue_id = rng.randrange(QUEUES)
        queue = topic.queues[queue_id]
        offset = rng.randint(queue.commits[-1], max(queue.safe, queue.commits[-1]))
        queue.commits.append(offset)
        master.node.commit_offset("CG", topic.name, queue_id, offset)

    async def _send(self, master: Master, topic: Topic, rng: Random) -> None:
        """A burst, and wait for its answers."""
        answered: list[asyncio.Future[None]] = []
        for _ in range(rng.randint(1, 6)):
            queue_id = rng.randrange(QUEUES)
            queue = topic.queues[queue_id]
            offset = len(queue.bodies)
            body = f"{topic.name}.{topic.made}.{queue_id}.{offset}.".encode()
            body += rng.randbytes(rng.choice([0, 30, 700, 3000]))
            waits = rng.random() < 0.8
            record = OutgoingRecord(
                topic.name,
                queue_id,
                body,
                b"TAGS\x01A\x02" if waits else b"KEYS\x01K\x02WAIT\x01false\x02",
                0,
                0,
                1,
                _BORN,
            )
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue.bodies.append(body)
            master.node.append(record, self._on_done(queue, offset, waits, done))
            answered.append(done)
        await asyncio.gather(*answered)

    def _on_done(
        self, queue: Sent, offset: int, waits: bool, done: "asyncio.Future[None]"
    ) -> Callable[[AppendResult | PeerError], None]:
        def on_done(result: AppendResult | PeerError) -> None:
            done.set_result(None)
            if isinstance(result, PeerError):
                if self.stage != "working" or self._failure is not None:
                    return
                if "no room left" not in result.remark:
                    self._failure = Broken(f"refused: {result.remark}")
                self.counts["refused"] += 1
                queue.refused += queue.bodies[offset:]
                del queue.bodies[offset:]
                return
            if result.queue_offset != offset:
                self._failure = Broken(f"offset {result.queue_offset}, not {offset}")
            queue.places[offset] = result.physical_offset
            if waits and not result.sync_timed_out:
                self.counts["answered"] += 1
                queue.safe = max(queue.safe, offset + 1)

        return on_done

    # --- what is there after a start ------------------------------------------------------------

    async def _look(self, master: Master) -> None:
        # After a loss of power only a synchronous flush promises anything.
        promised = self.sync_flush or not self._lost_power
        _demand(self.groups <= master.metadata.groups.keys(), "a group is gone")
        for topic in self.topics:
            is_there = topic.name in master.metadata.topics
            if topic.is_there is not None and not topic.is_going:
                _demand(is_there == topic.is_there, f"{topic.name} is there: {is_there}")
            ends = [master.reader.max_offset(topic.name, q) for q in range(QUEUES)]
            if topic.is_going and not any(ends):
                topic.renew()
            topic.is_there, topic.is_going = is_there, False
            if is_there:
                for queue_id, queue in enumerate(topic.queues):
                    where = f"{topic.name}.{topic.made}.{queue_id}"
                    await self._look_at(master, topic.name, queue_id, queue, where, promised)
        self._lost_power = self._is_unkept = False

    async def _look_at(
        self, master: Master, name: str, queue_id: int, queue: Sent, where: str, promised: bool
    ) -> None:
        low = master.reader.min_offset(name, queue_id)
        high = master.reader.max_offset(name, queue_id)
        if (
            self._is_unkept
            and not high
            and max(queue.places.values(), default=0) < master._log.begin_pos
        ):
            # Its messages have expired, and nothing tells where it ended.
            topic_queues = next(t for t in self.topics if t.name == name).queues
            queue = topic_queues[queue_id] = Sent()
        if promised:
            _demand(high >= queue.safe, f"{where} ends at {high}, {queue.safe} were answered")
        begin = master._log.begin_pos
        kept = [o for o, place in queue.places.items() if place >= begin and o < high]
        first = min(kept, default=low)
        _demand(low <= first, f"{where} begins at {low}, {first} is kept")
        found = await self._read(master, name, queue_id, low, high)
        for at in range(max(queue.safe, low), high) if self._lost_power else ():
            if found[at - low] in queue.refused:
                queue.bodies[at:] = found[at - low :]
                self.counts["refused and there"] += 1
                break
        _demand(found == queue.bodies[low:high], f"{where}: other messages than were sent")
        self.counts["looked at"] += len(found)
        del queue.bodies[high:]
        queue.places = {o: place for o, place in queue.places.items() if o < high}
        queue.safe = min(queue.safe, high)
        offset = master.node.query_offset("CG", name, queue_id) or 0
        _demand(offset <= high, f"{where}: consumed up to {offset} of {high}")
        is_cut = offset == high and max(queue.commits) > high
        _demand(offset in queue.commits or is_cut, f"{where}: nobody consumed up to {offset}")
        queue.commits = [offset]

    async def _read(
        self, master: Master, name: str, queue_id: int, low: int, high: int
    ) -> list[bytes]:
        bodies: list[bytes] = []
        while low < high:
            found = await master.reader.find_later(
                name, queue_id, low, max_count=32, max_bytes=1 << 20, codes=None
            )
            data = await master.reader.read(name, queue_id, found)
            assert data is not None
            records: list[Any] = decode_records(data)
            _demand([m.queue_offset for m in records] == list(found.offsets), "a gap")
            bodies += [m.body for m in records]
            low = found.next_offset
        return bodies


def _demand(condition: bool, what: str) -> None:
    if not condition:
        raise Broken(what)
