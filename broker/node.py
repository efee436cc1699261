"""This node's place in the group: appends when it leads, metadata through the log, pending answers.

Ready means: elected, the own no-op committed and dispatched, the system topics there. Only then are
the queue offsets right, and only then does the node take sends and show itself as the leader.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from ledgermq.compiled import has_twin
from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.raft.effects import Role
from ledgermq.dledger.server import LogServer
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message_types import SysFlag

from . import topics
from .appending import Appending
from .config_fields import BrokerConfig
from .metadata import (
    GroupDelete,
    GroupPut,
    LogBegin,
    Metadata,
    Noop,
    Op,
    TopicDelete,
    TopicPut,
)
from .offset_buffer import OffsetBuffer
from .placing import Placing, ignore
from .record_builder import RecordBuilder
from .stats import BrokerStats
from .store.consume_queue import pack_unit
from .store.dispatch import Dispatcher
from .store.placed import PlacedRecord
from .store.queue_runs import read_runs
from .store.tags_codes import is_queued
from .writer import AppendResult, OnDone, OnEachDone, OutgoingRecord

log = logging.getLogger(__name__)

# A leader's notes of what it has built spare dispatch a look at the log: a compiled one is cheaper.
NOTES_PLACED = not has_twin(read_runs)

# After a refused system topic: the disk was full.
_RETRY_S = 1.0
_MAX_OFFSETS_BYTES = 1 << 20


class _NoLog:
    """Stands for the log until there is one."""

    def reserve(self, record_bytes: int) -> int:
        raise _not_attached(record_bytes)

    def stage(self, record: bytes) -> int:
        raise _not_attached(len(record))

    def reserve_run(self, sizes: Sequence[int]) -> list[int]:
        raise _not_attached(sum(sizes))

    def stage_run(self, records: Sequence[bytes]) -> int:
        raise _not_attached(sum(map(len, records)))


def _not_attached(record_bytes: int) -> RuntimeError:
    return RuntimeError(f"the node is not attached to its log: no place for {record_bytes} bytes")


class Node:
    """Implements `BrokerNode` of `writer.py` for a group."""

    def __init__(
        self,
        config: BrokerConfig,
        metadata: Metadata,
        stats: BrokerStats,
        *,
        on_ready: Callable[[bool], None],
        refuses: Callable[[], str | None] = lambda: None,
        wall_ms: Callable[[], int] = wall_ms,
    ) -> None:
        """Belong to a group.

        Args:
            config: of this broker.
            metadata: what the log says.
            stats: counters.
            on_ready: hears when this node becomes, or is no longer, the ready leader.
            refuses: why no message is taken now; None: they are.
            wall_ms: ms since 1970.
        """
        self.config = config
        self.metadata = metadata
        self.stats = stats
        self.ready = False
        self._on_ready = on_ready
        self._refuses = refuses
        self._records = RecordBuilder(config, lambda: self.dispatcher.last_store_ms, wall_ms)
        self._log: LogServer | None = None
        self._dispatcher: Dispatcher | None = None
        self._placing = Placing(
            self._records,
            _NoLog(),
            lambda *key: self.dispatcher.queues.get(*key).max_offset,
            on_placed=self._note if NOTES_PLACED else None,
        )
        # Topic -> deletions in the log that are not applied yet.
        self._deleting: Counter[str] = Counter()
        self._appending = Appending(
            config,
            metadata,
            stats,
            self._records,
            self._placing,
            refusal=self._refusal,
            deleting=self._deleting,
            place=self._placing.place,
            place_all=self._placing.place_all,
            place_each=self._placing.place_each,
        )
        self._preparing = False
        self._offsets = OffsetBuffer(
            config.offset_flush_interval_ms,
            min(_MAX_OFFSETS_BYTES, config.mapped_file_size_commit_log // 4),
            may_write=lambda: self.takes_appends,
            write=self._append_op,
        )

    def attach(self, log_server: LogServer, dispatcher: Dispatcher) -> None:
        """Connect to the log, before it starts."""
        self._log = self._placing.log = log_server
        self._dispatcher = dispatcher

    @property
    def log(self) -> LogServer:
        """The member of the group that this node runs."""
        if self._log is None:
            raise RuntimeError("the node is not attached to its log")
        return self._log

    @property
    def dispatcher(self) -> Dispatcher:
        """What brings committed entries to the queues."""
        if self._dispatcher is None:
            raise RuntimeError("the node is not attached to its log")
        return self._dispatcher

    @property
    def takes_appends(self) -> bool:
        """Whether this node is the ready leader, and not handing over just now.

        An append during a hand-over would make its target's log too short to be elected.
        """
        return self.ready and not self.log.core.transferring

    @property
    def is_leader(self) -> bool:
        """Whether this node is the ready leader."""
        return self.ready

    @property
    def leads_surely(self) -> bool:
        """Whether this node is the ready leader and nobody else can be: it holds the lease."""
        return self.ready and self.log.has_lease()

    @property
    def leader_address(self) -> str | None:
        """Where the leader serves clients, if it is another node."""
        core = self.log.core
        if core.leader is None or core.leader == self.log.config.raft.self_id:
            return None
        return self.log.address_of(core.leader)

    @property
    def pending_count(self) -> int:
        """Appends that wait for their commit."""
        return self._placing.pending_count

    # --- role ---------------------------------------------------------------------------------

    def make_noop(self, term: int, _index: int) -> tuple[int, Callable[[int], bytes]]:
        """The record of a new leader's first entry.

        Its rollback type keeps it out of every queue, here and in upstream's recovery: how many
        records of the internal queue lie before it is not known yet.
        """
        record = self._records.internal(Noop(term=term, leader=self.config.dleger_self_id))
        record.sys_flag = SysFlag.TRANSACTION_ROLLBACK
        return self._records.size(record), lambda offset: self._records.encode(record, 0, offset)

    def on_role(self, role: Role, term: int, leader: NodeId | None) -> None:
        """Raft's role changed."""
        if role is Role.LEADER:
            return
        if self._step_down(f"leadership changed in term {term}"):
            log.info("no longer leader: term=%d leader=%s", term, leader)
            self._on_ready(False)

    def halt(self, reason: str) -> None:
        """This node stops by itself: whoever waits for an answer gets one."""
        if self._step_down(reason):
            self._on_ready(False)

    def _step_down(self, reason: str) -> bool:
        """Forget what only a leader knows; whether this was the ready leader."""
        was_ready, self.ready, self._preparing = self.ready, False, False
        self._placing.forget_offsets()
        if self._dispatcher is not None:
            self._dispatcher.placed.forget()
        self._deleting.clear()
        self._offsets.clear()
        self._placing.fail_all(reason)
        return was_ready

    def on_applied(self, index: int) -> None:
        """Everything up to `index` is visible: answer, and get ready if leading."""
        self._placing.reached(index)
        if not self.ready and self.log.is_leader and index >= self.log.core.term_first_index:
            self._prepare(index)

    def _prepare(self, index: int) -> None:
        """The no-op is dispatched: put the system topics that are missing, then be ready."""
        wanted = topics.system_topics(self.config)
        missing = [t for t in wanted if t.topic_name not in self.metadata.topics]
        if not missing:
            self._preparing = False
            self.ready = True
            log.info("ready to lead: term=%d applied=%d", self.log.core.term, index)
            self._on_ready(True)
        elif not self._preparing:
            self._preparing = True
            for topic in missing:
                self._append_op(TopicPut(config=topic), self._prepared)

    def _prepared(self, result: AppendResult | PeerError) -> None:
        """A system topic was put; if it could not be, all that are missing are put again."""
        if isinstance(result, PeerError) and self._preparing:
            self._preparing = False
            asyncio.get_running_loop().call_later(_RETRY_S, self._prepare_again)

    def _prepare_again(self) -> None:
        if not self.ready and not self._preparing and self.log.is_leader:
            self._prepare(self.dispatcher.applied)

    def on_append_failed(self, error: Exception) -> None:
        """What was staged is not in the log: no room on the disk."""
        refusal = PeerError(ResponseCode.SERVICE_NOT_AVAILABLE, f"service not available: {error}")
        self.dispatcher.placed.forget()
        self._placing.fail_after(self.log.ledger.end_index, refusal)

    # --- appending ----------------------------------------------------------------------------

    def append(self, message: OutgoingRecord, on_done: OnDone) -> None:
        """See `MessageAppender.append`."""
        self._appending.append(message, on_done)

    def append_all(self, messages: list[OutgoingRecord], on_done: OnDone) -> list[AppendResult]:
        """See `MessageAppender.append_all`."""
        return self._appending.append_all(messages, on_done)

    def append_each(self, messages: list[OutgoingRecord], on_done: OnEachDone) -> bool:
        """See `MessageAppender.append_each`."""
        return self._appending.append_each(messages, on_done)

    def _refusal(self) -> PeerError | None:
        if not self.takes_appends:
            return not_leader()
        reason = self._refuses()
        return PeerError(ResponseCode.SERVICE_NOT_AVAILABLE, reason) if reason else None

    def _note(self, m: OutgoingRecord, result: AppendResult, index: int, size: int) -> None:
        """Spare dispatch to read what this leader has just built."""
        if m.topic == topics.INTERNAL_TOPIC or not is_queued(m.sys_flag):
            return
        dispatcher, offset = self.dispatcher, result.physical_offset
        code = dispatcher.tags_code(m.properties)
        dispatcher.placed.note(
            self.log.core.term,
            PlacedRecord(
                index,
                offset + size,
                self._records.last_store_ms,
                (m.topic, m.queue_id),
                result.queue_offset,
                code,
                pack_unit(offset, size, code),
            ),
        )

    # --- metadata -----------------------------------------------------------------------------

    def _append_op(self, op: Op, on_done: OnDone) -> None:
        """Append a change of the metadata; only by a leader whose no-op is dispatched."""
        record = self._records.internal(op)
        refusal = self._records.misfit(record)
        if refusal is not None:
            on_done(refusal)
            return
        self._placing.place(record, on_done)

    def forget_before(self, index: int) -> None:
        """Have every replica let go of the entries before `index`."""
        if self.takes_appends:
            self._append_op(LogBegin(index=index), ignore)

    async def _change(self, op: Op, on_done: OnDone | None = None) -> None:
        """Append and wait; `on_done` hears of it even when the caller has been cancelled."""
        if not self.takes_appends:
            raise not_leader()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(result: AppendResult | PeerError) -> None:
            if on_done is not None:
                on_done(result)
            if future.done():
                return
            if isinstance(result, PeerError):
                future.set_exception(result)
            else:
                future.set_result(None)

        self._append_op(op, done)
        await future

    async def put_topic(self, config: TopicConfig) -> None:
        """See `MetadataWriter.put_topic`."""
        name = config.topic_name
        if name in self._deleting or self.metadata.topics.get(name) != config:
            await self._change(TopicPut(config=config))

    async def delete_topic(self, name: str) -> None:
        """See `MetadataWriter.delete_topic`; from now on the topic takes no messages."""
        if not self.takes_appends:
            raise not_leader()
        self._deleting[name] += 1
        await self._change(TopicDelete(name=name), lambda r: self._topic_deleted(name, r))

    def _topic_deleted(self, name: str, result: AppendResult | PeerError) -> None:
        """At the moment the deletion is applied: a topic of that name begins at 0 again."""
        self._deleting[name] -= 1
        if self._deleting[name] <= 0:
            del self._deleting[name]
        if isinstance(result, PeerError):
            return
        self._placing.forget_topic(name)
        self._offsets.drop_topic(name)

    async def put_group(self, config: SubscriptionGroupConfig) -> None:
        """See `MetadataWriter.put_group`."""
        if self.metadata.groups.get(config.group_name) != config:
            await self._change(GroupPut(config=config))

    async def delete_group(self, name: str, clean_offsets: bool) -> None:
        """See `MetadataWriter.delete_group`."""
        if self.ready and clean_offsets:
            self._offsets.drop_group(name)
        await self._change(GroupDelete(name=name, clean_offsets=clean_offsets))

    # --- consumer offsets ---------------------------------------------------------------------

    def commit_offset(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """See `MetadataWriter.commit_offset`."""
        if self.query_offset(group, topic, queue_id) != offset:
            self._offsets.put(group, topic, queue_id, offset)

    def query_offset(self, group: str, topic: str, queue_id: int) -> int | None:
        """See `MetadataWriter.query_offset`."""
        moved = self._offsets.get(group, topic, queue_id)
        return moved if moved is not None else self.metadata.offset(group, topic, queue_id)

    def flush_offsets(self) -> None:
        """Put the offsets that moved into the log now."""
        self._offsets.flush()


def not_leader() -> PeerError:
    """The refusal of a node that does not lead; clients refresh their routes on it."""
    return PeerError(
        ResponseCode.SERVICE_NOT_AVAILABLE,
        "[NOT_LEADER]this node does not lead its group; ask a name server for the route again",
    )
