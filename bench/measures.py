"""What a load does to a running side, and the values it gives.

Values by name: `per_s`, `p50_us` ... of the load program; `leader_cpu_us`, `follower_cpu_us` and
`all_cpu_us` per message; `pull_per_s` and `lag_p99_ms` of a reader beside the load; `gap_ms`,
`start_s`, `recovery_s`, `pss_mb`.
"""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import proc
from .commands import Commands
from .programs import LoadError, Program
from .programs import run as run_program
from .rows import LAGGED
from .shapes import Load
from .sides import Side

Values = dict[str, float]

# From the start of a load to the kill of the leader: all connections stand and send by then.
BEFORE_KILL_S = 3.0
# Java's group took 5 to 7 s with routes polled each second.
OUTAGE_S = 25.0
# After the start, until memory is called idle: registrations and the first checks are over.
SETTLE_S = 5.0
FILL_S = 5.0
OPEN_S, CALM_S = 2.0, 3.0
CONSUME_TIMEOUT_S = 120.0
# Part of a load after which memory is looked at: still busy, and as full as it gets.
_LATE = 0.8


@dataclass
class Bench:
    """One start of one side.

    Attributes:
        side: which.
        peer: what `side.open` gave, entered.
        folder: where it writes.
        seconds: how long a send load is measured.
        commands: the command lines of the load programs.
        made: topics that exist -> messages that our loads put there, or tried to.
    """

    side: Side
    peer: Any
    folder: Path
    seconds: float
    commands: Commands
    made: dict[str, int] = field(default_factory=dict)

    def ready_topic(self, topic: str, load: Load) -> None:
        """Create what the load sends to; many topics, and streams of NATS, the generator makes."""
        if self.side.protocol == "remoting" and load.topics == 1 and topic not in self.made:
            self.peer.create_topic(topic, load.queues)
            self.made[topic] = 0


@dataclass
class Found:
    """What a load gave.

    Attributes:
        values: by name, see the module.
        errors: text -> how often.
        raw: what the programs printed.
    """

    values: Values
    errors: dict[str, int] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)


def measure(bench: Bench, load: Load) -> Found:
    """Run one load.

    Raises:
        LoadError: a program failed.
        PeerError: the side does not answer.
    """
    return _KINDS[load.kind](bench, load)


def warm_up(bench: Bench) -> None:
    """Load before anything is measured: one at a time from many connections, then many at once."""
    if bench.side.protocol == "none":
        return
    for shape, share in (((64, 1), 0.6), ((8, 64), 0.4)):
        load = Load("warm-up", connections=shape[0], in_flight=shape[1])
        bench.ready_topic("warm-up", load)
        seconds = bench.side.warm_up_s * share
        with _program(
            bench, bench.commands.send(bench.side, bench.peer, load, "warm-up", seconds)
        ) as p:
            p.result(seconds)


# --- sends ------------------------------------------------------------------------------------


def _send(bench: Bench, load: Load) -> Found:
    bench.ready_topic(load.name, load)
    if load.topics > 1:
        _open_queues(bench, load)
    argv = bench.commands.send(bench.side, bench.peer, load, load.name, bench.seconds)
    warm_up_s = bench.commands.warm_up_s(load)
    with _usage(bench) as used, _program(bench, argv, load) as program:
        raw = program.result(bench.seconds + warm_up_s)
    values = _numbers(raw)
    # What the servers did includes the warm-up of the load: at the same pace, where it is not told.
    sent = raw.get("all_messages") or raw["messages"] * (1 + warm_up_s / bench.seconds)
    if sent and raw["messages"]:
        values |= cpu_per_message(used.cpu_s, _leader(bench, load.name), sent)
        values["load_cpu_us"] = raw["cpu_s"] * 1e6 / sent
    return Found(values, raw.get("errors") or {}, {"load": raw, "cpu_s": used.cpu_s})


def _open_queues(bench: Bench, load: Load) -> None:
    """Have a message in each of the many queues before anything counts: the first costs more.

    Topics are made meanwhile, too; both sides then get some calm to tell their name server.
    """
    argv = bench.commands.send(bench.side, bench.peer, load, load.name, OPEN_S)
    run_program(argv, OPEN_S)
    time.sleep(CALM_S)


