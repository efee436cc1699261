"""Real log servers in the world: it carries them, and nothing of it gets in their way."""

import logging
from collections.abc import Iterator

import pytest

from tests.sim.world import MS, Loss, S, World

from .members import FOLDER, NOOP, Group

BODIES = [b"entry %d" % i for i in range(30)]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the members log is not looked at."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def bodies(log: list[tuple[int, bytes]]) -> list[bytes]:
    return [body for _, body in log if body != NOOP]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_they_elect_and_append(count: int) -> None:
    with World(1) as world:
        group = Group(world, count)
        group.append(30)
        assert bodies(group.agree()) == BODIES
        assert len([m for m in group.members if m.leads]) == 1


def test_what_is_committed_is_on_the_platters_of_a_majority() -> None:
    with World(2) as world:
        group = Group(world)
        group.append(30)
        group.agree()
        path = FOLDER / "data" / f"{0:020}"
        holders = [m for m in group.members if _holds(m, path)]
        assert len(holders) >= 2


def _holds(member: object, path: object) -> bool:
    return BODIES[-1] in (member.machine.disk.durable_read(path, 0, 64 << 10) or b"")


def test_a_killed_leader_is_followed_soon_and_comes_back() -> None:
    with World(3) as world:
        group = Group(world)
        group.append(10)
        leader = group.leader()
        leader.process.kill()
        begin_us = world.now_us
        assert group.leader() is not leader
        assert world.now_us - begin_us < S
        leader.start()
        world.run(S)
        assert len(bodies(group.agree())) == 10


@pytest.mark.parametrize("loss", list(Loss))
def test_all_lose_power_and_nothing_acknowledged_is_lost(loss: Loss) -> None:
    with World(4) as world:
        group = Group(world)
        group.append(30)
        committed = group.leader().log.core.commit
        for member in group.members:
            member.machine.power_loss(loss)
        world.run(S)
        for member in group.members:
            member.start()
        group.leader()
        log = group.agree()
        assert len(log) > committed
        assert bodies(log)[:29] == BODIES[:29]


def test_a_leader_without_its_group_steps_down_and_is_followed() -> None:
    with World(5) as world:
        group = Group(world)
        group.append(10)
        old = group.leader()
        world.net.isolate(old.machine.name)
        old.put(b"never committed")
        world.run(3 * S)
        assert not old.leads
        assert group.leader() is not old
        group.append(5)
        world.net.heal()
        world.run(3 * S)
        assert b"never committed" not in bodies(group.agree())


def test_a_paused_leader_is_followed_and_gives_way() -> None:
    with World(6) as world:
        group = Group(world)
        group.append(10)
        old = group.leader()
        old.process.pause(6 * S)
        world.run(5 * S)
        assert any(m.leads for m in group.others(old))
        world.run(3 * S)
        assert not old.leads
        group.agree()


def test_a_lossy_control_channel_does_not_depose() -> None:
    with World(7) as world:
        group = Group(world)
        leader = group.leader()
        world.net.frame_loss = world.net.frame_duplication = 0.1
        group.append(100, 100 * MS)
        assert group.leader() is leader
        assert world.net.counts["lost frames"] > 20


def test_a_failed_sync_stops_the_node() -> None:
    with World(8) as world:
        group = Group(world)
        leader = group.leader()
        leader.machine.disk.fail_syncs = 1
        leader.put(b"x")
        world.run(S)
        assert leader.log.stopped
        assert "Input/output error" in str(leader.stops[0])


def test_a_run_of_members_is_repeatable() -> None:
    def run() -> tuple[int, int]:
        with World(9) as world:
            group = Group(world)
            group.append(10)
            group.leader().process.kill()
            group.append(10)
            return world.fingerprint, world.events

    assert run() == run()
