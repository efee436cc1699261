"""The composition of a name server: configuration, tables, handlers, listener, expiry timer."""

import asyncio
import logging
from collections.abc import Callable

from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.registry import ProcessorRegistry
from ledgermq.remoting.server import RemotingServer

from . import processors
from .config import NamesrvConfig
from .kv_config import KvConfig
from .route_table import RouteTable
from .state import NameServer

log = logging.getLogger(__name__)


class NamesrvApp:
    """A name server that listens between `start` and `stop`.

    Args:
        config: port 0 picks a free one, see `port`.
        now_ms: a clock that never steps, for expiry.

    Attributes:
        port: where it listens, after `start`.
        server: its tables.
    """

    def __init__(self, config: NamesrvConfig, now_ms: Callable[[], int] = mono_ms) -> None:
        self.port = 0
        self.server = NameServer(
            config,
            RouteTable(max_members=config.max_brokers, max_topics=config.max_topics),
            KvConfig(config.path("kvConfigPath"), max_entries=config.max_kv_entries),
            now_ms,
        )
        registry = ProcessorRegistry()
        processors.register(registry, self.server)
        self._listener = RemotingServer(
            registry,
            host=config.bind_address,
            on_close=self.server.connection_closed,
            idle_close_ms=config.server_channel_max_idle_time_seconds * 1000,
        )
        self._scan: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        """host:port of the listener, for the boot line."""
        return f"{self.server.config.bind_address}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._listener.connections)

    async def start(self) -> None:
        """Read kvConfig.json, then listen.

        Raises:
            KvStoreError: kvConfig.json cannot be used.
            CallerError: the port is taken.
        """
        self.server.kv.load()
        self.server.started_ms = self.server.now_ms()
        [self.port] = await self._listener.start([self.server.config.listen_port])
        self._plan_scan()
        log.info("name server listens on %s", self.address)

    async def stop(self) -> None:
        """Stop listening and close every connection; nothing is left running."""
        if self._scan:
            self._scan.cancel()
            self._scan = None
        await self._listener.close()
        log.info("name server on port %d stopped", self.port)

    def _plan_scan(self) -> None:
        interval_s = self.server.config.scan_not_active_broker_interval / 1000
        self._scan = asyncio.get_running_loop().call_later(interval_s, self._scan_now)

    def _scan_now(self) -> None:
        self.server.expire()
        self._plan_scan()
