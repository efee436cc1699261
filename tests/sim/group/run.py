"""One run: a group forms, trouble and work, then peace; what must be true at the end."""

import gc
import logging
import time
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ledgermq.dledger.ids import Standing
from tests.sim.invariants import ViolationError, require
from tests.sim.world import MS, S

from .character import Character, draw
from .group import Group, Logs
from .member import Member
from .nemesis import Nemesis
from .work import TOPICS, Work

FORM_US = 10 * S
TROUBLE_US = 40 * S
SLOW_SYNC_US = 10 * S
LEADER_US = 3 * S
CONVERGE_US = 12 * S
WORK_US = 3 * S
READ_US = 20 * S
# Each may bring another damaged entry of one node to light.
_REPAIRS = 5


@dataclass
class Outcome:
    """What a run was like.

    Attributes:
        cpu_s: real time it would take on an idle processor.
        looks: how often clients found a leader ready, and how often none.
        violation: name of the broken rule, "" when none broke.
        text: the whole story of it.
    """

    seed: int
    character: Character
    events: int = 0
    simulated_us: int = 0
    cpu_s: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    committed: int = 0
    read: int = 0
    elected: int = 0
    fingerprint: int = 0
    violation: str = ""
    text: str = ""


def run_seed(seed: int, *, trouble_us: int = TROUBLE_US) -> Outcome:
    """Run one seed; a broken rule is in the outcome."""
    character = draw(Random(seed))
    outcome = Outcome(seed, character)
    began_s = time.process_time()
    # One run makes many objects and keeps them to its end.
    gc.disable()
    group = Group(seed, character)
    logs = Logs(group)
    logger = logging.getLogger("ledgermq")
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(logs)
    try:
        Run(group).whole(trouble_us)
    except Exception as e:  # noqa: BLE001 - whatever it is, it is told with its seed
        outcome.violation = e.name if isinstance(e, ViolationError) else type(e).__name__
        outcome.text = report(group, e)
    finally:
        logger.removeHandler(logs)
        logger.setLevel(level)
        logger.propagate = propagate
        _fill(outcome, group)
        group.close()
        gc.enable()
    outcome.cpu_s = time.process_time() - began_s
    return outcome


def report(group: Group, error: BaseException) -> str:
    """Seed, event, rule, what happened last, and how to see it again."""
    lines = [
        f"seed={group.seed:#x} event={group.world.events} at {group.world.now_us / S:.3f} s:"
        f" {error}",
        f"character: {group.character}",
        *group.story.lines(),
    ]
    cause = error if not isinstance(error, ViolationError) else error.__cause__
    if cause is not None:
        lines.append("".join(traceback.format_exception(cause)))
    lines.append(f"{type(error).__name__}: {error}")
    lines.append(f"again: make sim SEED={group.seed:#x}")
    return "\n".join(lines)


def _fill(outcome: Outcome, group: Group) -> None:
    outcome.events = group.world.events
    outcome.simulated_us = group.world.now_us
    outcome.faults = dict(group.faults)
    outcome.operations = dict(group.operations)
    outcome.looks = dict(group.looks)
    outcome.marks = {mark.name: n for mark, n in group.marks.items()}
    outcome.acknowledged = group.promises.acknowledged
    outcome.committed = group.truth.end + 1
    outcome.read = group.promises.read
    outcome.elected = group.elected()
    outcome.fingerprint = group.world.fingerprint


