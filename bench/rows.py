"""The table: what is measured, on which sides, and which ratio has to come out.

A *side* is a way to run a cluster (`sides.py`). A *group* starts its sides in turn and runs its
loads on each start. A *row* compares one value of one load between two sides of a group, or holds
our own value against a fixed number. Names are what `--rows` takes; it also takes shell patterns.
"""

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from .shapes import Client, Group, Load, Row

SIZES = (128, 1024, 16 * 1024)

# With the compiled twins, and as it is installed by default.
OURS, OURS_SYNC, OURS_ALONE, OURS_ONE = "ours", "ours-sync", "ours-alone", "ours-one"
PURE, PURE_ALONE = "pure", "pure-alone"
JAVA, JAVA_ALONE = "java", "java-alone"
NATS, NATS_SYNC = "nats", "nats-sync"
ECHO = "echo"
RAFT_OURS, RAFT_PYSYNCOBJ = "raft-ours", "raft-pysyncobj"

# Bar and aim by load. The lean generator's hold for 128 B and 1 KiB.
_LEAN_BARS = {"64x1": (2.2, 3.0), "1x1": (3.0, None), "1x64": (3.2, 4.5), "batch32": (4.0, None)}
_LEAN_SYNC_BARS = {"64x1": (1.2, None), "1x64": (1.8, None), "1x1": (0.9, None)}
_JAVA_CLIENT_BARS = {
    "sync64": (1.8, 2.5), "sync1": (2.0, None), "async256": (2.0, None), "batch32": (2.5, None),
}  # fmt: skip
_NATS_BARS = {"1x64": (1.0, None), "8x64": (1.0, None), "64x1": (0.8, 1.1), "1x1": (0.8, 1.1)}
_MODES = {OURS_SYNC: "-sync", PURE: "-pure", PURE_ALONE: "-pure"}
_NOTHING: dict[str, tuple[float, float | None]] = {}
# Messages/s offered when latencies are compared: half of what Java takes at 64 x 1.
EQUAL_RATE = 5000
CONSUMED = 400_000
# Messages of 1 KiB that a consumer has not read yet, and what others send meanwhile per second.
# More than anybody reads while the sends are measured.
LAGGED, LAGGED_RATE = 1_000_000, 1000
# 625 topics of 16 queues.
MANY_TOPICS, MANY_QUEUES = 625, 16
# Messages of 1 KiB in a GB of the log, a few more than fit: 1,163 bytes at least.
GB_RECORDS = 870_000


def lean_loads(size: int) -> tuple[Load, ...]:
    """The lean generator's: connections x in flight."""
    shapes = [(1, 1), (8, 1), (64, 1), (256, 1), (1, 64), (1, 256), (1, 1024), (8, 64)]
    loads = [Load(f"{c}x{k}", connections=c, in_flight=k, size=size) for c, k in shapes]
    return (*loads, Load("batch32", connections=8, batch=32, size=size))


def client_loads(client: Client, size: int) -> tuple[Load, ...]:
    """A real client's: sends one at a time by threads (tasks), or many in flight."""
    syncs = [Load(f"sync{n}", client=client, connections=n, size=size) for n in (1, 8, 64, 256)]
    asyncs = [Load(f"async{k}", client=client, in_flight=k, size=size) for k in (64, 256, 1024)]
    return (*syncs, *asyncs, Load("batch32", client=client, connections=8, batch=32, size=size))


def _size_name(size: int) -> str:
    return f"{size // 1024}k" if size >= 1024 else str(size)


def _rows(
    group: str,
    loads: Iterable[Load],
    ours: str,
    theirs: str,
    bars: dict[str, tuple[float, float | None]],
) -> list[Row]:
    """Messages/s of each load; what is not usual of our side is in the name."""
    found = []
    for load in loads:
        bar, aim = bars.get(load.name, (None, None))
        name = f"{group}-{load.name}{_MODES.get(ours, '')}"
        found.append(Row(name, group, load.name, "per_s", ours, theirs, bar=bar, aim=aim))
    return found


