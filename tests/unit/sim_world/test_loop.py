"""The loop: what asyncio promises, on simulated time; and pauses, and death."""

import asyncio
import contextvars
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sim.world import MS, ProcessGone, S

from .small import Pair, make_file, one, two


def test_sleep_timeout_gather_and_threads() -> None:
    world, process = one()

    async def story() -> list[object]:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        await asyncio.sleep(0.5)
        slept_s = loop.time() - begin_s
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.sleep(9)
        async with asyncio.timeout(1):
            both = await asyncio.gather(asyncio.sleep(0.2, "a"), asyncio.sleep(0.1, "b"))
        event = asyncio.Event()
        loop.call_later(0.1, event.set)
        await asyncio.wait_for(event.wait(), 1)
        return [round(slept_s, 2), *both, await asyncio.to_thread(lambda: "c")]

    task = process.spawn(story())
    world.run(2 * S)
    assert task.result() == [0.5, "a", "b", "c"]


def test_callbacks_run_in_order_and_what_they_add_in_the_next_turn() -> None:
    world, process = one()
    seen = []
    turns = []
    world.on_iteration = lambda _: turns.append(list(seen))

    def first() -> None:
        seen.append("first")
        process.loop.call_soon(seen.append, "third")

    process.loop.call_soon(first)
    process.loop.call_soon(seen.append, "second")
    world.run(S)
    assert turns == [["first", "second"], ["first", "second", "third"]]


def test_cancelled_handles_never_run() -> None:
    world, process = one()
    seen = []
    process.loop.call_soon(seen.append, 1).cancel()
    later = process.loop.call_later(0.1, seen.append, 2)
    process.loop.call_later(0.05, later.cancel)
    world.run(S)
    assert not seen
    assert later.cancelled()


@pytest.mark.parametrize("rate", [0.95, 1.0, 1.05])
def test_no_timer_is_early_by_the_clock_of_its_machine(rate: float) -> None:
    world, process = one()
    process.machine.set_drift(rate)
    late_s = []

    def expired(when_s: float) -> None:
        late_s.append(process.loop.time() - when_s)

    for i in range(200):
        when_s = process.loop.time() + i * 0.0123457
        process.loop.call_at(when_s, expired, when_s)
    world.schedule(S, lambda: process.machine.set_drift(0.5))
    world.run(10 * S)
    assert len(late_s) == 200
    assert min(late_s) >= -1e-9
    assert max(late_s) < 0.001


def test_tasks_keep_their_context() -> None:
    world, process = one()
    name = contextvars.ContextVar("name", default="none")

    async def story(value: str) -> str:
        name.set(value)
        await asyncio.sleep(0.1)
        return name.get()

    tasks = [process.spawn(story(v)) for v in ("a", "b")]
    world.run(S)
    assert [t.result() for t in tasks] == ["a", "b"]
    assert name.get() == "none"


def test_a_pool_of_real_threads_is_refused() -> None:
    world, process = one()

    async def story() -> None:
        with ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, len, "")

    process.spawn(story())
    with pytest.raises(TypeError, match=r"Host\.threads"):
        world.run(S)


def test_an_error_in_a_thread_reaches_who_awaits_it() -> None:
    world, process = one()

    async def story() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)

    task = process.spawn(story())
    world.run(S)
    assert task.result() is None


# --- pauses ---------------------------------------------------------------------------------------


def test_a_paused_process_does_nothing_until_it_goes_on() -> None:
    world, process = one()
    seen = []
    process.loop.call_later(0.1, lambda: seen.append(world.now_us))
    process.pause(500 * MS)
    with pytest.raises(ProcessGone):
        process.call(seen.append, 1)
    world.run(499 * MS)
    assert not seen
    world.run(10 * MS)
    assert 500 * MS <= seen[0] <= 501 * MS


def test_bytes_come_before_timers_when_a_process_wakes_up() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    seen = []
    pair.far.data_received = seen.append
    b.loop.call_later(0.01, seen.append, "timer")
    b.pause(S)
    world.run(100 * MS)
    pair.send(b"bytes")
    world.run(2 * S)
    assert seen == [b"bytes", "timer"]


def test_a_longer_pause_wins() -> None:
    world, process = one()
    process.pause(500 * MS)
    process.pause(100 * MS)
    world.run(400 * MS)
    assert process.paused
    process.pause(600 * MS)
    world.run(500 * MS)
    assert process.paused
    world.run(200 * MS)
    assert process.running


def test_threads_of_a_paused_process_wait_too() -> None:
    world, process = one()
    fd = make_file(process)
    job = process.host().threads(1, "t").submit(process.disk.pwrite, fd, b"x", 0)
    process.pause(S)
    world.run(999 * MS)
    assert not job.done()
    world.run(10 * MS)
    assert job.done()


# --- death ----------------------------------------------------------------------------------------


def test_nothing_of_a_dead_process_happens() -> None:
    world, process = one()
    seen = []

    async def story() -> None:
        try:
            await asyncio.sleep(0.1)
            seen.append("slept")
        finally:
            process.loop.call_soon(seen.append, "cleaned up")

    process.spawn(story())
    process.loop.call_later(0.1, seen.append, "timer")
    world.run(10 * MS)
    process.loop.call_soon(seen.append, "soon")
    process.kill()
    process.kill()
    world.run(S)
    gc.collect()
    assert not seen
    with pytest.raises(ProcessGone):
        process.call(seen.append, 1)


def test_a_task_that_never_began_dies_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    _, process = one()
    process.spawn(asyncio.sleep(1))
    process.kill()
    gc.collect()
    assert not recwarn.list


def test_a_process_can_kill_itself() -> None:
    world, process = one()
    seen = []

    async def story() -> None:
        process.kill()
        await asyncio.sleep(0)
        seen.append("alive")

    process.spawn(story())
    process.loop.call_soon(seen.append, "next callback")
    world.run(S)
    assert not seen


def test_one_process_at_a_time_on_a_machine() -> None:
    _, process = one()
    with pytest.raises(ValueError, match="runs already"):
        process.machine.boot()
    process.kill()
    assert process.machine.boot().life == 2
