"""What the handlers of a name server work on."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.connection import Connection

from .config import NamesrvConfig
from .kv_config import KvConfig
from .route_bodies import RouteBodies
from .route_table import RouteTable

log = logging.getLogger(__name__)


@dataclass(slots=True)
class NameServer:
    """One name server, without its sockets and timers.

    Attributes:
        now_ms: a clock that never steps.
        started_ms: on that clock.
        routes: answers to those who ask for routes.
    """

    config: NamesrvConfig
    table: RouteTable
    kv: KvConfig
    now_ms: Callable[[], int] = mono_ms
    started_ms: int = 0
    routes: RouteBodies = field(init=False)

    def __post_init__(self) -> None:
        """Encode nothing yet."""
        self.routes = RouteBodies(self.table)

    def connection_closed(self, connection: Connection) -> None:
        """Forget the brokers that registered on it."""
        for member in self.table.close_session(connection):
            log.info(
                "broker gone, its connection closed: broker=%s id=%d addr=%s",
                member.broker_name,
                member.broker_id,
                member.addr,
            )

    def expire(self) -> None:
        """Forget the brokers that were silent for too long."""
        for member in self.table.expire(self.now_ms()):
            log.warning(
                "broker gone, silent for %d ms: broker=%s id=%d addr=%s",
                member.expiry_ms,
                member.broker_name,
                member.broker_id,
                member.addr,
            )

    def take_bounds(self) -> None:
        """Bring changed bounds of the configuration to the tables."""
        self.table.max_members = self.config.max_brokers
        self.table.max_topics = self.config.max_topics
        self.kv.max_entries = self.config.max_kv_entries
