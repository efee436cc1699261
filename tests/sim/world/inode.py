"""One file: what the page cache shows, what the platter holds, and what lies between them."""

from enum import Enum
from random import Random
from typing import NamedTuple

SECTOR = 512
PAGE = 4096
_PAGE_SHIFT = 12


class Loss(Enum):
    """What a loss of power does to bytes that were never synced.

    LOST: none of them were written. PREFIX: the oldest of them were. TORN: likewise, and one write
    is there in part. REORDERED: any sectors were, of each one some earlier or its latest state.
    """

    LOST = "lost"
    PREFIX = "prefix"
    TORN = "torn"
    REORDERED = "reordered"


class Op(NamedTuple):
    """A change that is not on the platter; `data` None: the file was cut or extended.

    Attributes:
        length: of the file afterwards.
    """

    number: int
    offset: int
    data: bytes | None
    length: int


class Image:
    """Bytes of a sparse file: what lies beyond `data` and below `length` is zero."""

    __slots__ = ("data", "length")

    def __init__(self) -> None:
        self.data = bytearray()
        self.length = 0

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes, fewer at the end."""
        end = min(offset + size, self.length)
        if end <= offset:
            return b""
        found = bytes(self.data[offset:end])
        missing = end - offset - len(found)
        return found + bytes(missing) if missing else found

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite or extend."""
        cache = self.data
        end = offset + len(data)
        held = len(cache)
        if end > held:
            if len(data) >= PAGE and offset >= held and not any(data):
                self.length = max(self.length, end)
                return
            if offset > held:
                cache.extend(bytes(offset - held))
        cache[offset:end] = data
        self.length = max(self.length, end)

    def cut(self, length: int) -> None:
        """Cut or extend."""
        del self.data[length:]
        self.length = length

    def apply(self, op: Op) -> None:
        """Make one change."""
        if op.data is None:
            self.cut(op.length)
        else:
            self.write(op.offset, op.data)

    def copy(self) -> "Image":
        """Another one with the same bytes."""
        other = Image()
        other.data[:] = self.data
        other.length = self.length
        return other