class Run:
    """The phases of a run."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.work = Work(group)
        self.nemesis = Nemesis(group)

    def whole(self, trouble_us: int) -> None:
        """All phases."""
        if self.group.character.early:
            self.nemesis.start()
            self.start()
        else:
            self.form()
            self.nemesis.start()
        self.work.start()
        self.group.world.run(trouble_us)
        self.nemesis.stop()
        self.work.leave_out("transfer", "terminate")
        self.recover()
        self.work.stop()
        self.converge()
        self.new_work()
        self.converge()
        self.read_everything()

    def start(self) -> None:
        """All nodes start."""
        for member in self.group.all:
            member.start()

    def form(self) -> None:
        """All nodes start with empty stores and become a group."""
        self.start()
        self._await(
            lambda: self.group.leader() is not None and all(m.whole for m in self.group.all),
            FORM_US,
            "group_forms",
            "no group of members",
        )

    def _await(self, predicate: Any, limit_us: int, name: str, what: str) -> None:
        done = self.group.world.run_until(predicate, limit_us)
        require(done, name, f"{what} after {limit_us // MS} ms: {self._state()}")

    def _state(self) -> str:
        return "; ".join(_state(m) for m in self.group.all)

    def _syncs_are_through(self) -> bool:
        replicas = [m.replica for m in self.group.all if m.alive and m.replica is not None]
        flushers = [r.log._flusher for r in replicas]
        return all(f._running is None and f._marking is None for f in flushers)

    def recover(self) -> None:
        """A leader soon after everything is healed, and after a node has come or gone since.

        A sync that began while the disk was slow takes the time that it takes. Damage of before may
        be met now: its node stops by itself, and without it there may be no majority until it is
        started again. The same goes for a node that ends after a SIGTERM, as slowly as its disk.
        """
        world, leader = self.group.world, self.group.leader
        world.run_until(self._syncs_are_through, SLOW_SYNC_US)
        last_us = world.now_us + CONVERGE_US
        while world.now_us < last_us:
            running = self._running()
            world.run_until(
                lambda before=running: leader() is not None or self._running() != before, LEADER_US
            )
            if leader() is not None:
                return
            if self._running() == running and not self._awaits_one_that_ends():
                break
        raise ViolationError("leader_soon", f"no leader: {self._state()}")

    def _awaits_one_that_ends(self) -> bool:
        """A node that stops is still busy with it, and the others are no majority."""
        stay = [m for m in self.group.all if m.running and m.whole and not m.stopping]
        ending = any(m.alive and m.stopping for m in self.group.all)
        return ending and 2 * len(stay) <= len(self.group.all)

    def _running(self) -> list[bool]:
        return [m.running for m in self.group.all]

    def converge(self) -> None:
        """All nodes hold, commit and apply the same."""
        self._await(self.converged, CONVERGE_US, "convergence", "not equal")
        for member in self.group.all:
            self.group.check_views(member)
            replica = member.replica
            assert replica is not None
            require(
                replica.metadata.fingerprint() == self.group.truth.metadata.fingerprint(),
                "equal_metadata",
                f"{member.name} differs at the end",
            )

    def converged(self) -> bool:
        """Whether all are members, run, and have the same log to the end."""
        truth, group = self.group.truth, self.group
        if group.leader() is None:
            return False
        return all(_is_at(m, truth.end) for m in group.all)

    def new_work(self) -> None:
        """A topic can be made, and messages sent to it."""
        leader = self.group.leader()
        assert leader is not None
        before = self.group.promises.acknowledged
        wanted = 3

        def work() -> bool:
            member = self.group.leader()
            acknowledged = self.group.promises.acknowledged - before
            if acknowledged >= wanted or member is None or member.replica is None:
                return acknowledged >= wanted
            known = [t for t in TOPICS if t in member.replica.metadata.topics]
            if not known:
                self.work.put_topic()
            elif member.replica.node.pending_count == 0:
                self.work.send_one(member, known[0], 0)
            return False

        self._await(work, WORK_US, "new_work", "no message was acknowledged")

    def read_everything(self) -> None:
        """Every acknowledged message can be read at every node, where it was said to be.

        Damage that nobody had met yet is met now: the node stops, and is repaired.
        """
        for _ in range(_REPAIRS):
            readers = [Reading(m, self._read_all(m)) for m in self.group.all]
            self._await(
                lambda readers=readers: all(r.ended for r in readers),
                READ_US,
                "reads_work",
                "reading takes for ever",
            )
            failed = [r for r in readers if not r.succeeded]
            if not failed:
                return
            unhurt = [r.member.name for r in failed if not r.was_hurt]
            require(not unhurt, "reads_work", f"{unhurt} cannot be read")
            self.converge()
        raise ViolationError("repairs_work", "a node finds damage again and again")

    async def _read_all(self, member: Member) -> bool:
        """Whether all of it could be read."""
        replica = member.replica
        assert replica is not None
        for topic in TOPICS:
            created = replica.metadata.creation_index(topic)
            if created is None:
                continue
            for queue_id in self.group.truth.queues_of(topic, created):
                if not await self._read_queue(member, topic, queue_id):
                    return False
        return True

    async def _read_queue(self, member: Member, topic: str, queue_id: int) -> bool:
        replica = member.replica
        assert replica is not None
        config = replica.metadata.topics[topic]
        if queue_id >= max(config.read_queue_nums, config.write_queue_nums):
            return True  # the topic has fewer queues now
        at = replica.reader.min_offset(topic, queue_id)
        while at < replica.reader.max_offset(topic, queue_id):
            following = await self.work.read_at(member, topic, queue_id, at)
            if following <= at:
                return False
            at = following
        return True


class Reading:
    """A task that reads all of one node."""

    def __init__(self, member: Member, coroutine: Coroutine[Any, Any, bool]) -> None:
        self.member = member
        self.was_hurt = bool(member.hurt) or member.lurking
        self._process = member.process
        self._task = member.process.spawn(coroutine)

    @property
    def ended(self) -> bool:
        """Done, or its process is gone."""
        return self._task.done() or not self._process.alive

    @property
    def succeeded(self) -> bool:
        """Everything was read."""
        return self._process.alive and self._task.done() and self._task.result()


def _is_at(member: Member, end: int) -> bool:
    w = member.witness
    return (
        member.running
        and member.standing is Standing.MEMBER
        and w.held.end == w.claim == w.commit == w.applied == end
    )


def _state(member: Member) -> str:
    w = member.witness
    up = "up" if member.running else "down"
    return (
        f"{member.name} {up} {member.standing.name} end {w.held.end} durable {w.claim} commit"
        f" {w.commit} applied {w.applied} {member.hurt}"
    )
