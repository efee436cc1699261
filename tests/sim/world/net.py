"""The network between machines: links that delay, lose, cut and slow down."""

import errno
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .dialling import Dial, Listener
from .transport import SimTransport

if TYPE_CHECKING:
    from .machine import Machine
    from .process import Process
    from .world import World

_FIRST_PORT = 30_000
_OWN = ("", "0.0.0.0", "127.0.0.1", "localhost", None)
# A SYN that got no answer is sent again after so long, then after twice that.
_SYN_AGAIN_US = 1_000_000
_SYN_TRIES = 6
_RETRANSMIT_US = 400_000


class Link:
    """One way from a machine to another.

    Attributes:
        low_us, high_us: how long a byte is under way.
        bytes_per_s: what one connection can carry, 0 for plenty.
        is_cut: nothing arrives.
    """

    __slots__ = ("bytes_per_s", "high_us", "is_cut", "low_us", "source", "target")

    def __init__(self, source: str, target: str, low_us: int, high_us: int) -> None:
        self.source = source
        self.target = target
        self.low_us = low_us
        self.high_us = high_us
        self.bytes_per_s = 0
        self.is_cut = False

    def __repr__(self) -> str:
        return f"Link({self.source}->{self.target})"


class SimNet:
    """All machines see each other; who is not in `World.machines` does not exist.

    Attributes:
        split_chance: that what one call wrote arrives in two pieces.
        window: bytes of a connection that are under way or unread; more waits in the sender.
        user_timeout_us: a connection whose bytes stay unacknowledged so long is reset.
        frame_loss: chance that a frame of the members' control channel never arrives.
        frame_duplication: chance that one arrives twice.
        counts: what was done, by name.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.split_chance = 0.05
        self.window = 1 << 20
        self.user_timeout_us = 3_000_000
        self.frame_loss = 0.0
        self.frame_duplication = 0.0
        self.low_us, self.high_us = 100, 500
        self.counts: Counter[str] = Counter()
        self._links: dict[tuple[str, str], Link] = {}
        self._hosts: dict[str, Machine] = {}
        self._listeners: dict[tuple[str, int], Listener] = {}
        # Closed ends whose last bytes wait for a cut to be healed, and since when they do.
        self.lingering: dict[SimTransport, int] = {}
        self._last_port = _FIRST_PORT

    # --- shape ----------------------------------------------------------------------------------

    def add(self, machine: "Machine") -> None:
        """Plug a machine in."""
        self._hosts[machine.host] = machine

    def link(self, source: str, target: str) -> Link:
        """The way from machine `source` to machine `target`, by their names."""
        link = self._links.get((source, target))
        if link is None:
            low_us, high_us = (5, 30) if source == target else (self.low_us, self.high_us)
            link = self._links[source, target] = Link(source, target, low_us, high_us)
        return link

    def links(self) -> list[Link]:
        """All ways between different machines."""
        names = list(self.world.machines)
        return [self.link(a, b) for a in names for b in names if a != b]

    def set_latency(self, low_us: int, high_us: int) -> None:
        """Of all links."""
        self.low_us, self.high_us = low_us, high_us
        for link in self.links():
            link.low_us, link.high_us = low_us, high_us

    def connections(self) -> list[SimTransport]:
        """One end of each connection: the one that dialled."""
        processes = [m.process for m in self.world.machines.values() if m.process is not None]
        return [t for p in processes for t in p.connections if t.dialled]

    # --- trouble --------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """Nothing arrives at `target` from `source` any more; the other way it does."""
        link = self.link(source, target)
        if not link.is_cut:
            link.is_cut = True
            self.counts["cuts"] += 1

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut both ways between machines of different groups."""
        lists = [list(group) for group in groups]
        for one in lists:
            for other in lists:
                if one is not other:
                    for a in one:
                        for b in other:
                            self.cut(a, b)

    def isolate(self, name: str) -> None:
        """Cut a machine off, both ways."""
        self.partition([name], [other for other in self.world.machines if other != name])

    def heal(self, source: str | None = None, target: str | None = None) -> None:
        """Undo cuts: all of them, or those one way between two machines."""
        for link in self.links():
            if link.is_cut and source in (None, link.source) and target in (None, link.target):
                link.is_cut = False
                self.counts["heals"] += 1
                self._reopen(link)
                for end in self._ends(link.target, link.source):
                    end.acknowledged()

    def _reopen(self, link: Link) -> None:
        """What was held on this way is sent anew."""
        for end in self._ends(link.source, link.target):
            end.retransmit(_RETRANSMIT_US)
        for end in [end for end in self.lingering if end.link is link]:
            if self.world.now_us - self.lingering.pop(end) < self.user_timeout_us:
                end.retransmit(_RETRANSMIT_US)
            else:
                end.forget()

    def switched_on(self, name: str) -> None:
        """A machine has power again: what it is sent for connections of before, it refuses."""
        for link in list(self._links.values()):
            if link.target == name and not link.is_cut:
                self._reopen(link)

    def reset(self, a: str, b: str) -> None:
        """Reset every connection between two machines."""
        for end in (*self._ends(a, b), *self._ends(b, a)):
            self.counts["resets"] += 1
            end.reset(errno.ECONNRESET)

    def _ends(self, machine: str, other: str) -> list[SimTransport]:
        process = self.world.machines[machine].process
        return [] if process is None else [t for t in process.connections if t.link.target == other]

    def process_died(self, process: "Process", *, quietly: bool) -> None:
        """The kernel closes what it had open; without power nobody does."""
        for key in [k for k, v in self._listeners.items() if v.process is process]:
            self._listeners.pop(key).open = False
        for end in list(process.connections):
            end.die(quietly=quietly)
        if quietly:
            self.lingering = {
                end: us for end, us in self.lingering.items() if end.process is not process
            }

    # --- listening ------------------------------------------------------------------------------

    def listen(
        self, process: "Process", factory: Callable[[], Any], host: str | None, port: int
    ) -> Listener:
        """OSError: the port is taken."""
        own = process.machine.host
        if host not in _OWN and host != own:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is not an address of {process.machine}")
        if port == 0:
            port = self.free_port()
        if (own, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {own}:{port}")
        listener = Listener(process, factory, (own, port))
        self._listeners[own, port] = listener
        return listener

    def forget_listener(self, listener: Listener) -> None:
        """It was closed."""
        self._listeners.pop(listener.address, None)

    def free_port(self) -> int:
        """A port that nobody uses, ever."""
        self._last_port += 1
        return self._last_port

    def resolve(self, process: "Process", host: str | None) -> "Machine":
        """Whose address this is. socket.gaierror: nobody's."""
        machine = process.machine if host in _OWN else self._hosts.get(host or "")
        if machine is None:
            raise socket.gaierror(socket.EAI_NONAME, f"there is no machine {host}")
        return machine

    # --- dialling -------------------------------------------------------------------------------

    async def dial(
        self, process: "Process", factory: Callable[[], Any], host: str, port: int
    ) -> tuple[SimTransport, Any]:
        """What `create_connection` does; OSError when it fails."""
        machine = self.resolve(process, host)
        dial = Dial(process, process.loop.create_future(), machine, (machine.host, port))
        self._send_syn(dial)
        end: SimTransport | None = None
        try:
            end = await dial.future
        finally:
            if end is None:
                dial.give_up()
        protocol = factory()
        end.attach(protocol)
        return end, protocol

    def _delay(self, link: Link) -> int:
        spread_us = link.high_us - link.low_us
        return link.low_us + int(self.world.random() * spread_us)

    def _send_syn(self, dial: Dial) -> None:
        if not dial.process.alive or dial.future.done():
            return
        dial.tries += 1
        link = self.link(dial.process.machine.name, dial.machine.name)
        self.world.push(self.world.now_us + self._delay(link), self._syn_arrives, dial)

    def _syn_arrives(self, dial: Dial) -> None:
        if not dial.process.alive or dial.future.done():
            return
        here, there = dial.process.machine.name, dial.machine.name
        if self.link(here, there).is_cut or self.link(there, here).is_cut or not dial.machine.on:
            self._syn_lost(dial)
            return
        back = self.link(there, here)
        answer_us = self.world.now_us + self._delay(back)
        listener = self._listeners.get(dial.address)
        if listener is None:
            refused = ConnectionRefusedError(errno.ECONNREFUSED, f"refused by {dial.address}")
            self.world.push(answer_us, dial.fail, refused)
            return
        address = (dial.process.machine.host, self.free_port())
        near = SimTransport(dial.process, self.link(here, there), address, dial.address)
        far = SimTransport(listener.process, back, dial.address, address)
        near.join(far, answer_us)
        near.dialled = True
        dial.end = near
        far.accept(listener.factory)
        self.world.push(answer_us, dial.succeed, None)

    def _syn_lost(self, dial: Dial) -> None:
        self.counts["lost SYNs"] += 1
        if dial.tries >= _SYN_TRIES:
            dial.fail(TimeoutError(errno.ETIMEDOUT, f"no answer from {dial.address}"))
            return
        wait_us = _SYN_AGAIN_US << (dial.tries - 1)
        self.world.push(self.world.now_us + wait_us, self._send_syn, dial)
