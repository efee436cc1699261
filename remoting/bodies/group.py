# ruff: noqa: RUF012 (msgspec gives every instance an empty list or dict of its own)
"""Consumer groups: their settings and their offsets."""

from typing import ClassVar

import msgspec

from .base import Body
from .registration import DataVersion


class SubscriptionGroupConfig(Body):
    """Settings of a consumer group: body of 200, reply of 352."""

    max_bytes: ClassVar[int] = 1 << 20

    group_name: str = ""
    consume_enable: bool = True
    consume_from_min_enable: bool = True
    consume_broadcast_enable: bool = True
    consume_message_orderly: bool = False
    retry_queue_nums: int = 1
    retry_max_times: int = 16
    broker_id: int = 0
    which_broker_when_consume_slowly: int = 1
    notify_consumer_ids_changed_enable: bool = True
    group_sys_flag: int = 0
    consume_timeout_minute: int = 15
    attributes: dict[str, str] = {}


class SubscriptionGroupTable(Body):
    """All groups of a broker: reply of 201, and the content of subscriptionGroup.json."""

    subscription_group_table: dict[str, SubscriptionGroupConfig] = {}
    forbidden_table: dict[str, dict[str, int]] = {}
    data_version: DataVersion = msgspec.field(default_factory=DataVersion)


class ConsumerOffsetTable(Body):
    """Reply of 43 and the content of consumerOffset.json.

    Attributes:
        offset_table: "topic@group" -> queue id -> next offset to read.
    """

    offset_table: dict[str, dict[int, int]] = {}
    data_version: DataVersion = msgspec.field(default_factory=DataVersion)


class DelayOffsetTable(Body):
    """Reply of 45 and the content of delayOffset.json: delay level -> next schedule offset."""

    offset_table: dict[int, int] = {}
    data_version: DataVersion = msgspec.field(default_factory=DataVersion)
