"""Errors of the log, by who must act."""

import errno
from typing import Final

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


_NO_ACCESS: Final = "Give the user that runs this node the right to read and write there"
_ADVICE: Final = {
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.EROFS: "See why its file system is read-only (dmesg), mend that, and start again",
    errno.EMFILE: "Raise the number of files that a process may open (ulimit -n)",
}
_LOOK: Final = "See what the system says of this disk (dmesg), mend or replace it, and start again"


def storage_error(error: OSError, path: object, what: str) -> StorageError:
    """A failed call for a person: `path` is what it was about, `what` is "read", "write" …."""
    elsewhere = f" ({error.filename})" if error.filename not in (None, str(path)) else ""
    advice = _ADVICE.get(error.errno or 0, _LOOK)
    return StorageError(f"{path}: {what} failed: {error.strerror}{elsewhere}. {advice}")


class HandshakeError(LedgerMQError):
    """The other side is no member of this group, or not built alike."""


__all__ = [
    "CallerError",
    "DamagedError",
    "DiskFullError",
    "HandshakeError",
    "InvariantError",
    "StorageError",
    "storage_error",
]
