"""What an observer knows of each member: every entry it wrote, and what it has promised."""

from dataclasses import dataclass, field

from ledgermq.dledger.ids import NONE, NodeId, Standing
from ledgermq.dledger.store import entry


class Written:
    """One entry as it was first written; two members hold the same entry or another one.

    Invariant: one instance per (index, term), so that `is` compares whole histories: `chain`
    covers everything before.
    """

    __slots__ = ("chain", "data", "index", "pos", "term")

    def __init__(self, header: entry.EntryHeader, data: bytes) -> None:
        self.index = header.log_index
        self.term = header.term
        self.chain = header.chain_crc
        self.pos = header.pos
        # Header and record.
        self.data = data

    @property
    def record(self) -> bytes:
        """The commitlog record."""
        return self.data[entry.HEADER_BYTES :]


class Held:
    """The log of one store, from `base` on."""

    __slots__ = ("base", "entries")

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.entries: list[Written] = []

    @property
    def end(self) -> int:
        """Last index, `base - 1` when empty."""
        return self.base + len(self.entries) - 1

    def at(self, index: int) -> Written | None:
        """The entry, or None when it is not held."""
        at = index - self.base
        return self.entries[at] if 0 <= at < len(self.entries) else None

    def cut(self, first: int) -> list[Written]:
        """Drop `first` and all behind it; what was dropped."""
        at = max(first - self.base, 0)
        dropped = self.entries[at:]
        del self.entries[at:]
        return dropped


@dataclass
class Witness:
    """What one member's store must hold, by what it said and did.

    Attributes:
        store_life: counts wipes.
        claim: highest index it has called durable.
        ghost: the log and claim that a disaster took: answers that rest on it may be under way.
        hard_state: term and vote it has persisted.
        commit: its commit index in this life of the process.
        applied: its applied index in this life of the process.
        emptying: where its log will begin; a crash meanwhile leaves the old log or the new one.
    """

    name: NodeId
    held: Held = field(default_factory=Held)
    store_life: int = 0
    claim: int = NONE
    ghost: tuple[Held, int] | None = None
    hard_state: tuple[int, NodeId | None] = (0, None)
    standing: Standing = Standing.MEMBER
    commit: int = NONE
    applied: int = NONE
    emptying: int | None = None

    def wiped(self) -> None:
        """The store is empty."""
        self.store_life += 1
        self.ghost = (self.held, self.claim)
        self.held = Held()
        self.claim = NONE
        self.emptying = None
        self.hard_state = (0, None)

    def held_durably(self, written: Written) -> bool:
        """Whether it called this very entry durable, before a disaster or since."""
        index = written.index
        if self.claim >= index and self.held.at(index) is written:
            return True
        if self.ghost is None:
            return False
        held, claim = self.ghost
        return claim >= index and held.at(index) is written

    def new_life(self) -> None:
        """Another process runs."""
        self.commit = self.applied = NONE
