"""Zeros written ahead of the log's end, by a thread.

An fdatasync of bytes in a hole of a sparse file must also write the file's new extents; over zeros
that are there already it writes the bytes alone. At most 32 MiB of zeros lie ahead, so that a fresh
store stays small.
"""

from concurrent.futures import Executor, Future

from ledgermq.dledger.errors import DiskFullError

from .segments import Segments

_STEP_BYTES = 8 << 20
# A new step is begun when less than this is ready.
_LOW_BYTES = 4 << 20
# The thread starts so far behind the end: appends do not meet it at once.
_GUARD_BYTES = 2 << 20


class ZeroAhead:
    """Zeroes steps of 8 MiB.

    Invariant: no append touches the step that is being zeroed; `before_write` waits for it.
    """

    def __init__(self, segments: Segments, executor: Executor) -> None:
        self._segments = segments
        self._executor = executor
        # Everything below was zeroed or written; within one segment.
        self._ready_to = 0
        self._start = 0
        self._running: Future[None] | None = None

    def before_write(self, end: int) -> None:
        """To be called before bytes are written up to `end` (exclusive)."""
        if self._running is not None and end > self._start:
            self.settle()

    def after_write(self, end: int) -> None:
        """The log ends at `end` now: begin the next step if little is ready."""
        if self._running is not None:
            if not self._running.done():
                return
            self._running = None
        if self._ready_to - end >= _LOW_BYTES:
            return
        segment_end = end - end % self._segments.segment_bytes + self._segments.segment_bytes
        start = max(self._ready_to, end + _GUARD_BYTES)
        stop = min(start + _STEP_BYTES, segment_end)
        if start >= stop:
            return
        self._start, self._ready_to = start, stop
        self._running = self._executor.submit(self._zero, start, stop)

    def _zero(self, start: int, stop: int) -> None:
        try:
            self._segments.zero(start, stop)
        except DiskFullError:
            # The write that needs the room will say so.
            return

    def settle(self) -> None:
        """Wait for the step under way: the log is to be cut, closed, or has caught up with it."""
        if self._running is not None:
            self._running.exception()
            self._running = None

    def cut(self, end: int) -> None:
        """The log was cut to `end`; what lies behind may have been removed."""
        self._ready_to = min(self._ready_to, end)
