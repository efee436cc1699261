"""What can be said about a single value that is readable and yet hardly meant so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .config_fields import BrokerConfig
from .config_store_keys import QUEUE_UNIT_BYTES
from .config_values import wide_characters

# Below this a queue file is so small that somebody took bytes for entries.
_SMALL_QUEUE_FILE_BYTES = 100_000 * QUEUE_UNIT_BYTES
# Names go into topics, file names and tables of mqadmin, as one word.
_NAMES = ("broker_cluster_name", "broker_name", "dleger_group", "region_id")
_NOT_IN_A_NAME = re.compile(r"[\s|,;:()]")
_SOMETHING_OF_DAYS = re.compile(r"[0-9]+ *(?:天|日|days?\b|d\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Written:
    """How a value stands in the file.

    Attributes:
        name: the key, as spelled there.
        text: the value.
        place: file and line.
        comment: the comment lines right above it, or "".
    """

    name: str
    text: str
    place: str
    comment: str = ""


def hint(text: str) -> str:
    """Why a text may not be the value that was meant, as an end of an error; "" for no idea."""
    if wide := wide_characters(text):
        pairs = ", ".join(f"{w!r} for {narrow!r}" for w, narrow in wide.items())
        return f". It holds full-width characters: {pairs}. Type the ASCII ones"
    if re.search(r"\s(?:#|//)", text):
        return ". A comment cannot follow a value: give it a line of its own"
    return ""


def remarks(config: BrokerConfig, written: Mapping[str, Written]) -> list[str]:
    """Warnings about values that were set; `written` has them by field name."""
    found = [_text(name, w) for name, w in written.items() if _is_text(name)]
    for name, check in (
        ("file_reserved_hours", _hours),
        ("mapped_file_size_consume_queue", _queue_file),
        ("broker_role", _role),
        ("broker_id", _id),
    ):
        if name in written:
            found.append(check(config, written[name]))
    return [remark for remark in found if remark]


def _is_text(name: str) -> bool:
    return name in _NAMES or name.startswith(("store_", "abort_"))


def _text(name: str, w: Written) -> str:
    """Names and paths may hold anything; what is likely a slip is told."""
    if reason := hint(w.text):
        return f"{w.place}: {w.name} is {w.text!r}, and all of it counts{reason}"
    if name == "broker_name" and _NOT_IN_A_NAME.search(w.text):
        return (
            f"{w.place}: brokerName is {w.text!r}, several names or a comment? It is taken as one"
            " name. Write a single name, like broker-a"
        )
    if name in _NAMES and _NOT_IN_A_NAME.search(w.text):
        return f"{w.place}: {w.name} is {w.text!r}, taken as one name. Write it as a single word"
    return ""


def _hours(config: BrokerConfig, w: Written) -> str:
    hours = config.file_reserved_hours
    if hours >= 24 and not _SOMETHING_OF_DAYS.search(w.comment):
        return ""
    means = f"{hours / 24:g} days" if hours >= 24 else f"{hours} hours, less than a day"
    return (
        f"{w.place}: {w.name} counts hours: {hours} is {means}. For {hours} days write {hours * 24}"
    )


def _queue_file(config: BrokerConfig, w: Written) -> str:
    size = config.mapped_file_size_consume_queue
    if size >= _SMALL_QUEUE_FILE_BYTES:
        return ""
    entries = size // QUEUE_UNIT_BYTES
    return (
        f"{w.place}: {w.name} counts bytes: {w.text} is {entries:,} entries of {QUEUE_UNIT_BYTES}"
        f" bytes, not {int(w.text):,}. For {int(w.text):,} entries write"
        f" {int(w.text) * QUEUE_UNIT_BYTES}"
    )


def _role(config: BrokerConfig, w: Written) -> str:
    if config.in_group or config.broker_role != "SYNC_MASTER":
        return ""
    return (
        f"{w.place}: brokerRole is SYNC_MASTER, and there are no slaves to wait for: it acts like"
        " ASYNC_MASTER. For several copies of each message use a DLedger group, conf/dledger"
    )


def _id(config: BrokerConfig, w: Written) -> str:
    if config.in_group or w.text == "0" or config.broker_role == "SLAVE":
        return ""
    return (
        f"{w.place}: brokerId is {w.text}, and brokerRole {config.broker_role} makes it 0. Write"
        " brokerId=0, or use a DLedger group for several copies, conf/dledger"
    )
