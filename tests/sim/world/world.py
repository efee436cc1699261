"""Simulated time: one heap of events, one source of chance."""

import heapq
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from .machine import Machine
    from .process import Process

MS = 1000
S = 1_000_000


class Timer:
    """A scheduled action that can still be called off."""

    __slots__ = ("_action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """It never runs."""
        self._action = None

    def fire(self, _: object) -> None:
        """Its time has come."""
        action, self._action = self._action, None
        if action is not None:
            action()


class World:
    """Everything that happens, in the order of simulated time.

    Attributes:
        now_us: simulated microseconds since the beginning.
        rng: all chance comes from here.
        events: how many have happened.
        fingerprint: of all events so far; two runs of one seed have the same.
        on_iteration: told after each turn of a process's loop; the place for invariants.
    """

    def __init__(self, seed: int) -> None:
        from .net import SimNet

        self.seed = seed
        self.rng = Random(seed)
        self.random = self.rng.random
        self.now_us = 0
        self.events = 0
        self.fingerprint = seed
        self.machines: dict[str, Machine] = {}
        self.on_iteration: Callable[[Process], None] | None = None
        self._heap: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._pushed = 0
        self._failure: BaseException | None = None
        self.net = SimNet(self)

    def machine(self, name: str) -> "Machine":
        """A new machine, switched on, without a process."""
        from .machine import Machine

        if name in self.machines:
            raise ValueError(f"there is a machine {name} already")
        machine = self.machines[name] = Machine(self, name, f"10.0.0.{len(self.machines) + 1}")
        self.net.add(machine)
        return machine

    # --- time -----------------------------------------------------------------------------------

    def schedule(self, delay_us: int, action: Callable[[], None]) -> Timer:
        """Run `action` in `delay_us`; actions of one moment run in the order given."""
        timer = Timer(action)
        self.push(self.now_us + delay_us, timer.fire, None)
        return timer

    def push(self, at_us: int, action: Callable[[Any], None], argument: Any) -> None:
        """`schedule` at a time, with an argument, for ever: for the parts of the world itself."""
        self._pushed += 1
        heapq.heappush(self._heap, (at_us, self._pushed, action, argument))

    def run(self, duration_us: int) -> None:
        """Let time pass. Raises what nobody handled in any process."""
        self._advance(self.now_us + duration_us, None)

    def run_until(self, predicate: Callable[[], bool], limit_us: int) -> bool:
        """Let time pass until the predicate holds; False when it did not within the limit."""
        return self._advance(self.now_us + limit_us, predicate)

    def _advance(self, end_us: int, predicate: Callable[[], bool] | None) -> bool:
        heap, pop = self._heap, heapq.heappop
        fingerprint, events = self.fingerprint, self.events
        try:
            while predicate is None or not predicate():
                if not heap or heap[0][0] > end_us:
                    self.now_us = end_us
                    return predicate is not None and predicate()
                at_us, number, action, argument = pop(heap)
                self.now_us = at_us
                events += 1
                fingerprint = hash((fingerprint, at_us, number))
                action(argument)
                if self._failure is not None:
                    self._raise()
        finally:
            self.fingerprint, self.events = fingerprint, events
        return True

    # --- the end --------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """End the run: `run` raises `error` after this event."""
        if self._failure is None:
            self._failure = error

    def _raise(self) -> None:
        error, self._failure = self._failure, None
        if error is not None:
            raise error

    def close(self) -> None:
        """End every process; nothing of them runs later, nor complains."""
        for machine in self.machines.values():
            if machine.process is not None:
                machine.process.kill()
        self._heap.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
