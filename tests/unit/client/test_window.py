"""The bound on requests on their way."""

import asyncio

from ledgermq.client.window import Window
from tests.support import until


async def test_outcomes_come_in_the_order_of_entering():
    window: Window[str] = Window()
    settles = [await window.enter(1) for _ in range(3)]
    for settle, outcome in zip(reversed(settles), "cba", strict=True):
        settle(outcome)
    assert await window.finish() == ["a", "b", "c"]


async def test_nothing_entered():
    assert await Window[int]().finish() == []


async def test_finish_waits_for_the_last():
    window: Window[int] = Window()
    settle = await window.enter(1)
    task = asyncio.create_task(window.finish())
    await asyncio.sleep(0)
    assert not task.done()
    settle(5)
    assert await task == [5]


async def test_no_more_than_the_limit_in_flight():
    window: Window[int] = Window(max_in_flight=2)
    first = await window.enter(1)
    await window.enter(1)
    third = asyncio.create_task(window.enter(1))
    await asyncio.sleep(0)
    assert not third.done()
    first(0)
    await third
    assert window.in_flight == 2


async def test_no_more_bytes_than_the_limit():
    window: Window[int] = Window(max_bytes=10)
    first = await window.enter(8)
    second = asyncio.create_task(window.enter(3))
    await asyncio.sleep(0)
    assert not second.done()
    first(0)
    await second
    assert window.bytes_in_flight == 3


async def test_one_request_over_the_limit_goes_alone():
    window: Window[int] = Window(max_bytes=10)
    settle = await window.enter(50)
    settle(1)
    assert await window.finish() == [1]


async def test_the_loop_gets_its_turn():
    window: Window[int] = Window()
    turns = []

    async def other() -> None:
        while True:
            turns.append(window.in_flight)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(500):
        await window.enter(1)
    task.cancel()
    assert len(turns) > 3
    await until(task.done)
