"""Offsets: of groups, of queues, by time."""

from .base import Header, Int32, Int64


class QueryConsumerOffsetRequest(Header):
    """Code 14."""

    consumer_group: str
    topic: str
    queue_id: Int32
    set_zero_if_not_found: bool | None = None


class UpdateConsumerOffsetRequest(Header):
    """Code 15, one-way from Java clients."""

    consumer_group: str
    topic: str
    queue_id: Int32
    commit_offset: Int64


class QueueOffsetRequest(Header):
    """Codes 30 (max offset), 31 (min offset) and 32 (store time of the oldest message)."""

    topic: str
    queue_id: Int32
    committed: bool | None = None


class SearchOffsetRequest(Header):
    """Code 29.

    Attributes:
        timestamp: store time wanted, ms since 1970.
        boundary_type: "lower" or "upper" in any case; None means lower.
    """

    topic: str
    queue_id: Int32
    timestamp: Int64
    boundary_type: str | None = None


class OffsetResponse(Header):
    """Reply of 29, 30 and 31: a queue offset."""

    offset: Int64


class QueryConsumerOffsetResponse(OffsetResponse):
    """Reply of 14: the next offset the group will read."""


class EarliestStoreTimeResponse(Header):
    """Reply of 32: ms since 1970, -1 when the queue is empty."""

    timestamp: Int64


class InvokeResetOffsetRequest(Header):
    """Code 222, from an operator.

    Attributes:
        timestamp: store time to go back to, ms since 1970; -1 the end of the queue.
        queue_id: -1 all queues.
        offset: queue offset to set; -1 by the timestamp.
    """

    topic: str
    group: str
    timestamp: Int64
    is_force: bool
    queue_id: Int32 = -1
    offset: Int64 = -1


class ResetOffsetRequest(Header):
    """Code 220, broker to consumer, one-way; the body carries the offsets."""

    topic: str
    group: str
    timestamp: Int64
    is_force: bool


class ConsumerStatusRequest(Header):
    """Codes 221 (broker to consumer) and 223 (operator to broker)."""

    topic: str
    group: str
    client_addr: str | None = None
