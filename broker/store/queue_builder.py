"""From records to units of their queues."""

from ledgermq.broker.metadata import Metadata
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.store import entry
from ledgermq.remoting.errors import StorageError
from ledgermq.remoting.message_record import RecordPeek

from .consume_queue import ConsumeQueue, pack_unit
from .placed import PlacedRecord
from .queue_table import ConsumeQueues, QueueRow
from .tags_codes import TagsCodes, is_queued

_REFILL = (
    "Move this node's store away and start it again: it is filled from the leader. A node without"
    " others needs a copy of its store from before"
)


# Topic, queue id and tags code of a record that got a unit.
Placed = tuple[str, int, int]


class QueueBuilder:
    """Adds a unit per queued record; the order of the log is the caller's.

    Attributes:
        first_index: where the log begins. A queue of a topic that is older begins with the first
            record found; all other queues begin at 0. 0: all queues do.
    """

    def __init__(self, queues: ConsumeQueues, metadata: Metadata) -> None:
        self.first_index = 0
        self._queues = queues
        self._metadata = metadata
        self._codes = TagsCodes()

    def place(self, header: entry.EntryHeader, peek: RecordPeek) -> Placed | None:
        """Add the unit of one record; None: it is in no queue.

        Raises:
            StorageError: the record's queue offset is not the queue's next.
        """
        # A leader's no-op is of the rollback type: it is in no queue.
        if peek.sys_flag and not is_queued(peek.sys_flag):
            return None
        topic, code = peek.topic.decode(), self.tags_code(peek.properties)
        queue = self._queue_at(header.log_index, topic, peek.queue_id, peek.queue_offset)
        if queue is None:
            return None
        self._queues.append(queue, header.pos + entry.HEADER_BYTES, peek.size, code)
        return topic, peek.queue_id, code

    def placed(self, header: entry.EntryHeader, peek: RecordPeek) -> PlacedRecord:
        """What `place_all` takes, of a record that has a queue."""
        offset = header.pos + entry.HEADER_BYTES
        code = self._codes.of(peek.properties)
        return PlacedRecord(
            header.log_index,
            header.pos + header.size,
            peek.store_timestamp_ms,
            (peek.topic.decode(), peek.queue_id),
            peek.queue_offset,
            code,
            pack_unit(offset, peek.size, code),
        )

    def place_all(self, placed: list[PlacedRecord]) -> dict[tuple[str, int], list[int]]:
        """Add the units of records between which the metadata does not change.

        Returns:
            The tags codes of the messages that arrived, by queue.

        Raises:
            StorageError: a record's queue offset is not the queue's next.
        """
        by_queue: dict[tuple[str, int], list[PlacedRecord]] = {}
        for record in placed:
            records = by_queue.get(record.queue)
            if records is None:
                by_queue[record.queue] = [record]
            else:
                records.append(record)
        arrivals: dict[tuple[str, int], list[int]] = {}
        for key, records in by_queue.items():
            first, count = records[0], len(records)
            queue = self._queue_at(first.log_index, *key, first.queue_offset)
            if queue is None:
                continue
            end = first.queue_offset + count
            for record, offset in zip(records, range(first.queue_offset, end), strict=True):
                if record.queue_offset != offset:
                    raise _gap(record.log_index, *key, offset, record.queue_offset)
            self._queues.append_packed(queue, b"".join([r.unit for r in records]), count)
            arrivals[key] = [r.tags_code for r in records]
        return arrivals

    def tags_code(self, properties: bytes) -> int:
        """The tags code of a message with these properties."""
        return self._codes.of(properties)

    def _queue_at(
        self, index: int, topic: str, queue_id: int, queue_offset: int
    ) -> ConsumeQueue | None:
        """The queue that entry `index` continues at `queue_offset`; None: it is in no queue.

        Raises:
            StorageError: that is not the queue's next offset.
        """
        created = -1 if topic == INTERNAL_TOPIC else self._metadata.creation_index(topic)
        if created is None or created > index:
            return None  # of a topic that was deleted (and perhaps made again) meanwhile
        queue = self._queues.get(topic, queue_id)
        if queue_offset != queue.max_offset:
            if queue.max_offset or not self.first_index or created >= self.first_index:
                raise _gap(index, topic, queue_id, queue.max_offset, queue_offset)
            queue.reset(queue_offset)
        return queue

    def finish(self, rows: list[QueueRow]) -> None:
        """All queues were built from the log: they must end where the snapshot says.

        Raises:
            StorageError: they do not.
        """
        wanted = {(row.topic, row.queue_id): row for row in rows}
        built = {(row.topic, row.queue_id): row for row in self._queues.rows()}
        for key, row in wanted.items():
            if key not in built and self.first_index:
                # Its messages are gone, its offsets go on.
                self._queues.get(*key).reset(row.max_offset)
                built[key] = row
        for key in wanted.keys() | built.keys():
            ends = [t[key].max_offset if key in t else 0 for t in (wanted, built)]
            if ends[0] != ends[1]:
                raise StorageError(
                    f"queue {key[0]}/{key[1]} ends at {ends[0]} by the snapshot and at {ends[1]} by"
                    f" the log. {_REFILL}"
                )


def _gap(index: int, topic: str, queue_id: int, wanted: int, found: int) -> StorageError:
    return StorageError(
        f"entry {index}: queue {topic}/{queue_id} continues at {wanted}, the record says {found}."
        f" {_REFILL}"
    )
