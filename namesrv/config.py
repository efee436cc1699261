"""The name server's configuration: upstream's keys, with upstream's defaults.

`-c FILE` holds lines `key = value`. A value that cannot be used stops the start and names its
line; a key nobody knows, or one that has no effect here, is warned about.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from ledgermq.remoting.errors import CallerError
from ledgermq.remoting.properties import COMMAND_LINE, Property, parse

from .errors import ConfigError

_INTEGER = re.compile(r"[+-]?[0-9]+")
_BOOLEANS = {"true": True, "false": False}
_POOLS = "one event loop serves every request"
_JAVA_IO = "the sockets are asyncio's"

# Keys of upstream without effect here -> why.
INERT: dict[str, str] = {
    "clientRequestThreadPoolNums": _POOLS,
    "clientRequestThreadPoolQueueCapacity": _POOLS,
    "defaultThreadPoolNums": _POOLS,
    "defaultThreadPoolQueueCapacity": _POOLS,
    "serverWorkerThreads": _POOLS,
    "serverCallbackExecutorThreads": _POOLS,
    "serverSelectorThreads": _POOLS,
    "serverOnewaySemaphoreValue": _POOLS,
    "serverAsyncSemaphoreValue": _POOLS,
    "serverSocketSndBufSize": _JAVA_IO,
    "serverSocketRcvBufSize": _JAVA_IO,
    "serverSocketBacklog": _JAVA_IO,
    "serverPooledByteBufAllocatorEnable": _JAVA_IO,
    "useEpollNativeSelector": _JAVA_IO,
    "unRegisterBrokerQueueCapacity": "a broker is unregistered at once, there is no queue",
    "clusterTest": "there is no second name server to ask for unknown topics",
    "productEnvName": "only read with clusterTest",
    "supportActingMaster": "a DLedger group elects a leader, no follower acts as one",
    "notifyMinBrokerIdChanged": "only for groups with an acting master",
    "enableControllerInNamesrv": "a DLedger group needs no controller",
    "rocketmqHome": "nothing is looked up there",
}


def _key(
    default: Any, *, live: bool = False, low: int = 0, high: int = 2**31 - 1, name: str = ""
) -> Any:
    """A configuration key.

    `live`: may be changed while running (request 318); `low` and `high` bound integers.
    """
    return field(default=default, metadata={"live": live, "low": low, "high": high, "name": name})


@dataclass(slots=True, kw_only=True)
class NamesrvConfig:
    """One field per key; the key is the field's name in camelCase.

    Attributes:
        listen_port: TCP port; 0 picks a free one.
        bind_address: address to listen on.
        kv_config_path: kvConfig.json, see `kv_config`.
        config_store_path: file that request 318 rewrites; with `-c FILE` it is FILE.
        scan_not_active_broker_interval: ms between two looks for silent brokers; a silent broker
            stays in routes up to this much too long.
        order_message_enable: routes carry the order configuration of their topic.
        return_order_topic_config_to_broker: registrations are answered with ORDER_TOPIC_CONFIG.
        enable_all_topic_list: answer request 206; off hides topic names from clients.
        enable_topic_list: likewise 224, 304 and 311 to 313.
        need_wait_for_service: answer no route before `wait_seconds_for_service`, so that a
            client does not take a name server that knows no broker yet for an empty cluster.
        wait_seconds_for_service: s after the start.
        delete_topic_with_broker_registration: a leader's registration removes the topics that
            it does not name.
        server_channel_max_idle_time_seconds: s of silence after which a connection is closed.
        max_brokers: bound on broker addresses (ours).
        max_topics: bound on topics (ours).
        max_kv_entries: bound on key-value pairs (ours).
        config_black_list: keys, joined by `;`, that request 318 may not change.
        sources: key -> where the file sets it; no key of a file.
    """

    listen_port: int = _key(9876, high=65535)
    bind_address: str = _key("0.0.0.0")
    kv_config_path: str = _key("~/namesrv/kvConfig.json")
    config_store_path: str = _key("~/namesrv/namesrv.properties")
    scan_not_active_broker_interval: int = _key(5000, live=True, low=100)
    order_message_enable: bool = _key(False, live=True)
    return_order_topic_config_to_broker: bool = _key(True, live=True)
    enable_all_topic_list: bool = _key(True, live=True)
    enable_topic_list: bool = _key(True, live=True)
    need_wait_for_service: bool = _key(False, live=True)
    wait_seconds_for_service: int = _key(45, live=True)
    delete_topic_with_broker_registration: bool = _key(False, live=True)
    server_channel_max_idle_time_seconds: int = _key(120, low=1)
    max_brokers: int = _key(10_000, live=True, low=1)
    max_topics: int = _key(100_000, live=True, low=1)
    max_kv_entries: int = _key(10_000, live=True, low=1)
    config_black_list: str = _key("configBlackList;configStorePath;kvConfigPath")
    sources: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def set(self, key: str, value: str, place: str) -> None:
        """Set one known key from its text.

        Raises:
            ConfigError: the text is no value for it; the message begins with `place`.
        """
        item = _FIELDS[key]
        setattr(self, item.name, _parse_value(item, key, value.strip(), place))

    def items(self) -> dict[str, str]:
        """Every key and its present value as text, sorted by key."""
        return {key: _text(getattr(self, item.name)) for key, item in sorted(_FIELDS.items())}

    def path(self, key: str) -> Path:
        """The value of a key that names a file; `~` is the home folder."""
        return Path(getattr(self, _FIELDS[key].name)).expanduser()

    def refused_at_runtime(self, key: str) -> bool:
        """True when request 318 may not change the key."""
        return key in {k.strip() for k in self.config_black_list.split(";")}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_FIELDS: dict[str, Field[Any]] = {_camel(f.name): f for f in fields(NamesrvConfig) if f.metadata}


def known_keys() -> list[str]:
    """Keys that have an effect."""
    return sorted(_FIELDS)


def is_live(key: str) -> bool:
    """True when a change takes effect without a restart."""
    return bool(_FIELDS[key].metadata["live"])


def load(path: Path) -> tuple[NamesrvConfig, list[str]]:
    """Read a configuration file.

    Returns:
        The configuration, and one warning per key without effect.

    Raises:
        ConfigError: the file cannot be read, or a line cannot be used.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ConfigError(
            f"cannot read the configuration file {path}: {e.strerror}. Check the path after -c."
        ) from e
    config = NamesrvConfig(config_store_path=str(path))
    try:
        properties = parse(data, str(path))
    except CallerError as e:
        raise ConfigError(str(e)) from e
    warnings = apply(config, properties, str(path))
    config.sources = {"configStorePath": COMMAND_LINE} | {
        p.key: f"{path}:{p.line}" for p in properties if p.key in _FIELDS
    }
    return config, warnings


