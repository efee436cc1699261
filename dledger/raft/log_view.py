"""What the core knows of the log: which term each index has, as runs."""

from bisect import bisect_right
from collections.abc import Iterable

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.ids import NONE


class LogView:
    """Runs of equal term, in order.

    Memory grows with the number of terms, not of entries.
    Invariant: terms rise strictly from run to run, first indexes too; the first run starts at 0
    unless the log is empty.
    """

    __slots__ = ("_firsts", "_terms", "last_index")

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """`runs`: (term, count) from index 0 on."""
        self._terms: list[int] = []
        self._firsts: list[int] = []
        # Highest index held, NONE when empty.
        self.last_index = NONE
        for term, count in runs:
            self.append(term, count)

    @property
    def last_term(self) -> int:
        """Term of the last entry, NONE when empty."""
        return self._terms[-1] if self._terms else NONE

    def append(self, term: int, count: int) -> None:
        """Add `count` entries of `term` at the end."""
        if term < self.last_term or count < 1:
            raise InvariantError(f"append of {count} at term {term} behind term {self.last_term}")
        if term > self.last_term:
            self._terms.append(term)
            self._firsts.append(self.last_index + 1)
        self.last_index += count

    def truncate(self, first: int) -> None:
        """Drop `first` and everything behind it."""
        if first > self.last_index:
            return
        while self._firsts and self._firsts[-1] >= first:
            self._firsts.pop()
            self._terms.pop()
        self.last_index = first - 1

    def term_at(self, index: int) -> int:
        """Term of the entry at `index`; NONE for index NONE.

        Raises:
            InvariantError: past the end.
        """
        if index == NONE:
            return NONE
        if not 0 <= index <= self.last_index:
            raise InvariantError(f"index {index} is not in 0..{self.last_index}")
        return self._terms[bisect_right(self._firsts, index) - 1]

    def first_of_term_at(self, index: int) -> int:
        """First index of the run that holds `index`."""
        return self._firsts[bisect_right(self._firsts, index) - 1]

    def last_at_or_below_term(self, term: int) -> int:
        """Last index whose term is at most `term`; NONE when there is none."""
        at = bisect_right(self._terms, term)
        return self.last_index if at == len(self._terms) else self._firsts[at] - 1

    def first_divergence(self, first: int, runs: Iterable[tuple[int, int]]) -> int:
        """First index from `first` on that is absent here or has another term than in `runs`.

        `first + total count` when all of `runs` is here already.
        """
        index = first
        for term, count in runs:
            end = index + count
            while index < end:
                if index > self.last_index or self.term_at(index) != term:
                    return index
                at = bisect_right(self._firsts, index)
                run_end = self._firsts[at] if at < len(self._firsts) else self.last_index + 1
                index = min(end, run_end)
        return index

    def runs(self, first: int, last: int) -> tuple[tuple[int, int], ...]:
        """(term, count) of the indexes first..last, both held here.

        Raises:
            InvariantError: one of them is not.
        """
        if first < 0 or last > self.last_index:
            raise InvariantError(f"indexes {first}..{last} are not in 0..{self.last_index}")
        out: list[tuple[int, int]] = []
        index = first
        while index <= last:
            at = bisect_right(self._firsts, index)
            run_end = self._firsts[at] if at < len(self._firsts) else self.last_index + 1
            end = min(last + 1, run_end)
            out.append((self._terms[at - 1], end - index))
            index = end
        return tuple(out)