def cpu_per_message(cpu_s: dict[str, float], leader: str, messages: float) -> Values:
    """Microseconds of the leader, of a follower on average, of all servers together."""
    per_message = {name: s * 1e6 / messages for name, s in cpu_s.items()}
    followers = [us for name, us in per_message.items() if name != leader and name[:7] != "namesrv"]
    values = {"all_cpu_us": sum(per_message.values())}
    if leader in per_message:
        values["leader_cpu_us"] = per_message[leader]
    if followers:
        values["follower_cpu_us"] = sum(followers) / len(followers)
    return values


def _usage(bench: Bench) -> AbstractContextManager[proc.Usage]:
    return proc.usage(bench.peer.processes)


def _leader(bench: Bench, topic: str) -> str:
    """Name of the process that takes the topic's messages."""
    if bench.side.protocol == "nats":
        return str(bench.peer.stream_leader(topic))
    return str(bench.peer.leader())


# --- reads ------------------------------------------------------------------------------------

_FILLED = "filled"
# Who reads what was sent long ago, while others send.
LAGGARDS = Load("laggards", kind="consume", connections=4, count=LAGGED, size=1024)


def _consume(bench: Bench, load: Load) -> Found:
    _fill(bench, _FILLED, load.count)
    if load.cold:
        drop_cache(bench.folder)
    argv = bench.commands.consume(bench.peer, load, _FILLED)
    with _usage(bench) as used, _program(bench, argv, load) as program:
        raw = program.result(CONSUME_TIMEOUT_S)
    values = _numbers(raw)
    if raw["messages"]:
        values |= cpu_per_message(used.cpu_s, _leader(bench, _FILLED), raw["messages"])
    missing = load.count - raw["messages"]
    errors = dict(raw.get("errors") or {})
    if missing > 0:
        errors["not read"] = missing
    return Found(values, errors, {"load": raw})


def _fill(bench: Bench, topic: str, count: int, size: int = 128) -> None:
    """Have so many messages in the topic that readers read."""
    filler = Load(topic, connections=8, batch=32, size=size)
    bench.ready_topic(topic, filler)
    while bench.made[topic] < count:
        argv = bench.commands.send(bench.side, bench.peer, filler, topic, FILL_S)
        raw = run_program(argv, FILL_S)
        if not raw["messages"]:
            raise LoadError(f"nothing could be sent to read later: {raw}")
        bench.made[topic] += raw["messages"]


def drop_cache(folder: Path) -> None:
    """Have the files below a folder out of the page cache, but for pages that are mapped."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _beside(bench: Bench, load: Load) -> Found:
    """Send, and read the same topic meanwhile."""
    bench.ready_topic(load.name, load)
    sending = bench.commands.send(bench.side, bench.peer, load, load.name, bench.seconds)
    following = bench.commands.follow(bench.peer, load, load.name, bench.seconds)
    with _program(bench, following) as reader, _program(bench, sending) as sender:
        sent = sender.result(bench.seconds + bench.commands.warm_up_s(load))
        read = reader.result(bench.seconds)
    return _both(sent, read)


def _both(sent: dict[str, Any], read: dict[str, Any]) -> Found:
    """What a sender and a reader said."""
    values = _numbers(sent) | {"pull_per_s": float(read["per_s"])}
    lag = read.get("lag") or {}
    values |= {f"lag_{name}": float(value) for name, value in lag.items()}
    errors = {f"send: {k}": n for k, n in (sent.get("errors") or {}).items()}
    errors |= {f"pull: {k}": n for k, n in (read.get("errors") or {}).items()}
    return Found(values, errors, {"load": sent, "reader": read})


def _lagging(bench: Bench, load: Load) -> Found:
    """Send at a rate, while others read what they have missed."""
    bench.ready_topic(load.name, load)
    _fill(bench, LAGGARDS.name, LAGGARDS.count, LAGGARDS.size)
    if load.cold:
        drop_cache(bench.folder)
    reading = bench.commands.consume(bench.peer, LAGGARDS, LAGGARDS.name)
    sending = bench.commands.send(bench.side, bench.peer, load, load.name, bench.seconds)
    with _program(bench, sending) as sender, _program(bench, reading) as reader:
        sent = sender.result(bench.seconds + bench.commands.warm_up_s(load))
        read = reader.result(CONSUME_TIMEOUT_S)
    found = _both(sent, read)
    missing = LAGGARDS.count - read["messages"]
    if missing > 0:
        found.errors["pull: not read"] = missing
    return found


# --- life -------------------------------------------------------------------------------------


def _failover(bench: Bench, load: Load) -> Found:
    """Kill the leader under load. The side is broken afterwards: a group's last load."""
    bench.ready_topic(load.name, load)
    argv = bench.commands.outage(bench.peer, load, load.name, OUTAGE_S)
    with _program(bench, argv) as program:
        time.sleep(BEFORE_KILL_S)
        bench.peer.kill9(_leader(bench, load.name))
        raw = program.result(OUTAGE_S)
    gap_ms = raw["outage"]["longest_gap_ms"]
    return Found({"gap_ms": float(gap_ms)}, {}, {"load": raw})


