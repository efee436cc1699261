"""The newest entries, as they lie in the file, so that pushes and dispatch need no read."""

from bisect import bisect_right
from operator import itemgetter

from . import entry

_MAX_BYTES = 4 << 20
_GONE = (0, 0, b"")
_MAX_GONE = 4096
_first_of = itemgetter(0)


class TailCache:
    """Consecutive batches of encoded entries, oldest dropped beyond 4 MiB.

    Invariant: batches are contiguous in index; the last ends at the log's end.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        # By first index, so that a reader far behind finds its batch by halving. Those before
        # `_head` were dropped: taking each out of the list would move all others.
        self._batches: list[tuple[int, int, bytes]] = []
        self._head = 0
        self._bytes = 0

    def clear(self) -> None:
        """Drop everything."""
        self._batches.clear()
        self._head = self._bytes = 0

    def add(self, first: int, last: int, data: bytes) -> None:
        """Add the batch first..last."""
        self._batches.append((first, last, data))
        self._bytes += len(data)
        while self._bytes > self._max_bytes and self._head < len(self._batches) - 1:
            self._bytes -= len(self._batches[self._head][2])
            self._batches[self._head] = _GONE
            self._head += 1
        if self._head > _MAX_GONE:
            del self._batches[: self._head]
            self._head = 0

    def truncate(self, index: int) -> None:
        """Drop `index` and everything behind it."""
        while len(self._batches) > self._head and self._batches[-1][1] >= index:
            first, _, data = self._batches.pop()
            self._bytes -= len(data)
            if first < index:
                end = _offset_of(data, index)
                self._batches.append((first, index - 1, data[:end]))
                self._bytes += end
                return

    def get(self, first: int, last: int, max_bytes: int) -> tuple[bytes, int] | None:
        """(entries, last index) from `first` on: at least one, up to `last` and `max_bytes`.

        None when `first` is no longer (or not yet) here.
        """
        batches = self._batches
        if len(batches) == self._head or not batches[self._head][0] <= first <= batches[-1][1]:
            return None
        parts: list[bytes] = []
        size, reached = 0, first - 1
        for at in range(self._at(first), len(batches)):
            b_first, b_last, data = batches[at]
            begin = _offset_of(data, first) if b_first < first else 0
            length = len(data) - begin
            if b_last <= last and size + length <= max_bytes:
                parts.append(data[begin:] if begin else data)
                size += length
                reached = b_last
                continue
            part, reached = _cut(data, begin, last, max_bytes - size, reached, must=not parts)
            if part:
                parts.append(part)
            break
        return (parts[0] if len(parts) == 1 else b"".join(parts)), reached

    def _at(self, first: int) -> int:
        """Place of the batch that holds `first`: nearly always the last."""
        batches = self._batches
        if first >= batches[-1][0]:
            return len(batches) - 1
        return bisect_right(batches, first, lo=self._head, key=_first_of) - 1


def _offset_of(data: bytes, index: int) -> int:
    for at, header in entry.walk(data):
        if header.log_index == index:
            return at
    return len(data)


def _cut(
    data: bytes, begin: int, last: int, max_bytes: int, reached: int, *, must: bool
) -> tuple[bytes, int]:
    """The longest run of whole entries from `begin` that fits; at least one if `must`."""
    end = begin
    for at, header in entry.walk(memoryview(data)[begin:]):
        stop = begin + at + header.size
        if header.log_index > last or (stop - begin > max_bytes and not (must and end == begin)):
            break
        end, reached = stop, header.log_index
    return data[begin:end], reached
