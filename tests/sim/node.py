"""The shell around one simulated core; it obeys the rule that `effects.py` gives the real one."""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, assert_never

from ledgermq.dledger.ids import NodeId, RaftConfig
from ledgermq.dledger.raft.core import RaftCore
from ledgermq.dledger.raft.effects import (
    AcceptEntries,
    AppendNoop,
    Commit,
    Effect,
    Fetch,
    PersistHardState,
    Role,
    RoleChanged,
    Send,
    SendPush,
    TransferEnded,
)
from ledgermq.dledger.raft.events import (
    AcceptFailed,
    Appended,
    Durable,
    Event,
    Fetched,
    Received,
    Tick,
)
from ledgermq.dledger.raft.log_view import LogView
from ledgermq.dledger.raft.messages import Push

from .store import ENTRY_SIZE_BYTES, Entry, Store, Sync, log_runs, runs_of

if TYPE_CHECKING:
    from .harness import Cluster

STALL_MS = 300


class SimNode:
    """One member: a store that outlives crashes and a core that does not.

    Invariant: `core` is None exactly while the process is dead.
    """

    def __init__(self, cluster: "Cluster", config: RaftConfig, store: Store, rng: Random) -> None:
        self.name = config.self_id
        self.config = config
        self.store = store
        self.core: RaftCore | None = None
        # Counts processes: what was begun in an earlier life comes to nothing.
        self.life = 0
        # Effects to be carried out before the next crash; None: no crash is planned.
        self.effects_left: int | None = None
        self.disk_held = False
        self.disk_full = False
        self.paused_since_ms: int | None = None
        # Highest index this member is known to have applied and kept; survives crashes.
        self.applied = -1
        self._cluster = cluster
        self._rng = rng
        self._syncing = False
        self._busy = False
        self._queue: deque[tuple[Event, tuple[Entry, ...]]] = deque()
        self._backlog: list[tuple[Event, tuple[Entry, ...]]] = []
        self._fetched: dict[int, tuple[Entry, ...]] = {}

    # --- life -----------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether the core's view and the store must agree now."""
        return not self._queue

    @property
    def running(self) -> bool:
        """Alive and not paused."""
        return self.core is not None and self.paused_since_ms is None

    def start(self) -> None:
        """Start a process from what the disk holds."""
        assert self.core is None, f"{self.name} runs already"
        self.life += 1
        self.core = RaftCore(
            self.config,
            self._rng,
            self._cluster.now_ms,
            term=self.store.term,
            vote=self.store.vote,
            log=LogView(log_runs(self.store)),
            commit=self.applied,
        )

    def crash(self, kept: int) -> None:
        """Die at once; `kept` entries that were not synced survive by luck."""
        self.core = None
        self.effects_left = None
        self.paused_since_ms = None
        self._syncing = False
        self._queue.clear()
        self._backlog.clear()
        self._fetched.clear()
        self.store.crash(kept)

    def pause(self) -> None:
        """Stop running; what arrives waits."""
        if self.running:
            self.paused_since_ms = self._cluster.now_ms

    def resume(self) -> None:
        """Run on: drain the sockets first, then judge the deadlines."""
        if self.core is None or self.paused_since_ms is None:
            return
        stalled = self._cluster.now_ms - self.paused_since_ms > STALL_MS
        self.paused_since_ms = None
        backlog, self._backlog = self._backlog, []
        for event, entries in backlog:
            self.handle(event, entries)
        self.handle(Tick(stalled=stalled))

    def next_tick_ms(self) -> int | None:
        """When the core wants a tick; None while it cannot have one."""
        if self.core is None or self.paused_since_ms is not None:
            return None
        return self.core.deadline_ms

    # --- work -----------------------------------------------------------------------------------

    def propose(self, count: int) -> int:
        """Append as the real shell would; how many entries were taken."""
        core = self.core
        if not self.running or core is None or core.role is not Role.LEADER or core.transferring:
            return 0
        if self.disk_full:
            return 0
        self.store.append(self._cluster.new_entry(core.term) for _ in range(count))
        self.handle(Appended(count))
        self._sync()
        return count

    def handle(self, event: Event, entries: tuple[Entry, ...] = ()) -> None:
        """Step the core and carry out its effects, one event after the other."""
        if self.core is None:
            return
        if self.paused_since_ms is not None:
            self._backlog.append((event, entries))
            return
        self._queue.append((event, entries))
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue and self.core is not None:
                self._step(*self._queue.popleft())
        finally:
            self._busy = False

    def _step(self, event: Event, entries: tuple[Entry, ...]) -> None:
        assert self.core is not None
        self._cluster.record(self.name, event)
        for effect in self.core.step(self._cluster.now_ms, event):
            if self.effects_left is not None:
                if self.effects_left == 0:
                    self._cluster.crash(self.name)
                    return
                self.effects_left -= 1
            self._cluster.record(self.name, effect)
            self._run(effect, event, entries)
        self._cluster.after_step(self)

    def _run(self, effect: Effect, event: Event, entries: tuple[Entry, ...]) -> None:
        cluster = self._cluster
        match effect:
            case PersistHardState():
                self.store.save_hard_state(effect.term, effect.vote)
            case Send():
                cluster.invariants.on_send(self, effect.message)
                cluster.network.send(self.name, effect.peer, effect.message, cluster.now_ms)
            case Fetch():
                self._later(cluster.conditions.fetch_ms, lambda: self._fetch(effect))
            case SendPush():
                body = self._fetched.pop(effect.token) if effect.token else ()
                cluster.network.push(self.name, effect.peer, effect.push, body, cluster.now_ms)
            case AcceptEntries():
                self._accept(effect, event, entries)
            case AppendNoop():
                self.store.append([cluster.new_entry(effect.term)])
                self._queue.append((Appended(1), ()))
                self._sync()
            case Commit():
                cluster.invariants.on_commit(self, effect.index)
            case RoleChanged():
                cluster.invariants.on_role(self, effect)
            case TransferEnded():
                pass
            case _:
                assert_never(effect)

    def _accept(self, effect: AcceptEntries, event: Event, entries: tuple[Entry, ...]) -> None:
        assert isinstance(event, Received)
        assert isinstance(event.message, Push)
        if effect.truncate_from is not None:
            self._cluster.invariants.on_truncate(self, effect.truncate_from)
            self.store.truncate(effect.truncate_from)
        assert effect.first == self.store.last_index + 1, f"{self.name}: a gap in the log"
        if self.disk_full:
            self._queue.appendleft((AcceptFailed(effect.first), ()))
            self._cluster.network.hang_up_later(event.message.sender, self.name)
            return
        self.store.append(entries[effect.first - event.message.prev_index - 1 :])
        self._sync()

    def _fetch(self, effect: Fetch) -> None:
        entries = self.store.read(effect.first, effect.max_bytes)
        if entries:
            self._fetched[effect.token] = entries
            size = len(entries) * ENTRY_SIZE_BYTES
            self.handle(Fetched(effect.peer, effect.token, runs_of(entries), size))

    # --- disk -----------------------------------------------------------------------------------

    def hold_disk(self, *, held: bool) -> None:
        """While held, nothing becomes durable."""
        self.disk_held = held
        self._sync()

    def _sync(self) -> None:
        """Group commit: one fsync at a time; what comes meanwhile joins the next."""
        if self._syncing or self.disk_held or self.store.durable == self.store.last_index:
            return
        self._syncing = True
        sync = self.store.begin_sync()
        self._later(self._cluster.conditions.sync_ms, lambda: self._synced(sync))

    def _synced(self, sync: Sync) -> None:
        self._syncing = False
        if self.store.end_sync(sync):
            self.handle(Durable(sync.index))
        self._sync()

    def _later(self, span: tuple[int, int], action: Callable[[], None]) -> None:
        life = self.life

        def run() -> None:
            if self.life == life and self.core is not None:
                action()

        self._cluster.schedule(self._cluster.network.pick(span), run)


def names(count: int) -> tuple[NodeId, ...]:
    """n0, n1, …"""
    return tuple(NodeId(f"n{i}") for i in range(count))
