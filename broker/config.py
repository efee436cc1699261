"""The broker's configuration: upstream's `key = value` file -> a typed, frozen object.

Precedence: command line, file, environment, default. Everything wrong is reported at once, each
with its place and the next step; what is merely without effect is a warning.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ledgermq.remoting.errors import CallerError
from ledgermq.remoting.properties import parse

from . import config_values as v
from .config_fields import QUEUE_UNIT_BYTES, BrokerConfig
from .config_keys import INERT, keys_of
from .config_lint import check_group, check_rest, closest, unknown_key

__all__ = ["KEYS", "BrokerConfig", "all_items", "first_address", "important_items", "load_config"]

KEYS = keys_of(BrokerConfig)
_FIELD_OF = {name: field_name for field_name, k in KEYS.items() for name in (k.name, *k.aliases)}
_MAY_BE_EMPTY = {v.text, v.folder, v.addresses, v.peer_id, v.peer_ids, v.peers}


def load_config(
    path: Path | None,
    overrides: Mapping[str, str],
    env: Mapping[str, str],
    *,
    to_print: bool = False,
    local_ip: Callable[[], str] | None = None,
) -> tuple[BrokerConfig, list[str]]:
    """Read the configuration of a broker.

    Args:
        path: a broker.conf, or None for none.
        overrides: upstream key -> text, from the command line.
        env: environment variables.
        to_print: only shown, not run: what is wrong becomes a warning, defaults fill the rest.
        local_ip: where the default of brokerIP1 comes from.

    Returns:
        The configuration and the warnings, each one sentence with its place.

    Raises:
        CallerError: the file cannot be read, or anything in it is wrong; one line for each.
    """
    reading = _Reading()
    for entry in _file_entries(path):
        reading.take(*entry)
    if env.get("NAMESRV_ADDR") and "namesrv_addr" not in reading.values:
        reading.take("namesrvAddr", env["NAMESRV_ADDR"], "environment NAMESRV_ADDR")
    for name, value in overrides.items():
        reading.take(name, value, "command line", repeated=True)
    config = reading.result(env, to_print=to_print)
    config = replace(
        config,
        broker_name=config.broker_name or config.dleger_group,
        broker_ip1=config.broker_ip1 or (local_ip or first_address)(),
        mapped_file_size_consume_queue=_whole_units(config.mapped_file_size_consume_queue),
    )
    if to_print:
        return config, reading.warnings
    problems, warnings = check_rest(config, reading.place)
    if problems:
        raise CallerError("\n".join(problems))
    return config, reading.warnings + warnings


def _file_entries(path: Path | None) -> list[tuple[str, str, str]]:
    """(key, value, place) of each line."""
    if path is None:
        return []
    try:
        content = path.read_bytes()
    except OSError as e:
        raise CallerError(f"{path}: cannot be read: {e.strerror}. Check the path after -c") from e
    return [(p.key, p.value, f"{path}:{p.line}") for p in parse(content, str(path))]


class _Reading:
    """Collects typed values, their places, and everything there is to complain about."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.warnings: list[str] = []
        self._places: dict[str, str] = {}
        self._inert: dict[str, str] = {}
        self._problems: list[str] = []
        self._broken: set[str] = set()

    def place(self, field_name: str) -> str:
        """Where the field was set, or that it was not."""
        return self._places.get(field_name, "configuration")

    def take(self, name: str, value: str, place: str, *, repeated: bool = False) -> None:
        """Read one key; `repeated` says that setting it again is meant."""
        field_name = _FIELD_OF.get(name)
        if field_name is None:
            self._take_other(name, value, place)
            return
        if field_name in self._places and not repeated:
            self.warnings.append(
                f"{place}: key {name} was set before at {self._places[field_name]};"
                " the last one counts. Remove one of them"
            )
        self._places[field_name] = place
        self._read(field_name, name, value, place)

    def _take_other(self, name: str, value: str, place: str) -> None:
        if not value and name in INERT:
            return  # as `mqbroker -p` prints it
        self._inert[name] = value
        if name in INERT:
            self.warnings.append(_no_effect(place, name, INERT[name]))
        else:
            self.warnings.append(unknown_key(place, name, closest(name, [*_FIELD_OF, *INERT])))

    def _read(self, field_name: str, name: str, value: str, place: str) -> None:
        k = KEYS[field_name]
        self.values.pop(field_name, None)
        self._broken.discard(field_name)
        if not value and k.read in _MAY_BE_EMPTY:
            return  # as if it were not there; a required one is missed later
        try:
            if not value:
                raise ValueError("has no value. Write one after the '=', or remove the line")
            self.values[field_name] = k.read(value)
        except ValueError as e:
            self._problems.append(f"{place}: {name} {e}")
            self._broken.add(field_name)
            return
        if k.inert:
            self.warnings.append(_no_effect(place, name, k.inert))

    def result(self, env: Mapping[str, str], *, to_print: bool) -> BrokerConfig:
        """The configuration as written, or one error with all there is to correct."""
        home = env.get("LEDGERMQ_USER_HOME")
        if home and "store_path_root_dir" not in self.values:
            self.values["store_path_root_dir"] = Path(home) / "store"
        config = BrokerConfig(**self.values, inert=self._inert)  # type: ignore[arg-type]
        problems = self._problems + check_group(config, self.place, self._broken)
        if problems and not to_print:
            raise CallerError("\n".join(problems))
        self.warnings.extend(problems)
        return config


def _no_effect(place: str, name: str, reason: str) -> str:
    return f"{place}: key {name} has no effect here: {reason}"


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


def important_items(config: BrokerConfig) -> list[str]:
    """`key=value` of the keys that decide who and where this broker is (`mqbroker -m`)."""
    return [f"{k.name}={v.show(getattr(config, name))}" for name, k in KEYS.items() if k.important]


def all_items(config: BrokerConfig) -> list[str]:
    """`key=value` of every key, sorted; one without effect has the value that was set, or none."""
    known = {k.name: v.show(getattr(config, name)) for name, k in KEYS.items()}
    inert = dict.fromkeys(INERT, "") | dict(config.inert)
    return [f"{name}={value}" for name, value in sorted({**inert, **known}.items())]
