"""Writes docs/config.md from the tables of keys: `python -m ledgermq.broker.config_docs`."""

import sys
from collections.abc import Iterator

from .config import KEYS
from .config_fields import BrokerConfig
from .config_inert import INERT
from .config_keys import Idle, Key
from .config_values import show

_HEAD = """# Configuration of a broker

This page is made from the code: `python -m ledgermq.broker.config_docs > docs/config.md`.

`mqbroker -c broker.conf` reads lines of the form `key = value`. A line that begins with `#` or `!`
is a comment; behind a value there is none. Blanks around keys and values do not count. Lists are
separated by `;` alone, without blanks. Keys have RocketMQ's names, so a file written for it can be
used as it is.

A key counts from the command line (`-n host:port` sets `namesrvAddr`), else from the file, else
from the environment, else as its default. `mqbroker -p` prints all keys and `-m` the important
ones, each with where its value is from, `fileReservedTime=48  # broker.conf:12`; what they print
can be used as a file. An unknown key, and one without an effect, warns at the start with its file
and line. A wrong value stops the start, with the file, the line and what to write.

There are two kinds of broker. `enableDLegerCommitLog=false`, the default, is a **plain** one: a
master of its own; nothing is required. `true` is a node of a DLedger **group**: `dLegerGroup`,
`dLegerPeers` and `dLegerSelfId` are required. `conf/broker.conf` and `conf/dledger/broker-n0.conf`
show a whole file of each.

`mqbroker --check -c broker.conf` looks for mistakes in the file and on this machine (folders,
addresses, ports) and says how to mend each, without a start. It ends with exit code 0, or 1 when a
start would fail.
"""
_OURS = """
## Keys of ledgermq's own

RocketMQ has no such keys.
"""
_WITHOUT = """
## Keys without effect

RocketMQ knows these keys, and files that carry them are accepted. Where one changes nothing, it
warns at the start. `acts`: it has an effect there, see above.

| Key | Why not in a group | Why not in a plain broker |
|---|---|---|
"""
_COLUMNS = "\n| Key | Acts in | Default | Unit | Meaning |\n|---|---|---|---|---|\n"


def render() -> str:
    """The whole page."""
    return "".join(
        (
            _HEAD,
            "\n## Keys with an effect\n",
            _COLUMNS,
            *_rows(ours=False),
            _OURS,
            _COLUMNS,
            *_rows(ours=True),
            _WITHOUT,
            *_inert_rows(),
        )
    )


def _rows(*, ours: bool) -> Iterator[str]:
    defaults = BrokerConfig()
    for field_name, k in KEYS.items():
        kinds = _acts_in(k.idle)
        if k.ours == ours and kinds:
            default = k.default or f"`{show(getattr(defaults, field_name)) or ' '}`"
            default = default.replace("` `", "none")
            yield f"| {_name(k)} | {kinds} | {default} | {k.unit} | {k.doc} |\n"


def _acts_in(idle: Idle) -> str:
    """The kinds of broker in which a key acts, "" for none."""
    kinds = [name for name, reason in zip(idle._fields, idle, strict=True) if not reason]
    return "both" if len(kinds) == len(idle) else "".join(kinds)


def _name(k: Key) -> str:
    also = "".join(f", also `{alias}`" for alias in k.aliases)
    return f"`{k.name}`{also}"


def _inert_rows() -> Iterator[str]:
    reasons = INERT | {k.name: k.idle for k in KEYS.values() if any(k.idle)}
    for name in sorted(reasons):
        group, plain = reasons[name]
        # The same reason for both stands once; the second cell says so.
        why_plain = "the same" if plain == group else plain or "acts"
        yield f"| `{name}` | {group or 'acts'} | {why_plain} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())
