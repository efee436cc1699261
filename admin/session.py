"""Requests of an operator to name servers and brokers, with errors that say what to do."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Self

from ledgermq.remoting.bodies.route import (
    BrokerData,
    ClusterInfo,
    KVTable,
    TopicList,
    TopicRouteData,
)
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.errors import (
    ConnectError,
    ConnectionLostError,
    LedgerMQError,
    PeerError,
    RequestTimeoutError,
)
from ledgermq.remoting.headers.base import Header
from ledgermq.remoting.headers.namesrv import RouteRequest

from .errors import AdminError, TopicMissingError

DEFAULT_TIMEOUT_MS = 5000
# A dead broker's row should not make an operator wait.
RUNTIME_INFO_TIMEOUT_MS = 2000
LEADER_ID = 0

Unreachable = (ConnectError, ConnectionLostError, RequestTimeoutError)


def parse_name_servers(text: str) -> list[str]:
    """Addresses from "host:port;host:port"; quotes and blanks around them are dropped.

    Raises:
        AdminError: none, or one without a port.
    """
    addresses = [part.strip() for part in text.strip().strip("'\"").split(";") if part.strip()]
    if not addresses:
        raise AdminError(
            "no name server given",
            "Add -n host:port, or set NAMESRV_ADDR. On this machine: -n 127.0.0.1:9876",
        )
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()):
            raise AdminError(
                f"{address!r} is no address of a name server",
                "Write host:port, several joined by ';' and quoted: -n 'h1:9876;h2:9876'",
            )
    return addresses


class Session:
    """Connections for the time of one command; use it as `async with`.

    Args:
        name_servers: "host:port" each; asked in order until one answers.
        timeout_ms: per request.
    """

    def __init__(self, name_servers: Sequence[str], timeout_ms: int = DEFAULT_TIMEOUT_MS) -> None:
        self._name_servers = list(name_servers)
        self._timeout_ms = timeout_ms
        self._client = RemotingClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    @property
    def name_server(self) -> str:
        """The name server that is asked first, for messages."""
        return self._name_servers[0]

    # --- name servers -------------------------------------------------------------------------

    async def ask_name_server(
        self, code: int, header: Header | None = None, body: bytes = b""
    ) -> RemotingCommand:
        """The first answer of a name server.

        Raises:
            AdminError: none can be reached.
            PeerError: it refused.
        """
        problems = []
        for address in list(self._name_servers):
            try:
                answer = await self._client.request(
                    address, _command(code, header, body), self._timeout_ms
                )
            except Unreachable as e:
                problems.append(str(e))
                continue
            self._prefer(address)
            return _checked(answer)
        raise AdminError(
            "no name server can be reached: " + "; ".join(problems),
            "Start one with mqnamesrv, or correct -n (or NAMESRV_ADDR).",
        )

    async def tell_name_servers(self, code: int, header: Header) -> None:
        """Send a change to every name server: they do not tell one another.

        Raises:
            AdminError: one of them did not take it.
        """
        for address in self._name_servers:
            try:
                _checked(
                    await self._client.request(address, _command(code, header), self._timeout_ms)
                )
            except (*Unreachable, PeerError) as e:
                raise AdminError(
                    f"the name server {address} did not take the change: {e}",
                    "Repeat the command when it runs again: the others may have the change.",
                ) from e

    async def cluster_info(self) -> ClusterInfo:
        """All brokers (106)."""
        answer = await self.ask_name_server(RequestCode.GET_BROKER_CLUSTER_INFO)
        return ClusterInfo.decode(answer.body)

    async def topics(self) -> list[str]:
        """Names of all topics (206), sorted."""
        answer = await self.ask_name_server(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER)
        return sorted(TopicList.decode(answer.body).topic_list)

    async def route(self, topic: str) -> TopicRouteData:
        """Where a topic's queues are (105).

        Raises:
            TopicMissingError: the name server does not know it.
        """
        header = RouteRequest(topic=topic, accept_standard_json_only=True)
        try:
            answer = await self.ask_name_server(RequestCode.GET_ROUTEINFO_BY_TOPIC, header)
        except PeerError as e:
            if e.code == ResponseCode.TOPIC_NOT_EXIST:
                raise TopicMissingError(topic, self.name_server) from e
            raise
        return TopicRouteData.decode(answer.body)

    # --- brokers ------------------------------------------------------------------------------

    async def ask_broker(
        self,
        address: str,
        code: int,
        header: Header | None = None,
        body: bytes = b"",
        timeout_ms: int | None = None,
    ) -> RemotingCommand:
        """A broker's answer, whatever its code.

        Raises:
            ConnectError, ConnectionLostError, RequestTimeoutError: no answer.
        """
        return await self._client.request(
            address, _command(code, header, body), timeout_ms or self._timeout_ms
        )

    async def order_broker(
        self, address: str, code: int, header: Header | None = None, body: bytes = b""
    ) -> RemotingCommand:
        """A broker's answer to a request that must succeed.

        Raises:
            AdminError: it cannot be reached, or it refused.
        """
        try:
            return _checked(await self.ask_broker(address, code, header, body))
        except Unreachable as e:
            raise AdminError(
                f"the broker {address} does not answer: {e}",
                f"See which brokers run: mqadmin clusterList -n {self.name_server}",
            ) from e
        except PeerError as e:
            raise AdminError(
                f"the broker {address} refused: {e}",
                f"Check the values of the command, and the log of the broker {address}.",
            ) from e

    async def runtime_infos(
        self, addresses: Sequence[str]
    ) -> dict[str, dict[str, str] | LedgerMQError]:
        """The figures of several brokers (28), asked at once; an error in place of a silent one."""
        found = await asyncio.gather(*(self._runtime_info(address) for address in addresses))
        return dict(zip(addresses, found, strict=True))

    async def _runtime_info(self, address: str) -> dict[str, str] | LedgerMQError:
        try:
            answer = await self.ask_broker(
                address,
                RequestCode.GET_BROKER_RUNTIME_INFO,
                timeout_ms=min(self._timeout_ms, RUNTIME_INFO_TIMEOUT_MS),
            )
            return KVTable.decode(_checked(answer).body).table
        except LedgerMQError as e:
            return e

    def local_ip(self) -> bytes:
        """This machine's IP as the name server sees it: 4 or 16 bytes."""
        connection = self._client.peek(self.name_server)
        host = connection.local.rpartition(":")[0].strip("[]") if connection else "127.0.0.1"
        return ip_address(host).packed

    def _prefer(self, address: str) -> None:
        """Ask the one that answered first next time."""
        self._name_servers.remove(address)
        self._name_servers.insert(0, address)


def reading_address(group: BrokerData) -> str | None:
    """The leader's address, or without one a follower's: it can answer questions too."""
    addresses = group.broker_addrs
    return addresses.get(LEADER_ID) or next(iter(addresses.values()), None)


def _command(code: int, header: Header | None, body: bytes = b"") -> RemotingCommand:
    return request(code, header.to_ext() if header else {}, body)


def _checked(answer: RemotingCommand) -> RemotingCommand:
    if answer.code != ResponseCode.SUCCESS:
        raise PeerError(answer.code, answer.remark or "no reason given")
    return answer
