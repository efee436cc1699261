"""Writes docs/config.md from the tables of keys: `python -m ledgermq.broker.config_docs`."""

import sys
from collections.abc import Iterator

from .config import KEYS
from .config_fields import BrokerConfig
from .config_keys import INERT, Key
from .config_values import show

_HEAD = """# Configuration of a broker

This page is made from the code: `python -m ledgermq.broker.config_docs > docs/config.md`.

`mqbroker -c broker.conf` reads lines of the form `key = value`. A line that begins with `#` or `!`
is a comment; blanks around keys and values do not count. Lists are separated by `;` alone, without
blanks. Keys have RocketMQ's names, so a file written for it can be used as it is.

A key counts from the command line (`-n host:port` sets `namesrvAddr`), else from the file, else
from the environment, else as its default. `mqbroker -p` prints all keys and `-m` the important
ones. An unknown key, and one without an effect, warns at the start with its file and line. A wrong
value stops the start, with the file, the line and what to write.

Required: `enableDLegerCommitLog=true`, `dLegerGroup`, `dLegerPeers` and `dLegerSelfId`;
`conf/dledger/broker-n0.conf` shows a whole file.
"""
_OURS = """
## Keys of ledgermq's own

RocketMQ has no such keys.
"""
_WITHOUT = """
## Keys without effect

RocketMQ knows these keys, and files that carry them are accepted. Each one that is set warns at the
start and changes nothing.

| Key | Why |
|---|---|
"""
_COLUMNS = "\n| Key | Default | Unit | Meaning |\n|---|---|---|---|\n"


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
        if k.ours == ours and not k.inert:
            default = k.default or f"`{show(getattr(defaults, field_name)) or ' '}`"
            yield f"| {_name(k)} | {default.replace('` `', 'none')} | {k.unit} | {k.doc} |\n"


def _name(k: Key) -> str:
    also = "".join(f", also `{alias}`" for alias in k.aliases)
    return f"`{k.name}`{also}"


def _inert_rows() -> Iterator[str]:
    reasons = INERT | {k.name: k.inert for k in KEYS.values() if k.inert}
    for name in sorted(reasons):
        yield f"| `{name}` | {reasons[name]} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())
