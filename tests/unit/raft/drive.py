"""One core under test: feed it, and look at what it wants done."""

from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from ledgermq.dledger.ids import NodeId, RaftConfig, Standing
from ledgermq.dledger.raft.core import RaftCore
from ledgermq.dledger.raft.effects import Effect, Fetch, Send, SendPush
from ledgermq.dledger.raft.events import (
    Appended,
    Durable,
    Event,
    Fetched,
    LinkUp,
    Received,
    Tick,
)
from ledgermq.dledger.raft.log_view import LogView
from ledgermq.dledger.raft.messages import (
    Heartbeat,
    HeartbeatReply,
    Message,
    Push,
    PushReply,
    VoteReply,
    VoteRequest,
)

T = TypeVar("T")
N0, N1, N2, N3, N4 = (NodeId(f"n{i}") for i in range(5))


class LeastJitter(Random):
    """Always the least of the span."""

    def randint(self, a: int, b: int) -> int:
        return a


@dataclass
class Member:
    """A core and its clock; `effects` are those of the last step."""

    core: RaftCore
    now_ms: int = 0
    effects: tuple[Effect, ...] = field(default=())

    def step(self, event: Event, after_ms: int = 0) -> tuple[Effect, ...]:
        """One event, after so much time."""
        self.now_ms += after_ms
        self.effects = self.core.step(self.now_ms, event)
        return self.effects

    def receive(self, message: Message, after_ms: int = 0) -> tuple[Effect, ...]:
        return self.step(Received(message), after_ms)

    def tick(self, after_ms: int = 0, *, stalled: bool = False) -> tuple[Effect, ...]:
        return self.step(Tick(stalled=stalled), after_ms)

    def deadline(self) -> tuple[Effect, ...]:
        """The next tick, when it is due."""
        return self.tick(max(0, self.core.deadline_ms - self.now_ms))

    def all(self, kind: type[T]) -> list[T]:
        """Effects of one kind in the last step."""
        return [e for e in self.effects if isinstance(e, kind)]

    def sent(self, kind: type[T], to: NodeId | None = None) -> list[T]:
        """Messages of one kind sent in the last step, pushes included."""
        return [
            message
            for e in self.effects
            if isinstance(e, Send | SendPush) and to in (None, e.peer)
            for message in [e.message if isinstance(e, Send) else e.push]
            if isinstance(message, kind)
        ]

    # --- for leaders ----------------------------------------------------------------------------

    def session(self, peer: NodeId) -> int:
        """Session of the last push to `peer` in the last step."""
        return self.sent(Push, peer)[-1].session

    def fetch(self, peer: NodeId, size_bytes: int = 100) -> Push:
        """Answer the fetch of the last step with all that the log has; the push."""
        e = next(e for e in self.all(Fetch) if e.peer == peer)
        runs = self.core.log.runs(e.first, self.core.log.last_index)
        self.step(Fetched(peer, e.token, runs, size_bytes))
        return self.sent(Push, peer)[0]

    def ack(
        self, peer: NodeId, session: int, match: int, standing: Standing = Standing.MEMBER
    ) -> tuple[Effect, ...]:
        term = self.core.term
        return self.receive(PushReply(peer, term, session, True, match, standing=standing))

    def refuse(
        self,
        peer: NodeId,
        session: int,
        prev: int,
        conflict: tuple[int, int],
        standing: Standing = Standing.MEMBER,
    ) -> tuple[Effect, ...]:
        """Refusal of `prev`; conflict is (index, term)."""
        index, term = conflict
        return self.receive(
            PushReply(peer, self.core.term, session, False, -1, prev, term, index, standing)
        )


# A member that has a term gives no vote just after its start; these started before that matters.
LONG_AGO_MS = 1000


def member(
    size: int = 3,
    *,
    log: tuple[tuple[int, int], ...] = (),
    term: int | None = None,
    vote: NodeId | None = None,
    commit: int = -1,
    self_id: NodeId = N0,
    standing: Standing = Standing.MEMBER,
    base: tuple[int, int] = (-1, -1),
    **config: Any,
) -> Member:
    """A fresh process; `log` is (term, count) runs behind `base`, which is (index, term)."""
    voters = tuple(NodeId(f"n{i}") for i in range(size))
    term = max([0, base[1], *(t for t, _ in log)]) if term is None else term
    core = RaftCore(
        RaftConfig(self_id, voters, **config),
        LeastJitter(),
        -LONG_AGO_MS if term else 0,
        term=term,
        vote=vote,
        log=LogView(log, *base),
        commit=commit,
        standing=standing,
    )
    return Member(core)


def candidate(size: int = 3, **kwargs: Any) -> Member:
    """One that stands for `term + 1`; nobody but itself has voted."""
    m = member(size, **kwargs)
    m.deadline()
    term = m.core.term
    for peer in m.core._s.config.peers[: m.core._s.config.quorum - 1]:
        m.receive(VoteReply(peer, term, term + 1, True, pre=True))
    assert m.core.term == term + 1
    return m


def leader(
    size: int = 3, *, links: bool = True, noop: bool = True, **kwargs: Any
) -> tuple[Member, dict[NodeId, int]]:
    """A leader with its no-op written, and the session of each peer."""
    m = member(size, **kwargs)
    peers = m.core._s.config.peers
    if links:
        for peer in peers:
            m.step(LinkUp(peer))
    m.deadline()
    term = m.core.term
    for pre in (True, False):
        for peer in peers[: m.core._s.config.quorum - 1]:
            m.receive(VoteReply(peer, m.core.term, term + 1, True, pre=pre))
    sessions = {peer: m.session(peer) for peer in peers} if links else {}
    if noop:
        m.step(Appended(1))
        m.step(Durable(m.core.log.last_index))
    return m, sessions


def vote(
    sender: NodeId,
    for_term: int,
    last: tuple[int, int] = (-1, -1),
    *,
    pre: bool = False,
    forced: bool = False,
) -> VoteRequest:
    """A vote request; `last` is (index, term) of the sender's last entry."""
    term = for_term - 1 if pre else for_term
    return VoteRequest(sender, term, for_term, *last, pre=pre, forced=forced)


def push(
    runs: tuple[tuple[int, int], ...] = (),
    prev: tuple[int, int] = (-1, -1),
    *,
    term: int = 1,
    session: int = 1,
    commit: int = -1,
    sender: NodeId = N1,
) -> Push:
    """A push; `prev` is (index, term)."""
    return Push(sender, term, session, *prev, runs, commit)


def heartbeat(term: int, *, sender: NodeId = N1, commit: int = -1, seq: int = 1) -> Heartbeat:
    """The leader lives."""
    return Heartbeat(sender, term, commit, seq)


def echo(
    sender: NodeId, term: int, seq: int, standing: Standing = Standing.MEMBER
) -> HeartbeatReply:
    """The follower hears it."""
    return HeartbeatReply(sender, term, seq, standing)


def synced(**kwargs: Any) -> tuple[Member, dict[NodeId, int]]:
    """A leader whose followers hold everything, and their sessions."""
    m, sessions = leader(**kwargs)
    for peer, session in sessions.items():
        m.ack(peer, session, m.core.log.last_index - 1)
        m.fetch(peer)
        m.ack(peer, session, m.core.log.last_index)
    return m, sessions


def hear_all(m: Member) -> None:
    """Both followers echo the newest heartbeat."""
    for peer in (N1, N2):
        m.receive(echo(peer, m.core.term, m.core._s.heartbeat_seq))
