"""Faults of the network: cuts, slow links, connections that break."""

import errno

from tests.sim.world import MS

from .faults import Trouble, rejoin, widen


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
    t.for_a_while(lambda: rejoin(t, name))
    return True


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
    before = (link.low_us, link.high_us)
    slow_us = t.rng.choice((20, 100, 400)) * MS
    link.low_us, link.high_us = slow_us // 4, slow_us
    link.bytes_per_s = t.rng.choice((0, 20_000, 200_000))

    def restore() -> None:
        link.low_us, link.high_us = before
        widen(t.group, a, b)

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
    link.bytes_per_s = t.rng.choice((200, 350, 500))

    def break_off() -> None:
        for c in net.connections():
            if (c.link.source, c.link.target) == (leader.name, follower.name):
                c.reset(errno.ECONNRESET)

    t.tell(follower.name, f"answers {leader.name} late")
    for _ in range(2):
        t.later((600 * MS, 2000 * MS), break_off)
    t.later((2500 * MS, 3500 * MS), lambda: widen(t.group, follower.name, leader.name))
    return True
