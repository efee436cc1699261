"""Brokers: registration, and what operators ask of them."""

from .base import Header, Int32, Int64


class RegisterBrokerRequest(Header):
    """Code 103.

    Attributes:
        broker_id: 0 the leader, others are replicas.
        body_crc32: CRC-32 of the body & 0x7FFFFFFF; 0 is not checked.
        compressed: the body is in the compressed form.
        heartbeat_timeout_millis: after this silence the name server forgets the broker.
    """

    broker_name: str
    broker_addr: str
    cluster_name: str
    ha_server_addr: str
    broker_id: Int64
    heartbeat_timeout_millis: Int64 | None = None
    enable_acting_master: bool | None = None
    compressed: bool = False
    body_crc32: Int32 = 0


class RegisterBrokerResponse(Header):
    """Reply of 103; set only for a replica whose leader is known."""

    ha_server_addr: str | None = None
    master_addr: str | None = None


class UnregisterBrokerRequest(Header):
    """Code 104."""

    broker_name: str
    broker_addr: str
    cluster_name: str
    broker_id: Int64


class QueryDataVersionRequest(Header):
    """Code 322: does the name server know this version of the broker's topics?"""

    broker_name: str
    broker_addr: str
    cluster_name: str
    broker_id: Int64


class QueryDataVersionResponse(Header):
    """Reply of 322."""

    changed: bool


class BrokerConfigResponse(Header):
    """Reply of 26: the data version of the configuration, as JSON text."""

    version: str


class ViewBrokerStatsRequest(Header):
    """Code 315: e.g. TOPIC_PUT_NUMS of a topic."""

    stats_name: str
    stats_key: str
