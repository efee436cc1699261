"""What clients append: refused by the rules that hold for every kind of log, or placed."""

from collections.abc import Callable, Container

from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError

from .config_fields import BrokerConfig
from .metadata import Metadata
from .placing import Placing, ignore
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
        """
        self._config = config
        self._metadata = metadata
        self._stats = stats
        self._records = records
        self._placing = placing
        self._node_refusal = refusal
        self._deleting = deleting
        self._place = place

    def append(self, message: OutgoingRecord, on_done: OnDone) -> None:
        """See `MessageAppender.append`."""
        refusal = self._refusal(message)
        if refusal is not None:
            on_done(refusal)
            return
        self._place(message, on_done)
        self._stats.on_put(1, len(message.body))

    def append_all(self, messages: list[OutgoingRecord], on_done: OnDone) -> list[AppendResult]:
        """See `MessageAppender.append_all`."""
        for message in messages:
            refusal = self._refusal(message)
            if refusal is not None:
                on_done(refusal)
                return []
        results = [self._placing.place(m, ignore) for m in messages[:-1]]
        results.append(self._place(messages[-1], on_done))
        self._stats.on_put(len(messages), sum(len(m.body) for m in messages))
        return results

    def _refusal(self, message: OutgoingRecord) -> PeerError | None:
        refusal = self._node_refusal()
        if refusal is not None:
            return refusal
        config = self._config
        if self._placing.is_full(config.send_queue_capacity, config.max_pending_send_bytes):
            return PeerError(
                ResponseCode.SYSTEM_BUSY,
                "[PC_SYNCHRONIZED]broker busy, start flow control for a while",
            )
        if message.topic not in self._metadata.topics or message.topic in self._deleting:
            return PeerError(ResponseCode.TOPIC_NOT_EXIST, f"topic {message.topic} does not exist")
        return self._records.misfit(message)
