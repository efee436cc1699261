"""One line of text for what happens in a cluster; scenarios compare these lines."""

from dataclasses import dataclass

from ledgermq.dledger.ids import NONE, NodeId, Standing
from ledgermq.dledger.raft.core import RaftCore
from ledgermq.dledger.raft.effects import (
    AcceptEntries,
    AppendNoop,
    Commit,
    Effect,
    PersistHardState,
    Role,
    RoleChanged,
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
    DiskMeasured,
    Durable,
    Event,
    LinkDown,
    LinkUp,
    PeerDied,
    Received,
    Seeded,
    Tick,
    TransferRequested,
)
from ledgermq.dledger.raft.messages import (
    Admit,
    Heartbeat,
    HeartbeatReply,
    Message,
    Push,
    PushReply,
    Seed,
    SeedReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)


@dataclass(frozen=True, slots=True)
class Lost:
    """A message that never arrives."""

    message: Message


def runs_text(runs: tuple[tuple[int, int], ...]) -> str:
    """`3@1 2@4`: three entries of term 1, two of term 4."""
    return " ".join(f"{count}@{term}" for term, count in runs) or "none"


def message_text(m: Message) -> str:
    """A message without its sender."""
    match m:
        case VoteRequest():
            kind = "PREVOTE" if m.pre else "VOTE"
            forced = " forced" if m.forced else ""
            last = _at(m.last_index, m.last_term)
            return f"{kind} for term {m.for_term}, last {last}{forced}{_as(m.standing)}"
        case VoteReply():
            verdict = "GRANT" if m.granted else "DENY"
            kind = " (pre)" if m.pre else ""
            who = _as(m.standing)
            if m.standing is Standing.EMPTY and m.holds_log:
                who += " with a log"
            return f"{verdict}{kind} for term {m.for_term}, in term {m.term}{who}"
        case Heartbeat():
            return f"HEARTBEAT term {m.term} seq {m.seq} commit {m.commit}"
        case HeartbeatReply():
            return f"ECHO term {m.term} seq {m.seq}{_as(m.standing)}"
        case Push():
            what = f"PUSH {runs_text(m.runs)}" if m.runs else "PROBE"
            prev = _at(m.prev_index, m.prev_term)
            return f"{what} after {prev} (term {m.term} s{m.session}) commit {m.commit}"
        case PushReply():
            return _push_reply(m)
        case TimeoutNow():
            return f"TIMEOUT_NOW term {m.term}"
    return _joining_text(m)


def _joining_text(m: Admit | Seed | SeedReply) -> str:
    match m:
        case Admit():
            return f"ADMIT (term {m.term} s{m.session})"
        case Seed():
            where = f"(term {m.term} s{m.session})"
            base = _at(m.base_index, m.base_term)
            return f"SEED {m.offset + 1}/{m.total_bytes} behind {base} {where}"
        case SeedReply():
            return f"SEEDED {m.received_bytes} (term {m.term} s{m.session})"


def _push_reply(m: PushReply) -> str:
    where = f"(term {m.term} s{m.session}){_as(m.standing)}"
    if m.success:
        return f"ACK {m.match} {where}"
    if m.prev_index == NONE:
        return f"STALE {where}"
    return f"REFUSE {m.prev_index}: has {_at(m.conflict_index, m.conflict_term)} {where}"


def _as(standing: Standing) -> str:
    return "" if standing is Standing.MEMBER else f" as {standing.name}"


def _at(index: int, term: int) -> str:
    return f"{index}@{term}" if term != NONE else f"{index}@-"


def describe(name: NodeId, thing: "Event | Effect | Lost") -> str | None:
    """What `thing` means for member `name`; None for what says nothing new."""
    match thing:
        case Received():
            return f"{thing.message.sender} -> {name} {message_text(thing.message)}"
        case Lost():
            return f"{thing.message.sender} -> {name} {message_text(thing.message)}: lost"
        case Tick():
            return f"{name}: stalled" if thing.stalled else None
    text = _event(thing) or _effect(thing)
    return f"{name}: {text}" if text else None


def _event(thing: "Event | Effect") -> str | None:
    match thing:
        case Appended():
            return f"append {thing.count}"
        case Durable():
            return f"durable {thing.index}"
        case AcceptFailed():
            return f"cannot write from {thing.first}"
        case LinkUp():
            return f"link to {thing.peer} up"
        case LinkDown():
            return f"link to {thing.peer} down"
        case PeerDied():
            return f"told that {thing.peer} died"
        case TransferRequested():
            return f"asked to hand over to {thing.target or 'anyone'}"
    return _disk_event(thing)


def _disk_event(thing: "Event | Effect") -> str | None:
    match thing:
        case CannotWrite():
            return "no room for own entries"
        case DiskMeasured():
            return f"disk {thing.percent} % full"
        case BeginMoved():
            return f"begins at {thing.index}"
        case Seeded():
            return f"begins anew behind {_at(thing.base_index, thing.base_term)}"
    return None


def _effect(thing: "Event | Effect") -> str | None:
    match thing:
        case PersistHardState():
            return f"persist term {thing.term} vote {thing.vote or '-'}{_as(thing.standing)}"
        case AcceptEntries():
            cut = "" if thing.truncate_from is None else f"cut from {thing.truncate_from}, "
            return f"{cut}write from {thing.first}"
        case AppendNoop():
            return "no-op"
        case Commit():
            return f"commit {thing.index}"
        case RoleChanged():
            of = f" of {thing.leader}" if thing.role is Role.FOLLOWER and thing.leader else ""
            return f"{thing.role.value} term {thing.term}{of}"
        case TransferWanted():
            return f"wants to hand over to {thing.target}"
        case TransferEnded():
            return f"hand-over ended: {thing.reason}"
        case SendSeed():
            return f"snapshot for {thing.peer}"
        case TakeSeed():
            return "keep the part"
    return None


def status_text(name: NodeId, core: RaftCore, durable: int) -> str:
    """All that a scenario may want to know of a living member."""
    log = core.log
    runs = log.runs(log.base_index + 1, log.last_index)
    base = f"behind {_at(log.base_index, log.base_term)} " if log.base_index != NONE else ""
    leader = f" of {core.leader}" if core.role is Role.FOLLOWER and core.leader else ""
    return (
        f"{name} {core.role.value}{leader}{_as(core.standing)} term {core.term}"
        f" log {base}{runs_text(runs)}, end {log.last_index} durable {durable} commit {core.commit}"
    )
