"""Pulls that found nothing and wait for a message.

Invariant: at most `MAX_HELD` wait; each is run again exactly once, by an arrival that its filter
takes or at its deadline.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ledgermq.remoting.clock import mono_ms

from .store.dispatch import Arrivals

MAX_HELD = 100_000
_SWEEP_S = 0.1


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
    """Waiting pulls by queue."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], list[HeldPull]] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, topic: str, queue_id: int, pull: HeldPull) -> bool:
        """Let a pull wait; False when too many do."""
        if self._count >= MAX_HELD:
            return False
        self._held.setdefault((topic, queue_id), []).append(pull)
        self._count += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        return True

    def arrived(self, arrivals: Arrivals) -> None:
        """Messages came to these queues."""
        for key, codes in arrivals.items():
            held = self._held.get(key)
            if not held:
                continue
            woken = [p for p in held if p.codes is None or any(c in p.codes for c in codes)]
            self._remove(key, woken)
            for pull in woken:
                if not pull.is_closed():
                    pull.wake(False)

    def wake_all(self) -> None:
        """Run every waiting pull again: the node stops, or its role changed."""
        for key, held in list(self._held.items()):
            self._remove(key, held)
            for pull in held:
                pull.wake(True)

    def _remove(self, key: tuple[str, int], pulls: list[HeldPull]) -> None:
        if not pulls:
            return
        gone = set(map(id, pulls))
        left = [p for p in self._held[key] if id(p) not in gone]
        self._count -= len(pulls)
        if left:
            self._held[key] = left
        else:
            del self._held[key]

    def _sweep(self) -> None:
        self._timer = None
        now_ms = mono_ms()
        for key, held in list(self._held.items()):
            self._remove(key, [p for p in held if p.is_closed()])
            late = [p for p in self._held.get(key, ()) if p.deadline_ms <= now_ms]
            self._remove(key, late)
            for pull in late:
                pull.wake(True)
        if self._held and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def close(self) -> None:
        """Answer everybody and stop."""
        self.wake_all()
        if self._timer is not None:
            self._timer.cancel()
