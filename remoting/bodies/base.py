"""What every body class shares: JSON in, JSON out.

Out: always compact standard JSON (the Go client cannot read spaces), None left out. In: also
fastjson's dialect, any field absent or null.
"""

from collections.abc import Mapping
from typing import ClassVar, Self, cast

import msgspec

from ledgermq.remoting import fastjson
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError

# Most values a body with references may stand for.
_MAX_VALUES = 100_000


class Body(msgspec.Struct, kw_only=True, rename="camel"):
    """A JSON body; subclasses name the fields, each with a default.

    Python names are snake_case, wire names camelCase; None means absent.
    """

    # Wire name of a map -> class of its keys. Such keys travel as JSON text, and from Java as
    # objects. Names are looked up at any depth.
    struct_keys: ClassVar[Mapping[str, type[msgspec.Struct]]] = {}
    # A longer body is refused: as objects it would be many times its size. What a client sends is
    # small; tables that nodes exchange are as long as a frame can be.
    max_bytes: ClassVar[int] = 1 << 24

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read a body; an empty one has every default.

        Raises:
            PeerError: not JSON, a value of the wrong type, or longer than `max_bytes`.
        """
        if not body:
            return cls()
        if len(body) > cls.max_bytes:
            raise refusal(cls, f"{len(body)} bytes are over the limit of {cls.max_bytes}")
        if not cls.struct_keys and b'"$ref"' not in body:
            try:
                return msgspec.json.decode(body, type=cls, strict=False)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # The dialect or a foreign client's habits: once more, slowly.
        tree = fastjson.loads(body)
        try:
            if b'"$ref"' in body and not fastjson.size_within(tree, _MAX_VALUES):
                raise refusal(cls, f"references to more than {_MAX_VALUES} values")
            return msgspec.convert(cls.adapt(_tidy(tree, cls.struct_keys)), cls, strict=False)
        except (msgspec.DecodeError, RecursionError) as e:
            raise refusal(cls, str(e)) from e

    @classmethod
    def adapt(cls, tree: object) -> object:
        """Bring what some client sends differently into the usual form; nulls are gone already."""
        return tree

    def encode(self) -> bytes:
        """The body to send."""
        return msgspec.json.encode(plain(self))


def refusal(cls: type[msgspec.Struct], problem: str) -> PeerError:
    """The error for a body that cannot be read as `cls`."""
    return PeerError(ResponseCode.SYSTEM_ERROR, f"body is no {cls.__name__}: {problem}")


def plain(value: object) -> object:
    """`value` as dicts and lists under wire names, None left out, struct keys as JSON text."""
    if isinstance(value, msgspec.Struct):
        fields = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        named = ((wire, getattr(value, name)) for name, wire in fields)
        return {wire: plain(item) for wire, item in named if item is not None}
    if isinstance(value, dict):
        return {_plain_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | set | frozenset | tuple):
        return [plain(item) for item in value]
    return value


def _plain_key(key: object) -> object:
    return msgspec.json.encode(key).decode() if isinstance(key, msgspec.Struct) else key


def _tidy(tree: object, struct_keys: Mapping[str, type[msgspec.Struct]]) -> object:
    """Drop nulls (Java's "not set") and read struct keys, at any depth."""
    if isinstance(tree, list):
        return [_tidy(item, struct_keys) for item in tree if item is not None]
    if not isinstance(tree, dict):
        return tree
    tidy: dict[str, object] = {}
    for key, value in tree.items():
        if value is None:
            continue
        clean = _tidy(value, struct_keys)
        key_type = struct_keys.get(key)
        if key_type is not None and isinstance(clean, dict):
            table = cast(dict[str, object], clean)
            clean = {msgspec.json.decode(k, type=key_type): v for k, v in table.items()}
        tidy[key] = clean
    return tidy
