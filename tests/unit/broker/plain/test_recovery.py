"""Opening a plain commitlog after every kind of stop."""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.plain import recovery, scan
from ledgermq.broker.plain.checkpoint import Checkpoint, Mark, StoreTimes
from ledgermq.broker.plain.recovery import open_commit_log
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import CallerError, DamagedError, DiskFullError, StorageError
from ledgermq.remoting.message import decode_record
from tests.golden.captured import files, manifest, messages, rebuild
from tests.unit.dledger.logs import MortalDisk, PowerCut, flip, overwrite
from tests.unit.dledger.power import PowerDisk

from .plain_logs import (
    EMPTY_BYTES,
    SEGMENT_BYTES,
    Records,
    SmallDisk,
    file_of,
    mark,
    open_plain,
    put,
    records,
)

# Two records of these share a file.
BODIES = [bytes([65 + i]) * 300 for i in range(8)]
SIZE = EMPTY_BYTES + 300


def written(folder: Path, bodies: list[bytes] = BODIES, **fields: Any) -> Records:
    """A log of these, closed."""
    log, _ = open_plain(folder)
    placed = put(log, bodies, **fields)
    log.sync()
    log.close()
    return placed


def reopened(folder: Path, *, aborted: bool = True) -> Records:
    log, _ = open_plain(folder, aborted=aborted)
    found = records(log)
    log.close()
    return found


def break_record(folder: Path, placed: Records, index: int) -> tuple[Path, int]:
    """Flip a bit of a body; (file, byte in it) of the record."""
    pos = placed[index][0]
    flip(file_of(folder, pos), pos % SEGMENT_BYTES + 90)
    return file_of(folder, pos), pos % SEGMENT_BYTES


def refused(folder: Path, *, aborted: bool = True) -> DamagedError:
    before = {p: p.read_bytes() for p in (folder / "commitlog").iterdir()}
    with pytest.raises(DamagedError) as caught:
        open_plain(folder, aborted=aborted)
    assert {p: p.read_bytes() for p in (folder / "commitlog").iterdir()} == before
    return caught.value


# --- a log that is as it was left -----------------------------------------------------------------


@pytest.mark.parametrize("aborted", [True, False])
def test_a_missing_or_an_empty_folder_is_an_empty_log(tmp_path: Path, aborted: bool) -> None:
    for _ in range(2):
        log, recovered = open_plain(tmp_path, aborted=aborted)
        assert (log.begin_pos, log.end_pos, log.file_starts()) == (0, 0, [])
        assert (recovered.dispatch_from, recovered.truncated_bytes) == (0, 0)
        assert recovered.was_clean is not aborted
        log.close()
    assert reopened(tmp_path) == []


@pytest.mark.parametrize("aborted", [True, False])
@pytest.mark.parametrize("marked", [None, 0, 3, 8])
def test_a_log_comes_back_and_goes_on(
    tmp_path: Path, marked: int | None, aborted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    placed = written(tmp_path)
    if marked is not None:
        mark(tmp_path, placed[marked - 1][0] + SIZE if marked else 0)
    for body in (b"", b"x" * 800):
        log, recovered = open_plain(tmp_path, aborted=aborted)
        assert recovered.truncated_bytes == 0
        assert records(log) == placed
        placed += put(log, [body])
        assert records(log) == placed
        log.close()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_log_may_begin_above_0(tmp_path: Path) -> None:
    placed = written(tmp_path)
    file_of(tmp_path, 0).unlink()
    for aborted in (True, False):
        log, recovered = open_plain(tmp_path, aborted=aborted)
        assert (log.begin_pos, recovered.checked_from >= SEGMENT_BYTES) == (SEGMENT_BYTES, True)
        assert records(log) == placed[2:]
        log.close()
    mark(tmp_path, 10)  # from before those files went
    assert reopened(tmp_path) == placed[2:]


def test_an_empty_file_above_0_is_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "commitlog").mkdir()
    file_of(tmp_path, 5 * SEGMENT_BYTES).touch()
    log, _ = open_plain(tmp_path, aborted=True)
    assert log.begin_pos == log.end_pos == 5 * SEGMENT_BYTES
    assert put(log, [b"x"])[0][0] == 5 * SEGMENT_BYTES
    log.close()


