"""Heartbeats and what follows from them: groups, members, and telling members of changes."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ledgermq.broker import topics
from ledgermq.broker.clients import ClientTable, HeartbeatChange
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.metadata import Metadata
from ledgermq.broker.writer import MetadataWriter
from ledgermq.remoting.bodies.consumer import CheckClientBody, ConsumerIdList
from ledgermq.remoting.bodies.heartbeat import HeartbeatData
from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, request, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.client import (
    ConsumerListRequest,
    HeartbeatResponse,
    NotifyConsumerIdsChangedRequest,
    UnregisterClientRequest,
)
from ledgermq.remoting.registry import ProcessorRegistry

log = logging.getLogger(__name__)

# Clients tell every broker about themselves; each node serves its own table.
LEADER_CODES: Final[frozenset[int]] = frozenset()


@dataclass(slots=True)
class ClientManager:
    """The table of clients and what its changes lead to."""

    clients: ClientTable[Connection]
    metadata: Metadata
    writer: MetadataWriter
    config: BrokerConfig
    now_ms: Callable[[], int] = mono_ms

    def connection_closed(self, connection: Connection) -> None:
        """To be called when a connection of the broker's listener is gone."""
        self.notify(self.clients.connection_closed(connection))

    def expire(self) -> None:
        """Drop silent clients; to be called every 10 s or so."""
        timeout_ms = self.config.channel_expired_timeout_ms
        change, silent = self.clients.expire(self.now_ms(), timeout_ms)
        for connection in silent:
            connection.close(f"no heartbeat from {connection.remote} for {timeout_ms} ms")
        self.notify(change)

    def notify(self, change: HeartbeatChange) -> None:
        """Tell every member of the changed groups to share the queues out again."""
        if not self.config.notify_consumer_ids_changed_enable:
            return
        for group in change.changed_groups:
            settings = topics.find_group(self.metadata.groups, group)
            if settings and not settings.notify_consumer_ids_changed_enable:
                continue
            ext = NotifyConsumerIdsChangedRequest(consumer_group=group).to_ext()
            for connection in self.clients.consumer_connections(group):
                connection.oneway(request(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, dict(ext)))

    async def ensure_group(self, name: str) -> None:
        """Create the group and its retry topic where they are missing and allowed.

        Only a leader can; after a change of leader the client's next heartbeat gets it done.
        """
        if not self.writer.is_leader:
            return
        settings = topics.find_group(self.metadata.groups, name)
        try:
            if settings is None:
                settings = topics.new_group(name, self.config)
                if settings is None:
                    return
                await self.writer.put_group(settings)
            if settings.retry_queue_nums > 0 and self._lacks_retry_topic(name):
                await self.writer.put_topic(topics.new_retry_topic(settings))
        except PeerError as e:
            log.info("group %s: not created yet: %s", name, e.remark)

    def _lacks_retry_topic(self, group: str) -> bool:
        return topics.retry_topic(group) not in self.metadata.topics


def register(registry: ProcessorRegistry, manager: ClientManager) -> None:
    """Serve 34, 35, 38 and 46."""
    registry.add(RequestCode.HEART_BEAT, partial(heartbeat, manager))
    registry.add(RequestCode.UNREGISTER_CLIENT, partial(unregister, manager))
    registry.add(RequestCode.GET_CONSUMER_LIST_BY_GROUP, partial(consumer_list, manager))
    registry.add(RequestCode.CHECK_CLIENT_CONFIG, check_client)


async def heartbeat(
    manager: ClientManager, connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """34: a client says who it is and what it consumes."""
    data = HeartbeatData.decode(command.body)
    if not data.client_id:
        raise PeerError(ResponseCode.SYSTEM_ERROR, "heartbeat: field 'clientID' is missing")
    change = manager.clients.heartbeat(
        connection,
        data,
        address=connection.remote,
        language=command.language,
        version=command.version,
        now_ms=manager.now_ms(),
    )
    manager.notify(change)
    for consumer in data.consumer_data_set:
        await manager.ensure_group(consumer.group_name)
    # Only the short form of 5.x clients looks at the answer; Java says "true" to all others.
    resend = change.resend if data.heartbeat_fingerprint else True
    return response(ResponseCode.SUCCESS, ext=HeartbeatResponse(is_sub_change=resend).to_ext())


def unregister(
    manager: ClientManager, connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """35: a client leaves groups."""
    header = UnregisterClientRequest.of(command)
    change = manager.clients.unregister(connection, header.producer_group, header.consumer_group)
    manager.notify(change)
    return response(ResponseCode.SUCCESS)


def consumer_list(
    manager: ClientManager, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """38: client ids of a group, from which each consumer works out its share."""
    header = ConsumerListRequest.of(command)
    ids = manager.clients.consumer_ids(header.consumer_group)
    if not ids:
        raise PeerError(
            ResponseCode.SYSTEM_ERROR, f"no consumer of group {header.consumer_group} is connected"
        )
    return response(ResponseCode.SUCCESS, body=ConsumerIdList(consumer_id_list=ids).encode())


def check_client(_connection: Connection, command: RemotingCommand) -> RemotingCommand:
    """46: a consumer asks beforehand whether its filter is served."""
    subscription = CheckClientBody.decode(command.body).subscription_data
    if subscription and subscription.expression_type not in {"", "TAG"}:
        raise PeerError(
            ResponseCode.SYSTEM_ERROR,
            f"this broker does not filter by {subscription.expression_type}; use tags",
        )
    return response(ResponseCode.SUCCESS)
