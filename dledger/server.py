"""The shell around the Raft core: it owns time, sockets and disk, and carries out effects.

Its rule: persist term and vote, then send; persist entries, then count them; commit, then apply,
then answer.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from ledgermq.remoting.errors import StorageError

from .appends import Appends
from .errors import DamagedError, DiskFullError
from .flusher import Flusher
from .host import Host
from .ids import NodeId
from .member import ServerCallbacks, ServerConfig
from .peers import PeerCallbacks, Peers
from .raft import effects as fx
from .raft import events as ev
from .raft.core import RaftCore
from .raft.effects import Effect, Role
from .raft.log_view import LogView
from .raft.messages import Push, Seed, SeedReply
from .rpc.codec import Frame
from .rpc.plausible import checked_message
from .seeding import Seeding
from .store import entry
from .store.begin import Begin
from .store.member_store import MemberStore
from .store.recovery import term_runs
from .store.snapshots import SnapshotStore
from .store.walked import Walked
from .store.zero_ahead import ZeroAhead
from .timers import Ticker, Timers
from .upkeep import Upkeep

log = logging.getLogger(__name__)

_DISK_FULL_RETRY_S = 1.0


class LogServer:
    """One member of a group.

    Leader's append: `reserve` tells where the next record lies, `stage` takes it; everything
    staged in one loop tick is one write, one step and one push per follower.
    """

    def __init__(
        self, config: ServerConfig, callbacks: ServerCallbacks, host: Host | None = None
    ) -> None:
        """Open the store and recover it.

        Raises:
            CallerError: the store is another node's or in use.
            DamagedError: it is damaged, and there is no other node to repair it from.
        """
        self.config = config
        self.host = host or Host()
        self._callbacks = callbacks
        self._store = MemberStore(
            config.folder,
            config.data_folder,
            group=config.group,
            self_id=config.raft.self_id,
            segment_bytes=config.segment_bytes,
            sync_flush=config.sync_flush,
            alone=len(config.raft.voters) == 1,
            bootstrap=config.bootstrap,
            host=self.host,
        )
        self.ledger = self._store.ledger
        self.core = self._make_core()
        self._peers = self._make_peers()
        # By purpose: mark, flush, retry, patience.
        self._timers = Timers(self._stop)
        self._readers = self.host.threads(2, "read")
        if config.sync_flush:
            self.ledger.zero_ahead = ZeroAhead(self.ledger.data, self._readers)
        self._make_parts()
        # Steps, and what they are to do.
        self._queue: deque[Effect] = deque()
        self._running_effects = False
        self._payload = b""
        self._entries: Walked | None = None
        self._fetched: dict[int, bytes] = {}
        self._ticker = Ticker(
            self.host.mono_ms,
            lambda: self.core.deadline_ms,
            lambda stalled: self._step(ev.Tick(stalled=stalled)),
        )
        self.stopped = False
        self._closed = False

    def _make_core(self) -> RaftCore:
        ledger, hard_state = self.ledger, self._store.hard_state
        base_index, base_term = ledger.begin.index - 1, ledger.begin.term
        view = LogView(term_runs(ledger), base_index, base_term)
        # A snapshot is of committed entries only.
        known = max(ledger.marks.mark.commit, self._store.snapshots.index)
        return RaftCore(
            self.config.raft,
            self.host.rng,
            self.host.mono_ms(),
            term=max(hard_state.term, view.last_term, 0),
            vote=hard_state.vote if hard_state.term >= view.last_term else None,
            log=view,
            commit=max(min(known, view.last_index), base_index),
            standing=self._store.standing,
        )

    def _make_peers(self) -> Peers:
        config = self.config
        return Peers(
            group=config.group,
            self_id=config.raft.self_id,
            store_id=self._store.store_id,
            boot_id=self.host.new_id(),
            segment_bytes=config.segment_bytes,
            address=config.address,
            members=config.members,
            callbacks=PeerCallbacks(
                on_frame=self._on_frame,
                on_data_up=lambda peer: self._step(ev.LinkUp(peer)),
                on_data_down=self._on_data_down,
                on_died=lambda peer: self._step(ev.PeerDied(peer)),
            ),
        )

    def _make_parts(self) -> None:
        config, timers = self.config, self._timers
        self._flusher = Flusher(
            self.ledger, on_durable=self._on_synced, on_failure=self._stop, host=self.host
        )
        self._upkeep = Upkeep(
            self._store,
            self.core,
            self._flusher,
            timers,
            self._readers,
            step=self._step,
            stop=self._stop,
        )
        self.save_snapshot, self.move_begin = self._upkeep.save_snapshot, self._upkeep.move_begin
        self._appends = Appends(
            config,
            self._callbacks,
            self.core,
            self._flusher,
            self.ledger,
            timers,
            step=self._step,
            stop=self._stop,
        )
        appends = self._appends
        self.reserve, self.stage = appends.reserve, appends.stage
        self.reserve_run, self.stage_run = appends.reserve_run, appends.stage_run
        self._seeding = Seeding(
            config.raft.self_id,
            self.core,
            self._store,
            self._flusher,
            self._peers,
            timers,
            step=self._step,
            settle=self._upkeep.settle,
            on_seeded=self._callbacks.on_seeded,
        )

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen for the peers and take part. OSError: the port is taken."""
        await self._peers.start(self.config.listen_host)
        self._ticker.arm()
        self._upkeep.start()

    async def leave(self) -> None:
        """Hear and tell nothing more; what is here can be read, and kept, until `close`."""
        self._ticker.close()
        self._timers.close()
        await self._peers.close()

    async def close(self) -> None:
        """Stop taking part; what is written becomes durable, unless this node had to stop."""
        if self._closed:
            return
        self._closed = True
        had_to_stop, self.stopped = self.stopped, True
        self._cancel_timers()
        await self._peers.close()
        self._flusher.close()
        self._readers.shutdown(wait=True)
        self._store.close(None if had_to_stop else self.core.commit)

    def _cancel_timers(self) -> None:
        self._ticker.close()
        self._timers.close()
        self._upkeep.close()

    def _stop(self, reason: Exception) -> None:
        """The disk or an invariant failed: do nothing more, promise nothing more."""
        if self.stopped:
            return
        self.stopped = True
        self._cancel_timers()
        self._queue.clear()
        if isinstance(reason, DamagedError):
            self.note_damage(reason)
        log.critical("this node stops: %s", reason, exc_info=reason)
        self._callbacks.on_stop(reason)

    # --- what the broker asks -----------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this member is the Raft leader (not yet: ready)."""
        return self.core.role is Role.LEADER and not self.stopped

    def address_of(self, member: NodeId) -> str | None:
        """Where clients reach a member, once it has said so."""
        return self._peers.addresses.get(member) or None

    def note_damage(self, damage: DamagedError) -> None:
        """Have the next start look there, and repair it from the leader."""
        self._store.note_damage(damage)

    def has_lease(self) -> bool:
        """Whether no other leader can have been elected by now."""
        return self.host.mono_ms() < self.core.lease_until_ms

    @property
    def begin(self) -> Begin:
        """Where the log begins."""
        return self.ledger.begin

    @property
    def snapshots(self) -> SnapshotStore:
        """The snapshots of this node."""
        return self._store.snapshots

    def segment_begins(self) -> list[tuple[int, int]]:
        """(pos, index of the first entry) of each file of the log."""
        return self.ledger.segment_begins()

    @property
    def lost_power(self) -> bool:
        """Whether files that nobody synced before this start may lack bytes."""
        return self._store.lost_power

    def transfer(self, target: NodeId | None = None) -> None:
        """Hand leadership over; `on_role` tells when it is gone."""
        self._appends.hand_over(target)

    def report_disk(self, percent: int) -> None:
        """Note how full the own disk is, 0 to 100; the leader is told with every heartbeat."""
        self._step(ev.DiskMeasured(percent))

    def fullest_disk_percent(self) -> int:
        """How full the fullest disk is: the own one, and a leader's followers' heard lately."""
        return self.core.fullest_disk_percent

    def cached_entries(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int] | None:
        """Entries from memory; see `Ledger.read_entries`."""
        return self.ledger.cached_entries(first, last, max_bytes)

    async def read_entries(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int]:
        """Entries from the disk, in a thread; see `Ledger.read_entries`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._readers, self.ledger.read_entries, first, last, max_bytes
        )

    async def read_at(self, pos: int, size: int) -> bytes:
        """Bytes of the log at `pos`: from the page cache, else in a thread."""
        data = self.ledger.data.read_nowait(pos, size)
        if data is not None:
            return data
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self.ledger.data.read, pos, size)

    # --- steps and effects --------------------------------------------------------------------

    def _step(self, event: ev.Event) -> None:
        if self.stopped:
            return
        try:
            self._queue.extend(self.core.step(self.host.mono_ms(), event))
            if not self._running_effects:
                self._run_effects()
        except Exception as e:  # noqa: BLE001 - effects half carried out break every promise
            self._stop(e)
            return
        self._ticker.arm()

    def _on_synced(self, index: int) -> None:
        self._upkeep.on_synced(index)
        self._step(ev.Durable(index))

    def _run_effects(self) -> None:
        self._running_effects = True
        try:
            while self._queue and not self.stopped:
                effect = self._queue.popleft()
                _EFFECTS[type(effect)](self, effect)
        finally:
            self._running_effects = False
            # A push that was to carry them would have left by now.
            self._fetched.clear()

    def _send_push(self, e: fx.SendPush) -> None:
        self._peers.send_push(e.peer, e.push, self._fetched.pop(e.token, b""))

    def _role_changed(self, e: fx.RoleChanged) -> None:
        log.info("role=%s term=%d leader=%s", e.role.value, e.term, e.leader)
        if e.role is not Role.LEADER:
            self.ledger.drop_staged()
        self._callbacks.on_role(e.role, e.term, e.leader)

    def _transfer_ended(self, e: fx.TransferEnded) -> None:
        log.warning("leadership transfer ended: %s", e.reason)
        self._callbacks.on_transfer_ended(e.reason)

    def _fetch(self, e: fx.Fetch) -> None:
        found = self.ledger.cached_entries(e.first, e.last, e.max_bytes)
        if found is not None:
            self._deliver(e, found)
            return
        future = asyncio.get_running_loop().run_in_executor(
            self._readers, self.ledger.read_entries, e.first, e.last, e.max_bytes
        )
        term = self.core.term
        future.add_done_callback(lambda f: self._on_read(e, term, f))

    def _on_read(self, e: fx.Fetch, term: int, future: asyncio.Future[tuple[bytes, int]]) -> None:
        error = future.exception()
        if not self.is_leader or self.core.term != term or e.first < self.begin.index:
            return  # the log may have been cut at either end while it was read
        if error is None:
            self._deliver(e, future.result())
        else:
            self._stop(error if isinstance(error, Exception) else StorageError(str(error)))

    def _deliver(self, e: fx.Fetch, found: tuple[bytes, int]) -> None:
        data, reached = found
        runs = self.core.log.runs(e.first, reached)
        self._fetched[e.token] = data
        self._step(ev.Fetched(e.peer, e.token, runs, len(data)))

    def _on_data_down(self, peer: NodeId) -> None:
        self._seeding.forget(peer)
        self._step(ev.LinkDown(peer))

    # --- the follower's side ------------------------------------------------------------------

    def _on_frame(self, peer: NodeId, frame: Frame) -> None:
        message, entries = checked_message(self.core, peer, frame)
        if isinstance(message, (Push, Seed)):
            self._payload, self._entries = frame.payload, entries
        elif isinstance(message, SeedReply):
            self._seeding.on_reply(message)
        self._step(ev.Received(message))

    def _accept(self, e: fx.AcceptEntries) -> None:
        if e.truncate_from is not None:
            log.warning("cut from index=%d term=%d", e.truncate_from, self.core.term)
            self._flusher.settle()
            self.ledger.truncate(e.truncate_from)
            self._flusher.cut(self.ledger.end_index)
        try:
            self.ledger.append_copied(self._payload, e.first, self._entries)
        except (DiskFullError, entry.EntryError) as error:
            log.error("entries of leader %s refused: %s", self.core.leader, error)
            self._step(ev.AcceptFailed(e.first))
            self._timers.after("retry", _DISK_FULL_RETRY_S, self._peers.hang_up, self.core.leader)
            return
        self._appends.written()


_EFFECTS: dict[type, Callable[[LogServer, Any], None]] = {
    fx.PersistHardState: lambda s, e: s._store.hard_state.save(e.term, e.vote, e.standing),
    fx.Send: lambda s, e: s._peers.send(e.peer, e.message),
    fx.Fetch: LogServer._fetch,
    fx.SendPush: LogServer._send_push,
    fx.AcceptEntries: LogServer._accept,
    fx.SendSeed: lambda s, e: s._seeding.send(e),
    fx.TakeSeed: lambda s, e: s._seeding.take(e.message, s._payload),
    fx.AppendNoop: lambda s, e: s._appends.append_noop(e),
    fx.Commit: lambda s, e: s._callbacks.on_commit(e.index),
    fx.RoleChanged: LogServer._role_changed,
    fx.TransferWanted: lambda s, e: s.transfer(e.target),
    fx.TransferEnded: LogServer._transfer_ended,
}
