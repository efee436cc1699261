"""Rules about topics and groups: names, what exists from the start, what creates itself.

Pure: configuration and tables in, decisions out. Sources: remoting.md §6.1, broker-behaviour §3 and
§8.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError

from .config_fields import BrokerConfig

PERM_READ: Final = 4
PERM_WRITE: Final = 2
PERM_INHERIT: Final = 1
PERM_RW: Final = PERM_READ | PERM_WRITE

# The metadata of the group travels in the log under this name; no client may read or write it.
INTERNAL_TOPIC: Final = "RMQ_SYS_LEDGERMQ_META"
DEFAULT_TOPIC: Final = "TBW102"
SCHEDULE_TOPIC: Final = "SCHEDULE_TOPIC_XXXX"
HALF_TOPIC: Final = "RMQ_SYS_TRANS_HALF_TOPIC"
OP_HALF_TOPIC: Final = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
CHECK_MAX_TIME_TOPIC: Final = "TRANS_CHECK_MAX_TIME_TOPIC"
SELF_TEST_TOPIC: Final = "SELF_TEST_TOPIC"
BENCHMARK_TOPIC: Final = "BenchmarkTest"
OFFSET_MOVED_TOPIC: Final = "OFFSET_MOVED_EVENT"
TRACE_TOPIC: Final = "RMQ_SYS_TRACE_TOPIC"
SYSTEM_PREFIX: Final = "rmq_sys_"
RETRY_PREFIX: Final = "%RETRY%"
DLQ_PREFIX: Final = "%DLQ%"

MAX_TOPIC_CHARS: Final = 127
# A retry or DLQ name holds a group's name behind a prefix.
MAX_LONG_TOPIC_CHARS: Final = 255
MAX_GROUP_CHARS: Final = 120

_LEGAL = re.compile(r"[%|a-zA-Z0-9_-]+")
_SYSTEM_TOPICS = frozenset(
    {
        INTERNAL_TOPIC,
        DEFAULT_TOPIC,
        SCHEDULE_TOPIC,
        HALF_TOPIC,
        OP_HALF_TOPIC,
        CHECK_MAX_TIME_TOPIC,
        SELF_TEST_TOPIC,
        BENCHMARK_TOPIC,
        OFFSET_MOVED_TOPIC,
        TRACE_TOPIC,
    }
)
_CLOSED_TO_SENDS = frozenset(
    {
        INTERNAL_TOPIC,
        SCHEDULE_TOPIC,
        HALF_TOPIC,
        OP_HALF_TOPIC,
        CHECK_MAX_TIME_TOPIC,
        SELF_TEST_TOPIC,
        OFFSET_MOVED_TOPIC,
    }
)
_SYSTEM_GROUPS = (
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
)


# --- names ------------------------------------------------------------------------------------


def topic_name_problem(name: str) -> str | None:
    """Why `name` cannot name a topic; None when it can."""
    limit = MAX_LONG_TOPIC_CHARS if is_retry(name) or is_dlq(name) else MAX_TOPIC_CHARS
    return _name_problem("topic", name, limit)


def group_name_problem(name: str) -> str | None:
    """Why `name` cannot name a consumer group; None when it can."""
    return _name_problem("group", name, MAX_GROUP_CHARS)


def _name_problem(what: str, name: str, limit: int) -> str | None:
    if not name:
        return f"the {what} name is empty"
    if not _LEGAL.fullmatch(name):
        return f"the {what} name {name!r} holds other characters than letters, digits, % | _ -"
    if len(name) > limit:
        return f"the {what} name has {len(name)} characters, more than {limit}"
    return None


def is_system(name: str, config: BrokerConfig) -> bool:
    """Whether the broker, not a user, owns the topic: it cannot be created, changed or deleted."""
    return (
        name in _SYSTEM_TOPICS
        or name.lower().startswith(SYSTEM_PREFIX)
        or name in {config.broker_cluster_name, config.broker_name, _reply_topic(config)}
    )


@lru_cache(maxsize=4096)
def check_sendable(name: str) -> None:
    """Refuse what no producer may write to, whatever topics exist.

    Raises:
        PeerError: 29 for a bad name, 16 for a system topic that is closed to sends.
    """
    problem = topic_name_problem(name)
    if problem:
        raise PeerError(ResponseCode.INVALID_PARAMETER, problem)
    if name in _CLOSED_TO_SENDS:
        raise PeerError(
            ResponseCode.NO_PERMISSION, f"the system topic {name} takes no messages from clients"
        )


def refuse_internal(*names: str | None) -> None:
    """Refuse the internal topic, wherever a topic's name came from.

    Raises:
        PeerError: 16, one of the names is the internal topic's.
    """
    if INTERNAL_TOPIC in names:
        raise PeerError(
            ResponseCode.NO_PERMISSION,
            f"the topic {INTERNAL_TOPIC} holds the broker's metadata and is closed to clients",
        )


def check_queue(topics: Mapping[str, TopicConfig], name: str, queue_id: int) -> TopicConfig:
    """The topic's settings, when it exists and has the queue.

    Raises:
        PeerError: 17 for an unknown topic, 29 for a queue it does not have.
    """
    topic = topics.get(name)
    if topic is None:
        raise PeerError(ResponseCode.TOPIC_NOT_EXIST, f"topic {name} does not exist on this broker")
    if not 0 <= queue_id < max(topic.read_queue_nums, topic.write_queue_nums):
        raise PeerError(ResponseCode.INVALID_PARAMETER, f"topic {name} has no queue {queue_id}")
    return topic


def retry_topic(group: str) -> str:
    """Where a group's failed messages wait."""
    return RETRY_PREFIX + group