def test_records_longer_than_a_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = written(tmp_path)
    for read_bytes in (60, 91, SIZE, SIZE + 10, 900):
        monkeypatch.setattr(recovery, "_READ_BYTES", read_bytes)
        assert reopened(tmp_path) == placed


def test_another_file_size_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(CallerError, match="mappedFileSizeCommitLog"):
        open_plain(tmp_path, segment_bytes=2 * SEGMENT_BYTES)
    os.truncate(file_of(tmp_path, SEGMENT_BYTES), 100)
    with pytest.raises(CallerError, match="1024 has 100 bytes"):
        open_plain(tmp_path, aborted=True)
    mark(tmp_path, 0)
    assert len(reopened(tmp_path)) == 2, "the mark is of this size: the file has lost its end"
    os.truncate(file_of(tmp_path, 0), 900)
    with pytest.raises(CallerError, match="0 has 900 bytes"):
        open_plain(tmp_path, segment_bytes=2 * SEGMENT_BYTES)


# --- where it begins ------------------------------------------------------------------------------


@pytest.mark.parametrize("aborted", [True, False])
def test_with_a_mark_it_begins_there(tmp_path: Path, aborted: bool) -> None:
    placed = written(tmp_path)
    end = placed[-1][0] + SIZE
    mark(tmp_path, placed[6][0], placed[3][0])
    log, recovered = open_plain(tmp_path, aborted=aborted)
    assert (recovered.checked_from, recovered.dispatch_from) == (placed[3][0], placed[3][0])
    log.close()
    mark(tmp_path, end)
    log, recovered = open_plain(tmp_path, aborted=aborted)
    assert (recovered.checked_from, recovered.dispatch_from) == (end, end)
    log.close()
    mark(tmp_path, placed[3][0], end)
    log, recovered = open_plain(tmp_path, aborted=aborted)
    assert (recovered.checked_from, recovered.dispatch_from) == (placed[3][0], end)
    log.close()


def test_without_one_a_clean_stop_is_checked_for_three_files(tmp_path: Path) -> None:
    placed = written(tmp_path, BODIES[:6])
    assert placed[-1][0] // SEGMENT_BYTES == 2
    assert open_and_close(tmp_path, aborted=False).checked_from == 0
    log, _ = open_plain(tmp_path)
    put(log, BODIES)
    log.close()
    found = open_and_close(tmp_path, aborted=False)
    assert (found.checked_from, found.dispatch_from) == (4 * SEGMENT_BYTES, 4 * SEGMENT_BYTES)


def open_and_close(folder: Path, *, aborted: bool) -> Any:
    log, recovered = open_plain(folder, aborted=aborted)
    log.close()
    return recovered


@pytest.mark.parametrize(
    ("times", "start"),
    [
        pytest.param(StoreTimes(13_000, 13_000, 0), 2, id="3 s before the older time"),
        pytest.param(StoreTimes(99_000, 12_999, 0), 1, id="of the queues"),
        pytest.param(StoreTimes(12_999, 99_000, 0), 1, id="of the log"),
        pytest.param(StoreTimes(99_000, 99_000, 0), 3, id="the newest file"),
        pytest.param(StoreTimes(), 0, id="no checkpoint"),
    ],
)
def test_an_unclean_stop_of_java_is_checked_from_a_time(
    tmp_path: Path, times: StoreTimes, start: int
) -> None:
    log, _ = open_plain(tmp_path)
    for second in (8, 9, 10, 11):
        put(log, BODIES[:2], store_timestamp_ms=second * 1000)
    log.close()
    mark(tmp_path, 0, times=times)
    overwrite(tmp_path / "checkpoint", 64, bytes(100))  # Java has no mark
    found = open_and_close(tmp_path, aborted=True)
    assert found.checked_from == found.dispatch_from == start * SEGMENT_BYTES


