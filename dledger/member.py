"""How one member is set up, and whom it tells what."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .ids import NodeId, RaftConfig
from .raft.effects import Role
from .store.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One member: its group, where it listens, and its store.

    Attributes:
        bootstrap: an operator's word that this store may vote, whatever happened to it.
    """

    raft: RaftConfig
    group: str
    members: dict[NodeId, tuple[str, int]]
    folder: Path
    data_folder: Path | None
    segment_bytes: int
    sync_flush: bool
    flush_interval_ms: int
    address: str
    listen_host: str = "0.0.0.0"
    bootstrap: bool = False


@dataclass(frozen=True, slots=True)
class ServerCallbacks:
    """What the broker does when the log moves.

    Attributes:
        on_role: role, term or leader changed; leaving LEADER drops staged entries.
        on_commit: entries up to this index are committed.
        on_append_failed: what was staged is not in the log.
        on_hand_over: leadership is about to be handed over: stage what must go before; what is
            staged later is not taken over.
        on_transfer_ended: a hand-over failed, for this reason; take sends again.
        make_noop: (term, index) of a new leader's first entry -> its record's length in bytes,
            and a function from its physical offset to the record.
        on_seeded: the log was replaced by a leader's snapshot, which says what to go on from.
        on_stop: the node must stop, for this reason.
    """

    on_role: Callable[[Role, int, NodeId | None], None]
    on_commit: Callable[[int], None]
    on_append_failed: Callable[[Exception], None]
    on_hand_over: Callable[[], None]
    on_transfer_ended: Callable[[str], None]
    make_noop: Callable[[int, int], tuple[int, Callable[[int], bytes]]]
    on_seeded: Callable[[Snapshot], None]
    on_stop: Callable[[Exception], None]
