"""From a message to the bytes of its record: times that never fall, sizes that fit the log."""

from collections.abc import Callable, Sequence

from ledgermq.compiled import twin_in
from ledgermq.dledger.store import entry
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message import MAX_PROPERTIES_BYTES
from ledgermq.remoting.message_id import pack_host
from ledgermq.remoting.message_record import encode_record

from . import topics
from .config_fields import BrokerConfig
from .metadata import Op, encode_op
from .writer import OutgoingRecord

# Fixed part of a record with IPv4 hosts and a one-byte topic length; see message-format §1.
_FIXED_BYTES = 91
_V6_EXTRA_BYTES = 12
# More than everything in a log file besides body and properties of one record.
_AROUND_BYTES = 1024


@twin_in("_record")
def encode_records(
    messages: Sequence[OutgoingRecord],
    topics: Sequence[bytes],
    queue_offsets: Sequence[int],
    offsets: Sequence[int],
    store_timestamp_ms: int,
    store_host: bytes,
) -> list[bytes]:
    """Records that follow each other in the log; errors as of `encode_record`.

    Args:
        messages: what they hold.
        topics: topic of each, in UTF-8.
        queue_offsets: of each.
        offsets: physical offset of each.
        store_timestamp_ms: of all of them, ms since 1970.
        store_host: see `encode_record`.
    """
    return [
        encode_record(
            topic=topic,
            queue_id=m.queue_id,
            flag=m.flag,
            queue_offset=queue_offset,
            physical_offset=offset,
            sys_flag=m.sys_flag,
            born_timestamp_ms=m.born_timestamp_ms,
            born_host=m.born_host,
            store_timestamp_ms=store_timestamp_ms,
            store_host=store_host,
            reconsume_times=m.reconsume_times,
            prepared_transaction_offset=m.prepared_transaction_offset,
            body=m.body,
            properties=m.properties,
        )
        for m, topic, queue_offset, offset in zip(
            messages, topics, queue_offsets, offsets, strict=True
        )
    ]


class RecordBuilder:
    """Builds records for this node as their store host.

    Attributes:
        last_store_ms: store time of the last record built, ms since 1970.
    """

    def __init__(
        self,
        config: BrokerConfig,
        last_in_log_ms: Callable[[], int],
        wall_ms: Callable[[], int] = wall_ms,
    ) -> None:
        """`last_in_log_ms` tells the store time of the last record dispatched."""
        self._wall_ms = wall_ms
        self._segment_bytes = config.mapped_file_size_commit_log
        self._store_host = pack_host(config.address)
        self._last_in_log_ms = last_in_log_ms
        self.last_store_ms = 0
        self._topics: dict[str, bytes] = {}

    def internal(self, op: Op) -> OutgoingRecord:
        """The record of a change of the metadata."""
        return OutgoingRecord(
            topic=topics.INTERNAL_TOPIC,
            queue_id=0,
            body=encode_op(op),
            properties=b"",
            flag=0,
            sys_flag=0,
            born_timestamp_ms=self._store_ms(),
            born_host=self._store_host,
        )

    def misfit(self, m: OutgoingRecord) -> PeerError | None:
        """Why a record can lie nowhere in the log; None when it can."""
        properties_bytes = len(m.properties)
        if properties_bytes > MAX_PROPERTIES_BYTES:
            return PeerError(
                ResponseCode.MESSAGE_ILLEGAL,
                f"the properties have {properties_bytes} bytes with those the broker adds, more"
                f" than {MAX_PROPERTIES_BYTES}",
            )
        if len(m.body) + properties_bytes <= self._segment_bytes - _AROUND_BYTES:
            return None
        size = entry.HEADER_BYTES + self.size(m) + entry.BLANK_BYTES
        if size <= self._segment_bytes:
            return None
        return PeerError(
            ResponseCode.MESSAGE_ILLEGAL,
            f"a record of {size} bytes does not fit a log file of {self._segment_bytes} bytes"
            " (mappedFileSizeCommitLog)",
        )

    def size(self, m: OutgoingRecord) -> int:
        """Bytes of the record."""
        topic = len(self._topic(m.topic))
        size = _FIXED_BYTES + topic + len(m.body) + len(m.properties) + (1 if topic > 127 else 0)
        size += _V6_EXTRA_BYTES if len(m.born_host) > 8 else 0
        return size + (_V6_EXTRA_BYTES if len(self._store_host) > 8 else 0)

    def sizes(self, messages: Sequence[OutgoingRecord]) -> list[int]:
        """`size` of each."""
        sizes: list[int] = []
        topic, host_bytes, around = None, 0, 0
        for m in messages:
            variable = len(m.body) + len(m.properties)
            if m.topic != topic or len(m.born_host) != host_bytes:
                topic, host_bytes = m.topic, len(m.born_host)
                around = self.size(m) - variable
            sizes.append(around + variable)
        return sizes

    def encode(self, m: OutgoingRecord, queue_offset: int, physical_offset: int) -> bytes:
        """The record, of the length that `size` says.

        Raises:
            RecordError: a number does not fit its field.
        """
        return encode_record(
            topic=self._topic(m.topic),
            queue_id=m.queue_id,
            flag=m.flag,
            queue_offset=queue_offset,
            physical_offset=physical_offset,
            sys_flag=m.sys_flag,
            born_timestamp_ms=m.born_timestamp_ms,
            born_host=m.born_host,
            store_timestamp_ms=self._store_ms(),
            store_host=self._store_host,
            reconsume_times=m.reconsume_times,
            prepared_transaction_offset=m.prepared_transaction_offset,
            body=m.body,
            properties=m.properties,
        )

    def encode_run(
        self,
        messages: Sequence[OutgoingRecord],
        queue_offsets: Sequence[int],
        offsets: Sequence[int],
    ) -> list[bytes]:
        """`encode` messages that follow each other in the log.

        Args:
            messages: at least one.
            queue_offsets: of each.
            offsets: physical offset of each.
        """
        return encode_records(
            messages,
            [self._topic(m.topic) for m in messages],
            queue_offsets,
            offsets,
            self._store_ms(),
            self._store_host,
        )

    def forget_topic(self, name: str) -> None:
        """The topic was deleted."""
        self._topics.pop(name, None)

    def _topic(self, name: str) -> bytes:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = name.encode()
        return topic

    def _store_ms(self) -> int:
        """The wall clock, but never before the last record: times in the log do not fall."""
        self.last_store_ms = max(self._wall_ms(), self.last_store_ms, self._last_in_log_ms())
        return self.last_store_ms
