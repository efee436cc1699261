# ruff: noqa: RUF012 (msgspec gives every instance an empty list or dict of its own)
"""What a broker tells the name servers, plain and compressed."""

import struct
import zlib
from typing import ClassVar, Self

import msgspec

from ledgermq.remoting.errors import shortened

from .base import Body, refusal

# Ordinal of V5_0_0: from here on the compressed form ends with a section of queue mappings.
MAPPING_VERSION = 413
# A compressed body may not grow past this, nor name more topics: each costs far more as an object
# than as compressed text.
MAX_BODY_BYTES = 64 << 20
MAX_TOPICS = 200_000

_INT = struct.Struct(">i")


class DataVersion(Body):
    """Which state of a table: it has changed when any of the three differs.

    Attributes:
        state_version: ours: the Raft term of the registering leader; absent before 5.0.
        timestamp: ms since 1970 of the last change.
        counter: number of changes.
    """

    max_bytes: ClassVar[int] = 4096

    state_version: int = 0
    timestamp: int = 0
    counter: int = 0


class TopicConfig(Body):
    """A topic on a broker; perm bits: 4 read, 2 write, 1 inherit."""

    topic_name: str = ""
    read_queue_nums: int = 16
    write_queue_nums: int = 16
    perm: int = 6
    topic_filter_type: str = "SINGLE_TAG"
    topic_sys_flag: int = 0
    order: bool = False
    attributes: dict[str, str] = {}

    def to_text(self) -> str:
        """The compressed form's way to write a topic; system flag and order are not in it."""
        text = (
            f"{self.topic_name} {self.read_queue_nums} {self.write_queue_nums} {self.perm}"
            f" {self.topic_filter_type}"
        )
        if self.attributes:
            text += " " + msgspec.json.encode(self.attributes).decode()
        return text

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `to_text` writes.

        Raises:
            PeerError: not five fields with numbers in the middle.
        """
        parts = text.split(" ", 5)
        try:
            name, read, write, perm, filter_type = parts[:5]
            attributes = msgspec.json.decode(parts[5], type=dict[str, str]) if parts[5:] else {}
            return cls(
                topic_name=name,
                read_queue_nums=int(read),
                write_queue_nums=int(write),
                perm=int(perm),
                topic_filter_type=filter_type,
                attributes=attributes,
            )
        except (ValueError, msgspec.DecodeError) as e:
            raise refusal(cls, f"{shortened(text, 200)!r} ({shortened(str(e), 200)})") from e


class TopicConfigSerializeWrapper(Body):
    """All topics of a broker; also the reply of 21 and the content of topics.json."""

    topic_config_table: dict[str, TopicConfig] = {}
    data_version: DataVersion = msgspec.field(default_factory=DataVersion)


class RegisterBrokerBody(Body):
    """Body of 103."""

    topic_config_serialize_wrapper: TopicConfigSerializeWrapper = msgspec.field(
        default_factory=TopicConfigSerializeWrapper
    )
    filter_server_list: list[str] = []

    @classmethod
    def decode_compressed(cls, body: bytes, version: int) -> Self:
        """Read the form of `compressed=true`; `version` is the sender's, as in its command.

        Raises:
            PeerError: not the compressed form, larger than `MAX_BODY_BYTES`, or of more than
                `MAX_TOPICS`.
        """
        reader = _Chunks(cls, _inflate(cls, body))
        data_version = DataVersion.decode(reader.chunk())
        count = reader.number()
        if count > MAX_TOPICS:
            raise refusal(cls, f"{count} topics are over the limit of {MAX_TOPICS}")
        topics = [TopicConfig.from_text(reader.text()) for _ in range(count)]
        try:
            filter_servers = msgspec.json.decode(reader.chunk() or b"[]", type=list[str])
        except msgspec.DecodeError as e:
            raise refusal(cls, f"filter servers: {e}") from e
        if version >= MAPPING_VERSION:
            # Static topics do not exist here; walk over them, so that damage is still noticed.
            for _ in range(reader.number()):
                reader.chunk()
        return cls(
            topic_config_serialize_wrapper=TopicConfigSerializeWrapper(
                topic_config_table={topic.topic_name: topic for topic in topics},
                data_version=data_version,
            ),
            filter_server_list=filter_servers,
        )

    def encode_compressed(self, version: int) -> bytes:
        """The form of `compressed=true`, as a sender of `version` writes it."""
        wrapper = self.topic_config_serialize_wrapper
        chunks = [_chunk(wrapper.data_version.encode()), _INT.pack(len(wrapper.topic_config_table))]
        chunks += (_chunk(t.to_text().encode()) for t in wrapper.topic_config_table.values())
        chunks.append(_chunk(msgspec.json.encode(self.filter_server_list)))
        if version >= MAPPING_VERSION:
            chunks.append(_INT.pack(0))
        return zlib.compress(b"".join(chunks))


def _chunk(data: bytes) -> bytes:
    return _INT.pack(len(data)) + data


def _inflate(cls: type[Body], body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, MAX_BODY_BYTES)
    except zlib.error as e:
        raise refusal(cls, f"not compressed as announced: {e}") from e
    if not inflater.eof:
        raise refusal(cls, f"compressed body is cut short or over {MAX_BODY_BYTES} bytes")
    return data


class _Chunks:
    """Numbers and length-prefixed chunks, one after the other."""

    def __init__(self, cls: type[Body], data: bytes) -> None:
        self._cls = cls
        self._data = data
        self._at = 0

    def number(self) -> int:
        """The next count or length, never negative."""
        end = self._at + 4
        if end > len(self._data):
            raise refusal(self._cls, f"ends at byte {len(self._data)} where a length should stand")
        value: int = _INT.unpack_from(self._data, self._at)[0]
        if value < 0:
            raise refusal(self._cls, f"length {value} at byte {self._at}")
        self._at = end
        return value

    def chunk(self) -> bytes:
        """The next bytes, as many as their length says."""
        size = self.number()
        data = self._data[self._at : self._at + size]
        if len(data) < size:
            raise refusal(self._cls, f"a chunk of {size} bytes at byte {self._at} is cut short")
        self._at += size
        return data

    def text(self) -> str:
        """The next bytes as text."""
        try:
            return self.chunk().decode()
        except UnicodeDecodeError as e:
            raise refusal(self._cls, f"a text that is not UTF-8: {e}") from e
