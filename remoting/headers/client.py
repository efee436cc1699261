"""Clients: who is there, and what a broker asks them."""

import msgspec

from .base import Header, Int32


class HeartbeatResponse(
    Header,
    rename={
        "is_support_heart_beat_v2": "IS_SUPPORT_HEART_BEAT_V2",
        "is_sub_change": "IS_SUB_CHANGE",
    },
):
    """Reply of 34; a 5.x client sends its full subscriptions again when `is_sub_change`."""

    is_support_heart_beat_v2: bool = True
    is_sub_change: bool = True


class UnregisterClientRequest(Header):
    """Code 35."""

    client_id: str = msgspec.field(name="clientID")
    producer_group: str | None = None
    consumer_group: str | None = None


class ConsumerListRequest(Header):
    """Code 38: ids of a group's live consumers."""

    consumer_group: str


class NotifyConsumerIdsChangedRequest(Header):
    """Code 40, broker to consumer, one-way: rebalance now."""

    consumer_group: str


class ConsumerConnectionRequest(Header):
    """Code 203."""

    consumer_group: str


class ProducerConnectionRequest(Header):
    """Code 204."""

    producer_group: str


class ConsumerRunningInfoRequest(Header):
    """Code 307, relayed by the broker to the client."""

    consumer_group: str
    client_id: str
    jstack_enable: bool = False


class ConsumeMessageDirectlyRequest(Header):
    """Code 309, relayed by the broker to the client; the body is the message as a record."""

    consumer_group: str
    client_id: str | None = None
    msg_id: str | None = None
    broker_name: str | None = None
    topic: str | None = None
    topic_sys_flag: Int32 | None = None
    group_sys_flag: Int32 | None = None


class GroupRequest(Header):
    """Codes 343 and 352: a consumer group, by name."""

    group: str


class DeleteSubscriptionGroupRequest(Header):
    """Code 207."""

    group_name: str
    clean_offset: bool = False
