"""Text scenarios: commands that drive a cluster by hand, and what happens then.

A file holds blocks, with blank lines between: comments, commands, `----`, the expected lines.
Nothing is delivered and no time passes unless a command says so:

    nodes 3 [batch=2] [window=4] [preferred=n0]   members n0…; sizes in entries
    nodes 3 empty                                 with stores that were just made
    stopped 3 [...]                               the same, not started yet: `log` may follow
    log n0 3@1 2@4 [term=6] [standing=lost]       what its disk holds, before `start`
    start n0 …                                    start processes
    elect n0                      its deadline comes, nobody else's; deliver
    propose n0 3                  append entries on a leader
    deliver                       packets and fsyncs, until nothing is under way
    tick 1200                     let so many milliseconds pass, with all that happens then
    jump 500                      the clock alone moves; no deadline is judged
    cut n0 | n1 n2                nothing passes between the sides; connections break
    cut n0 -> n1                  nothing passes in this direction
    heal                          everything passes again
    hold n0 -> n1 [control|push]  packets wait at the door; `release`, `drop`: let in, lose;
                                  answers to what is let in need a `deliver`
    reconnect n0 n1               a new push connection; what waits on the old one goes astray
    strays                        pushes that went astray arrive after all
    repeat n0 -> n1               the last push of the connection arrives once more
    hold disk n1                  nothing becomes durable there; `release disk n1`
    fill disk n1                  no room there; `free disk n1`
    crash n1 [kept=2] [hint]      kill it; so many entries not synced survive; tell the peers
    wipe n1                       kill it and give it an empty disk; `start` it again
    damage n1 4                   kill it; its entries from 4 on are broken; `start` it again
    bootstrap n1                  an operator says that its store is to be believed; `start` it
    members 5                     all stop, and get another list of members; new ones are empty
    compact n0 4                  its log begins at 4 from now on
    hint n1 n0                    tell n1 that n0 died
    pause n1, resume n1           its process stops running, and runs again
    transfer n0 [n1]              ask a leader to hand over
    status [n0 …], lease n0       print
    waits n0                      print whose votes it lacks, or that an operator is needed
    show all|most|roles|nothing   how much of what happens is printed: `most` (at first) leaves
                                  heartbeats and connections out, `roles` has leaders and commits
"""

import re
from collections.abc import Callable
from random import Random
from typing import Any

from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.dledger.raft.effects import Commit, Role, RoleChanged, TransferEnded
from ledgermq.dledger.raft.events import (
    LinkDown,
    LinkUp,
    PeerDied,
    Received,
    Tick,
    TransferRequested,
)
from ledgermq.dledger.raft.messages import Heartbeat, HeartbeatReply, SeedReply
from tests.sim.describe import Lost, describe, status_text
from tests.sim.harness import Cluster, Record
from tests.sim.store import ENTRY_SIZE_BYTES, Entry, SimStore

_LEVELS = ("all", "most", "roles", "nothing")


class RankJitter(Random):
    """No chance: n0 takes the least of every span, the last member nearly the most."""

    def __init__(self, rank: int) -> None:
        super().__init__(0)
        self._rank = rank

    def randint(self, a: int, b: int) -> int:
        return a + (b - a) * self._rank // 3


