"""What every producer and consumer has: connections, routes, heartbeats, background jobs."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from itertools import count
from typing import Any

from ledgermq.remoting.bodies.heartbeat import ConsumerData, HeartbeatData, ProducerData
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.errors import LedgerMQError
from ledgermq.remoting.headers.client import UnregisterClientRequest
from ledgermq.remoting.registry import ProcessorRegistry

from .errors import (
    BackgroundFailure,
    BrokerRefused,
    ClientError,
    RequestFailed,
    TopicNotFound,
)
from .ids import client_id
from .nameservers import NameServers
from .route_table import TopicRoute
from .routes import DEFAULT_TOPIC, Routes
from .transport import Transport

log = logging.getLogger(__name__)

HEARTBEAT_S = 30.0
ROUTE_REFRESH_S = 30.0
# Topics that are missing or provisional are looked up more often: somebody waits for them.
MISSING_REFRESH_S = 1.0
# A broker that missed a heartbeat does not know this client: tell it soon.
_HEARTBEAT_RETRY_S = 2.0
_HEARTBEAT_TIMEOUT_MS = 3000
_CLOSE_TIMEOUT_MS = 1000


class Instance:
    """One client in the eyes of the brokers.

    Args:
        name: what errors call it, for example `Producer "pg"`.
        nameserver: see `NameServers`.
        producer_group: sent with heartbeats when given.
        consumer_data: the consumer's part of a heartbeat, when there is a consumer.
        registry: serves what brokers ask.
        on_route: told each route that is new or has changed.
        on_failure: told when a background job has ended by an error.

    Attributes:
        client_id: known once started.
        local_ip: this machine's address as the name server sees it, unless there is a NAT between.
    """

    def __init__(
        self,
        name: str,
        nameserver: str | None,
        *,
        producer_group: str | None = None,
        consumer_data: Callable[[], ConsumerData] | None = None,
        registry: ProcessorRegistry | None = None,
        on_route: Callable[[TopicRoute], None] = lambda _route: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.client_id = ""
        self.local_ip = "127.0.0.1"
        self.transport = Transport(name, registry, self._connection_lost)
        self.names = NameServers(self.transport, nameserver)
        self.routes = Routes(self.names, self._route_changed)
        self._producer_group = producer_group
        self._consumer_data = consumer_data
        self._on_route = on_route
        self._on_failure = on_failure
        self._wanted: set[str] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._failure: BackgroundFailure | None = None
        self._heartbeat_due: set[str] = set()
        self._heartbeat_wake = asyncio.Event()
        self._heartbeat_sent: set[str] = set()

    # --- life ---------------------------------------------------------------------------------

    async def start(self, wanted: Iterable[str] = (), timeout_ms: int = 3000) -> None:
        """Reach a name server, look up the topics wanted, begin the background jobs.

        Raises:
            NameServerUnreachable: none answered. A missing topic is no error here.
        """
        self.transport.open()
        self._wanted = set(wanted)
        try:
            await self._look_up(DEFAULT_TOPIC, timeout_ms)
            for topic in self._wanted:
                await self._look_up(topic, timeout_ms)
        except BaseException:
            await self.transport.drop_connections()
            raise
        self.local_ip = self._find_local_ip()
        self.client_id = client_id(self.local_ip)
        self.spawn("heartbeats", self._heartbeats())
        self.spawn("route refresh", self._refresh_routes())
        self.beat_now()

    async def close(self) -> None:
        """Say goodbye to the brokers that know this client, stop the jobs, close connections."""
        if self.transport.closed:
            return
        jobs = [job for job in self._jobs if job is not asyncio.current_task()]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await self.routes.close()
        if self.client_id:
            consumer = self._consumer_data() if self._consumer_data else None
            header = UnregisterClientRequest(
                client_id=self.client_id,
                producer_group=self._producer_group,
                consumer_group=consumer.group_name if consumer else None,
            )
            goodbyes = [self._goodbye(address, header) for address in self._heartbeat_sent]
            await asyncio.gather(*goodbyes)
        await self.transport.close()

    @property
    def healthy(self) -> bool:
        """Neither closed nor failed."""
        return self._failure is None and not self.transport.closed

    def check(self) -> None:
        """Refuse wrong use, and surface a failed background job.

        Raises:
            ClientClosed, ForkedClient, WrongLoop, BackgroundFailure: see each.
        """
        self.transport.check()
        if self._failure is not None:
            raise self._failure

    def spawn(self, job: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a background job; if it fails, `check` raises from then on."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self.transport.name}: {job}")
        self._jobs.add(task)
        task.add_done_callback(lambda t: self._job_done(job, t))
        return task

    def _job_done(self, job: str, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        log.error("%s: job '%s' failed", self.transport.name, job, exc_info=error)
        if self._failure is None:
            self._failure = BackgroundFailure(job, error)
            self._failure.__cause__ = error
            self._on_failure()

    # --- requests -----------------------------------------------------------------------------

    async def call(
        self, what: str, address: str, command: RemotingCommand, timeout_ms: int
    ) -> RemotingCommand:
        """Ask a broker; the reply is a success.

        Args:
            what: names the request in errors, for example "query offset".
            address: "host:port".
            command: the request.
            timeout_ms: until the reply.

        Raises:
            RequestFailed: no connection, or no answer in time.
            BrokerRefused: any other code than 0.
        """
        try:
            reply = await self.transport.request(address, command, timeout_ms)
        except LedgerMQError as e:
            raise RequestFailed(what, address, e) from e
        if reply.code != ResponseCode.SUCCESS:
            raise BrokerRefused(address, reply.code, reply.remark)
        return reply

    # --- routes -------------------------------------------------------------------------------

    async def _look_up(self, topic: str, timeout_ms: int) -> None:
        try:
            await self.routes.refresh(topic, timeout_ms)
        except TopicNotFound as e:
            log.debug("%s", e)

    async def _refresh_routes(self) -> None:
        ticks_per_round = int(ROUTE_REFRESH_S / MISSING_REFRESH_S)
        for tick in count(1):
            await asyncio.sleep(MISSING_REFRESH_S)
            known = {r.topic: r for r in self.routes.all()}
            topics = {t for t, r in known.items() if r.provisional}
            topics |= self._wanted - known.keys()
            if tick % ticks_per_round == 0:
                topics |= known.keys()
            for topic in topics:
                create = topic in known and known[topic].provisional
                try:
                    await self.routes.refresh(topic, create=create)
                except TopicNotFound as e:
                    log.debug("%s", e)
                except ClientError as e:
                    log.warning("%s: routes not refreshed: %s", self.transport.name, e)
                    break

    def _route_changed(self, route: TopicRoute) -> None:
        new = self._heartbeat_targets() - self._heartbeat_sent - self._heartbeat_due
        if new:
            self._heartbeat_due |= new
            self._heartbeat_wake.set()
        self._on_route(route)

    # --- heartbeats ---------------------------------------------------------------------------

    def beat_now(self) -> None:
        """Send a heartbeat to every broker at once."""
        self._heartbeat_due |= self._heartbeat_targets()
        self._heartbeat_wake.set()

    def _heartbeat_targets(self) -> set[str]:
        targets: set[str] = set()
        for route in self.routes.all():
            targets |= route.addresses(masters_only=self._consumer_data is None)
        return targets

    async def _heartbeats(self) -> None:
        async with asyncio.TaskGroup() as group:
            sending: set[str] = set()
            while True:
                due = (self._heartbeat_due & self._heartbeat_targets()) - sending
                self._heartbeat_due.clear()
                self._heartbeat_wake.clear()
                for address in due:
                    sending.add(address)
                    task = group.create_task(self._beat(address))
                    task.add_done_callback(partial(_discard, sending, address))
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await self._heartbeat_wake.wait()
                except TimeoutError:
                    self._heartbeat_due |= self._heartbeat_targets()

    async def _beat(self, address: str) -> None:
        data = HeartbeatData(
            client_id=self.client_id,
            producer_data_set=(
                [ProducerData(group_name=self._producer_group)] if self._producer_group else []
            ),
            consumer_data_set=[self._consumer_data()] if self._consumer_data else [],
        )
        command = request(RequestCode.HEART_BEAT, body=data.encode())
        try:
            await self.call("heartbeat", address, command, _HEARTBEAT_TIMEOUT_MS)
        except ClientError as e:
            log.debug("%s", e)
            self._heartbeat_sent.discard(address)
            asyncio.get_running_loop().call_later(_HEARTBEAT_RETRY_S, self._beat_again, address)
        else:
            self._heartbeat_sent.add(address)

    def _beat_again(self, address: str) -> None:
        if address in self._heartbeat_targets():
            self._heartbeat_due.add(address)
            self._heartbeat_wake.set()

    def _connection_lost(self, address: str) -> None:
        # A broker forgets the clients of a closed connection.
        if address in self._heartbeat_sent and not self.transport.closed:
            self._heartbeat_sent.discard(address)
            self._beat_again(address)

    async def _goodbye(self, address: str, header: UnregisterClientRequest) -> None:
        if self.transport.peek(address) is None:
            return
        command = request(RequestCode.UNREGISTER_CLIENT, header.to_ext())
        try:
            await self.call("unregister", address, command, _CLOSE_TIMEOUT_MS)
        except ClientError as e:
            log.debug("%s", e)

    def _find_local_ip(self) -> str:
        for address in self.names.text.split(";"):
            connection = self.transport.peek(address)
            if connection is not None:
                return connection.local.rpartition(":")[0]
        return self.local_ip


def _discard(items: set[str], item: str, _task: asyncio.Task[None]) -> None:
    items.discard(item)
