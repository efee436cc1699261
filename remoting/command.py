"""One request or reply, as both header serialisations see it."""

from collections.abc import Callable
from itertools import count

# Both sides number their own requests, so the two number spaces overlap: look at the response
# bit first. Java reads opaque as a signed int32.
_OPAQUE_MASK = 0x7FFFFFFF
_next_opaque = count(1)

RESPONSE_FLAG = 1
ONEWAY_FLAG = 2

LANGUAGE = "PYTHON"
# Ordinal of V4_9_8 in the peer's version table: new enough for standard JSON routes, old enough
# that nobody expects 5.x broker features of us.
VERSION = 409


def next_opaque() -> int:
    """A request number unique in this process until 2^31 requests later."""
    return next(_next_opaque) & _OPAQUE_MASK


def _no_ext(_raw: bytes) -> dict[str, str]:
    return {}


class RemotingCommand:
    """A decoded frame.

    Attributes:
        code: request code, or response code when `is_response`.
        language: name of the sender's language, "" when unknown.
        version: ordinal of the sender's version.
        opaque: request number; a reply repeats its request's.
        flag: bit 0 reply, bit 1 one-way.
        remark: sentence for people, or None.
        body: bytes after the header, b"" when absent.
        raw_ext: the header fields as JSON, when nobody has read them yet; else b"".
    """

    __slots__ = (
        "_ext", "_read_ext", "body", "code", "flag", "language", "opaque", "raw_ext", "remark",
        "version",
    )  # fmt: skip

    def __init__(
        self,
        code: int,
        ext: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        remark: str | None = None,
        opaque: int = 0,
        flag: int = 0,
        language: str = LANGUAGE,
        version: int = VERSION,
    ) -> None:
        self.code = code
        self._ext = ext
        self._read_ext: Callable[[bytes], dict[str, str]] = _no_ext
        self.raw_ext = b""
        self.body = body
        self.remark = remark
        self.opaque = opaque
        self.flag = flag
        self.language = language
        self.version = version

    def read_later(self, raw_ext: bytes, read_ext: Callable[[bytes], dict[str, str]]) -> None:
        """Have the header fields read when somebody asks for them."""
        self.raw_ext, self._read_ext = raw_ext, read_ext

    @property
    def ext(self) -> dict[str, str]:
        """Header fields; outgoing values are always strings."""
        if self._ext is None:
            self._ext, self.raw_ext = self._read_ext(self.raw_ext), b""
        return self._ext

    def field(self, name: str) -> str | None:
        """One header field, its name in ASCII, without reading all of them."""
        if self.raw_ext and name.encode() not in self.raw_ext:
            return None
        return self.ext.get(name)

    @property
    def is_response(self) -> bool:
        """True for a reply."""
        return bool(self.flag & RESPONSE_FLAG)

    @property
    def is_oneway(self) -> bool:
        """True when the sender wants no reply."""
        return bool(self.flag & ONEWAY_FLAG)

    def __repr__(self) -> str:
        kind = "reply" if self.is_response else "oneway" if self.is_oneway else "request"
        return (
            f"<{kind} code={self.code} opaque={self.opaque} remark={self.remark!r}"
            f" ext={self.ext} body={len(self.body)} bytes>"
        )


def request(code: int, ext: dict[str, str] | None = None, body: bytes = b"") -> RemotingCommand:
    """A request with a fresh opaque."""
    return RemotingCommand(code, ext, body, opaque=next_opaque())


def response(
    code: int,
    remark: str | None = None,
    ext: dict[str, str] | None = None,
    body: bytes = b"",
) -> RemotingCommand:
    """A reply; the connection fills in the request's opaque when it is sent."""
    return RemotingCommand(code, ext, body, remark=remark, flag=RESPONSE_FLAG)