def test_a_file_without_an_intact_head_is_not_begun_with(tmp_path: Path) -> None:
    written(tmp_path, BODIES[:6], store_timestamp_ms=1000)
    mark(tmp_path, 0, times=StoreTimes(9000, 9000, 0))
    overwrite(tmp_path / "checkpoint", 64, bytes(100))
    overwrite(file_of(tmp_path, 2 * SEGMENT_BYTES), 4, b"?")
    error = refused(tmp_path)
    assert (error.path, error.offset) == (file_of(tmp_path, 2 * SEGMENT_BYTES), 0)


# --- torn tails -----------------------------------------------------------------------------------


def flip_body(path: Path, at: int) -> None:
    flip(path, at + 100)


def zero_rest(path: Path, at: int) -> None:
    overwrite(path, at + 50, bytes(SIZE - 50))


def zero_all(path: Path, at: int) -> None:
    overwrite(path, at, bytes(SIZE))


TEARS: list[Callable[[Path, int], None]] = [flip_body, zero_rest, zero_all]


@pytest.mark.parametrize("tear", TEARS)
@pytest.mark.parametrize("victim", range(2, 8))
def test_a_torn_tail_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, victim: int, tear: Callable[..., None]
) -> None:
    placed = written(tmp_path)
    mark(tmp_path, placed[1][0] + SIZE)
    pos = placed[victim][0]
    tear(file_of(tmp_path, pos), pos % SEGMENT_BYTES)
    end = placed[victim - 1][0] + SIZE
    log, recovered = open_plain(tmp_path, aborted=True)
    assert log.end_pos == end
    assert records(log) == placed[:victim]
    if victim == 7 and tear is zero_all:
        assert recovered.truncated_bytes == 0
        assert not caplog.records
    else:
        assert 0 < recovered.truncated_bytes <= placed[-1][0] + SIZE - end
        (warning,) = caplog.records
        for words in (
            str(file_of(tmp_path, end)),
            f"at byte {end % SEGMENT_BYTES} ",
            f"{recovered.truncated_bytes} bytes",
        ):
            assert words in warning.getMessage()
    # Shorter than what was there: nothing of that may lie behind.
    assert not any(log.read(end, SEGMENT_BYTES))
    assert log.file_starts()[-1] <= end
    goes_on = put(log, [b"goes on"])
    log.close()
    assert reopened(tmp_path) == placed[:victim] + goes_on


def test_a_blank_that_nothing_follows_is_taken_back(tmp_path: Path) -> None:
    placed = written(tmp_path, BODIES[:3])
    file_of(tmp_path, SEGMENT_BYTES).unlink()
    for there in (False, True):
        if there:
            overwrite(file_of(tmp_path, 0), 2 * SIZE, scan.blank(SEGMENT_BYTES - 2 * SIZE))
            file_of(tmp_path, SEGMENT_BYTES).touch()
        log, recovered = open_plain(tmp_path, aborted=True)
        assert (log.end_pos, recovered.truncated_bytes) == (2 * SIZE, 8)
        assert records(log) == placed[:2]
        log.close()


def test_a_blank_of_another_length_is_none(tmp_path: Path) -> None:
    placed = written(tmp_path, BODIES[:3])
    overwrite(file_of(tmp_path, 0), 2 * SIZE, scan.blank(SEGMENT_BYTES - 2 * SIZE - 1))
    assert reopened(tmp_path) == placed[:2]


def test_a_sector_that_was_not_written_is_noticed(tmp_path: Path) -> None:
    """The CRC of a record is of its body only."""
    properties = b"UNIQ_KEY\x01" + b"k" * 150 + b"\x02"
    placed = written(tmp_path, [b"x" * 20, b"y" * 20, b"z"], properties=properties)
    end = placed[1][0] + len(placed[1][1])
    assert end % 512 > 10
    overwrite(file_of(tmp_path, 0), 512, bytes(end - 512))
    assert decode_record(file_of(tmp_path, 0).read_bytes(), placed[1][0])
    mark(tmp_path, placed[2][0] + len(placed[2][1]), 0)
    assert len(reopened(tmp_path)) == 3, "below the mark it was written so"
    mark(tmp_path, placed[1][0])
    log, _ = open_plain(tmp_path)
    assert log.end_pos > end, "after a clean stop nothing is torn"
    log.close()
    assert reopened(tmp_path) == placed[:1]