def _lean_group(size: int) -> Group:
    name = f"lean-{_size_name(size)}"
    barred = size <= 1024
    loads = lean_loads(size)
    rows = _rows(name, loads, OURS, JAVA, _LEAN_BARS if barred else _NOTHING)
    rows += _rows(name, loads, OURS_SYNC, JAVA, _LEAN_SYNC_BARS if barred else _NOTHING)
    sides: tuple[str, ...] = (OURS, JAVA, OURS_SYNC)
    if size == 128:
        rows += _rows(name, loads, PURE, JAVA, _NOTHING)
        sides += (PURE,)
    return Group(name, sides, loads, tuple(rows))


def _java_client_group(size: int) -> Group:
    name = f"java-client-{_size_name(size)}"
    loads = client_loads("java", size)
    rows = _rows(name, loads, OURS, JAVA, _JAVA_CLIENT_BARS if size == 128 else _NOTHING)
    if size == 128:
        rows += _rows(name, loads, OURS_SYNC, JAVA, _NOTHING)
    sides = (OURS, JAVA, OURS_SYNC) if size == 128 else (OURS, JAVA)
    return Group(name, sides, loads, tuple(rows))


def _python_client_group(size: int) -> Group:
    name = f"python-client-{_size_name(size)}"
    loads = client_loads("python", size)
    rows = _rows(name, loads, OURS, JAVA, _NOTHING)
    if size == 128:
        floors = (("sync64", 8000.0), ("async256", 20_000.0))
        rows += [
            Row(f"{name}-{load}-per-s", name, load, "per_s", OURS, None, bar=floor)
            for load, floor in floors
        ]
    return Group(name, (OURS, JAVA), loads, tuple(rows))


def _latency_group() -> Group:
    name = "latency"
    at_rate = Load("at-rate", connections=64, rate=EQUAL_RATE)
    rows = (
        Row("latency-p99", name, "at-rate", "p99_us", OURS, JAVA, bar=0.5, at_most=True),
        Row("latency-p50", name, "at-rate", "p50_us", OURS, JAVA, at_most=True),
        Row("latency-p99-sync", name, "at-rate", "p99_us", OURS_SYNC, JAVA, at_most=True),
    )
    return Group(name, (OURS, JAVA, OURS_SYNC), (at_rate,), rows)


def _cpu_group() -> Group:
    name = "cpu"
    loads = tuple(load for load in lean_loads(128) if load.name in {"64x1", "1x64", "batch32"})
    rows = tuple(
        Row(f"cpu-{part}-{load.name}", name, load.name, f"{part}_cpu_us", OURS, JAVA, at_most=True)
        for load in loads
        for part in ("leader", "follower", "all")
    )
    return Group(name, (OURS, JAVA), loads, rows)


def _nats_group(size: int) -> Group:
    name = f"nats-{_size_name(size)}"
    loads = tuple(load for load in lean_loads(size) if load.name in _NATS_BARS)
    bars = _NATS_BARS if size == 128 else _NOTHING
    rows = _rows(name, loads, OURS, NATS, bars) + _rows(name, loads, OURS_SYNC, NATS_SYNC, bars)
    return Group(name, (OURS, NATS, OURS_SYNC, NATS_SYNC), loads, tuple(rows))


def _echo_group() -> Group:
    loads = tuple(load for load in lean_loads(128) if load.name in {"64x1", "1x64", "1x1"})
    rows = _rows("echo", loads, OURS, ECHO, {"64x1": (0.25, 0.35)})
    return Group("echo", (OURS, ECHO), loads, tuple(rows))


