"""Pulling messages."""

from .base import Header, Int32, Int64


class PullMessageRequest(Header):
    """Codes 11 and 361.

    Attributes:
        sys_flag: bit 0 commit_offset is meant, 1 hold when there is nothing, 2 the subscription is
            carried, 3 class filter, 4 lite pull.
        suspend_timeout_millis: how long the broker may hold the request.
        sub_version: of the subscription the client last sent by heartbeat.
        expression_type: "TAG" or "SQL92"; None means TAG.
        max_msg_bytes: most body bytes wanted; None or -1: the broker's own limit.
    """

    consumer_group: str
    topic: str
    queue_id: Int32
    queue_offset: Int64
    max_msg_nums: Int32
    sys_flag: Int32
    commit_offset: Int64
    suspend_timeout_millis: Int64
    sub_version: Int64
    subscription: str | None = None
    expression_type: str | None = None
    max_msg_bytes: Int32 | None = None


class PullMessageResponse(Header):
    """Reply of a pull, whatever its code.

    Attributes:
        next_begin_offset: queue offset to pull next.
        suggest_which_broker_id: replica to pull from next.
    """

    suggest_which_broker_id: Int64
    next_begin_offset: Int64
    min_offset: Int64
    max_offset: Int64
    offset_delta: Int64 | None = None
    topic_sys_flag: Int32 | None = None
    group_sys_flag: Int32 | None = None
    forbidden_type: Int32 | None = None
