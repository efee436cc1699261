"""What one simulated member keeps, and a disk that loses what was not synced."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from ledgermq.dledger.ids import NONE, NodeId, Standing

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
    standing: Standing
    # Last entry that is no longer held, its term and its digest.
    base_index: int
    base_term: int
    base_chain: int

    @property
    def last_index(self) -> int:
        """Last entry written."""

    @property
    def durable(self) -> int:
        """Last entry that survives a crash."""

    def save_hard_state(self, term: int, vote: NodeId | None, standing: Standing) -> None:
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

    def wipe(self) -> None:
        """Lose everything: an empty store takes its place."""

    def damage(self, first: int) -> None:
        """Lose `first` and all behind it, though it was durable; recovery notices."""

    def move_begin(self, index: int) -> None:
        """Drop what is before `index`."""

    def reset(self, base_index: int, base_term: int, base_chain: int) -> None:
        """Begin anew behind a base, durably."""

    def chain_at(self, index: int) -> int:
        """Digest of the log up to and including `index`, which is held or the base."""

    def term_at(self, index: int) -> int:
        """Term of the entry at `index`, which is held or the base."""

    def entry_at(self, index: int) -> Entry:
        """The entry at `index`, which is held."""


class SimStore:
    """A list that knows which part of it is on the platter."""

    def __init__(self, standing: Standing = Standing.MEMBER) -> None:
        self.standing = standing
        self.term = 0
        self.vote: NodeId | None = None
        self.durable = NONE
        self.base_index = NONE
        self.base_term = NONE
        self.base_chain = 0
        # From base_index + 1 on.
        self._entries: list[Entry] = []
        self._chain: list[int] = []
        self._epoch = 0

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    def save_hard_state(self, term: int, vote: NodeId | None, standing: Standing) -> None:
        self.term, self.vote, self.standing = term, vote, standing

    def append(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            before = self.chain_at(self.last_index)
            self._entries.append(entry)
            self._chain.append(hash((before, entry.term, entry.value)))

    def truncate(self, first: int) -> None:
        at = first - self.base_index - 1
        assert at >= 0, f"cut from {first} of a log that begins behind {self.base_index}"
        del self._entries[at:]
        del self._chain[at:]
        self.durable = min(self.durable, first - 1)
        self._epoch += 1

    def read(self, first: int, max_bytes: int) -> tuple[Entry, ...]:
        at = first - self.base_index - 1
        assert at >= 0, f"read from {first} of a log that begins behind {self.base_index}"
        return tuple(self._entries[at : at + max(1, max_bytes // ENTRY_SIZE_BYTES)])

    def begin_sync(self) -> Sync:
        return Sync(self._epoch, self.last_index)

    def end_sync(self, sync: Sync) -> bool:
        if sync.epoch != self._epoch:
            return False
        self.durable = max(self.durable, sync.index)
        return True

    def crash(self, kept: int) -> None:
        self.truncate(min(self.durable + kept, self.last_index) + 1)
        # Recovery rewrites and syncs what it found before the member speaks.
        self.durable = self.last_index

    def wipe(self) -> None:
        self.save_hard_state(0, None, Standing.EMPTY)
        self.reset(NONE, NONE, 0)

    def damage(self, first: int) -> None:
        self.truncate(first)
        self.standing = Standing.DAMAGED

    def move_begin(self, index: int) -> None:
        base = index - 1
        if base <= self.base_index:
            return
        term, chain = self.term_at(base), self.chain_at(base)
        del self._entries[: base - self.base_index]
        del self._chain[: base - self.base_index]
        self.base_index, self.base_term, self.base_chain = base, term, chain

    def reset(self, base_index: int, base_term: int, base_chain: int) -> None:
        self._entries.clear()
        self._chain.clear()
        self.base_index, self.base_term, self.base_chain = base_index, base_term, base_chain
        self.durable = base_index
        self._epoch += 1

    def chain_at(self, index: int) -> int:
        return self.base_chain if index == self.base_index else self._chain[self._place(index)]

    def term_at(self, index: int) -> int:
        return self.base_term if index == self.base_index else self.entry_at(index).term

    def entry_at(self, index: int) -> Entry:
        return self._entries[self._place(index)]

    def _place(self, index: int) -> int:
        assert index > self.base_index, f"{index} is gone: the base is {self.base_index}"
        return index - self.base_index - 1


def runs_of(entries: Sequence[Entry]) -> tuple[tuple[int, int], ...]:
    """(term, count) of consecutive entries."""
    return tuple((term, len(list(group))) for term, group in groupby(e.term for e in entries))


def log_runs(store: Store) -> tuple[tuple[int, int], ...]:
    """(term, count) of the whole log."""
    indexes = range(store.base_index + 1, store.last_index + 1)
    return runs_of([store.entry_at(i) for i in indexes])
