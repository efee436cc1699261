"""Telling `break` from an exception, in every way a loop can be left."""

import asyncio
import contextlib
import sys
from collections.abc import Callable

import pytest

from ledgermq.client.leaving import left_normally


class Watched:
    """An endless iterable whose iterators note how they were left."""

    def __init__(self) -> None:
        self.left: list[bool] = []

    def __iter__(self) -> "Watcher":
        return Watcher(self.left)

    def __aiter__(self) -> "Watcher":
        return Watcher(self.left)


class Watcher:
    def __init__(self, left: list[bool]) -> None:
        self._left = left

    def __next__(self) -> int:
        return 1

    async def __anext__(self) -> int:
        return 1

    def __del__(self) -> None:
        self._left.append(left_normally(sys._getframe(1)))


def fail() -> None:
    raise ValueError


async def afail() -> None:
    raise ValueError


async def by_break(source: Watched) -> None:
    async for _ in source:
        break


async def by_break_in_with(source: Watched) -> None:
    async for _ in source:
        try:
            with contextlib.nullcontext():
                break
        finally:
            len("")


async def by_break_after_a_caught_error(source: Watched) -> None:
    async for _ in source:
        try:
            fail()
        except ValueError:
            break


async def by_return(source: Watched) -> int:
    async for number in source:
        return number
    return 0


async def by_bare_return(source: Watched) -> None:
    async for _ in source:
        return


async def by_return_in_with(source: Watched) -> int:
    async for number in source:
        async with contextlib.AsyncExitStack():
            return number
    return 0


async def by_sync_break(source: Watched) -> None:
    for _ in source:
        break


async def by_raise(source: Watched) -> None:
    async for _ in source:
        raise ValueError


async def by_call(source: Watched) -> None:
    async for _ in source:
        fail()


async def by_await(source: Watched) -> None:
    async for _ in source:
        await afail()


async def by_raise_in_finally(source: Watched) -> None:
    async for _ in source:
        try:
            len("")
        finally:
            fail()


async def by_raise_in_with(source: Watched) -> None:
    async for _ in source:
        with contextlib.nullcontext():
            fail()


async def by_operator(source: Watched) -> None:
    async for number in source:
        if number / 0:
            pass


async def by_cancellation(source: Watched) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            async for _ in source:
                await asyncio.Event().wait()


async def by_sync_raise(source: Watched) -> None:
    for _ in source:
        raise ValueError


Way = Callable[[Watched], object]


@pytest.mark.parametrize(
    "way",
    [
        by_break,
        by_break_in_with,
        by_break_after_a_caught_error,
        by_return,
        by_bare_return,
        by_return_in_with,
        by_sync_break,
    ],
    ids=lambda w: w.__name__,
)
async def test_normally(way):
    source = Watched()
    await way(source)
    assert source.left == [True]


@pytest.mark.parametrize(
    "way",
    [
        by_raise,
        by_call,
        by_await,
        by_raise_in_finally,
        by_raise_in_with,
        by_operator,
        by_cancellation,
        by_sync_raise,
    ],
    ids=lambda w: w.__name__,
)
async def test_by_exception(way):
    source = Watched()
    with contextlib.suppress(ValueError, ZeroDivisionError):
        await way(source)
    assert source.left == [False]


async def test_a_generator_closed_from_outside_counts_as_exception():
    source = Watched()

    async def wrapped():
        async for number in source:
            yield number

    generator = wrapped()
    await anext(generator)
    await generator.aclose()
    assert source.left == [False]


def test_no_frame_is_not_normal():
    assert not left_normally(None)


def test_another_python_is_not_trusted(monkeypatch):
    class Other:
        name = "other"

    monkeypatch.setattr(sys, "implementation", Other)
    assert not left_normally(sys._getframe())
