"""The keys about what a broker is called, where it listens, and how it serves clients and peers."""

from collections.abc import Mapping
from dataclasses import dataclass

from . import config_values as v
from .config_inert import DELAY_NOT_SERVED
from .config_keys import Idle, key

KIB = 1 << 10
MIB = 1 << 20
DEFAULT_DELAY_LEVELS = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"
GROUP_ONLY = Idle(plain="only a node of a group (enableDLegerCommitLog=true) has peers")


@dataclass(frozen=True, kw_only=True)
class ServiceKeys:
    """A part of `BrokerConfig`."""

    broker_cluster_name: str = key(
        "brokerClusterName", v.text, "DefaultCluster", "Cluster, as clusterList shows it",
        important=True,
    )  # fmt: skip
    broker_name: str = key(
        "brokerName", v.text, "", "Name in routes; the same on every peer of a group",
        default="in a group dLegerGroup, else the host's name", important=True,
    )  # fmt: skip
    broker_id: int = key(
        "brokerId", v.integer(0), 0, "Id in routes; a master's is always 0",
        important=True,
        idle=Idle(
            group="in a group the leader is 0 and a follower is the number in its dLegerSelfId + 1"
        ),
    )  # fmt: skip
    broker_role: str = key(
        "brokerRole", v.choice("ASYNC_MASTER", "SYNC_MASTER", "SLAVE"), "ASYNC_MASTER",
        "ASYNC_MASTER; SYNC_MASTER is the same here; SLAVE is refused: see conf/dledger for"
        " several copies", important=True,
        idle=Idle(group="the role is decided by election: leader or follower"),
    )  # fmt: skip
    broker_ip1: str = key(
        "brokerIP1", v.ip_address, "", "Address that clients are told to connect to",
        default="first address that is not a loopback one, else 127.0.0.1", important=True,
    )  # fmt: skip
    listen_port: int = key(
        "listenPort", v.integer(3, 65535), 10911,
        "Port for clients; the port two below it is opened too, for old clients' VIP channel",
        important=True,
    )  # fmt: skip
    ha_listen_port: int = key(
        "haListenPort", v.integer(0, 65535), 0,
        "Not opened; only the check of ports knows it", default="listenPort + 1",
        idle=Idle(group="replication is DLedger's; there is no separate HA channel"),
    )  # fmt: skip
    namesrv_addr: tuple[str, ...] = key(
        "namesrvAddr", v.addresses, (), "Name servers, `host:port;host:port`",
        default="environment NAMESRV_ADDR", important=True,
    )  # fmt: skip
    max_message_size: int = key(
        "maxMessageSize", v.integer(1, 15 * MIB), 4 * MIB, "Longest body of a message",
        unit="bytes",
    )  # fmt: skip
    auto_create_topic_enable: bool = key(
        "autoCreateTopicEnable", v.boolean, True, "A send to an unknown topic creates it",
    )  # fmt: skip
    auto_create_subscription_group: bool = key(
        "autoCreateSubscriptionGroup", v.boolean, True, "A new consumer group is created on use",
    )  # fmt: skip
    default_topic_queue_nums: int = key(
        "defaultTopicQueueNums", v.integer(1, 4096), 8, "Queues that an auto-created topic may get",
        unit="queues",
    )  # fmt: skip
    cluster_topic_enable: bool = key(
        "clusterTopicEnable", v.boolean, True, "The topic named like the cluster may be written",
    )  # fmt: skip
    broker_topic_enable: bool = key(
        "brokerTopicEnable", v.boolean, True, "The topic named like the broker may be written",
    )  # fmt: skip
    broker_permission: int = key(
        "brokerPermission", v.integer(0, 7), 6, "Permission bits of the whole broker: 4 read,"
        " 2 write",
    )  # fmt: skip
    long_polling_enable: bool = key(
        "longPollingEnable", v.boolean, True,
        "Hold an empty pull until a message arrives; otherwise for shortPollingTimeMills",
    )  # fmt: skip
    short_polling_time_ms: int = key(
        "shortPollingTimeMills", v.integer(1), 1000, "Longest hold without long polling", unit="ms",
    )  # fmt: skip
    max_transfer_bytes_in_memory: int = key(
        "maxTransferBytesOnMessageInMemory", v.integer(1, 8 * MIB), 256 * KIB,
        "Most bytes of one pull of recent messages", unit="bytes",
    )  # fmt: skip
    max_transfer_count_in_memory: int = key(
        "maxTransferCountOnMessageInMemory", v.integer(1), 32,
        "Most messages of one pull of recent messages", unit="messages",
    )  # fmt: skip
    max_transfer_bytes_in_disk: int = key(
        "maxTransferBytesOnMessageInDisk", v.integer(1, 8 * MIB), 64 * KIB,
        "Most bytes of one pull of old messages", unit="bytes",
    )  # fmt: skip
    max_transfer_count_in_disk: int = key(
        "maxTransferCountOnMessageInDisk", v.integer(1), 8,
        "Most messages of one pull of old messages", unit="messages",
    )  # fmt: skip
    register_name_server_period_ms: int = key(
        "registerNameServerPeriod", v.integer(10_000, 60_000), 30_000,
        "Time between registrations; a change registers at once", unit="ms",
    )  # fmt: skip
    register_broker_timeout_ms: int = key(
        "registerBrokerTimeoutMills", v.integer(1), 24_000, "Longest wait for a name server",
        unit="ms",
    )  # fmt: skip
    region_id: str = key(
        "regionId", v.text, "DefaultRegion", "Region, told to producers with each answer",
    )  # fmt: skip
    trace_on: bool = key(
        "traceOn", v.boolean, True, "Tell clients that messages may be traced",
    )  # fmt: skip
    trace_topic_enable: bool = key(
        "traceTopicEnable", v.boolean, False, "Create the topic RMQ_SYS_TRACE_TOPIC",
    )  # fmt: skip
    message_delay_levels_ms: tuple[int, ...] = key(
        "messageDelayLevel", v.delay_levels, v.delay_levels(DEFAULT_DELAY_LEVELS),
        "Delay of level 1, 2, 3 …, with blanks between; units s, m, h, d",
        idle=DELAY_NOT_SERVED,
    )  # fmt: skip
    enable_dleger_commit_log: bool = key(
        "enableDLegerCommitLog", v.boolean, False,
        "true: a node of a DLedger group. false: a master of its own on a plain commitlog",
        important=True,
    )  # fmt: skip
    dleger_group: str = key(
        "dLegerGroup", v.text, "", "Name of the Raft group", default="required in a group",
        important=True, idle=GROUP_ONLY,
    )  # fmt: skip
    dleger_peers: Mapping[str, v.Address] = key(
        "dLegerPeers", v.peers, dict, "Peers of the group, `n0-host:port;n1-host:port`",
        factory=True, default="required in a group", important=True, idle=GROUP_ONLY,
    )  # fmt: skip
    dleger_self_id: str = key(
        "dLegerSelfId", v.peer_id, "", "Which of the peers this node is",
        default="required in a group", important=True, idle=GROUP_ONLY,
    )  # fmt: skip
    preferred_leader_id: tuple[str, ...] = key(
        "preferredLeaderId", v.peer_ids, (), "Peers that should lead when they can, `n0;n1`",
        idle=GROUP_ONLY,
    )  # fmt: skip
    notify_consumer_ids_changed_enable: bool = key(
        "notifyConsumerIdsChangedEnable", v.boolean, True,
        "Tell a group's consumers at once when its members change",
    )  # fmt: skip
    channel_expired_timeout_ms: int = key(
        "channelExpiredTimeout", v.integer(1), 120_000, "A client silent for this long is gone",
        unit="ms",
    )  # fmt: skip
    send_queue_capacity: int = key(
        "sendThreadPoolQueueCapacity", v.integer(1), 10_000,
        "Sends that may wait for their commit; more are answered 'busy'", unit="messages",
    )  # fmt: skip
    heartbeat_interval_ms: int = key(
        "heartbeatIntervalMs", v.integer(1, 60_000), 150, "Time between a leader's heartbeats",
        unit="ms", ours=True, idle=GROUP_ONLY,
    )  # fmt: skip
    election_timeout_min_ms: int = key(
        "electionTimeoutMinMs", v.integer(10, 600_000), 1000,
        "Shortest silence of a leader before an election; too low, and a busy machine elects",
        unit="ms", ours=True, idle=GROUP_ONLY,
    )  # fmt: skip
    election_timeout_max_ms: int = key(
        "electionTimeoutMaxMs", v.integer(10, 600_000), 2000,
        "Longest silence of a leader before an election; each time is random between the two",
        unit="ms", ours=True, idle=GROUP_ONLY,
    )  # fmt: skip
    max_pending_send_bytes: int = key(
        "maxPendingSendBytes", v.integer(MIB), 64 * MIB,
        "Bytes of sends that may wait for their commit; more are answered 'busy'", unit="bytes",
        ours=True,
    )  # fmt: skip
    peer_in_flight_bytes: int = key(
        "peerInFlightBytes", v.integer(64 * KIB), 8 * MIB,
        "Bytes sent to a follower and not yet acknowledged; too low slows a distant one",
        unit="bytes", ours=True, idle=GROUP_ONLY,
    )  # fmt: skip
    offset_flush_interval_ms: int = key(
        "offsetFlushIntervalMs", v.integer(1, 60_000), 200,
        "Time between records of consumer offsets; a killed leader loses that much progress",
        unit="ms", ours=True, idle=Idle(plain="see flushConsumerOffsetInterval"),
    )  # fmt: skip
