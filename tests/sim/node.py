"""The shell around one simulated core; it obeys the rule that `effects.py` gives the real one."""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from ledgermq.dledger.ids import NodeId, RaftConfig, Standing
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
    SendSeed,
    TakeSeed,
    TransferEnded,
    TransferWanted,
)
from ledgermq.dledger.raft.events import (
    AcceptFailed,
    Appended,
    BeginMoved,
    CannotWrite,
    Durable,
    Event,
    Fetched,
    Received,
    Seeded,
    Tick,
    TransferRequested,
)
from ledgermq.dledger.raft.log_view import LogView
from ledgermq.dledger.raft.messages import Push, Seed, SeedReply

from .store import ENTRY_SIZE_BYTES, Entry, Store, Sync, log_runs, runs_of

if TYPE_CHECKING:
    from .harness import Cluster

STALL_MS = 300
RETRY_MS = 1000
# A snapshot travels in so many parts.
SEED_PARTS = 3


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
        # Parts of the snapshot that is coming in.
        self._seed_parts: dict[int, Entry] = {}
        self._seed: Seed | None = None

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
            log=LogView(log_runs(self.store), self.store.base_index, self.store.base_term),
            commit=self.applied,
            standing=self.store.standing,
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
        self._seed = None
        self.store.crash(kept)

    def wipe(self) -> None:
        """A new disk takes the place of the old one, while the process is dead."""
        assert self.core is None, f"{self.name} runs"
        self._cluster.invariants.on_forget(self)
        self.store.wipe()
        self.applied = -1

    def damage(self, first: int) -> None:
        """Entries from `first` on turn out to be broken, while the process is dead."""
        assert self.core is None, f"{self.name} runs"
        self._cluster.invariants.on_forget(self)
        self.store.damage(first)
        self.applied = min(self.applied, first - 1)

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
            self.handle(CannotWrite())
            return 0
        self.store.append(self._cluster.new_entry(core.term) for _ in range(count))
        self.handle(Appended(count))
        self._sync()
        return count

    def compact(self, index: int) -> None:
        """Drop the entries before `index`, all of them applied."""
        if self.running and index > self.store.base_index + 1:
            self.store.move_begin(index)
            self.handle(BeginMoved(index))

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
                self._persist(effect)
            case Send():
                cluster.invariants.on_send(self, effect.message)
                cluster.network.send(self.name, effect.peer, effect.message, cluster.now_ms)
            case Fetch():
                self._later(cluster.conditions.fetch_ms, lambda: self._fetch(effect))
            case SendPush():
                self._push(effect)
            case AcceptEntries():
                self._accept(effect, event, entries)
            case AppendNoop():
                self._append_noop(effect)
            case Commit():
                cluster.invariants.on_commit(self, effect.index)
            case RoleChanged():
                cluster.invariants.on_role(self, effect)
            case SendSeed() | TakeSeed():
                self._run_seed(effect, entries)
            case _:
                self._transfer(effect)

    def _transfer(self, effect: Effect) -> None:
        if isinstance(effect, TransferWanted):
            self.handle(TransferRequested(effect.target))
        else:
            assert isinstance(effect, TransferEnded)

    def _push(self, effect: SendPush) -> None:
        body = self._fetched.pop(effect.token) if effect.token else ()
        now_ms = self._cluster.now_ms
        self._cluster.network.push(self.name, effect.peer, effect.push, body, now_ms)

    def _persist(self, effect: PersistHardState) -> None:
        admitted = effect.standing is Standing.MEMBER is not self.store.standing
        self.store.save_hard_state(effect.term, effect.vote, effect.standing)
        if admitted:
            self._cluster.invariants.on_admitted(self)

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

    def _append_noop(self, effect: AppendNoop) -> None:
        core = self.core
        if core is None or core.role is not Role.LEADER or core.term != effect.term:
            return
        if self.disk_full or not self.running:
            self.handle(CannotWrite())
            self._later((RETRY_MS, RETRY_MS), lambda: self._append_noop(effect))
            return
        self.store.append([self._cluster.new_entry(effect.term)])
        self.handle(Appended(1))
        self._sync()

    def _fetch(self, effect: Fetch) -> None:
        if effect.first <= self.store.base_index:
            return  # gone meanwhile: the core has been told
        entries = self.store.read(effect.first, effect.max_bytes)
        entries = entries[: effect.last - effect.first + 1]
        if entries:
            self._fetched[effect.token] = entries
            size = len(entries) * ENTRY_SIZE_BYTES
            self.handle(Fetched(effect.peer, effect.token, runs_of(entries), size))

    # --- snapshots ------------------------------------------------------------------------------

    def _run_seed(self, effect: SendSeed | TakeSeed, entries: tuple[Entry, ...]) -> None:
        if isinstance(effect, SendSeed):
            self._send_seed(effect)
        else:
            self._take_seed(effect.message, entries)

    def _send_seed(self, effect: SendSeed) -> None:
        """The state of a log is its digest; it travels as an entry."""
        core, store, network = self.core, self.store, self._cluster.network
        assert core is not None
        index = max(min(core.commit, store.durable), store.base_index)
        body = (Entry(store.term_at(index), store.chain_at(index)),)
        base = (store.base_index, store.base_term, 0, store.base_chain)
        for part in range(SEED_PARTS):
            place = (index, body[0].term, SEED_PARTS, part)
            message = Seed(self.name, core.term, effect.session, *base, *place)
            network.push(self.name, effect.peer, message, body, self._cluster.now_ms)

    def _take_seed(self, m: Seed, body: tuple[Entry, ...]) -> None:
        key = (m.term, m.session, m.base_index, m.snapshot_index)
        seed = self._seed
        if seed is None or key != (seed.term, seed.session, seed.base_index, seed.snapshot_index):
            self._seed, self._seed_parts = m, {}
        self._seed_parts[m.offset] = body[0]
        received = len(self._seed_parts)
        reply = SeedReply(self.name, m.term, m.session, received)
        self._cluster.network.send(self.name, m.sender, reply, self._cluster.now_ms)
        if received == m.total_bytes:
            # The snapshot is synced in a thread.
            self._later(self._cluster.conditions.sync_ms, lambda: self._install(m, body[0].value))

    def _install(self, m: Seed, state: int) -> None:
        assert self.core is not None
        if not self.running or self.disk_held:
            self._later((1, 1), lambda: self._install(m, state))
            return
        if self.core.wants_seed(m):
            self._cluster.invariants.on_seeded(self, m, state)
            self.store.reset(m.base_index, m.base_term, m.base_chain)
            self.applied = m.base_index
            self.handle(Seeded(m.session, m.base_index, m.base_term))

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
