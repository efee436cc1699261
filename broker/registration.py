"""Telling every name server about this node: at once on a change, else every 30 s.

The leader registers as id 0 with its term as the state version of its data, so that a name server
can tell a stale leader; a follower registers as its number + 1.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from zlib import crc32

from ledgermq.remoting.bodies.registration import (
    DataVersion,
    RegisterBrokerBody,
    TopicConfig,
    TopicConfigSerializeWrapper,
)
from ledgermq.remoting.bodies.route import ClusterInfo
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import LedgerMQError
from ledgermq.remoting.headers.broker import RegisterBrokerRequest, UnregisterBrokerRequest

from . import topics
from .config_fields import BrokerConfig
from .metadata import Metadata

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_UNREGISTER_TIMEOUT_MS = 1000
_ASK_TIMEOUT_MS = 1000
_ASK_AGAIN_S = 0.02
# Changes that come together are told together.
_GATHER_S = 0.002


class Registrar:
    """One task per name server; they do not wait for one another."""

    def __init__(
        self,
        config: BrokerConfig,
        metadata: Metadata,
        *,
        broker_id: Callable[[], int | None],
        term: Callable[[], int],
    ) -> None:
        """`broker_id` tells what to register as, None for nothing yet; `term` the Raft term."""
        self._config = config
        self._metadata = metadata
        self._broker_id = broker_id
        self._term = term
        self._client = RemotingClient(on_close=self._lost)
        self._changed: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._failing: set[str] = set()
        self._closed = False
        self.address = f"{config.broker_ip1}:{config.listen_port}"

    def start(self) -> None:
        """Begin to register."""
        for server in self._config.namesrv_addr:
            self._changed[server] = asyncio.Event()
            self._tasks.append(asyncio.get_running_loop().create_task(self._keep(server)))

    def changed(self) -> None:
        """Role or topics changed: tell every name server now."""
        for event in self._changed.values():
            event.set()

    async def _keep(self, server: str) -> None:
        event = self._changed[server]
        while True:
            if not await self._register(server):
                await asyncio.sleep(_RETRY_S)
                continue
            period_s = self._config.register_name_server_period_ms / 1000
            # Not wait_for: until Python 3.12 it loses a cancellation that comes with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await event.wait()
            await asyncio.sleep(_GATHER_S)
            event.clear()

    def _lost(self, server: str, _connection: Connection) -> None:
        """The connection was closed: a name server that starts again has forgotten this node."""
        if server in self._changed and not self._closed:
            asyncio.get_running_loop().call_later(_RETRY_S, self._changed[server].set)

    async def _register(self, server: str) -> bool:
        broker_id = self._broker_id()
        if broker_id is None:
            return True
        try:
            reply = await self._client.request(
                server, self._request(broker_id), self._config.register_broker_timeout_ms
            )
        except LedgerMQError as e:
            self._failed(server, str(e))
            return False
        if reply.code != ResponseCode.SUCCESS:
            self._failed(server, reply.remark or f"code {reply.code}")
            return False
        if server in self._failing:
            self._failing.discard(server)
            log.info("registered at name server %s again", server)
        return True

    def _failed(self, server: str, reason: str) -> None:
        if server not in self._failing:
            self._failing.add(server)
            log.warning("cannot register at name server %s: %s", server, reason)

    def _request(self, broker_id: int) -> RemotingCommand:
        mask = self._config.broker_permission
        wrapper = TopicConfigSerializeWrapper(
            topic_config_table={
                name: _masked(config, mask)
                for name, config in self._metadata.topics.items()
                if name != topics.INTERNAL_TOPIC
            },
            data_version=self._version(),
        )
        body = RegisterBrokerBody(topic_config_serialize_wrapper=wrapper).encode()
        header = RegisterBrokerRequest(
            broker_name=self._config.broker_name,
            broker_addr=self.address,
            cluster_name=self._config.broker_cluster_name,
            # Nobody listens there; 5.x wants an address.
            ha_server_addr=f"{self._config.broker_ip1}:{self._config.listen_port + 1}",
            broker_id=broker_id,
            compressed=False,
            body_crc32=crc32(body) & 0x7FFFFFFF,
        )
        return request(RequestCode.REGISTER_BROKER, header.to_ext(), body)

    def _version(self) -> DataVersion:
        """Of the topics; `stateVersion` tells which of two leaders is the later one."""
        counter = self._metadata.topic_version
        stamp_ms = self._metadata.version_of(counter).timestamp
        return DataVersion(
            state_version=self._term(), timestamp=stamp_ms or counter, counter=counter
        )

    async def leader_elsewhere(self) -> bool:
        """Whether every name server that answers shows another node as this group's id 0."""
        answers = await asyncio.gather(*(self._shown_leader(s) for s in self._changed))
        known = [a for a in answers if a is not None]
        return all(a not in ("", self.address) for a in known)

    async def wait_for_leader_elsewhere(self) -> None:
        """Ask until `leader_elsewhere`."""
        while not await self.leader_elsewhere():  # noqa: ASYNC110 (the answer is far away)
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _shown_leader(self, server: str) -> str | None:
        """Address of id 0 at a name server, "" for none; None when it does not answer."""
        try:
            reply = await self._client.request(
                server, request(RequestCode.GET_BROKER_CLUSTER_INFO), _ASK_TIMEOUT_MS
            )
            if reply.code != ResponseCode.SUCCESS:
                return None
            table = ClusterInfo.decode(reply.body).broker_addr_table
        except LedgerMQError:
            return None
        broker = table.get(self._config.broker_name)
        return broker.broker_addrs.get(0, "") if broker else ""

    async def close(self) -> None:
        """Stop, and tell every name server that this node is gone."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        broker_id = self._broker_id()
        if broker_id is not None:
            await asyncio.gather(*(self._unregister(s, broker_id) for s in self._changed))
        await self._client.close()

    async def _unregister(self, server: str, broker_id: int) -> None:
        header = UnregisterBrokerRequest(
            broker_name=self._config.broker_name,
            broker_addr=self.address,
            cluster_name=self._config.broker_cluster_name,
            broker_id=broker_id,
        )
        command = request(RequestCode.UNREGISTER_BROKER, header.to_ext())
        try:
            await self._client.request(server, command, _UNREGISTER_TIMEOUT_MS)
        except LedgerMQError as e:
            log.info("name server %s was not told of the stop: %s", server, e)


def _masked(config: TopicConfig, mask: int) -> TopicConfig:
    """A topic as clients may use it: brokerPermission takes bits away."""
    if config.perm & ~topics.PERM_INHERIT & ~mask == 0:
        return config
    return TopicConfig(
        topic_name=config.topic_name,
        read_queue_nums=config.read_queue_nums,
        write_queue_nums=config.write_queue_nums,
        perm=config.perm & (mask | topics.PERM_INHERIT),
        topic_filter_type=config.topic_filter_type,
        topic_sys_flag=config.topic_sys_flag,
        order=config.order,
        attributes=config.attributes,
    )
