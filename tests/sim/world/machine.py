"""A machine: what outlives a process (disk, boot, clocks) and what only a loss of power ends."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .inode import Loss
from .process import Process
from .sim_disk import SimDisk

if TYPE_CHECKING:
    from .world import World

# Some day in 2023; nothing depends on which.
_WALL_BASE_US = 1_700_000_000_000_000
_MAX_UPTIME_US = 100_000_000_000


class Machine:
    """One of the machines of a world.

    Attributes:
        name: by which the nemesis knows it.
        host: its address.
        boot_id: another one after each loss of power.
        process: the latest life, None before the first.
        on: False from a loss of power to the next `boot`: nobody answers, not even to refuse.
        rate: how fast its clocks run; 1.0 is right.
        clock_changes: how often the rate was changed or the machine started anew.
    """

    def __init__(self, world: "World", name: str, host: str) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.disk = SimDisk(world)
        self.process: Process | None = None
        self.lives = 0
        self.rate = 1.0
        self.clock_changes = 0
        self._wall_offset_us = _WALL_BASE_US
        self.boot_id = ""
        self.on = False
        self._switch_on()

    def _switch_on(self) -> None:
        rng = self.world.rng
        self.boot_id = f"{rng.getrandbits(64):016x}"
        self.clock_changes += 1
        uptime_us = rng.randrange(_MAX_UPTIME_US)
        # Switching off and on leaves the wall clock where it was.
        if self.clock_changes > 1:
            self._wall_offset_us += self.local_us() - uptime_us
        self._since_us = self.world.now_us
        self._base_us = uptime_us
        self.on = True
        self.world.net.switched_on(self.name)

    # --- life -----------------------------------------------------------------------------------

    def boot(self) -> Process:
        """Start a process; there must be none."""
        if self.process is not None and self.process.alive:
            raise ValueError(f"{self.name} runs already")
        if not self.on:
            self._switch_on()
        self.lives += 1
        self.process = Process(self, self.lives)
        return self.process

    def power_loss(self, loss: Loss | None = None) -> None:
        """Everything stops, and what was not synced is partly gone; the peers hear nothing.

        The machine stays off until `boot`.

        Args:
            loss: what happens to unsynced bytes; by default chance decides.
        """
        if self.process is not None:
            self.process.kill(quietly=True)
        rng = self.world.rng
        self.disk.power_loss(rng.choice(list(Loss)) if loss is None else loss, rng)
        self.on = False

    # --- clocks ---------------------------------------------------------------------------------

    def local_us(self) -> int:
        """The clock that never steps, microseconds."""
        passed_us = self.world.now_us - self._since_us
        return self._base_us + (passed_us if self.rate == 1.0 else int(passed_us * self.rate))

    def world_delay_us(self, local_us: int) -> int:
        """After how much simulated time the own clock has gone on by so much; never less."""
        return local_us if self.rate == 1.0 else int(local_us / self.rate) + 2

    def mono_ms(self) -> int:
        """The clock that never steps, milliseconds."""
        return self.local_us() // 1000

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as this machine believes."""
        return (self._wall_offset_us + self.local_us()) // 1000

    def step_wall(self, ms: int) -> None:
        """Set the wall clock forward or back."""
        self._wall_offset_us += ms * 1000

    def set_drift(self, rate: float) -> None:
        """Let the clocks run faster (1.05) or slower (0.95) from now on."""
        self._base_us = self.local_us()
        self._since_us = self.world.now_us
        self.rate = rate
        self.clock_changes += 1

    def clock(self) -> Callable[[], int]:
        """`mono_ms` as one lean function, for the hottest callers."""
        world = self.world

        def mono_ms() -> int:
            passed_us = world.now_us - self._since_us
            rate = self.rate
            return (self._base_us + (passed_us if rate == 1.0 else int(passed_us * rate))) // 1000

        return mono_ms

    def __repr__(self) -> str:
        return f"Machine({self.name})"
