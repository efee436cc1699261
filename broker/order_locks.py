"""Locks of queues for orderly consumers: one client at a time.

Pure, and only in the leader's memory, as upstream keeps them: after a change of leader consumers
lock again within 20 s. A lock that is not renewed dies after 60 s. Source: broker-behaviour §7.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ledgermq.remoting.bodies.stats import MessageQueue

LOCK_LIVE_MS: Final = 60_000
# Above this many locks the dead ones are dropped before a new one is given.
SWEEP_AT: Final = 100_000


@dataclass(slots=True)
class _Lock:
    client_id: str
    renewed_ms: int


class OrderLocks:
    """Which client holds which queue of a group."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, MessageQueue], _Lock] = {}

    def lock(
        self, group: str, client_id: str, queues: Iterable[MessageQueue], now_ms: int
    ) -> list[MessageQueue]:
        """Take or renew locks; returns the queues the client holds now, of those it named."""
        if len(self._locks) > SWEEP_AT:
            self._sweep(now_ms)
        held = []
        for queue in queues:
            lock = self._locks.get((group, queue))
            if lock and lock.client_id != client_id and not _is_dead(lock, now_ms):
                continue
            self._locks[group, queue] = _Lock(client_id, now_ms)
            held.append(queue)
        return held

    def unlock(self, group: str, client_id: str, queues: Iterable[MessageQueue]) -> None:
        """Give back what the client holds of the queues."""
        for queue in queues:
            lock = self._locks.get((group, queue))
            if lock and lock.client_id == client_id:
                del self._locks[group, queue]

    def clear(self) -> None:
        """Forget all: leadership has changed."""
        self._locks.clear()

    def _sweep(self, now_ms: int) -> None:
        dead = [key for key, lock in self._locks.items() if _is_dead(lock, now_ms)]
        for key in dead:
            del self._locks[key]


def _is_dead(lock: _Lock, now_ms: int) -> bool:
    return now_ms - lock.renewed_ms > LOCK_LIVE_MS
