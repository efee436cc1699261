"""What a metadata record says, and how it is written.

A payload is one version byte and a MessagePack array whose first item names the operation.
"""

from typing import Final

import msgspec

from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig

from .metadata_dump import MetadataError, Offsets

# Leads every payload. A node refuses versions it does not know: guessing would part the replicas.
PAYLOAD_VERSION: Final = 1


class _Op(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Noop(_Op, frozen=True, tag="noop"):
    """The first record of a leader's term."""

    term: int
    leader: str


class TopicPut(_Op, frozen=True, tag="topic.put"):
    """Create a topic or replace its settings."""

    config: TopicConfig


class TopicDelete(_Op, frozen=True, tag="topic.delete"):
    """Forget a topic and every group's offsets in it."""

    name: str


class GroupPut(_Op, frozen=True, tag="group.put"):
    """Create a consumer group or replace its settings."""

    config: SubscriptionGroupConfig


class GroupDelete(_Op, frozen=True, tag="group.delete"):
    """Forget a consumer group; its offsets too with `clean_offsets`."""

    name: str
    clean_offsets: bool


class OffsetsPut(_Op, frozen=True, tag="offsets"):
    """Consumer offsets that have moved: group -> topic -> queue id -> next offset to read."""

    offsets: Offsets


class LogBegin(_Op, frozen=True, tag="log.begin"):
    """Entries below `index` are kept no longer: every replica drops the same ones."""

    index: int


Op = Noop | TopicPut | TopicDelete | GroupPut | GroupDelete | OffsetsPut | LogBegin

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Op] = msgspec.msgpack.Decoder(Op)


def encode_op(op: Op) -> bytes:
    """The payload of one operation."""
    return bytes((PAYLOAD_VERSION,)) + _encoder.encode(op)


def decode_op(index: int, payload: bytes) -> Op:
    """What `encode_op` was given; `index` is for the error.

    Raises:
        MetadataError: of a newer program, or damaged.
    """
    if not payload:
        raise MetadataError(
            f"metadata record {index} is empty. Restore this node's store from another peer"
        )
    if payload[0] != PAYLOAD_VERSION:
        raise MetadataError(
            f"metadata record {index} has version {payload[0]}; this program knows version"
            f" {PAYLOAD_VERSION}. Install the newer ledgermq that the other peers run"
        )
    try:
        return _decoder.decode(payload[1:])
    except msgspec.DecodeError as e:
        raise MetadataError(
            f"metadata record {index} is damaged: {e}. Restore this node's store from another peer"
        ) from e
