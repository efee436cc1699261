"""The JSON header serialisation: tolerant in, strict and compact out.

Every value of `extFields` leaves as a string (the Go client times out on integers, the C++ client
redelivers); values in may be strings, numbers, booleans or null.
"""

from typing import Annotated

import msgspec

from .codes import RequestCode
from .command import RESPONSE_FLAG, RemotingCommand
from .errors import FrameError

type_marker = 0

_LANGUAGES = (
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP",
    "OMS", "RUST", "NODE_JS",
)  # fmt: skip


# Java's int: what does not fit it could not be answered in the binary serialisation.
_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class _Header(msgspec.Struct):
    code: _Int32
    language: str | int | None = None
    version: _Int32 = 0
    opaque: _Int32 = 0
    flag: _Int32 = 0
    remark: str | None = None
    extFields: msgspec.Raw = msgspec.Raw()


_strict = msgspec.json.Decoder(_Header)
_lax = msgspec.json.Decoder(_Header, strict=False)
_texts = msgspec.json.Decoder(dict[str, str])
_values = msgspec.json.Decoder(dict[str, str | int | float | bool | None] | None)
# A text is looked at only when it is wanted, so that these come late.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Most of a busy broker's requests: their handlers read the fields straight into a class.
_FREQUENT = frozenset(
    {
        RequestCode.SEND_MESSAGE,
        RequestCode.SEND_MESSAGE_V2,
        RequestCode.SEND_BATCH_MESSAGE,
        RequestCode.PULL_MESSAGE,
    }
)
_encode = msgspec.json.Encoder().encode


def language_name(value: str | int | None) -> str:
    """Name of a language given as name or ordinal; "" when unknown."""
    if isinstance(value, str):
        return value if value in _LANGUAGES else ""
    return _LANGUAGES[value] if value is not None and 0 <= value < len(_LANGUAGES) else ""


def language_ordinal(name: str) -> int:
    """Ordinal of a language name; OTHER when unknown."""
    return _LANGUAGES.index(name) if name in _LANGUAGES else _LANGUAGES.index("OTHER")


def _text(value: float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def decode(header: bytes, body: bytes) -> RemotingCommand:
    """Decode one JSON header.

    Raises:
        FrameError: not a JSON object with an integer `code`.
    """
    try:
        h = _strict.decode(header)
    except msgspec.ValidationError:
        h = _decode_lax(header)
    except _UNREADABLE as e:
        raise FrameError(f"header is not JSON: {e}") from e
    command = RemotingCommand(
        h.code,
        None,
        body,
        remark=h.remark,
        opaque=h.opaque,
        flag=h.flag,
        language=language_name(h.language),
        version=h.version,
    )
    raw = bytes(h.extFields)
    if raw:
        command.read_later(raw, decode_ext)
        if h.code not in _FREQUENT or h.flag & RESPONSE_FLAG:
            # What cannot be read is the connection's end, here and now.
            _ = command.ext
    return command


def decode_ext(raw: bytes) -> dict[str, str]:
    """The header fields, all as text; those that are null are left out.

    Raises:
        FrameError: they are no object of plain values.
    """
    try:
        return _texts.decode(raw)
    except _UNREADABLE:
        try:
            values = _values.decode(raw)
        except _UNREADABLE as e:
            raise FrameError(f"header is not a command: {e}") from e
    if values is None:
        return {}
    return {k: v if isinstance(v, str) else _text(v) for k, v in values.items() if v is not None}


def _decode_lax(header: bytes) -> _Header:
    try:
        return _lax.decode(header)
    except _UNREADABLE as e:
        raise FrameError(f"header is not a command: {e}") from e


def encode(command: RemotingCommand) -> bytes:
    """Encode a header as compact standard JSON."""
    fields: dict[str, object] = {
        "code": command.code,
        "language": command.language,
        "version": command.version,
        "opaque": command.opaque,
        "flag": command.flag,
        "serializeTypeCurrentRPC": "JSON",
    }
    if command.remark is not None:
        fields["remark"] = command.remark
    # Java dereferences extFields of a reply without a null check: always there.
    fields["extFields"] = command.ext
    return _encode(fields)
