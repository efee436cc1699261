"""What one key cannot know: checks across keys, and help with unknown ones."""

from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches

from .config_fields import BrokerConfig

Place = Callable[[str], str]

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


def check_group(config: BrokerConfig, place: Place, broken: Collection[str]) -> list[str]:
    """Whether this is a DLedger node at all; `broken` fields have been complained about."""
    if "enable_dleger_commit_log" in broken:
        return []
    missing = [n for n in _GROUP_KEYS if not getattr(config, n) and n not in broken]
    if not config.enable_dleger_commit_log:
        where = place("enable_dleger_commit_log")
        return [
            f"{where}: enableDLegerCommitLog is not true, and a broker runs in a DLedger group"
            " only. Set enableDLegerCommitLog=true, dLegerGroup, dLegerPeers and dLegerSelfId;"
            " conf/dledger/broker-n0.conf shows how. A group of one peer is allowed"
        ]
    return [
        f"{place(n)}: {_GROUP_KEYS[n][0]} has no value, and enableDLegerCommitLog=true needs it."
        f" Write it like {_GROUP_KEYS[n][1]}"
        for n in missing
    ]


def check_rest(config: BrokerConfig, place: Place) -> tuple[list[str], list[str]]:
    """(problems, warnings) between keys that are each right by themselves."""
    problems = _check_peers(config, place)
    problems += _check_timing(config, place)
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


def _check_ports(config: BrokerConfig, place: Place) -> list[str]:
    raft_port = config.raft_address[1]
    uses = {config.listen_port: "listenPort", config.listen_port - 2: "listenPort - 2 (VIP)"}
    if raft_port not in uses:
        return []
    return [
        f"{place('listen_port')}: {uses[raft_port]} is {raft_port}, the port that dLegerPeers"
        f" ({place('dleger_peers')}) gives {config.dleger_self_id}. Change one of them"
    ]


def _doubts(config: BrokerConfig, place: Place) -> list[str]:
    doubts = []
    if len(config.dleger_peers) == 2:
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
            "configuration: no name server is set, so no client finds this broker. Set"
            " namesrvAddr, the environment variable NAMESRV_ADDR, or start with -n host:port"
        )
    if any(c in config.broker_name for c in " ,()"):
        doubts.append(
            f"{place('broker_name')}: brokerName is {config.broker_name!r}, several names or a"
            " comment? It is taken as one name. Write a single name, like broker-a"
        )
    return doubts
