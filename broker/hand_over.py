"""What a leader does before it stops, so that no client notices. Source: design, SIGTERM.

Hold new sends, transfer, forward the held ones to the new leader, wait for the routes.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from ledgermq.dledger.server import LogServer
from ledgermq.remoting.clock import mono_ms

from .forward import Gate
from .registration import Registrar
from .writer import BrokerNode

log = logging.getLogger(__name__)

# Each step; without a majority of others none can succeed.
_STEP_S = 1.5
_ROUTES_S = 2.0
_POLL_S = 0.005


class HandOver:
    """One try of one node."""

    def __init__(
        self, node: BrokerNode, log_server: LogServer, gate: Gate, registrar: Registrar
    ) -> None:
        self._node = node
        self._log = log_server
        self._gate = gate
        self._registrar = registrar

    async def run(self) -> None:
        """Hand leadership over, if this node has it."""
        # One that is under way already, to a preferred leader: no offset could be written now.
        await wait_for(lambda: not self._log.core.transferring)
        if not self._node.ready:
            return
        gate = self._gate
        gate.closed = True
        # Twice: what was under way when the gate closed may have moved an offset meanwhile.
        for _ in range(2):
            self._node.flush_offsets()
            await wait_for(lambda: self._node.pending_count == 0)
        if len(self._log.config.members) == 1:
            return
        self._log.transfer()
        await wait_for(lambda: not gate.closed)
        if gate.closed or self._log.is_leader:
            log.warning("leadership could not be handed over; the others will elect")
            return
        await wait_for(lambda: not gate.holding)
        await self._wait_for_routes()

    async def _wait_for_routes(self) -> None:
        """Clients that ask a name server after our end should find the new leader there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ROUTES_S):
                await self._registrar.wait_for_leader_elsewhere()


async def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether this becomes true within the time of one step."""
    end_ms = mono_ms() + int(_STEP_S * 1000)
    while not condition():
        if mono_ms() > end_ms:
            return False
        await asyncio.sleep(_POLL_S)
    return True
