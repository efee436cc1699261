"""Errors of the log, by who must act."""

from ledgermq.remoting.errors import CallerError, LedgerMQError, StorageError


class InvariantError(StorageError):
    """What must never happen has happened; the node stops before it can do harm."""


class DamagedError(StorageError):
    """Bytes on disk that were durable once are not what was written.

    Attributes:
        path: the file.
        offset: byte in that file where the damage starts.
        what: the rest of the message.
    """

    def __init__(self, path: object, offset: int, what: str) -> None:
        super().__init__(f"{path}: damaged at byte {offset}: {what}")
        self.path = path
        self.offset = offset
        self.what = what


class DiskFullError(LedgerMQError):
    """No room for the bytes; nothing was appended, reads go on."""


class HandshakeError(LedgerMQError):
    """The other side is no member of this group, or not built alike."""


__all__ = [
    "CallerError",
    "DamagedError",
    "DiskFullError",
    "HandshakeError",
    "InvariantError",
    "StorageError",
]
