"""What request handlers need of the log: change metadata, read queues, append messages.

Handlers depend on these protocols only; the node over the Raft group implements them, and tests
bring fakes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.errors import PeerError


class MetadataWriter(Protocol):
    """Changes the metadata through the log.

    The awaitable methods return once the change is committed and applied on this node, and raise
    `PeerError` when this node does not lead (any more); the change may then still happen.
    """

    @property
    def is_leader(self) -> bool:
        """True on a ready leader: elected, its no-op committed and dispatched."""
        ...

    async def put_topic(self, config: TopicConfig) -> None:
        """Create the topic, or change it when it is there."""
        ...

    async def delete_topic(self, name: str) -> None:
        """Forget the topic and every group's offsets in it."""
        ...

    async def put_group(self, config: SubscriptionGroupConfig) -> None:
        """Create the consumer group, or change it when it is there."""
        ...

    async def delete_group(self, name: str, clean_offsets: bool) -> None:
        """Forget the consumer group; its offsets too with `clean_offsets`."""
        ...

    def commit_offset(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """Note how far a group is; goes to the log in a batch, visible to `query_offset` at once.

        Args:
            group: consumer group.
            topic: topic of the queue.
            queue_id: 0-based.
            offset: queue offset that the group will read next.
        """
        ...

    def query_offset(self, group: str, topic: str, queue_id: int) -> int | None:
        """The queue offset the group will read next, not yet logged ones first; None: unknown."""
        ...


class QueueReader(Protocol):
    """Reads committed messages by queue and by physical offset."""

    def min_offset(self, topic: str, queue_id: int) -> int:
        """Oldest queue offset kept (inclusive); 0 for a queue without messages."""
        ...

    def max_offset(self, topic: str, queue_id: int) -> int:
        """Queue offset of the next message (exclusive end); 0 for a queue without messages."""
        ...

    def first_in_memory(self, topic: str, queue_id: int) -> bool:
        """Whether the queue's message 0 lies in the newest part of the log.

        That is the share of the log's end which fills 40 % of the machine's memory; true for a
        queue without messages. A new group then starts at 0 (broker-behaviour §7).
        """
        ...

    async def read_record(self, physical_offset: int) -> bytes | None:
        """The committed record at exactly this offset, header to properties; None: there is none.

        Records of the internal topic are returned too; handlers keep them back.
        """
        ...

    async def offset_by_time(
        self, topic: str, queue_id: int, timestamp_ms: int, upper: bool
    ) -> int:
        """The queue offset at a store time.

        Args:
            topic: topic of the queue.
            queue_id: 0-based.
            timestamp_ms: store time, ms since 1970.
            upper: among messages of that very time the last, else the first.
        """
        ...

    async def store_time_at(self, topic: str, queue_id: int, queue_offset: int) -> int | None:
        """Store time of a message, ms since 1970; None: no such message."""
        ...


@dataclass(slots=True)
class OutgoingRecord:
    """A message on its way into the log; offsets, store time and CRC are the log's to add.

    Attributes:
        topic: existing topic.
        queue_id: 0-based.
        body: as the client sent it, compressed or not.
        properties: in the text form of message-format §3, UTF-8, at most 32,767 bytes.
        flag: the user's number, untouched.
        sys_flag: see message-format §2; bit 0x10 must fit the length of `born_host`.
        born_timestamp_ms: client's clock, ms since 1970.
        born_host: address (4 or 16 bytes) and port (int32) of the client, as in a record.
        reconsume_times: deliveries that failed so far.
        prepared_transaction_offset: physical offset of the half message, else 0.
    """

    topic: str
    queue_id: int
    body: bytes
    properties: bytes
    flag: int
    sys_flag: int
    born_timestamp_ms: int
    born_host: bytes
    reconsume_times: int = 0
    prepared_transaction_offset: int = 0


@dataclass(slots=True)
class AppendResult:
    """Where a committed message lies.

    Attributes:
        queue_offset: 0-based place in its queue.
        physical_offset: byte of the record in the log.
        sync_timed_out: it is written, but was not on the disk within `syncFlushTimeout`.
    """

    queue_offset: int
    physical_offset: int
    sync_timed_out: bool = False


OnDone = Callable[[AppendResult | PeerError], None]
# Where each of several messages lies, or why nobody can say that of all of them.
OnEachDone = Callable[[list[AppendResult] | PeerError], None]


class MessageAppender(Protocol):
    """Puts messages into the log."""

    def append(self, message: OutgoingRecord, on_done: OnDone) -> None:
        """Append, and call `on_done` exactly once: when it can be read, or with the refusal."""
        ...

    def append_all(self, messages: list[OutgoingRecord], on_done: OnDone) -> list[AppendResult]:
        """Append a batch: all or none; `on_done` is called once, for the last one.

        Args:
            messages: at least one; all of one queue, and sent by one client.
            on_done: see `append`.

        Returns:
            Where each will lie; empty when refused.
        """
        ...

    def append_each(self, messages: list[OutgoingRecord], on_done: OnEachDone) -> bool:
        """Append messages that need not belong together, in their order: cheaper than one by one.

        Args:
            messages: at least one, of any queues and clients.
            on_done: is called exactly once: when all can be read, or with a refusal for all. As
                with one message, they may be stored then, unless it says that they are not.

        Returns:
            False: nothing has changed and `on_done` will not be called; append them one by one.
        """
        ...


class BrokerNode(MetadataWriter, MessageAppender, Protocol):
    """Everything that changes what a broker stores, of whatever kind its log is."""

    @property
    def ready(self) -> bool:
        """Whether this node is the leader of its group and ready, or has no group and runs."""
        ...

    @property
    def takes_appends(self) -> bool:
        """Whether this node is `ready`, and not handing over just now."""
        ...

    @property
    def leads_surely(self) -> bool:
        """Whether this node is `ready` and nobody else can be."""
        ...

    @property
    def leader_address(self) -> str | None:
        """Where the leader serves clients, if it is another node."""
        ...

    @property
    def pending_count(self) -> int:
        """Appends that wait for their answer."""
        ...

    def flush_offsets(self) -> None:
        """Keep the offsets that moved, now."""
        ...

    def halt(self, reason: str) -> None:
        """This node stops by itself: whoever waits for an answer gets one."""
        ...
