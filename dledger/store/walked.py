"""Entries one behind the other: encoded together, or found in a push, then checked and copied."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from zlib import crc32

from ledgermq.compiled import twin_in

from . import entry
from .entry_index import UNIT


@twin_in("_entries")
def encode_run(
    index: int, term: int, pos: int, bodies: Sequence[bytes], chain: int
) -> tuple[bytes, bytes, int]:
    """Entries of these bodies, one behind the other; their index units; the new chain value.

    See `entry.encode`; the first one has this index and place.
    """
    parts: list[bytes] = []
    units: list[bytes] = []
    for body in bodies:
        head, chain = entry.encode(index, term, pos, body, chain)
        size = len(head) + len(body)
        parts += (head, body)
        units.append(UNIT.pack(entry.MAGIC, pos, size, index, term))
        index, pos = index + 1, pos + size
    return b"".join(parts), b"".join(units), chain


@twin_in("_entries")
class Walked:
    """The whole entries of some bytes, by number from 0.

    Attributes:
        data: the bytes; nothing else is in them.
    """

    def __init__(self, data: bytes) -> None:
        """Find them.

        Raises:
            EntryError: data ends inside an entry.
        """
        self.data = data
        self._found = list(entry.walk(data))

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, n: int) -> tuple[int, entry.EntryHeader]:
        """Where entry `n` begins in the data, and its header. IndexError: there is none."""
        return self._found[n]

    def __iter__(self) -> Iterator[tuple[int, entry.EntryHeader]]:
        return iter(self._found)

    def gap(self, first: int) -> int:
        """Number of the first entry whose index does not count on from `first`; -1: all do."""
        indexes = [header.log_index for _, header in self._found]
        if indexes == list(range(first, first + len(indexes))):
            return -1
        return next(n for n, index in enumerate(indexes) if index != first + n)

    def runs(self) -> tuple[tuple[int, int], ...]:
        """(term, count) of entries of one term that follow each other."""
        terms = [header.term for _, header in self._found]
        return tuple((term, sum(1 for _ in run)) for term, run in groupby(terms))

    def plain_run(self, n: int, index: int, pos: int, room: int, chain: int) -> tuple[int, int]:
        """How many entries from number `n` on continue a log of ours; the chain value behind them.

        It counts up to the first one that does not: `entry.check_whole` says why, or takes it as
        one of Java.

        Args:
            n: number of the first one.
            index: its index.
            pos: its place in bytes.
            room: bytes that they may have together.
            chain: chain value before it.
        """
        count, data = 0, memoryview(self.data)
        for at, (_, size, log_index, _, its_pos, _, chain_crc, body_crc, _) in self._found[n:]:
            end = at + size
            room -= size
            if log_index != index + count or its_pos != pos or room < 0:
                break
            if crc32(data[at + entry.HEADER_BYTES : end]) != body_crc:
                break
            first = crc32(data[at : at + entry.CHAIN_AT], chain)
            value = crc32(data[at + entry.BEHIND_CHAIN : end], first) or 1
            if value != chain_crc:
                break
            count += 1
            pos, chain = pos + size, value
        return count, chain

    def units(self, n: int, count: int) -> bytes:
        """The index units of `count` entries from number `n` on."""
        pack = UNIT.pack
        return b"".join(
            [
                pack(entry.MAGIC, pos, size, index, term)
                for _, (_, size, index, term, pos, *_) in self._found[n : n + count]
            ]
        )
