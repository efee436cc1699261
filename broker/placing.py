"""Places for records, and the appends that wait until theirs can be read.

The same for every kind of log: a record gets the next offset of its queue and a place in the log,
is staged, and is answered when dispatch has reached it.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ledgermq.dledger.errors import InvariantError
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError

from .record_builder import RecordBuilder
from .writer import AppendResult, OnDone, OutgoingRecord

log = logging.getLogger(__name__)


class RecordLog(Protocol):
    """Where records go."""

    def reserve(self, record_bytes: int) -> int:
        """Physical offset of the next record of this length; then `stage` it."""

    def stage(self, record: bytes) -> int:
        """Add a record at the place `reserve` named; its mark, which rises with every record."""

    def reserve_run(self, sizes: Sequence[int]) -> list[int]:
        """Physical offsets of the next records of these lengths; then `stage_run` them."""

    def stage_run(self, records: Sequence[bytes]) -> int:
        """Add records at the places `reserve_run` named; the last one's mark."""


# The message, its offsets, its mark, bytes of its record.
OnPlaced = Callable[[OutgoingRecord, AppendResult, int, int], None]


class _Pending(NamedTuple):
    """An append that waits; `size` in bytes."""

    mark: int
    size: int
    result: AppendResult
    on_done: OnDone
    queue: tuple[str, int]


class Placing:
    """Appends under way.

    Invariants: they are in the order of the log; every `on_done` is called exactly once; offsets
    given in a queue are dense.

    Attributes:
        log: where records go.
        pending_bytes: of the records that wait.
    """

    def __init__(
        self,
        records: RecordBuilder,
        log: RecordLog,
        queue_end: Callable[[str, int], int],
        *,
        on_placed: OnPlaced | None = None,
    ) -> None:
        """Place nothing yet.

        Args:
            records: builds records.
            log: where they go.
            queue_end: offset of the next message that dispatch expects in a queue.
            on_placed: hears of each record that was staged, in a log whose marks count records.
        """
        self._records = records
        self._on_placed = on_placed
        self.log = log
        self._queue_end = queue_end
        self._pending: deque[_Pending] = deque()
        self._next_offsets: dict[tuple[str, int], int] = {}
        self.pending_bytes = 0

    @property
    def pending_count(self) -> int:
        """Appends that wait."""
        return len(self._pending)

    def is_full(self, max_count: int, max_bytes: int) -> bool:
        """Whether no more may wait."""
        return len(self._pending) >= max_count or self.pending_bytes >= max_bytes

    def place(self, m: OutgoingRecord, on_done: OnDone) -> AppendResult:
        """Give a record its offsets and stage it; nothing has changed when this raises."""
        key = (m.topic, m.queue_id)
        queue_offset = self._next_offsets.get(key)
        if queue_offset is None:
            queue_offset = self._queue_end(*key)
        offset = self.log.reserve(self._records.size(m))
        record = self._records.encode(m, queue_offset, offset)
        result = AppendResult(queue_offset, offset)
        mark, size = self.log.stage(record), len(record)
        self._pending.append(_Pending(mark, size, result, on_done, key))
        self.pending_bytes += size
        self._next_offsets[key] = queue_offset + 1
        if self._on_placed is not None:
            self._on_placed(m, result, mark, size)
        return result

    def place_all(self, messages: Sequence[OutgoingRecord], on_done: OnDone) -> list[AppendResult]:
        """`place` a batch; `on_done` is called once, for all of it.

        Args:
            messages: at least one; all of one queue, and sent by one client.
            on_done: gets the result of the last one.
        """
        first, count = messages[0], len(messages)
        key = (first.topic, first.queue_id)
        queue_offset = self._next_offsets.get(key)
        if queue_offset is None:
            queue_offset = self._queue_end(*key)
        around = self._records.size(first) - len(first.body) - len(first.properties)
        sizes = [around + len(m.body) + len(m.properties) for m in messages]
        offsets = self.log.reserve_run(sizes)
        records = self._records.encode_run(messages, queue_offset, offsets)
        if [*map(len, records)] != sizes:
            raise InvariantError(f"a batch of {key} with messages of several topics or clients")
        results = [AppendResult(queue_offset + n, offset) for n, offset in enumerate(offsets)]
        mark = self.log.stage_run(records)
        self._pending.append(_Pending(mark, sum(sizes), results[-1], on_done, key))
        self.pending_bytes += sum(sizes)
        self._next_offsets[key] = queue_offset + count
        if self._on_placed is not None:
            for at, message in enumerate(messages):
                self._on_placed(message, results[at], mark - count + 1 + at, sizes[at])
        return results

    def reached(self, mark: int) -> None:
        """Everything up to `mark` can be read: answer."""
        while self._pending and self._pending[0].mark <= mark:
            done = self._pending.popleft()
            self.pending_bytes -= done.size
            _settle(done.on_done, done.result)

    def fail_after(self, mark: int, refusal: PeerError) -> None:
        """What was staged after `mark` is not in the log."""
        failed = [p for p in self._pending if p.mark > mark]
        for _ in failed:
            self.pending_bytes -= self._pending.pop().size
        self._next_offsets.clear()
        # Offsets of appends that are written but not dispatched count too.
        for pending in self._pending:
            self._next_offsets[pending.queue] = pending.result.queue_offset + 1
        for pending in failed:
            _settle(pending.on_done, refusal)

    def fail_all(self, reason: str) -> None:
        """Nobody will learn here what became of them."""
        refusal = PeerError(
            ResponseCode.SYSTEM_ERROR, f"{reason}: the message may be stored; send it again"
        )
        pending, self._pending = self._pending, deque()
        self.pending_bytes = 0
        for p in pending:
            _settle(p.on_done, refusal)

    def forget_offsets(self) -> None:
        """The next offset of a queue is what dispatch says."""
        self._next_offsets.clear()

    def forget_topic(self, name: str) -> None:
        """The topic was deleted; one of that name begins at 0 again."""
        for key in [k for k in self._next_offsets if k[0] == name]:
            del self._next_offsets[key]
        self._records.forget_topic(name)


def ignore(_result: AppendResult | PeerError) -> None:
    """Nobody waits for this one."""


def _settle(on_done: OnDone, result: AppendResult | PeerError) -> None:
    """Tell one; what goes wrong there must not keep the others from their answers."""
    try:
        on_done(result)
    except Exception:
        log.exception("an append could not be answered")
