"""Frames: bytes in, commands out, and back. No I/O.

A frame is: i32 length of what follows, u8 header serialisation (0 JSON, 1 ROCKETMQ), u24 header
length, header, body. Source: NettyDecoder and RemotingCommand of RocketMQ 4.9.
"""

from enum import IntEnum

from . import header_json, header_rocketmq
from .command import RemotingCommand
from .errors import FrameError
from .splitter import FrameSplitter

MAX_FRAME_BYTES = 16_777_216
# What the header's length field can say.
MAX_HEADER_BYTES = (1 << 24) - 1
# Of a request: as objects it is many times its size. What belongs there is far smaller: the
# properties of a message have at most 32 KiB. (Replies name every message of a batch.)
MAX_REQUEST_HEADER_BYTES = 1 << 20


class SerializeType(IntEnum):
    """Header serialisation; the number is the marker byte."""

    JSON = header_json.type_marker
    ROCKETMQ = header_rocketmq.type_marker


def encode(command: RemotingCommand, serialize_type: SerializeType = SerializeType.JSON) -> bytes:
    """Encode a command as one whole frame.

    Raises:
        FrameError: the header is too long.
    """
    if serialize_type is SerializeType.JSON:
        header = header_json.encode(command)
    else:
        header = header_rocketmq.encode(command)
    size, body = len(header), command.body
    if size > MAX_HEADER_BYTES:
        raise FrameError(f"header of {size} bytes is over the limit of {MAX_HEADER_BYTES}")
    prefix = (4 + size + len(body)).to_bytes(4) + ((serialize_type << 24) | size).to_bytes(4)
    return b"".join((prefix, header, body))


def decode(frame: bytes, max_header_bytes: int = MAX_HEADER_BYTES) -> RemotingCommand:
    """Decode one whole frame, without its length prefix.

    Raises:
        FrameError: unknown serialisation, lengths that do not add up, or too long a header.
    """
    if len(frame) < 4:
        raise FrameError(f"frame of {len(frame)} bytes has no room for a header length")
    header_end = 4 + int.from_bytes(frame[1:4])
    if header_end > len(frame):
        raise FrameError(f"header of {header_end - 4} bytes in a frame of {len(frame)}")
    if header_end - 4 > max_header_bytes:
        raise FrameError(
            f"header of {header_end - 4} bytes is over the limit of {max_header_bytes}"
        )
    header, body = frame[4:header_end], frame[header_end:]
    if frame[0] == SerializeType.JSON:
        return header_json.decode(header, body)
    if frame[0] == SerializeType.ROCKETMQ:
        return header_rocketmq.decode(header, body)
    raise FrameError(f"unknown header serialisation {frame[0]}")


class CommandDecoder:
    """Cuts a stream into commands, whatever the chunks; see `FrameSplitter` for its bounds."""

    def __init__(
        self,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_header_bytes: int = MAX_HEADER_BYTES,
    ) -> None:
        self._max_header_bytes = max_header_bytes
        self._splitter = FrameSplitter(
            max_frame_bytes, "(is the other side speaking RocketMQ's protocol?)"
        )

    def feed(self, data: bytes) -> list[RemotingCommand]:
        """Take the next bytes, return the commands they complete.

        Raises:
            FrameError: the stream is no longer readable; close the connection.
        """
        return [self.decode(frame) for frame in self._splitter.feed(data)]

    def split(self, data: bytes) -> list[bytes]:
        """Like `feed`, but the frames as they came; each is for `decode`."""
        return self._splitter.feed(data)

    def decode(self, frame: bytes) -> RemotingCommand:
        """One whole frame, without its length prefix; see `feed` for the errors."""
        return decode(frame, self._max_header_bytes)