@pytest.mark.parametrize("failing", [1, 2])
def test_what_the_page_cache_alone_holds_is_written_again(tmp_path: Path, failing: int) -> None:
    """A sync fails, the process ends, the next start reads what the disk lacks."""
    disk = PowerDisk()
    log, _ = open_plain(tmp_path, disk=disk)
    placed = put(log, BODIES[:2])
    log.sync()
    mark(tmp_path, log.end_pos, disk=disk)
    placed += put(log, BODIES[2:])
    disk.failing_syncs = failing
    with pytest.raises(StorageError, match="fdatasync failed"):
        log.sync()
    log.close()
    for _ in range(1, failing):
        with pytest.raises(StorageError, match="fdatasync failed"):
            open_plain(tmp_path, disk=disk, aborted=True)
    log, _ = open_plain(tmp_path, disk=disk, aborted=True)
    assert records(log) == placed
    disk.fail(tmp_path)
    assert reopened(tmp_path) == placed


@pytest.mark.parametrize("calls", range(0, 40, 3))
def test_a_crash_while_the_tail_is_cut(tmp_path: Path, calls: int) -> None:
    placed = written(tmp_path)
    mark(tmp_path, placed[0][0] + SIZE)
    break_record(tmp_path, placed, 2)
    disk = MortalDisk(calls)
    with contextlib.suppress(PowerCut):
        open_plain(tmp_path, disk=disk, aborted=True)
    disk.close_all()
    assert reopened(tmp_path) == placed[:2]


def test_files_behind_the_end_go_last_first_each_on_disk_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = written(tmp_path)
    break_record(tmp_path, placed, 1)
    calls: list[str] = []
    monkeypatch.setattr(OsDisk, "remove", lambda _, path: calls.append(str(int(path.name))))
    monkeypatch.setattr(OsDisk, "sync_folder", lambda *_: calls.append("synced"))
    open_and_close(tmp_path, aborted=True)
    assert calls == ["synced", "3072", "synced", "2048", "synced", "1024", "synced"]


@pytest.mark.parametrize("aborted", [True, False])
def test_what_is_known_to_be_on_disk_is_not_written_again(tmp_path: Path, aborted: bool) -> None:
    placed = written(tmp_path)
    disk = SmallDisk()
    mark(tmp_path, placed[6][0], 0)
    for _ in range(2):
        log, _ = open_plain(tmp_path, aborted=aborted, disk=disk)
        log.close()
    assert disk.writes == [(0, 2 * SIZE)] * 2, "the last file, which is past the mark"
    disk.writes.clear()
    mark(tmp_path, placed[7][0], 0)
    log, _ = open_plain(tmp_path, aborted=aborted, disk=disk)
    log.close()
    assert disk.writes == [(SIZE, SIZE)]


def test_a_store_that_java_has_left_cleanly_is_only_read(tmp_path: Path) -> None:
    written(tmp_path)
    disk = SmallDisk()
    log, _ = open_plain(tmp_path, disk=disk)
    log.close()
    assert disk.writes == []


def test_a_full_disk_is_told_at_the_start(tmp_path: Path) -> None:
    placed = written(tmp_path)
    disk = SmallDisk()
    disk.room = 0
    with pytest.raises(DiskFullError, match="no room left"):
        open_plain(tmp_path, disk=disk, aborted=True)
    mark(tmp_path, placed[-1][0] + SIZE)
    log, _ = open_plain(tmp_path, disk=disk, aborted=True)
    assert records(log) == placed
    log.close()


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("aborted", [True, False])
@pytest.mark.parametrize("tear", TEARS)
@pytest.mark.parametrize("victim", range(3, 6))
def test_what_is_broken_below_the_mark_is_damage(
    tmp_path: Path, victim: int, tear: Callable[..., None], aborted: bool
) -> None:
    placed = written(tmp_path)
    mark(tmp_path, placed[6][0], placed[3][0])
    pos = placed[victim][0]
    tear(file_of(tmp_path, pos), pos % SEGMENT_BYTES)
    error = refused(tmp_path, aborted=aborted)
    assert (error.path, error.offset) == (file_of(tmp_path, pos), pos % SEGMENT_BYTES)
    assert "restore a copy" in str(error)


