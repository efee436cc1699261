"""The shell around the Raft core: it owns time, sockets and disk, and carries out effects.

Its rule: persist term and vote, then send; persist entries, then count them; commit, then apply,
then answer.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.errors import FrameError, StorageError

from .errors import CallerError, DiskFullError, InvariantError
from .flusher import Flusher
from .ids import NodeId
from .member import ServerCallbacks, ServerConfig
from .peers import PeerCallbacks, Peers
from .raft import effects as fx
from .raft import events as ev
from .raft.core import RaftCore
from .raft.effects import Effect, Role
from .raft.log_view import LogView
from .raft.messages import Push
from .rpc import codec
from .rpc.codec import Frame, Kind
from .store import entry
from .store.member_store import MemberStore
from .store.recovery import term_runs
from .store.zero_ahead import ZeroAhead

log = logging.getLogger(__name__)

# A timer this late means that the process itself was not running.
_STALL_MS = 300
_MARK_INTERVAL_S = 1.0
_DISK_FULL_RETRY_S = 1.0


class LogServer:
    """One member of a group.

    Leader's append: `reserve` tells where the next record lies, `stage` takes it; everything
    staged in one loop tick is one write, one step and one push per follower.
    """

    def __init__(self, config: ServerConfig, callbacks: ServerCallbacks) -> None:
        """Open the store and recover it.

        Raises:
            CallerError: the store is another node's or in use.
            DamagedError: it is damaged.
        """
        self.config = config
        self._callbacks = callbacks
        self._store = MemberStore(
            config.folder,
            config.data_folder,
            group=config.group,
            self_id=config.raft.self_id,
            segment_bytes=config.segment_bytes,
        )
        self.ledger = self._store.ledger
        hard_state = self._store.hard_state
        view = LogView(term_runs(self.ledger))
        self.core = RaftCore(
            config.raft,
            Random(),
            mono_ms(),
            term=max(hard_state.term, view.last_term, 0),
            vote=hard_state.vote if hard_state.term >= view.last_term else None,
            log=view,
            commit=min(self.ledger.marks.mark.commit, view.last_index),
        )
        self._peers = Peers(
            group=config.group,
            self_id=config.raft.self_id,
            store_id=self._store.store_id,
            segment_bytes=config.segment_bytes,
            address=config.address,
            members=config.members,
            callbacks=PeerCallbacks(
                on_frame=self._on_frame,
                on_data_up=lambda peer: self._step(ev.LinkUp(peer)),
                on_data_down=lambda peer: self._step(ev.LinkDown(peer)),
                on_died=lambda peer: self._step(ev.PeerDied(peer)),
            ),
        )
        self._flusher = Flusher(
            self.ledger,
            on_durable=lambda index: self._step(ev.Durable(index)),
            on_failure=self._stop,
        )
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="read")
        if config.sync_flush:
            self.ledger.zero_ahead = ZeroAhead(self.ledger.data, self._readers)
        self._queue: deque[Effect] = deque()
        self._running_effects = False
        self._payload = b""
        self._fetched: dict[int, bytes] = {}
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ms = 0
        # By purpose: mark, flush, retry.
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.stopped = False
        self._closed = False

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen for the peers and take part. OSError: the port is taken."""
        await self._peers.start(self.config.listen_host)
        self._schedule_tick()
        self._after("mark", _MARK_INTERVAL_S, self._mark)

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
        for timer in (self._timer, *self._timers.values()):
            if timer:
                timer.cancel()
        self._timers.clear()

    def _stop(self, reason: Exception) -> None:
        """The disk or an invariant failed: do nothing more, promise nothing more."""
        if self.stopped:
            return
        self.stopped = True
        self._cancel_timers()
        self._queue.clear()
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

    def has_lease(self) -> bool:
        """Whether no other leader can have been elected by now."""
        return mono_ms() < self.core.lease_until_ms

    def reserve(self, record_bytes: int) -> int:
        """Physical offset of the next record of this length; then `stage` it.

        Raises:
            CallerError: it is too long for the log's files, or for the peers' frames.
        """
        if record_bytes > codec.MAX_RECORD_BYTES:
            raise CallerError(
                f"a record of {record_bytes} bytes; one can have {codec.MAX_RECORD_BYTES}"
            )
        return self.ledger.reserve(record_bytes) + entry.HEADER_BYTES

    def stage(self, record: bytes) -> int:
        """Add a record at the place `reserve` named; its index. Leader only."""
        if not self.is_leader:
            raise InvariantError("staged by a member that does not lead")
        index = self.ledger.stage(self.core.term, record)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_staged)
        return index

    def transfer(self, target: NodeId | None = None) -> None:
        """Hand leadership over; `on_role` tells when it is gone."""
        self._step(ev.TransferRequested(target))

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
            self._queue.extend(self.core.step(mono_ms(), event))
            if not self._running_effects:
                self._run_effects()
        except Exception as e:  # noqa: BLE001 - effects half carried out break every promise
            self._stop(e)
            return
        self._schedule_tick()

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

    # --- the leader's side --------------------------------------------------------------------

    def _append_noop(self, e: fx.AppendNoop) -> None:
        if not self.is_leader or self.core.term != e.term:
            return
        size, build = self._callbacks.make_noop(e.term, self.core.log.last_index + 1)
        self.ledger.stage(e.term, build(self.reserve(size)))
        try:
            self._write_staged()
        except DiskFullError as error:
            log.error("cannot lead yet: %s", error)
            self._after("retry", _DISK_FULL_RETRY_S, self._append_noop, e)

    def _flush_staged(self) -> None:
        self._flush_scheduled = False
        if not self.is_leader:
            return
        try:
            self._write_staged()
        except DiskFullError as e:
            self._callbacks.on_append_failed(e)
        except StorageError as e:
            self._stop(e)

    def _write_staged(self) -> None:
        count = self.ledger.write_staged()
        if count:
            self._step(ev.Appended(count))
            self._written()

    def _written(self) -> None:
        """Entries are in the page cache: count them now or after their fsync, by configuration."""
        if self.config.sync_flush:
            self._flusher.request()
            return
        self._step(ev.Durable(self.ledger.end_index))
        if "flush" not in self._timers:
            self._after("flush", self.config.flush_interval_ms / 1000, self._flusher.request)

    def _fetch(self, e: fx.Fetch) -> None:
        last = self.core.log.last_index
        found = self.ledger.cached_entries(e.first, last, e.max_bytes)
        if found is not None:
            self._deliver(e, found)
            return
        future = asyncio.get_running_loop().run_in_executor(
            self._readers, self.ledger.read_entries, e.first, last, e.max_bytes
        )
        term = self.core.term
        future.add_done_callback(lambda f: self._on_read(e, term, f))

    def _on_read(self, e: fx.Fetch, term: int, future: asyncio.Future[tuple[bytes, int]]) -> None:
        error = future.exception()
        if not self.is_leader or self.core.term != term:
            return  # the log may have been cut while it was read
        if error is None:
            self._deliver(e, future.result())
        else:
            self._stop(error if isinstance(error, Exception) else StorageError(str(error)))

    def _deliver(self, e: fx.Fetch, found: tuple[bytes, int]) -> None:
        data, reached = found
        runs = self.core.log.runs(e.first, reached)
        self._fetched[e.token] = data
        self._step(ev.Fetched(e.peer, e.token, runs, len(data)))

    # --- the follower's side ------------------------------------------------------------------

    def _on_frame(self, peer: NodeId, frame: Frame) -> None:
        message = codec.message_of(frame)
        if message.sender != peer:
            raise FrameError(f"{peer} sent a message of {message.sender}")
        if frame.kind is Kind.PUSH and isinstance(message, Push):
            codec.check_push(message, frame.payload)
            self._payload = frame.payload
        self._step(ev.Received(message))

    def _accept(self, e: fx.AcceptEntries) -> None:
        if e.truncate_from is not None:
            log.warning("cut from index=%d term=%d", e.truncate_from, self.core.term)
            self._flusher.settle()
            self.ledger.truncate(e.truncate_from)
            self._flusher.cut(self.ledger.end_index)
        try:
            self.ledger.append_copied(self._payload, e.first)
        except (DiskFullError, entry.EntryError) as error:
            log.error("entries of leader %s refused: %s", self.core.leader, error)
            self._step(ev.AcceptFailed(e.first))
            self._after("retry", _DISK_FULL_RETRY_S, self._peers.hang_up, self.core.leader)
            return
        self._written()

    # --- time ---------------------------------------------------------------------------------

    def _after(self, name: str, delay_s: float, action: Callable[..., None], *args: Any) -> None:
        """Call later, in place of what had the same name; never once the node stops."""
        if self.stopped:
            return
        if name in self._timers:
            self._timers[name].cancel()
        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_later(delay_s, self._due, name, action, args)

    def _due(self, name: str, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        del self._timers[name]
        try:
            action(*args)
        except StorageError as e:
            self._stop(e)

    def _schedule_tick(self) -> None:
        if self.stopped:
            return
        due_ms = self.core.deadline_ms
        if self._timer is not None:
            if self._timer_due_ms <= due_ms:
                return
            self._timer.cancel()
        wait_s = max(due_ms - mono_ms(), 0) / 1000
        self._timer_due_ms = due_ms
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._timer_fired)

    def _timer_fired(self) -> None:
        late = mono_ms() - self._timer_due_ms > _STALL_MS
        # Sockets first: what they hold may be the heartbeat that the tick would miss.
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(self._tick, late))

    def _tick(self, late: bool) -> None:
        self._timer = None
        self._step(ev.Tick(stalled=late))

    def _mark(self) -> None:
        """Move the durable mark along, in the fsync thread."""
        self._after("mark", _MARK_INTERVAL_S, self._mark)
        try:
            self._flusher.request_mark(self.core.commit)
        except DiskFullError as e:
            log.error("the durable mark stays behind: %s", e)


_EFFECTS: dict[type, Callable[[LogServer, Any], None]] = {
    fx.PersistHardState: lambda s, e: s._store.hard_state.save(e.term, e.vote),
    fx.Send: lambda s, e: s._peers.send(e.peer, e.message),
    fx.Fetch: LogServer._fetch,
    fx.SendPush: LogServer._send_push,
    fx.AcceptEntries: LogServer._accept,
    fx.AppendNoop: LogServer._append_noop,
    fx.Commit: lambda s, e: s._callbacks.on_commit(e.index),
    fx.RoleChanged: LogServer._role_changed,
    fx.TransferEnded: LogServer._transfer_ended,
}