def _start(bench: Bench, _: Load) -> Found:
    return Found({"start_s": bench.peer.start_s})


def _memory(bench: Bench, load: Load) -> Found:
    """Memory of all processes together, while a load runs and is nearly over; or of idle ones."""
    if load.connections == 1:
        time.sleep(SETTLE_S)
        return _pss(bench)
    bench.ready_topic(load.name, load)
    seconds = bench.seconds * 2
    argv = bench.commands.send(bench.side, bench.peer, load, load.name, seconds)
    sent = 0
    while True:
        with _program(bench, argv) as program:
            time.sleep(seconds * _LATE)
            found = _pss(bench)
            raw = program.result(seconds)
        sent += raw["messages"]
        if sent >= load.count:
            break
        if not raw["messages"]:
            raise LoadError(f"nothing could be sent: {raw}")
    found.values["messages"] = float(sent)
    found.raw["load"] = raw
    return found


def _pss(bench: Bench) -> Found:
    by_process = {name: proc.memory(pid) for name, pid in bench.peer.processes.items()}
    bytes_ = sum(m.without_files for m in by_process.values())
    mb = {name: round(m.without_files / 1e6, 1) for name, m in by_process.items()}
    return Found({"pss_mb": bytes_ / 1e6}, {}, {"pss_mb": mb})


# --- a long log -------------------------------------------------------------------------------


def _grow(bench: Bench, load: Load) -> Found:
    """Have so many messages in the log; the pace of those that follow, and memory after them."""
    _fill(bench, _FILLED, load.count, load.size)
    argv = bench.commands.send(bench.side, bench.peer, load, _FILLED, bench.seconds * 2)
    raw = run_program(argv, bench.seconds * 2)
    bench.made[_FILLED] += raw["messages"]
    time.sleep(SETTLE_S)
    found = _pss(bench)
    found.values |= _numbers(raw) | {"log_messages": float(bench.made[_FILLED])}
    found.raw["load"] = raw
    return found


def _recover(bench: Bench, _: Load) -> Found:
    """Kill the node and start it again."""
    name = _leader(bench, _FILLED)
    bench.peer.kill9(name)
    return Found({"recovery_s": bench.peer.recovery_s(name)})


# --- the Raft core alone ----------------------------------------------------------------------


def _raft(bench: Bench, load: Load) -> Found:
    argv = bench.commands.raft(bench.side, load, bench.folder, bench.seconds)
    raw = run_program(argv, bench.seconds + 30)
    return Found(_numbers(raw), raw.get("errors") or {}, {"load": raw})


# --- inside -----------------------------------------------------------------------------------


def _program(bench: Bench, argv: list[str], load: Load | None = None) -> Program:
    lean = load is None or load.client == "lean"
    return Program(argv, bench.commands.cpu if lean else None)


def _numbers(raw: dict[str, Any]) -> Values:
    """The plain numbers of what a program printed; a latency of 0 was not measured."""
    found = {k: float(v) for k, v in raw.items() if isinstance(v, int | float)}
    return {k: v for k, v in found.items() if v or not k.endswith("_us")}


_KINDS: dict[str, Callable[[Bench, Load], Found]] = {
    "send": _send,
    "consume": _consume,
    "tail": _beside,
    "together": _beside,
    "lagging": _lagging,
    "failover": _failover,
    "start": _start,
    "memory": _memory,
    "raft": _raft,
    "grow": _grow,
    "recover": _recover,
}
