# ruff: noqa: RUF012 (msgspec gives every instance an empty list or dict of its own)
"""Figures: offsets per queue, consumption, rates."""

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from .base import Body


class MessageQueue(msgspec.Struct, kw_only=True, rename="camel", frozen=True, order=True):
    """A queue's name; also the key of many maps."""

    broker_name: str = ""
    queue_id: int = 0
    topic: str = ""


_QUEUE_TABLE: Mapping[str, type[msgspec.Struct]] = {"offsetTable": MessageQueue}


class TopicOffset(Body):
    """Offsets of one queue; `last_update_timestamp` in ms since 1970, 0 when empty."""

    min_offset: int = 0
    max_offset: int = 0
    last_update_timestamp: int = 0


class TopicStatsTable(Body):
    """Reply of 202."""

    struct_keys: ClassVar[Mapping[str, type[msgspec.Struct]]] = _QUEUE_TABLE

    offset_table: dict[MessageQueue, TopicOffset] = {}
    topic_put_tps: float = 0.0


class OffsetWrapper(Body):
    """How far a group is in one queue.

    Attributes:
        last_timestamp: store time of the last consumed message, ms since 1970.
    """

    broker_offset: int = 0
    consumer_offset: int = 0
    pull_offset: int = 0
    last_timestamp: int = 0


class ConsumeStats(Body):
    """Reply of 208."""

    struct_keys: ClassVar[Mapping[str, type[msgspec.Struct]]] = _QUEUE_TABLE

    offset_table: dict[MessageQueue, OffsetWrapper] = {}
    consume_tps: float = 0.0


class BrokerStatsItem(Body):
    """Sum, rate per second and average per call within one span of time."""

    sum: int = 0
    tps: float = 0.0
    avgpt: float = 0.0


class BrokerStatsData(Body):
    """Reply of 315."""

    stats_minute: BrokerStatsItem = msgspec.field(default_factory=BrokerStatsItem)
    stats_hour: BrokerStatsItem = msgspec.field(default_factory=BrokerStatsItem)
    stats_day: BrokerStatsItem = msgspec.field(default_factory=BrokerStatsItem)
