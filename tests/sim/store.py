"""What one simulated member keeps, and a disk that loses what was not synced."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from ledgermq.dledger.ids import NONE, NodeId

ENTRY_SIZE_BYTES = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry; `value` is unique in a run, so that equal entries are the same entry."""

    term: int
    value: int


@dataclass(frozen=True, slots=True)
class Sync:
    """An fsync under way: it proves entries up to `index`, unless the log was cut since."""

    epoch: int
    index: int


class Store(Protocol):
    """A member's disk. `SimStore` stands in for the real one; both obey the same rules."""

    term: int
    vote: NodeId | None

    @property
    def last_index(self) -> int:
        """Last entry written."""

    @property
    def durable(self) -> int:
        """Last entry that survives a crash."""

    def save_hard_state(self, term: int, vote: NodeId | None) -> None:
        """Durable when it returns."""

    def append(self, entries: Iterable[Entry]) -> None:
        """Write at the end; durable after a sync."""

    def truncate(self, first: int) -> None:
        """Drop `first` and all behind it, durably; a sync under way proves nothing any more."""

    def read(self, first: int, max_bytes: int) -> tuple[Entry, ...]:
        """Entries from `first`, at least one if there is one."""

    def begin_sync(self) -> Sync:
        """Start an fsync of what is written now."""

    def end_sync(self, sync: Sync) -> bool:
        """The fsync is through; whether it proved anything."""

    def crash(self, kept: int) -> None:
        """Lose what is not durable, but for the first `kept` such entries."""

    def chain_at(self, index: int) -> int:
        """Digest of the log up to and including `index`."""

    def term_at(self, index: int) -> int:
        """Term of the entry at `index`."""


class SimStore:
    """A list that knows which part of it is on the platter."""

    def __init__(self) -> None:
        self.term = 0
        self.vote: NodeId | None = None
        self.durable = NONE
        self._entries: list[Entry] = []
        self._chain: list[int] = []
        self._epoch = 0

    @property
    def last_index(self) -> int:
        return len(self._entries) - 1

    def save_hard_state(self, term: int, vote: NodeId | None) -> None:
        self.term, self.vote = term, vote

    def append(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            before = self._chain[-1] if self._chain else 0
            self._entries.append(entry)
            self._chain.append(hash((before, entry.term, entry.value)))

    def truncate(self, first: int) -> None:
        del self._entries[first:]
        del self._chain[first:]
        self.durable = min(self.durable, first - 1)
        self._epoch += 1

    def read(self, first: int, max_bytes: int) -> tuple[Entry, ...]:
        return tuple(self._entries[first : first + max(1, max_bytes // ENTRY_SIZE_BYTES)])

    def begin_sync(self) -> Sync:
        return Sync(self._epoch, self.last_index)

    def end_sync(self, sync: Sync) -> bool:
        if sync.epoch != self._epoch:
            return False
        self.durable = max(self.durable, sync.index)
        return True

    def crash(self, kept: int) -> None:
        end = min(self.durable + kept, self.last_index) + 1
        del self._entries[end:]
        del self._chain[end:]
        # Recovery rewrites and syncs what it found before the member speaks.
        self.durable = end - 1
        self._epoch += 1

    def chain_at(self, index: int) -> int:
        return self._chain[index] if index >= 0 else 0

    def term_at(self, index: int) -> int:
        return self._entries[index].term if index >= 0 else NONE


def runs_of(entries: Sequence[Entry]) -> tuple[tuple[int, int], ...]:
    """(term, count) of consecutive entries."""
    return tuple((term, len(list(group))) for term, group in groupby(e.term for e in entries))


def log_runs(store: Store) -> tuple[tuple[int, int], ...]:
    """(term, count) of the whole log."""
    terms = (store.term_at(i) for i in range(store.last_index + 1))
    return tuple((term, len(list(group))) for term, group in groupby(terms))
