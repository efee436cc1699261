"""What the shell must do, in the order given.

The shell's rule: persist term and vote, then send; persist entries, then count them; commit, then
apply, then answer.
"""

from dataclasses import dataclass
from enum import Enum

from ledgermq.dledger.ids import NodeId, Standing

from .messages import Message, Push, Seed


class Role(Enum):
    """A member's Raft role."""

    FOLLOWER = "FOLLOWER"
    CANDIDATE = "CANDIDATE"
    LEADER = "LEADER"


@dataclass(frozen=True, slots=True)
class PersistHardState:
    """Write and fsync all three before the next effect; a failure stops the node."""

    term: int
    vote: NodeId | None
    standing: Standing = Standing.MEMBER


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message on the control connection; it may be lost."""

    peer: NodeId
    message: Message


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get entries of `first`..`last`, at least one, up to `max_bytes`; answer with `Fetched`.

    `last` bounds the terms in one push: its head must fit a frame.
    """

    peer: NodeId
    token: int
    first: int
    last: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class SendPush:
    """Send a push on the push connection, with the bytes fetched under `token` (0: none)."""

    peer: NodeId
    token: int
    push: Push


@dataclass(frozen=True, slots=True)
class AcceptEntries:
    """Follower: take the entries of the push at hand from `first` on.

    Cut the log from `truncate_from` on before (None: nothing to cut); report `Durable` after.
    """

    truncate_from: int | None
    first: int


@dataclass(frozen=True, slots=True)
class AppendNoop:
    """Leader: append one no-op entry of `term`, then report `Appended(1)`."""

    term: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Entries up to and including `index` are committed: apply them, then answer."""

    index: int


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """Role, term or leader changed. Leaving LEADER: fail what is pending."""

    role: Role
    term: int
    leader: NodeId | None


@dataclass(frozen=True, slots=True)
class TransferWanted:
    """`target` is preferred and able: append what must go before, then `TransferRequested`."""

    target: NodeId


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """A transfer was given up: take sends again."""

    reason: str


@dataclass(frozen=True, slots=True)
class SendSeed:
    """Leader: `peer` needs entries that are gone; send it the newest snapshot.

    It goes in `Seed` messages on the push connection, with the log's present begin as base. A
    second one of a session takes the place of the first: the log's begin has moved.
    """

    peer: NodeId
    session: int


@dataclass(frozen=True, slots=True)
class TakeSeed:
    """Follower: keep this part of a snapshot; when it is whole, see `events.Seeded`."""

    message: Seed


Effect = (
    PersistHardState
    | Send
    | Fetch
    | SendPush
    | AcceptEntries
    | AppendNoop
    | Commit
    | RoleChanged
    | TransferWanted
    | TransferEnded
    | SendSeed
    | TakeSeed
)
