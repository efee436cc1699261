"""One member, one peer that says anything at all, and one that is honest.

What passes the checks of a frame may depose a leader or cost a term; it stops the node only where
going on would be worse.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, fields
from random import Random
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NONE, NodeId, RaftConfig, Standing
from ledgermq.dledger.raft import effects as fx
from ledgermq.dledger.raft import events as ev
from ledgermq.dledger.raft.core import RaftCore
from ledgermq.dledger.raft.effects import Role
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
from ledgermq.dledger.rpc import codec
from ledgermq.dledger.rpc.plausible import MAX_TERM_STEP, refuse_impossible
from ledgermq.remoting.errors import FrameError
from tests.support.fuzz import fuzzing, profiles

SELF, LIAR, HONEST = NodeId("n0"), NodeId("n1"), NodeId("n2")
CONFIG = RaftConfig(SELF, (SELF, LIAR, HONEST))
KINDS: list[type] = [
    VoteRequest, VoteReply, Heartbeat, HeartbeatReply, Push, PushReply, TimeoutNow, Admit, Seed,
    SeedReply,
]  # fmt: skip
# Going on would throw away what this node promised to keep, or show what nobody promised.
MAY_STOP = re.compile("committed")
# More objects than any run of these tests may leave.
BOUND = 200


@dataclass
class Member:
    """The core, with a shell that does at once what it is told."""

    core: RaftCore
    now_ms: int = 0

    def step(self, event: ev.Event) -> None:
        todo = [event]
        term, commit = self.core.term, self.core.commit
        while todo:
            for effect in self.core.step(self.now_ms, todo.pop(0)):
                todo += self.obey(effect)
        assert self.core.term >= term
        assert commit <= self.core.commit <= self.core.log.last_index

    def obey(self, e: fx.Effect) -> list[ev.Event]:
        core = self.core
        match e:
            case fx.AppendNoop() if core.role is Role.LEADER and core.term == e.term:
                return [ev.Appended(1), ev.Durable(core.log.last_index + 1)]
            case fx.AcceptEntries():
                return [ev.Durable(core.log.last_index)]
            case fx.Fetch():
                last = min(core.log.last_index, e.first + 3)
                return [ev.Fetched(e.peer, e.token, core.log.runs(e.first, last), 100)]
            case fx.Send(peer=peer, message=message) if peer == HONEST:
                return [ev.Received(m) for m in self.honestly(message)]
            case fx.SendPush(peer=peer, push=push) if peer == HONEST:
                match_ = push.last_index
                reply = PushReply(HONEST, push.term, push.session, success=True, match=match_)
                return [ev.Received(reply)]
        return []

    def honestly(self, m: Message) -> list[Message]:
        """What the honest peer, whose log is this member's, answers."""
        if isinstance(m, VoteRequest):
            term = m.term if m.pre else m.for_term
            return [VoteReply(HONEST, term, m.for_term, granted=True, pre=m.pre)]
        if isinstance(m, Heartbeat):
            return [HeartbeatReply(HONEST, m.term, m.seq)]
        return []

    def hear(self, message: Message) -> None:
        """As the shell does with a frame of the liar; FrameError: the connection is closed."""
        (frame,) = codec.FrameDecoder().feed(codec.encode_message(message))
        received = codec.message_of(frame)
        refuse_impossible(self.core, received)
        self.step(ev.Received(received))

    def objects(self) -> int:
        """How much it remembers, besides the terms of its log."""
        s = self.core._s
        in_flight = sum(len(p.in_flight) for p in s.progress.values())
        return len(s.heartbeat_sent) + in_flight + len(s.granted) + len(s.pre_granted)


# How a field that names a term, an index or a number is made of what the member has.
_FAR = [MAX_TERM_STEP + 1, 1 << 62, (1 << 63) - 1]
relative = st.integers(-3, 4) | st.sampled_from(_FAR)
absolute = st.integers(-1, 3) | st.sampled_from([(1 << 63) - 1])