class Inode:
    """A file, whatever it is called.

    Attributes:
        cache: what a read shows.
        platter: what a loss of power leaves at least.
        log: changes that are not on the platter, oldest first.
        blocks: numbers of the 4 KiB blocks that have room on the disk.
    """

    __slots__ = ("_forgotten", "blocks", "cache", "log", "platter")

    def __init__(self) -> None:
        self.cache = Image()
        self.platter = Image()
        self.log: list[Op] = []
        self.blocks: set[int] = set()
        # Pages that count as clean since a failed sync, and are not on the platter.
        self._forgotten: set[int] = set()

    # --- changes --------------------------------------------------------------------------------

    def new_blocks(self, offset: int, size: int) -> list[int]:
        """Blocks that a write would have to find room for."""
        first, last = offset >> _PAGE_SHIFT, (offset + size - 1) >> _PAGE_SHIFT
        blocks = self.blocks
        if first == last:
            return [] if first in blocks else [first]
        return [b for b in range(first, last + 1) if b not in blocks]

    def write(self, number: int, offset: int, data: bytes) -> None:
        """Change the cache, and remember that the platter has to follow."""
        if self._forgotten:
            self._remember(number, offset, len(data))
        self.cache.write(offset, data)
        self.log.append(Op(number, offset, data, self.cache.length))

    def _remember(self, number: int, offset: int, size: int) -> None:
        """A page that is written to is dirty as a whole, with what a failed sync forgot of it."""
        for page in range(offset >> _PAGE_SHIFT, ((offset + size - 1) >> _PAGE_SHIFT) + 1):
            if page in self._forgotten:
                self._forgotten.discard(page)
                held = self.cache.read(page * PAGE, PAGE)
                self.log.append(Op(number, page * PAGE, held, self.cache.length))

    def cut(self, number: int, length: int) -> None:
        """Cut or extend."""
        self.cache.cut(length)
        kept = (length + PAGE - 1) >> _PAGE_SHIFT
        self.blocks = {b for b in self.blocks if b < kept}
        self._forgotten = {p for p in self._forgotten if p < kept}
        self.log.append(Op(number, 0, None, length))

    def next_data(self, offset: int) -> int | None:
        """Where there is a block again, from `offset` on."""
        first = offset >> _PAGE_SHIFT
        found = min((b for b in self.blocks if b >= first), default=None)
        if found is None or found * PAGE >= self.cache.length or offset >= self.cache.length:
            return None
        return max(offset, found * PAGE)

    # --- the platter ----------------------------------------------------------------------------

    def sync(self, up_to: int) -> None:
        """Changes up to this number are on the platter."""
        log = self.log
        if not log:
            return
        if log[-1].number <= up_to:
            for op in log:
                self.platter.apply(op)
            log.clear()
            return
        done = 0
        for op in log:
            if op.number > up_to:
                break
            self.platter.apply(op)
            done += 1
        del log[:done]

    def fail_sync(self, up_to: int) -> None:
        """Linux after a failed write-back: the pages count as clean, and are not on the platter."""
        kept: list[Op] = []
        for op in self.log:
            if op.number > up_to:
                kept.append(op)
            elif op.data is None:
                self.platter.apply(op)
            else:
                end = op.offset + len(op.data)
                pages = range(op.offset >> _PAGE_SHIFT, ((end - 1) >> _PAGE_SHIFT) + 1)
                self._forgotten.update(pages)
                self.platter.length = max(self.platter.length, end)
        self.log = kept

    def drop_cache(self) -> None:
        """Clean pages are read anew from the platter."""
        self.cache = self.platter.copy()
        for op in self.log:
            self.cache.apply(op)
        self._forgotten.clear()

    def lose_power(self, loss: Loss, cut: int, rng: Random) -> None:
        """Leave on the platter what `loss` says; the cache is gone.

        Args:
            loss: see there.
            cut: number of the first change that was not written; with TORN: not wholly.
            rng: for REORDERED and TORN.
        """
        if loss is Loss.REORDERED:
            self._keep_some(rng)
        elif loss is not Loss.LOST:
            for op in self.log:
                if op.number < cut:
                    self.platter.apply(op)
                elif op.number == cut and loss is Loss.TORN and op.data:
                    self._tear(op, rng)
        self.log.clear()
        self._forgotten.clear()
        self.cache = self.platter.copy()
        # A block of zeros has its room too: what was written ahead stays so.
        kept = (self.platter.length + PAGE - 1) >> _PAGE_SHIFT
        self.blocks = {b for b in self.blocks if b < kept} | _used_blocks(self.platter)

    def _tear(self, op: Op, rng: Random) -> None:
        pieces = _sectors(op)
        if rng.random() < 0.5:
            kept = pieces[: rng.randrange(len(pieces))]
        else:
            kept = [p for p in pieces if rng.random() < 0.5]
        for _, offset, data in kept:
            self.platter.write(offset, data)

    def _keep_some(self, rng: Random) -> None:
        """Of each sector its first k states; names and lengths follow as a journal has them."""
        pieces = [(op, _sectors(op)) for op in self.log if op.data]
        states: dict[int, int] = {}
        for _, parts in pieces:
            for sector, _, _ in parts:
                states[sector] = states.get(sector, 0) + 1
        chance = rng.random()
        kept = {s: n if rng.random() < chance else rng.randrange(n + 1) for s, n in states.items()}
        last = max((op.number for op, parts in pieces if any(kept[p[0]] for p in parts)), default=0)
        for op in self.log:
            if op.data is None:
                if op.number < last or rng.random() < 0.5:
                    self.platter.cut(op.length)
                    continue
                break
            for sector, offset, data in _sectors(op):
                if kept[sector] > 0:
                    kept[sector] -= 1
                    self.platter.write(offset, data)


def _sectors(op: Op) -> list[tuple[int, int, bytes]]:
    """(sector, offset, bytes) of a write, cut at the sectors' ends."""
    data = op.data or b""
    parts: list[tuple[int, int, bytes]] = []
    at, end = op.offset, op.offset + len(data)
    while at < end:
        stop = min(end, at - at % SECTOR + SECTOR)
        parts.append((at // SECTOR, at, data[at - op.offset : stop - op.offset]))
        at = stop
    return parts


def _used_blocks(image: Image) -> set[int]:
    data = image.data
    return {at >> _PAGE_SHIFT for at in range(0, len(data), PAGE) if any(data[at : at + PAGE])}
