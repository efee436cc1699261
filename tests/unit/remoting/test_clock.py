"""The two clocks."""

import time

from ledgermq.remoting.clock import mono_ms, wall_ms


def test_both_clocks_count_milliseconds() -> None:
    before = time.time_ns(), time.monotonic_ns()
    wall, mono = wall_ms(), mono_ms()
    after = time.time_ns(), time.monotonic_ns()
    assert before[0] // 1_000_000 <= wall <= after[0] // 1_000_000
    assert before[1] // 1_000_000 <= mono <= after[1] // 1_000_000
