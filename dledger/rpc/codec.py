"""Frames between members. No I/O.

Frame, big-endian: u32 length of what follows, u32 CRC of what follows the CRC, u8 version,
u8 kind, u16 head length, head (a msgpack array), payload (entries as they lie in the file).
"""

import dataclasses
import struct
from collections.abc import Callable
from enum import IntEnum
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

from ledgermq.dledger.ids import NONE, NodeId, Standing
from ledgermq.dledger.raft.messages import (
    Admit,
    Heartbeat,
    HeartbeatReply,
    Message,
    Push,
    PushReply,
    Seed,
    SeedReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.walked import Walked
from ledgermq.remoting.errors import FrameError
from ledgermq.remoting.splitter import FrameSplitter

# 2: standing in answers, admission, snapshots. 3: how full the disk is, and the members in HELLO.
VERSION = 3
# One push carries at most 1 MiB, or one entry however long.
MAX_FRAME_BYTES = 20 << 20
MAX_RECORD_BYTES = 16 << 20
_PREFIX = struct.Struct(">II")
_FIXED = struct.Struct(">BBH")
_MAX_INT = (1 << 63) - 1


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    VOTE_REQUEST = 10
    VOTE_REPLY = 11
    HEARTBEAT = 12
    HEARTBEAT_REPLY = 13
    PUSH = 14
    PUSH_REPLY = 15
    TIMEOUT_NOW = 16
    ADMIT = 17
    SEED = 18
    SEED_REPLY = 19


class Channel(IntEnum):
    """Votes, heartbeats and acks have a connection of their own, so that no push delays them."""

    CONTROL = 0
    DATA = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Hello:
    """Who calls, and how it is built; the answer carries the same of the called side.

    Attributes:
        boot_id: random, new with every start of the process.
        store_id: random, made with the store.
        segment_bytes: pos is the leader's, so all members must agree on it.
        address: where the member's clients reach it, "ip:port"; "" when it has none.
        members: ids of all that the sender counts as members, sorted, between ";": two nodes that
            count differently must not elect together.
    """

    group: str
    sender: str
    receiver: str
    channel: int
    boot_id: str
    store_id: str
    segment_bytes: int
    address: str
    members: str


class Frame(NamedTuple):
    """A decoded frame; `head` is the array, `payload` the rest."""

    kind: Kind
    head: list[Any]
    payload: bytes


_KIND_OF: dict[type, Kind] = {
    VoteRequest: Kind.VOTE_REQUEST,
    VoteReply: Kind.VOTE_REPLY,
    Heartbeat: Kind.HEARTBEAT,
    HeartbeatReply: Kind.HEARTBEAT_REPLY,
    Push: Kind.PUSH,
    PushReply: Kind.PUSH_REPLY,
    TimeoutNow: Kind.TIMEOUT_NOW,
    Admit: Kind.ADMIT,
    Seed: Kind.SEED,
    SeedReply: Kind.SEED_REPLY,
}
_CLASS_OF: dict[Kind, type] = {kind: cls for cls, kind in _KIND_OF.items()}
_KINDS = {int(kind): kind for kind in Kind}
_STANDINGS = {int(standing): standing for standing in Standing}
# What each field must be on the wire; a Push's runs are checked apart.
_WIRE_TYPES: dict[object, type] = {int: int, bool: bool, str: str, NodeId: str, Standing: int}


class _Shape:
    """How a class lies on the wire: an array of its fields.

    Attributes:
        values: of an object's fields, in order.
        types: of the elements, in order.
        numbers: those of the elements that are numbers.
        standing_at: place of the standing; -1: it has none.
    """

    def __init__(self, cls: type) -> None:
        names = [f.name for f in dataclasses.fields(cls)]
        self.values: Callable[[object], tuple[Any, ...]] = attrgetter(*names)
        self.types = [_WIRE_TYPES.get(f.type, list) for f in dataclasses.fields(cls)]
        places = [at for at, wanted in enumerate(self.types) if wanted in (int, bool)]
        # Each twice: of one place alone it would return no tuple.
        self.numbers: Callable[[list[Any]], tuple[int, ...]] = itemgetter(*places, *places)
        self.standing_at = names.index("standing") if "standing" in names else -1


_SHAPES = {cls: _Shape(cls) for cls in (*_KIND_OF, Hello)}


def encode(kind: Kind, head: tuple[Any, ...], payload: bytes = b"") -> bytes:
    """One whole frame."""
    packed = msgpack.packb(head)
    fixed = _FIXED.pack(VERSION, kind, len(packed))
    crc = crc32(payload, crc32(packed, crc32(fixed)))
    size = 4 + len(fixed) + len(packed) + len(payload)
    return b"".join((_PREFIX.pack(size, crc), fixed, packed, payload))


def encode_message(message: Message, payload: bytes = b"") -> bytes:
    """One whole frame of a Raft message."""
    cls = type(message)
    return encode(_KIND_OF[cls], _SHAPES[cls].values(message), payload)


def encode_hello(kind: Kind, hello: Hello) -> bytes:
    """A HELLO or WELCOME."""
    return encode(kind, _SHAPES[Hello].values(hello))


def decode(frame: bytes) -> Frame:
    """Decode what follows the length.

    Raises:
        FrameError: cut, flipped, of another version, or no array.
    """
    if len(frame) < 8:
        raise FrameError(f"peer frame of {len(frame)} bytes")
    if crc32(memoryview(frame)[4:]) != int.from_bytes(frame[:4]):
        raise FrameError("peer frame: the checksum differs")
    version, kind, head_len = _FIXED.unpack_from(frame, 4)
    if version != VERSION:
        raise FrameError(
            f"peer frame of version {version}; this node speaks version {VERSION}:"
            " install the same ledgermq on all nodes of the group"
        )
    end = 8 + head_len
    if end > len(frame):
        raise FrameError("peer frame: the head leaves the frame")
    try:
        head = msgpack.unpackb(frame[8:end])
        if not isinstance(head, list):
            raise FrameError(f"peer frame of kind {kind}: its head is no array")
        return Frame(_KINDS.get(kind) or Kind(kind), head, frame[end:])
    except (ValueError, TypeError, msgpack.UnpackException) as e:
        raise FrameError(f"peer frame of kind {kind}: {e}") from e


def _checked(cls: type, head: list[Any]) -> list[Any]:
    shape = _SHAPES[cls]
    types = shape.types
    if [*map(type, head)] != types:
        if len(head) != len(types):
            raise FrameError(f"{cls.__name__} with {len(head)} fields, not {len(types)}")
        value, wanted = next(p for p in zip(head, types, strict=True) if type(p[0]) is not p[1])
        raise FrameError(f"{cls.__name__}: {value!r} is no {wanted.__name__}")
    numbers = shape.numbers(head)
    low, high = min(numbers), max(numbers)
    if low < NONE or high > _MAX_INT:
        wrong = low if low < NONE else high
        raise FrameError(f"{cls.__name__}: {wrong} is no term, index or count")
    return head


def message_of(frame: Frame) -> Message:
    """The Raft message in a frame.

    Raises:
        FrameError: not one, or with fields of other types.
    """
    cls = _CLASS_OF.get(frame.kind)
    if cls is None:
        raise FrameError(f"{frame.kind.name} is no message")
    values = _checked(cls, frame.head)
    values[0] = NodeId(values[0])
    if cls is Push:
        values[5] = _runs(values[5])
    elif (at := _SHAPES[cls].standing_at) >= 0:
        values[at] = _standing(cls, values[at])
    message: Message = cls(*values)
    if isinstance(message, Push):
        _check_order(message)
    return message


def _standing(cls: type, value: int) -> Standing:
    standing = _STANDINGS.get(value)
    if standing is None:
        raise FrameError(f"{cls.__name__}: {value} is not a valid Standing")
    return standing


def _check_order(push: Push) -> None:
    """Terms never fall along a log (those of the runs rise), and none is above its leader's."""
    runs, term = push.runs, push.term
    first, last = (runs[0][0], runs[-1][0]) if runs else (term, term)
    if push.prev_index < NONE or push.prev_term > first or last > term:
        terms = [push.prev_term, *(run[0] for run in runs), term]
        raise FrameError(
            f"Push: index {push.prev_index} and terms {terms} cannot be those of a log"
        )


def _runs(value: list[Any]) -> tuple[tuple[int, int], ...]:
    runs: list[tuple[int, int]] = []
    for run in value:
        if not (isinstance(run, list) and len(run) == 2 and all(type(n) is int for n in run)):
            raise FrameError(f"Push: {run!r} is no (term, count)")
        if run[1] < 1 or run[0] <= (runs[-1][0] if runs else NONE) or max(run) > _MAX_INT:
            raise FrameError("Push: its runs do not rise")
        runs.append((run[0], run[1]))
    return tuple(runs)


def check_push(push: Push, payload: bytes) -> Walked:
    """See that the payload is exactly the entries that the message names, and return them.

    Raises:
        FrameError: it is not.
    """
    try:
        found = Walked(payload)
    except entry.EntryError as e:
        raise FrameError(f"push: {e.remark}") from e
    first = push.prev_index + 1
    wrong = found.gap(first)
    if wrong >= 0:
        index = found[wrong][1].log_index
        raise FrameError(f"push carries entry {index} where {first + wrong} belongs")
    runs = found.runs()
    if runs != push.runs:
        raise FrameError(f"push announces {push.runs}, carries {runs}")
    return found


def check_seed(seed: Seed, payload: bytes) -> None:
    """See that the payload is a part of the snapshot that the message describes.

    Raises:
        FrameError: it is not.
    """
    terms_rise = seed.base_term <= seed.snapshot_term <= seed.term
    if not (0 <= seed.base_index <= seed.snapshot_index and terms_rise):
        raise FrameError(
            f"seed: a snapshot of {seed.snapshot_index}@{seed.snapshot_term} cannot stand for a log"
            f" up to {seed.base_index}@{seed.base_term} in term {seed.term}"
        )
    if not 0 <= seed.offset <= seed.offset + len(payload) <= seed.total_bytes:
        raise FrameError(
            f"seed: {len(payload)} bytes at {seed.offset} of a snapshot of {seed.total_bytes}"
        )


def hello_of(frame: Frame) -> Hello:
    """The Hello in a HELLO or WELCOME frame.

    Raises:
        FrameError: not one.
    """
    return Hello(*_checked(Hello, frame.head))


class FrameDecoder:
    """Cuts a stream into frames; see `FrameSplitter` for its bounds."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._splitter = FrameSplitter(max_frame_bytes, "between members")

    def allow(self, max_frame_bytes: int) -> None:
        """Take longer frames from now on: the other side is known."""
        self._splitter.max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes, return the frames they complete.

        Raises:
            FrameError: the stream is no longer readable.
        """
        return [decode(frame) for frame in self._splitter.feed(data)]
