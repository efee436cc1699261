"""Faults of processes and clocks, and some that come together with others."""

from typing import TYPE_CHECKING

from tests.sim.world import MS, Loss, S

from .faults import SOON_US, Trouble, note_death, rejoin, restart

if TYPE_CHECKING:
    from .member import Member


def kill(t: Trouble) -> bool:
    """kill -9."""
    member = t.alive()
    if member is None:
        return False
    restart(t, member)
    return True


def kill_quietly(t: Trouble) -> bool:
    """A process ends and nobody tells its peers: their connections are half open."""
    member = t.alive()
    if member is None:
        return False
    note_death(t.group, member)
    t.tell(member.name, "killed, its peers hear nothing")
    member.joined = False
    member.process.kill(quietly=True)
    t.group.start_later(member, SOON_US)
    return True


def kill_in_call(t: Trouble) -> bool:
    """kill -9 in the midst of whatever it writes next."""
    member = t.alive()
    if member is None or not member.joined:
        return False
    kind = t.rng.choice((None, None, "pwrite", "fdatasync", "rename", "truncate"))
    n, process = t.rng.randint(1, 8), member.process
    power = t.rng.random() < 0.5 and t.group.character.sync_flush

    def strike() -> None:
        if t.over:
            return
        note_death(t.group, member)
        t.tell(member.name, f"killed in a call of {kind or 'the disk'}")
        member.joined = False
        if power:
            member.machine.power_loss(t.rng.choice(list(Loss)))
        else:
            process.kill()
        t.group.start_later(member, SOON_US)

    process.at_disk_call(n, strike, kind)
    return True


def pause(t: Trouble) -> bool:
    """A process is stopped, often longer than an election takes."""
    member = t.alive()
    if member is None or not member.process.running:
        return False
    pause_us = t.rng.choice((50, 250, 400, 1200, 2500, 4000)) * MS
    t.tell(member.name, f"stopped for {pause_us // MS} ms")
    member.process.pause(pause_us)
    return True


def flap(t: Trouble) -> bool:
    """A process is stopped again and again for a moment."""
    member = t.alive()
    if member is None:
        return False
    t.tell(member.name, "stutters")
    for at_ms in range(0, 2000, 300):
        t.later((at_ms * MS, (at_ms + 200) * MS), lambda: _stutter(t, member))
    return True


def _stutter(t: Trouble, member: "Member") -> None:
    if member.running:
        member.process.pause(t.rng.randint(20, 250) * MS)


def clock_step(t: Trouble) -> bool:
    """Somebody sets the wall clock."""
    member = t.victim()
    ms = t.rng.choice((-3_600_000, -5000, -100, 100, 5000, 86_400_000))
    member.machine.step_wall(ms)
    t.tell(member.name, f"its wall clock goes {ms} ms")
    return True


def clock_drift(t: Trouble) -> bool:
    """A clock runs a little fast or slow for a while."""
    member = t.victim()
    rate = t.rng.choice((0.95, 0.98, 1.02, 1.05))
    member.machine.set_drift(rate)
    t.tell(member.name, f"its clock runs at {rate}")
    t.later((1 * S, 8 * S), lambda: member.machine.set_drift(1.0))
    return True


def slow_sync_and_cut(t: Trouble) -> bool:
    """A leader whose syncs take long is cut off: they end when its tail is gone."""
    leader = t.group.leader()
    if leader is None:
        return False
    disk, sync_us = leader.machine.disk, t.rng.randint(2000, 4000) * MS
    if "sync_us" in vars(disk):
        return False
    vars(disk)["sync_us"] = lambda: sync_us
    t.tell(leader.name, f"its syncs take {sync_us // MS} ms, and it is isolated")
    t.group.world.net.isolate(leader.name)
    t.later((1500 * MS, 3500 * MS), lambda: rejoin(t, leader.name))
    t.later((3500 * MS, 4500 * MS), lambda: vars(disk).pop("sync_us", None))
    return True


def kill_with_slow_links(t: Trouble) -> bool:
    """The leader dies while all links are slow: those who hear of it stand at the same time."""
    leader = t.group.leader()
    if leader is None:
        return False
    net = t.group.world.net
    net.set_latency(20 * MS, 90 * MS)
    restart(t, leader)
    t.later((2 * S, 3 * S), lambda: net.set_latency(*t.group.character.latency_us))
    return True


def transfer_in_silence(t: Trouble) -> bool:
    """The leader hands over just when a follower that cannot hear it stands."""
    leader = t.group.leader()
    if leader is None or leader.replica is None:
        return False
    deaf, *others = t.rng.sample([m for m in t.group.all if m is not leader], k=2)
    t.group.world.net.cut(leader.name, deaf.name)
    t.tell(deaf.name, f"does not hear {leader.name}, which will hand over")
    replica, process = leader.replica, leader.process

    def hand_over() -> None:
        if leader.running and leader.process is process:
            leader.call(replica.log.transfer, others[0].name)

    slow = t.group.world.net.link(leader.name, others[0].name)
    slow.low_us, slow.high_us = 100 * MS, 400 * MS

    def restore() -> None:
        slow.low_us, slow.high_us = t.group.character.latency_us
        t.group.world.net.heal(leader.name, deaf.name)

    for _ in range(3):
        t.later((900 * MS, 2200 * MS), hand_over)
    t.later((2500 * MS, 3500 * MS), restore)
    return True
