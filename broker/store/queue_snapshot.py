"""What a snapshot's payload holds: the metadata, and where each queue begins and ends.

Layout: version u8, length of the metadata u64 big-endian, the metadata as `Metadata.dump` gives it,
then a MessagePack array of parts.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from ledgermq.broker.metadata_dump import array_head, slices
from ledgermq.remoting.errors import StorageError

from .queue_table import QueueRow

SNAPSHOT_VERSION: Final = 1
_HEAD = struct.Struct(">BQ")


@dataclass(slots=True)
class Progress:
    """How far dispatch has come.

    Attributes:
        index: last entry dispatched, -1 before the first.
        term: its term.
        end_pos: byte of the log after it.
        store_ms: latest store time dispatched, ms since 1970.
    """

    index: int = -1
    term: int = 0
    end_pos: int = 0
    store_ms: int = 0


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """A payload taken apart.

    Attributes:
        metadata: for `Metadata.restore`.
        end_pos: byte of the log after the snapshot's entry.
        store_ms: latest store time up to it.
        rows: bounds of the queues that ever had a message.
    """

    metadata: bytes
    end_pos: int
    store_ms: int
    rows: list[QueueRow]


class _Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class _At(_Part, frozen=True, tag="at"):
    end_pos: int
    store_ms: int


class _Queues(_Part, frozen=True, tag="queues"):
    rows: list[QueueRow]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_At | _Queues])


def encode_head(metadata: bytes) -> bytes:
    """What leads a payload: the metadata with its length."""
    return _HEAD.pack(SNAPSHOT_VERSION, len(metadata)) + metadata


def encode_queues(progress: Progress, rows: list[QueueRow]) -> Iterator[bytes]:
    """What follows, in pieces that take a moment each."""
    parts = list(slices(rows))
    yield array_head(1 + len(parts))
    yield _encoder.encode(_At(progress.end_pos, progress.store_ms))
    for part in parts:
        yield _encoder.encode(_Queues(part))


def decode_payload(payload: bytes) -> QueueSnapshot:
    """The payload's parts.

    Raises:
        StorageError: damaged, or of a newer program.
    """
    if payload[:1] != bytes((SNAPSHOT_VERSION,)):
        raise StorageError(
            f"the snapshot has version {payload[0] if payload else 'none'}; this program knows"
            f" version {SNAPSHOT_VERSION}. Install the newer ledgermq that wrote it"
        )
    try:
        end = _HEAD.size + _HEAD.unpack_from(payload)[1]
        at, *parts = _decoder.decode(payload[end:])
    except (struct.error, msgspec.DecodeError, ValueError) as e:
        raise _damaged(str(e)) from e
    rows = [row for part in parts if isinstance(part, _Queues) for row in part.rows]
    if not isinstance(at, _At) or not all(0 <= r.min_offset <= r.max_offset for r in rows):
        raise _damaged("numbers that cannot be")
    return QueueSnapshot(payload[_HEAD.size : end], at.end_pos, at.store_ms, rows)


def _damaged(what: str) -> StorageError:
    return StorageError(
        f"the snapshot is damaged: {what}. Move this node's store away and start it again: it is"
        " filled from the leader"
    )