@st.composite
def lies(draw: st.DrawFn) -> tuple[type, list[Any]]:
    """A kind, and for each field but the sender how its value is found."""
    cls = draw(st.sampled_from(KINDS))
    values: list[Any] = []
    for field in fields(cls)[1:]:
        if field.type is bool:
            values.append(draw(st.booleans()))
        elif field.name == "standing":
            values.append(draw(st.sampled_from(Standing)))
        elif field.name == "runs":
            steps = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=3))
            values.append(steps)
        else:
            values.append(draw(st.tuples(st.booleans(), relative, absolute)))
    return cls, values


def told(core: RaftCore, cls: type, values: list[Any]) -> Message:
    """The lie, fitted to what the member is at this moment."""
    found: dict[str, Any] = {"sender": LIAR}
    for field, value in zip(fields(cls)[1:], values, strict=True):
        if field.name == "runs":
            at, runs = max(core.log.last_term, 1), []
            for step, count in value:
                at += max(step, 1 if runs else 0)
                runs.append((at, count))
            found[field.name] = tuple(runs)
        elif isinstance(value, tuple):
            is_relative, difference, number = value
            base = _base(core, field.name) if is_relative else 0
            wanted = base + difference if is_relative else number
            found[field.name] = max(NONE, min(wanted, (1 << 63) - 1))
        else:
            found[field.name] = value
    message: Message = cls(**found)
    return message


def _base(core: RaftCore, name: str) -> int:
    if "term" in name:
        return core.term
    if name in ("seq", "session"):
        return core._s.heartbeat_seq if name == "seq" else core._s.session_counter
    return core.commit if name in ("commit", "base_index") else core.log.last_index


steps = st.lists(
    lies().map(lambda lie: ("lie", lie))
    | st.tuples(st.just("tick"), st.sampled_from([1, 50, 150, 900, 2100]))
    | st.tuples(st.sampled_from(["up", "down", "append", "transfer", "died"]), st.none()),
    max_size=40,
)


def run(script: list[tuple[str, Any]]) -> None:
    m = Member(RaftCore(CONFIG, Random(1), 0))
    m.step(ev.LinkUp(HONEST))
    reason = ""
    for what, value in script:
        try:
            act(m, what, value)
        except InvariantError as e:
            reason = str(e)
            break
        assert m.objects() <= BOUND
    assert not reason or MAY_STOP.search(reason), reason


def act(m: Member, what: str, value: Any) -> None:
    leads = m.core.role is Role.LEADER
    match what:
        case "lie":
            message = told(m.core, *value)
            note(f"{m.core.role.value} {m.core.term}: {message}")
            with suppress(FrameError):
                m.hear(message)
        case "tick":
            m.now_ms += value
            m.step(ev.Tick())
        case "up":
            m.step(ev.LinkUp(LIAR))
        case "down":
            m.step(ev.LinkDown(LIAR))
        case "append" if leads:
            m.step(ev.Appended(2))
            m.step(ev.Durable(m.core.log.last_index))
        case "transfer":
            m.step(ev.TransferRequested(LIAR))
        case "died":
            m.step(ev.PeerDied(LIAR))


@profiles(100, 20_000)
def test_a_liar_stops_a_member_only_where_going_on_is_worse(examples: int) -> None:
    fuzzing(examples)(given(steps)(run))()


def leading() -> Member:
    m = Member(RaftCore(CONFIG, Random(1), 0))
    m.step(ev.LinkUp(HONEST))
    m.now_ms = 5000
    m.step(ev.Tick())
    assert (m.core.role, m.core.commit) == (Role.LEADER, 0)
    return m


def following() -> Member:
    m = Member(RaftCore(CONFIG, Random(1), 0))
    m.step(ev.Received(Heartbeat(HONEST, 3, NONE, 1)))
    assert m.core.leader == HONEST
    return m


