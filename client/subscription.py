"""Subscriptions: `*`, or tags joined by `||`. Pure."""

from collections.abc import Mapping

from ledgermq.remoting.bodies.heartbeat import SubscriptionData
from ledgermq.remoting.message import java_hash

from .errors import InvalidArgument

ALL = "*"
RETRY_PREFIX = "%RETRY%"


class Subscription:
    """What a group reads of one topic.

    Attributes:
        topic: its name.
        expression: as written, "*" for everything.
        tags: the tags wanted; empty means every message.
        version: milliseconds of the subscription; brokers keep the newest of a group.
    """

    def __init__(self, topic: str, expression: str, version: int) -> None:
        if not topic:
            raise InvalidArgument(
                "a subscription without a topic", 'Give a name, for example "TopicTest"'
            )
        self.topic = topic
        self.expression = expression.strip() or ALL
        self.version = version
        parts = () if self.expression == ALL else self.expression.split("||")
        self.tags = frozenset(tag.strip() for tag in parts if tag.strip())
        if self.expression != ALL and not self.tags:
            raise InvalidArgument(
                f"subscription {expression!r} of topic {topic} names no tag",
                'Write "*" for everything, or tags as in "TagA || TagB"',
            )

    def wants(self, tag: str | None) -> bool:
        """True for a message with this tag: brokers compare hashes only, so ask again."""
        return not self.tags or tag in self.tags

    def to_data(self) -> SubscriptionData:
        """As a heartbeat carries it."""
        tags = sorted(self.tags)
        return SubscriptionData(
            topic=self.topic,
            sub_string=self.expression,
            tags_set=tags,
            code_set=[java_hash(tag) for tag in tags],
            sub_version=self.version,
            expression_type="TAG",
        )


def retry_topic(group: str) -> str:
    """Where the broker puts messages that a group gave back."""
    return RETRY_PREFIX + group


def parse(
    topics: str | Mapping[str, str], group: str, version: int, *, retries: bool
) -> dict[str, Subscription]:
    """The subscriptions of a group.

    Args:
        topics: a topic, or topic -> expression.
        group: the consumer group.
        version: see `Subscription.version`.
        retries: add the group's retry topic: it gives messages back.

    Raises:
        InvalidArgument: no topic, or an expression without a tag.
    """
    wanted = {topics: ALL} if isinstance(topics, str) else dict(topics)
    if not wanted:
        raise InvalidArgument(
            f"group {group} subscribes to no topic", 'Name one: {"TopicTest": "*"}'
        )
    if retries:
        wanted.setdefault(retry_topic(group), ALL)
    return {topic: Subscription(topic, text, version) for topic, text in wanted.items()}
