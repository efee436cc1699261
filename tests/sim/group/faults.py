"""Everything that can go wrong, one function each.

A fault happens to a group and undoes itself after a while; it returns False where it makes no sense
just now. One that costs a store its vote comes only while all other stores are whole: the promise
holds for a majority of the disks.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledgermq.dledger.ids import Standing
from tests.sim.world import MS, Loss, S

from .marks import Mark

if TYPE_CHECKING:
    from random import Random

    from .group import Group
    from .member import Member

SOON_US = (20 * MS, 1000 * MS)
# Most troubles are over before anybody stands for election, some last through several elections.
SHORT_US = (50 * MS, 900 * MS)
LONG_US = (900 * MS, 4 * S)
_LONG_SHARE = 0.2


@dataclass
class Trouble:
    """What a fault needs."""

    group: "Group"
    rng: "Random"

    def later(self, span_us: tuple[int, int], action: Callable[[], object]) -> None:
        """Undo something after a while."""
        self.group.world.schedule(self.rng.randint(*span_us), lambda: _ignore(action()))

    def for_a_while(self, action: Callable[[], object]) -> None:
        """Undo something after a short or a long while."""
        self.later(LONG_US if self.rng.random() < _LONG_SHARE else SHORT_US, action)

    def victim(self) -> "Member":
        """Some member, the leader more often than chance would have it."""
        leader = self.group.leader()
        if leader is not None and self.rng.random() < 0.4:
            return leader
        return self.rng.choice(self.group.all)

    def alive(self) -> "Member | None":
        """A victim whose process lives."""
        member = self.victim()
        return member if member.alive else None

    def pair(self) -> tuple[str, str]:
        """Two members, the first one often the leader."""
        first = self.victim()
        second = self.rng.choice([m for m in self.group.all if m is not first])
        return first.name, second.name

    def may_hurt(self, member: "Member") -> bool:
        """Whether the group can do without this store."""
        others_whole = all(m.whole for m in self.group.all if m is not member)
        return others_whole and member.whole

    def tell(self, who: str, what: str) -> None:
        """A line of the story."""
        self.group.tell(who, f"* {what}")


def _ignore(_: object) -> None:
    """Timers want no value."""


def note_death(group: "Group", member: "Member") -> None:
    """A process is about to end at once."""
    w = member.witness
    if member.alive and member.joined and w.held.end > w.claim:
        group.marks[Mark.CRASH_BEFORE_SYNC] += 1


# --- network ------------------------------------------------------------------------------------


def cut_one_way(t: Trouble) -> bool:
    """One direction between two members is dead."""
    a, b = t.pair()
    if t.rng.random() < 0.5:
        a, b = b, a
    t.group.world.net.cut(a, b)
    t.tell(a, f"cannot reach {b}")
    t.for_a_while(lambda: t.group.world.net.heal(a, b))
    return True


def isolate(t: Trouble) -> bool:
    """One member is alone."""
    name = t.victim().name
    t.group.world.net.isolate(name)
    t.tell(name, "isolated")
    t.for_a_while(lambda: _rejoin(t, name))
    return True


def _rejoin(t: Trouble, name: str) -> None:
    net = t.group.world.net
    net.heal(name)
    net.heal(None, name)
    t.tell(name, "connected again")


def halves(t: Trouble) -> bool:
    """Two groups that do not see each other."""
    names = [m.name for m in t.group.all]
    t.rng.shuffle(names)
    at = t.rng.randint(1, len(names) - 1)
    t.group.world.net.partition(names[:at], names[at:])
    t.tell("net", f"{sorted(names[:at])} | {sorted(names[at:])}")
    t.for_a_while(lambda: _heal(t))
    return True


def bridge(t: Trouble) -> bool:
    """One member sees both sides, which do not see each other."""
    names = [m.name for m in t.group.all]
    middle = t.victim().name
    names.remove(middle)
    t.rng.shuffle(names)
    at = len(names) // 2
    t.group.world.net.partition(names[:at], names[at:])
    t.tell("net", f"{sorted(names[:at])} | {sorted(names[at:])}, bridge {middle}")
    t.for_a_while(lambda: _heal(t))
    return True


def ring(t: Trouble) -> bool:
    """Everybody sees a majority, and nobody the same one."""
    names = [m.name for m in t.group.all]
    if len(names) < 5:
        return bridge(t)
    t.rng.shuffle(names)
    for at, name in enumerate(names):
        other = names[(at + 2) % len(names)]
        t.group.world.net.partition([name], [other])
    t.tell("net", f"ring {names}")
    t.for_a_while(lambda: _heal(t))
    return True


def _heal(t: Trouble) -> None:
    t.group.world.net.heal()
    t.tell("net", "healed")


def slow_link(t: Trouble) -> bool:
    """One direction becomes slow or narrow."""
    a, b = t.pair()
    link = t.group.world.net.link(a, b)
    before = (link.low_us, link.high_us, link.bytes_per_s)
    slow_us = t.rng.choice((20, 100, 400)) * MS
    link.low_us, link.high_us = slow_us // 4, slow_us
    link.bytes_per_s = t.rng.choice((0, 20_000, 200_000))

    def restore() -> None:
        link.low_us, link.high_us, link.bytes_per_s = before

    t.tell(a, f"slow to {b}: {slow_us // MS} ms, {link.bytes_per_s} B/s")
    t.for_a_while(restore)
    return True


def reset(t: Trouble) -> bool:
    """Connections between two members are reset, or one of them."""
    a, b = t.pair()
    net = t.group.world.net
    if t.rng.random() < 0.4:
        net.reset(a, b)
        t.tell(a, f"all connections with {b} reset")
        return True
    found = [c for c in net.connections() if {c.link.source, c.link.target} == {a, b}]
    if not found:
        return False
    one = t.rng.choice(found)
    one.reset(errno.ECONNRESET)
    t.tell(a, f"one connection from {one.link.source} to {one.link.target} reset")
    return True


def late_answers(t: Trouble) -> bool:
    """What a follower says comes late, and its connection for pushes is made anew meanwhile."""
    leader = t.group.leader()
    if leader is None:
        return False
    follower = t.rng.choice([m for m in t.group.all if m is not leader])
    net = t.group.world.net
    link = net.link(follower.name, leader.name)
    # So narrow that answers queue up, while a new connection is soon made.
    before, link.bytes_per_s = link.bytes_per_s, t.rng.choice((200, 350, 500))

    def break_off() -> None:
        for c in net.connections():
            if (c.link.source, c.link.target) == (leader.name, follower.name):
                c.reset(errno.ECONNRESET)

    def restore() -> None:
        link.bytes_per_s = before

    t.tell(follower.name, f"answers {leader.name} late")
    for _ in range(2):
        t.later((600 * MS, 2000 * MS), break_off)
    t.later((2500 * MS, 3500 * MS), restore)
    return True


# --- disk ---------------------------------------------------------------------------------------


def power_loss(t: Trouble) -> bool:
    """One machine loses power; unsynced bytes are partly gone."""
    member = t.victim()
    sync = t.group.character.sync_flush
    if not sync and not t.may_hurt(member):
        return False
    _lose_power(t, member, t.rng.choice(list(Loss)))
    t.group.start_later(member, SOON_US)
    return True


def _lose_power(t: Trouble, member: "Member", loss: Loss) -> None:
    note_death(t.group, member)
    t.tell(member.name, f"loses power, {loss.value}")
    if not t.group.character.sync_flush:
        member.hurt, member.lost_power = "power lost", True
        member.witness.standing = Standing.LOST
    member.joined = False
    member.machine.power_loss(loss)


def power_loss_of_all(t: Trouble) -> bool:
    """The whole site loses power at once."""
    group = t.group
    if not group.character.sync_flush:
        if not group.character.may_void or not all(m.whole for m in group.all):
            return False
        group.rules.void = True
    loss = t.rng.choice(list(Loss))
    for member in group.all:
        _lose_power(t, member, loss)
        group.start_later(member, SOON_US)
    return True


def failing_sync(t: Trouble) -> bool:
    """The next sync fails: the node must stop."""
    member = t.alive()
    if member is None:
        return False
    disk = member.machine.disk
    disk.fail_syncs, member.disk_faults = 1, member.disk_faults + 1
    t.tell(member.name, "its next sync fails")
    return True


def read_error(t: Trouble) -> bool:
    """A read or two give EIO."""
    member = t.alive()
    if member is None:
        return False
    member.machine.disk.fail_reads = t.rng.randint(1, 2)
    member.disk_faults += 1
    t.tell(member.name, "its next reads fail")
    return True


def write_error(t: Trouble) -> bool:
    """A write gives EIO."""
    member = t.alive()
    if member is None:
        return False
    member.machine.disk.fail_writes, member.disk_faults = 1, member.disk_faults + 1
    t.tell(member.name, "its next write fails")
    return True


def full_disk(t: Trouble) -> bool:
    """Hardly any room is left for a while."""
    member = t.victim()
    disk, name = member.machine.disk, member.name
    if disk.room is not None:
        return False
    disk.room = t.rng.choice((0, 4096, 20_000))
    t.tell(name, f"its disk has {disk.room} bytes left")

    def free() -> None:
        disk.room = None
        t.tell(name, "its disk has room again")

    t.for_a_while(free)
    return True


def slow_disk(t: Trouble) -> bool:
    """Writes and syncs take long for a while."""
    member = t.victim()
    disk, before = member.machine.disk, t.group.character.slow_us
    disk.slow_us = t.rng.choice((5, 30, 150)) * MS
    t.tell(member.name, f"its disk takes {disk.slow_us // MS} ms")

    def restore() -> None:
        disk.slow_us = before

    t.for_a_while(restore)
    return True


def rot(t: Trouble) -> bool:
    """A byte of a stored entry, queue file or snapshot changes."""
    member = t.victim()
    if not t.may_hurt(member):
        return False
    what = t.rng.choice(("/data/", "/data/", "/consumequeue/", "/snapshot/"))
    found = member.machine.disk.rot(lambda path: what in path, t.rng)
    if found is None:
        return False
    member.hurt = f"rot in {found[0]} at {found[1]}"
    t.tell(member.name, member.hurt)
    # Whoever is started finds it; until then nobody may look.
    t.for_a_while(lambda: _restart(t, member))
    return True


def wipe(t: Trouble) -> bool:
    """A machine gets a new, empty disk."""
    member = t.victim()
    if not t.may_hurt(member):
        return False
    t.tell(member.name, "gets an empty disk")
    member.end()
    member.machine.disk.wipe()
    member.witness.wiped()
    member.witness.standing = Standing.EMPTY
    member.hurt = "wiped"
    t.group.start_later(member, SOON_US)
    return True


# --- process ------------------------------------------------------------------------------------


def _restart(t: Trouble, member: "Member") -> None:
    note_death(t.group, member)
    t.tell(member.name, "killed")
    member.end()
    t.group.start_later(member, SOON_US)


def kill(t: Trouble) -> bool:
    """kill -9."""
    member = t.alive()
    if member is None:
        return False
    _restart(t, member)
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


# --- two at once --------------------------------------------------------------------------------


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
    t.later((1500 * MS, 3500 * MS), lambda: _rejoin(t, leader.name))
    t.later((3500 * MS, 4500 * MS), lambda: vars(disk).pop("sync_us", None))
    return True


def kill_with_slow_links(t: Trouble) -> bool:
    """The leader dies while all links are slow: those who hear of it stand at the same time."""
    leader = t.group.leader()
    if leader is None:
        return False
    net = t.group.world.net
    net.set_latency(20 * MS, 90 * MS)
    _restart(t, leader)
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
