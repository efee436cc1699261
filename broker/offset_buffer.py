"""Consumer offsets on their way into the log: visible at once, written together.

Invariant: an offset stays here until a record that holds it is applied, or until this node no
longer leads.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

from ledgermq.remoting.errors import PeerError

from .metadata import Offsets, OffsetsPut
from .writer import AppendResult, OnDone

# What an offset takes in a record besides its names: numbers, lengths.
_OFFSET_BYTES = 32


class OffsetBuffer:
    """Offsets by group, topic and queue that moved since they were last applied."""

    def __init__(
        self,
        interval_ms: int,
        max_record_bytes: int,
        *,
        may_write: Callable[[], bool],
        write: Callable[[OffsetsPut, OnDone], None],
    ) -> None:
        """`write` appends one record; it is called only while `may_write` says so."""
        self._interval_s = interval_ms / 1000
        self._max_record_bytes = max_record_bytes
        self._may_write = may_write
        self._write = write
        self._moved: Offsets = {}
        self._timer: asyncio.TimerHandle | None = None

    def get(self, group: str, topic: str, queue_id: int) -> int | None:
        """The offset, when it moved; None: see the metadata."""
        return self._moved.get(group, {}).get(topic, {}).get(queue_id)

    def put(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """Take an offset; it is written within the interval."""
        self._moved.setdefault(group, {}).setdefault(topic, {})[queue_id] = offset
        self._arm()

    def _arm(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._interval_s, self.flush)

    def flush(self) -> None:
        """Write what moved: one record, more only when one would be too large."""
        self._disarm()
        if not self._moved or not self._may_write():
            return
        for moved in list(self._records()):
            self._write(OffsetsPut(offsets=moved), partial(self._written, moved))

    def _records(self) -> Iterator[Offsets]:
        record: Offsets = {}
        size = 0
        for group, by_topic in self._moved.items():
            for topic, queues in by_topic.items():
                for queue_id, offset in queues.items():
                    # 4 bytes at most for each character of UTF-8.
                    more = 4 * (len(group) + len(topic)) + _OFFSET_BYTES
                    if record and size + more > self._max_record_bytes:
                        yield record
                        record, size = {}, 0
                    record.setdefault(group, {}).setdefault(topic, {})[queue_id] = offset
                    size += more
        yield record

    def _written(self, moved: Offsets, result: AppendResult | PeerError) -> None:
        """A record is applied, or refused: then it goes again."""
        if not isinstance(result, PeerError):
            for group, by_topic in moved.items():
                for topic, queues in by_topic.items():
                    waiting = self._moved.get(group, {}).get(topic, {})
                    for queue_id, offset in queues.items():
                        if waiting.get(queue_id) == offset:
                            del waiting[queue_id]
            self._drop_empty()
        if self._moved and self._may_write():
            self._arm()

    def _drop_empty(self) -> None:
        self._moved = {
            group: kept
            for group, by_topic in self._moved.items()
            if (kept := {topic: queues for topic, queues in by_topic.items() if queues})
        }

    def drop_topic(self, topic: str) -> None:
        """The topic was deleted."""
        for by_topic in self._moved.values():
            by_topic.pop(topic, None)
        self._drop_empty()

    def drop_group(self, group: str) -> None:
        """The group was deleted, its offsets too."""
        self._moved.pop(group, None)

    def clear(self) -> None:
        """This node does not lead any more: what is not in the log is lost."""
        self._moved.clear()
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
