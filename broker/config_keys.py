"""What is known about each key of a broker.conf: name, reader, unit, effect.

The keys with an effect are fields of `BrokerConfig`, made by `key()`. The others are in
`config_inert`. Both tables become docs/config.md.
"""

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from .config_values import Reader


class Idle(NamedTuple):
    """Why a key changes nothing, for each kind of broker; "" where it acts.

    Attributes:
        group: a broker in a DLedger group.
        plain: a broker on a plain commitlog.
    """

    group: str = ""
    plain: str = ""

    def reason(self, *, in_group: bool) -> str:
        """Why it changes nothing in this kind of broker, or ""."""
        return self.group if in_group else self.plain


ACTS = Idle()


@dataclass(frozen=True, slots=True)
class Key:
    """One key that a `BrokerConfig` field holds.

    Attributes:
        name: upstream's spelling, or ours for a key upstream lacks.
        read: text -> value; ValueError says what is wrong and what to write.
        doc: one line for docs/config.md; a unit where there is one.
        unit: "ms", "bytes" …, or "".
        default: the default in words, when it is found out at start; else "".
        aliases: older spellings.
        important: shown by `mqbroker -m`.
        idle: where it changes nothing, and why.
        ours: upstream has no such key.
    """

    name: str
    read: Reader
    doc: str
    unit: str = ""
    default: str = ""
    aliases: tuple[str, ...] = ()
    important: bool = False
    idle: Idle = ACTS
    ours: bool = False


def key(
    name: str, read: Reader, value: Any, doc: str, *, factory: bool = False, **more: Any
) -> Any:
    """A dataclass field with its key; `value` is the default, or its maker with `factory`."""
    metadata = {"key": Key(name, read, doc, **more)}
    if factory:
        return field(default_factory=value, metadata=metadata)
    return field(default=value, metadata=metadata)


def keys_of(config_class: type) -> dict[str, Key]:
    """Field name -> key, in the order of the fields."""
    return {f.name: f.metadata["key"] for f in fields(config_class) if "key" in f.metadata}
