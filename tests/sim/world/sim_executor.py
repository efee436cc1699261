"""Threads of a simulated process: greenlets that give way at each disk call."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from .process_disk import Killed

if TYPE_CHECKING:
    from .process import Process

P = ParamSpec("P")
T = TypeVar("T")

# Until a thread begins with a job.
_START_US = 10
_START_SPREAD_US = 90


class Job(Future[T]):
    """One call in a thread, and the future of its result.

    Its disk calls take simulated time, in which everything else goes on. Whoever asks for the
    result before its time gets the job run to its end at that moment: so a real loop would block.
    """

    def __init__(self, executor: "SimExecutor", fn: Callable[[], T]) -> None:
        # Not the base class's: its locks are for real threads, and dear.
        self._executor = executor
        self._process = executor.process
        self._fn: Callable[[], T] | None = fn
        self._greenlet: Any = None
        # Rises with each slice: a planned one of before is out of date.
        self._slice = 0
        self._done = False
        self._cancelled = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future[T]], object]] = []

    # --- as a future ----------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether it has ended or was cancelled."""
        return self._done

    def running(self) -> bool:
        """Whether a thread has begun with it."""
        return self._greenlet is not None and not self._done

    def cancelled(self) -> bool:
        """Whether it was cancelled before it began."""
        return self._cancelled

    def cancel(self) -> bool:
        """Take it back; False once it has begun."""
        if self._cancelled:
            return True
        if self._done or self._greenlet is not None:
            return False
        self._cancelled = True
        self._executor.forget(self)
        self._end()
        return True

    def result(self, timeout: float | None = None) -> T:
        """What it returned; runs it to its end now if need be."""
        error = self.exception()
        if error is not None:
            raise error
        return self._value  # type: ignore[return-value]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What it raised; runs it to its end now if need be."""
        if not self._done:
            self._executor.finish(self)
        if self._cancelled:
            raise CancelledError
        return self._error

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call `fn` when done, in the thread; at once if it is."""
        if self._done:
            fn(self)
        else:
            self._callbacks.append(fn)

    # --- as a thread ----------------------------------------------------------------------------

    def plan(self, delay_us: int) -> None:
        """Go on in so long."""
        self._slice += 1
        world = self._process.world
        world.push(world.now_us + delay_us, self._due, self._slice)

    def _due(self, number: int) -> None:
        process = self._process
        if number != self._slice or not process.alive:
            return
        if process.paused:
            process.defer(self._due, number)
            return
        delay_us = self.go_on()
        if not self._done and process.alive:
            self.plan(delay_us)

    def go_on(self) -> int:
        """Run it up to its next disk call; how long that takes, in microseconds."""
        self._slice += 1
        process = self._process
        if self._greenlet is None:
            self._greenlet = greenlet(self._main)
        outer, process.job = process.job, self
        try:
            delay_us: int = self._greenlet.switch()
        finally:
            process.job = outer
        if self._greenlet.dead and process.alive:
            self._end()
            self._executor.ended(self)
        return delay_us

    def _main(self) -> int:
        fn = self._fn
        try:
            if fn is not None:
                self._value = fn()
        except (Killed, GreenletExit):
            pass
        except BaseException as e:  # noqa: BLE001 - as a thread pool does
            self._error = e
        return 0

    def wait(self, delay_us: int) -> None:
        """Called inside the job: let others run for so long."""
        self._process.main.switch(delay_us)

    def _end(self) -> None:
        self._done = True
        self._fn = None
        callbacks, self._callbacks = self._callbacks, []
        for fn in callbacks:
            fn(self)

    def drop(self) -> None:
        """Its process is dead: unwind it, without any effect."""
        self._slice += 1
        self._callbacks.clear()
        if self._greenlet is not None and not self._greenlet.dead:
            self._greenlet.throw(Killed)
        self._greenlet = None
        self._fn = None

    def __repr__(self) -> str:
        return f"Job({self._fn})"


class SimExecutor(Executor):
    """What `Host.threads` gives: so many threads of one process."""

    def __init__(self, process: "Process", count: int, name: str) -> None:
        self.process = process
        self.name = name
        self._count = count
        self._queue: deque[Job[Any]] = deque()
        self._active: list[Job[Any]] = []
        self._shut = False
        process.executors.append(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        """Run in a thread once one is free."""
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        job = Job(self, (lambda: fn(*args, **kwargs)) if args or kwargs else fn)
        if not self.process.alive:
            return job
        self._queue.append(job)
        if len(self._active) < self._count:
            self._begin()
        return job

    def _begin(self) -> None:
        job = self._queue.popleft()
        self._active.append(job)
        job.plan(_START_US + int(self.process.world.random() * _START_SPREAD_US))

    def ended(self, job: "Job[Any]") -> None:
        """A thread is free."""
        self._active.remove(job)
        if self._queue:
            self._begin()

    def forget(self, job: "Job[Any]") -> None:
        """It was cancelled."""
        if job in self._queue:
            self._queue.remove(job)
        else:
            self._active.remove(job)
            if self._queue:
                self._begin()

    def finish(self, job: "Job[Any]") -> None:
        """Run it to its end now, and whatever its thread has to do before it."""
        process = self.process
        if getcurrent() is not process.main:
            raise RuntimeError("a simulated thread waits for another; only the loop can")
        while not job.done():
            if not process.alive:
                raise Killed
            first = job if job in self._active else self._active[0]
            took_us = first.go_on()
            if process.disk.is_slow:
                process.owed_us += took_us

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs; with `wait` run those there are to their end now."""
        self._shut = True
        if cancel_futures:
            for job in list(self._queue):
                job.cancel()
        while wait and self.process.alive and (self._active or self._queue):
            self.finish(self._active[0])

    def drop(self) -> None:
        """The process is dead."""
        jobs = [*self._active, *self._queue]
        self._active.clear()
        self._queue.clear()
        for job in jobs:
            job.drop()