def apply(config: NamesrvConfig, properties: Iterable[Property], source: str) -> list[str]:
    """Set every known key; return a warning for every other one.

    Raises:
        ConfigError: a value cannot be used.
    """
    warnings = []
    for item in properties:
        place = f"{source}:{item.line}"
        if item.key in _FIELDS:
            config.set(item.key, item.value, place)
        else:
            warnings.append(f"{place}: {explain_unknown(item.key)}")
    return warnings


def explain_unknown(key: str) -> str:
    """Why a key that is no field has no effect."""
    if key in INERT:
        return f"{key} has no effect in this name server: {INERT[key]}"
    close = difflib.get_close_matches(key, [*_FIELDS, *INERT], n=1)
    hint = f" Did you mean {close[0]}?" if close else " List the keys with: mqnamesrv -p"
    return f"unknown key {key}, ignored.{hint}"


def rewrite(text: str, changes: Mapping[str, str]) -> str:
    """A properties text with some values changed: comments and other lines stay as they are."""
    left = dict(changes)
    lines = []
    for line in text.splitlines():
        key = re.split(r"[=:\s]", line.strip(), maxsplit=1)[0]
        if key in changes:
            # A key that stands twice is written once: the last line of a file wins.
            if key in left:
                lines.append(f"{key}={left.pop(key)}")
        else:
            lines.append(line)
    lines.extend(f"{key}={value}" for key, value in left.items())
    return "\n".join(lines) + "\n"


def _parse_value(item: Field[Any], key: str, value: str, place: str) -> object:
    if item.type is bool:
        parsed = _BOOLEANS.get(value.lower())
        if parsed is None:
            raise ConfigError(f"{place}: {key} is {value!r}; write true or false")
        return parsed
    if item.type is int:
        low, high = item.metadata["low"], item.metadata["high"]
        if not _INTEGER.fullmatch(value) or not low <= int(value) <= high:
            raise ConfigError(
                f"{place}: {key} is {value!r}; write a whole number from {low} to {high}"
                f" (default {item.default}){_hint(value)}"
            )
        return int(value)
    if not value:
        raise ConfigError(f"{place}: {key} has no value; the default is {item.default}")
    return value


def _hint(value: str) -> str:
    return "" if value.isascii() else "; it holds full-width characters, type plain ASCII ones"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