def test_what_the_message_says_helps(tmp_path: Path) -> None:
    placed = written(tmp_path)
    mark(tmp_path, placed[6][0], placed[3][0])
    break_record(tmp_path, placed, 4)
    error = refused(tmp_path)
    away = tmp_path / "away"
    away.mkdir()
    for path in sorted((tmp_path / "commitlog").iterdir()):
        if path.name >= Path(str(error.path)).name:
            shutil.move(path, away)
    shutil.move(tmp_path / "checkpoint", away)
    assert reopened(tmp_path, aborted=False) == placed[:4]


@pytest.mark.parametrize("aborted", [True, False])
def test_a_missing_file_is_damage(tmp_path: Path, aborted: bool) -> None:
    placed = written(tmp_path)
    gone = file_of(tmp_path, 2 * SEGMENT_BYTES)
    gone.unlink()
    error = refused(tmp_path, aborted=aborted)
    assert (error.path, error.offset) == (gone, 0)
    file_of(tmp_path, 3 * SEGMENT_BYTES).unlink()
    assert reopened(tmp_path, aborted=aborted) == placed[:4]
    mark(tmp_path, placed[7][0])
    error = refused(tmp_path, aborted=aborted)
    assert (error.path, error.offset) == (gone, 0)


@pytest.mark.parametrize("aborted", [True, False])
def test_a_log_that_is_gone_is_damage(tmp_path: Path, aborted: bool) -> None:
    """A disk that was not mounted must not become a new, empty store."""
    placed = written(tmp_path)
    mark(tmp_path, placed[5][0])
    shutil.rmtree(tmp_path / "commitlog")
    (tmp_path / "commitlog").mkdir()
    error = refused(tmp_path, aborted=aborted)
    assert (error.path, error.offset) == (file_of(tmp_path, placed[5][0]), 0)


@pytest.mark.parametrize("aborted", [True, False])
@pytest.mark.parametrize(
    ("victim", "size"),
    # In the middle of the log nobody looks for zeros.
    [(victim, size) for victim in (0, 2, 6) for size in (0, 100)] + [(6, SEGMENT_BYTES)],
)
def test_a_file_that_lost_its_bytes_is_damage(
    tmp_path: Path, victim: int, size: int, aborted: bool
) -> None:
    placed = written(tmp_path)
    mark(tmp_path, placed[-1][0] + SIZE)
    path = file_of(tmp_path, placed[victim][0])
    path.write_bytes(bytes(size))
    with pytest.raises(DamagedError, match=f"{path}: damaged at byte"):
        open_plain(tmp_path, aborted=aborted)


def test_after_a_clean_stop_an_intact_record_behind_a_broken_one_is_damage(tmp_path: Path) -> None:
    placed = written(tmp_path)
    path, at = break_record(tmp_path, placed, 5)
    error = refused(tmp_path, aborted=False)
    assert (error.path, error.offset) == (path, at)
    assert f"at {placed[6][0]} behind it lies an intact one" in str(error)
    assert reopened(tmp_path) == placed[:5], "after an unclean one it may be torn"


def test_a_killed_process_leaves_no_holes(tmp_path: Path) -> None:
    placed = written(tmp_path)
    break_record(tmp_path, placed, 5)
    with pytest.raises(DamagedError, match="behind it lies an intact one"):
        open_plain(tmp_path, aborted=True, lost_power=False)
    break_record(tmp_path, placed, 5)  # as it was
    break_record(tmp_path, placed, 7)
    log, _ = open_plain(tmp_path, aborted=True, lost_power=False)
    assert records(log) == placed[:7], "the last one may have been cut short by the kill"
    log.close()


def test_after_a_clean_stop_rubbish_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    placed = written(tmp_path)
    break_record(tmp_path, placed, 7)
    log, recovered = open_plain(tmp_path)
    assert records(log) == placed[:7]
    assert recovered.truncated_bytes == SIZE
    log.close()
    assert "CRC" in caplog.text


