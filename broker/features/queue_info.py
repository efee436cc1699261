"""Where queues begin and end, and single messages: 29, 30, 31, 32, 33."""

from functools import partial
from typing import Final

from ledgermq.broker import topics
from ledgermq.broker.writer import QueueReader
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.offset import (
    EarliestStoreTimeResponse,
    OffsetResponse,
    QueueOffsetRequest,
    SearchOffsetRequest,
)
from ledgermq.remoting.headers.query import ViewMessageRequest
from ledgermq.remoting.message import peek_record
from ledgermq.remoting.registry import ProcessorRegistry

# Not 33: clients dial the host inside a message id, so every node answers for what is committed.
LEADER_CODES: Final[frozenset[int]] = frozenset(
    {
        RequestCode.SEARCH_OFFSET_BY_TIMESTAMP,
        RequestCode.GET_MAX_OFFSET,
        RequestCode.GET_MIN_OFFSET,
        RequestCode.GET_EARLIEST_MSG_STORETIME,
    }
)
_INTERNAL_TOPIC_BYTES = topics.INTERNAL_TOPIC.encode()


def register(registry: ProcessorRegistry, queues: QueueReader) -> None:
    """Serve 29 to 33."""
    registry.add(RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, partial(search_offset, queues))
    registry.add(RequestCode.GET_MAX_OFFSET, partial(max_offset, queues))
    registry.add(RequestCode.GET_MIN_OFFSET, partial(min_offset, queues))
    registry.add(RequestCode.GET_EARLIEST_MSG_STORETIME, partial(earliest_store_time, queues))
    registry.add(RequestCode.VIEW_MESSAGE_BY_ID, partial(view_message, queues))


async def search_offset(
    queues: QueueReader, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """29: the queue offset at a store time."""
    header = SearchOffsetRequest.of(command)
    topics.refuse_internal(header.topic)
    upper = (header.boundary_type or "").lower() == "upper"
    offset = await queues.offset_by_time(header.topic, header.queue_id, header.timestamp, upper)
    return _offset(offset)


def max_offset(
    queues: QueueReader, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """30: the offset of the next message; 0 for a queue nobody has written to."""
    header = _queue(command)
    return _offset(queues.max_offset(header.topic, header.queue_id))


def min_offset(
    queues: QueueReader, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """31: the offset of the oldest message kept."""
    header = _queue(command)
    return _offset(queues.min_offset(header.topic, header.queue_id))


async def earliest_store_time(
    queues: QueueReader, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """32: the store time of the oldest message kept, -1 without one."""
    header = _queue(command)
    oldest = queues.min_offset(header.topic, header.queue_id)
    stored_ms = await queues.store_time_at(header.topic, header.queue_id, oldest)
    answer = EarliestStoreTimeResponse(timestamp=-1 if stored_ms is None else stored_ms)
    return response(ResponseCode.SUCCESS, ext=answer.to_ext())


async def view_message(
    queues: QueueReader, _connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """33: the record at a commitlog offset, which a message id carries."""
    header = ViewMessageRequest.of(command)
    record = await queues.read_record(header.offset)
    if record is None or peek_record(record).topic == _INTERNAL_TOPIC_BYTES:
        raise PeerError(
            ResponseCode.SYSTEM_ERROR, f"no message begins at commitlog offset {header.offset}"
        )
    return response(ResponseCode.SUCCESS, body=record)


def _queue(command: RemotingCommand) -> QueueOffsetRequest:
    header = QueueOffsetRequest.of(command)
    topics.refuse_internal(header.topic)
    return header


def _offset(offset: int) -> RemotingCommand:
    return response(ResponseCode.SUCCESS, ext=OffsetResponse(offset=offset).to_ext())
