"""Which broker serves which topic. Pure: the caller brings the time and the connection's identity.

A *member* is one broker address; a *group* is the members under one broker name, at most one per
broker id, the leader under id 0. Queue data belong to a group's name, not to a member: they stay
while any member is left, so that a group between two leaders is still found.

Invariants: every address in a group has an entry in `_members` and the reverse; an address is in
one group under one id; a group has at least one member; a topic has at least one group.

Source of the rules: RouteInfoManager of RocketMQ 4.9 and 5.3; the refusal of an id 0 with a lower
`stateVersion` while its holder lives is design decision 4 (a stale leader's registration cannot
win).
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from ledgermq.remoting.bodies.registration import DataVersion, TopicConfig
from ledgermq.remoting.bodies.route import BrokerData, ClusterInfo, QueueData, TopicRouteData
from ledgermq.remoting.errors import PeerError

LEADER_ID = 0
DEFAULT_EXPIRY_MS = 120_000
PERM_WRITE = 2
PERM_READ_WRITE = 6
# Bits of a topic's topicSysFlag.
FLAG_UNIT = 1
FLAG_UNIT_SUB = 2

_SYSTEM_ERROR = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What one broker says about itself.

    Attributes:
        addr: "ip:port" that clients dial.
        session: identity of the connection it came on; `close_session` takes the same.
        expiry_ms: silence after which the member is dropped.
        version: version of `topics`; its `state_version` is the leader's term.
        enable_acting_master: None from brokers older than 5.0.
    """

    cluster: str
    broker_name: str
    broker_id: int
    addr: str
    session: Hashable
    ha_addr: str = ""
    expiry_ms: int = DEFAULT_EXPIRY_MS
    enable_acting_master: bool | None = None
    version: DataVersion = field(default_factory=DataVersion)
    topics: Mapping[str, TopicConfig] = field(default_factory=dict)


@dataclass(slots=True)
class Member:
    """One live broker address. `deadline_ms` is on the caller's clock."""

    broker_name: str
    broker_id: int
    addr: str
    ha_addr: str
    session: Hashable
    version: DataVersion
    expiry_ms: int
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class RegisterOutcome:
    """How a registration went.

    Attributes:
        accepted: False when a live leader of a higher term holds id 0: nothing was changed.
        first: the address was unknown, or held another id or name: worth a log line.
        master_addr: the live leader's address, for a follower; "" when there is none.
        topics_refused: topics left out because the table is full.
    """

    accepted: bool
    first: bool = False
    master_addr: str = ""
    master_ha_addr: str = ""
    topics_refused: int = 0


@dataclass(slots=True)
class _Group:
    cluster: str
    acting_master: bool | None = None
    addrs: dict[int, str] = field(default_factory=dict)


