"""One life of one node: its loop's queue, its pauses, its end."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from greenlet import getcurrent

from ledgermq.dledger.host import Host

from .process_disk import Killed, ProcessDisk
from .sim_executor import SimExecutor
from .sim_loop import Callback, SimLoop

if TYPE_CHECKING:
    from .machine import Machine
    from .sim_executor import Job
    from .transport import SimTransport

T = TypeVar("T")

# What one turn of the loop costs: at least, and at most so much more.
_TURN_US = 5
_TURN_SPREAD_US = 40

_set_running_loop = asyncio._set_running_loop

__all__ = ["Killed", "Process", "ProcessGone"]


class ProcessGone(Exception):
    """The process is dead or stopped, so nothing can run in it."""


class Process:
    """From `Machine.boot` to `kill`.

    Attributes:
        life: 1 for the first process of its machine.
        alive: not killed.
        paused: stopped, like with SIGSTOP: bytes arrive and timers expire, but nothing runs.
        job: the thread that runs at this moment, None while the loop does.
        owed_us: for how long calls of the loop have waited for the disk; paid by a stall.
        connections: its ends of connections, for the network.
    """

    def __init__(self, machine: "Machine", life: int) -> None:
        self.machine = machine
        self.world = machine.world
        self.name = f"{machine.name}#{life}"
        self.life = life
        self.alive = True
        self.paused = False
        self.rng = Random(self.world.rng.getrandbits(64))
        self.loop = SimLoop(self)
        self.disk = ProcessDisk(self, machine.disk)
        self.job: Job[Any] | None = None
        self.owed_us = 0
        self.executors: list[SimExecutor] = []
        self.connections: dict[SimTransport, None] = {}
        # The greenlet of everything that is no thread.
        self.main = getcurrent()
        self.ready: deque[Callback] = deque()
        # Whether a turn is under way or planned: what becomes ready waits for it.
        self._turning = False
        self._resume_at_us = 0
        # What came while paused: first bytes, then timers, as a loop that wakes up finds them.
        self._waiting_io: list[Callback] = []
        self._waiting_timers: list[Callback] = []
        self._waiting_jobs: list[tuple[Callable[[Any], None], Any]] = []

    @property
    def running(self) -> bool:
        """Neither dead nor paused."""
        return self.alive and not self.paused

    def host(self) -> Host:
        """The machine as the product sees it."""
        return Host(
            mono_ms=self.machine.clock(),
            wall_ms=self.machine.wall_ms,
            rng=Random(self.rng.getrandbits(64)),
            new_id=lambda: f"{self.rng.getrandbits(64):016x}",
            boot_id=self.machine.boot_id,
            disk=self.disk,
            threads=lambda count, name: SimExecutor(self, count, name),
        )

    # --- running something in it ----------------------------------------------------------------

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Run `fn` inside the process, now, between two turns of its loop.

        Raises:
            ProcessGone: it is dead or paused, or was killed in the midst of `fn`.
        """
        if not self.running:
            raise ProcessGone(self.name)
        outer = asyncio._get_running_loop()
        _set_running_loop(self.loop)
        try:
            return fn(*args)
        except Killed:
            raise ProcessGone(f"{self.name} was killed") from None
        finally:
            _set_running_loop(outer)

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task in it; what it raises and nobody takes fails the run."""
        if not self.running:
            coroutine.close()
            raise ProcessGone(self.name)
        return self.loop.create_task(coroutine)

    def at_disk_call(self, n: int, action: Callable[[], None], kind: str | None = None) -> None:
        """Run `action` before the n-th disk call from now on, whoever makes it.

        Args:
            n: 1 is the next one.
            action: for instance `kill`.
            kind: counts only calls of this name of `Disk`.
        """
        self.disk.set_trap(n, action, kind)

    def disarm(self) -> None:
        """Take the action of `at_disk_call` back, unless it has happened."""
        self.disk.clear_trap()

    # --- the loop's turns -----------------------------------------------------------------------

    def wake(self) -> None:
        """Something is ready: plan a turn unless there is one."""
        if not self._turning and self.alive:
            self._turning = True
            world = self.world
            at_us = world.now_us + _TURN_US + int(world.random() * _TURN_SPREAD_US)
            world.push(at_us, self._turn, None)

    def io(self, callback: Callback) -> None:
        """The network has something for the process."""
        if self.paused:
            self._waiting_io.append(callback)
        elif self.alive:
            self.ready.append(callback)
            if not self._turning:
                self._turn(None)

    def timer(self, callback: Callback) -> None:
        """A timer expired."""
        if self.paused:
            self._waiting_timers.append(callback)
        elif self.alive:
            self.ready.append(callback)
            if not self._turning:
                self._turn(None)

    def defer(self, action: Callable[[Any], None], argument: Any) -> None:
        """A thread wants to go on, but the process is paused."""
        self._waiting_jobs.append((action, argument))

    def _turn(self, _: object) -> None:
        """Run what is ready now; what that makes ready is for the next turn."""
        if self.paused or not self.alive:
            self._turning = False
            return
        self._turning = True
        _set_running_loop(self.loop)
        try:
            self._run_ready()
        except Killed:
            pass
        except Exception as e:  # noqa: BLE001 - handed on by the world
            e.add_note(f"in {self.name}, at {self.world.now_us} us")
            self.world.fail(e)
        finally:
            _set_running_loop(None)
            self._turning = False
        if self.owed_us:
            self._pay()
        if self.ready and not self.paused:
            self.wake()
        if self.world.on_iteration is not None:
            self.world.on_iteration(self)

    def _run_ready(self) -> None:
        ready = self.ready
        for _ in range(len(ready)):
            callback = ready.popleft()
            fn = callback._callback
            if fn is None:
                continue
            context = callback._context
            if context is None:
                fn(*callback._args)
            else:
                context.run(fn, *callback._args)
            if self.paused or not self.alive:
                break

    def _pay(self) -> None:
        """The loop waited for the disk: it stands still for so long."""
        owed_us, self.owed_us = self.owed_us, 0
        self.pause(owed_us)

    # --- trouble --------------------------------------------------------------------------------

    def pause(self, duration_us: int) -> None:
        """Stop it for so long; a second pause can only make it longer."""
        if not self.alive:
            return
        self.paused = True
        at_us = self.world.now_us + duration_us
        if at_us > self._resume_at_us:
            self._resume_at_us = at_us
            self.world.push(at_us, self._resume_due, None)

    def _resume_due(self, _: object) -> None:
        if self.paused and self.world.now_us >= self._resume_at_us:
            self.resume()

    def resume(self) -> None:
        """Go on now, with bytes first and timers then, as they came."""
        if not self.alive or not self.paused:
            return
        self.paused = False
        self._resume_at_us = 0
        self.ready.extend(self._waiting_io)
        self.ready.extend(self._waiting_timers)
        self._waiting_io.clear()
        self._waiting_timers.clear()
        jobs, self._waiting_jobs = self._waiting_jobs, []
        for action, argument in jobs:
            self.world.push(self.world.now_us, action, argument)
        if self.ready:
            self.wake()

    def kill(self, *, quietly: bool = False) -> None:
        """End it at once: nothing pending happens, the page cache stays.

        Args:
            quietly: the machine went with it, so that the peers are not told.
        """
        if not self.alive:
            return
        self.alive = False
        self.disk.release()
        self.world.net.process_died(self, quietly=quietly)
        self._unwind_threads()
        self.loop.drop_tasks()
        self.ready.clear()
        self._waiting_io.clear()
        self._waiting_timers.clear()
        self._waiting_jobs.clear()

    def _unwind_threads(self, _: object = None) -> None:
        """Threads never go on; what they hold is released without a trace.

        A thread that killed its own process unwinds by itself; from inside it the others cannot be
        reached.
        """
        if getcurrent() is not self.main:
            self.world.push(self.world.now_us, self._unwind_threads, None)
            return
        for executor in self.executors:
            executor.drop()

    def __repr__(self) -> str:
        return f"Process({self.name})"
