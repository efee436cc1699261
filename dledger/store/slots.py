"""A small fact in a file of two slots, each with a CRC and a sequence number.

Writes go to the older slot in place: no allocation, so a full disk cannot stop them, and a torn
write leaves the other slot. Slots are a disk's largest sector apart, so that they never share one.
"""

import os
import struct
from pathlib import Path
from zlib import crc32

from ledgermq.dledger.errors import DamagedError, StorageError

from .segments import sync_folder

_SLOT_BYTES = 4096
_HEAD = struct.Struct(">IIQI")  # crc of the rest, magic + version, sequence, payload length
_MAGIC = 0x4C4D5102


class SlotFile:
    """The newest intact payload of two."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._sequence = 0
        self.payload: bytes | None = None
        try:
            data = os.pread(self._fd, 2 * _SLOT_BYTES, 0)
            self._load(data)
            if len(data) < 2 * _SLOT_BYTES:
                os.pwrite(self._fd, bytes(2 * _SLOT_BYTES - len(data)), len(data))
                os.fsync(self._fd)
                sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def _load(self, data: bytes) -> None:
        for at in (0, _SLOT_BYTES):
            found = _decode(data[at : at + _SLOT_BYTES])
            if found and found[0] > self._sequence:
                self._sequence, self.payload = found
        if self.payload is None and any(data):
            raise DamagedError(self.path, 0, "neither of its two slots is intact")

    def write(self, payload: bytes) -> None:
        """Replace the payload; it is on disk when this returns.

        Raises:
            StorageError: it may not be; the node must stop.
        """
        self._sequence += 1
        body = struct.pack(">IQI", _MAGIC, self._sequence, len(payload)) + payload
        slot = struct.pack(">I", crc32(body)) + body
        if len(slot) > _SLOT_BYTES:
            raise StorageError(f"{self.path}: {len(payload)} bytes do not fit a slot")
        try:
            os.pwrite(self._fd, slot, self._sequence % 2 * _SLOT_BYTES)
            os.fdatasync(self._fd)
        except OSError as e:
            raise StorageError(f"{self.path}: write failed: {e.strerror}") from e
        self.payload = payload

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _decode(slot: bytes) -> tuple[int, bytes] | None:
    if len(slot) < _HEAD.size:
        return None
    crc, magic, sequence, length = _HEAD.unpack_from(slot)
    end = _HEAD.size + length
    if magic != _MAGIC or end > len(slot) or crc32(slot[4:end]) != crc:
        return None
    return sequence, slot[_HEAD.size : end]
