# ruff: noqa: RUF012 (msgspec gives every instance an empty list or dict of its own)
"""Consumers and producers: who is connected, order locks, offsets, running state."""

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from .base import Body
from .heartbeat import SubscriptionData
from .stats import MessageQueue


class ConsumerIdList(Body):
    """Reply of 38."""

    consumer_id_list: list[str] = []


class GroupList(Body):
    """Reply of 300."""

    group_list: list[str] = []


class LockBatchBody(Body):
    """Body of 41 and 42."""

    max_bytes: ClassVar[int] = 1 << 20

    consumer_group: str = ""
    client_id: str = ""
    only_this_broker: bool = False
    mq_set: list[MessageQueue] = []


class LockOkBody(Body):
    """Reply of 41: the queues that are now locked for the client."""

    lock_ok_mq_set: list[MessageQueue] = msgspec.field(name="lockOKMQSet", default_factory=list)


class Connection(Body):
    """One connected client."""

    client_id: str = ""
    client_addr: str = ""
    language: str = ""
    version: int = 0


class ConsumerConnection(Body):
    """Reply of 203."""

    connection_set: list[Connection] = []
    subscription_table: dict[str, SubscriptionData] = {}
    consume_type: str = "CONSUME_PASSIVELY"
    message_model: str = "CLUSTERING"
    consume_from_where: str = "CONSUME_FROM_LAST_OFFSET"


class ProducerConnection(Body):
    """Reply of 204."""

    connection_set: list[Connection] = []


class CheckClientBody(Body):
    """Body of 46: is this subscription acceptable?"""

    max_bytes: ClassVar[int] = 1 << 20

    client_id: str = ""
    group: str = ""
    subscription_data: SubscriptionData | None = None
    namespace: str | None = None


class ResetOffsetBody(Body):
    """Body of 220, reply of 222: the new offset of every queue."""

    struct_keys: ClassVar[Mapping[str, type[msgspec.Struct]]] = {"offsetTable": MessageQueue}

    offset_table: dict[MessageQueue, int] = {}


class ConsumerStatusBody(Body):
    """Reply of 221: how far a client is in each of its queues."""

    struct_keys: ClassVar[Mapping[str, type[msgspec.Struct]]] = {"messageQueueTable": MessageQueue}

    message_queue_table: dict[MessageQueue, int] = {}


class ProcessQueueInfo(Body):
    """A client's view of one queue: what it holds and when it last worked on it (ms since 1970).

    `droped` is spelt as on the wire.
    """

    commit_offset: int = 0
    cached_msg_min_offset: int = 0
    cached_msg_max_offset: int = 0
    cached_msg_count: int = 0
    cached_msg_size_in_mib: int = msgspec.field(name="cachedMsgSizeInMiB", default=0)
    transaction_msg_min_offset: int = 0
    transaction_msg_max_offset: int = 0
    transaction_msg_count: int = 0
    locked: bool = False
    try_unlock_times: int = 0
    last_lock_timestamp: int = 0
    droped: bool = False
    last_pull_timestamp: int = 0
    last_consume_timestamp: int = 0


class ConsumeStatus(Body):
    """A client's rates for one topic: times in ms, rates per second."""

    pull_rt: float = msgspec.field(name="pullRT", default=0.0)
    pull_tps: float = msgspec.field(name="pullTPS", default=0.0)
    consume_rt: float = msgspec.field(name="consumeRT", default=0.0)
    consume_ok_tps: float = msgspec.field(name="consumeOKTPS", default=0.0)
    consume_failed_tps: float = msgspec.field(name="consumeFailedTPS", default=0.0)
    consume_failed_msgs: int = 0


class ConsumerRunningInfo(Body):
    """Reply of 307."""

    struct_keys: ClassVar[Mapping[str, type[msgspec.Struct]]] = {"mqTable": MessageQueue}

    properties: dict[str, str] = {}
    subscription_set: list[SubscriptionData] = []
    mq_table: dict[MessageQueue, ProcessQueueInfo] = {}
    status_table: dict[str, ConsumeStatus] = {}
    user_consumer_info: dict[str, str] = {}
    jstack: str | None = None


class ConsumeMessageDirectlyResult(Body):
    """Reply of 309; `consume_result` is e.g. CR_SUCCESS or CR_LATER."""

    order: bool = False
    auto_commit: bool = True
    consume_result: str = "CR_SUCCESS"
    remark: str | None = None
    spent_time_mills: int = 0


class ConsumeQueueUnit(Body):
    """One unit of a consume queue."""

    physic_offset: int = 0
    physic_size: int = 0
    tags_code: int = 0
    extend_data_json: str | None = None
    bit_map: str | None = None
    eval: bool = False
    msg: str | None = None


class ConsumeQueueBody(Body):
    """Reply of 321."""

    subscription_data: SubscriptionData | None = None
    filter_data: str | None = None
    queue_data: list[ConsumeQueueUnit] = []
    max_queue_index: int = 0
    min_queue_index: int = 0
