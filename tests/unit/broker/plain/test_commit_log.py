"""Appending to a plain commitlog, reading it, dropping files."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.plain import commit_log, scan
from ledgermq.broker.plain.commit_log import CommitLog
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import CallerError, DiskFullError, InvariantError, StorageError
from ledgermq.dledger.store.segments import Segments
from tests.unit.remoting.messages import record

from .plain_logs import EMPTY_BYTES, SEGMENT_BYTES, SmallDisk, open_plain, put, records, stage

Opener = Callable[..., CommitLog]
# The body of the longest record that a file holds.
LONGEST = SEGMENT_BYTES - scan.BLANK_BYTES - EMPTY_BYTES


@pytest.fixture
def disk() -> SmallDisk:
    return SmallDisk()


@pytest.fixture
def log(tmp_path: Path, disk: SmallDisk) -> Iterator[CommitLog]:
    log, _ = open_plain(tmp_path, disk=disk)
    yield log
    log.close()


# --- appending ------------------------------------------------------------------------------------


def test_records_lie_one_after_the_other(log: CommitLog) -> None:
    placed = put(log, [b"a", b"", b"ccc"])
    assert [pos for pos, _ in placed] == [0, EMPTY_BYTES + 1, 2 * EMPTY_BYTES + 1]
    assert log.end_pos == 3 * EMPTY_BYTES + 4
    placed += put(log, [b"d"])
    assert records(log) == placed


def test_nothing_is_there_before_it_is_written(log: CommitLog) -> None:
    pos, _ = stage(log, body=b"a")
    assert (pos, log.end_pos, log.file_starts()) == (0, 0, [])
    assert log.reserve(100) == EMPTY_BYTES + 1
    log.drop_staged()
    assert log.reserve(100) == 0
    assert log.write_staged() == 0
    assert log.file_starts() == []


def test_a_record_that_does_not_fit_starts_the_next_file(log: CommitLog) -> None:
    bodies = [b"x" * 300, b"y" * 300, b"z" * 300]
    placed = put(log, bodies)
    second = EMPTY_BYTES + 300
    left = SEGMENT_BYTES - 2 * second
    assert [pos for pos, _ in placed] == [0, second, SEGMENT_BYTES]
    assert log.file_starts() == [0, SEGMENT_BYTES]
    rest = log.read(2 * second, SEGMENT_BYTES)
    assert rest == scan.blank(left) + bytes(left - 8)
    assert records(log) == placed


@pytest.mark.parametrize(
    ("body", "following"),
    [
        pytest.param(LONGEST, SEGMENT_BYTES, id="a whole file"),
        pytest.param(LONGEST - 1, SEGMENT_BYTES, id="one byte less"),
        pytest.param(LONGEST - EMPTY_BYTES, SEGMENT_BYTES - 8 - EMPTY_BYTES, id="two fill it"),
        pytest.param(LONGEST - EMPTY_BYTES + 1, SEGMENT_BYTES, id="two are a byte too long"),
    ],
)
def test_records_that_just_fit(log: CommitLog, body: int, following: int) -> None:
    first = put(log, [b"x" * body])
    assert log.reserve(EMPTY_BYTES) == following
    assert records(log) == first
    assert records(log) + put(log, [b""]) == records(log)
    assert log.end_pos == following + EMPTY_BYTES


def test_what_no_file_holds_is_the_callers_mistake(log: CommitLog) -> None:
    assert log.reserve(EMPTY_BYTES + LONGEST) == 0
    with pytest.raises(CallerError, match=r"at most 1016 \(mappedFileSizeCommitLog\)"):
        log.reserve(EMPTY_BYTES + LONGEST + 1)


def test_a_record_made_for_another_place_is_refused(log: CommitLog) -> None:
    put(log, [b"a"])
    with pytest.raises(InvariantError, match=f"its place {EMPTY_BYTES + 1}"):
        log.stage(record(physical_offset=0))
    assert log.write_staged() == EMPTY_BYTES + 1


def test_what_was_staged_is_one_write_per_file(log: CommitLog, disk: SmallDisk) -> None:
    size = EMPTY_BYTES + 300
    put(log, [b"x" * 300] * 5)
    assert disk.writes == [(0, 2 * size + 8), (0, 2 * size + 8), (0, size)]
    disk.writes.clear()
    put(log, [b"y" * 300, b"z" * 300])
    assert disk.writes == [(size, size + 8), (0, size)]


# --- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 400, 700, 840, 1100])
@pytest.mark.parametrize("wipes", [True, False])
def test_a_full_disk_takes_nothing_and_keeps_no_trace(
    tmp_path: Path, log: CommitLog, disk: SmallDisk, room: int, wipes: bool
) -> None:
    placed = put(log, [b"before"])
    end = log.end_pos
    disk.room, disk.wipes = room, wipes
    for _ in range(2):
        with pytest.raises(DiskFullError, match="no room left"):
            put(log, [b"x" * 300] * 4)
        assert (log.end_pos, log.reserve(EMPTY_BYTES)) == (end, end)
        assert log.cached(end, 1000) is None
    disk.room = None
    # Shorter than what failed: its traces must not lie behind.
    placed += put(log, [b"a"])
    assert records(log) == placed
    for base in log.file_starts():
        start = max(base, log.end_pos)
        assert not any(log.read(start, SEGMENT_BYTES))
    log.sync()
    again, recovered = open_plain(tmp_path, aborted=True)
    assert records(again) == placed
    assert recovered.truncated_bytes == 0
    again.close()


def test_a_broken_disk_is_told(log: CommitLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(SmallDisk, "pwrite", fails)
    with pytest.raises(StorageError, match="write failed: Input/output error"):
        put(log, [b"a"])
    assert (log.end_pos, log.cached(0, 100)) == (0, None)


# --- zeros ahead ----------------------------------------------------------------------------------


def test_a_thread_writes_zeros_ahead(tmp_path: Path) -> None:
    mib = 1 << 20
    log, _ = open_plain(tmp_path, segment_bytes=16 * mib)
    with ThreadPoolExecutor(1) as pool:
        log.zero_ahead_in(pool)
        placed = [p for i in range(40) for p in put(log, [bytes([i]) * (900 << 10)])]
        log.close()
    files = list((tmp_path / "commitlog").iterdir())
    assert sum(f.stat().st_blocks * 512 for f in files) > log.end_pos
    log, recovered = open_plain(tmp_path, segment_bytes=16 * mib, aborted=True)
    assert recovered.truncated_bytes == 0
    assert records(log) == placed
    log.close()


def test_closing_waits_for_the_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, done = threading.Event(), []

    def zero(self: Segments, start: int, end: int) -> None:
        assert go.wait(20)
        done.append(self.read(start, 1))

    monkeypatch.setattr(Segments, "zero", zero)
    log, _ = open_plain(tmp_path, segment_bytes=16 << 20)
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as other:
        log.zero_ahead_in(pool)
        put(log, [b"a"])
        closing = other.submit(log.close)
        go.set()
        closing.result(20)
    assert done == [b"\0"]


# --- reading --------------------------------------------------------------------------------------


def test_reads_are_those_of_the_files(log: CommitLog) -> None:
    (_, first), (pos, second) = put(log, [b"a", b"b"])
    assert log.read(0, len(first)) == first
    assert log.read(pos, len(second)) == second
    nowait = log.read_nowait(pos, len(second))
    assert nowait in (second, None)  # a file system may not tell
    assert log.read(7 * SEGMENT_BYTES, 10) == b""


def test_a_sync_is_of_every_file_written(log: CommitLog, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(SmallDisk, "fdatasync", lambda _self, fd: synced.append(fd))
    put(log, [b"x" * 500] * 3)
    log.sync()
    assert len(synced) == 3


def test_the_newest_bytes_come_from_memory(log: CommitLog) -> None:
    size = EMPTY_BYTES + 200
    placed = [put(log, [b"x" * 200])[0] for _ in range(8)]
    assert [pos for pos, _ in placed][:4] == [0, size, 2 * size, SEGMENT_BYTES]
    in_file = log.read(0, 3 * size + 8)
    assert log.cached(0, 10_000) == in_file
    assert log.cached(0, 3 * size) == in_file[:-8]
    assert log.cached(size, 2 * size - 1) == in_file[size : 2 * size]
    assert log.cached(size, 1) == in_file[size : 2 * size]
    blank = log.cached(3 * size, 10_000)
    assert blank == scan.blank(SEGMENT_BYTES - 3 * size)
    assert log.cached(log.end_pos, 10_000) is None


def test_a_file_that_is_full_to_its_blank_ends_there_in_memory_too(log: CommitLog) -> None:
    put(log, [b"x" * LONGEST, b"y"])
    assert log.cached(0, 10_000) == log.read(0, SEGMENT_BYTES)
    assert log.cached(SEGMENT_BYTES - 8, 10_000) == scan.blank(8)
    assert log.cached(SEGMENT_BYTES - 8, 1) == scan.blank(8)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_log._Recent.__init__, "__defaults__", (2000,))
    log, _ = open_plain(tmp_path)
    starts = [put(log, [b"x" * 20])[0][0] for _ in range(100)]
    held = [pos for pos in starts if log.cached(pos, 1) is not None]
    assert held == starts[-len(held) :]
    assert 1000 < len(held) * (EMPTY_BYTES + 20) <= 2000
    put(log, [b"x" * 500, b"y" * 500])
    put(log, [b"x" * 700, b"y" * 700, b"z" * 700])
    last = log.end_pos - EMPTY_BYTES - 700
    assert log.cached(last, 10_000) is not None
    log.close()


@pytest.mark.parametrize("seed", range(5))
def test_memory_says_what_the_files_say(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    log, _ = open_plain(tmp_path)
    placed = []
    for _ in range(20):
        bodies = [b"x" * chance.randrange(LONGEST) for _ in range(chance.randrange(1, 5))]
        placed += put(log, bodies)
    for pos, one in placed:
        max_bytes = chance.randrange(3000)
        data = log.cached(pos, max_bytes)
        assert data is not None
        assert data == log.read(pos, len(data))
        whole = sum(size for _, size in scan.walk(data, pos))
        assert whole >= len(one)
        assert data[whole:] == b"" or len(data) == whole + 8
        assert whole == len(one) or len(data) <= max_bytes
    log.close()


# --- files ----------------------------------------------------------------------------------------


def test_old_files_go_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = open_plain(tmp_path)
    placed = put(log, [b"x" * 500] * 5)
    calls: list[str] = []
    remove, sync_folder = OsDisk.remove, OsDisk.sync_folder

    def removed(self: OsDisk, path: Path) -> None:
        calls.append(path.name.lstrip("0") or "0")
        remove(self, path)

    def synced(self: OsDisk, folder: Path) -> None:
        calls.append("synced")
        sync_folder(self, folder)

    monkeypatch.setattr(OsDisk, "remove", removed)
    monkeypatch.setattr(OsDisk, "sync_folder", synced)
    log.drop_below(3 * SEGMENT_BYTES)
    assert calls == ["0", "synced", "1024", "synced", "2048", "synced"]
    assert log.begin_pos == 3 * SEGMENT_BYTES
    assert log.file_starts() == [3 * SEGMENT_BYTES, 4 * SEGMENT_BYTES]
    assert records(log) == placed[3:]
    log.drop_below(3 * SEGMENT_BYTES)
    log.close()
    log, _ = open_plain(tmp_path)
    assert (log.begin_pos, records(log)) == (3 * SEGMENT_BYTES, placed[3:])
    log.close()


@pytest.mark.parametrize("base", [5, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES, -SEGMENT_BYTES])
def test_the_last_file_never_goes(log: CommitLog, base: int) -> None:
    placed = put(log, [b"x" * 500] * 2)
    with pytest.raises(InvariantError, match=f"no file of the log starts at {base}"):
        log.drop_below(base)
    assert records(log) == placed


def test_the_store_time_of_a_file(log: CommitLog) -> None:
    put(log, [b"x" * 500], store_timestamp_ms=1000)
    put(log, [b"x" * 500], store_timestamp_ms=2000)
    assert [log.first_store_ms(b) for b in (0, SEGMENT_BYTES)] == [1000, 2000]
    assert log.first_store_ms(2 * SEGMENT_BYTES) is None


def test_damage_names_file_and_byte_and_what_to_do(log: CommitLog) -> None:
    error = log.damaged(SEGMENT_BYTES + 17, "no record begins here")
    assert error.path == log.segments.folder / "00000000000000001024"
    assert error.offset == 17
    for words in ("damaged at byte 17: no record", "restore a copy", "move it and the files after"):
        assert words in str(error)
