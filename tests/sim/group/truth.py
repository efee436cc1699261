"""The committed log and all that follows from it, as no member knows it whole.

Fed once per committed entry, by whoever commits it first; every other claim is compared with it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import NamedTuple

from ledgermq.broker.metadata import ChangeKind, Metadata, Op, decode_op
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.ids import NONE
from ledgermq.dledger.store import entry
from ledgermq.remoting.message_record import RecordPeek, peek_record
from ledgermq.remoting.message_types import SysFlag
from tests.sim.invariants import ViolationError

from .knowledge import Written

# Comparing whole metadata is dear: at every so many-th index.
FINGERPRINT_EVERY = 16
_TRANSACTION_MASK = 0xC
_BODY_AT = 88
_NOT_QUEUED = (0x4, SysFlag.TRANSACTION_ROLLBACK)

Versions = tuple[int, int, int, int]
# Topic and the index of the record that created it: a re-created topic is another one.
Incarnation = tuple[str, int]


class Place(NamedTuple):
    """Where a committed message lies."""

    index: int
    topic: str
    queue_id: int
    queue_offset: int
    record: bytes
    body: bytes


class Truth:
    """Everything committed.

    Attributes:
        entries: by index.
        terms: term of the member that committed each first. Invariant: never falls.
        by_offset: messages in queues by physical offset.
        sent: bodies that clients have sent.
    """

    def __init__(self, on_topic: Callable[[ChangeKind, str, Written], None]) -> None:
        """`on_topic` hears of topics created and deleted."""
        self.entries: list[Written] = []
        self.terms: list[int] = []
        self.by_offset: dict[int, Place] = {}
        self.sent: set[bytes] = set()
        self.metadata = Metadata()
        self._on_topic = on_topic
        self._queues: dict[Incarnation, dict[int, list[Place]]] = {}
        self._versions: dict[int, Versions] = {}
        self._fingerprints: dict[int, str] = {}
        # Index of the last internal record up to each moment, ascending.
        self._changes: list[int] = []

    @property
    def end(self) -> int:
        """Last committed index."""
        return len(self.entries) - 1

    def last_before_term(self, term: int) -> int:
        """Last index that was committed by members of earlier terms."""
        return bisect_left(self.terms, term) - 1

    # --- growing ------------------------------------------------------------------------------

    def commit(self, written: Written, term: int) -> None:
        """The next entry is committed, first by a member in `term`."""
        self.entries.append(written)
        self.terms.append(term)
        self._apply(written)

    def _apply(self, written: Written) -> None:
        record = written.record
        peek = peek_record(record)
        if not _is_queued(peek):
            return
        topic = peek.topic.decode()
        created = NONE
        if topic != INTERNAL_TOPIC:
            found = self.metadata.creation_index(topic)
            if found is None or found > written.index:
                return
            created = found
        queue = self._queues.setdefault((topic, created), {}).setdefault(peek.queue_id, [])
        offset = written.pos + entry.HEADER_BYTES
        _check_place(written, topic, peek.queue_id, peek.queue_offset, len(queue))
        if peek.physical_offset != offset:
            raise ViolationError(
                "physical_offset", f"entry {written.index} at {offset} says {peek.physical_offset}"
            )
        body = _body_of(record)
        place = Place(written.index, topic, peek.queue_id, peek.queue_offset, record, body)
        queue.append(place)
        self.by_offset[offset] = place
        if topic == INTERNAL_TOPIC:
            self._apply_change(written, body)
        elif body not in self.sent:
            raise ViolationError("bodies_were_sent", f"entry {written.index} holds an unknown body")

    def _apply_change(self, written: Written, body: bytes) -> None:
        change = self.metadata.apply(written.index, written.term, body)
        index = written.index
        self._changes.append(index)
        self._versions[index] = versions_of(self.metadata)
        if index % FINGERPRINT_EVERY == 0:
            self._fingerprints[index] = self.metadata.fingerprint()
        if change is not None and change.kind in (
            ChangeKind.TOPIC_CREATED,
            ChangeKind.TOPIC_DELETED,
        ):
            self._on_topic(change.kind, change.name, written)

    def cut(self, first: int) -> None:
        """A promise was void (power lost on a majority under ASYNC_FLUSH): forget what is gone."""
        kept = self.entries[:first]
        terms = self.terms[:first]
        self.by_offset.clear()
        self._queues.clear()
        self._changes.clear()
        self.metadata = Metadata()
        self.entries, self.terms = [], []
        for written, term in zip(kept, terms, strict=True):
            self.commit(written, term)

    # --- asking -------------------------------------------------------------------------------

    def queue(self, topic: str, created: int, queue_id: int) -> list[Place]:
        """Messages of a queue, by queue offset."""
        return self._queues.get((topic, created), {}).get(queue_id, [])

    def queue_end(self, topic: str, created: int, queue_id: int, index: int) -> int:
        """Length of a queue for whoever has applied up to `index`."""
        places = self.queue(topic, created, queue_id)
        return bisect_right(places, index, key=lambda p: p.index)

    def queues_of(self, topic: str, created: int) -> list[int]:
        """Queues of a topic that have messages."""
        return sorted(self._queues.get((topic, created), {}))

    def check_metadata(self, name: str, metadata: Metadata) -> None:
        """A member's metadata is what the committed log makes of it."""
        index = metadata.applied_index
        if index == NONE:
            return
        expected = self._versions.get(index)
        if expected is None:
            # A no-op, or a snapshot's index: what counts is the last change before it.
            at = bisect_right(self._changes, index) - 1
            expected = self._versions[self._changes[at]] if at >= 0 else (0, 0, 0, 0)
        if versions_of(metadata) != expected:
            raise ViolationError(
                "equal_metadata",
                f"{name} has versions {versions_of(metadata)} at index {index}, not {expected}",
            )
        fingerprint = self._fingerprints.get(index)
        if fingerprint is not None and metadata.fingerprint() != fingerprint:
            raise ViolationError("equal_metadata", f"{name} differs at index {index}")


def _is_queued(peek: RecordPeek) -> bool:
    return peek.sys_flag & _TRANSACTION_MASK not in _NOT_QUEUED


def op_in(written: Written) -> Op | None:
    """The change of the metadata that an entry is, committed or not; None: it is none."""
    peek = peek_record(written.record)
    if peek.topic.decode() != INTERNAL_TOPIC or not _is_queued(peek):
        return None
    return decode_op(written.index, _body_of(written.record))


def _body_of(record: bytes) -> bytes:
    """Of a record with IPv4 hosts, which all are here; source: message-format, record layout."""
    end = _BODY_AT + int.from_bytes(record[_BODY_AT - 4 : _BODY_AT])
    return record[_BODY_AT:end]


def versions_of(metadata: Metadata) -> Versions:
    """Numbers that rise with every change."""
    return (
        metadata.topic_version,
        metadata.group_version,
        metadata.offset_version,
        metadata.log_begin,
    )


def _check_place(written: Written, topic: str, queue_id: int, found: int, expected: int) -> None:
    if found != expected:
        raise ViolationError(
            "queues_are_dense",
            f"entry {written.index} is message {found} of {topic}/{queue_id}, which has {expected}",
        )
