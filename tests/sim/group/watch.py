"""Wrappers around one replica's parts: each step, write, cut and message is shown to the rules.

They are set on the instances, so that the product's code runs as it is shipped.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.raft import effects as fx
from ledgermq.dledger.raft import events as ev
from ledgermq.dledger.raft.messages import Message
from tests.sim.invariants import ViolationError

from .knowledge import Witness
from .rules import Rules

if TYPE_CHECKING:
    from ledgermq.broker.replica import Replica
    from ledgermq.dledger.raft.core import RaftCore
    from ledgermq.dledger.server import LogServer


class Audience(Protocol):
    """Who else looks at the steps."""

    def before_step(self, name: NodeId, core: "RaftCore", event: ev.Event) -> None:
        """A member is about to take a step."""

    def after_step(
        self, name: NodeId, core: "RaftCore", event: ev.Event, effects: tuple[fx.Effect, ...]
    ) -> None:
        """A member took it."""

    def sync_ended(self, name: NodeId, *, in_vain: bool) -> None:
        """A sync of the log ended; `in_vain`: the log was cut since it began."""

    def fail(self, error: Exception) -> None:
        """A rule is broken: end the run."""


class Watch:
    """Sees one replica from its opening to the end of its process."""

    def __init__(
        self, witness: Witness, replica: "Replica", rules: Rules, audience: Audience
    ) -> None:
        self._w = witness
        self._rules = rules
        self._audience = audience
        self._server: LogServer = replica.log
        self._core = replica.log.core
        self._ledger = replica.log.ledger
        self._cache: object = None

    def opened(self, *, excused: bool) -> None:
        """Compare what the store came back with, then wrap everything."""
        w, ledger = self._w, self._ledger
        w.new_life()
        if ledger.begin.index == w.emptying:
            self._rules.emptied(w)
        w.emptying = None
        self._guarded(self._rules.recovered)(w, ledger.end_index, ledger.chain, excused=excused)
        while w.held.end < ledger.end_index:
            # Written by the life before, in the very moment of its end.
            data, _ = ledger.read_entries(w.held.end + 1, ledger.end_index, 1 << 20)
            self._guarded(self._rules.wrote)(w, data)
        w.claim = ledger.end_index
        w.commit = self._core.commit
        hard_state = self._server._store.hard_state
        self._guarded(self._rules.persisted)(
            w, hard_state.term, hard_state.vote, hard_state.standing
        )
        self._wrap()

    def _guarded(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The product catches what its parts raise; a broken rule must end the run."""

        def guarded(*args: Any, **more: Any) -> Any:
            try:
                return fn(*args, **more)
            except ViolationError as e:
                self._audience.fail(e)
                raise

        return guarded

    def _wrap(self) -> None:
        self._wrap_ledger()
        self._wrap_cache()
        self._wrap_core()
        self._wrap_hard_state()
        self._wrap_peers()
        self._wrap_flusher()

    # --- the store ----------------------------------------------------------------------------

    def _wrap_cache(self) -> None:
        """Every entry that comes into the log passes its cache."""
        cache = self._ledger.cache
        if cache is self._cache:
            return
        self._cache = cache
        real, wrote, w = cache.add, self._guarded(self._rules.wrote), self._w

        def add(first: int, last: int, data: bytes) -> None:
            wrote(w, data)
            real(first, last, data)

        cache.add = add  # type: ignore[method-assign]

    def _wrap_ledger(self) -> None:
        ledger: Any = self._ledger
        w, real_cut, real_reset = self._w, ledger.truncate, ledger.reset
        cut, empties = self._guarded(self._rules.cut), self._guarded(self._rules.empties)

        def truncate(first: int) -> None:
            if first <= ledger.end_index:
                cut(w, first)
            real_cut(first)

        def start_anew(begin: Any) -> None:
            empties(w, begin.index)
            real_reset(begin)
            self._rules.emptied(w)
            self._wrap_cache()

        ledger.truncate = truncate
        ledger.reset = start_anew

    def _wrap_hard_state(self) -> None:
        hard_state: Any = self._server._store.hard_state
        real, w, persisted = hard_state.save, self._w, self._guarded(self._rules.persisted)

        def save(term: int, vote: NodeId | None, standing: Any) -> None:
            real(term, vote, standing)
            persisted(w, term, vote, standing)

        hard_state.save = save

    # --- steps and messages -------------------------------------------------------------------

    def _wrap_core(self) -> None:
        core, w, rules, audience = self._core, self._w, self._rules, self._audience
        real = core.step

        def step(now_ms: int, event: ev.Event) -> tuple[fx.Effect, ...]:
            audience.before_step(w.name, core, event)
            effects = real(now_ms, event)
            if type(event) is ev.Durable:
                rules.durable(w, core.durable)
            for effect in effects:
                kind = type(effect)
                if kind is fx.Commit:
                    rules.committed(w, effect.index, core)  # type: ignore[union-attr]
                elif kind is fx.RoleChanged:
                    rules.led(w, effect)  # type: ignore[arg-type]
            if type(event) is ev.Seeded:
                w.commit = max(w.commit, core.commit)
            audience.after_step(w.name, core, event, effects)
            return effects

        core.step = self._guarded(step)  # type: ignore[method-assign]

    def _wrap_peers(self) -> None:
        peers: Any = self._server._peers
        w, sent = self._w, self._guarded(self._rules.sent)
        real_send, real_push = peers.send, peers.send_push

        def send(peer: NodeId, message: Message) -> None:
            sent(w, peer, message)
            real_send(peer, message)

        def send_push(peer: NodeId, message: Message, payload: bytes) -> None:
            sent(w, peer, message)
            real_push(peer, message, payload)

        peers.send = send
        peers.send_push = send_push

    def _wrap_flusher(self) -> None:
        flusher: Any = self._server._flusher
        real, ledger, name = flusher._done, self._ledger, self._w.name

        def done(future: Any, target: int, epoch: int) -> None:
            self._audience.sync_ended(name, in_vain=epoch != ledger.epoch)
            real(future, target, epoch)

        flusher._done = done
