"""The gate before every handler that only the leader may run.

The ready leader runs it. A follower forwards the request on one pipelined connection, once, and
without a leader the request waits: clients learn of a new leader late (Java asks every 30 s), so a
short wait here is a send that does not fail. Design 20.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import ONEWAY_FLAG, RemotingCommand, next_opaque, response
from ledgermq.remoting.connection import Connection, Outcome
from ledgermq.remoting.errors import LedgerMQError
from ledgermq.remoting.registry import Handler, HandlerResult, ProcessorRegistry

from .node import not_leader
from .offset_relay import OffsetRelay
from .writer import BrokerNode

log = logging.getLogger(__name__)

# Fields that a forwarding node adds. HOP: never forward it again. CLIENT: who really asks. HOLD:
# how many ms are left to wait for a leader.
FIELD_PREFIX = "lmq"
HOP_FIELD = f"{FIELD_PREFIX}Hop"
CLIENT_FIELD = f"{FIELD_PREFIX}Client"
HOLD_FIELD = f"{FIELD_PREFIX}HoldMs"
# A request waits this long for a leader, well within the 3 s a client gives a send.
HOLD_MS = 2000
# What is left of those 3 s for the leader's work.
_WORK_MS = 1000
# A client that was refused and still has not sent anything after this goes elsewhere.
_QUIET_MS = 50
_MAX_HELD = 10_000
_MAX_HELD_BYTES = 64 << 20
# Above this many unsent bytes the leader gets nothing more; when it has not said anything for a
# while either, the link is cut off and another one is opened.
_MAX_BACKLOG_BYTES = 64 << 20
_SILENCE_MS = 3000
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
    return command.field(CLIENT_FIELD) or connection.remote


class Gate:
    """Runs, forwards or holds requests.

    Invariant: at most `_MAX_HELD` requests and `_MAX_HELD_BYTES` of bodies are held, and as many
    are under way to the leader.

    Attributes:
        closed: hold what comes, leadership is being handed over: the next leader will get it.
        dropped: one-way requests that were not passed on, because the leader does not read.
    """

    def __init__(self, node: BrokerNode) -> None:
        self._node = node
        self._client = RemotingClient()
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._unreachable: str | None = None
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._refuses = False
        self._refused_ms = 0
        self._clogged_since_ms: int | None = None
        self.dropped = 0
        self.closed = False
        self._offsets = OffsetRelay(
            self._roomy_link,
            may_apply=lambda: self._node.takes_appends and not self.closed,
            apply=self._apply_offset,
            mark=lambda command: command.ext.update({HOP_FIELD: "1"}),
        )

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
            # Reads all its fields: what nobody can read ends its connection here, not later, in
            # the middle of other clients' requests.
            self._pass_on(_Held(connection, command, handler, mono_ms() + _hold_ms(command)))
            return None

        return gated

    def is_open(self) -> bool:
        """Whether what only the leader may do is done here, now."""
        return self._node.takes_appends and not self.closed and not self._refuses

    def _may_run(self, *, needs_lease: bool) -> bool:
        return self.is_open() and (not needs_lease or self._node.leads_surely)

    # --- forwarding ---------------------------------------------------------------------------

    def _link(self) -> Connection | None:
        """The open connection to the leader; without one it is being opened."""
        address = self._node.leader_address
        if address is None:
            return None
        connection = self._client.peek(address)
        if connection is not None and not connection.closed:
            return connection
        if address not in self._connecting:
            task = asyncio.get_running_loop().create_task(self._open(address))
            self._connecting[address] = task
        return None

    def _roomy_link(self) -> Connection | None:
        """The open connection to the leader, if it takes more."""
        link = self._link()
        return link if link is not None and self._has_room(link) else None

    def _has_room(self, link: Connection) -> bool:
        if link.backlog_bytes <= _MAX_BACKLOG_BYTES:
            self._clogged_since_ms = None
            return True
        now_ms = mono_ms()
        if self._clogged_since_ms is None:
            self._clogged_since_ms = now_ms
        elif now_ms - max(self._clogged_since_ms, link.last_activity_ms) > _SILENCE_MS:
            self._clogged_since_ms = None
            link.abort(f"the leader at {link.remote} neither reads nor answers")
        return False

    def _pass_on(self, held: _Held) -> None:
        if self._refuses:
            self._refused_ms = mono_ms()
            _refuse(held)
            return
        link = self._link() if held.command.field(HOP_FIELD) is None else None
        if link is None:
            self._hold(held)
        else:
            self._forward(link, held)

    def _forward(self, link: Connection, held: _Held) -> None:
        command, size = held.command, len(held.command.body)
        left_ms = max(held.deadline_ms - mono_ms(), 0)
        added = {
            HOP_FIELD: "1",
            CLIENT_FIELD: client_address(held.connection, command),
            HOLD_FIELD: str(left_ms),
        }
        copy = RemotingCommand(
            command.code,
            {**command.ext, **added},
            command.body,
            opaque=next_opaque(),
            flag=command.flag,
            language=command.language,
            version=command.version,
        )
        has_room = self._has_room(link)
        if command.flag & ONEWAY_FLAG:
            if has_room:
                link.oneway(copy)
            else:
                self.dropped += 1
            return
        if not has_room or self._in_flight >= _MAX_HELD or self._in_flight_bytes >= _MAX_HELD_BYTES:
            _overload(held, "too many requests are under way to the leader")
            return
        self._in_flight += 1
        self._in_flight_bytes += size

        def on_reply(outcome: Outcome) -> None:
            self._in_flight -= 1
            self._in_flight_bytes -= size
            if isinstance(outcome, Exception):
                # It was written: repeating it could store it twice.
                outcome = response(
                    ResponseCode.SYSTEM_ERROR,
                    f"the leader was lost while it worked on this request ({outcome}): it may"
                    " have been carried out; send it again",
                )
            held.connection.reply(command, outcome)

        link.call(copy, left_ms + _WORK_MS, on_reply)

    async def _open(self, address: str) -> None:
        try:
            await self._client.connect(address)
        except LedgerMQError as e:
            # The next sweep tries again, as long as requests are held.
            if self._unreachable != address:
                log.warning("cannot forward to the leader yet: %s", e)
            self._unreachable = address
            return
        finally:
            del self._connecting[address]
        self._unreachable = None
        self.release()

    # --- holding ------------------------------------------------------------------------------

    def _hold(self, held: _Held) -> None:
        if len(self._held) >= _MAX_HELD or self._held_bytes >= _MAX_HELD_BYTES:
            _overload(held, "no leader, and too many requests wait for one")
            return
        self._held.append(held)
        self._held_bytes += len(held.command.body)
        self._plan_sweep()

    def _plan_sweep(self) -> None:
        if self._held and self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now_ms = mono_ms()
        late = [h for h in self._held if h.deadline_ms <= now_ms]
        if late:
            self._keep([h for h in self._held if h.deadline_ms > now_ms])
            for held in late:
                _refuse(held)
        self.release()

    def _keep(self, held: Iterable[_Held]) -> None:
        self._held = deque(held)
        self._held_bytes = sum(len(h.command.body) for h in self._held)

    def release(self) -> None:
        """Try the held requests again, in their order: the role, lease or a link changed."""
        self._offsets.flush()
        if not self._held:
            return
        if self._may_run(needs_lease=False) or self._link() is not None:
            held = list(self._held)
            self._keep(())
            for one in held:
                if one.connection.closed:
                    continue
                if self._may_run(needs_lease=one.command.code in _LEASE_CODES):
                    one.connection.serve(one.command, one.handler)
                else:
                    self._pass_on(one)
        self._plan_sweep()

    @property
    def holding(self) -> bool:
        """Whether requests or offsets wait for a leader."""
        return bool(self._held) or self._offsets.busy

    @property
    def quiet(self) -> bool:
        """After `refuse`: every answer is given, and nobody has asked for a moment."""
        return not self.busy and mono_ms() - self._refused_ms >= _QUIET_MS

    @property
    def busy(self) -> bool:
        """Whether requests or offsets are held or under way to the leader."""
        return self.holding or self._in_flight > 0

    def refuse(self) -> None:
        """From now on answer at once that this node does not lead: it stops."""
        self._refuses = True
        self._refused_ms = mono_ms()
        held = list(self._held)
        self._keep(())
        for one in held:
            _refuse(one)

    def commit_offset(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """Keep a consumer offset that came with a pull: here, or at the leader.

        While leadership is handed over it waits for the next leader: nobody commits it again.
        """
        if self._node.takes_appends and not self.closed:
            self._node.commit_offset(group, topic, queue_id, offset)
        else:
            self._offsets.put(group, topic, queue_id, offset)

    def keep_offsets(self) -> None:
        """At the end of a leader without a successor: what waits for one stays here."""
        if self._node.takes_appends:
            self._offsets.keep_here()

    def _apply_offset(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """Take an offset that had to wait; by now the group may be further."""
        known = self._node.query_offset(group, topic, queue_id)
        if known is None or known < offset:
            self._node.commit_offset(group, topic, queue_id, offset)

    async def close(self) -> None:
        """Close the link to the leader."""
        self.refuse()
        self._offsets.close()
        if self._sweeper:
            self._sweeper.cancel()
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        await self._client.close()


def _hold_ms(command: RemotingCommand) -> int:
    """How long a request may wait for a leader; a forwarded one has waited before."""
    left = command.ext.get(HOLD_FIELD, "")
    return min(int(left), HOLD_MS) if left.isdecimal() else HOLD_MS


def _refuse(held: _Held) -> None:
    refusal = not_leader()
    held.connection.reply(held.command, response(refusal.code, refusal.remark))


def _overload(held: _Held, reason: str) -> None:
    answer = response(ResponseCode.SYSTEM_BUSY, f"[OVERLOAD]{reason}")
    held.connection.reply(held.command, answer)
