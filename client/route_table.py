"""Routes: which brokers hold a topic, under which addresses, and the next queue to use. Pure."""

from collections.abc import Callable, Collection, Mapping

from ledgermq.remoting.bodies.route import TopicRouteData

from .result import MessageQueue

MASTER_ID = 0
_PERM_READ = 4
_PERM_WRITE = 2


class TopicRoute:
    """The route of one topic, as a name server told it.

    Attributes:
        topic: its name.
        brokers: broker name -> broker id -> "host:port".
        write_queues: queues that take messages, whether or not their group has a leader now.
        read_queues: queues that can be read.
        provisional: True for a topic that does not exist yet: sending creates it.
    """

    def __init__(
        self,
        topic: str,
        brokers: Mapping[str, Mapping[int, str]],
        write_queues: tuple[MessageQueue, ...],
        read_queues: tuple[MessageQueue, ...],
        *,
        provisional: bool = False,
    ) -> None:
        self.topic = topic
        self.brokers = brokers
        self.write_queues = write_queues
        self.read_queues = read_queues
        self.provisional = provisional

    @classmethod
    def from_data(
        cls, topic: str, data: TopicRouteData, *, provisional_queues: int = 0
    ) -> "TopicRoute":
        """Read a name server's answer.

        Args:
            topic: the topic asked for.
            data: the answer; for `provisional_queues` the answer for the default topic.
            provisional_queues: when > 0, the most queues per broker a topic made by sending gets.

        Source: topicRouteData2TopicPublishInfo of RocketMQ 4.9 (min of both numbers).
        """
        brokers = {
            b.broker_name: {int(i): a for i, a in b.broker_addrs.items()} for b in data.broker_datas
        }
        write: list[MessageQueue] = []
        read: list[MessageQueue] = []
        for q in sorted(data.queue_datas, key=lambda q: q.broker_name):
            if q.broker_name not in brokers:
                continue
            count = q.write_queue_nums
            if provisional_queues:
                count = min(provisional_queues, q.read_queue_nums)
            if q.perm & _PERM_WRITE:
                write += [MessageQueue(topic, q.broker_name, i) for i in range(count)]
            if q.perm & _PERM_READ and not provisional_queues:
                read += [MessageQueue(topic, q.broker_name, i) for i in range(q.read_queue_nums)]
        return cls(topic, brokers, tuple(write), tuple(read), provisional=bool(provisional_queues))

    def master(self, broker_name: str) -> str | None:
        """Address of the group's leader, or None when it has none."""
        return self.brokers.get(broker_name, {}).get(MASTER_ID)

    def address(self, broker_name: str, broker_id: int, avoid: Collection[str] = ()) -> str | None:
        """An address to read from: the id wanted, else the next id, else any one.

        Addresses in `avoid` come last. Source: findBrokerAddressInSubscribe of RocketMQ 4.9.
        """
        known = self.brokers.get(broker_name, {})
        order = sorted(known, key=lambda i: (i != broker_id, i != broker_id + 1, i))
        addresses = [known[i] for i in order]
        return next((a for a in addresses if a not in avoid), addresses[0] if addresses else None)

    def addresses(self, *, masters_only: bool) -> set[str]:
        """Every broker address of the topic."""
        return {
            address
            for ids in self.brokers.values()
            for broker_id, address in ids.items()
            if broker_id == MASTER_ID or not masters_only
        }

    def same_as(self, other: "TopicRoute | None") -> bool:
        """True when nothing that matters has changed."""
        return (
            other is not None
            and self.brokers == other.brokers
            and self.write_queues == other.write_queues
            and self.read_queues == other.read_queues
        )


class QueuePicker:
    """The next queue to send to: the first at random, then in turn."""

    def __init__(self, start: int) -> None:
        self._next = start

    def pick(
        self,
        route: TopicRoute,
        avoid_broker: str | None = None,
        suspect: Callable[[str], bool] = lambda _address: False,
    ) -> MessageQueue | None:
        """A queue whose group has a leader, or None when there is none.

        Better ones first: neither the broker that just failed nor a suspect leader.
        """
        queues = route.write_queues
        fallback: MessageQueue | None = None
        for step in range(len(queues)):
            queue = queues[(self._next + step) % len(queues)]
            master = route.master(queue.broker_name)
            if master is None:
                continue
            if queue.broker_name != avoid_broker and not suspect(master):
                self._next += step + 1
                return queue
            fallback = fallback or queue
        self._next += 1
        return fallback