def test_what_was_on_disk_by_the_checkpoints_times_is_damage(tmp_path: Path) -> None:
    placed = written(tmp_path, BODIES[:4], store_timestamp_ms=1000)
    mark(tmp_path, 0, times=StoreTimes(4000, 4000, 0))
    overwrite(tmp_path / "checkpoint", 64, bytes(100))
    path, at = break_record(tmp_path, placed, 2)
    error = refused(tmp_path)
    assert (error.path, error.offset) == (path, at)
    mark(tmp_path, 0, times=StoreTimes(3999, 3999, 0))
    overwrite(tmp_path / "checkpoint", 64, bytes(100))
    assert reopened(tmp_path) == placed[:2]


def test_no_tail_is_longer_than_a_disk_writes_between_two_syncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a checkpoint, one broken bit at the log's begin must not cost the whole log."""
    placed = written(tmp_path)
    path, at = break_record(tmp_path, placed, 1)
    monkeypatch.setattr(recovery, "_LONGEST_TAIL_BYTES", 2 * SEGMENT_BYTES)
    error = refused(tmp_path)
    assert (error.path, error.offset) == (path, at)
    assert str(file_of(tmp_path, 3 * SEGMENT_BYTES)) in str(error)
    monkeypatch.setattr(recovery, "_LONGEST_TAIL_BYTES", 3 * SEGMENT_BYTES)
    assert reopened(tmp_path) == placed[:1]


# --- others ---------------------------------------------------------------------------------------


def test_a_long_check_tells_how_far_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    monkeypatch.setattr(recovery, "_READ_BYTES", SIZE)
    times = iter(range(0, 100_000, 400))
    caplog.set_level(logging.INFO)
    log, _ = open_commit_log(
        tmp_path / "commitlog",
        SEGMENT_BYTES,
        checkpoint=Checkpoint(tmp_path / "checkpoint"),
        was_aborted=True,
        mono_ms=lambda: next(times),
    )
    log.close()
    told = [r.getMessage() for r in caplog.records if "checked up to" in r.getMessage()]
    assert len(told) == 2
    assert told[0].endswith(f"checked up to {SEGMENT_BYTES + SIZE} of at most {4 * SEGMENT_BYTES}")


@pytest.mark.parametrize("store", ["plain-4.9.5/clean", "plain-4.9.5/kill9"])
def test_a_store_of_java(tmp_path: Path, store: str, caplog: pytest.LogCaptureFixture) -> None:
    rebuild(store, tmp_path)
    size = manifest(store)["mappedFileSizeCommitLog"]
    aborted = (tmp_path / "abort").exists()
    expected = messages(store)
    last = expected[-1]
    end = last["commitLogOffset"] + last["storeSize"]
    for was_aborted in (aborted, False, True):
        log, recovered = open_plain(tmp_path, segment_bytes=size, aborted=was_aborted)
        assert (log.begin_pos, log.end_pos, recovered.truncated_bytes) == (0, end, 0)
        assert [pos for pos, _ in records(log)] == [m["commitLogOffset"] for m in expected]
        log.close()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    for base, content in files(store, "commitlog"):
        path = file_of(tmp_path, base, size)
        assert path.exists() is (base < end)
        if path.exists():
            assert path.read_bytes().rstrip(b"\0") == content.rstrip(b"\0")


def test_a_store_of_java_goes_on_with_a_mark(tmp_path: Path) -> None:
    rebuild("plain-4.9.5/kill9", tmp_path)
    log, _ = open_plain(tmp_path, segment_bytes=65536, aborted=True)
    ours = put(log, [b"x" * 30_000] * 5)
    log.sync()
    before = records(log)
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    checkpoint.save(checkpoint.times, Mark(log.end_pos, log.end_pos))
    checkpoint.close()
    end = log.end_pos
    log.close()
    log, recovered = open_plain(tmp_path, segment_bytes=65536)
    assert recovered.dispatch_from == recovered.checked_from == end
    assert records(log) == before
    assert before[-5:] == ours
    log.close()


def test_nothing_stays_open_when_a_start_is_refused(tmp_path: Path) -> None:
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("needs /proc")
    placed = written(tmp_path)
    mark(tmp_path, placed[-1][0] + SIZE, 0)
    break_record(tmp_path, placed, 3)
    before = len(list(fds.iterdir()))
    refused(tmp_path)
    assert len(list(fds.iterdir())) == before