def _alone_group() -> Group:
    """A master without replication."""
    names = ("sync1", "sync64", "async256", "batch32")
    loads = tuple(load for load in client_loads("java", 128) if load.name in names)
    rows = _rows("alone", loads, PURE_ALONE, JAVA_ALONE, dict.fromkeys(names, (0.6, None)))
    rows += _rows("alone", loads, OURS_ALONE, JAVA_ALONE, dict.fromkeys(names, (0.6, 1.0)))
    return Group("alone", (OURS_ALONE, JAVA_ALONE, PURE_ALONE), loads, tuple(rows))


def _topics_group() -> Group:
    loads = tuple(
        Load(f"{n}", connections=8, in_flight=64, topics=n, queues=4) for n in (1, 16, 256)
    )
    return Group("topics", (OURS, JAVA), loads, tuple(_rows("topics", loads, OURS, JAVA, {})))


def _consume_group() -> Group:
    name = "consume"
    clients: tuple[Client, ...] = ("lean", "java", "python")
    loads = (
        *(Load(c, kind="consume", client=c, connections=4, count=CONSUMED) for c in clients),
        Load("cold", kind="consume", connections=4, count=CONSUMED, cold=True),
        Load("tail", kind="tail", connections=8, rate=EQUAL_RATE),
        Load("together", kind="together", connections=8, in_flight=8),
        Load("lagging-warm", kind="lagging", connections=64, rate=LAGGED_RATE),
        Load("lagging-cold", kind="lagging", connections=64, rate=LAGGED_RATE, cold=True),
    )
    rows = (
        Row("consume-java", name, "java", "per_s", OURS, JAVA, bar=1.0),
        Row("consume-lean", name, "lean", "per_s", OURS, JAVA),
        Row("consume-python", name, "python", "per_s", OURS, JAVA),
        Row("consume-python-per-s", name, "python", "per_s", OURS, None, bar=60_000.0),
        Row("consume-cold", name, "cold", "per_s", OURS, JAVA),
        Row("consume-tail", name, "tail", "pull_per_s", OURS, JAVA),
        Row("consume-tail-lag-p99", name, "tail", "lag_p99_ms", OURS, JAVA, at_most=True),
        Row("together-send", name, "together", "per_s", OURS, JAVA),
        Row("together-pull", name, "together", "pull_per_s", OURS, JAVA),
        Row("lagging-send-p99", name, "lagging-cold", "p99_us", OURS, JAVA, at_most=True),
        Row("lagging-pull", name, "lagging-cold", "pull_per_s", OURS, JAVA),
        # What the disk adds to it: to read from it must not hold up who writes.
        Row("lagging-cold-to-warm", name, "lagging-cold", "p99_us", OURS, OURS, "lagging-warm",
            bar=2.0, at_most=True),
    )  # fmt: skip
    return Group(name, (OURS, JAVA), loads, rows)


def _failover_group() -> Group:
    row = Row("failover-kill", "failover", "kill", "gap_ms", OURS, JAVA, at_most=True)
    sync = Row("failover-kill-sync", "failover", "kill", "gap_ms", OURS_SYNC, JAVA, at_most=True)
    loads = (Load("kill", kind="failover", connections=4),)
    return Group("failover", (OURS, JAVA, OURS_SYNC), loads, (row, sync))


def _footprint_group() -> Group:
    """Start and memory; the loads run in this order, each on top of the one before."""
    name = "footprint"
    loads = (
        Load("start", kind="start"),
        Load("idle", kind="memory"),
        Load("loaded", kind="memory", connections=64, in_flight=8),
        Load("million", kind="memory", connections=8, batch=32, count=1_000_000),
        Load("queues", kind="memory", connections=8, in_flight=64, count=50_000,
             topics=MANY_TOPICS, queues=MANY_QUEUES),
    )  # fmt: skip
    memory = tuple(
        Row(f"memory-{load.name}", name, load.name, "pss_mb", OURS, JAVA, bar=0.15, at_most=True)
        for load in loads[1:]
    )
    start = Row("start", name, "start", "start_s", OURS, JAVA, bar=0.25, at_most=True)
    return Group(name, (OURS, JAVA), loads, (start, *memory))