class RouteTable:
    """The table of one name server.

    Args:
        max_members: bound on broker addresses; a further one is refused.
        max_topics: bound on topics; further ones are left out of a registration.

    Attributes:
        changes: grows with every change of what a route shows.
    """

    def __init__(self, *, max_members: int = 10_000, max_topics: int = 100_000) -> None:
        self.max_members = max_members
        self.max_topics = max_topics
        self.changes = 0
        self._groups: dict[str, _Group] = {}
        self._members: dict[str, Member] = {}
        self._topics: dict[str, dict[str, QueueData]] = {}

    # --- members ------------------------------------------------------------------------------

    def register(
        self, reg: Registration, now_ms: int, *, drop_missing_topics: bool = False
    ) -> RegisterOutcome:
        """Enter or refresh one broker; only an id 0 brings topics.

        Args:
            reg: the registration.
            now_ms: the caller's clock.
            drop_missing_topics: a leader's topics that `reg` does not name lose this group.

        Raises:
            PeerError: `max_members` is reached and the address is a new one.
        """
        if self._is_stale_leader(reg, now_ms):
            return RegisterOutcome(accepted=False)
        before = self._members.get(reg.addr)
        same_role = before is not None and _role(before) == (reg.broker_name, reg.broker_id)
        self._enter(reg, now_ms)
        refused = 0
        if reg.broker_id == LEADER_ID:
            unchanged = same_role and before is not None and before.version == reg.version
            refused = self._take_topics(reg, changed=not unchanged)
            if drop_missing_topics:
                self._drop_topics(reg.broker_name, lambda topic: topic not in reg.topics)
        master = self._leader(reg.broker_name) if reg.broker_id != LEADER_ID else None
        return RegisterOutcome(
            accepted=True,
            first=not same_role,
            master_addr=master.addr if master else "",
            master_ha_addr=master.ha_addr if master else "",
            topics_refused=refused,
        )

    def unregister(self, broker_name: str, addr: str, session: Hashable) -> bool:
        """Drop one broker on its own word, which came on the connection `session`.

        False when it is not entered under that name, or by another connection since: then the
        broker has been started again, and this is the late goodbye of the process before.
        """
        member = self._members.get(addr)
        if member is None or (member.broker_name, member.session) != (broker_name, session):
            return False
        self._remove(addr)
        return True

    def close_session(self, session: Hashable) -> list[Member]:
        """Drop the members whose latest registration came on this connection; return them."""
        gone = [m for m in self._members.values() if m.session == session]
        for member in gone:
            self._remove(member.addr)
        return gone

    def expire(self, now_ms: int) -> list[Member]:
        """Drop the members that were silent for too long; return them."""
        gone = [m for m in self._members.values() if m.deadline_ms < now_ms]
        for member in gone:
            self._remove(member.addr)
        return gone

    def query_version(
        self, addr: str, version: DataVersion, now_ms: int
    ) -> tuple[bool, DataVersion | None]:
        """Compare a broker's version with the stored one: (changed, stored or None if unknown).

        An unchanged one counts as a sign of life.
        """
        member = self._members.get(addr)
        if member is None:
            return True, None
        changed = member.version != version
        if not changed:
            member.deadline_ms = now_ms + member.expiry_ms
        return changed, member.version

    # --- answers ------------------------------------------------------------------------------

    def route(self, topic: str) -> TopicRouteData | None:
        """Queues of the topic and every address of the groups that have them; None if unknown."""
        queues = self._topics.get(topic)
        if queues is None:
            return None
        names = sorted(queues)
        return TopicRouteData(
            queue_datas=[queues[name] for name in names],
            broker_datas=[self._broker_data(name) for name in names],
        )

    def cluster_info(self) -> ClusterInfo:
        """Every group, by name and by cluster."""
        clusters: dict[str, list[str]] = {}
        for name in sorted(self._groups):
            clusters.setdefault(self._groups[name].cluster, []).append(name)
        return ClusterInfo(
            broker_addr_table={name: self._broker_data(name) for name in sorted(self._groups)},
            cluster_addr_table=clusters,
        )

    def member_group(self, broker_name: str) -> BrokerData | None:
        """The addresses of one group by id; None if there is no such group."""
        return self._broker_data(broker_name) if broker_name in self._groups else None

    def topics(self) -> list[str]:
        """Names of all topics, sorted."""
        return sorted(self._topics)

    def topics_of_cluster(self, cluster: str) -> list[str]:
        """Names of the topics that a group of this cluster has, sorted."""
        names = {name for name, group in self._groups.items() if group.cluster == cluster}
        return sorted(t for t, queues in self._topics.items() if not names.isdisjoint(queues))

    def topics_with_flags(self, has: int, lacks: int = 0) -> list[str]:
        """Names of the topics with these topicSysFlag bits on any group, sorted."""
        return sorted(
            topic
            for topic, queues in self._topics.items()
            if any(q.topic_sys_flag & has and not q.topic_sys_flag & lacks for q in queues.values())
        )

    def system_topics(self) -> tuple[list[str], str]:
        """Names of clusters and groups, which are topics too, and the address of one broker."""
        names = {group.cluster for group in self._groups.values()} | self._groups.keys()
        return sorted(names), next(iter(self._members), "")

    # --- an operator's changes ----------------------------------------------------------------

    def wipe_write_perm(self, broker_name: str) -> int:
        """Make every topic of a group read-only until its next changed registration.

        Returns:
            The number of topics it has.
        """
        return self._change_perm(broker_name, lambda perm: perm & ~PERM_WRITE)

    def add_write_perm(self, broker_name: str) -> int:
        """Make every topic of a group readable and writable; return their number."""
        return self._change_perm(broker_name, lambda _: PERM_READ_WRITE)

    def delete_topic(self, topic: str, cluster: str = "") -> bool:
        """Forget a topic, or only the part of it in one cluster; False when there was none.

        A broker that still has it brings it back with its next changed registration.
        """
        queues = self._topics.get(topic, {})
        gone = [n for n in queues if not cluster or self._groups[n].cluster == cluster]
        for name in gone:
            self._drop_queues(topic, name)
        return bool(gone)

    def register_topic(self, topic: str, queues: list[QueueData]) -> int:
        """Enter a topic by hand, on known groups only; return on how many.

        Raises:
            PeerError: `max_topics` is reached and the topic is a new one.
        """
        known = {q.broker_name: q for q in queues if q.broker_name in self._groups}
        if known and not self._has_room_for(topic):
            raise PeerError(
                _SYSTEM_ERROR,
                f"this name server holds {len(self._topics)} topics already;"
                f" raise maxTopics in its configuration to add {topic}",
            )
        if known:
            self.changes += 1
            self._topics.setdefault(topic, {}).update(known)
        return len(known)

    # --- inside -------------------------------------------------------------------------------

    def _is_stale_leader(self, reg: Registration, now_ms: int) -> bool:
        if reg.broker_id != LEADER_ID:
            return False
        holder = self._leader(reg.broker_name)
        return (
            holder is not None
            and holder.addr != reg.addr
            and holder.deadline_ms >= now_ms
            and holder.version.state_version > reg.version.state_version
        )

    def _enter(self, reg: Registration, now_ms: int) -> None:
        before = self._members.get(reg.addr)
        if before is None and len(self._members) >= self.max_members:
            raise PeerError(
                _SYSTEM_ERROR,
                f"register broker failed: this name server holds {len(self._members)} brokers"
                f" already; raise maxBrokers in its configuration to add {reg.addr}",
            )
        group = self._groups.setdefault(reg.broker_name, _Group(reg.cluster))
        if before is not None and _role(before) != (reg.broker_name, reg.broker_id):
            self._vacate(before, keep_group=reg.broker_name)
        displaced = group.addrs.get(reg.broker_id)
        shown = (displaced, group.cluster, group.acting_master)
        if displaced is not None and displaced != reg.addr:
            del self._members[displaced]
        if reg.broker_id == LEADER_ID or not group.addrs:
            group.cluster = reg.cluster
            group.acting_master = reg.enable_acting_master
        group.addrs[reg.broker_id] = reg.addr
        if shown != (reg.addr, group.cluster, group.acting_master):
            self.changes += 1
        self._members[reg.addr] = Member(
            broker_name=reg.broker_name,
            broker_id=reg.broker_id,
            addr=reg.addr,
            ha_addr=reg.ha_addr,
            session=reg.session,
            version=reg.version,
            expiry_ms=reg.expiry_ms,
            deadline_ms=now_ms + reg.expiry_ms,
        )

    def _remove(self, addr: str) -> None:
        self._vacate(self._members[addr])

    def _vacate(self, member: Member, keep_group: str = "") -> None:
        """Take a member out; its group goes with its last one, unless about to be joined."""
        self.changes += 1
        del self._members[member.addr]
        group = self._groups[member.broker_name]
        del group.addrs[member.broker_id]
        if not group.addrs and member.broker_name != keep_group:
            del self._groups[member.broker_name]
            self._drop_topics(member.broker_name, lambda _: True)

    def _take_topics(self, reg: Registration, *, changed: bool) -> int:
        refused = 0
        for topic, config in reg.topics.items():
            if not changed and reg.broker_name in self._topics.get(topic, ()):
                continue
            if not self._has_room_for(topic):
                refused += 1
                continue
            queue = QueueData(
                broker_name=reg.broker_name,
                read_queue_nums=config.read_queue_nums,
                write_queue_nums=config.write_queue_nums,
                perm=config.perm,
                topic_sys_flag=config.topic_sys_flag,
            )
            queues = self._topics.setdefault(topic, {})
            if queues.get(reg.broker_name) != queue:
                self.changes += 1
                queues[reg.broker_name] = queue
        return refused

    def _drop_topics(self, broker_name: str, which: Callable[[str], bool]) -> None:
        for topic in [t for t, q in self._topics.items() if broker_name in q and which(t)]:
            self._drop_queues(topic, broker_name)

    def _drop_queues(self, topic: str, broker_name: str) -> None:
        self.changes += 1
        queues = self._topics[topic]
        del queues[broker_name]
        if not queues:
            del self._topics[topic]

    def _has_room_for(self, topic: str) -> bool:
        return topic in self._topics or len(self._topics) < self.max_topics

    def _change_perm(self, broker_name: str, change: Callable[[int], int]) -> int:
        found = [q[broker_name] for q in self._topics.values() if broker_name in q]
        for queue in found:
            queue.perm = change(queue.perm)
        self.changes += 1
        return len(found)

    def _leader(self, broker_name: str) -> Member | None:
        group = self._groups.get(broker_name)
        addr = group.addrs.get(LEADER_ID) if group else None
        return self._members[addr] if addr else None

    def _broker_data(self, broker_name: str) -> BrokerData:
        group = self._groups[broker_name]
        return BrokerData(
            cluster=group.cluster,
            broker_name=broker_name,
            broker_addrs=dict(sorted(group.addrs.items())),
            enable_acting_master=bool(group.acting_master),
        )


def _role(member: Member) -> tuple[str, int]:
    return member.broker_name, member.broker_id
