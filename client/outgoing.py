"""From what an application gives to what travels: checks, properties, compression. Pure."""

import re
from collections.abc import Iterable, Mapping

from ledgermq.remoting.errors import CallerError
from ledgermq.remoting.message import (
    Message,
    PropertyName,
    compress_body,
    encode_properties,
)

from .errors import InvalidArgument

MAX_BODY_BYTES = 4 << 20
MAX_PROPERTIES_BYTES = 32767
MAX_TOPIC_CHARS = 127
# Smaller bodies are not worth the time; upstream's compressMsgBodyOverHowmuch.
COMPRESS_FROM_BYTES = 4096

_TOPIC = re.compile(r"[%|a-zA-Z0-9_-]+")
_GROUP = _TOPIC
_MAX_GROUP_CHARS = 120
_RESERVED = frozenset(
    value for name, value in vars(PropertyName).items() if not name.startswith("_")
)


class Outgoing:
    """One message, ready for a request header.

    Attributes:
        body: as it travels, maybe compressed.
        sys_flag: says whether it is.
        properties: as text, with the id.
    """

    __slots__ = ("body", "flag", "msg_id", "properties", "sys_flag", "topic")

    def __init__(
        self, topic: str, body: bytes, flag: int, sys_flag: int, properties: str, msg_id: str
    ) -> None:
        self.topic = topic
        self.body = body
        self.flag = flag
        self.sys_flag = sys_flag
        self.properties = properties
        self.msg_id = msg_id


def make_message(
    topic: str | Message,
    body: bytes | str | Message | None,
    *,
    tag: str | None,
    keys: str | Iterable[str] | None,
    properties: Mapping[str, str] | None,
    delay_level: int,
) -> Message:
    """The message meant by the arguments of `Producer.send`.

    Raises:
        InvalidArgument: a message *and* its parts were given, or no body.
    """
    whole = topic if isinstance(topic, Message) else body if isinstance(body, Message) else None
    if whole is not None:
        if tag or keys or properties or delay_level:
            raise InvalidArgument(
                "a Message comes with its own tag, keys, properties and delay level",
                "Set them on the Message",
            )
        return whole
    if body is None or isinstance(topic, Message) or isinstance(body, Message):
        raise InvalidArgument("a message without a body", "Give bytes or a str as the body")
    return Message(
        topic,
        body.encode() if isinstance(body, str) else bytes(body),
        tag=tag or "",
        keys=[keys] if isinstance(keys, str) else list(keys or ()),
        properties=dict(properties or {}),
        delay_level=delay_level,
    )


def prepare(message: Message, msg_id: str, *, compress: bool = True) -> Outgoing:
    """Check a message and turn it into what travels.

    Raises:
        InvalidArgument: the broker would refuse it.
    """
    check_topic(message.topic)
    body, sys_flag = message.body, 0
    if not body:
        raise InvalidArgument(
            f"message for topic {message.topic} has an empty body", "Give it at least one byte"
        )
    if len(body) > MAX_BODY_BYTES:
        raise InvalidArgument(
            f"body of {len(body)} bytes is over the limit of {MAX_BODY_BYTES}",
            "Send it in parts, or send a reference to where it lies",
        )
    if compress and len(body) >= COMPRESS_FROM_BYTES:
        body, sys_flag = compress_body(body, 0)
    return Outgoing(
        message.topic, body, message.flag, sys_flag, _properties(message, msg_id), msg_id
    )


def _properties(message: Message, msg_id: str) -> str:
    if message.properties and (taken := _RESERVED & message.properties.keys()):
        raise InvalidArgument(
            f"property name {min(taken)!r} has a meaning to brokers",
            "Choose another name, or the argument made for it (tag=, keys=, delay_level=)",
        )
    for key in message.keys:
        if not key or any(c.isspace() for c in key):
            raise InvalidArgument(
                f"key {key!r} is empty or holds a blank, which separates keys",
                "Write keys without blanks",
            )
    found = message.all_properties()
    found[PropertyName.UNIQ_KEY] = msg_id
    found[PropertyName.WAIT] = "true"
    try:
        text = encode_properties(found)
    except CallerError as e:
        raise InvalidArgument(str(e), "Take the character out") from e
    if len(text) * 4 > MAX_PROPERTIES_BYTES and len(text.encode()) > MAX_PROPERTIES_BYTES:
        raise InvalidArgument(
            f"properties of {len(text.encode())} bytes are over the limit of"
            f" {MAX_PROPERTIES_BYTES}",
            "Move large values into the body",
        )
    return text


def check_topic(topic: str) -> None:
    """Refuse a topic name that brokers refuse.

    Raises:
        InvalidArgument: empty, too long, or a character outside % | a-z A-Z 0-9 _ -.
    """
    if len(topic) > MAX_TOPIC_CHARS or not _TOPIC.fullmatch(topic):
        raise InvalidArgument(
            f"{topic!r} is no topic name",
            f"Use 1 to {MAX_TOPIC_CHARS} of the characters a-z A-Z 0-9 _ - % |",
        )


def check_group(group: str) -> None:
    """Refuse a group name that brokers refuse.

    Raises:
        InvalidArgument: as `check_topic`.
    """
    if len(group) > _MAX_GROUP_CHARS or not _GROUP.fullmatch(group):
        raise InvalidArgument(
            f"{group!r} is no group name",
            f"Use 1 to {_MAX_GROUP_CHARS} of the characters a-z A-Z 0-9 _ - % |",
        )
