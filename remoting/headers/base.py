"""What every header class shares: ext fields in, ext fields out.

Ext fields travel as text. Reading is lenient in what changes no meaning (unknown fields, "1" for a
boolean, an empty text for an optional number), and refuses what would only fail later: a mandatory
field that is absent, a number that does not fit Java's type.
"""

from functools import lru_cache
from typing import Annotated, Any, Self

import msgspec

from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.errors import PeerError, shortened

# Java's int and long: what does not fit fails here, not in a struct pack far away.
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
# A refusal quotes this much of a value.
_QUOTED_CHARS = 100


class Header(msgspec.Struct, kw_only=True, rename="camel"):
    """A request's or reply's own header; subclasses name the fields.

    Python names are snake_case, wire names camelCase; None means absent.
    """

    @classmethod
    def of(cls, command: RemotingCommand) -> Self:
        """Read a request's own header; like `from_ext`, and faster when nobody has read it yet.

        Fields that the class does not know are not looked at.

        Raises:
            PeerError: see `from_ext`.
            FrameError: the fields are no object of plain values.
        """
        if not command.raw_ext:
            return cls.from_ext(command.ext)
        try:
            found: Self = _decoder(cls).decode(command.raw_ext)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # What does not fit is looked at once more, field by field.
            return cls.from_ext(command.ext)
        return found

    @classmethod
    def from_ext(cls, ext: dict[str, str]) -> Self:
        """Read the ext fields of a command.

        Raises:
            PeerError: a mandatory field is absent, or a value does not fit its type.
        """
        try:
            return msgspec.convert(ext, cls, strict=False)
        except msgspec.ValidationError:
            return msgspec.convert(_readable_fields(cls, ext), cls, strict=False)

    def to_ext(self) -> dict[str, str]:
        """The ext fields to send; None is left out."""
        ext: dict[str, str] = {}
        for name, wire in _names(type(self)):
            value = getattr(self, name)
            if value is None:
                continue
            if value is True or value is False:
                ext[wire] = "true" if value else "false"
            else:
                ext[wire] = value if type(value) is str else str(value)
        return ext


@lru_cache(maxsize=256)
def _decoder(cls: type[Header]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls, strict=False)


@lru_cache(maxsize=256)
def _names(cls: type[Header]) -> tuple[tuple[str, str], ...]:
    return tuple(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))


def _readable_fields(cls: type[Header], ext: dict[str, str]) -> dict[str, Any]:
    """The fields of `cls` in `ext`, empty optional numbers left out; names what is wrong."""
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(cls):
        value = ext.get(field.encode_name)
        if value is None:
            if field.required:
                raise _refusal(cls, field.encode_name, "is missing")
            continue
        try:
            fields[field.encode_name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as e:
            if value or field.required:
                quoted = shortened(value, _QUOTED_CHARS)
                raise _refusal(cls, field.encode_name, f"cannot be {quoted!r}: {e}") from e
    return fields


def _refusal(cls: type[Header], field: str, problem: str) -> PeerError:
    return PeerError(ResponseCode.SYSTEM_ERROR, f"{cls.__name__}: field '{field}' {problem}")
