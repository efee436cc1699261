"""The routes in use: cached, refreshed in one request for all who ask, followed to a new leader."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ledgermq.remoting.bodies.route import TopicRouteData
from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError

from .errors import BrokerRefused, ClientError, TopicNotFound
from .nameservers import NameServers
from .route_table import TopicRoute

log = logging.getLogger(__name__)

DEFAULT_TOPIC = "TBW102"
# Queues per broker of a topic that is made by sending to it, unless its template has fewer.
DEFAULT_TOPIC_QUEUES = 4
# While there is no leader the name servers are asked at this pace, doubling up to the slowest.
POLL_FIRST_MS, POLL_SLOWEST_MS = 50, 200
# A leader that just failed is left alone this long, as far as another one can serve.
_SUSPECT_MS = 200
_FETCH_TIMEOUT_MS = 3000
# More than any real topic has; each queue and broker costs an object, a broker a connection too.
_MAX_QUEUES, _MAX_BROKERS = 65_536, 4096


class Routes:
    """The route cache.

    Args:
        names: whom to ask.
        on_change: called with a route that is new or differs from the one before.
    """

    def __init__(self, names: NameServers, on_change: Callable[[TopicRoute], None]) -> None:
        self.names = names
        self._on_change = on_change
        self._routes: dict[str, TopicRoute] = {}
        self._fetching: dict[tuple[str, bool], asyncio.Task[TopicRoute]] = {}
        self._polls: dict[tuple[str, str | None], _LeaderPoll] = {}
        self._suspects: dict[str, int] = {}

    def cached(self, topic: str) -> TopicRoute | None:
        """The route known, without asking."""
        return self._routes.get(topic)

    def forget(self, topic: str) -> None:
        """Drop a route that a broker contradicts."""
        self._routes.pop(topic, None)

    def all(self) -> list[TopicRoute]:
        """Every route known."""
        return list(self._routes.values())

    async def get(
        self, topic: str, timeout_ms: int = _FETCH_TIMEOUT_MS, *, create: bool = False
    ) -> TopicRoute:
        """The route of a topic, asked for if it is not known.

        Args:
            topic: its name.
            timeout_ms: for the name servers.
            create: a topic that does not exist gets a provisional route to the brokers that make
                topics when they are sent to.

        Raises:
            TopicNotFound, NameServerUnreachable: see each.
        """
        route = self._routes.get(topic)
        if route is not None and (create or not route.provisional):
            return route
        return await self.refresh(topic, timeout_ms, create=create)

    async def refresh(
        self,
        topic: str,
        timeout_ms: int = _FETCH_TIMEOUT_MS,
        *,
        create: bool = False,
        move_on: bool = False,
    ) -> TopicRoute:
        """Ask now; whoever asks for the same topic meanwhile shares the answer."""
        key = (topic, create)
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(
                self._fetch(topic, timeout_ms, create=create, move_on=move_on)
            )
            self._fetching[key] = task
            task.add_done_callback(lambda t: self._fetched(key, t))
        return await asyncio.shield(task)

    def suspect(self, address: str) -> None:
        """Note that `address` just failed as a leader."""
        self._suspects[address] = mono_ms() + _SUSPECT_MS

    def is_suspect(self, address: str) -> bool:
        """True shortly after a failure: prefer another one."""
        until_ms = self._suspects.get(address)
        if until_ms is None:
            return False
        if mono_ms() < until_ms:
            return True
        del self._suspects[address]
        return False

    async def leader_back(self, topic: str, broker_name: str | None, timeout_ms: int) -> str | None:
        """Wait until there is a leader worth trying; all who wait share one poll.

        Args:
            topic: its route is asked for at once.
            broker_name: the one group whose leader is meant; None means any of the topic's.
            timeout_ms: how long to wait.

        Returns:
            None when there is one; else, after the timeout, what the last look showed.
        """
        key = (topic, broker_name)
        poll = self._polls.get(key)
        if poll is None:
            poll = self._polls[key] = _LeaderPoll(lambda p: self._poll(topic, broker_name, p))
            poll.task.add_done_callback(lambda _: self._polls.pop(key, None))
        poll.waiting += 1
        task = poll.task
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await asyncio.shield(task)
        except TimeoutError:
            return poll.seen
        finally:
            poll.waiting -= 1
        return None

    async def close(self) -> None:
        """Stop asking."""
        tasks = [*(poll.task for poll in self._polls.values()), *self._fetching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, topic: str, broker_name: str | None, poll: "_LeaderPoll") -> None:
        pause_ms = POLL_FIRST_MS
        while poll.waiting:
            try:
                route = await self.refresh(topic, create=True, move_on=True)
            except ClientError as e:
                poll.seen = str(e)
            else:
                any_group = {q.broker_name for q in route.write_queues}
                groups = {broker_name} if broker_name else any_group
                masters = [route.master(group) for group in groups]
                if any(m and not self.is_suspect(m) for m in masters):
                    return
                named = ", ".join(m for m in masters if m)
                poll.seen = f"the route names no leader of {', '.join(sorted(groups))}"
                if named:
                    poll.seen = f"the route still names {named}"
            await asyncio.sleep(pause_ms / 1000)
            pause_ms = min(2 * pause_ms, POLL_SLOWEST_MS)

    async def _fetch(
        self, topic: str, timeout_ms: int, *, create: bool, move_on: bool
    ) -> TopicRoute:
        try:
            body = await self.names.route(topic, timeout_ms, move_on=move_on)
        except TopicNotFound as e:
            known = self._routes.get(topic)
            if known is not None and not known.provisional:
                # Its brokers are between two registrations; a deleted topic is refused by them.
                return known
            if not create:
                raise
            return self._keep(await self._provisional(topic, timeout_ms, e))
        return self._keep(TopicRoute.from_data(topic, self._decode(body)))

    async def _provisional(self, topic: str, timeout_ms: int, missing: TopicNotFound) -> TopicRoute:
        try:
            body = await self.names.route(DEFAULT_TOPIC, timeout_ms)
        except TopicNotFound:
            raise missing from None
        return TopicRoute.from_data(
            topic, self._decode(body), provisional_queues=DEFAULT_TOPIC_QUEUES
        )

    def _decode(self, body: bytes) -> TopicRouteData:
        try:
            data = TopicRouteData.decode(body)
            _check_size(data)
        except PeerError as e:
            raise BrokerRefused(f"name server of {self.names.text}", e.code, e.remark) from e
        return data

    def _keep(self, route: TopicRoute) -> TopicRoute:
        old = self._routes.get(route.topic)
        self._routes[route.topic] = route
        if not route.same_as(old):
            self._on_change(route)
        return route

    def _fetched(self, key: tuple[str, bool], task: asyncio.Task[TopicRoute]) -> None:
        self._fetching.pop(key, None)
        # Whoever asked gets the error; one who was cancelled meanwhile does not.
        if not task.cancelled() and (error := task.exception()):
            log.debug("route of %s: %s", key[0], error)


def _check_size(data: TopicRouteData) -> None:
    queues = sum(max(q.read_queue_nums, q.write_queue_nums, 0) for q in data.queue_datas)
    brokers = sum(len(b.broker_addrs) for b in data.broker_datas)
    if queues > _MAX_QUEUES or brokers > _MAX_BROKERS:
        raise PeerError(
            ResponseCode.SYSTEM_ERROR,
            f"a route of {queues} queues and {brokers} brokers is over the limits of {_MAX_QUEUES}"
            f" and {_MAX_BROKERS}",
        )


class _LeaderPoll:
    """One poll for a leader, and how many wait for it."""

    def __init__(self, work: Callable[["_LeaderPoll"], Coroutine[Any, Any, None]]) -> None:
        self.waiting = 0
        self.seen = "no answer from a name server yet"
        self.task = asyncio.get_running_loop().create_task(work(self))
