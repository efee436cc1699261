"""What the core knows of the log: which term each index has, as runs."""

from bisect import bisect_right
from collections.abc import Iterable

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NONE


class LogView:
    """Runs of equal term, in order, behind a base: the last entry that is no longer held.

    Memory grows with the number of terms, not of entries.
    Invariant: terms rise strictly from run to run, first indexes too; none is below base_term; the
    first run starts at base_index + 1.
    """

    __slots__ = ("_firsts", "_terms", "base_index", "base_term", "last_index")

    def __init__(
        self,
        runs: Iterable[tuple[int, int]] = (),
        base_index: int = NONE,
        base_term: int = NONE,
    ) -> None:
        """`runs`: (term, count) from `base_index + 1` on."""
        self._terms: list[int] = []
        self._firsts: list[int] = []
        # Everything up to here is committed, and gone; NONE when the log begins at 0.
        self.base_index = base_index
        self.base_term = base_term
        # Highest index held, or the base when empty.
        self.last_index = base_index
        for term, count in runs:
            self.append(term, count)

    @property
    def last_term(self) -> int:
        """Term of the last entry, of the base when empty."""
        return self._terms[-1] if self._terms else self.base_term

    def append(self, term: int, count: int) -> None:
        """Add `count` entries of `term` at the end."""
        if term < self.last_term or count < 1:
            raise InvariantError(f"append of {count} at term {term} behind term {self.last_term}")
        if not self._terms or term > self._terms[-1]:
            self._terms.append(term)
            self._firsts.append(self.last_index + 1)
        self.last_index += count

    def truncate(self, first: int) -> None:
        """Drop `first` and everything behind it.

        Raises:
            InvariantError: `first` is gone already.
        """
        if first > self.last_index:
            return
        if first <= self.base_index:
            raise InvariantError(f"cut from {first} of a log that begins behind {self.base_index}")
        while self._firsts and self._firsts[-1] >= first:
            self._firsts.pop()
            self._terms.pop()
        self.last_index = first - 1

    def move_base(self, index: int) -> None:
        """Forget what is before `index`, and all of it but the term; an older base is no news.

        Raises:
            InvariantError: past the end.
        """
        if index <= self.base_index:
            return
        self.base_term = self.term_at(index)
        at = bisect_right(self._firsts, index)
        # The run that goes on behind the new base stays.
        if index + 1 < self._run_end(at):
            at -= 1
            self._firsts[at] = index + 1
        del self._firsts[:at]
        del self._terms[:at]
        self.base_index = index

    def term_at(self, index: int) -> int:
        """Term of the entry at `index`, or of the base.

        Raises:
            InvariantError: before the base or past the end.
        """
        if index == self.base_index:
            return self.base_term
        self._require(index, index)
        return self._terms[bisect_right(self._firsts, index) - 1]

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry at `index` is here and has this term; the base counts as here."""
        return self.base_index <= index <= self.last_index and self.term_at(index) == term

    def first_of_term_at(self, index: int) -> int:
        """First index held of the run that holds `index`; the base is a run of its own."""
        at = bisect_right(self._firsts, index)
        return self._firsts[at - 1] if at else self.base_index

    def last_at_or_below_term(self, term: int) -> int:
        """Last index whose term is at most `term`; the base when none of those held is."""
        at = bisect_right(self._terms, term)
        return self.last_index if at == len(self._terms) else self._firsts[at] - 1

    def first_divergence(self, first: int, runs: Iterable[tuple[int, int]]) -> int:
        """First index from `first` on that is absent here or has another term than in `runs`.

        `first + total count` when all of `runs` is here already. What is before the base is
        committed, so it is the same in every leader's log.
        """
        index = first
        for term, count in runs:
            end = index + count
            index = max(index, min(self.base_index, end))
            while index < end:
                if index > self.last_index or self.term_at(index) != term:
                    return index
                index = min(end, self._run_end(bisect_right(self._firsts, index)))
        return index

    def runs(self, first: int, last: int) -> tuple[tuple[int, int], ...]:
        """(term, count) of the indexes first..last, both held here.

        Raises:
            InvariantError: one of them is not.
        """
        self._require(first, last)
        out: list[tuple[int, int]] = []
        index = first
        while index <= last:
            at = bisect_right(self._firsts, index)
            end = min(last + 1, self._run_end(at))
            out.append((self._terms[at - 1], end - index))
            index = end
        return tuple(out)

    def last_within_runs(self, first: int, count: int) -> int:
        """Last index such that from `first` on, held here, there are at most `count` runs."""
        return self._run_end(bisect_right(self._firsts, first) - 1 + count) - 1

    def _run_end(self, at: int) -> int:
        """Where run number `at` starts, or would."""
        return self._firsts[at] if at < len(self._firsts) else self.last_index + 1

    def _require(self, first: int, last: int) -> None:
        if first <= self.base_index or last > self.last_index:
            raise InvariantError(
                f"indexes {first}..{last} are not in {self.base_index + 1}..{self.last_index}"
            )
