"""Whole frames of the members' control channel that never arrive, or twice.

TCP would not do that; the protocol must stand it all the same.
"""

from typing import TYPE_CHECKING

from ledgermq.dledger.rpc import codec
from ledgermq.remoting.errors import FrameError

if TYPE_CHECKING:
    from .net import SimNet


def is_control(data: bytes) -> bool:
    """Whether a connection that begins with these bytes is the control channel of a member."""
    size = int.from_bytes(data[:4])
    if size + 4 > len(data):
        return False
    try:
        frame = codec.decode(data[4 : 4 + size])
        if frame.kind is not codec.Kind.HELLO:
            return False
        return codec.hello_of(frame).channel == codec.Channel.CONTROL
    except FrameError:
        return False


def mangle(data: bytes, net: "SimNet") -> bytes:
    """What is left of a write of whole frames."""
    random = net.world.random
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4])
        chance = random()
        if chance < net.frame_loss:
            net.counts["lost frames"] += 1
        else:
            parts.append(data[at:end])
            if chance < net.frame_loss + net.frame_duplication:
                net.counts["repeated frames"] += 1
                parts.append(data[at:end])
        at = end
    return b"".join(parts)
