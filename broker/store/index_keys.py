"""Under which keys a record is found: its unique key, then each of its KEYS."""

from ledgermq.remoting.message_properties import PropertyName, decode_properties, java_hash

_UNIQ_KEY = PropertyName.UNIQ_KEY.encode() + b"\x01"
_LATER_UNIQ_KEY = b"\x02" + _UNIQ_KEY
_KEYS = PropertyName.KEYS.encode() + b"\x01"
_LATER_KEYS = b"\x02" + _KEYS
_TRANSACTION_MASK = 0xC
_ROLLBACK = 0xC
# What upstream's hash of Integer.MIN_VALUE is taken for: it has no positive twin.
_NO_TWIN = -0x8000_0000


def is_indexed(sys_flag: int) -> bool:
    """Whether a record of this system flag has keys at all: half messages have, rollbacks not."""
    return sys_flag & _TRANSACTION_MASK != _ROLLBACK


def keys_of(properties: bytes) -> list[bytes]:
    """The keys that these properties give a record; one may stand twice."""
    found: list[bytes] = []
    # Of a repeated name the last one counts.
    at = properties.rfind(_LATER_UNIQ_KEY) + 1
    if at or properties.startswith(_UNIQ_KEY):
        end = properties.find(b"\x02", at)
        found.append(properties[at + len(_UNIQ_KEY) : end if end >= 0 else len(properties)])
    at = properties.rfind(_LATER_KEYS) + 1
    if at or properties.startswith(_KEYS):
        end = properties.find(b"\x02", at)
        text = properties[at + len(_KEYS) : end if end >= 0 else len(properties)]
        found += [key for key in text.split(b" ") if key] if text else [text]
    return found if b"" not in found else _keys_by_decoding(properties)


def _keys_by_decoding(properties: bytes) -> list[bytes]:
    """An empty value does not count: an earlier one of that name does."""
    by_name = decode_properties(properties)
    unique = by_name.get(PropertyName.UNIQ_KEY, "")
    keys = [unique, *by_name.get(PropertyName.KEYS, "").split(" ")]
    return [key.encode() for key in keys if key]


def index_hash(signed: int) -> int:
    """What the index keeps of a Java hash: never negative."""
    return 0 if signed == _NO_TWIN else abs(signed)


def key_hash(topic: str, key: str) -> int:
    """The index's hash of a topic's key."""
    return index_hash(java_hash(f"{topic}#{key}"))
