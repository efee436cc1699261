"""Small plain commitlogs on disk for tests."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ledgermq.broker.plain import scan
from ledgermq.broker.plain.checkpoint import Checkpoint, Mark, StoreTimes
from ledgermq.broker.plain.commit_log import CommitLog
from ledgermq.broker.plain.recovery import Recovered, open_commit_log
from ledgermq.dledger.disk import Disk, OsDisk
from tests.unit.remoting.messages import record

SEGMENT_BYTES = 1024
# A record without a body.
EMPTY_BYTES = len(record(body=b""))
Records = list[tuple[int, bytes]]


def open_plain(
    folder: Path,
    *,
    aborted: bool = False,
    segment_bytes: int = SEGMENT_BYTES,
    disk: Disk | None = None,
    lost_power: bool = True,
) -> tuple[CommitLog, Recovered]:
    return open_commit_log(
        folder / "commitlog",
        segment_bytes,
        disk,
        checkpoint=Checkpoint(folder / "checkpoint", disk),
        was_aborted=aborted,
        lost_power=lost_power,
    )


def put(log: CommitLog, bodies: Iterable[bytes], **fields: Any) -> Records:
    """One write of all; (place, record) of each."""
    placed = [stage(log, body=body, **fields) for body in bodies]
    log.write_staged()
    return placed


def stage(log: CommitLog, **fields: Any) -> tuple[int, bytes]:
    pos = log.reserve(len(record(**fields)))
    made = record(**fields, physical_offset=pos)
    log.stage(made)
    return pos, made


def records(log: CommitLog) -> Records:
    """The whole log, read from the files, every record checked."""
    found: Records = []
    pos, size = log.begin_pos, log.segment_bytes
    while pos < log.end_pos:
        data = log.read(pos, log.end_pos - pos)
        if scan.is_blank(data):
            assert data[: scan.BLANK_BYTES] == scan.blank(size - pos % size)
            pos = scan.next_file(pos, size)
            continue
        before = pos
        for at, length in scan.walk(data, pos):
            scan.check(data[at : at + length], pos + at, size - (pos + at) % size)
            found.append((pos + at, data[at : at + length]))
            before = pos + at + length
        assert before > pos, f"no record at {pos}"
        pos = before
    return found


def mark(
    folder: Path,
    flushed_pos: int,
    dispatched_pos: int | None = None,
    times: StoreTimes | None = None,
    disk: Disk | None = None,
    size: int = SEGMENT_BYTES,
) -> None:
    """What a running broker notes now and then."""
    checkpoint = Checkpoint(folder / "checkpoint", disk)
    place = flushed_pos if dispatched_pos is None else dispatched_pos
    checkpoint.segment_bytes = size
    checkpoint.save(times or checkpoint.times, Mark(flushed_pos, place))
    checkpoint.close()


def file_of(folder: Path, pos: int, segment_bytes: int = SEGMENT_BYTES) -> Path:
    return folder / "commitlog" / f"{pos - pos % segment_bytes:020d}"


class SmallDisk(OsDisk):
    """A disk that gets full.

    Attributes:
        room: so many bytes can be written; None: any number. Zeros need no room.
        wipes: whether there is room for zeros on a full disk.
        writes: (offset in its file, size) of what was written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.room: int | None = None
        self.wipes = True
        self.writes: list[tuple[int, int]] = []

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        if self.room is not None and (any(data) or not self.wipes):
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: self.room]
            self.room -= len(data)
        self.writes.append((offset, len(data)))
        return os.pwrite(fd, data, offset)
