"""The name servers: where their addresses come from, and asking one that answers."""

import asyncio
import logging
import os
import random
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.errors import LedgerMQError
from ledgermq.remoting.headers.namesrv import RouteRequest

from .errors import BrokerRefused, InvalidArgument, NameServerUnreachable, TopicNotFound
from .transport import Transport

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "localhost:9876"
ENVIRONMENT_KEY = "NAMESRV_ADDR"
# An endpoint without a path is asked for upstream's path at upstream's port.
_ENDPOINT_PORT, _ENDPOINT_PATH = 8080, "/rocketmq/nsaddr"
_ENDPOINT_REFRESH_MS = 120_000
_ENDPOINT_LIMIT_BYTES = 64 * 1024
# A name server that is silent must not eat the whole deadline while another one would answer.
_MIN_SHARE_MS = 300
# A comma, ASCII or full-width, is the usual slip: it must not become part of a host name.
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def parse_addresses(text: str, source: str) -> list[str]:
    """Split "host:port;host:port".

    Raises:
        InvalidArgument: an entry is no host:port, or there is none.
    """
    addresses = [part.strip() for part in text.split(";") if part.strip()]
    for address in addresses:
        found = _ADDRESS.fullmatch(address)
        if found is None or not 0 < int(found[1]) < 65536:
            raise InvalidArgument(
                f"{address!r} in {source} is no name server address",
                "Write host:port, several joined by ';', for example 10.0.0.1:9876;10.0.0.2:9876",
            )
    if not addresses:
        raise InvalidArgument(
            f"no address in {source}", "Write host:port, for example localhost:9876"
        )
    return addresses


def endpoint_url(text: str) -> str:
    """The full address of an HTTP endpoint: upstream's port and path where none is given."""
    parts = urllib.parse.urlsplit(text)
    if not parts.hostname:
        raise InvalidArgument(f"{text!r} names no host", "Write http://host:8080/rocketmq/nsaddr")
    if parts.path.strip("/"):
        return text
    port = parts.port or _ENDPOINT_PORT
    return f"{parts.scheme}://{parts.hostname}:{port}{_ENDPOINT_PATH}"


class NameServers:
    """Asks one name server, the same as long as it answers, else the next.

    Args:
        transport: carries the requests.
        configured: "host:port;…", or "http://…" of an endpoint that answers with such a list;
            None takes $NAMESRV_ADDR, else localhost:9876.
        fetch: gets the text behind an address; runs in a thread.
    """

    def __init__(
        self,
        transport: Transport,
        configured: str | None,
        *,
        fetch: Callable[[str, float], str] | None = None,
    ) -> None:
        self._transport = transport
        self._fetch = fetch or fetch_text
        if configured is not None:
            text, self.source = configured, "nameserver="
        elif os.environ.get(ENVIRONMENT_KEY):
            text, self.source = os.environ[ENVIRONMENT_KEY], f"${ENVIRONMENT_KEY}"
        else:
            text = DEFAULT_ADDRESS
            self.source = f"the default: neither nameserver= nor ${ENVIRONMENT_KEY} is set"
        self._endpoint: str | None = None
        self._addresses: list[str] = []
        self._refresh_after_ms = 0
        if text.startswith(("http://", "https://")):
            self._endpoint = endpoint_url(text)
        else:
            self._addresses = parse_addresses(text, self.source)
        # Clients spread over the name servers by starting anywhere.
        self._current = random.randrange(1 << 16)

    @property
    def text(self) -> str:
        """The addresses in use, as `-n` takes them; the endpoint while there is none."""
        return ";".join(self._addresses) or self._endpoint or ""

    async def route(self, topic: str, timeout_ms: int, *, move_on: bool = False) -> bytes:
        """The route of a topic as JSON.

        A name server that has just started knows no topic yet, so all are asked before the topic
        counts as missing.

        Args:
            topic: its name.
            timeout_ms: for all name servers together.
            move_on: begin with another name server than last time: after a failover one that the
                brokers cannot reach would tell the old leader for ever.

        Raises:
            TopicNotFound: every name server that answered has no such topic.
            NameServerUnreachable: none answered.
        """
        deadline_ms = mono_ms() + timeout_ms
        await self._refresh_endpoint(timeout_ms)
        if move_on:
            self._current += 1
        failures: list[str] = []
        missing = ""
        ext = RouteRequest(topic=topic, accept_standard_json_only=True).to_ext()
        for left in range(len(self._addresses), 0, -1):
            address = self._addresses[self._current % len(self._addresses)]
            share_ms = max(_MIN_SHARE_MS, (deadline_ms - mono_ms()) // left)
            try:
                reply = await self._ask(address, ext, share_ms)
            except LedgerMQError as e:
                failures.append(str(e))
            else:
                if reply.code == ResponseCode.SUCCESS:
                    return reply.body
                missing = reply.remark or f"unknown to {address}"
            self._current += 1
        if missing:
            raise TopicNotFound(topic, missing)
        raise NameServerUnreachable("; ".join(failures), self.source)

    async def _ask(self, address: str, ext: dict[str, str], timeout_ms: int) -> RemotingCommand:
        command = request(RequestCode.GET_ROUTEINFO_BY_TOPIC, ext)
        reply = await self._transport.request(address, command, timeout_ms)
        if reply.code not in {ResponseCode.SUCCESS, ResponseCode.TOPIC_NOT_EXIST}:
            raise BrokerRefused(address, reply.code, reply.remark)
        return reply

    async def _refresh_endpoint(self, timeout_ms: int) -> None:
        if self._endpoint is None or (self._addresses and mono_ms() < self._refresh_after_ms):
            return
        self._refresh_after_ms = mono_ms() + _ENDPOINT_REFRESH_MS
        try:
            text = await asyncio.to_thread(self._fetch, self._endpoint, timeout_ms / 1000)
            self._addresses = parse_addresses(text, self._endpoint)
        except (OSError, ValueError, InvalidArgument) as e:
            if not self._addresses:
                reason = f"{self._endpoint}: {e}"
                raise NameServerUnreachable(reason, self.source) from e
            log.warning("name server list not refreshed from %s: %s", self._endpoint, e)


def fetch_text(url: str, timeout_s: float) -> str:
    """GET an address; blocks.

    Raises:
        OSError, ValueError: no answer, an error status, or no text.
    """
    with urllib.request.urlopen(url, timeout=timeout_s) as reply:
        body: bytes = reply.read(_ENDPOINT_LIMIT_BYTES)
    return body.decode("utf-8").strip()
