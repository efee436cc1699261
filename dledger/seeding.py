"""Giving a follower that lacks the log's beginning a snapshot, in pieces.

One piece is under way at a time: the answer, which says how much is there, asks for the next.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ledgermq.remoting.errors import FrameError

from .errors import DiskFullError, InvariantError
from .flusher import Flusher
from .ids import NodeId
from .peers import Peers
from .raft import events as ev
from .raft.core import RaftCore
from .raft.effects import Role, SendSeed
from .raft.messages import Seed, SeedReply
from .store.begin import Begin
from .store.member_store import MemberStore
from .store.snapshots import Snapshot
from .timers import Timers

log = logging.getLogger(__name__)

PIECE_BYTES = 512 << 10
_DISK_FULL_RETRY_S = 1.0
# More than any group's metadata; a leader that announces more is not believed.
MAX_SEED_BYTES = 512 << 20


@dataclass(slots=True)
class SeedSender:
    """A leader's side, for one follower in one session."""

    self_id: NodeId
    term: int
    session: int
    begin: Begin
    snapshot: Snapshot

    def piece(self, offset: int) -> tuple[Seed, bytes]:
        """The message that carries the bytes from `offset` on."""
        payload = self.snapshot.payload
        message = Seed(
            sender=self.self_id,
            term=self.term,
            session=self.session,
            base_index=self.begin.index - 1,
            base_term=self.begin.term,
            base_pos=self.begin.pos,
            base_chain=self.begin.chain,
            snapshot_index=self.snapshot.index,
            snapshot_term=self.snapshot.term,
            total_bytes=len(payload),
            offset=offset,
        )
        return message, payload[offset : offset + PIECE_BYTES]

    def follows(self, reply: SeedReply) -> bool:
        """Whether `reply` asks for another piece of this one."""
        same = (reply.term, reply.session) == (self.term, self.session)
        return same and 0 < reply.received_bytes < len(self.snapshot.payload)


class SeedReceiver:
    """A follower's side: at most one snapshot at a time, the newest that began."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._data = bytearray()

    def take(self, message: Seed, payload: bytes) -> int:
        """Add a piece; how many bytes are here now.

        Raises:
            FrameError: it announces more than a snapshot can have.
        """
        if message.total_bytes > MAX_SEED_BYTES:
            raise FrameError(
                f"leader {message.sender} sends a snapshot of {message.total_bytes} bytes; this"
                f" node takes {MAX_SEED_BYTES}"
            )
        key = (message.sender, message.term, message.session, message.snapshot_index)
        if key != self._key:
            self._key, self._data = key, bytearray()
        if message.offset == len(self._data):
            self._data += payload
        return len(self._data)

    def whole(self, message: Seed) -> Snapshot | None:
        """The snapshot, once all of it is here; then it is forgotten."""
        if len(self._data) < message.total_bytes:
            return None
        payload, self._data, self._key = bytes(self._data), bytearray(), ()
        return Snapshot(message.snapshot_index, message.snapshot_term, payload, complete=False)


class Seeding:
    """Both sides, for the member that owns the log."""

    def __init__(
        self,
        self_id: NodeId,
        core: RaftCore,
        store: MemberStore,
        flusher: Flusher,
        peers: Peers,
        timers: Timers,
        *,
        step: Callable[[ev.Event], None],
        settle: Callable[[], None],
        on_seeded: Callable[[Snapshot], None],
    ) -> None:
        """`settle` waits for a snapshot of this node's own that is being written."""
        self._self_id = self_id
        self._core = core
        self._store = store
        self._flusher = flusher
        self._peers = peers
        self._timers = timers
        self._step = step
        self._settle = settle
        self._on_seeded = on_seeded
        self._senders: dict[NodeId, SeedSender] = {}
        self._receiver = SeedReceiver()

    # --- the leader's side --------------------------------------------------------------------

    def send(self, e: SendSeed) -> None:
        """A follower lacks what this log no longer holds: give it a snapshot first."""
        snapshot = self._store.snapshots.newest
        begin = self._store.ledger.begin
        if snapshot is None or snapshot.index < begin.index - 1:
            raise InvariantError(f"the log begins at {begin.index} without a snapshot")
        log.info("peer=%s is given the snapshot of index=%d", e.peer, snapshot.index)
        sender = SeedSender(self._self_id, self._core.term, e.session, begin, snapshot)
        self._senders[e.peer] = sender
        self._peers.send_push(e.peer, *sender.piece(0))

    def on_reply(self, reply: SeedReply) -> None:
        """So much is there; send what follows, while this member leads."""
        sender = self._senders.get(reply.sender)
        if sender is None:
            return
        if self._core.role is not Role.LEADER or sender.term != self._core.term:
            del self._senders[reply.sender]
        elif sender.follows(reply):
            self._peers.send_push(reply.sender, *sender.piece(reply.received_bytes))

    def forget(self, peer: NodeId) -> None:
        """The connection is gone; the next one begins anew."""
        self._senders.pop(peer, None)

    # --- the follower's side ------------------------------------------------------------------

    def take(self, m: Seed, payload: bytes) -> None:
        """A piece of a snapshot; with the last one this log begins anew."""
        received = self._receiver.take(m, payload)
        snapshot = self._receiver.whole(m)
        if snapshot is not None:
            try:
                self._install(m, snapshot)
            except DiskFullError as e:
                log.error("the snapshot of leader %s cannot be kept: %s", m.sender, e)
                # It sends it again in its next session.
                self._timers.after("seed", _DISK_FULL_RETRY_S, self._peers.hang_up, m.sender)
                return
        self._peers.send(m.sender, SeedReply(self._self_id, self._core.term, m.session, received))

    def _install(self, m: Seed, snapshot: Snapshot) -> None:
        """Replace the log by a snapshot: the snapshot is on disk before the log is emptied."""
        self._flusher.settle()
        self._settle()
        self._store.snapshots.save(snapshot)
        if not self._core.wants_seed(m):
            return  # another leader has spoken meanwhile
        self._store.ledger.reset(Begin(m.base_index + 1, m.base_pos, m.base_term, m.base_chain))
        self._flusher.cut(m.base_index)
        log.warning("filled anew by %s: the log begins at index=%d", m.sender, m.base_index + 1)
        self._step(ev.Seeded(m.session, m.base_index, m.base_term))
        self._on_seeded(snapshot)
