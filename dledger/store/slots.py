"""A small fact in a file of two slots, each with a CRC and a sequence number.

A fact is written to one slot and synced; from then on it may be told to others. Then it is written
to the other slot too, without a sync. So:

- a write that was torn by a loss of power leaves the fact before it whole in the other slot, and
  nobody was told of the new one;
- a slot that rots later leaves the very same fact in the other. Without the second write the file
  would fall back to an older fact, and a forgotten vote is a second vote. A torn slot and a rotten
  one look alike, so refusing to vote because of one broken slot would cost a majority when the
  power of all nodes fails during an election;
- the next fact goes to the slot that was not synced last, so the newest synced one is never at
  risk.

Writes are in place: no allocation, so a full disk cannot stop them. Slots are a disk's largest
sector apart, so that they never share one.
"""

import logging
import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import msgpack

from ledgermq.dledger.disk import Disk, OsDisk
from ledgermq.dledger.errors import CallerError, DamagedError, StorageError, storage_error

from .segments import translated

log = logging.getLogger(__name__)

_SLOT_BYTES = 4096
_HEAD = struct.Struct(">IIQI")  # crc of the rest, magic + version, sequence, payload length
_MAGIC = 0x4C4D51
_VERSION = 2


class SlotFile:
    """The newest fact.

    Attributes:
        payload: None when none was ever written.
        damage: neither slot is intact; only of a tolerant file, which begins anew then.
    """

    def __init__(self, path: Path, disk: Disk | None = None, *, tolerant: bool = False) -> None:
        """Open or create.

        Raises:
            DamagedError: neither slot is intact, and nobody is `tolerant`.
            CallerError: a newer program wrote it.
            DiskFullError: no room to create it.
        """
        self.path = path
        self.payload: bytes | None = None
        self.damage: DamagedError | None = None
        self._disk: Disk = disk or OsDisk()
        self._sequence = 0
        # The slot that holds the newest fact for certain.
        self._synced = 0
        self._fd = -1
        try:
            self._fd = self._disk.open(path, create=True)
            data = self._disk.pread(self._fd, 2 * _SLOT_BYTES, 0)
            self.damage = self._load(data)
            if self.damage is not None and not tolerant:
                raise self.damage
            if len(data) < 2 * _SLOT_BYTES:
                self._disk.pwrite(self._fd, bytes(2 * _SLOT_BYTES - len(data)), len(data))
                self._disk.fdatasync(self._fd)
                self._disk.sync_folder(path.parent)
        except OSError as e:
            self.close()
            raise translated(e, path, "open") from e
        except BaseException:
            self.close()
            raise

    def _load(self, data: bytes) -> DamagedError | None:
        slots = [data[:_SLOT_BYTES], data[_SLOT_BYTES:]]
        found = [_decode(self.path, slot) for slot in slots]
        # Of two with one number, the one that was synced first.
        intact = [(f[0], f[0] % 2 == at, at, f[1]) for at, f in enumerate(found) if f]
        if not intact:
            if any(data):
                return DamagedError(self.path, 0, "neither of its two slots is intact")
            return None
        self._sequence, _, self._synced, self.payload = max(intact)
        broken = [at for at in (0, 1) if found[at] is None and any(slots[at])]
        if broken:
            log.warning("%s: slot %d is broken; the other one is used", self.path, broken[0])
        # The process that wrote it may have been killed before the sync; or the sync failed: then
        # the page cache shows what the disk lacks, and takes it for written.
        newest = slots[self._synced]
        self._disk.pwrite(self._fd, newest, self._synced * _SLOT_BYTES)
        self._disk.fdatasync(self._fd)
        return None

    def write(self, payload: bytes) -> None:
        """Replace the fact; it is on disk when this returns.

        Raises:
            StorageError: it may not be; the node must stop.
        """
        sequence = self._sequence + 1
        if sequence % 2 == self._synced:
            sequence += 1
        body = struct.pack(">IQI", _MAGIC << 8 | _VERSION, sequence, len(payload)) + payload
        slot = struct.pack(">I", crc32(body)) + body
        if len(slot) > _SLOT_BYTES:
            raise StorageError(f"{self.path}: {len(payload)} bytes do not fit a slot")
        first = sequence % 2
        try:
            self._disk.pwrite(self._fd, slot, first * _SLOT_BYTES)
            self._disk.fdatasync(self._fd)
            self._disk.pwrite(self._fd, slot, (1 - first) * _SLOT_BYTES)
        except OSError as e:
            raise storage_error(e, self.path, "write") from e
        self._sequence, self._synced, self.payload = sequence, first, payload

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1


def _decode(path: Path, slot: bytes) -> tuple[int, bytes] | None:
    if len(slot) < _HEAD.size:
        return None
    crc, magic, sequence, length = _HEAD.unpack_from(slot)
    end = _HEAD.size + length
    if magic >> 8 != _MAGIC or end > len(slot) or crc32(slot[4:end]) != crc:
        return None
    refuse_newer(path, magic & 0xFF, _VERSION)
    return sequence, slot[_HEAD.size : end]


def refuse_newer(path: Path, found: int, known: int) -> None:
    """A format that this program cannot know must not be guessed at.

    Raises:
        CallerError: `found` is above `known`.
    """
    if found > known:
        raise CallerError(
            f"{path} has format version {found}; this ledgermq reads up to {known}. Install the"
            " ledgermq that wrote it, or a newer one"
        )


def write_values(file: SlotFile, version: int, *values: object) -> None:
    """Write a fact of several values; see `SlotFile.write`."""
    file.write(msgpack.packb((version, *values)))


def read_values(file: SlotFile, version: int, count: int, *, unversioned: int = 0) -> list[Any]:
    """The values of a fact, without its version.

    Args:
        file: holds a fact.
        version: newest one that is known.
        count: how many values there are.
        unversioned: how many an earlier form had, which named no version; 0: there was none.

    Raises:
        CallerError: a newer program wrote it.
        StorageError: no program of ours did.
    """
    values = msgpack.unpackb(file.payload)
    if isinstance(values, list) and values:
        if unversioned and len(values) == unversioned:
            return values
        if isinstance(values[0], int):
            refuse_newer(file.path, values[0], version)
            if len(values) == count + 1:
                return values[1:]
    raise StorageError(f"{file.path}: written by another program: {values!r}")
