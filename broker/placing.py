"""Places for records, and the appends that wait until theirs can be read.

The same for every kind of log: a record gets the next offset of its queue and a place in the log,
is staged, and is answered when dispatch has reached it.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ledgermq.dledger.errors import InvariantError
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError

from .record_builder import RecordBuilder
from .writer import AppendResult, OnDone, OnEachDone, OutgoingRecord

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
QueueKey = tuple[str, int]


class _Pending(NamedTuple):
    """An append that waits; `size` in bytes."""

    mark: int
    size: int
    result: AppendResult
    on_done: OnDone
    queue: QueueKey
    senders: int = 1

    def next_offsets(self) -> dict[QueueKey, int]:
        """What follows it in its queue."""
        return {self.queue: self.result.queue_offset + 1}


class _PendingRun(NamedTuple):
    """Appends that follow each other and are settled as one."""

    mark: int
    size: int
    result: list[AppendResult]
    on_done: OnEachDone
    queues: list[QueueKey]
    senders: int

    def next_offsets(self) -> dict[QueueKey, int]:
        """What follows the last one of each queue."""
        return {q: r.queue_offset + 1 for q, r in zip(self.queues, self.result, strict=True)}


class Placing:
    """Appends under way.

    Invariants: they are in the order of the log; every `on_done` is called exactly once; offsets
    given in a queue are dense.

    Attributes:
        log: where records go.
        pending_count: senders that wait.
        pending_bytes: of their records.
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
        self._pending: deque[_Pending | _PendingRun] = deque()
        self._next_offsets: dict[QueueKey, int] = {}
        self.pending_count = 0
        self.pending_bytes = 0

    def is_full(self, max_count: int, max_bytes: int, count: int = 1, size: int = 1) -> bool:
        """Whether `count` senders with `size` bytes more may not wait."""
        return self.pending_count + count > max_count or self.pending_bytes + size > max_bytes

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
        self.pending_count += 1
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

        def done(results: list[AppendResult] | PeerError) -> None:
            on_done(results if isinstance(results, PeerError) else results[-1])

        return self._place_run(messages, done, senders=1)

    def place_each(self, messages: Sequence[OutgoingRecord], on_done: OnEachDone) -> None:
        """`place` messages of any queues, at least one, in their order, as one.

        Args:
            messages: at least one.
            on_done: see `MessageAppender.append_each`.
        """
        self._place_run(messages, on_done, senders=len(messages))

    def _place_run(
        self, messages: Sequence[OutgoingRecord], on_done: OnEachDone, senders: int
    ) -> list[AppendResult]:
        queues = [(m.topic, m.queue_id) for m in messages]
        queue_offsets, following = self._places_in(queues)
        sizes = self._records.sizes(messages)
        offsets = self.log.reserve_run(sizes)
        records = self._records.encode_run(messages, queue_offsets, offsets)
        if [*map(len, records)] != sizes:
            raise InvariantError(f"records of {[*map(len, records)]} bytes, {sizes} were expected")
        results = list(map(AppendResult, queue_offsets, offsets))
        mark = self.log.stage_run(records)
        self._pending.append(_PendingRun(mark, sum(sizes), results, on_done, queues, senders))
        self.pending_count += senders
        self.pending_bytes += sum(sizes)
        self._next_offsets.update(following)
        if self._on_placed is not None:
            first = mark - len(messages) + 1
            for n, message in enumerate(messages):
                self._on_placed(message, results[n], first + n, sizes[n])
        return results

    def _places_in(self, queues: Sequence[QueueKey]) -> tuple[list[int], dict[QueueKey, int]]:
        """The next offset of each of these queues in turn, and what then follows in each."""
        following: dict[QueueKey, int] = {}
        offsets: list[int] = []
        for queue in queues:
            offset = following.get(queue, self._next_offsets.get(queue))
            if offset is None:
                offset = self._queue_end(*queue)
            offsets.append(offset)
            following[queue] = offset + 1
        return offsets, following

    def reached(self, mark: int) -> None:
        """Everything up to `mark` can be read: answer."""
        while self._pending and self._pending[0].mark <= mark:
            done = self._pending.popleft()
            self.pending_count -= done.senders
            self.pending_bytes -= done.size
            _settle(done.on_done, done.result)

    def fail_after(self, mark: int, refusal: PeerError) -> None:
        """What was staged after `mark` is not in the log."""
        failed = [p for p in self._pending if p.mark > mark]
        for pending in failed:
            self._pending.pop()
            self.pending_count -= pending.senders
            self.pending_bytes -= pending.size
        self._next_offsets.clear()
        # Offsets of appends that are written but not dispatched count too.
        for pending in self._pending:
            self._next_offsets.update(pending.next_offsets())
        for pending in failed:
            _settle(pending.on_done, refusal)

    def fail_all(self, reason: str) -> None:
        """Nobody will learn here what became of them."""
        refusal = PeerError(
            ResponseCode.SYSTEM_ERROR, f"{reason}: the message may be stored; send it again"
        )
        pending, self._pending = self._pending, deque()
        self.pending_count = self.pending_bytes = 0
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


def _settle(on_done: Callable[[Any], None], outcome: object) -> None:
    """Tell one; what goes wrong there must not keep the others from their answers."""
    try:
        on_done(outcome)
    except Exception:
        log.exception("an append could not be answered")
