"""What the log's entries up to an index amount to, so that those entries may go.

A file `snapshot/<index>` each: magic, CRC of all behind it, format version, flags, index, term,
length, payload; big-endian. It is written beside its place, synced, and renamed. Two generations
are kept: if the newest rots, the log is replayed from the one before.
"""

import logging
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from ledgermq.dledger.disk import Disk, OsDisk, ensure_folder, read_file, replace_file
from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.ids import NONE

from .segments import naming
from .slots import refuse_newer

log = logging.getLogger(__name__)

_HEAD = struct.Struct(">IIHHqqQ")  # magic, crc, version, flags, index, term, payload length
_MAGIC = 0x4C4D5153
_FORMAT_VERSION = 1
_COMPLETE = 1
_NAME_DIGITS = 20
_HALF_DONE = ".tmp"
_NAME = re.compile(r"\d{20}(\.tmp)?")
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after an entry.

    Attributes:
        index: that entry.
        term: its term.
        payload: what the broker put in.
        complete: the consume queues of this node were on disk up to `index` when it was written;
            one that a leader sent is not.
    """

    index: int
    term: int
    payload: bytes
    complete: bool


class SnapshotStore:
    """The newest intact snapshot.

    Attributes:
        newest: None when there is none.
        damage: a file that is no snapshot any more; the first one found.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        """Read what is there.

        Raises:
            CallerError: a newer program wrote it.
        """
        self.folder = folder
        self.newest: Snapshot | None = None
        self.damage: DamagedError | None = None
        self._disk: Disk = disk or OsDisk()
        # Indexes of the files that may stay, ascending.
        self._intact: list[int] = []
        with naming(folder, "open"):
            ensure_folder(self._disk, folder)
            names = self._names()
        for name in reversed(names):
            if name.endswith(_HALF_DONE):
                continue
            found = self._read(self.folder / name)
            if found is not None:
                self._intact.insert(0, found.index)
                self.newest = self.newest or found

    def _names(self) -> list[str]:
        return [n for n in self._disk.names(self.folder) if _NAME.fullmatch(n)]

    def _read(self, path: Path) -> Snapshot | None:
        with naming(path, "read"):
            data = read_file(self._disk, path) or b""
        try:
            return _decode(path, data)
        except DamagedError as e:
            log.error("%s", e)
            self.damage = self.damage or e
            return None

    @property
    def index(self) -> int:
        """Up to where a snapshot holds the state; NONE when there is none."""
        return self.newest.index if self.newest else NONE

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; it is on disk when this returns. One at a time; may run in a thread.

        Raises:
            DiskFullError: no room; the older ones stay.
            StorageError: the disk failed.
        """
        path = self.folder / f"{snapshot.index:0{_NAME_DIGITS}d}"
        with naming(path, "write"):
            replace_file(self._disk, path, _encode(snapshot))
            self._intact = sorted({*self._intact, snapshot.index})[-_KEPT:]
            if snapshot.index >= self.index:
                self.newest = snapshot
            kept = [f"{index:0{_NAME_DIGITS}d}" for index in self._intact]
            for name in self._names():
                if name not in kept:
                    self._disk.remove(self.folder / name)


def _encode(snapshot: Snapshot) -> bytes:
    flags = _COMPLETE if snapshot.complete else 0
    size = len(snapshot.payload)
    head = _HEAD.pack(_MAGIC, 0, _FORMAT_VERSION, flags, snapshot.index, snapshot.term, size)
    crc = crc32(snapshot.payload, crc32(head[8:]))
    return b"".join((head[:4], crc.to_bytes(4), head[8:], snapshot.payload))


def _decode(path: Path, data: bytes) -> Snapshot:
    if len(data) < _HEAD.size:
        raise DamagedError(path, len(data), "the file is cut short")
    magic, crc, version, flags, index, term, size = _HEAD.unpack_from(data)
    if magic != _MAGIC or crc32(memoryview(data)[8:]) != crc:
        raise DamagedError(path, 0, "this is no snapshot, or not the one that was written")
    refuse_newer(path, version, _FORMAT_VERSION)
    if index != int(path.name) or _HEAD.size + size != len(data):
        raise DamagedError(path, 0, f"it holds the snapshot of entry {index}")
    return Snapshot(index, term, data[_HEAD.size :], complete=flags & _COMPLETE != 0)
