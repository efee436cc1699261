"""What clients append: refused by the rules that hold for every kind of log, or placed."""

from collections.abc import Callable, Container, Sequence

from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError

from .config_fields import BrokerConfig
from .metadata import Metadata
from .placing import Placing
from .record_builder import RecordBuilder
from .stats import BrokerStats
from .writer import AppendResult, OnDone, OutgoingRecord


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

    def _refusal(self, topic: str) -> PeerError | None:
        refusal = self._node_refusal()
        if refusal is not None:
            return refusal
        config = self._config
        if self._placing.is_full(config.send_queue_capacity, config.max_pending_send_bytes):
            return PeerError(
                ResponseCode.SYSTEM_BUSY,
                "[PC_SYNCHRONIZED]broker busy, start flow control for a while",
            )
        if topic not in self._metadata.topics or topic in self._deleting:
            return PeerError(ResponseCode.TOPIC_NOT_EXIST, f"topic {topic} does not exist")
        return None
