# ruff: noqa: RUF012 (msgspec gives every instance an empty list or dict of its own)
"""What a client tells a broker about itself, every 30 seconds."""

from typing import ClassVar, cast

import msgspec

from .base import Body

# C++ clients send these by position; the names are Java's.
_ENUMS = {
    "consumeType": ("CONSUME_ACTIVELY", "CONSUME_PASSIVELY", "CONSUME_POP"),
    "messageModel": ("BROADCASTING", "CLUSTERING"),
    "consumeFromWhere": (
        "CONSUME_FROM_LAST_OFFSET",
        "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        "CONSUME_FROM_MIN_OFFSET",
        "CONSUME_FROM_MAX_OFFSET",
        "CONSUME_FROM_FIRST_OFFSET",
        "CONSUME_FROM_TIMESTAMP",
    ),
}


class SubscriptionData(Body):
    """A subscribed topic.

    Attributes:
        sub_string: the expression as the user wrote it, "*" for all.
        tags_set: the tags in it.
        code_set: Java hash codes of the tags.
        sub_version: ms since 1970 when the client made it; the higher one counts.
        expression_type: "TAG" or "SQL92".
    """

    topic: str = ""
    sub_string: str = "*"
    tags_set: list[str] = []
    code_set: list[int] = []
    sub_version: int = 0
    class_filter_mode: bool = False
    expression_type: str = "TAG"


class ProducerData(Body):
    """A producer group of the client."""

    group_name: str = ""


class ConsumerData(Body):
    """A consumer group of the client."""

    group_name: str = ""
    consume_type: str = "CONSUME_PASSIVELY"
    message_model: str = "CLUSTERING"
    consume_from_where: str = "CONSUME_FROM_LAST_OFFSET"
    subscription_data_set: list[SubscriptionData] = []
    unit_mode: bool = False


class HeartbeatData(Body):
    """Body of 34.

    Attributes:
        heartbeat_fingerprint: not 0: the second form, which may leave subscriptions out.
        without_sub: the broker is to keep the subscriptions it knows.
    """

    max_bytes: ClassVar[int] = 1 << 18

    client_id: str = msgspec.field(name="clientID", default="")
    producer_data_set: list[ProducerData] = []
    consumer_data_set: list[ConsumerData] = []
    heartbeat_fingerprint: int = 0
    without_sub: bool = False

    @classmethod
    def adapt(cls, tree: object) -> object:
        """Name the enums of C++ clients."""
        if isinstance(tree, dict):
            consumers = tree.get("consumerDataSet")
            for consumer in consumers if isinstance(consumers, list) else []:
                if isinstance(consumer, dict):
                    _name_enums(cast(dict[str, object], consumer))
        return tree


def _name_enums(consumer: dict[str, object]) -> None:
    for field, names in _ENUMS.items():
        value = consumer.get(field)
        if isinstance(value, int) and 0 <= value < len(names):
            consumer[field] = names[value]
