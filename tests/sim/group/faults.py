"""What all faults share; there are those of the network, of disks, and of processes.

A fault happens to a group and undoes itself after a while; it returns False where it makes no sense
just now. One that costs a store its vote comes only while all other stores are whole: the promise
holds for a majority of the disks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.world import MS, S

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
    # Traps that were set and have not sprung come to nothing.
    over: bool = False

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


def restart(t: Trouble, member: "Member") -> None:
    """kill -9 now, a start later."""
    note_death(t.group, member)
    t.tell(member.name, "killed")
    member.end()
    t.group.start_later(member, SOON_US)


def rejoin(t: Trouble, name: str) -> None:
    """A member is isolated no longer."""
    net = t.group.world.net
    net.heal(name)
    net.heal(None, name)
    t.tell(name, "connected again")


def widen(group: "Group", source: str, target: str) -> None:
    """A narrow link is as wide as the others again.

    What was queued on it would go on trickling, so connections over it begin anew.
    """
    net = group.world.net
    link = net.link(source, target)
    if link.bytes_per_s:
        link.bytes_per_s = 0
        net.reset(source, target)
