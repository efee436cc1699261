"""A deterministic world for real code: one seed is one run, event for event.

The real `LogServer` and the real broker `Replica` run in it unchanged. What they get from their
machine (clocks, chance, threads, disk, loop, sockets) is simulated; nothing here reads a clock, the
global random or the order of a hash. Everything happens in one thread.

    with World(seed) as world:
        machines = [world.machine(f"n{i}") for i in range(3)]
        process = machines[0].boot()
        server = process.call(lambda: LogServer(config, callbacks, process.host()))
        process.spawn(server.start())                       # a task of that process
        world.run(2 * S)                                    # simulated microseconds
        assert world.run_until(lambda: server.is_leader, 3 * S)

`World(seed)`: `now_us`, `rng`, `events`, `fingerprint` (equal in two runs of one seed), `net`,
`machines` (by name), `on_iteration` (called with the process after each turn of its loop: the place
for invariants), `machine(name)`, `schedule(delay_us, action) -> Timer` (`.cancel()`), `run(us)`,
`run_until(predicate, limit_us) -> bool`, `fail(error)`, `close()`. An exception nobody handles in
any process ends the run: `run` raises it.

`Machine`: `name`, `host` (its address, "10.0.0.1"), `disk`, `boot_id` (another one after each loss
of power), `process` (the latest life or None), `lives`, `boot() -> Process`, `power_loss(Loss.…)`
(and off until `boot`: `on`), `set_drift(rate)`, `step_wall(ms)`, `mono_ms()`, `wall_ms()`.

`Process` = one life: `alive`, `paused`, `running`, `loop`, `disk`, `host() -> Host`,
`call(fn, *args)` (inside the process, now; raises ProcessGone when it is not running),
`spawn(coroutine) -> Task`, `kill()`, `pause(us)`, `resume()`, `at_disk_call(n, action, kind=None)`
(runs `action`, for instance `process.kill`, before the n-th disk call from now on, in the midst of
whatever the process does; `kind` counts only calls of that name, for instance "fdatasync"),
`disarm()` (takes that back).

`SimDisk` = what survives: `power_loss` is the machine's business. Faults: `fail_syncs`,
`fail_reads`, `fail_writes` (how many of the next calls give EIO), `room` (bytes left before ENOSPC,
None for plenty), `slow_us` (added to each write and sync; on the loop it stalls the process),
`miss_chance` of `pread_cached`, `strict_folders`, `rot(predicate, rng) -> (path, offset) | None`,
`rot_at(path, offset)`, `drop_caches()`, `wipe()` (while nobody runs).
For invariants: `durable_files() -> list[str]`, `durable_read(path, offset, size) -> bytes | None`,
`durable_size(path)`, `unsynced_bytes()`, and `counts` of calls and faults by name.

`SimNet`: `cut(a, b)` one way, `partition(group, group…)` both ways between groups, `isolate(name)`,
`heal(a=None, b=None)`, `reset(a, b)` connections, `link(a, b)` (one way: `low_us`, `high_us`,
`bytes_per_s` of each connection), `links()`, `connections()`, `set_latency(low_us, high_us)`,
`split_chance`, `window`, `user_timeout_us`, `frame_loss` and `frame_duplication` (whole frames of
the members' control channel), `counts` by name.
"""

from .inode import Loss
from .machine import Machine
from .net import Link, SimNet
from .process import Killed, Process, ProcessGone
from .sim_disk import SimDisk
from .sim_executor import SimExecutor
from .sim_loop import SimLoop
from .world import MS, S, Timer, World

__all__ = [
    "MS",
    "Killed",
    "Link",
    "Loss",
    "Machine",
    "Process",
    "ProcessGone",
    "S",
    "SimDisk",
    "SimExecutor",
    "SimLoop",
    "SimNet",
    "Timer",
    "World",
]
