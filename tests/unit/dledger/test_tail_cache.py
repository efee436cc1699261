"""The newest entries in memory."""

import pytest

from ledgermq.dledger.store import entry, tail_cache
from ledgermq.dledger.store.tail_cache import TailCache


def batch(first: int, last: int, body: bytes = b"12") -> bytes:
    return b"".join(entry.encode(i, 1, i * 50, body, 0)[0] + body for i in range(first, last + 1))


def filled(*batches: tuple[int, int], max_bytes: int = 1 << 20) -> TailCache:
    cache = TailCache(max_bytes)
    for first, last in batches:
        cache.add(first, last, batch(first, last))
    return cache


@pytest.mark.parametrize(
    ("first", "last", "max_bytes", "expected"),
    [
        pytest.param(0, 9, 1000, (0, 9), id="all, from three batches"),
        pytest.param(0, 9, 499, (0, 8), id="one byte too few"),
        pytest.param(0, 9, 200, (0, 3), id="one batch exactly"),
        pytest.param(0, 4, 1000, (0, 4), id="up to the last wanted"),
        pytest.param(2, 9, 100, (2, 3), id="from within a batch"),
        pytest.param(5, 5, 0, (5, 5), id="at least one"),
        pytest.param(9, 20, 1000, (9, 9), id="past the end"),
        pytest.param(3, 9, 60, (3, 3), id="the next does not fit"),
    ],
)
def test_what_a_reader_gets(
    first: int, last: int, max_bytes: int, expected: tuple[int, int]
) -> None:
    cache = filled((0, 3), (4, 5), (6, 9))
    assert cache.get(first, last, max_bytes) == (batch(*expected), expected[1])


@pytest.mark.parametrize("first", [-1, 3, 10])
def test_what_is_not_here(first: int) -> None:
    assert filled((4, 5), (6, 9)).get(first, 20, 100) is None
    assert TailCache().get(first, 20, 100) is None


def test_the_oldest_batches_go_first_but_the_newest_stays() -> None:
    cache = filled((0, 3), (4, 5), (6, 9), max_bytes=300)
    assert cache.get(3, 9, 1000) is None
    assert cache.get(4, 9, 1000) == (batch(4, 9), 9)
    cache.add(10, 19, batch(10, 19))
    assert cache.get(9, 19, 1000) is None
    assert cache.get(10, 19, 1000) == (batch(10, 19), 19)


@pytest.mark.parametrize(("index", "end"), [(12, 9), (10, 9), (9, 8), (6, 5), (5, 4), (1, 0)])
def test_a_cut(index: int, end: int) -> None:
    cache = filled((0, 3), (4, 5), (6, 9))
    cache.truncate(index)
    assert cache.get(end + 1, 99, 1000) is None
    assert cache.get(0, 99, 1000) == (batch(0, end), end)
    cache.add(end + 1, end + 2, batch(end + 1, end + 2))
    assert cache.get(0, 99, 1000) == (batch(0, end + 2), end + 2)


def test_a_reader_far_behind_finds_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_cache, "_MAX_GONE", 10)
    size = len(batch(0, 0))
    cache = TailCache(50 * size)
    for index in range(100):
        cache.add(index, index, batch(index, index))
        low = max(index - 49, 0)
        for first in range(index + 1):
            expected = (batch(first, first), first) if first >= low else None
            assert cache.get(first, index, size) == expected
    cache.truncate(75)
    assert cache.get(74, 99, 1000) == (batch(74, 74), 74)
    assert cache.get(50, 99, 3 * size) == (batch(50, 52), 52)


def test_forgetting_everything() -> None:
    cache = filled((4, 5), (6, 9))
    cache.clear()
    assert cache.get(6, 9, 100) is None
    cache.add(50, 50, batch(50, 50))
    assert cache.get(50, 50, 100) == (batch(50, 50), 50)


def test_a_cut_of_everything() -> None:
    cache = filled((4, 5), (6, 9), max_bytes=100)
    cache.truncate(2)
    assert cache.get(4, 9, 100) is None
    cache.add(2, 3, batch(2, 3))
    assert cache.get(2, 3, 100) == (batch(2, 3), 3)
