"""What one connection is to write: at once when it is alone, in one go when there is more."""

import asyncio

# Queued beyond this, it is handed to the transport: only that can tell that nobody reads.
_MOST_QUEUED_BYTES = 4 << 20


class Outbox:
    """Whole frames on their way to a transport, in order.

    A single frame leaves at once: waiting for the end of the loop's turn would cost a turn more
    on the way of every message. Where a turn had several, those of the next one are put together
    and leave in one write at its end.

    Attributes:
        transport: None until the connection is made; what a turn sends before that is dropped.
        queued_bytes: not yet handed to the transport.
    """

    __slots__ = ("_frames", "_in_bursts", "_in_turn", "queued_bytes", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.queued_bytes = 0
        self._frames: list[bytes] = []
        # Frames of this turn of the loop, written or not; whether the turn before had several.
        self._in_turn = 0
        self._in_bursts = False

    def send(self, data: bytes) -> None:
        """Write it, now or at the end of the turn; dropped when the connection is closing."""
        self._in_turn += 1
        if self._in_turn == 1:
            asyncio.get_running_loop().call_soon(self._turn_ends)
            if not self._in_bursts and self.transport is not None:
                if not self.transport.is_closing():
                    self.transport.write(data)
                return
        self._frames.append(data)
        self.queued_bytes += len(data)
        if self.queued_bytes > _MOST_QUEUED_BYTES:
            self.flush()

    def backlog_bytes(self) -> int:
        """What is queued and not yet taken by the network."""
        return self.queued_bytes + (self.transport.get_write_buffer_size() if self.transport else 0)

    def flush(self) -> None:
        """Hand over what is queued."""
        frames = self._frames
        if frames and self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(frames) if len(frames) > 1 else frames[0])
        frames.clear()
        self.queued_bytes = 0

    def _turn_ends(self) -> None:
        self._in_bursts = self._in_turn > 1
        self._in_turn = 0
        self.flush()
