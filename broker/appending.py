"""What clients append: refused by the rules that hold for every kind of log, or placed."""

from collections.abc import Callable, Container, Sequence

from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError

from .config_fields import BrokerConfig
from .metadata import Metadata
from .placing import Placing
from .record_builder import RecordBuilder
from .stats import BrokerStats
from .writer import AppendResult, OnDone, OnEachDone, OutgoingRecord


class Appending:
    """Implements `MessageAppender` of `writer.py` for a node."""

    def __init__(
        self,
        config: BrokerConfig,
        metadata: Metadata,
        stats: BrokerStats,
        records: RecordBuilder,
        placing: Placing,
        *,
        refusal: Callable[[], PeerError | None],
        deleting: Container[str],
        place: Callable[[OutgoingRecord, OnDone], AppendResult],
        place_all: Callable[[Sequence[OutgoingRecord], OnDone], list[AppendResult]],
        place_each: Callable[[Sequence[OutgoingRecord], OnEachDone], object] | None,
    ) -> None:
        """Append for one node.

        Args:
            config: of this broker.
            metadata: knows the topics.
            stats: counters.
            records: tells what fits.
            placing: appends that wait.
            refusal: why this node takes nothing now, or None.
            deleting: topics that are being deleted.
            place: how a message is placed whose sender waits for the answer.
            place_all: the same for a batch.
            place_each: the same for messages that need not belong together; None: one by one.
        """
        self._config = config
        self._metadata = metadata
        self._stats = stats
        self._records = records
        self._placing = placing
        self._node_refusal = refusal
        self._deleting = deleting
        self._place = place
        self._place_all = place_all
        self._place_each = place_each

    def append(self, message: OutgoingRecord, on_done: OnDone) -> None:
        """See `MessageAppender.append`."""
        refusal = self._refusal(message.topic) or self._records.misfit(message)
        if refusal is not None:
            on_done(refusal)
            return
        self._place(message, on_done)
        self._stats.on_put(1, len(message.body))

    def append_all(self, messages: list[OutgoingRecord], on_done: OnDone) -> list[AppendResult]:
        """See `MessageAppender.append_all`."""
        refusal = self._refusal(messages[0].topic)
        if refusal is None:
            refusal = next(filter(None, map(self._records.misfit, messages)), None)
        if refusal is not None:
            on_done(refusal)
            return []
        results = self._place_all(messages, on_done)
        self._stats.on_put(len(messages), sum(len(m.body) for m in messages))
        return results

    def append_each(self, messages: list[OutgoingRecord], on_done: OnEachDone) -> bool:
        """See `MessageAppender.append_each`."""
        count, size = len(messages), sum(self._records.sizes(messages))
        if (
            self._place_each is None
            or any(self._refusal(topic, count, size) for topic in {m.topic for m in messages})
            or any(map(self._records.misfit, messages))
        ):
            return False
        self._place_each(messages, on_done)
        self._stats.on_put(count, sum(len(m.body) for m in messages))
        return True

    def _refusal(self, topic: str, count: int = 1, size: int = 1) -> PeerError | None:
        """Why this node takes no message of a topic; for many, with their number and sizes."""
        refusal = self._node_refusal()
        if refusal is not None:
            return refusal
        config = self._config
        placing, max_bytes = self._placing, config.max_pending_send_bytes
        if placing.is_full(config.send_queue_capacity, max_bytes, count, size):
            return PeerError(
                ResponseCode.SYSTEM_BUSY,
                "[PC_SYNCHRONIZED]broker busy, start flow control for a while",
            )
        if topic not in self._metadata.topics or topic in self._deleting:
            return PeerError(ResponseCode.TOPIC_NOT_EXIST, f"topic {topic} does not exist")
        return None
