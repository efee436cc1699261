"""Faults of disks and power."""

from typing import TYPE_CHECKING

from ledgermq.dledger.ids import Standing
from tests.sim.world import MS, Loss

from .faults import SOON_US, Trouble, note_death, restart

if TYPE_CHECKING:
    from .member import Member


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
    if t.rng.random() < 0.5:
        where = _rot_entry(t, member)
    else:
        what = t.rng.choice(("/consumequeue/", "/snapshot/"))
        found = member.machine.disk.rot(lambda path: what in path, t.rng)
        where = f"{found[0]} at {found[1]}" if found else ""
        member.lurking = member.lurking or bool(where)
    if not where:
        return False
    member.hurt = f"rot in {where}"
    t.tell(member.name, member.hurt)
    # Whoever is started finds it; until then nobody may look.
    t.for_a_while(lambda: restart(t, member))
    return True


def _rot_entry(t: Trouble, member: "Member") -> str:
    """Damage an entry below the durable mark; "" where there is none.

    Past it, a broken last entry cannot be told from one that was torn while it was written.
    """
    if member.replica is None:
        return ""
    ledger, held = member.replica.log.ledger, member.witness.held
    first, last = max(ledger.begin.index, held.base), min(ledger.marks.mark.index, held.end)
    written = held.at(t.rng.randint(first, last)) if first <= last else None
    if written is None:
        return ""
    path, offset = member.place_of(written.pos + t.rng.randrange(len(written.data)))
    if member.machine.disk.durable_size(path) is None:
        return ""
    member.machine.disk.rot_at(path, offset, t.rng.randrange(1, 256))
    member.rotten.add(written.index)
    return f"entry {written.index}, {path} at {offset}"


def wipe(t: Trouble) -> bool:
    """A machine gets a new, empty disk."""
    member = t.victim()
    if not t.may_hurt(member):
        return False
    t.tell(member.name, "gets an empty disk")
    member.lurking = False
    member.rotten.clear()
    member.end()
    member.machine.disk.wipe()
    member.witness.wiped()
    member.witness.standing = Standing.EMPTY
    member.hurt = "wiped"
    t.group.start_later(member, SOON_US)
    return True
