"""From records to units of their queues."""

from ledgermq.broker.metadata import Metadata
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.store import entry
from ledgermq.remoting.errors import StorageError
from ledgermq.remoting.message_record import RecordPeek

from .consume_queue import ConsumeQueue
from .queue_runs import QueueKey, QueueRuns, read_runs
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

    def read_runs(self, data: bytes, at: int, log_index: int) -> tuple[QueueRuns, int] | None:
        """See `queue_runs.read_runs`."""
        return read_runs(data, at, log_index, self._codes)

    def place_all(self, runs: QueueRuns) -> dict[QueueKey, list[int]]:
        """Add the units of messages between which the metadata does not change.

        Returns:
            The tags codes of the messages that arrived, by queue.

        Raises:
            StorageError: a message's queue offset is not the queue's next.
        """
        arrivals: dict[QueueKey, list[int]] = {}
        for key, run in runs.runs.items():
            queue = self._queue_at(run.log_index, *key, run.queue_offset)
            if queue is not None:
                self._queues.append_packed(queue, run.units, len(run.tags_codes))
                arrivals[key] = run.tags_codes
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
