"""The broker's configuration: upstream's `key = value` file -> a typed, frozen object.

Precedence: command line, file, environment, default. Everything wrong is reported at once, each
with its place and the next step; what is merely without effect is a warning.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ledgermq.remoting.errors import CallerError
from ledgermq.remoting.properties import (
    COMMAND_LINE,
    DEFAULT,
    NO_EFFECT,
    comment_above,
    parse_all,
    with_source,
)

from . import config_values as v
from .config_fields import BrokerConfig
from .config_inert import INERT
from .config_keys import Idle, Key, keys_of
from .config_lint import NOWHERE, Place, check_kind, check_rest, closest, unknown_key
from .config_remarks import Written, hint, remarks
from .config_store_keys import QUEUE_UNIT_BYTES

__all__ = [
    "KEYS",
    "BrokerConfig",
    "Reading",
    "all_items",
    "first_address",
    "items_to_print",
    "load_config",
    "read_config",
]

KEYS = keys_of(BrokerConfig)
_FIELD_OF = {name: field_name for field_name, k in KEYS.items() for name in (k.name, *k.aliases)}
_MAY_BE_EMPTY = {v.text, v.ip_address, v.folder, v.addresses, v.peer_id, v.peer_ids, v.peers}


@dataclass(frozen=True, slots=True)
class Reading:
    """A configuration and all there is to say about it, each one sentence with its place.

    Attributes:
        problems: a broker cannot run with these.
        warnings: it can, but hardly as meant.
        place: field name -> where it was set.
    """

    config: BrokerConfig
    problems: list[str]
    warnings: list[str]
    place: Place


def load_config(
    path: Path | None,
    overrides: Mapping[str, str],
    env: Mapping[str, str],
    *,
    local_ip: Callable[[], str] | None = None,
) -> tuple[BrokerConfig, list[str]]:
    """Read the configuration of a broker.

    Args:
        path: a broker.conf, or None for none.
        overrides: upstream key -> text, from the command line.
        env: environment variables.
        local_ip: where the default of brokerIP1 comes from.

    Returns:
        The configuration and the warnings, each one sentence with its place.

    Raises:
        CallerError: the file cannot be read, or anything in it is wrong; one line for each.
    """
    reading = read_config(path, overrides, env, local_ip=local_ip)
    if reading.problems:
        raise CallerError("\n".join(reading.problems))
    return reading.config, reading.warnings


def read_config(
    path: Path | None,
    overrides: Mapping[str, str],
    env: Mapping[str, str],
    *,
    local_ip: Callable[[], str] | None = None,
) -> Reading:
    """The same, with what is wrong in the answer; defaults stand for values that are unreadable.

    Raises:
        CallerError: the file cannot be read at all.
    """
    entries, unreadable = _file_entries(path)
    if env.get("NAMESRV_ADDR") and not any(e.name == "namesrvAddr" and e.text for e in entries):
        entries.append(Written("namesrvAddr", env["NAMESRV_ADDR"], "environment NAMESRV_ADDR"))
    entries += [Written(name, value, COMMAND_LINE) for name, value in overrides.items()]
    reader = _Reader(in_group=_wants_group(entries))
    for entry in entries:
        reader.take(entry)
    config = _completed(reader.result(env), local_ip or first_address)
    problems = unreadable + reader.problems + check_kind(config, reader.place, reader.broken)
    warnings = reader.warnings + remarks(config, reader.readable())
    # Between keys that are each right by themselves.
    if not problems:
        problems, more = check_rest(config, reader.place)
        warnings += more
    return Reading(config, problems, warnings, reader.place)


def _file_entries(path: Path | None) -> tuple[list[Written], list[str]]:
    """The settings of a file, and what is wrong with lines that are none."""
    if path is None:
        return [], []
    try:
        content = path.read_bytes()
    except OSError as e:
        raise CallerError(f"{path}: cannot be read: {e.strerror}. Check the path after -c") from e
    found, problems = parse_all(content, str(path))
    return [
        Written(p.key, p.value, f"{path}:{p.line}", comment_above(content, p.line)) for p in found
    ], problems


def _wants_group(entries: list[Written]) -> bool:
    """Which kind of broker it is: the last word counts. Known first, for keys acting in one."""
    said = [e.text for e in entries if e.name == "enableDLegerCommitLog"]
    return bool(said) and said[-1].lower() == "true"


def _completed(config: BrokerConfig, local_ip: Callable[[], str]) -> BrokerConfig:
    """With the defaults that are found out at the start, and upstream's rule for masters."""
    own_name = config.dleger_group if config.in_group else host_name()
    config = replace(
        config,
        broker_name=config.broker_name or own_name,
        broker_ip1=config.broker_ip1 or local_ip(),
        ha_listen_port=config.ha_listen_port or config.listen_port + 1,
        mapped_file_size_consume_queue=_whole_units(config.mapped_file_size_consume_queue),
    )
    if config.in_group or config.broker_role == "SLAVE" or config.broker_id == 0:
        return config
    sources = {name: place for name, place in config.sources.items() if name != "broker_id"}
    return replace(config, broker_id=0, sources=sources)


