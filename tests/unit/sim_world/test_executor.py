"""Threads: they interleave at disk calls, and can be waited for like real ones."""

import asyncio
from concurrent.futures import CancelledError, Executor, Future

import pytest

from tests.sim.world import MS, Process, S, SimExecutor

from .small import FILE, make_file, one, shown


def threads(process: Process, count: int = 1) -> SimExecutor:
    executor = process.host().threads(count, "t")
    assert isinstance(executor, SimExecutor)
    return executor


def test_it_looks_like_what_it_stands_for() -> None:
    world, process = one()
    job = threads(process).submit(lambda a, b: a + b, 1, b=2)
    assert isinstance(threads(process), Executor)
    assert isinstance(job, Future)
    assert not job.done()
    told = []
    job.add_done_callback(told.append)
    world.run(S)
    assert job.done()
    assert job.result() == 3
    assert told == [job]
    job.add_done_callback(told.append)
    assert told == [job, job]


def test_a_job_gives_way_at_each_disk_call() -> None:
    world, process = one()
    fd = make_file(process)
    seen = []

    def work() -> None:
        for i in range(3):
            process.disk.pwrite(fd, b"x", i)
            seen.append(world.now_us)

    process.machine.disk.slow_us = 300
    threads(process).submit(work)
    turns = []

    def turn() -> None:
        turns.append(len(seen))
        process.loop.call_soon(turn)

    process.loop.call_soon(turn)
    world.run(2 * MS)
    assert len(set(seen)) == 3
    assert set(turns) == {0, 1, 2, 3}


def test_a_write_in_a_thread_happens_after_its_wait() -> None:
    world, process = one()
    fd = make_file(process)
    process.machine.disk.slow_us = 50 * MS
    threads(process).submit(process.disk.pwrite, fd, b"x", 0)
    world.run(49 * MS)
    assert shown(process.machine.disk) == b""
    world.run(10 * MS)
    assert shown(process.machine.disk) == b"x"


def test_so_many_threads_at_a_time() -> None:
    world, process = one()
    fd = make_file(process)
    begun, ended = [], []

    def work(i: int) -> None:
        begun.append(i)
        process.disk.fdatasync(fd)
        assert len(begun) - len(ended) <= 2
        ended.append(i)

    pool = threads(process, 2)
    for i in range(6):
        pool.submit(work, i)
    world.run(S)
    assert sorted(begun) == sorted(ended) == list(range(6))
    assert sorted(begun[:2]) == [0, 1]


def test_the_loop_that_asks_for_a_result_gets_it_now() -> None:
    world, process = one()
    fd = make_file(process)
    order = []

    def work(i: int) -> int:
        process.disk.fdatasync(fd)
        order.append(i)
        return i

    pool = threads(process)
    jobs = [pool.submit(work, i) for i in range(3)]
    world.run(100)
    before_us = world.now_us
    assert process.call(jobs[1].exception) is None
    assert jobs[1].result() == 1
    assert order == [0, 1]
    assert world.now_us == before_us
    world.run(S)
    assert order == [0, 1, 2]


def test_a_job_that_was_hurried_does_not_run_twice() -> None:
    world, process = one()
    fd = make_file(process)
    count = []

    def work() -> None:
        process.disk.fdatasync(fd)
        count.append(1)

    job = threads(process).submit(work)
    world.run(120)
    job.result()
    world.run(S)
    assert count == [1]


def test_hurrying_on_a_slow_disk_stalls_the_process() -> None:
    world, process = one()
    fd = make_file(process)
    process.machine.disk.slow_us = 400 * MS
    job = threads(process).submit(process.disk.fdatasync, fd)
    process.loop.call_soon(job.result)
    seen = []
    process.loop.call_later(0.01, lambda: seen.append(world.now_us))
    world.run(S)
    assert 400 * MS <= seen[0] <= 402 * MS


def test_errors_are_kept_for_who_asks() -> None:
    world, process = one()
    job = threads(process).submit(lambda: 1 / 0)
    world.run(S)
    assert isinstance(job.exception(), ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        job.result()


def test_only_what_has_not_begun_can_be_cancelled() -> None:
    world, process = one()
    fd = make_file(process)
    pool = threads(process)
    first, second, third = (pool.submit(process.disk.fdatasync, fd) for _ in range(3))
    assert second.cancel()
    world.run(120)
    assert first.running()
    assert not first.cancel()
    world.run(S)
    assert first.done()
    assert third.done()
    assert second.cancelled()
    with pytest.raises(CancelledError):
        second.result()


def test_shutdown_waits_for_all_jobs() -> None:
    world, process = one()
    fd = make_file(process)
    done = []
    pool = threads(process, 2)
    for i in range(5):
        pool.submit(lambda i=i: (process.disk.fdatasync(fd), done.append(i)))
    world.run(100)
    pool.shutdown(wait=True)
    assert sorted(done) == list(range(5))
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(len, "")


def test_threads_of_the_dead_never_go_on() -> None:
    world, process = one()
    fd = make_file(process, b"old")
    seen = []

    def work() -> None:
        try:
            process.disk.fdatasync(fd)
            seen.append("synced")
        finally:
            process.disk.pwrite(fd, b"new", 0)
            seen.append("wrote")

    pool = threads(process, 1)
    job = pool.submit(work)
    job.add_done_callback(lambda _: seen.append("told"))
    pool.submit(seen.append, "queued")
    world.run(120)
    assert job.running()
    process.kill()
    world.run(S)
    assert not seen
    assert shown(process.machine.disk) == b"old"


def test_a_thread_that_kills_its_process_takes_the_others_along() -> None:
    world, process = one()
    fd = make_file(process)
    seen = []

    def work(i: int) -> None:
        process.disk.pwrite(fd, b"x", i)
        process.disk.fdatasync(fd)
        seen.append(i)

    pool = threads(process, 2)
    for i in range(2):
        pool.submit(work, i)
    process.at_disk_call(1, process.kill, "fdatasync")
    world.run(S)
    assert not process.alive
    assert not seen


def test_to_thread_gives_way_too() -> None:
    world, process = one()
    fd = make_file(process)
    seen = []

    async def story() -> None:
        await asyncio.to_thread(process.disk.fdatasync, fd)
        seen.append("synced")

    process.spawn(story())
    process.loop.call_later(0.00005, seen.append, "loop")
    process.machine.disk.slow_us = 10 * MS
    world.run(S)
    assert seen == ["loop", "synced"]


def test_a_cancelled_await_takes_the_job_back_or_lets_it_end_unseen() -> None:
    world, process = one()
    fd = make_file(process)

    async def story() -> None:
        await asyncio.to_thread(process.disk.pwrite, fd, b"x", 0)

    task = process.spawn(story())
    world.run(60)
    process.call(task.cancel)
    world.run(S)
    assert task.cancelled()
    assert shown(process.machine.disk, FILE) in (b"", b"x")
