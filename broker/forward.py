"""The gate before every handler that only the leader may run.

The ready leader runs it. A follower forwards the request on one pipelined connection, once, and
without a leader the request waits: clients learn of a new leader late (Java asks every 30 s), so a
short wait here is a send that does not fail. Design 20.
"""

import asyncio
import logging
from collections import deque
from typing import NamedTuple

from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import ONEWAY_FLAG, RemotingCommand, next_opaque, response
from ledgermq.remoting.connection import Connection, Outcome
from ledgermq.remoting.errors import ConnectError, LedgerMQError
from ledgermq.remoting.registry import Handler, HandlerResult, ProcessorRegistry

from .node import Node, not_leader

log = logging.getLogger(__name__)

# Fields that a forwarding node adds. HOP: never forward it again. CLIENT: who really asks.
HOP_FIELD = "lmqHop"
CLIENT_FIELD = "lmqClient"
# A request waits this long for a leader, well within the 3 s a client gives a send.
HOLD_MS = 2000
_FORWARD_TIMEOUT_MS = 3000
_MAX_HELD = 10_000
_MAX_HELD_BYTES = 64 << 20
_SWEEP_S = 0.02

# Answers that must not come from a leader which has been replaced without knowing it yet.
_LEASE_CODES = frozenset({RequestCode.QUERY_CONSUMER_OFFSET, RequestCode.GET_MAX_OFFSET})


class _Held(NamedTuple):
    connection: Connection
    command: RemotingCommand
    handler: Handler
    deadline_ms: int


def client_address(connection: Connection, command: RemotingCommand) -> str:
    """Who sent a request, "ip:port", also when another node forwarded it."""
    return command.ext.get(CLIENT_FIELD) or connection.remote


class Gate:
    """Runs, forwards or holds requests.

    Invariant: at most `_MAX_HELD` requests and `_MAX_HELD_BYTES` of bodies are held.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._client = RemotingClient()
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._in_flight = 0
        # Leadership is being handed over: hold what comes, the next leader will get it.
        self.closed = False

    def guard(self, registry: ProcessorRegistry, codes: frozenset[int]) -> ProcessorRegistry:
        """A registry that serves the same, with `codes` behind the gate."""
        guarded = ProcessorRegistry()
        for code, handler in registry.items():
            guarded.add(code, self._wrap(code, handler) if code in codes else handler)
        return guarded

    def _wrap(self, code: int, handler: Handler) -> Handler:
        needs_lease = code in _LEASE_CODES

        def gated(connection: Connection, command: RemotingCommand) -> HandlerResult:
            if self._may_run(needs_lease=needs_lease):
                return handler(connection, command)
            self._pass_on(_Held(connection, command, handler, mono_ms() + HOLD_MS))
            return None

        return gated

    def _may_run(self, *, needs_lease: bool) -> bool:
        if not self._node.ready or self.closed:
            return False
        return not needs_lease or self._node.log.has_lease()

    # --- forwarding ---------------------------------------------------------------------------

    def _leader_address(self) -> str | None:
        """Where the leader serves clients, if it is another node."""
        core = self._node.log.core
        if core.leader is None or core.leader == self._node.log.config.raft.self_id:
            return None
        return self._node.log.address_of(core.leader)

    def _pass_on(self, held: _Held) -> None:
        address = self._leader_address()
        if address is None or HOP_FIELD in held.command.ext:
            self._hold(held)
            return
        connection = self._client.peek(address)
        if connection is None or connection.closed:
            self._hold(held)
            self._connect(address)
            return
        self._forward(connection, held)

    def _forward(self, connection: Connection, held: _Held) -> None:
        command = held.command
        ext = {
            **command.ext,
            HOP_FIELD: "1",
            CLIENT_FIELD: client_address(held.connection, command),
        }
        copy = RemotingCommand(
            command.code,
            ext,
            command.body,
            opaque=next_opaque(),
            flag=command.flag,
            language=command.language,
            version=command.version,
        )
        if command.flag & ONEWAY_FLAG:
            connection.oneway(copy)
            return
        self._in_flight += 1

        def on_reply(outcome: Outcome) -> None:
            self._in_flight -= 1
            if isinstance(outcome, Exception):
                # It was written: repeating it could store it twice.
                outcome = response(
                    ResponseCode.SYSTEM_ERROR,
                    f"the leader was lost while it worked on this request ({outcome}): it may"
                    " have been carried out; send it again",
                )
            held.connection.reply(command, outcome)

        connection.call(copy, _FORWARD_TIMEOUT_MS, on_reply)

    def _connect(self, address: str) -> None:
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._open(address))

    async def _open(self, address: str) -> None:
        try:
            await self._client.connect(address)
        except ConnectError as e:
            log.info("cannot forward yet: %s", e)
        except LedgerMQError as e:
            log.warning("cannot forward: %s", e)
        finally:
            self._connecting = None
        self.release()

    # --- holding ------------------------------------------------------------------------------

    def _hold(self, held: _Held) -> None:
        if len(self._held) >= _MAX_HELD or self._held_bytes >= _MAX_HELD_BYTES:
            remark = "[OVERLOAD]no leader, and too many requests wait for one"
            held.connection.reply(held.command, response(ResponseCode.SYSTEM_BUSY, remark))
            return
        self._held.append(held)
        self._held_bytes += len(held.command.body)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now_ms = mono_ms()
        while self._held and self._held[0].deadline_ms <= now_ms:
            held = self._held.popleft()
            self._held_bytes -= len(held.command.body)
            refusal = not_leader()
            held.connection.reply(held.command, response(refusal.code, refusal.remark))
        self.release()

    def release(self) -> None:
        """Try the held requests again, in their order: the role, lease or a link changed."""
        held, self._held = self._held, deque()
        self._held_bytes = 0
        for one in held:
            if one.connection.closed:
                continue
            if self._may_run(needs_lease=one.command.code in _LEASE_CODES):
                one.connection.serve(one.command, one.handler)
            else:
                self._pass_on(one)
        if self._held and self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    @property
    def busy(self) -> bool:
        """Whether requests are held or under way to the leader."""
        return bool(self._held) or self._in_flight > 0

    def commit_offset(self, command: RemotingCommand) -> None:
        """Send a consumer offset that came with a pull to the leader, if it is known."""
        address = self._leader_address()
        connection = self._client.peek(address) if address else None
        if address and connection is None:
            self._connect(address)
        if connection is not None:
            command.ext[HOP_FIELD] = "1"
            connection.oneway(command)

    async def close(self) -> None:
        """Close the link to the leader."""
        if self._sweeper:
            self._sweeper.cancel()
        if self._connecting:
            self._connecting.cancel()
        await self._client.close()