def _long_log_group() -> Group:
    """One node whose log gets longer; in the end it is killed and comes back."""
    name = "long-log"
    shape = Load("", kind="grow", connections=8, batch=32, size=1024)
    loads = (
        replace(shape, name="1gb", count=GB_RECORDS),
        replace(shape, name="10gb", count=10 * GB_RECORDS),
        replace(shape, name="20gb", count=20 * GB_RECORDS),
        Load("recovery", kind="recover"),
    )
    rows = (
        Row("append-at-10gb", name, "10gb", "per_s", OURS_ONE, OURS_ONE, "1gb", 0.85),
        Row("append-at-20gb", name, "20gb", "per_s", OURS_ONE, OURS_ONE, "1gb", 0.85),
        Row("memory-at-20gb", name, "20gb", "pss_mb", OURS_ONE, OURS_ONE, "1gb", 1.2, at_most=True),
        Row("recovery-20gb", name, "recovery", "recovery_s", OURS_ONE, None, bar=5.0, at_most=True),
    )
    return Group(name, (OURS_ONE,), loads, rows)


def _growth_group() -> Group:
    name = "growth"
    loads = (
        Load("one-topic", connections=8, in_flight=64, queues=8),
        Load("10000-queues", connections=8, in_flight=64, topics=MANY_TOPICS, queues=MANY_QUEUES),
    )
    row = Row(name, name, "10000-queues", "per_s", OURS, OURS, their_load="one-topic", bar=0.85)
    return Group(name, (OURS,), loads, (row,))


def _raft_group() -> Group:
    name = "raft"
    shapes = ((1, 128), (64, 128), (512, 128), (512, 1024))
    loads = tuple(Load(f"{k}-{_size_name(s)}", kind="raft", in_flight=k, size=s) for k, s in shapes)
    sides = (RAFT_OURS, RAFT_PYSYNCOBJ)
    rows = _rows(name, loads, *sides, _NOTHING)
    rows += [
        Row(f"raft-{load.name}-p99", name, load.name, "p99_us", *sides, at_most=True)
        for load in loads
    ]
    return Group(name, sides, loads, tuple(rows))


GROUPS: tuple[Group, ...] = (
    *map(_lean_group, SIZES),
    _latency_group(),
    _cpu_group(),
    *map(_java_client_group, SIZES),
    *map(_python_client_group, (128, 1024)),
    *map(_nats_group, (128, 1024)),
    _echo_group(),
    _alone_group(),
    _topics_group(),
    _consume_group(),
    _failover_group(),
    _footprint_group(),
    _growth_group(),
    _long_log_group(),
    _raft_group(),
)


def all_rows() -> list[Row]:
    """Every row, in the order of the table."""
    return [row for group in GROUPS for row in group.rows]


def chosen(patterns: Iterable[str]) -> list[Group]:
    """The groups with those of their sides, loads and rows that the patterns ask for.

    Args:
        patterns: names of rows or groups, or shell patterns of them; none: everything.

    Raises:
        LookupError: a pattern matches nothing; the text is for a person.
    """
    patterns = list(patterns)
    for pattern in patterns:
        if not any(_matches(row, pattern) for row in all_rows()):
            raise LookupError(f"no row or group is called {pattern!r}; `list` shows them")
    return [g for g in (_part(group, patterns) for group in GROUPS) if g.rows]


def _matches(row: Row, pattern: str) -> bool:
    return fnmatchcase(row.name, pattern) or fnmatchcase(row.group, pattern)


def _part(group: Group, patterns: list[str]) -> Group:
    rows = [r for r in group.rows if not patterns or any(_matches(r, p) for p in patterns)]
    needed = set().union(*(row.needs() for row in rows))
    return Group(
        group.name,
        tuple(side for side in group.sides if any(side == s for s, _ in needed)),
        tuple(load for load in group.loads if any(load.name == name for _, name in needed)),
        tuple(rows),
    )
