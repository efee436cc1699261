"""Topics, consumer groups and consumer offsets: what every replica builds from the same records.

The leader writes changes as records of the internal topic; each replica applies them after their
commit, in the order of the log. So applying is deterministic: no clock, no random, nothing of this
node's configuration. A broker without a group applies its own changes the same way.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from ledgermq.remoting.bodies.group import (
    ConsumerOffsetTable,
    SubscriptionGroupConfig,
    SubscriptionGroupTable,
)
from ledgermq.remoting.bodies.registration import (
    DataVersion,
    TopicConfig,
    TopicConfigSerializeWrapper,
)

from .metadata_dump import (
    MetadataError,
    Offsets,
    State,
    decode_state,
    encode_state,
    state_hash,
)
from .metadata_ops import (
    PAYLOAD_VERSION,
    GroupDelete,
    GroupPut,
    LogBegin,
    Noop,
    OffsetsPut,
    Op,
    TopicDelete,
    TopicPut,
    decode_op,
    encode_op,
)

__all__ = [
    "PAYLOAD_VERSION",
    "Change",
    "ChangeKind",
    "GroupDelete",
    "GroupPut",
    "LogBegin",
    "Metadata",
    "MetadataError",
    "Noop",
    "Offsets",
    "OffsetsPut",
    "Op",
    "TopicDelete",
    "TopicPut",
    "encode_op",
]


class ChangeKind(Enum):
    """What applying a record changed."""

    TOPIC_CREATED = "topic created"
    TOPIC_UPDATED = "topic updated"
    TOPIC_DELETED = "topic deleted"
    GROUP_PUT = "group put"
    GROUP_DELETED = "group deleted"
    OFFSETS = "offsets"
    NOOP = "noop"
    LOG_BEGIN = "log begin"


@dataclass(frozen=True, slots=True)
class Change:
    """One applied change.

    Attributes:
        kind: what happened.
        name: topic or group; the leader's id for a no-op; else "".
    """

    kind: ChangeKind
    name: str = ""


class Metadata:
    """The state machine.

    Attributes:
        topics: settings by name; read only, changes come from `apply` alone.
        groups: settings by name, predefined groups not among them; read only.
        topic_version: number of changes of topics.
        group_version: number of changes of groups.
        offset_version: number of records that moved offsets.
        applied_index: index of the last record looked at, -1 before the first.
        applied_term: its term.
        leader: id of the leader whose no-op was applied last, "" before the first.
        log_begin: first index that the group keeps; each replica gets there in its own time.
        stamp_ms: told with each table's version; 0 in a group, else see `adopt`.
    """

    def __init__(self) -> None:
        self.topics: dict[str, TopicConfig] = {}
        self.groups: dict[str, SubscriptionGroupConfig] = {}
        self.topic_version = 0
        self.group_version = 0
        self.offset_version = 0
        self.applied_index = -1
        self.applied_term = 0
        self.leader = ""
        self.log_begin = 0
        self.stamp_ms = 0
        self._created_at: dict[str, int] = {}
        self._offsets: Offsets = {}

    # --- reading ------------------------------------------------------------------------------

    def creation_index(self, topic: str) -> int | None:
        """Index of the record that created the topic; None: there is no such topic.

        Records of the topic before it belong to an earlier topic of that name.
        """
        return self._created_at.get(topic)

    def offset(self, group: str, topic: str, queue_id: int) -> int | None:
        """The queue offset the group will read next; None: not known."""
        return self._offsets.get(group, {}).get(topic, {}).get(queue_id)

    def offsets_of(self, group: str) -> dict[str, dict[int, int]]:
        """Topic -> queue id -> next offset of one group; a copy."""
        return {topic: dict(queues) for topic, queues in self._offsets.get(group, {}).items()}

    def groups_with_offsets(self, topic: str) -> list[str]:
        """The groups that have consumed the topic, sorted."""
        return sorted(group for group, topics in self._offsets.items() if topic in topics)

    # --- applying -----------------------------------------------------------------------------

    def apply(self, index: int, term: int, payload: bytes) -> Change | None:
        """Apply one committed record.

        Args:
            index: its entry's index; one that was applied before is skipped.
            term: its entry's term.
            payload: what `encode_op` made.

        Returns:
            The change; None when the record changes nothing.

        Raises:
            MetadataError: unknown version, damaged payload, or a term that falls.
        """
        if index <= self.applied_index:
            return None
        if term < self.applied_term:
            raise MetadataError(
                f"metadata record {index} has term {term} after term {self.applied_term}: the log"
                " is not in order. Stop this node and restore its store from another peer"
            )
        change = self._change(decode_op(index, payload), index)
        self.applied_index = index
        self.applied_term = term
        return change

    def _change(self, op: Op, index: int) -> Change | None:
        match op:
            case Noop():
                self.leader = op.leader
                return Change(ChangeKind.NOOP, op.leader)
            case TopicPut():
                return self._put_topic(op.config, index)
            case TopicDelete():
                return self._delete_topic(op.name)
            case GroupPut():
                self.groups[op.config.group_name] = op.config
                self.group_version += 1
                return Change(ChangeKind.GROUP_PUT, op.config.group_name)
            case GroupDelete():
                return self._delete_group(op)
            case OffsetsPut():
                return self._put_offsets(op.offsets)
            case LogBegin():
                return self._move_begin(op.index, index)
            case _:  # pragma: no cover
                assert_never(op)

    def _put_topic(self, config: TopicConfig, index: int) -> Change:
        name = config.topic_name
        is_new = name not in self.topics
        if is_new:
            self._created_at[name] = index
        self.topics[name] = config
        self.topic_version += 1
        return Change(ChangeKind.TOPIC_CREATED if is_new else ChangeKind.TOPIC_UPDATED, name)

    def _delete_topic(self, name: str) -> Change | None:
        if self.topics.pop(name, None) is None:
            return None
        del self._created_at[name]
        for group, topics in list(self._offsets.items()):
            topics.pop(name, None)
            if not topics:
                del self._offsets[group]
        self.topic_version += 1
        return Change(ChangeKind.TOPIC_DELETED, name)

    def _delete_group(self, op: GroupDelete) -> Change | None:
        had_offsets = op.clean_offsets and self._offsets.pop(op.name, None) is not None
        had_config = self.groups.pop(op.name, None) is not None
        if not had_config and not had_offsets:
            return None
        self.group_version += 1
        return Change(ChangeKind.GROUP_DELETED, op.name)

    def _put_offsets(self, moved: Offsets) -> Change | None:
        """Take offsets over; those of a topic that was deleted meanwhile are late, and dropped."""
        changed = False
        for group, topics in moved.items():
            for topic, queues in topics.items():
                if topic in self.topics and queues:
                    self._offsets.setdefault(group, {}).setdefault(topic, {}).update(queues)
                    changed = True
        if not changed:
            return None
        self.offset_version += 1
        return Change(ChangeKind.OFFSETS)

    def _move_begin(self, begin: int, index: int) -> Change | None:
        if begin > index:
            raise MetadataError(
                f"metadata record {index} lets the log begin at {begin}, behind itself. Restore"
                " this node's store from another peer"
            )
        if begin <= self.log_begin:
            return None
        self.log_begin = begin
        return Change(ChangeKind.LOG_BEGIN)

    def topic_made_by(self, payload: bytes) -> str | None:
        """Name of the topic that a record not applied yet would create; None: it creates none."""
        op = decode_op(self.applied_index, payload)
        if isinstance(op, TopicPut) and op.config.topic_name not in self.topics:
            return op.config.topic_name
        return None

    # --- the whole state ----------------------------------------------------------------------

    def dump(self) -> bytes:
        """The whole state, for `restore`."""
        return b"".join(self.dump_slices())

    def dump_slices(self) -> Iterator[bytes]:
        """`dump` in pieces: the state is that of this call, each piece takes a moment only."""
        return encode_state(self._state())

    def _state(self) -> State:
        """A copy of everything; settings are replaced, never changed, so that they need none."""
        return State(
            topics=[(self._created_at[n], config) for n, config in self.topics.items()],
            groups=list(self.groups.values()),
            offsets={
                group: {topic: dict(queues) for topic, queues in topics.items()}
                for group, topics in self._offsets.items()
            },
            versions=(self.topic_version, self.group_version, self.offset_version),
            applied=(self.applied_index, self.applied_term),
            leader=self.leader,
            log_begin=self.log_begin,
        )

    def restore(self, data: bytes) -> None:
        """Become the state that `dump` gave.

        Raises:
            MetadataError: damaged, or of a newer program; nothing has changed.
        """
        state = decode_state(data)
        self.topics = {config.topic_name: config for _, config in state.topics}
        self.groups = {config.group_name: config for config in state.groups}
        self.topic_version, self.group_version, self.offset_version = state.versions
        self.applied_index, self.applied_term = state.applied
        self.leader = state.leader
        self.log_begin = state.log_begin
        self._created_at = {config.topic_name: created for created, config in state.topics}
        self._offsets = state.offsets

    def adopt(
        self,
        topics: Iterable[TopicConfig],
        groups: Iterable[SubscriptionGroupConfig],
        offsets: Offsets,
        versions: tuple[int, int, int],
        stamp_ms: int,
    ) -> None:
        """Begin with what the files of a broker without a group hold.

        The state is then as before the first record: `applied_index` is -1 and `applied_term` 0, so
        records are applied from index 0 on, in term 0, whatever was applied before the files were
        written. What is adopted was created "at -1", before any of them.

        Args:
            topics: their settings.
            groups: their settings.
            offsets: as in `OffsetsPut`; those of a topic that is not among `topics` are dropped.
            versions: the counters of topics, groups and offsets; they are counted on.
            stamp_ms: told with each version. It must be another one at each start: a broker whose
                files were lost counts from 0 again, and would be taken for unchanged.
        """
        self.topics = {config.topic_name: config for config in topics}
        self.groups = {config.group_name: config for config in groups}
        self._created_at = dict.fromkeys(self.topics, -1)
        self._offsets = {}
        self._put_offsets(offsets)
        self.topic_version, self.group_version, self.offset_version = versions
        self.applied_index, self.applied_term = -1, 0
        self.leader, self.log_begin, self.stamp_ms = "", 0, stamp_ms

    def fingerprint(self) -> str:
        """Hash of the whole state: equal on two replicas that applied the same records."""
        return state_hash(self._state())

    # --- the tables, as they are told and written -----------------------------------------------

    def topic_table(self) -> TopicConfigSerializeWrapper:
        """The content of topics.json, of this moment."""
        return TopicConfigSerializeWrapper(
            topic_config_table=dict(self.topics), data_version=self.version_of(self.topic_version)
        )

    def group_table(self) -> SubscriptionGroupTable:
        """The content of subscriptionGroup.json, of this moment."""
        return SubscriptionGroupTable(
            subscription_group_table=dict(self.groups),
            data_version=self.version_of(self.group_version),
        )

    def offset_table(self) -> ConsumerOffsetTable:
        """The content of consumerOffset.json, of this moment."""
        return ConsumerOffsetTable(
            offset_table={
                f"{topic}@{group}": dict(queues)
                for group, topics in self._offsets.items()
                for topic, queues in topics.items()
            },
            data_version=self.version_of(self.offset_version),
        )

    def export_topics(self) -> bytes:
        """`topic_table`, as it is told to clients."""
        return self.topic_table().encode()

    def export_offsets(self) -> bytes:
        """`offset_table`, as it is told to clients."""
        return self.offset_table().encode()

    def version_of(self, counter: int) -> DataVersion:
        """A table's version, from one of the three counters, as it is told to others."""
        # No clock: replicas export the same bytes, whenever they do it.
        return DataVersion(
            counter=counter, state_version=self.applied_term, timestamp=self.stamp_ms
        )
