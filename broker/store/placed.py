"""Records that a leader has appended itself: dispatch knows them without a look at the log."""

from collections import deque
from typing import NamedTuple


class PlacedRecord(NamedTuple):
    """A message and its place; it has a queue, and is none of the internal topic.

    Attributes:
        log_index: of its entry.
        end_pos: byte of the log after it.
        store_ms: its store time, ms since 1970.
        queue: topic and queue id.
        queue_offset: its place there.
        tags_code: of its tag.
        unit: of its queue, as it lies in the file.
    """

    log_index: int
    end_pos: int
    store_ms: int
    queue: tuple[str, int]
    queue_offset: int
    tags_code: int
    unit: bytes


class PlacedRecords:
    """What was appended in one term, in the order of the log; gaps are what is not known here.

    Attributes:
        term: in which it was appended.
    """

    def __init__(self) -> None:
        self.term = -1
        self._records: deque[PlacedRecord] = deque()

    def __len__(self) -> int:
        return len(self._records)

    def note(self, term: int, record: PlacedRecord) -> None:
        """A record was appended in `term`, behind all others."""
        if term != self.term:
            self.forget()
            self.term = term
        self._records.append(record)

    def forget(self) -> None:
        """The term has ended, or something did not get into the log."""
        self._records.clear()

    def take(self, first: int, last: int, most: int) -> list[PlacedRecord]:
        """Those of the entries from `first` on, up to `last`, `most`, or the first unknown one.

        What lies before `first` is forgotten.
        """
        records = self._records
        taken: list[PlacedRecord] = []
        while records and records[0].log_index < first:
            records.popleft()
        while records and records[0].log_index == first <= last and len(taken) < most:
            taken.append(records.popleft())
            first += 1
        return taken
