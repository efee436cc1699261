"""What clients were told: acknowledged messages, readable messages, consumer offsets."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ledgermq.broker.metadata import GroupDelete, Offsets, OffsetsPut, Op, TopicDelete
from ledgermq.broker.store.dispatch import Arrivals
from ledgermq.broker.store.pulls import PullResult, PullStatus
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.broker.writer import AppendResult
from ledgermq.dledger.ids import NONE
from tests.sim.invariants import ViolationError

from .truth import Place, Truth, op_in

if TYPE_CHECKING:
    from ledgermq.broker.replica import Replica

    from .member import Member

OffsetKey = tuple[str, str, int]


class Promises:
    """Checks at the moment something is said; what it rests on, `Rules` keeps from changing.

    Attributes:
        acknowledged: answers SEND_OK.
        read: messages that readers got.
    """

    def __init__(self, truth: Truth) -> None:
        self.acknowledged = 0
        self.read = 0
        self._truth = truth
        # Newest consumer offsets told to the leader, and how often each was told.
        self._offsets: dict[OffsetKey, tuple[int, int]] = {}
        self._told = 0
        self._flushing: dict[str, tuple[int, dict[OffsetKey, tuple[int, int, int]]]] = {}

    # --- sends --------------------------------------------------------------------------------

    def sent(self, body: bytes) -> None:
        """A client sends this; no other message has the same body."""
        self._truth.sent.add(body)

    def acked(self, topic: str, queue_id: int, body: bytes, result: AppendResult) -> None:
        """SEND_OK: the message is committed, and lies where the answer says."""
        self.acknowledged += 1
        place = self._truth.by_offset.get(result.physical_offset)
        if place is None:
            raise ViolationError(
                "acks_are_committed",
                f"{topic}/{queue_id} offset {result.queue_offset} was acknowledged, nothing is"
                f" committed at {result.physical_offset}",
            )
        at = (place.topic, place.queue_id, place.queue_offset, place.body)
        if at != (topic, queue_id, result.queue_offset, body):
            raise ViolationError(
                "acks_are_true", f"{topic}/{queue_id}/{result.queue_offset} holds {at[:3]}"
            )

    # --- views --------------------------------------------------------------------------------

    def opened(self, member: "Member", replica: "Replica") -> None:
        """A restarted node has rebuilt its views: they are those of the committed log."""
        applied = replica.dispatcher.applied
        if applied > self._truth.end:
            raise ViolationError(
                "applied_is_committed",
                f"{member.name} comes back at {applied}, committed is {self._truth.end}",
            )
        self._truth.check_metadata(member.name, replica.metadata)
        self.check_queues(member, replica)

    def check_queues(self, member: "Member", replica: "Replica") -> None:
        """Every queue ends where the log says, for what this node has applied."""
        if not replica.dispatcher.serving:
            return
        for topic in replica.metadata.topics:
            created = replica.metadata.creation_index(topic)
            if created is not None:
                for queue_id in self._truth.queues_of(topic, created):
                    self._check_end(member, replica, topic, queue_id)

    def _check_end(self, member: "Member", replica: "Replica", topic: str, queue_id: int) -> None:
        created = replica.metadata.creation_index(topic)
        if topic == INTERNAL_TOPIC:
            created = NONE
        if created is None:
            return  # deleted by a later record of the same batch
        applied = replica.dispatcher.applied
        expected = self._truth.queue_end(topic, created, queue_id, applied)
        found = replica.dispatcher.queues.get(topic, queue_id).max_offset
        if found != expected:
            raise ViolationError(
                "equal_queues",
                f"{member.name}: {topic}/{queue_id} ends at {found} at index {applied}, it should"
                f" at {expected}",
            )

    def applied(self, member: "Member", index: int, arrivals: Arrivals) -> None:
        """A node has made everything up to `index` visible."""
        w, replica = member.witness, member.replica
        assert replica is not None
        if index < w.applied:
            raise ViolationError("applied_rises", f"{member.name}: {w.applied} -> {index}")
        if index > self._truth.end or index > w.commit:
            raise ViolationError(
                "applied_is_committed",
                f"{member.name} applies {index}, its commit is {w.commit}, {self._truth.end} is"
                " committed at all",
            )
        w.applied = index
        for topic, queue_id in arrivals:
            self._check_end(member, replica, topic, queue_id)

    # --- reads --------------------------------------------------------------------------------

    def found(self, member: "Member", result: PullResult, data: bytes) -> None:
        """A reader got these records: committed, unchanged, in the order of the queue."""
        at = 0
        for expected, unit in zip(result.offsets, result.units, strict=True):
            record = data[at : at + unit.size]
            at += unit.size
            self.check_record(member, unit.physical_offset, record, expected)
        if result.status is PullStatus.FOUND and result.next_offset > result.max_offset:
            raise ViolationError(
                "reads_end", f"{member.name}: next {result.next_offset} of {result.max_offset}"
            )

    def check_record(
        self, member: "Member", offset: int, record: bytes, queue_offset: int
    ) -> Place:
        """One record that a reader got."""
        self.read += 1
        place = self._truth.by_offset.get(offset)
        if place is None:
            raise ViolationError(
                "reads_are_committed",
                f"{member.name} serves the record at {offset}, which is not committed",
            )
        if place.record != record or place.queue_offset != queue_offset:
            raise ViolationError(
                "reads_are_true",
                f"{member.name} serves other bytes than were committed at {offset}"
                f" (queue offset {queue_offset})",
            )
        return place

    # --- consumer offsets ---------------------------------------------------------------------

    def told(self, key: OffsetKey, offset: int) -> None:
        """A consumer told the leader how far it is: (group, topic, queue), next offset to read."""
        self._told += 1
        self._offsets[key] = (offset, self._told)

    def handing_over(self, member: "Member") -> None:
        """The leader begins to hand over: every offset it shows is in the log it hands over."""
        replica = member.replica
        assert replica is not None
        logged: dict[OffsetKey, int] = {}
        for op in _ops_to_apply(member):
            if isinstance(op, OffsetsPut):
                logged.update(_flat(op.offsets))
        deleted = _deleted(member)
        for key in self._offsets:
            # What is in memory only: the log may be further by what an earlier leader wrote.
            shown = replica.node._offsets.get(*key)
            found = logged.get(key, replica.metadata.offset(*key))
            if shown not in (None, found) and not deleted.intersection(key[:2]):
                raise ViolationError(
                    "offsets_survive_hand_overs",
                    f"{member.name} hands over; it shows {shown} for {key}, its log says {found}",
                )

    def flushing(self, member: "Member") -> None:
        """The leader puts its offsets into the log, to end in order."""
        replica = member.replica
        assert replica is not None
        expected: dict[OffsetKey, tuple[int, int, int]] = {}
        # While another hand-over does not come to an end (its target is gone, and so is the
        # majority) nothing can be written; the node has waited for that long enough.
        told = {} if replica.log.core.transferring else self._offsets
        deleted = _deleted(member)
        for (group, topic, queue_id), (_, number) in told.items():
            created = replica.metadata.creation_index(topic)
            if created is None or deleted.intersection((group, topic)):
                continue
            offset = replica.node.query_offset(group, topic, queue_id)
            if offset is not None:
                expected[group, topic, queue_id] = (offset, number, created)
        self._flushing[member.name] = (replica.log.core.term, expected)

    def flushed(self, member: "Member") -> None:
        """The hand-over begins: what consumers had told before is in the log."""
        replica = member.replica
        assert replica is not None
        term, expected = self._flushing.pop(member.name)
        if not replica.node.ready or replica.log.core.term != term or replica.node.pending_count:
            return
        metadata = self._truth.metadata
        for (group, topic, queue_id), (offset, number, created) in expected.items():
            newest = self._offsets[group, topic, queue_id][1]
            if newest != number or metadata.creation_index(topic) != created:
                continue  # moved on, or deleted, meanwhile
            found = metadata.offset(group, topic, queue_id)
            if found != offset:
                raise ViolationError(
                    "offsets_survive_sigterm",
                    f"{member.name} hands over; {group} was at {offset} in {topic}/{queue_id}, the"
                    f" log says {found}",
                )

    def forget_offsets(self, *, group: str | None = None, topic: str | None = None) -> None:
        """A group or a topic is being deleted."""
        for key in [k for k in self._offsets if k[0] == group or k[1] == topic]:
            offset, _ = self._offsets[key]
            self._told += 1
            self._offsets[key] = (offset, self._told)


def _ops_to_apply(member: "Member") -> Iterator[Op]:
    """The changes of the metadata in a member's log that it has not applied."""
    replica, held = member.replica, member.witness.held
    assert replica is not None
    for index in range(replica.dispatcher.applied + 1, held.end + 1):
        written = held.at(index)
        op = op_in(written) if written is not None else None
        if op is not None:
            yield op


def _deleted(member: "Member") -> set[str]:
    """Topics and groups that one of them deletes."""
    ops = _ops_to_apply(member)
    return {op.name for op in ops if isinstance(op, TopicDelete | GroupDelete)}


def _flat(offsets: Offsets) -> dict[OffsetKey, int]:
    return {
        (group, topic, queue_id): offset
        for group, by_topic in offsets.items()
        for topic, queues in by_topic.items()
        for queue_id, offset in queues.items()
    }
