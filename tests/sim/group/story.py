"""The last things that happened, told only when a rule broke."""

from collections import deque
from typing import Any

from ledgermq.dledger.raft.effects import (
    AcceptEntries,
    AppendNoop,
    Fetch,
    PersistHardState,
    Send,
    SendPush,
)
from ledgermq.dledger.raft.events import Appended, Fetched, Received, Tick
from ledgermq.dledger.raft.messages import Heartbeat, HeartbeatReply
from tests.sim.describe import describe

LENGTH = 60
# Said again elsewhere, or all the time.
_QUIET = (Fetch, Fetched, Send, SendPush, AppendNoop, Appended)
_QUIET_MESSAGES = (Heartbeat, HeartbeatReply)


class Story:
    """Events, effects and sentences, newest last."""

    def __init__(self) -> None:
        self._things: deque[tuple[int, str, Any]] = deque(maxlen=LENGTH)

    def add(self, now_us: int, who: str, thing: Any) -> None:
        """Remember something worth telling."""
        kind = type(thing)
        if kind in _QUIET or kind is Tick:
            return
        if kind is Received and type(thing.message) in _QUIET_MESSAGES:
            return
        self._things.append((now_us, who, thing))

    def lines(self) -> list[str]:
        """One line each."""
        return [f"{now_us / 1000:>10.3f} ms  {_text(who, t)}" for now_us, who, t in self._things]


def _text(who: str, thing: Any) -> str:
    if isinstance(thing, str):
        return f"{who}: {thing}"
    if isinstance(thing, PersistHardState):
        return f"{who}: persist term {thing.term} vote {thing.vote} {thing.standing.name}"
    if isinstance(thing, AcceptEntries) and thing.truncate_from is None:
        return f"{who}: write from {thing.first}"
    try:
        return describe(who, thing) or f"{who}: {thing}"  # type: ignore[arg-type]
    except (AttributeError, TypeError):
        return f"{who}: {thing}"
