"""Pulls that found nothing and wait for a message.

Invariant: at most `MAX_HELD` wait; each is run again exactly once, by an arrival that its filter
takes or at its deadline.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sortedcontainers import SortedKeyList

from ledgermq.remoting.clock import mono_ms

from .store.dispatch import Arrivals

MAX_HELD = 100_000
_SWEEP_S = 0.1
# Sweeps between two looks at every connection.
_CLOSED_EVERY = 10
_Queue = tuple[str, int]


@dataclass(slots=True, eq=False)
class HeldPull:
    """One waiting pull.

    Attributes:
        codes: tags codes its filter takes, None for all.
        wake: runs it again; told whether its time is over.
    """

    deadline_ms: int
    codes: Collection[int] | None
    wake: Callable[[bool], None]
    is_closed: Callable[[], bool]


class LongPolling:
    """Waiting pulls, by queue and by deadline; `len` tells how many.

    One whose connection has closed goes within a second.
    """

    def __init__(self) -> None:
        self._held: dict[_Queue, dict[HeldPull, None]] = {}
        self._deadlines: SortedKeyList[tuple[HeldPull, _Queue]] = SortedKeyList(
            key=lambda entry: entry[0].deadline_ms
        )
        self._timer: asyncio.TimerHandle | None = None
        self._sweeps = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def hold(self, topic: str, queue_id: int, pull: HeldPull) -> bool:
        """Let a pull wait; False when too many do."""
        if len(self._deadlines) >= MAX_HELD:
            return False
        key = (topic, queue_id)
        self._held.setdefault(key, {})[pull] = None
        self._deadlines.add((pull, key))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        return True

    def arrived(self, arrivals: Arrivals) -> None:
        """Messages came to these queues."""
        for key, codes in arrivals.items():
            held = self._held.get(key, ())
            for pull in [p for p in held if p.codes is None or any(c in p.codes for c in codes)]:
                self._release(pull, key, time_is_over=False)

    def wake_all(self) -> None:
        """Run every waiting pull again: the node stops, or its role changed."""
        for pull, key in list(self._deadlines):
            self._release(pull, key, time_is_over=True)

    def _release(self, pull: HeldPull, key: _Queue, *, time_is_over: bool) -> None:
        """Take a pull out and run it, unless nobody waits for its answer any more."""
        held = self._held.get(key, {})
        if pull not in held:
            return
        del held[pull]
        if not held:
            del self._held[key]
        self._deadlines.remove((pull, key))
        if not pull.is_closed():
            pull.wake(time_is_over)

    def _sweep(self) -> None:
        self._timer = None
        late = self._deadlines.irange_key(max_key=mono_ms())
        for pull, key in list(late):
            self._release(pull, key, time_is_over=True)
        self._sweeps += 1
        if self._sweeps % _CLOSED_EVERY == 0:
            for pull, key in [entry for entry in self._deadlines if entry[0].is_closed()]:
                self._release(pull, key, time_is_over=True)
        if self._deadlines and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def close(self) -> None:
        """Answer everybody and stop."""
        self.wake_all()
        if self._timer is not None:
            self._timer.cancel()
