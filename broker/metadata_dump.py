"""The whole metadata as bytes: a version, then a MessagePack array of parts, each a short one.

In parts, so that a loop that writes them can do other things in between.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple, TypeVar

import msgspec

from ledgermq.remoting.bodies.base import plain
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.errors import StorageError

DUMP_VERSION: Final = 1
# Topics, groups, or topics with offsets in one part.
_SLICE = 200
# MessagePack's head of an array whose length has four bytes.
_ARRAY_32 = 0xDD

Offsets = dict[str, dict[str, dict[int, int]]]
T = TypeVar("T")


class MetadataError(StorageError):
    """Metadata that cannot be applied or restored; the node must stop, not guess."""


class State(NamedTuple):
    """What `Metadata` holds; `topics` with the index of each one's creation."""

    topics: list[tuple[int, TopicConfig]]
    groups: list[SubscriptionGroupConfig]
    offsets: Offsets
    versions: tuple[int, int, int]
    applied: tuple[int, int]
    leader: str
    log_begin: int


class _Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class _Head(_Part, frozen=True, tag="head"):
    versions: tuple[int, int, int]
    applied: tuple[int, int]
    leader: str
    log_begin: int


class _Topics(_Part, frozen=True, tag="topics"):
    rows: list[tuple[int, TopicConfig]]


class _Groups(_Part, frozen=True, tag="groups"):
    rows: list[SubscriptionGroupConfig]


class _Offsets(_Part, frozen=True, tag="offsets"):
    group: str
    topics: dict[str, dict[int, int]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Head | _Topics | _Groups | _Offsets])


def encode_state(state: State) -> Iterator[bytes]:
    """The dump, piece by piece; `state` must not change meanwhile."""
    counts = [len(state.topics), len(state.groups), *map(len, state.offsets.values())]
    yield bytes((DUMP_VERSION,)) + array_head(1 + sum(-(-count // _SLICE) for count in counts))
    yield _encoder.encode(_Head(state.versions, state.applied, state.leader, state.log_begin))
    for topics in slices(state.topics):
        yield _encoder.encode(_Topics(topics))
    for groups in slices(state.groups):
        yield _encoder.encode(_Groups(groups))
    for group, offsets in state.offsets.items():
        rest = iter(offsets.items())
        while some := dict(islice(rest, _SLICE)):
            yield _encoder.encode(_Offsets(group, some))


def decode_state(data: bytes) -> State:
    """What `encode_state` was given.

    Raises:
        MetadataError: damaged, or of a newer program.
    """
    if data[:1] != bytes((DUMP_VERSION,)):
        raise MetadataError(
            f"the snapshot's metadata has version {data[0] if data else 'none'}; this program knows"
            f" version {DUMP_VERSION}. Install the newer ledgermq that wrote it"
        )
    try:
        head, *parts = _decoder.decode(data[1:])
    except (msgspec.DecodeError, ValueError) as e:
        raise _damaged(str(e)) from e
    if not isinstance(head, _Head):
        raise _damaged("its head is missing")
    state = State([], [], {}, head.versions, head.applied, head.leader, head.log_begin)
    for part in parts:
        if isinstance(part, _Topics):
            state.topics.extend(part.rows)
        elif isinstance(part, _Groups):
            state.groups.extend(part.rows)
        elif isinstance(part, _Offsets):
            state.offsets.setdefault(part.group, {}).update(part.topics)
    return state


def state_hash(state: State) -> str:
    """Equal for equal states, whatever order they grew in."""
    topics, groups = state.topics, state.groups
    content = (
        sorted((config.topic_name, _sorted(plain(config))) for _, config in topics),
        sorted((config.topic_name, created) for created, config in topics),
        sorted((config.group_name, _sorted(plain(config))) for config in groups),
        _sorted(state.offsets),
        state.versions,
        (*state.applied, state.leader, state.log_begin),
    )
    return hashlib.sha256(_encoder.encode(content)).hexdigest()


def _sorted(value: object) -> object:
    """Maps as lists sorted by key, at any depth."""
    if isinstance(value, dict):
        return [(key, _sorted(item)) for key, item in sorted(value.items())]
    return value


def slices(rows: list[T]) -> Iterator[list[T]]:
    """A long list as short ones."""
    return (rows[at : at + _SLICE] for at in range(0, len(rows), _SLICE))


def array_head(length: int) -> bytes:
    """What leads a MessagePack array of `length` values."""
    return bytes((_ARRAY_32,)) + length.to_bytes(4)


def _damaged(what: str) -> MetadataError:
    return MetadataError(
        f"the snapshot's metadata is damaged: {what}. Move this node's store away and start it"
        " again: it is filled from the leader"
    )
