"""The file `checkpoint`: what upstream keeps in it, and our own mark in the part it leaves free.

Upstream's part, int64 each: store times (ms since 1970) of the last message that was flushed to the
commitlog, to the queues and to the index, then two offsets of 5.x. Our mark from byte 64 on says in
bytes how far log and queues are on disk. It holds the three times again: when they are not those
of upstream's part, Java has run since, and the mark says nothing.

All lies in one sector, which a disk writes whole. Source: message-format §7.
"""

import logging
import struct
from dataclasses import astuple, dataclass
from pathlib import Path
from zlib import crc32

from ledgermq.dledger.disk import Disk, OsDisk, ensure_folder
from ledgermq.dledger.store.segments import translated

log = logging.getLogger(__name__)

_FILE_BYTES = 4096
_UPSTREAM = struct.Struct(">5q")
_MARK_AT = 64
# CRC of the rest; magic + version; flushed, dispatched; the three times; size of the log's files.
_BODY = struct.Struct(">I2q3qq")
_CRC_BYTES = 4
_MAGIC = 0x4C4D51
_VERSION = 1
_USED_BYTES = _MARK_AT + _CRC_BYTES + _BODY.size


@dataclass(frozen=True, slots=True)
class StoreTimes:
    """Store times, ms since 1970, of the last messages that are on disk; 0: of none.

    Attributes:
        physic_ms: in the commitlog.
        logics_ms: in the consume queues, and in what upstream keeps of the index after a kill.
        index_ms: in the key index.
    """

    physic_ms: int = 0
    logics_ms: int = 0
    index_ms: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """Places in the log.

    Attributes:
        flushed_pos: all of the log below is on disk.
        dispatched_pos: what consume queues and index hold of the log below is on disk.
    """

    flushed_pos: int
    dispatched_pos: int


class Checkpoint:
    """The checkpoint of a store.

    Attributes:
        path: the file.
        times: zeros when there is none that can be read.
        mark: None when there is none that counts.
        segment_bytes: of the log that the mark is about; 0: not known.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        """Read it; whatever is wrong with the file, the log can be recovered without."""
        self.path = path
        self._disk: Disk = disk or OsDisk()
        self.times = StoreTimes()
        self.mark: Mark | None = None
        self.segment_bytes = 0
        # Of 5.x: what its master had flushed, and what it had confirmed.
        self._offsets = (0, 0)
        self._fd = -1
        try:
            self._load()
        except FileNotFoundError:
            log.info("%s: not there; it will be made", path)
        except OSError as e:
            log.warning("%s: not readable, so recovery does without it: %s", path, e.strerror)

    def _load(self) -> None:
        fd = self._disk.open(self.path)
        try:
            data = self._disk.pread(fd, _FILE_BYTES, 0)
        finally:
            self._disk.close(fd)
        if len(data) < _UPSTREAM.size:
            log.warning(
                "%s: %d bytes are no checkpoint; recovery does without", self.path, len(data)
            )
            return
        *times, flushed, confirmed = _UPSTREAM.unpack_from(data)
        if min(times) < 0:
            log.warning("%s: its times are none; recovery does without it", self.path)
            return
        self.times, self._offsets = StoreTimes(*times), (flushed, confirmed)
        self._load_mark(data)

    def _load_mark(self, data: bytes) -> None:
        """The mark, if it is whole, of a version that is known, and of these times."""
        body = data[_MARK_AT + _CRC_BYTES : _USED_BYTES]
        crc = int.from_bytes(data[_MARK_AT : _MARK_AT + _CRC_BYTES])
        if len(body) < _BODY.size or crc32(body) != crc:
            return
        magic, flushed, dispatched, *times, segment_bytes = _BODY.unpack(body)
        if magic != _MAGIC << 8 | _VERSION or StoreTimes(*times) != self.times:
            return
        if min(flushed, dispatched) >= 0:
            self.mark, self.segment_bytes = Mark(flushed, dispatched), segment_bytes

    def save(self, times: StoreTimes, mark: Mark) -> None:
        """Replace both; they are on disk when this returns. To run in a thread.

        All that they say must be on disk before.

        Raises:
            DiskFullError: no room to make the file.
            StorageError: the disk failed; stop the node.
        """
        upstream = _UPSTREAM.pack(*astuple(times), *self._offsets)
        body = _BODY.pack(
            _MAGIC << 8 | _VERSION, *astuple(mark), *astuple(times), self.segment_bytes
        )
        data = upstream.ljust(_MARK_AT, b"\0") + crc32(body).to_bytes(_CRC_BYTES) + body
        try:
            if self._fd < 0:
                self._make()
            self._disk.pwrite(self._fd, data, 0)
            self._disk.fdatasync(self._fd)
        except OSError as e:
            raise translated(e, self.path) from e
        self.times, self.mark = times, mark

    def _make(self) -> None:
        ensure_folder(self._disk, self.path.parent)
        fd = self._disk.open(self.path, create=True)
        try:
            if self._disk.size(fd) != _FILE_BYTES:
                self._disk.truncate(fd, _FILE_BYTES)
            self._disk.sync_folder(self.path.parent)
        except BaseException:
            self._disk.close(fd)
            raise
        self._fd = fd

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1
