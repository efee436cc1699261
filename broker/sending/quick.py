"""The short way of nearly all sends: one message, JSON, straight from the client to the leader.

What is special in any way (a batch, a retry, a forwarded or one-way request, a topic to be made, an
error) is left alone and goes the long way, `features.send`, which is also the one that refuses.
Invariant: what goes the short way is stored and answered as the long way would.
"""

from collections.abc import Callable

import msgspec

from ledgermq.broker import topics
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.forward import FIELD_PREFIX
from ledgermq.broker.metadata import Metadata
from ledgermq.broker.writer import AppendResult, BrokerNode, OutgoingRecord
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import LedgerMQError, PeerError
from ledgermq.remoting.frame import SerializeType
from ledgermq.remoting.headers.base import Int32
from ledgermq.remoting.headers.send import SendMessageRequestV2
from ledgermq.remoting.message_id import pack_host
from ledgermq.remoting.message_types import SysFlag

from .answers import SendAnswers
from .rules import check

_CODE = int(RequestCode.SEND_MESSAGE_V2)
# A quote inside of a JSON text is escaped: this is a key, though perhaps not of the outer object.
_CODE_TEXT = b'"code":%d' % _CODE
# Wherever it stands: then the long way looks at every field.
_FORWARDED = FIELD_PREFIX.encode()
# Properties that may mean more than a value to keep: delays, transactions, aliases of topics.
_SPECIAL_PROPERTIES = ("DEL", "TRAN_MSG", topics.INTERNAL_TOPIC)
_PLAIN_FLAGS = SysFlag.COMPRESSED | SysFlag.MULTI_TAGS | SysFlag.COMPRESSION_MASK
_MIN_FRAME_BYTES = 4
_MAX_HEADER_BYTES = 64 << 10
_MAX_TOPICS = 10_000


class _Send(msgspec.Struct):
    """A whole header of such a send."""

    code: int
    extFields: SendMessageRequestV2
    language: str | int | None = None
    version: Int32 = 0
    opaque: Int32 = 0
    flag: Int32 = 0
    remark: str | None = None


_decode = msgspec.json.Decoder(_Send, strict=False).decode


class QuickSends:
    """Called for every frame before anything else; see `ProcessorRegistry.shortcut`."""

    def __init__(
        self,
        node: BrokerNode,
        metadata: Metadata,
        config: BrokerConfig,
        answers: SendAnswers,
        *,
        is_open: Callable[[], bool],
    ) -> None:
        """Append to `node`, as long as `is_open` says that leaders' requests may run."""
        self._node = node
        self._metadata = metadata
        self._config = config
        self._answers = answers
        self._is_open = is_open
        # Topics whose names have been checked: producers may send to them.
        self._names: set[str] = set()

    def __call__(self, connection: Connection, frame: bytes) -> bool:
        """Whether the frame was such a send; it is answered when its message can be read."""
        if len(frame) < _MIN_FRAME_BYTES:
            return False
        body_at = _MIN_FRAME_BYTES + int.from_bytes(frame[1:_MIN_FRAME_BYTES])
        if frame[0] != SerializeType.JSON or body_at > min(len(frame), _MAX_HEADER_BYTES):
            return False
        head = frame[_MIN_FRAME_BYTES:body_at]
        if _CODE_TEXT not in head or _FORWARDED in head or not self._is_open():
            return False
        try:
            send = _decode(head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        header = send.extFields
        if send.code != _CODE or send.flag or not self._is_plain(header, len(frame) - body_at):
            return False
        return self._append(connection, send.opaque, header, frame[body_at:])

    def _is_plain(self, header: SendMessageRequestV2, body_bytes: int) -> bool:
        """Whether nothing is to be refused, and nothing to be done but to store the message."""
        topic = self._metadata.topics.get(header.topic)
        if (
            topic is None
            or header.batch
            or header.sys_flag & ~_PLAIN_FLAGS
            or not 0 <= header.queue_id < topic.write_queue_nums
            or not topic.perm & self._config.broker_permission & topics.PERM_WRITE
            or body_bytes > self._config.max_message_size
        ):
            return False
        properties = header.properties
        if properties and any(name in properties for name in _SPECIAL_PROPERTIES):
            return False
        return header.topic in self._names or self._is_usual(header)

    def _is_usual(self, header: SendMessageRequestV2) -> bool:
        """Whether the topic is one that every producer may send to."""
        if topics.is_retry(header.topic):
            return False
        try:
            check(self._config, 0, header)
        except PeerError:
            return False
        if len(self._names) < _MAX_TOPICS:
            self._names.add(header.topic)
        return True

    def _append(
        self, connection: Connection, opaque: int, header: SendMessageRequestV2, body: bytes
    ) -> bool:
        answers, queue_id, text = self._answers, header.queue_id, header.properties or ""
        record = OutgoingRecord(
            header.topic,
            queue_id,
            body,
            answers.properties(text),
            header.flag,
            header.sys_flag,
            header.born_timestamp,
            pack_host(connection.remote),
            header.reconsume_times or 0,
        )

        def done(result: AppendResult | PeerError) -> None:
            if isinstance(result, PeerError):
                refused = RemotingCommand(_CODE, opaque=opaque)
                connection.reply(refused, response(result.code, result.remark))
            else:
                ids = answers.message_id(result.physical_offset)
                connection.send_bytes(answers.frame(opaque, text, result, ids, queue_id))

        try:
            self._node.append(record, done)
        except LedgerMQError:
            return False  # nothing has changed, and the long way says why
        return True
