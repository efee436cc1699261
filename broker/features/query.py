"""Messages by key: 12."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from ledgermq.broker import topics
from ledgermq.broker.store.index_keys import keys_of
from ledgermq.broker.store.key_index import Found
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.headers.query import QueryMessageRequest, QueryMessageResponse
from ledgermq.remoting.message import peek_record
from ledgermq.remoting.registry import ProcessorRegistry

# Any node answers, from what is committed.
LEADER_CODES: Final[frozenset[int]] = frozenset()

# Whoever asks by message id gets so many. Source: defaultQueryMaxNum.
_UNIQUE_KEY_COUNT = 32
# Clients refuse frames of over 16 MiB.
_MAX_ANSWER_BYTES = 15 << 20
_NOT_FOUND = "can not find message, maybe time range not correct"


class KeyQueries(Protocol):
    """Finds records by key; see `IndexView`."""

    async def query(
        self, topic: str, key: str, max_count: int, begin_ms: int, end_ms: int
    ) -> Found:
        """Physical offsets of records that may have the key."""
        ...


class QueryService:
    """Answers from the key index and the log."""

    def __init__(
        self,
        index: KeyQueries | None,
        read_record: Callable[[int], Awaitable[bytes | None]],
        max_msgs_num_batch: int = 64,
    ) -> None:
        """Serve queries.

        Args:
            index: None without one (`messageIndexEnable=false`): nothing is found.
            read_record: the visible record at a physical offset.
            max_msgs_num_batch: most messages of an answer.
        """
        self._index = index
        self._read_record = read_record
        self._max_count = max_msgs_num_batch

    async def query(self, header: QueryMessageRequest) -> tuple[Found, bytes]:
        """What the index found, and the records that really fit, in the order of the log."""
        wanted = _UNIQUE_KEY_COUNT if header.unique_key_query else header.max_num
        count = min(wanted, self._max_count)
        if self._index is None or count <= 0:
            return Found([], 0, 0), b""
        found = await self._index.query(
            header.topic, header.key, count, header.begin_timestamp, header.end_timestamp
        )
        records: list[bytes] = []
        room = _MAX_ANSWER_BYTES
        for offset in dict.fromkeys(found.offsets):  # a key may stand twice in a record
            record = await self._read_record(offset)
            if record is None or not _fits(header, record):
                continue
            room -= len(record)
            if room < 0 and records:
                break
            records.append(record)
        return found, b"".join(reversed(records))


def _fits(header: QueryMessageRequest, record: bytes) -> bool:
    """Whether the record is what was asked for: the index knows hashes and seconds only."""
    peek = peek_record(record)
    return (
        peek.topic == header.topic.encode(errors="replace")
        and header.begin_timestamp <= peek.store_timestamp_ms <= header.end_timestamp
        and header.key.encode(errors="replace") in keys_of(peek.properties)
    )


def register(registry: ProcessorRegistry, service: QueryService) -> None:
    """Serve 12."""
    registry.add(RequestCode.QUERY_MESSAGE, partial(query_message, service))


async def query_message(
    service: QueryService, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """12: records that have a key, oldest first."""
    header = QueryMessageRequest.of(command)
    topics.refuse_internal(header.topic)
    found, records = await service.query(header)
    # Upstream tells how far its index is only when that had something.
    ends = (found.last_store_ms, found.last_offset) if found.offsets else (0, 0)
    answer = QueryMessageResponse(
        index_last_update_timestamp=ends[0], index_last_update_phyoffset=ends[1]
    )
    if not records:
        return response(ResponseCode.QUERY_NOT_FOUND, _NOT_FOUND, ext=answer.to_ext())
    return response(ResponseCode.SUCCESS, ext=answer.to_ext(), body=records)
