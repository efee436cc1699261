"""What members say to each other. `term` and `standing` are always the sender's."""

from dataclasses import dataclass

from ledgermq.dledger.ids import NodeId, Standing


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """Please elect me.

    Attributes:
        term: the sender's own term.
        for_term: the term it wants to lead: `term + 1` in a pre-vote, else `term`.
        pre: only asks whether it would win; nobody changes anything.
        forced: a transfer, ordered by the leader: voters forget that they hear that leader.
    """

    sender: NodeId
    term: int
    for_term: int
    last_index: int
    last_term: int
    pre: bool
    forced: bool = False
    standing: Standing = Standing.MEMBER


@dataclass(frozen=True, slots=True)
class VoteReply:
    """Answer to a vote request for `for_term`; `holds_log`: the sender's log is not empty."""

    sender: NodeId
    term: int
    for_term: int
    granted: bool
    pre: bool
    standing: Standing = Standing.MEMBER
    holds_log: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The leader lives. `seq` grows; its echo proves when the quorum was heard."""

    sender: NodeId
    term: int
    commit: int
    seq: int


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """Echo of a heartbeat; `disk_percent`: how full the sender's disk is, 0 to 100."""

    sender: NodeId
    term: int
    seq: int
    standing: Standing = Standing.MEMBER
    disk_percent: int = 0


@dataclass(frozen=True, slots=True)
class Push:
    """Entries `prev_index + 1 …`, or none: then it asks whether prev matches.

    Attributes:
        session: the leader's connection; echoed by the ack.
        runs: (term, count) of consecutive entries; their bytes travel beside this message.
        commit: the leader's commit index.
    """

    sender: NodeId
    term: int
    session: int
    prev_index: int
    prev_term: int
    runs: tuple[tuple[int, int], ...]
    commit: int

    @property
    def last_index(self) -> int:
        """Index of the last entry carried, or `prev_index`."""
        return self.prev_index + sum(count for _, count in self.runs)


@dataclass(frozen=True, slots=True)
class PushReply:
    """A follower's ack or refusal.

    Attributes:
        success: the log up to `match` is the leader's, and durable here.
        match: highest index verified against this term's leader and durable.
        prev_index: of the refused push.
        conflict_term: term of the follower's entry at prev_index, NONE if its log is shorter.
        conflict_index: first index of conflict_term, or the follower's end + 1.
    """

    sender: NodeId
    term: int
    session: int
    success: bool
    match: int
    prev_index: int = -1
    conflict_term: int = -1
    conflict_index: int = -1
    standing: Standing = Standing.MEMBER


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader hands over: campaign at once."""

    sender: NodeId
    term: int


@dataclass(frozen=True, slots=True)
class Admit:
    """You hold all that was committed before you came: from now on your word counts.

    Attributes:
        session: of the pushes that brought it there; a later life of the receiver has another.
    """

    sender: NodeId
    term: int
    session: int


@dataclass(frozen=True, slots=True)
class Seed:
    """A part of a snapshot, for a follower whose log ends before the leader's begins.

    The log begins anew behind `base_index`; what follows there comes by pushes.

    Attributes:
        session: the leader's connection, as in `Push`.
        base_index: last entry that the leader no longer holds.
        base_term: its term.
        base_pos: byte of the log at which the entry behind it starts.
        base_chain: its chain value.
        snapshot_index: last entry applied in the snapshot, >= base_index.
        snapshot_term: its term.
        total_bytes: size of the whole snapshot.
        offset: where the bytes beside this message belong in it.
    """

    sender: NodeId
    term: int
    session: int
    base_index: int
    base_term: int
    base_pos: int
    base_chain: int
    snapshot_index: int
    snapshot_term: int
    total_bytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class SeedReply:
    """The first `received_bytes` of the snapshot are here."""

    sender: NodeId
    term: int
    session: int
    received_bytes: int


Message = (
    VoteRequest
    | VoteReply
    | Heartbeat
    | HeartbeatReply
    | Push
    | PushReply
    | TimeoutNow
    | Admit
    | Seed
    | SeedReply
)
