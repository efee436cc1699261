"""Time, chance, and that a seed is a run."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.world import MS, S, World

from .small import Pair, make_file, one, two

ROOT = Path(__file__).resolve().parents[3]


def test_actions_run_in_the_order_of_their_time_then_of_their_coming() -> None:
    world, seen = World(1), []
    for delay_us, name in ((20, "c"), (10, "a"), (10, "b")):
        world.schedule(delay_us, lambda name=name: seen.append((world.now_us, name)))
    world.run(15)
    assert seen == [(10, "a"), (10, "b")]
    assert world.now_us == 15
    world.run(5)
    assert seen[-1] == (20, "c")
    assert world.events == 3


def test_a_cancelled_action_never_runs() -> None:
    world, seen = World(1), []
    world.schedule(10, lambda: seen.append(1)).cancel()
    world.run(20)
    assert not seen


def test_run_until_stops_at_the_event_that_makes_it_true() -> None:
    world, seen = World(1), []
    for delay_us in (10, 20, 30):
        world.schedule(delay_us, lambda: seen.append(1))
    assert world.run_until(lambda: len(seen) == 2, 100)
    assert world.now_us == 20
    assert not world.run_until(lambda: len(seen) == 9, 100)
    assert world.now_us == 120


def test_what_nobody_handles_ends_the_run() -> None:
    world, process = one()

    def bad() -> None:
        raise ValueError("a bug")

    process.loop.call_soon(bad)
    with pytest.raises(ValueError, match="a bug") as caught:
        world.run(S)
    assert "in a#1" in caught.value.__notes__[0]


def test_a_task_that_fails_unseen_ends_the_run() -> None:
    world, process = one()

    async def bad() -> None:
        raise ValueError("a bug")

    process.spawn(bad())
    with pytest.raises(ValueError, match="a bug"):
        world.run(S)


def test_invariants_are_asked_after_each_turn() -> None:
    world, process = one()
    seen = []
    world.on_iteration = lambda p: seen.append((p, p.loop.time()))
    process.spawn(asyncio.sleep(0.001))
    world.run(S)
    assert len(seen) >= 2
    assert {p for p, _ in seen} == {process}


def busy_run(seed: int) -> tuple[int, int, bytes]:
    """A little of everything."""
    world, a, b = two(seed)
    with world:
        pair = Pair(a, b)
        fd = make_file(a)
        threads = a.host().threads(2, "t")
        for i in range(50):
            pair.send(bytes(range(i)))
            threads.submit(a.disk.pwrite, fd, bytes([i]), i)
            threads.submit(a.disk.fdatasync, fd)
            world.run(int(world.random() * 500))
            if i == 25:
                b.pause(3 * MS)
        world.run(S)
        world.machines["a"].power_loss()
        return world.fingerprint, world.events, b"|".join(pair.far.chunks)


def test_one_seed_is_one_run() -> None:
    assert busy_run(7) == busy_run(7)
    assert busy_run(7)[0] != busy_run(8)[0]


def test_a_run_does_not_depend_on_hashes() -> None:
    code = "from tests.unit.sim_world.test_world import busy_run; print(busy_run(7))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(runs) == 1


def test_clocks_differ_drift_and_step() -> None:
    world, a, b = two()
    assert a.host().mono_ms() != b.host().mono_ms()
    a.machine.set_drift(1.05)
    b.machine.set_drift(0.95)
    begin = [(p.host().mono_ms(), p.host().wall_ms()) for p in (a, b)]
    world.run(100 * S)
    gone = [p.host().mono_ms() - at[0] for p, at in zip((a, b), begin, strict=True)]
    assert [round(ms, -1) for ms in gone] == [105_000, 95_000]
    a.machine.step_wall(-7000)
    assert round(a.host().wall_ms() - begin[0][1], -1) == 98_000
    assert a.host().mono_ms() - begin[0][0] == gone[0]


def test_the_wall_clock_survives_a_loss_of_power() -> None:
    world, a = one()
    world.run(10 * S)
    wall_ms, boot_id = a.host().wall_ms(), a.host().boot_id
    a.machine.power_loss()
    world.run(5 * S)
    again = a.machine.boot()
    assert again.host().wall_ms() - wall_ms == 5000
    assert again.host().boot_id != boot_id


def test_a_killed_process_leaves_the_boot_id() -> None:
    _, a = one()
    boot_id = a.host().boot_id
    a.kill()
    again = a.machine.boot()
    assert again.host().boot_id == boot_id
    assert again.life == 2


def test_ids_and_jitter_come_from_the_seed() -> None:
    def draw(seed: int) -> tuple[str, float]:
        host = one(seed)[1].host()
        return host.new_id(), host.rng.random()

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
