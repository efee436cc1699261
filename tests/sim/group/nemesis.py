"""Brings the faults, as a seed likes them, and undoes them all at the end."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.sim.world import MS

from . import faults_disk as disk
from . import faults_network as network
from . import faults_process as process
from .faults import Trouble, widen

if TYPE_CHECKING:
    from .group import Group

Fault = Callable[[Trouble], bool]

# (weight, name that reports show, the fault)
_NETWORK: list[tuple[int, str, Fault]] = [
    (6, "one way cut", network.cut_one_way),
    (6, "isolated", network.isolate),
    (4, "halves", network.halves),
    (3, "bridge", network.bridge),
    (2, "ring", network.ring),
    (5, "slow link", network.slow_link),
    (8, "reset", network.reset),
    (3, "late answers", network.late_answers),
]
_DISK: list[tuple[int, str, Fault]] = [
    (6, "power loss", disk.power_loss),
    (2, "power loss of all", disk.power_loss_of_all),
    (2, "failing sync", disk.failing_sync),
    (1, "read error", disk.read_error),
    (1, "write error", disk.write_error),
    (4, "full disk", disk.full_disk),
    (5, "slow disk", disk.slow_disk),
    (3, "rot", disk.rot),
    (4, "wipe", disk.wipe),
]
_PROCESS: list[tuple[int, str, Fault]] = [
    (5, "kill", process.kill),
    (3, "kill unheard", process.kill_quietly),
    (5, "kill in a call", process.kill_in_call),
    (8, "pause", process.pause),
    (2, "stutter", process.flap),
    (3, "clock step", process.clock_step),
    (3, "clock drift", process.clock_drift),
]
_PAIRS: list[tuple[int, str, Fault]] = [
    (3, "slow syncs and cut", process.slow_sync_and_cut),
    (3, "kill with slow links", process.kill_with_slow_links),
    (3, "transfer in silence", process.transfer_in_silence),
]
_TASTES = {"network": _NETWORK, "disk": _DISK, "process": _PROCESS}
_FAVOUR = 3


class Nemesis:
    """Something every few hundred milliseconds until it is stopped."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self._trouble = Trouble(group, Random(group.seed ^ 0x66617465))
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
        self._stopped = self._trouble.over = True
        group, net = self._group, self._group.world.net
        group.tell("net", "* everything is healed")
        net.frame_loss = net.frame_duplication = 0.0
        net.set_latency(100, 1000)
        for link in net.links():
            widen(group, link.source, link.target)
        net.heal()
        for member in group.all:
            its_disk = member.machine.disk
            its_disk.fail_syncs = its_disk.fail_reads = its_disk.fail_writes = 0
            its_disk.room, its_disk.slow_us = None, 0
            vars(its_disk).pop("sync_us", None)
            member.machine.set_drift(1.0)
            if member.alive:
                member.process.resume()
        for member in group.all:
            member.start()
