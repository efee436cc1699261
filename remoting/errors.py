"""Errors by who must act: the caller, the peer, or the operator of this node."""


class LedgerMQError(Exception):
    """Root of every error this project raises on purpose."""


class CallerError(LedgerMQError):
    """A mistake in the calling code or its configuration; repeating will not help."""


class StorageError(LedgerMQError):
    """The disk did not do what was asked; the node must stop."""


class PeerError(LedgerMQError):
    """The other side refused, or sent what cannot be understood.

    Attributes:
        code: response code for (or from) the wire, see `codes.ResponseCode`.
        remark: the sentence a person reads.
    """

    def __init__(self, code: int, remark: str) -> None:
        super().__init__(f"CODE: {code}  DESC: {remark}")
        self.code = code
        self.remark = remark


class FrameError(PeerError):
    """Bytes that are no frame: the connection is closed, nothing else suffers."""

    def __init__(self, remark: str) -> None:
        super().__init__(1, remark)


def shortened(text: str, limit_chars: int) -> str:
    """`text`, its end left out when it is too long to be read or sent back."""
    return text if len(text) <= limit_chars else f"{text[:limit_chars]}… ({len(text)} characters)"


class ConnectError(LedgerMQError):
    """No connection to the address could be made."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"connect to {address} failed: {reason}")
        self.address = address


class ConnectionLostError(LedgerMQError):
    """The connection closed while an answer was awaited; the request may have been carried out."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"connection to {address} lost: {reason}")
        self.address = address


class RequestTimeoutError(LedgerMQError):
    """No answer within the time given; the request may have been carried out."""

    def __init__(self, address: str, code: int, timeout_ms: int) -> None:
        super().__init__(f"no answer from {address} to request {code} within {timeout_ms} ms")
        self.address = address
        self.timeout_ms = timeout_ms
