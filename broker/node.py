"""This node's place in the group: appends when it leads, metadata through the log, pending answers.

Ready means: elected, the own no-op committed and dispatched, the system topics there. Only then are
the queue offsets right, and only then does the node take sends and show itself as the leader.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.raft.effects import Role
from ledgermq.dledger.server import LogServer
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message_id import pack_host
from ledgermq.remoting.message_record import encode_record
from ledgermq.remoting.message_types import SysFlag

from . import topics
from .config_fields import BrokerConfig
from .metadata import (
    GroupDelete,
    GroupPut,
    Metadata,
    Noop,
    Offsets,
    OffsetsPut,
    Op,
    TopicDelete,
    TopicPut,
    encode_op,
)
from .stats import BrokerStats
from .store.dispatch import Dispatcher
from .writer import AppendResult, OutgoingRecord

log = logging.getLogger(__name__)

_INTERNAL = topics.INTERNAL_TOPIC.encode()
# Fixed part of a record with IPv4 hosts and a one-byte topic length; see message-format §1.
_FIXED_BYTES = 91
_V6_EXTRA_BYTES = 12

OnDone = Callable[[AppendResult | PeerError], None]


class _Pending(NamedTuple):
    """An append that waits for its commit; `size` in bytes."""

    log_index: int
    size: int
    result: AppendResult
    on_done: OnDone


class Node:
    """Implements MetadataWriter and MessageAppender of `writer.py`.

    Invariant: `_pending` is in the order of the log; every `on_done` is called exactly once.
    """

    def __init__(
        self,
        config: BrokerConfig,
        metadata: Metadata,
        stats: BrokerStats,
        *,
        on_ready: Callable[[bool], None],
    ) -> None:
        """`on_ready` hears when this node becomes, or is no longer, the ready leader."""
        self.config = config
        self.metadata = metadata
        self.stats = stats
        self.ready = False
        self._on_ready = on_ready
        self._store_host = pack_host(config.address)
        self._log: LogServer | None = None
        self._dispatcher: Dispatcher | None = None
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self._next_offsets: dict[tuple[str, int], int] = {}
        self._topic_bytes: dict[str, bytes] = {}
        self._deleting: set[str] = set()
        self._last_store_ms = 0
        self._preparing = False
        self._offsets: Offsets = {}
        self._offset_timer: asyncio.TimerHandle | None = None

    def attach(self, log_server: LogServer, dispatcher: Dispatcher) -> None:
        """Connect to the log, before it starts."""
        self._log = log_server
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
    def is_leader(self) -> bool:
        """Whether this node is the ready leader."""
        return self.ready

    @property
    def pending_count(self) -> int:
        """Appends that wait for their commit."""
        return len(self._pending)

    # --- role ---------------------------------------------------------------------------------

    def make_noop(self, term: int, _index: int) -> tuple[int, Callable[[int], bytes]]:
        """The record of a new leader's first entry.

        Its rollback type keeps it out of every queue, here and in upstream's recovery: how many
        records of the internal queue lie before it is not known yet.
        """
        payload = encode_op(Noop(term=term, leader=self.config.dleger_self_id))
        size = self._record_size(len(_INTERNAL), len(payload), 0, self._store_host)

        def build(offset: int) -> bytes:
            return self._record(
                _INTERNAL, 0, 0, offset, payload, sys_flag=SysFlag.TRANSACTION_ROLLBACK
            )

        return size, build

    def on_role(self, role: Role, term: int, leader: NodeId | None) -> None:
        """Raft's role changed."""
        if role is Role.LEADER:
            return
        was_ready, self.ready, self._preparing = self.ready, False, False
        self._next_offsets.clear()
        self._deleting.clear()
        self._offsets.clear()
        self._fail_pending(f"leadership changed in term {term}")
        if was_ready:
            log.info("no longer leader: term=%d leader=%s", term, leader)
            self._on_ready(False)

    def on_applied(self, index: int) -> None:
        """Everything up to `index` is visible: answer, and get ready if leading."""
        while self._pending and self._pending[0].log_index <= index:
            done = self._pending.popleft()
            self._pending_bytes -= done.size
            done.on_done(done.result)
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
        """A system topic was put; if it could not be, the next applied entry tries again."""
        if isinstance(result, PeerError):
            self._preparing = False

    def on_append_failed(self, error: Exception) -> None:
        """What was staged is not in the log: no room on the disk."""
        end = self.log.ledger.end_index
        failed = [p for p in self._pending if p.log_index > end]
        for _ in failed:
            self._pending_bytes -= self._pending.pop().size
        self._next_offsets.clear()
        refusal = PeerError(ResponseCode.SERVICE_NOT_AVAILABLE, f"service not available: {error}")
        for pending in failed:
            pending.on_done(refusal)
        # Offsets of appends that are written but not dispatched count too.
        for pending in self._pending:
            if isinstance(pending.result, _Placed):
                key = pending.result.queue
                self._next_offsets[key] = pending.result.queue_offset + 1

    def _fail_pending(self, reason: str) -> None:
        pending, self._pending = self._pending, deque()
        self._pending_bytes = 0
        refusal = PeerError(
            ResponseCode.SYSTEM_ERROR, f"{reason}: the message may be stored; send it again"
        )
        for p in pending:
            p.on_done(refusal)

    # --- appending ----------------------------------------------------------------------------

    def append(self, message: OutgoingRecord, on_done: OnDone) -> None:
        """See `MessageAppender.append`."""
        refusal = self._refusal(message)
        if refusal is not None:
            on_done(refusal)
            return
        self._place(message, on_done)
        self.stats.on_put(1, len(message.body))

    def append_all(self, messages: list[OutgoingRecord], on_done: OnDone) -> list[AppendResult]:
        """Append a batch: all or none; `on_done` is called once, for the last one.

        Returns:
            Where each will lie; empty when refused.
        """
        for message in messages:
            refusal = self._refusal(message)
            if refusal is not None:
                on_done(refusal)
                return []
        results = [self._place(m, _ignore) for m in messages[:-1]]
        results.append(self._place(messages[-1], on_done))
        self.stats.on_put(len(messages), sum(len(m.body) for m in messages))
        return results

    def _refusal(self, message: OutgoingRecord) -> PeerError | None:
        if not self.ready:
            return not_leader()
        if (
            len(self._pending) >= self.config.send_queue_capacity
            or self._pending_bytes >= self.config.max_pending_send_bytes
        ):
            return PeerError(
                ResponseCode.SYSTEM_BUSY,
                "[PC_SYNCHRONIZED]broker busy, start flow control for a while",
            )
        if message.topic not in self.metadata.topics or message.topic in self._deleting:
            return PeerError(ResponseCode.TOPIC_NOT_EXIST, f"topic {message.topic} does not exist")
        return None

    def _place(self, m: OutgoingRecord, on_done: OnDone) -> AppendResult:
        key = (m.topic, m.queue_id)
        queue_offset = self._next_offsets.get(key)
        if queue_offset is None:
            queue_offset = self.dispatcher.queues.get(*key).max_offset
        self._next_offsets[key] = queue_offset + 1
        topic = self._topic_bytes.get(m.topic)
        if topic is None:
            topic = self._topic_bytes[m.topic] = m.topic.encode()
        size = self._record_size(len(topic), len(m.body), len(m.properties), m.born_host)
        offset = self.log.reserve(size)
        record = encode_record(
            topic=topic,
            queue_id=m.queue_id,
            flag=m.flag,
            queue_offset=queue_offset,
            physical_offset=offset,
            sys_flag=m.sys_flag,
            born_timestamp_ms=m.born_timestamp_ms,
            born_host=m.born_host,
            store_timestamp_ms=self._store_ms(),
            store_host=self._store_host,
            reconsume_times=m.reconsume_times,
            prepared_transaction_offset=m.prepared_transaction_offset,
            body=m.body,
            properties=m.properties,
        )
        result = _Placed(queue_offset, offset, key)
        self._stage(record, result, on_done)
        return result

    def _stage(self, record: bytes, result: AppendResult, on_done: OnDone) -> None:
        index = self.log.stage(record)
        self._pending.append(_Pending(index, len(record), result, on_done))
        self._pending_bytes += len(record)

    def _store_ms(self) -> int:
        """The wall clock, but never before the last record: times in the log do not fall."""
        self._last_store_ms = max(wall_ms(), self._last_store_ms, self.dispatcher.last_store_ms)
        return self._last_store_ms

    def _record_size(self, topic: int, body: int, properties: int, born_host: bytes) -> int:
        size = _FIXED_BYTES + topic + body + properties + (1 if topic > 127 else 0)
        size += _V6_EXTRA_BYTES if len(born_host) > 8 else 0
        return size + (_V6_EXTRA_BYTES if len(self._store_host) > 8 else 0)

    def _record(
        self,
        topic: bytes,
        queue_id: int,
        queue_offset: int,
        offset: int,
        body: bytes,
        *,
        sys_flag: int,
    ) -> bytes:
        now_ms = self._store_ms()
        return encode_record(
            topic=topic,
            queue_id=queue_id,
            flag=0,
            queue_offset=queue_offset,
            physical_offset=offset,
            sys_flag=sys_flag,
            born_timestamp_ms=now_ms,
            born_host=self._store_host,
            store_timestamp_ms=now_ms,
            store_host=self._store_host,
            reconsume_times=0,
            prepared_transaction_offset=0,
            body=body,
            properties=b"",
        )

    # --- metadata -----------------------------------------------------------------------------

    def _append_op(self, op: Op, on_done: OnDone) -> None:
        """Append a change of the metadata; only by a leader whose no-op is dispatched."""
        payload = encode_op(op)
        key = (topics.INTERNAL_TOPIC, 0)
        queue_offset = self._next_offsets.get(key)
        if queue_offset is None:
            queue_offset = self.dispatcher.queues.get(*key).max_offset
        self._next_offsets[key] = queue_offset + 1
        size = self._record_size(len(_INTERNAL), len(payload), 0, self._store_host)
        offset = self.log.reserve(size)
        record = self._record(_INTERNAL, 0, queue_offset, offset, payload, sys_flag=0)
        self._stage(record, _Placed(queue_offset, offset, key), on_done)

    async def _change(self, op: Op) -> None:
        if not self.ready:
            raise not_leader()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(result: AppendResult | PeerError) -> None:
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
        if self.metadata.topics.get(config.topic_name) != config:
            await self._change(TopicPut(config=config))

    async def delete_topic(self, name: str) -> None:
        """See `MetadataWriter.delete_topic`; from now on the topic takes no messages."""
        self._deleting.add(name)
        try:
            await self._change(TopicDelete(name=name))
        finally:
            self._deleting.discard(name)
        for key in [k for k in self._next_offsets if k[0] == name]:
            del self._next_offsets[key]
        for by_topic in self._offsets.values():
            by_topic.pop(name, None)

    async def put_group(self, config: SubscriptionGroupConfig) -> None:
        """See `MetadataWriter.put_group`."""
        if self.metadata.groups.get(config.group_name) != config:
            await self._change(GroupPut(config=config))

    async def delete_group(self, name: str, clean_offsets: bool) -> None:
        """See `MetadataWriter.delete_group`."""
        if clean_offsets:
            self._offsets.pop(name, None)
        await self._change(GroupDelete(name=name, clean_offsets=clean_offsets))

    # --- consumer offsets ---------------------------------------------------------------------

    def commit_offset(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """See `MetadataWriter.commit_offset`."""
        if self.query_offset(group, topic, queue_id) == offset:
            return
        self._offsets.setdefault(group, {}).setdefault(topic, {})[queue_id] = offset
        if self._offset_timer is None:
            interval_s = self.config.offset_flush_interval_ms / 1000
            loop = asyncio.get_running_loop()
            self._offset_timer = loop.call_later(interval_s, self.flush_offsets)

    def query_offset(self, group: str, topic: str, queue_id: int) -> int | None:
        """See `MetadataWriter.query_offset`."""
        pending = self._offsets.get(group, {}).get(topic, {}).get(queue_id)
        return pending if pending is not None else self.metadata.offset(group, topic, queue_id)

    def flush_offsets(self) -> None:
        """Put the offsets that moved into the log, as one record.

        They stay visible here until the record is applied, and go again if it is not.
        """
        if self._offset_timer is not None:
            self._offset_timer.cancel()
            self._offset_timer = None
        if not self._offsets or not self.ready:
            return
        moved: Offsets = {g: {t: dict(q) for t, q in ts.items()} for g, ts in self._offsets.items()}
        self._append_op(OffsetsPut(offsets=moved), lambda r: self._offsets_done(moved, r))

    def _offsets_done(self, moved: Offsets, result: AppendResult | PeerError) -> None:
        if isinstance(result, PeerError):
            return
        for group, by_topic in moved.items():
            for topic, queues in by_topic.items():
                waiting = self._offsets.get(group, {}).get(topic, {})
                for queue_id, offset in queues.items():
                    if waiting.get(queue_id) == offset:
                        del waiting[queue_id]
        self._offsets = {
            g: kept
            for g, ts in self._offsets.items()
            if (kept := {t: q for t, q in ts.items() if q})
        }
        if self._offsets and self._offset_timer is None:
            self._offset_timer = asyncio.get_running_loop().call_later(
                self.config.offset_flush_interval_ms / 1000, self.flush_offsets
            )


class _Placed(AppendResult):
    """An append result that remembers its queue."""

    __slots__ = ("queue",)

    def __init__(self, queue_offset: int, physical_offset: int, queue: tuple[str, int]) -> None:
        super().__init__(queue_offset, physical_offset)
        self.queue = queue


def not_leader() -> PeerError:
    """The refusal of a node that does not lead; clients refresh their routes on it."""
    return PeerError(
        ResponseCode.SERVICE_NOT_AVAILABLE,
        "[NOT_LEADER]this node does not lead its group; ask a name server for the route again",
    )


def _ignore(_result: AppendResult | PeerError) -> None:
    """Nobody waits for this one."""
