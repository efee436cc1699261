"""Cutting a stream into frames that begin with their length. No I/O."""

from .errors import FrameError


class FrameSplitter:
    """Bytes in, whole frames out, whatever the chunks.

    Attributes:
        max_frame_bytes: a longer frame is refused; may be changed between two calls.

    Invariant: what is buffered is the beginning of one frame, never more than `max_frame_bytes`
    plus one received chunk.
    """

    def __init__(self, max_frame_bytes: int, refusal: str) -> None:
        """`refusal` ends the sentence about a frame that is too long."""
        self.max_frame_bytes = max_frame_bytes
        self._refusal = refusal
        self._chunks: list[bytes] = []
        self._have = 0
        # Bytes needed before cutting can go on; avoids joining a large frame's chunks repeatedly.
        self._need = 4

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes, return the frames they complete, without their lengths.

        Raises:
            FrameError: the stream is no longer readable; close the connection.
        """
        if self._have:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
        frames: list[bytes] = []
        at, end = 0, len(data)
        self._need = 4
        while end - at >= 4:
            size = int.from_bytes(data[at : at + 4])
            if size > self.max_frame_bytes:
                raise FrameError(
                    f"frame of {size} bytes is over the limit of {self.max_frame_bytes}"
                    f" {self._refusal}"
                )
            if at + 4 + size > end:
                self._need = 4 + size
                break
            frames.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        self._have = end - at
        if self._have:
            self._chunks.append(data[at:])
        return frames