TERM = 3
IMPOSSIBLE = [
    pytest.param(Heartbeat(LIAR, TERM, NONE, 1), "leads in term 3", id="a second leader"),
    pytest.param(Push(LIAR, TERM, 1, -1, -1, (), -1), "leads in term 3", id="its push"),
    pytest.param(TimeoutNow(LIAR, TERM), "leads in term 3", id="its order to take over"),
    pytest.param(Admit(LIAR, TERM, 1), "leads in term 3", id="its admission"),
    pytest.param(Heartbeat(LIAR, 0, NONE, 1), "leads in term 0", id="before any election"),
    pytest.param(Heartbeat(LIAR, 9, NONE, 0), "number 0", id="no number"),
    pytest.param(Heartbeat(LIAR, (1 << 63) - 1, 0, 1), "too far above", id="the last term"),
    pytest.param(Heartbeat(LIAR, MAX_TERM_STEP + 4, 0, 1), "too far above", id="a far term"),
    pytest.param(
        VoteRequest(LIAR, 5, (1 << 63) - 1, 0, 1, pre=False), "too far above", id="a vote for it"
    ),
    pytest.param(VoteRequest(LIAR, 5, 9, 0, 1, pre=False), "asks for term 9 in 5", id="vote"),
    pytest.param(VoteRequest(LIAR, 5, 5, 0, 1, pre=True), "asks for term 5 in 5", id="pre-vote"),
    pytest.param(VoteRequest(LIAR, 5, 6, 0, 1, pre=True, forced=True), "forced", id="forced"),
    pytest.param(VoteRequest(LIAR, 5, 5, 0, 6, pre=False), "a log that ends", id="a later log"),
    pytest.param(VoteRequest(LIAR, 5, 5, 7, -1, pre=False), "a log that ends", id="half a log"),
    pytest.param(VoteReply(LIAR, 4, 5, granted=True, pre=False), "granted", id="a granted vote"),
    pytest.param(VoteReply(LIAR, 5, 5, granted=True, pre=True), "granted", id="a pre-vote"),
    pytest.param(Push(LIAR, 4, 0, -1, -1, (), -1), "session 0", id="a push without a session"),
    pytest.param(
        PushReply(LIAR, 4, 1, success=False, match=-1, conflict_term=5), "conflict", id="conflict"
    ),
]


@pytest.mark.parametrize(("message", "problem"), IMPOSSIBLE)
def test_what_no_member_says_ends_its_connection(message: Message, problem: str) -> None:
    m = following()
    with pytest.raises(FrameError, match=problem):
        m.hear(message)
    assert (m.core.term, m.core.leader) == (TERM, HONEST)


def test_a_second_leader_does_not_stop_the_first() -> None:
    m = leading()
    for message in (
        Heartbeat(LIAR, m.core.term, 0, 1),
        Push(LIAR, m.core.term, 1, -1, -1, (), -1),
        Seed(LIAR, m.core.term, 1, 5, 1, 0, 0, 5, 1, 1, 0),
    ):
        with pytest.raises(FrameError, match="as this node does"):
            m.hear(message)
    assert m.core.role is Role.LEADER


def test_what_members_do_say_passes() -> None:
    m = following()
    for message in (
        Heartbeat(LIAR, TERM + 1, NONE, 1),
        VoteRequest(LIAR, 5, 6, 3, 5, pre=True),
        VoteRequest(LIAR, 6, 6, 3, 5, pre=False, forced=True),
        VoteReply(LIAR, 9, 6, granted=False, pre=False),
        PushReply(LIAR, 9, 1, success=False, match=-1),
        TimeoutNow(LIAR, TERM - 1),
    ):
        m.hear(message)


def test_a_cut_below_the_commit_index_stops_the_node() -> None:
    """One frame of a liar does it, if it names a higher term: a leader that lost committed entries
    looks the same, and nobody may go on then (design 11)."""
    m = leading()
    with pytest.raises(InvariantError, match="would cut index 0, which is committed here"):
        m.hear(Push(LIAR, m.core.term + 1, 1, NONE, NONE, ((m.core.term + 1, 1),), NONE))
