"""What one key cannot know: checks across keys, and help with unknown ones."""

from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches

from .config_fields import BrokerConfig

Place = Callable[[str], str]
# The place of what nobody wrote.
NOWHERE = "configuration"

_GROUP_KEYS = {
    "dleger_group": ("dLegerGroup", "dLegerGroup=RaftNode00"),
    "dleger_peers": ("dLegerPeers", "dLegerPeers=n0-127.0.0.1:40911;n1-127.0.0.1:40912"),
    "dleger_self_id": ("dLegerSelfId", "dLegerSelfId=n0"),
}
# A record holds more than its body: properties up to 32 KiB, topic, hosts, the entry's header.
_RECORD_OVERHEAD_BYTES = 64 << 10


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known key that looks most like `name`, whatever the case; None when none does."""
    by_lower = {k.lower(): k for k in known}
    found = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.75)
    return by_lower[found[0]] if found else None


def unknown_key(place: str, name: str, near: str | None) -> str:
    """The warning for a key nobody knows."""
    hint = f"Did you mean {near}?" if near else "See docs/config.md for all keys"
    return f"{place}: unknown key {name} is ignored. {hint}"


def check_kind(config: BrokerConfig, place: Place, broken: Collection[str]) -> list[str]:
    """What stops this kind of broker at once; `broken` fields have been complained about."""
    if "enable_dleger_commit_log" in broken:
        return []
    if config.in_group:
        return _check_group(config, place, broken)
    return _check_role(config, place)


def _check_group(config: BrokerConfig, place: Place, broken: Collection[str]) -> list[str]:
    missing = [n for n in _GROUP_KEYS if not getattr(config, n) and n not in broken]
    return [
        f"{place(n)}: {_GROUP_KEYS[n][0]} has no value, and enableDLegerCommitLog=true needs it."
        f" Write it like {_GROUP_KEYS[n][1]}"
        for n in missing
    ]


def _check_role(config: BrokerConfig, place: Place) -> list[str]:
    if config.broker_role != "SLAVE":
        return []
    if config.broker_id == 0:
        return [
            f"{place('broker_role')}: brokerRole is SLAVE and brokerId"
            f" ({place('broker_id')}) is 0, which is a master's. Set brokerRole=ASYNC_MASTER for a"
            " master. Slaves are not served here: for several copies use conf/dledger"
        ]
    return [
        f"{place('broker_role')}: brokerRole is SLAVE, and replication from a master to slaves is"
        " not served. Use a DLedger group: it keeps several copies and elects its master;"
        " conf/dledger/broker-n0.conf shows how"
    ]


def check_rest(config: BrokerConfig, place: Place) -> tuple[list[str], list[str]]:
    """(problems, warnings) between keys that are each right by themselves."""
    problems = _check_peers(config, place) + _check_timing(config, place) if config.in_group else []
    if not problems:
        problems += _check_ports(config, place)
    return problems, _doubts(config, place)


def _check_peers(config: BrokerConfig, place: Place) -> list[str]:
    names = ", ".join(config.dleger_peers)
    problems = []
    if config.dleger_self_id not in config.dleger_peers:
        problems.append(
            f"{place('dleger_self_id')}: dLegerSelfId is {config.dleger_self_id!r}, but"
            f" dLegerPeers ({place('dleger_peers')}) names {names}. Use one of these,"
            " or add the peer there on every node"
        )
    strangers = [n for n in config.preferred_leader_id if n not in config.dleger_peers]
    if strangers:
        problems.append(
            f"{place('preferred_leader_id')}: preferredLeaderId names {', '.join(strangers)}, but"
            f" dLegerPeers names {names}. Use these ids"
        )
    return problems


def _check_timing(config: BrokerConfig, place: Place) -> list[str]:
    problems = []
    low, high = config.election_timeout_min_ms, config.election_timeout_max_ms
    if low < 3 * config.heartbeat_interval_ms:
        problems.append(
            f"{place('election_timeout_min_ms')}: electionTimeoutMinMs is {low}, less than three"
            f" heartbeats of {config.heartbeat_interval_ms} ms (heartbeatIntervalMs): one lost"
            " packet would elect. Raise the first or lower the second"
        )
    if high <= low:
        problems.append(
            f"{place('election_timeout_max_ms')}: electionTimeoutMaxMs is {high}, not above"
            f" electionTimeoutMinMs, {low}: all peers would stand at once. Raise it"
        )
    return problems


def ports_of(config: BrokerConfig) -> dict[str, int]:
    """What opens a port here -> the port."""
    ports = {"listenPort": config.listen_port, "listenPort - 2 (VIP)": config.listen_port - 2}
    if config.in_group and config.dleger_self_id in config.dleger_peers:
        ports["dLegerSelfId in dLegerPeers"] = config.raft_address[1]
    return ports


def _check_ports(config: BrokerConfig, place: Place) -> list[str]:
    """Ports of this node that others of the same configuration use too."""
    own = ports_of(config)
    own.pop("dLegerSelfId in dLegerPeers", None)
    problems = []
    for other, where, port in _other_ports(config, place):
        problems += [
            f"{place('listen_port')}: {use} is {number}, the port {other} ({where})."
            " Change one of them"
            for use, number in own.items()
            if number == port
        ]
    return problems


def _other_ports(config: BrokerConfig, place: Place) -> list[tuple[str, str, int]]:
    """(whose, place, port) of what else listens on this machine."""
    found = []
    if config.in_group:
        host = config.raft_address[0]
        found = [
            (f"that dLegerPeers gives {name}", place("dleger_peers"), port)
            for name, (peer_host, port) in config.dleger_peers.items()
            if peer_host == host
        ]
    else:
        # Not opened here, but RocketMQ does, and the file should do for both.
        found = [("of haListenPort", place("ha_listen_port"), config.ha_listen_port)]
    for server in config.namesrv_addr:
        host, _, port = server.rpartition(":")
        if host in {"localhost", "127.0.0.1", "[::1]", config.broker_ip1}:
            found.append((f"of the name server {server}", place("namesrv_addr"), int(port)))
    return found


def _doubts(config: BrokerConfig, place: Place) -> list[str]:
    doubts = []
    if config.in_group and len(config.dleger_peers) == 2:
        doubts.append(
            f"{place('dleger_peers')}: a group of two peers stops when one is lost."
            " Three peers survive the loss of one"
        )
    if config.mapped_file_size_commit_log < config.max_message_size + _RECORD_OVERHEAD_BYTES:
        doubts.append(
            f"{place('mapped_file_size_commit_log')}: mappedFileSizeCommitLog is"
            f" {config.mapped_file_size_commit_log} bytes; a message of maxMessageSize,"
            f" {config.max_message_size} bytes, does not fit and will be refused"
        )
    if not config.namesrv_addr:
        doubts.append(
            f"{NOWHERE}: no name server is set, so no client finds this broker. Set"
            " namesrvAddr, the environment variable NAMESRV_ADDR, or start with -n host:port"
        )
    return doubts
