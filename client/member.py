"""A member of a consumer group: shares the queues with the others, pulls its own, commits."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from ledgermq.remoting.bodies.consumer import ConsumerIdList
from ledgermq.remoting.bodies.heartbeat import ConsumerData
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import LedgerMQError, PeerError
from ledgermq.remoting.headers.client import ConsumerListRequest, NotifyConsumerIdsChangedRequest
from ledgermq.remoting.registry import ProcessorRegistry

from .assignment import Assignment, Limits, Received
from .errors import ClientError
from .instance import Instance
from .offset_store import OffsetStore
from .outgoing import check_group
from .queue_calls import QueueCalls, Start, check_start
from .rebalance import allocate
from .result import MessageQueue
from .route_table import MASTER_ID, TopicRoute
from .subscription import parse

log = logging.getLogger(__name__)

REBALANCE_S = 20.0
# The brokers have not all heard of this member, or have no leader: look again soon.
_REBALANCE_RETRY_S = 1.0
COMMIT_S = 5.0
_MEMBERS_TIMEOUT_MS = 3000
_CLOSE_COMMIT_TIMEOUT_MS = 1500


class Options(NamedTuple):
    """How a member reads.

    Attributes:
        start: where a queue begins that the group has never read.
        limits: per queue.
        commit_on_its_own: commit what is acknowledged every 5 s, with pulls and at close.
        active: the application asks for messages, and gives none back.
    """

    start: Start
    limits: Limits
    commit_on_its_own: bool
    active: bool


class Member:
    """One consumer in its group.

    Attributes:
        assignments: the queues that are ours.
        calls: requests about queues.
    """

    def __init__(
        self,
        name: str,
        group: str,
        topics: str | Mapping[str, str],
        nameserver: str | None,
        options: Options,
    ) -> None:
        check_group(group)
        check_start(options.start)
        self.group = group
        self.subscriptions = parse(topics, group, wall_ms(), retries=not options.active)
        self.assignments: dict[MessageQueue, Assignment] = {}
        self._options = options
        self._ready: deque[Received] = deque()
        self._arrived = asyncio.Event()
        self._rebalance_due = asyncio.Event()
        self._offsets = OffsetStore()
        registry = ProcessorRegistry()
        registry.add(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, self._members_changed)
        self.instance = Instance(
            name,
            nameserver,
            consumer_data=self._consumer_data,
            registry=registry,
            on_route=self._route_changed,
            on_failure=self._arrived.set,
        )
        self.calls = QueueCalls(self.instance, group)

    async def start(self, timeout_ms: int) -> None:
        """Join the group.

        Raises:
            NameServerUnreachable: none answered. A topic that is missing is waited for.
        """
        await self.instance.start(self.subscriptions, timeout_ms)
        self._rebalance_due.set()
        self.instance.spawn("rebalance", self._rebalances())
        if self._options.commit_on_its_own:
            self.instance.spawn("commit", self._commits())

    async def close(self) -> None:
        """Commit what is acknowledged, leave the group."""
        if self.instance.transport.closed:
            return
        mine = list(self.assignments.values())
        self.assignments.clear()
        try:
            if self._options.commit_on_its_own:
                await asyncio.gather(*(self._commit_at_close(a) for a in mine))
        finally:
            for assignment in mine:
                assignment.revoke()
            await self.instance.close()
            self._arrived.set()

    # --- messages -----------------------------------------------------------------------------

    async def take(self) -> Received:
        """The next message, waiting for one.

        Raises:
            ClientClosed, BackgroundFailure …: see `Instance.check`.
        """
        while True:
            self.instance.check()
            received = self.take_now()
            if received is not None:
                return received
            self._arrived.clear()
            await self._arrived.wait()

    def take_now(self) -> Received | None:
        """The next message, if one is there."""
        while self._ready:
            received = self._ready.popleft()
            if not received.held.dropped:
                return received
        return None

    def deliver(self, received: Received) -> None:
        """Queue a message for `take`."""
        self._ready.append(received)
        self._arrived.set()

    # --- rebalance ----------------------------------------------------------------------------

    def _members_changed(self, _: Connection, command: RemotingCommand) -> None:
        header = NotifyConsumerIdsChangedRequest.of(command)
        if header.consumer_group == self.group:
            self._rebalance_due.set()

    def _route_changed(self, route: TopicRoute) -> None:
        if route.topic in self.subscriptions:
            self._rebalance_due.set()

    async def _rebalances(self) -> None:
        while True:
            self._rebalance_due.clear()
            complete = await self._rebalance()
            try:
                async with asyncio.timeout(REBALANCE_S if complete else _REBALANCE_RETRY_S):
                    await self._rebalance_due.wait()
            except TimeoutError:
                pass

    async def _rebalance(self) -> bool:
        """Take what is our share now, let go of the rest; False when some share is unknown."""
        complete = True
        for topic in self.subscriptions:
            route = self.instance.routes.cached(topic)
            if route is None:
                continue
            members = await self._members(route)
            if self.instance.client_id not in members:
                complete = False
            if members:
                mine = allocate(route.read_queues, members, self.instance.client_id)
                await self._apply(topic, set(mine))
        return complete

    async def _members(self, route: TopicRoute) -> list[str]:
        """Who is in the group; empty when that cannot be told now."""
        if not route.brokers:
            return []
        group = random.choice(sorted(route.brokers))
        known = self.instance.routes
        avoid = [a for a in route.addresses(masters_only=False) if known.is_suspect(a)]
        address = route.address(group, MASTER_ID, avoid)
        if address is None:
            return []
        ext = ConsumerListRequest(consumer_group=self.group).to_ext()
        command = request(RequestCode.GET_CONSUMER_LIST_BY_GROUP, ext)
        try:
            reply = await self.instance.call(
                "list of consumers", address, command, _MEMBERS_TIMEOUT_MS
            )
            return ConsumerIdList.decode(reply.body).consumer_id_list
        except LedgerMQError as e:
            log.debug("group %s: %s", self.group, e)
            known.suspect(address)
            return []

    async def _apply(self, topic: str, mine: set[MessageQueue]) -> None:
        held = {q for q in self.assignments if q.topic == topic}
        for queue in held - mine:
            await self._let_go(self.assignments.pop(queue))
        for queue in sorted(mine - held):
            self.assignments[queue] = Assignment(
                queue,
                self.subscriptions[topic],
                self.instance,
                self.calls,
                self._options.start,
                self._options.limits,
                self.deliver,
                self._carried_offset,
            )
        if held != mine:
            log.info("group %s: %s: now %d queues", self.group, topic, len(mine))

    async def _let_go(self, assignment: Assignment) -> None:
        """Tell the progress made while the queue was ours; nothing after that."""
        offset = self._committable(assignment) if self._options.commit_on_its_own else None
        assignment.revoke()
        self._offsets.forget(assignment.queue)
        if offset is not None:
            await self.calls.commit_oneway(assignment.queue, offset)

    # --- offsets ------------------------------------------------------------------------------

    def _committable(self, assignment: Assignment) -> int | None:
        return None if assignment.held is None else assignment.held.committable

    def _carried_offset(self, assignment: Assignment) -> int | None:
        """The offset to send along with a pull."""
        return self._committable(assignment) if self._options.commit_on_its_own else None

    async def _commits(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            for queue, assignment in list(self.assignments.items()):
                offset = self._committable(assignment)
                if offset is None or not self._offsets.is_new(queue, offset):
                    continue
                if await self.calls.commit_oneway(queue, offset):
                    self._offsets.sent(queue, offset)

    async def commit_all(self, timeout_ms: int) -> None:
        """Commit the progress of every queue that is ours; returns when the brokers have it.

        Raises:
            NoLeader, BrokerRefused, RequestFailed: the first failure; the others went on.
        """
        self.instance.check()
        outcomes = await asyncio.gather(
            *(self._commit_one(a, timeout_ms) for a in self.assignments.values()),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _commit_one(self, assignment: Assignment, timeout_ms: int) -> None:
        offset = self._committable(assignment)
        if offset is not None and self._offsets.is_new(assignment.queue, offset):
            await self.calls.commit(assignment.queue, offset, timeout_ms)
            self._offsets.sent(assignment.queue, offset)

    async def _commit_at_close(self, assignment: Assignment) -> None:
        offset = self._committable(assignment)
        if offset is None:
            return
        try:
            await self.calls.commit(assignment.queue, offset, _CLOSE_COMMIT_TIMEOUT_MS)
        except (ClientError, PeerError) as e:
            log.warning("%s: offset %d not committed: %s", assignment.queue, offset, e)

    # --- heartbeat ----------------------------------------------------------------------------

    def _consumer_data(self) -> ConsumerData:
        where = {"latest": "CONSUME_FROM_LAST_OFFSET", "earliest": "CONSUME_FROM_FIRST_OFFSET"}
        return ConsumerData(
            group_name=self.group,
            consume_type="CONSUME_ACTIVELY" if self._options.active else "CONSUME_PASSIVELY",
            message_model="CLUSTERING",
            consume_from_where=where.get(str(self._options.start), "CONSUME_FROM_TIMESTAMP"),
            subscription_data_set=[s.to_data() for s in self.subscriptions.values()],
        )
