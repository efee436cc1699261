"""Nothing is wrong with the leader: it must stay; and a node that ends in order fails no send."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ledgermq.broker.writer import AppendResult
from ledgermq.remoting.errors import PeerError
from tests.sim.invariants import ViolationError
from tests.sim.world import MS, S

from .calm import QUIET, Calm


@pytest.fixture(params=range(2))
def calm(request: pytest.FixtureRequest) -> Iterator[Calm]:
    calm = Calm(request.param)
    yield calm
    calm.group.close()


@pytest.mark.parametrize("to_leader", [True, False], ids=["follower is mute", "follower is deaf"])
def test_an_asymmetric_partition_does_not_depose_a_healthy_leader(
    calm: Calm, to_leader: bool
) -> None:
    before, net = calm.terms, calm.group.world.net
    a, b = calm.followers[0].name, calm.leader.name
    net.cut(*((a, b) if to_leader else (b, a)))
    calm.work.start()
    calm.group.world.run(8 * S)
    assert calm.leader.ready
    net.heal()
    calm.group.world.run(6 * S)
    assert (calm.leader.ready, calm.terms) == (True, before)
    calm.work.stop()
    calm.run.converge()


@pytest.mark.parametrize("how", ["paused", "cut off", "killed"])
def test_a_flapping_node_does_not_depose_a_healthy_leader(calm: Calm, how: str) -> None:
    before, world, node = calm.terms, calm.group.world, calm.followers[1]
    calm.work.start()
    for at in range(8):
        if how == "paused":
            node.process.pause(1500 * MS)
        elif how == "cut off":
            world.net.isolate(node.name)
        else:
            node.end()
        world.run((600 + 200 * at) * MS)
        world.net.heal()
        node.start()
        world.run(600 * MS)
    assert (calm.leader.ready, calm.terms) == (True, before)
    calm.work.stop()
    calm.run.converge()


def test_four_mebibytes_over_a_slow_link_do_not_depose_a_healthy_leader() -> None:
    calm = Calm(1, replace(QUIET, segment_bytes=2 << 20))
    before, world = calm.terms, calm.group.world
    for follower in calm.followers:
        for a, b in ((calm.leader, follower), (follower, calm.leader)):
            world.net.link(a.name, b.name).bytes_per_s = 1_000_000
    answers = calm.send([b"%d" % i + bytes(1 << 20) for i in range(4)])
    assert world.run_until(lambda: len(answers) == 4, 15 * S)
    assert all(isinstance(a, AppendResult) for a in answers)
    assert world.now_us > 4 * S
    assert (calm.leader.ready, calm.terms) == (True, before)
    calm.group.close()


def test_a_sigterm_fails_no_send(calm: Calm) -> None:
    world, old = calm.group.world, calm.leader
    answers: list[AppendResult | PeerError] = []
    for at in range(120):
        if at == 30:
            old.call(lambda: old.process.spawn(old.terminate()))
        taking = [m for m in calm.group.all if m.ready and not m.stopping]
        # The broker's gate holds what comes while nobody takes it.
        if taking and taking[0].replica and taking[0].replica.node.takes_appends:
            calm.leader = taking[0]
            answers_now = calm.send([b"send %d" % at])
            world.run(10 * MS)
            world.run_until(lambda answers=answers_now: len(answers) == 1, 2 * S)
            answers += answers_now
        else:
            world.run(10 * MS)
    assert calm.leader is not old
    assert len(answers) > 80
    assert [a for a in answers if not isinstance(a, AppendResult)] == []


def test_the_end_of_a_run_waits_for_a_node_that_is_being_repaired(calm: Calm) -> None:
    """Its 3 s without a leader begin when the node is there again, and end in a violation."""
    for member in calm.group.all:
        member.end()
    calm.followers[0].start()
    calm.group.world.schedule(2500 * MS, calm.followers[1].start)
    calm.run.recover()
    for member in calm.group.all:
        member.end()
    calm.followers[0].start()
    calm.group.world.schedule(2500 * MS, calm.followers[0].end)
    with pytest.raises(ViolationError, match="leader_soon"):
        calm.run.recover()


def test_a_group_whose_nodes_come_and_go_for_ever_breaks_the_rule(calm: Calm) -> None:
    for member in calm.group.all[1:]:
        member.end()

    def flap() -> None:
        node = calm.group.all[0]
        (node.end if node.alive else node.start)()
        calm.group.world.schedule(1000 * MS, flap)

    flap()
    with pytest.raises(ViolationError, match="leader_soon"):
        calm.run.recover()
