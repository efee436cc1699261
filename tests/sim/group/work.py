"""What clients and operators do all the time: send, read, commit offsets, make topics."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ledgermq.broker.metadata import LogBegin
from ledgermq.broker.store.pulls import PullStatus
from ledgermq.broker.writer import AppendResult, OutgoingRecord
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.errors import LedgerMQError, PeerError
from ledgermq.remoting.message_id import pack_host
from tests.sim.invariants import ViolationError
from tests.sim.world import MS, ProcessGone

if TYPE_CHECKING:
    from ledgermq.broker.replica import Replica

    from .group import Group
    from .member import Member

TOPICS = ("Orders", "Bills", "Notes", "Parcels")
GROUPS = ("G0", "G1", "G2")
_BORN_HOST = pack_host("10.1.1.1:4711")
# Bursts of so many messages are sent in one go, as a broker appends what comes in together.
_RUNS = (4, 16)

# (weight, what is done)
_OPERATIONS = [
    (50, "send"),
    (8, "send_batch"),
    (5, "put_topic"),
    (2, "delete_topic"),
    (1, "put_group"),
    (1, "delete_group"),
    (9, "commit_offsets"),
    (12, "read"),
    (4, "view"),
    (2, "transfer"),
    (1, "terminate"),
    (2, "retain"),
]


class Work:
    """Does something every few milliseconds, mostly where a leader is ready."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self._rng = group.rng
        self._bodies = 0
        self._stopped = False
        self._operations = _OPERATIONS

    def leave_out(self, *names: str) -> None:
        """Never do these."""
        self._operations = [(w, n) for w, n in self._operations if n not in names]

    def start(self) -> None:
        """Begin."""
        self._stopped = False
        self._later()

    def stop(self) -> None:
        """Ask for nothing more."""
        self._stopped = True

    def _later(self) -> None:
        wait_ms = self._rng.expovariate(1 / self._group.character.pace_ms)
        self._group.world.schedule(1 + int(wait_ms * MS), self._act)

    def _act(self) -> None:
        if self._stopped:
            return
        self._group.looked(led=self._group.leader() is not None)
        weights = [weight for weight, _ in self._operations]
        name = self._rng.choices(self._operations, weights)[0][1]
        getattr(self, name)()
        self._later()

    # --- who ----------------------------------------------------------------------------------

    def _leader(self) -> "Member | None":
        """A member that believes to lead: a stale one now and then."""
        ready = [m for m in self._group.all if m.ready and not m.stopping]
        return self._rng.choice(ready) if ready else None

    def _anyone(self) -> "Member | None":
        running = [m for m in self._group.all if m.running]
        return self._rng.choice(running) if running else None

    def _spawn(self, member: "Member", coroutine: Coroutine[Any, Any, object]) -> None:
        async def quiet() -> None:
            try:
                await coroutine
            except PeerError:
                self._group.operations["refused"] += 1
            except RuntimeError:
                # A broker that stops closes its listener first: nobody reads any more.
                if not member.stopping:
                    raise
                self._group.operations["refused"] += 1

        try:
            member.process.spawn(quiet())
        except ProcessGone:
            coroutine.close()

    def _count(self, what: str) -> None:
        self._group.operations[what] += 1

    # --- sends --------------------------------------------------------------------------------

    def record(self, topic: str, queue_id: int) -> OutgoingRecord:
        """A message unlike any other."""
        self._bodies += 1
        rng = self._rng
        size = rng.choice((20, 100, 100, 400, 400, 3000)) if rng.random() < 0.99 else 12_000
        body = b"%d:" % self._bodies + b"x" * rng.randrange(size)
        self._group.promises.sent(body)
        return OutgoingRecord(
            topic=topic,
            queue_id=queue_id,
            body=body,
            properties=rng.choice((b"", b"TAGS\x01a\x02")),
            flag=0,
            sys_flag=0,
            born_timestamp_ms=1_700_000_000_000,
            born_host=_BORN_HOST,
        )

    def _queue(self, replica: "Replica") -> tuple[str, int] | None:
        topics = [t for t in TOPICS if t in replica.metadata.topics]
        if not topics:
            return None
        topic = self._rng.choice(topics)
        return topic, self._rng.randrange(replica.metadata.topics[topic].write_queue_nums)

    def send(self) -> None:
        """A burst of messages to one or more queues."""
        member = self._leader()
        if member is None or member.replica is None:
            return
        count = self._rng.choice((1, 1, 2, 4, 8, 16))
        records: list[OutgoingRecord] = []
        for _ in range(count):
            place = self._queue(member.replica)
            if place is None:
                self.put_topic()
                return
            if count not in _RUNS:
                self.send_one(member, *place)
            else:
                records.append(self.record(*place))
        if records:
            self._send_run(member, records)

    def send_one(self, member: "Member", topic: str, queue_id: int) -> None:
        """One message."""
        self._send(member, self.record(topic, queue_id))

    def _send(self, member: "Member", record: OutgoingRecord) -> None:
        replica = member.replica
        assert replica is not None
        self._count("sends")

        def done(result: AppendResult | PeerError) -> None:
            self._answered([record], [result])

        member.call(replica.node.append, record, done)

    def _send_run(self, member: "Member", records: list[OutgoingRecord]) -> None:
        """In one go; when the node does not want them so, one by one, as a broker does."""
        replica = member.replica
        assert replica is not None

        def done(results: list[AppendResult] | PeerError) -> None:
            if isinstance(results, PeerError):
                self._answered(records, [results])
                return
            told = len(results) == len(records)
            if not told:
                name = "each_is_answered"
                self._group.fail(ViolationError(name, f"{len(results)} of {len(records)}"))
            self._answered(records, [*results])

        if member.call(replica.node.append_each, records, done):
            self._count("runs of sends")
            return
        for record in records:
            self._send(member, record)

    def send_batch(self) -> None:
        """Several messages, all or none."""
        member = self._leader()
        if member is None or member.replica is None:
            return
        place = self._queue(member.replica)
        if place is None:
            return
        records = [self.record(*place) for _ in range(self._rng.randint(2, 12))]
        self._count("batches")
        places: list[AppendResult] = []

        def done(result: AppendResult | PeerError) -> None:
            failed = isinstance(result, PeerError)
            self._answered(records, [result] if failed else places)

        found = member.call(member.replica.node.append_all, records, done)
        places.extend(found or [])

    def _answered(
        self, records: list[OutgoingRecord], results: "list[AppendResult | PeerError]"
    ) -> None:
        """The node tells how it went; what is raised here would only be logged."""
        group = self._group
        try:
            for record, result in zip(records, results, strict=False):
                if isinstance(result, PeerError):
                    self._count("refused")
                    return
                group.promises.acked(record.topic, record.queue_id, record.body, result)
            group.observer.acknowledged()
        except ViolationError as e:
            group.fail(e)

    # --- topics and groups --------------------------------------------------------------------

    def put_topic(self) -> None:
        """Create a topic, or change its number of queues."""
        member = self._leader()
        if member is None or member.replica is None:
            return
        known = member.replica.metadata.topics
        missing = [t for t in TOPICS if t not in known]
        if not missing and self._rng.random() < 0.7:
            return
        queues = self._rng.randint(1, 3)
        name = self._rng.choice(missing or TOPICS)
        config = TopicConfig(
            topic_name=name, read_queue_nums=queues, write_queue_nums=queues, perm=6
        )
        self._count("topics put")
        self._spawn(member, member.replica.node.put_topic(config))

    def delete_topic(self) -> None:
        """Delete a topic; it is made again soon."""
        member = self._leader()
        if member is None or member.replica is None:
            return
        known = [t for t in TOPICS if t in member.replica.metadata.topics]
        if len(known) < 2:
            return
        name = self._rng.choice(known)
        self._count("topics deleted")
        self._spawn(member, self._deletion(member.replica.node.delete_topic(name), topic=name))

    async def _deletion(self, deletion: Coroutine[Any, Any, None], **what: str) -> None:
        promises = self._group.promises
        promises.forget_offsets(**what)
        try:
            await deletion
        finally:
            promises.forget_offsets(**what)

    def put_group(self) -> None:
        """Create or change a consumer group."""
        member = self._leader()
        if member is None or member.replica is None:
            return
        config = SubscriptionGroupConfig(
            group_name=self._rng.choice(GROUPS), retry_max_times=self._rng.randint(1, 20)
        )
        self._count("groups put")
        self._spawn(member, member.replica.node.put_group(config))

    def delete_group(self) -> None:
        """Delete a consumer group, its offsets too or not."""
        member = self._leader()
        if member is None or member.replica is None:
            return
        name, clean = self._rng.choice(GROUPS), self._rng.random() < 0.5
        self._count("groups deleted")
        deletion = member.replica.node.delete_group(name, clean)
        self._spawn(member, self._deletion(deletion, group=name))

    def commit_offsets(self) -> None:
        """A consumer tells how far it is in some queues."""
        member = self._leader()
        if member is None or member.replica is None:
            return
        replica = member.replica
        for _ in range(self._rng.randint(1, 4)):
            place = self._queue(replica)
            if place is None:
                return
            group = self._rng.choice(GROUPS)
            offset = self._rng.randint(0, member.call(replica.reader.max_offset, *place) or 0)
            self._group.promises.told((group, *place), offset)
            self._count("offsets committed")
            member.call(replica.node.commit_offset, group, *place, offset)

    # --- reads --------------------------------------------------------------------------------

    def read(self) -> None:
        """Read a queue at any node."""
        member = self._anyone()
        if member is None or member.replica is None:
            return
        place = self._queue(member.replica)
        if place is None:
            return
        reader = member.replica.reader
        low = member.call(reader.min_offset, *place) or 0
        high = member.call(reader.max_offset, *place) or 0
        wanted = self._rng.randint(max(low - 1, 0), max(low, high) + 1)
        self._count("reads")
        self._spawn(member, self.read_at(member, *place, wanted))

    async def read_at(self, member: "Member", topic: str, queue_id: int, wanted: int) -> int:
        """Read from `wanted` on; the offset to go on from."""
        replica = member.replica
        assert replica is not None
        reader = replica.reader
        limits: dict[str, Any] = {"max_count": 32, "max_bytes": 1 << 18, "codes": None}
        try:
            found = reader.find(topic, queue_id, wanted, **limits)
            if found is None:
                found = await reader.find_later(topic, queue_id, wanted, **limits)
            if found.status is not PullStatus.FOUND:
                return found.next_offset
            data = reader.read_nowait(topic, queue_id, found)
            if data is None:
                data = await reader.read(topic, queue_id, found)
        except (LedgerMQError, OSError) as e:
            self._group.read_failed(member, e)
            return wanted
        if data is None:
            return wanted  # gone, or given up, meanwhile
        try:
            self._group.promises.found(member, found, data)
        except ViolationError as e:
            self._group.fail(e)
        return found.next_offset

    def view(self) -> None:
        """Ask a node how long its queues are: never longer than what is committed."""
        member = self._anyone()
        if member is None or member.replica is None:
            return
        self._count("views")
        self._group.check_views(member)

    # --- hand-overs ---------------------------------------------------------------------------

    def transfer(self) -> None:
        """Hand leadership over."""
        member = self._leader()
        if member is None or member.replica is None:
            return
        others = [m.name for m in self._group.all if m is not member]
        target = self._rng.choice([None, *others])
        self._count("transfers")
        self._group.tell(member.name, f"is asked to hand over to {target or 'anyone'}")
        member.call(member.replica.log.transfer, target)

    def terminate(self) -> None:
        """SIGTERM, and a start some time later."""
        member = self._leader() if self._rng.random() < 0.7 else self._anyone()
        if member is None or not member.running or member.stopping:
            return
        self._count("SIGTERMs")
        self._group.tell(member.name, "SIGTERM")
        self._spawn(member, member.terminate())

    def retain(self) -> None:
        """Let the log begin later: at some file's first entry that is committed."""
        member = self._leader()
        if member is None or member.replica is None:
            return
        replica = member.replica
        try:
            found = [index for _, index in member.call(replica.log.segment_begins) or []]
        except LedgerMQError as e:
            self._group.read_failed(member, e)
            return
        wanted = [i for i in found if replica.metadata.log_begin < i <= replica.dispatcher.applied]
        if not wanted:
            return
        self._count("retention")
        self._spawn(member, replica.node._change(LogBegin(index=self._rng.choice(wanted))))
