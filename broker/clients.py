"""Who is connected: producers and consumers by group, as their heartbeats tell.

Pure: time comes in as `now_ms` of one steady clock, connections are opaque keys. The table is this
node's own: clients tell every broker they know about. Source: broker-behaviour §7.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ledgermq.remoting.bodies.heartbeat import ConsumerData, HeartbeatData, SubscriptionData

# A connection: anything hashable, only ever handed back.
C = TypeVar("C", bound=Hashable)


@dataclass(slots=True)
class Member:
    """A client in a group.

    Attributes:
        client_id: as the client names itself.
        address: "ip:port" of the client.
        language: of the client, as its commands say.
        version: ordinal of the client's version.
        last_seen_ms: last heartbeat, on the clock of `now_ms`.
    """

    client_id: str
    address: str
    language: str
    version: int
    last_seen_ms: int


@dataclass(slots=True)
class ConsumerGroup(Generic[C]):
    """What is known of a consumer group from its members, by connection.

    Attributes:
        subscriptions: by topic; the newest version any member sent.
        consume_type: CONSUME_PASSIVELY (push), CONSUME_ACTIVELY (pull) or CONSUME_POP.
    """

    members: dict[C, Member] = field(default_factory=dict)
    subscriptions: dict[str, SubscriptionData] = field(default_factory=dict)
    consume_type: str = "CONSUME_PASSIVELY"
    message_model: str = "CLUSTERING"
    consume_from_where: str = "CONSUME_FROM_LAST_OFFSET"


@dataclass(slots=True)
class HeartbeatChange:
    """What a heartbeat, a leaving client or silence changed.

    Attributes:
        changed_groups: consumer groups whose members or topics differ now: tell the members.
        resend: the client kept back subscriptions that are not known here: it must send all.
    """

    changed_groups: list[str] = field(default_factory=list)
    resend: bool = False


class ClientTable(Generic[C]):
    """Producer and consumer groups with their live members."""

    def __init__(self) -> None:
        self._consumers: dict[str, ConsumerGroup[C]] = {}
        self._producers: dict[str, dict[C, Member]] = {}

    # --- reading ------------------------------------------------------------------------------

    def consumer_group(self, group: str) -> ConsumerGroup[C] | None:
        """The group as its members tell; None when none is connected."""
        return self._consumers.get(group)

    def consumer_ids(self, group: str) -> list[str]:
        """Client ids of a consumer group, sorted, each once."""
        known = self._consumers.get(group)
        return sorted({m.client_id for m in known.members.values()}) if known else []

    def consumer_connections(self, group: str) -> list[C]:
        """Connections of a consumer group's members."""
        known = self._consumers.get(group)
        return list(known.members) if known else []

    def find_consumer(self, group: str, client_id: str) -> C | None:
        """The newest connection of one consumer; None when it is not connected."""
        known = self._consumers.get(group)
        for connection, member in reversed(known.members.items() if known else ()):
            if member.client_id == client_id:
                return connection
        return None

    def producers(self, group: str) -> list[Member]:
        """Members of a producer group; empty when there is none."""
        return list(self._producers.get(group, {}).values())

    def producer_connections(self, group: str) -> list[C]:
        """Connections of a producer group's members."""
        return list(self._producers.get(group, ()))

    def subscription(self, group: str, topic: str) -> SubscriptionData | None:
        """The group's subscription to the topic; None when no member has one."""
        known = self._consumers.get(group)
        return known.subscriptions.get(topic) if known else None

    def groups_of_topic(self, topic: str) -> list[str]:
        """Consumer groups with a live subscription to the topic, sorted."""
        return sorted(name for name, g in self._consumers.items() if topic in g.subscriptions)

    # --- heartbeats ---------------------------------------------------------------------------

    def heartbeat(
        self,
        connection: C,
        data: HeartbeatData,
        *,
        address: str,
        language: str,
        version: int,
        now_ms: int,
    ) -> HeartbeatChange:
        """Take a client's word for its groups; groups it does not name stay as they are."""
        member = Member(data.client_id, address, language, version, now_ms)
        change = HeartbeatChange()
        for producer in data.producer_data_set:
            if producer.group_name:
                self._producers.setdefault(producer.group_name, {})[connection] = member
        keep = bool(data.heartbeat_fingerprint) and data.without_sub
        for consumer in data.consumer_data_set:
            if consumer.group_name:
                self._consume(connection, member, consumer, keep, change)
        return change

    def _consume(
        self,
        connection: C,
        member: Member,
        data: ConsumerData,
        keep: bool,
        change: HeartbeatChange,
    ) -> None:
        group = self._consumers.setdefault(data.group_name, ConsumerGroup())
        before = group.members.get(connection)
        is_changed = before is None or before.client_id != member.client_id
        group.members[connection] = member
        group.consume_type = data.consume_type
        group.message_model = data.message_model
        group.consume_from_where = data.consume_from_where
        if keep:
            # The short form names no topics: right only for a client whose topics are known.
            change.resend |= is_changed or not group.subscriptions
        else:
            is_changed |= _subscribe(group, data.subscription_data_set)
        if is_changed and data.group_name not in change.changed_groups:
            change.changed_groups.append(data.group_name)

    # --- leaving ------------------------------------------------------------------------------

    def unregister(
        self,
        connection: C,
        producer_group: str | None = None,
        consumer_group: str | None = None,
    ) -> HeartbeatChange:
        """A client leaves the groups it names."""
        if producer_group:
            self._drop_producer(producer_group, connection)
        if consumer_group and self._drop_consumer(consumer_group, connection):
            return HeartbeatChange([consumer_group])
        return HeartbeatChange()

    def connection_closed(self, connection: C) -> HeartbeatChange:
        """A client is gone with its connection."""
        for name in list(self._producers):
            self._drop_producer(name, connection)
        changed = [n for n in list(self._consumers) if self._drop_consumer(n, connection)]
        return HeartbeatChange(changed)

    def expire(self, now_ms: int, timeout_ms: int) -> tuple[HeartbeatChange, list[C]]:
        """Drop members that have been silent.

        Args:
            now_ms: on the clock of the heartbeats.
            timeout_ms: longest silence.

        Returns:
            What changed, and the connections of the dropped, which the caller closes.
        """
        limit_ms = now_ms - timeout_ms
        change = HeartbeatChange()
        silent: dict[C, None] = {}
        for name, members in list(self._producers.items()):
            for connection in _silent(members, limit_ms):
                silent[connection] = None
                self._drop_producer(name, connection)
        for name, group in list(self._consumers.items()):
            for connection in _silent(group.members, limit_ms):
                silent[connection] = None
                self._drop_consumer(name, connection)
                if name not in change.changed_groups:
                    change.changed_groups.append(name)
        return change, list(silent)

    def _drop_producer(self, name: str, connection: C) -> None:
        members = self._producers.get(name, {})
        members.pop(connection, None)
        if not members:
            self._producers.pop(name, None)

    def _drop_consumer(self, name: str, connection: C) -> bool:
        """Whether the connection was in the group; an empty group goes with its subscriptions."""
        group = self._consumers.get(name)
        if group is None or group.members.pop(connection, None) is None:
            return False
        if not group.members:
            del self._consumers[name]
        return True


def _silent(members: dict[C, Member], limit_ms: int) -> list[C]:
    return [c for c, member in members.items() if member.last_seen_ms < limit_ms]


def _subscribe(group: ConsumerGroup[C], subscriptions: Iterable[SubscriptionData]) -> bool:
    """Take over a full set of subscriptions; whether the set of topics changed.

    A higher version replaces the stored subscription; a topic that is absent goes. So members that
    disagree flap, as with Java brokers.
    """
    named: set[str] = set()
    changed = False
    for subscription in subscriptions:
        named.add(subscription.topic)
        known = group.subscriptions.get(subscription.topic)
        if known is None:
            changed = True
        if known is None or subscription.sub_version > known.sub_version:
            group.subscriptions[subscription.topic] = subscription
    for topic in group.subscriptions.keys() - named:
        del group.subscriptions[topic]
        changed = True
    return changed