def dlq_topic(group: str) -> str:
    """Where a group's given-up messages end."""
    return DLQ_PREFIX + group


def is_retry(name: str) -> bool:
    """True for a retry topic."""
    return name.startswith(RETRY_PREFIX)


def is_dlq(name: str) -> bool:
    """True for a dead-letter topic."""
    return name.startswith(DLQ_PREFIX)


def _reply_topic(config: BrokerConfig) -> str:
    return f"{config.broker_cluster_name}_REPLY_TOPIC"


# --- what exists from the start ---------------------------------------------------------------


def system_topics(config: BrokerConfig) -> list[TopicConfig]:
    """The topics a new group begins with; the leader puts those that are missing.

    A cluster or broker name that cannot name a topic gets none. Source: broker-behaviour §3,
    without those of 5.x.
    """
    inherit = PERM_RW | PERM_INHERIT
    cluster_perm = PERM_INHERIT | (PERM_RW if config.cluster_topic_enable else 0)
    broker_perm = PERM_INHERIT | (PERM_RW if config.broker_topic_enable else 0)
    found = [
        _topic(SELF_TEST_TOPIC, 1),
        _topic(BENCHMARK_TOPIC, 1024),
        _topic(config.broker_cluster_name, 16, cluster_perm),
        _topic(config.broker_name, 1, broker_perm),
        _topic(OFFSET_MOVED_TOPIC, 1),
        _topic(SCHEDULE_TOPIC, max(18, len(config.message_delay_levels_ms))),
        _topic(_reply_topic(config), 1),
        _topic(HALF_TOPIC, 1),
        _topic(OP_HALF_TOPIC, 1),
    ]
    if config.auto_create_topic_enable:
        found.append(_topic(DEFAULT_TOPIC, config.default_topic_queue_nums, inherit))
    if config.trace_topic_enable:
        found.append(_topic(TRACE_TOPIC, 1))
    return [topic for topic in found if topic_name_problem(topic.topic_name) is None]


def system_groups() -> list[SubscriptionGroupConfig]:
    """The consumer groups that exist without being created."""
    return [_SYSTEM_GROUP_CONFIGS[name] for name in _SYSTEM_GROUPS]


def find_group(
    groups: Mapping[str, SubscriptionGroupConfig], name: str
) -> SubscriptionGroupConfig | None:
    """A consumer group's settings, predefined ones included; None when it does not exist."""
    return groups.get(name) or _SYSTEM_GROUP_CONFIGS.get(name)


# --- what creates itself ----------------------------------------------------------------------


def auto_create(
    topics: Mapping[str, TopicConfig],
    name: str,
    default_topic: str,
    client_queue_nums: int,
    config: BrokerConfig,
) -> TopicConfig | None:
    """The topic to create for a send to an unknown one.

    Args:
        topics: the topics there are.
        name: the unknown topic; its name has been checked.
        default_topic: the topic to take after, from the request.
        client_queue_nums: queues the client would like.
        config: of this broker.

    Returns:
        The new topic's settings; None: the send is to be refused with 17.
    """
    if is_retry(name):
        return _topic(name, 1)
    parent = topics.get(default_topic)
    if parent is None or not parent.perm & PERM_INHERIT:
        return None
    if default_topic == DEFAULT_TOPIC and not config.auto_create_topic_enable:
        return None  # the topic is left over from when it was allowed
    queues = max(1, min(client_queue_nums, parent.write_queue_nums))
    return TopicConfig(
        topic_name=name,
        read_queue_nums=queues,
        write_queue_nums=queues,
        perm=parent.perm & ~PERM_INHERIT,
        topic_sys_flag=0,
        topic_filter_type=parent.topic_filter_type,
    )


def new_retry_topic(group: SubscriptionGroupConfig) -> TopicConfig:
    """The retry topic of a group, with the queues its settings ask for."""
    return _topic(retry_topic(group.group_name), max(1, group.retry_queue_nums))


def new_dlq_topic(group: str) -> TopicConfig:
    """The dead-letter topic of a group."""
    return _topic(dlq_topic(group), 1)


def new_group(name: str, config: BrokerConfig) -> SubscriptionGroupConfig | None:
    """The settings of a group seen for the first time; None: it may not create itself."""
    if not config.auto_create_subscription_group or group_name_problem(name):
        return None
    return SubscriptionGroupConfig(group_name=name)


def _topic(name: str, queues: int, perm: int = PERM_RW) -> TopicConfig:
    return TopicConfig(topic_name=name, read_queue_nums=queues, write_queue_nums=queues, perm=perm)


_SYSTEM_GROUP_CONFIGS = {name: SubscriptionGroupConfig(group_name=name) for name in _SYSTEM_GROUPS}
