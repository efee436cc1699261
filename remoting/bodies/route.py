# ruff: noqa: RUF012 (msgspec gives every instance an empty list or dict of its own)
"""Where topics, brokers and clusters are."""

from .base import Body


class QueueData(Body):
    """A topic's queues on one broker group; perm bits: 4 read, 2 write, 1 inherit."""

    broker_name: str = ""
    read_queue_nums: int = 0
    write_queue_nums: int = 0
    perm: int = 0
    topic_sys_flag: int = 0


class BrokerData(Body):
    """A broker group: address by broker id, 0 the leader."""

    cluster: str = ""
    broker_name: str = ""
    broker_addrs: dict[int, str] = {}
    zone_name: str | None = None
    enable_acting_master: bool = False


class TopicRouteData(Body):
    """Reply of 105; `order_topic_conf` as "brokerA:8;brokerB:8"."""

    order_topic_conf: str | None = None
    queue_datas: list[QueueData] = []
    broker_datas: list[BrokerData] = []
    filter_server_table: dict[str, list[str]] = {}


class ClusterInfo(Body):
    """Reply of 106: groups by name, and which are in which cluster."""

    broker_addr_table: dict[str, BrokerData] = {}
    cluster_addr_table: dict[str, list[str]] = {}


class TopicList(Body):
    """Reply of 206, 224, 304 …; `broker_addr` is set by 304 only."""

    topic_list: list[str] = []
    broker_addr: str | None = None


class KVTable(Body):
    """Names and values: reply of 28 and 219, and of 103."""

    table: dict[str, str] = {}


class BrokerMemberGroup(Body):
    """One group's members."""

    cluster: str = ""
    broker_name: str = ""
    broker_addrs: dict[int, str] = {}


class BrokerMemberGroupBody(Body):
    """Reply of 901."""

    broker_member_group: BrokerMemberGroup | None = None
