"""The two clocks, in milliseconds."""

import time


def wall_ms() -> int:
    """Milliseconds since 1970: for timestamps that leave this process."""
    return time.time_ns() // 1_000_000


def mono_ms() -> int:
    """Milliseconds of a clock that never steps: for deadlines."""
    return time.monotonic_ns() // 1_000_000