class Script:
    """One cluster and the commands for it; `run` returns what a command printed."""

    def __init__(self) -> None:
        self._cluster: Cluster | None = None
        self._level = "most"
        self._lines: list[str] = []

    @property
    def cluster(self) -> Cluster:
        """The cluster under test."""
        assert self._cluster is not None, "a scenario starts with `nodes` or `stopped`"
        return self._cluster

    def run(self, command: str) -> list[str]:
        """Carry out one line."""
        word, _, rest = command.partition(" ")
        action: Callable[[str], None] | None = getattr(self, f"_{word}", None)
        if action is None or word.startswith("_"):
            raise ValueError(f"no command {word!r}")
        action(rest.strip())
        lines, self._lines = self._lines, []
        return lines

    # --- setting up -----------------------------------------------------------------------------

    def _nodes(self, args: str) -> None:
        self._stopped(args)
        self.cluster.start_all()
        self.cluster.run_due()
        self._lines.clear()

    def _stopped(self, args: str) -> None:
        count, options = _options(args)
        config: dict[str, Any] = {}
        if "batch" in options:
            config["max_batch_bytes"] = int(options["batch"]) * ENTRY_SIZE_BYTES
        if "window" in options:
            config["max_in_flight_bytes"] = int(options["window"]) * ENTRY_SIZE_BYTES
        if "preferred" in options:
            config["preferred"] = (NodeId(options["preferred"]),)
        standing = Standing.EMPTY if "empty" in count else Standing.MEMBER
        self._cluster = Cluster(
            int(count[0]),
            Random(0),
            jitter=RankJitter,
            make_store=lambda _: SimStore(standing),
            **config,
        )
        self._cluster.on_record = self._on_record

    def _log(self, args: str) -> None:
        (name, *runs), options = _options(args)
        store = self.cluster.nodes[NodeId(name)].store
        for run in runs:
            count, term = map(int, run.split("@"))
            # Equal places of equal terms are equal entries, as Raft would have made them.
            first = store.last_index + 1
            store.append(_seeded(term, first + i) for i in range(count))
        store.end_sync(store.begin_sync())
        last_term = store.term_at(store.last_index)
        standing = Standing[options.get("standing", "member").upper()]
        store.save_hard_state(int(options.get("term", max(last_term, 0))), None, standing)

    def _start(self, args: str) -> None:
        for name in args.split():
            self.cluster.start(NodeId(name))
        self.cluster.run_due()

    _restart = _start

    # --- time and work --------------------------------------------------------------------------

    def _elect(self, args: str) -> None:
        node = self.cluster.nodes[NodeId(args)]
        assert node.core is not None, f"{args} does not run"
        self.cluster.now_ms = max(self.cluster.now_ms, node.core.deadline_ms)
        node.handle(Tick())
        self.cluster.run_due()

    def _propose(self, args: str) -> None:
        name, _, count = args.partition(" ")
        if not self.cluster.nodes[NodeId(name)].propose(int(count or 1)):
            self._lines.append(f"{name}: takes nothing")

    def _deliver(self, _: str) -> None:
        self.cluster.run_due()

    def _tick(self, args: str) -> None:
        self.cluster.run(int(args))

    def _jump(self, args: str) -> None:
        self.cluster.now_ms += int(args)

    # --- the network ----------------------------------------------------------------------------

    def _cut(self, args: str) -> None:
        if "->" in args:
            self.cluster.network.cut(*_arrow(args))
        else:
            left, right = (side.split() for side in args.split("|"))
            for a in map(NodeId, left):
                for b in map(NodeId, right):
                    self.cluster.network.cut(a, b)
                    self.cluster.network.cut(b, a)
        self.cluster.run_due()

    def _heal(self, _: str) -> None:
        self.cluster.network.heal()
        self.cluster.run_due()

    def _hold(self, args: str) -> None:
        if args.startswith("disk "):
            self.cluster.nodes[NodeId(args[5:])].hold_disk(held=True)
            return
        arrow, kinds = _kinds(args)
        for push in kinds:
            self.cluster.network.hold(*_arrow(arrow), push=push)

    def _release(self, args: str) -> None:
        if args.startswith("disk "):
            self.cluster.nodes[NodeId(args[5:])].hold_disk(held=False)
            self.cluster.run_due()
        else:
            arrow, kinds = _kinds(args)
            for push in kinds:
                self.cluster.network.release(*_arrow(arrow), push=push)

    def _drop(self, args: str) -> None:
        arrow, kinds = _kinds(args)
        for push in kinds:
            self.cluster.network.drop_held(*_arrow(arrow), push=push)

    def _reconnect(self, args: str) -> None:
        source, target = map(NodeId, args.split())
        self.cluster.network.keep_strays = True
        self.cluster.network.break_connection(source, target)
        self.cluster.network.release(source, target, push=True)
        self.cluster.network.keep_strays = False
        self.cluster.run_due()

    def _strays(self, _: str) -> None:
        self.cluster.network.deliver_strays()
        self.cluster.run_due()

    def _repeat(self, args: str) -> None:
        self.cluster.network.repeat(*_arrow(args))
        self.cluster.run_due()

    # --- members --------------------------------------------------------------------------------

    def _fill(self, args: str) -> None:
        self.cluster.nodes[NodeId(args.removeprefix("disk "))].disk_full = True

    def _free(self, args: str) -> None:
        self.cluster.nodes[NodeId(args.removeprefix("disk "))].disk_full = False

    def _crash(self, args: str) -> None:
        (name, *words), options = _options(args)
        hint_chance = 1.0 if "hint" in words else 0.0
        self.cluster.crash(NodeId(name), int(options.get("kept", 0)), hint_chance)
        self.cluster.run_due()

    def _wipe(self, args: str) -> None:
        self._crash(args)
        self.cluster.nodes[NodeId(args)].wipe()

    def _damage(self, args: str) -> None:
        name, first = args.split()
        self._crash(name)
        self.cluster.nodes[NodeId(name)].damage(int(first))

    def _bootstrap(self, args: str) -> None:
        store = self.cluster.nodes[NodeId(args)].store
        store.save_hard_state(store.term, store.vote, Standing.MEMBER)

    def _members(self, args: str) -> None:
        self.cluster.change_members(int(args))
        self.cluster.run_due()

    def _compact(self, args: str) -> None:
        name, index = args.split()
        self.cluster.nodes[NodeId(name)].compact(int(index))
        self.cluster.run_due()

    def _hint(self, args: str) -> None:
        name, dead = map(NodeId, args.split())
        self.cluster.nodes[name].handle(PeerDied(dead))

    def _pause(self, args: str) -> None:
        self.cluster.nodes[NodeId(args)].pause()

    def _resume(self, args: str) -> None:
        self.cluster.nodes[NodeId(args)].resume()
        self.cluster.run_due()

    def _transfer(self, args: str) -> None:
        name, _, target = args.partition(" ")
        self.cluster.nodes[NodeId(name)].handle(
            TransferRequested(NodeId(target) if target else None)
        )
        self.cluster.run_due()

    # --- printing -------------------------------------------------------------------------------

    def _status(self, args: str) -> None:
        for name in map(NodeId, args.split() or self.cluster.nodes):
            node = self.cluster.nodes[name]
            if node.core is None:
                self._lines.append(f"{name} is dead")
            else:
                self._lines.append(status_text(name, node.core, node.store.durable))

    def _lease(self, args: str) -> None:
        core = self.cluster.nodes[NodeId(args)].core
        assert core is not None, f"{args} does not run"
        left_ms = core.lease_until_ms - self.cluster.now_ms
        self._lines.append(
            f"{args}: lease for {left_ms} ms" if left_ms > 0 else f"{args}: no lease"
        )

    def _waits(self, args: str) -> None:
        core = self.cluster.nodes[NodeId(args)].core
        assert core is not None, f"{args} does not run"
        lacks = " ".join(core.waits_for) or "nobody"
        self._lines.append(f"{args} waits for {'an operator' if core.needs_operator else lacks}")

    def _show(self, args: str) -> None:
        assert args in _LEVELS, f"show {' or '.join(_LEVELS)}, not {args!r}"
        self._level = args

    def _on_record(self, record: Record) -> None:
        _, name, thing = record
        if self._shown(thing):
            line = describe(name, thing)
            if line:
                self._lines.append(line)

    def _shown(self, thing: object) -> bool:
        if self._level == "all":
            return True
        if self._level == "nothing":
            return False
        if isinstance(thing, RoleChanged):
            return thing.role is not Role.CANDIDATE or self._level == "most"
        if self._level == "roles":
            return isinstance(thing, Commit | TransferEnded)
        if isinstance(thing, Received | Lost):
            return not isinstance(thing.message, Heartbeat | HeartbeatReply | SeedReply)
        return not isinstance(thing, LinkUp | LinkDown)


def _options(args: str) -> tuple[list[str], dict[str, str]]:
    words = args.split()
    return [w for w in words if "=" not in w], dict(w.split("=") for w in words if "=" in w)


def _kinds(args: str) -> tuple[str, tuple[bool, ...]]:
    """`n0 -> n1 push`: the pair, and whether pushes (True) or control packets are meant."""
    for word, kinds in ((" control", (False,)), (" push", (True,))):
        if args.endswith(word):
            return args.removesuffix(word), kinds
    return args, (False, True)


def _seeded(term: int, index: int) -> Entry:
    return Entry(term, -1 - index)


def _arrow(args: str) -> tuple[NodeId, NodeId]:
    match = re.fullmatch(r"(\w+) -> (\w+)", args)
    assert match, f"not like `n0 -> n1`: {args!r}"
    return NodeId(match[1]), NodeId(match[2])
