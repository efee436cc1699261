"""Brings the faults, as a seed likes them, and undoes them all at the end."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.sim.world import MS

from . import faults as f

if TYPE_CHECKING:
    from .group import Group

Fault = Callable[[f.Trouble], bool]

# (weight, name that reports show, the fault)
_NETWORK: list[tuple[int, str, Fault]] = [
    (6, "one way cut", f.cut_one_way),
    (6, "isolated", f.isolate),
    (4, "halves", f.halves),
    (3, "bridge", f.bridge),
    (2, "ring", f.ring),
    (5, "slow link", f.slow_link),
    (8, "reset", f.reset),
    (3, "late answers", f.late_answers),
]
_DISK: list[tuple[int, str, Fault]] = [
    (6, "power loss", f.power_loss),
    (2, "power loss of all", f.power_loss_of_all),
    (2, "failing sync", f.failing_sync),
    (1, "read error", f.read_error),
    (1, "write error", f.write_error),
    (4, "full disk", f.full_disk),
    (5, "slow disk", f.slow_disk),
    (3, "rot", f.rot),
    (4, "wipe", f.wipe),
]
_PROCESS: list[tuple[int, str, Fault]] = [
    (5, "kill", f.kill),
    (3, "kill unheard", f.kill_quietly),
    (5, "kill in a call", f.kill_in_call),
    (8, "pause", f.pause),
    (2, "stutter", f.flap),
    (3, "clock step", f.clock_step),
    (3, "clock drift", f.clock_drift),
]
_PAIRS: list[tuple[int, str, Fault]] = [
    (3, "slow syncs and cut", f.slow_sync_and_cut),
    (3, "kill with slow links", f.kill_with_slow_links),
    (3, "transfer in silence", f.transfer_in_silence),
]
_TASTES = {"network": _NETWORK, "disk": _DISK, "process": _PROCESS}
_FAVOUR = 3


class Nemesis:
    """Something every few hundred milliseconds until it is stopped."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self._trouble = f.Trouble(group, Random(group.seed ^ 0x66617465))
        self._stopped = False
        liked = _TASTES.get(group.character.taste, [])
        table = [*_NETWORK, *_DISK, *_PROCESS, *_PAIRS]
        self._table = [(w * _FAVOUR if (w, n, a) in liked else w, n, a) for w, n, a in table]
        self._weights = [w for w, _, _ in self._table]

    def start(self) -> None:
        """Begin."""
        character, net = self._group.character, self._group.world.net
        net.set_latency(*character.latency_us)
        net.frame_loss = character.frame_loss
        net.frame_duplication = character.frame_duplication
        self._later()

    def _later(self) -> None:
        mean_ms = self._group.character.fault_ms
        wait_ms = self._trouble.rng.expovariate(1 / mean_ms)
        self._group.world.schedule(1 + int(wait_ms * MS), self._act)

    def _act(self) -> None:
        if self._stopped:
            return
        _, name, act = self._trouble.rng.choices(self._table, self._weights)[0]
        if act(self._trouble):
            self._group.faults[name] += 1
        self._later()

    def stop(self) -> None:
        """End the trouble and undo it: what follows must converge."""
        self._stopped = True
        group, net = self._group, self._group.world.net
        group.tell("net", "* everything is healed")
        net.frame_loss = net.frame_duplication = 0.0
        net.set_latency(100, 1000)
        for link in net.links():
            link.bytes_per_s = 0
        net.heal()
        for member in group.all:
            disk = member.machine.disk
            disk.fail_syncs = disk.fail_reads = disk.fail_writes = 0
            disk.room, disk.slow_us = None, 0
            vars(disk).pop("sync_us", None)
            member.machine.set_drift(1.0)
            if member.alive:
                member.process.resume()
        for member in group.all:
            member.start()
