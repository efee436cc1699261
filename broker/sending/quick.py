"""The short way of nearly all sends: one message, JSON, straight from the client to the leader.

What is special in any way (a batch, a retry, a forwarded or one-way request, a topic to be made, an
error) is left alone and goes the long way, `features.send`, which is also the one that refuses.
Invariant: what goes the short way is stored and answered as the long way would.
"""

import logging
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

from .answers import Asked, SendAnswers
from .rules import check

log = logging.getLogger(__name__)

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
# So many sends at most are appended in one go.
_MAX_RUN = 256


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


# A send that goes the short way.
_Plain = tuple[Asked, OutgoingRecord]


class QuickSends:
    """Called with all frames before anything else; see `ProcessorRegistry.shortcut`."""

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

    def __call__(self, connection: Connection, frames: list[bytes], at: int) -> int:
        """Take the plain sends from frame `at` on; number of the first frame that is left.

        They are answered when their messages can be read.
        """
        if not self._is_open():
            return at
        remote = connection.remote
        first = self._read(frames[at], remote)
        if first is None:
            return at
        if at + 1 == len(frames):
            return at + self._append(connection, *first)
        sends = [first]
        for frame in frames[at + 1 : at + _MAX_RUN]:
            send = self._read(frame, remote)
            if send is None:
                break
            sends.append(send)
        if len(sends) > 1 and self._append_each(connection, sends):
            return at + len(sends)
        for asked, record in sends:
            if not self._append(connection, asked, record):
                break
            at += 1
        return at

    def _read(self, frame: bytes, remote: str) -> _Plain | None:
        """The send in a frame from `remote`, if it is one and nothing is special about it."""
        if len(frame) < _MIN_FRAME_BYTES:
            return None
        body_at = _MIN_FRAME_BYTES + int.from_bytes(frame[1:_MIN_FRAME_BYTES])
        if frame[0] != SerializeType.JSON or body_at > min(len(frame), _MAX_HEADER_BYTES):
            return None
        head = frame[_MIN_FRAME_BYTES:body_at]
        if _CODE_TEXT not in head or _FORWARDED in head:
            return None
        try:
            send = _decode(head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        header = send.extFields
        if send.code != _CODE or send.flag or not self._is_plain(header, len(frame) - body_at):
            return None
        text = header.properties or ""
        record = OutgoingRecord(
            header.topic,
            header.queue_id,
            frame[body_at:],
            self._answers.properties(text),
            header.flag,
            header.sys_flag,
            header.born_timestamp,
            pack_host(remote),
            header.reconsume_times or 0,
        )
        return (send.opaque, text, header.queue_id), record

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
        if header.properties and _is_special(header.properties):
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

    def _append(self, connection: Connection, asked: Asked, record: OutgoingRecord) -> bool:
        """Append one; False: nothing has changed, and the long way says why."""

        def done(result: AppendResult | PeerError) -> None:
            if isinstance(result, PeerError):
                _refuse(connection, asked, result)
            else:
                connection.send_bytes(self._answers.plain(asked, result))

        try:
            self._node.append(record, done)
        except LedgerMQError:
            return False
        return True

    def _append_each(self, connection: Connection, sends: list[_Plain]) -> bool:
        """Append several in one go; False: nothing has changed."""
        waiting = [asked for asked, _ in sends]

        def done(results: list[AppendResult] | PeerError) -> None:
            if isinstance(results, PeerError):
                for asked in waiting:
                    _refuse(connection, asked, results)
            else:
                connection.send_bytes(b"".join(map(self._answers.plain, waiting, results)))

        try:
            return self._node.append_each([record for _, record in sends], done)
        except LedgerMQError as e:
            log.error("%d sends could not be appended in one go, now one by one: %s", len(sends), e)
            return False


def _is_special(properties: str) -> bool:
    delays, transactions, aliases = _SPECIAL_PROPERTIES
    return delays in properties or transactions in properties or aliases in properties


def _refuse(connection: Connection, asked: Asked, refusal: PeerError) -> None:
    opaque, _, _ = asked
    refused = RemotingCommand(_CODE, opaque=opaque)
    connection.reply(refused, response(refusal.code, refusal.remark))
