"""What can happen to a member, besides a message."""

from dataclasses import dataclass

from ledgermq.dledger.ids import NodeId

from .messages import Message


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed.

    `stalled`: this process itself was not running for a while; silence proves nothing yet.
    """

    stalled: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """A message came in."""

    message: Message


@dataclass(frozen=True, slots=True)
class Appended:
    """The leader's shell wrote `count` entries of the current term at the end of its log."""

    count: int


@dataclass(frozen=True, slots=True)
class Durable:
    """The own log is on disk up to and including `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class AcceptFailed:
    """Follower: the entries from `first` on could not be written (no room); they are not here.

    Report it before any other event. The leader's push connection must be closed, at once or
    later: pushes are ignored until the next one.
    """

    first: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """Answer to `Fetch`: the bytes of `runs` are at hand under `token`."""

    peer: NodeId
    token: int
    runs: tuple[tuple[int, int], ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A new connection for pushes to `peer` stands; nothing is known of what it holds."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The connection for pushes to `peer` is gone."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class PeerDied:
    """A hint: `peer`'s connection was reset, and the reconnect refused or greeted by a new boot."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class TransferRequested:
    """Hand leadership to `target`, or to the best follower when None.

    Report what is to be in the target's log before: no append may follow.
    """

    target: NodeId | None = None


@dataclass(frozen=True, slots=True)
class CannotWrite:
    """Leader: an append failed for want of room; report it each time.

    It hands over if it can, and does not ask for votes for a while.
    """


@dataclass(frozen=True, slots=True)
class DiskMeasured:
    """The own disk is full to so many percent, 0 to 100: the leader is told, or knows."""

    percent: int


@dataclass(frozen=True, slots=True)
class BeginMoved:
    """The own log now begins at `index`; what was before is gone. Only committed entries go."""

    index: int


@dataclass(frozen=True, slots=True)
class Seeded:
    """Follower: the log was emptied and begins behind `base_index`; the snapshot is on disk.

    Ask `RaftCore.wants_seed` just before the log is emptied: meanwhile another leader may have
    filled it.
    """

    session: int
    base_index: int
    base_term: int


Event = (
    Tick
    | Received
    | Appended
    | Durable
    | AcceptFailed
    | Fetched
    | LinkUp
    | LinkDown
    | PeerDied
    | TransferRequested
    | CannotWrite
    | DiskMeasured
    | BeginMoved
    | Seeded
)