class _Reader:
    """Collects typed values, how they are written, and everything there is to complain about."""

    def __init__(self, *, in_group: bool) -> None:
        self.warnings: list[str] = []
        self.problems: list[str] = []
        # By field name; `broken` ones have no value.
        self.written: dict[str, Written] = {}
        self.broken: set[str] = set()
        self._in_group = in_group
        self._values: dict[str, object] = {}
        self._inert: dict[str, Written] = {}

    def place(self, field_name: str) -> str:
        """Where the field was set, or that it was not."""
        found = self.written.get(field_name)
        return found.place if found else NOWHERE

    def readable(self) -> dict[str, Written]:
        """How the fields with a value are written."""
        return {name: w for name, w in self.written.items() if name in self._values}

    def take(self, entry: Written) -> None:
        """Read one key; the command line is meant to set one again."""
        field_name = _FIELD_OF.get(entry.name)
        if field_name is None:
            self._take_other(entry)
            return
        before = self.written.get(field_name)
        if before and before.text and entry.place != COMMAND_LINE:
            self.warnings.append(
                f"{entry.place}: key {entry.name} was set before at {before.place};"
                " the last one counts. Remove one of them"
            )
        self._read(field_name, entry)

    def _take_other(self, entry: Written) -> None:
        if not entry.text and entry.name in INERT:
            return  # as `mqbroker -p` prints it
        self._inert[entry.name] = entry
        if entry.name in INERT:
            self._note_idle(entry, INERT[entry.name])
        else:
            near = closest(entry.name, [*_FIELD_OF, *INERT])
            self.warnings.append(unknown_key(entry.place, entry.name, near))

    def _read(self, field_name: str, entry: Written) -> None:
        k = KEYS[field_name]
        self._values.pop(field_name, None)
        self.broken.discard(field_name)
        self.written[field_name] = entry
        if not entry.text and k.read in _MAY_BE_EMPTY:
            return  # as if it were not there; a required one is missed later
        try:
            if not entry.text:
                raise ValueError("has no value. Write one after the '=', or remove the line")
            self._values[field_name] = k.read(entry.text)
        except ValueError as e:
            self.problems.append(f"{entry.place}: {entry.name} {e}{_more_about(k, entry, str(e))}")
            self.broken.add(field_name)
            return
        self._note_idle(entry, k.idle)

    def _note_idle(self, entry: Written, idle: Idle) -> None:
        reason = idle.reason(in_group=self._in_group)
        if reason:
            self.warnings.append(f"{entry.place}: key {entry.name} has no effect here: {reason}")

    def result(self, env: Mapping[str, str]) -> BrokerConfig:
        """The configuration as written."""
        places = {name: w.place for name, w in self.readable().items()}
        places |= {name: w.place for name, w in self._inert.items()}
        home = env.get("LEDGERMQ_USER_HOME")
        if home and "store_path_root_dir" not in self._values:
            self._values["store_path_root_dir"] = Path(home) / "store"
            places["store_path_root_dir"] = "environment LEDGERMQ_USER_HOME"
        inert = {name: w.text for name, w in self._inert.items()}
        return BrokerConfig(**self._values, inert=inert, sources=places)  # type: ignore[arg-type]


def _more_about(k: Key, entry: Written, error: str) -> str:
    """What helps with a value that cannot be read, beyond its reader's sentence."""
    if "full-width" in error:
        return ""
    unit = f". It counts {k.unit}" if k.unit and "whole number" in error else ""
    return unit + hint(entry.text)


def _whole_units(size_bytes: int) -> int:
    return -(-size_bytes // QUEUE_UNIT_BYTES) * QUEUE_UNIT_BYTES


def first_address() -> str:
    """The address this machine would call from, else 127.0.0.1; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def host_name() -> str:
    """This machine's name, upstream's default of brokerName."""
    return socket.gethostname() or "DEFAULT_BROKER"


def all_items(config: BrokerConfig) -> list[str]:
    """`key=value` of every key, sorted; one without effect has the value that was set, or none."""
    return [f"{name}={value}" for name, value, _ in _items(config)]


def items_to_print(config: BrokerConfig, *, important: bool = False) -> list[str]:
    """`key=value  # source` of every key (`mqbroker -p`), a configuration file again.

    `important`: only of those that decide who and where this broker is (`mqbroker -m`).
    """
    names = {k.name for k in KEYS.values() if k.important}
    return [with_source(*item) for item in _items(config) if not important or item[0] in names]


def _items(config: BrokerConfig) -> list[tuple[str, str, str]]:
    """(key, value, source), sorted."""
    sources = config.sources
    found = dict.fromkeys(INERT, ("", NO_EFFECT))
    found |= {name: (text, sources.get(name, DEFAULT)) for name, text in config.inert.items()}
    for field_name, k in KEYS.items():
        text = v.show(getattr(config, field_name))
        found[k.name] = text, sources.get(field_name, DEFAULT)
    return [(name, text, source) for name, (text, source) in sorted(found.items())]
