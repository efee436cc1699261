"""The index as a whole: keys and hashes, files that follow each other, starts of every kind."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledgermq.broker.store.index_keys import key_hash, keys_of
from ledgermq.broker.store.key_index import KeyIndex
from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.message import java_hash

from .indexes import (
    ENTRIES,
    EVER,
    FIRST_MS,
    BreakingDisk,
    Killed,
    Row,
    all_answers,
    answers,
    contents,
    open_index,
    put,
    put_from,
    rows,
)

END = 1 << 60
LOG = rows(40)
ROLLBACK, PREPARED, COMMIT = 0xC, 0x4, 0x8


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def filled(folder: Path, threads: ThreadPoolExecutor, count: int = 40) -> KeyIndex:
    """An index of the first records of `LOG`."""
    index = open_index(folder, threads)
    await index.recover(0, END, trusted=True)
    await put_from(index, LOG[:count], 0)
    return index


# --- keys and hashes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "keys"),
    [
        ("", []),
        ("TAGS\x01UNIQ_KEY\x02", []),
        ("MY_UNIQ_KEY\x01a\x02MYKEYS\x01b\x02", []),
        ("UNIQ_KEY\x01a\x02", ["a"]),
        ("UNIQ_KEY\x01a", ["a"]),
        ("KEYS\x01a b\x02UNIQ_KEY\x01u\x02", ["u", "a", "b"]),
        ("KEYS\x01 a  b \x02", ["a", "b"]),
        ("KEYS\x01 \x02UNIQ_KEY\x01u", ["u"]),
        ("KEYS\x01a\x02KEYS\x01b\x02", ["b"]),
        ("UNIQ_KEY\x01a\x02X\x01y\x02UNIQ_KEY\x01b\x02", ["b"]),
        ("KEYS\x01a\x02KEYS\x01\x02", ["a"]),
        ("KEYS\x01a a\x02", ["a", "a"]),
        ("KEYS\x01键 é\x02", ["键", "é"]),
    ],
)
def test_keys_of_a_record(properties: str, keys: list[str]) -> None:
    assert keys_of(properties.encode()) == [key.encode() for key in keys]


def test_hashes() -> None:
    assert key_hash("T", "k") == java_hash("T#k") > 0
    assert key_hash("T", "kkkkkkk") == -java_hash("T#kkkkkkk") > 0


# With this topic its hash is Integer.MIN_VALUE, which has no positive twin.
NO_TWIN = ("B", "G:B=?0")
KEYS = ["a", "x" * 31, "x" * 32, "x" * 33, "x" * 200, "键", "é" * 40, "𝄞", "a\x00b", "kkkkkkk"]


@pytest.mark.parametrize("topic", ["T", "x" * 127, "主题"])
async def test_every_kind_of_key_is_found(
    tmp_path: Path, threads: ThreadPoolExecutor, topic: str
) -> None:
    index = open_index(tmp_path, threads)
    await index.recover(0, END, trusted=True)
    for n, key in enumerate(KEYS):
        put(index, Row(topic, f"KEYS\x01{key}\x02".encode(), 100 + n, FIRST_MS))
    for n, key in enumerate(KEYS):
        assert (await index.query(topic, key, 9, *EVER)).offsets == [100 + n]
        assert (await index.query("other", key, 9, *EVER)).offsets == []
    await index.close()


async def test_the_hash_without_a_twin_counts_as_zero(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    topic, key = NO_TWIN
    assert java_hash(f"{topic}#{key}") == -0x8000_0000
    assert key_hash(topic, key) == 0
    index = open_index(tmp_path, threads)
    await index.recover(0, END, trusted=True)
    put(index, Row(topic, f"KEYS\x01{key}\x02".encode(), 100, FIRST_MS))
    assert (await index.query(topic, key, 9, *EVER)).offsets == [100]
    await index.close()


async def test_what_is_indexed(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    index = open_index(tmp_path, threads)
    await index.recover(0, END, trusted=True)
    for n, kind in enumerate((0, PREPARED, COMMIT, ROLLBACK)):
        put(index, Row("T", b"KEYS\x01k", 100 + n, FIRST_MS), kind)
    put(index, Row("T", b"KEYS\x01k", 102, FIRST_MS))  # is there already
    put(index, Row("T", b"TAGS\x01k", 110, FIRST_MS))  # no key
    assert (await index.query("T", "k", 9, *EVER)).offsets == [102, 101, 100]
    await index.close()


# --- files ------------------------------------------------------------------------------------


async def test_found_in_memory_in_files_and_after_a_start(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    index = open_index(tmp_path, threads)
    await index.recover(0, END, trusted=True)
    for row in LOG[:5]:
        put(index, row)
    assert await all_answers(index, LOG) == answers(LOG[:5]), "from memory"
    await put_from(index, LOG, 0)
    assert await all_answers(index, LOG) == answers(LOG)
    found = await index.query("T", "none", 9, *EVER)
    assert found == ([], LOG[-1].store_ms, LOG[-1].offset)
    await index.close()
    assert len(contents(tmp_path)) > 2

    index = open_index(tmp_path, threads)
    assert await index.recover(0, END, trusted=True) == LOG[-1].offset
    assert await all_answers(index, LOG) == answers(LOG[:-1])
    await put_from(index, LOG, LOG[-1].offset)
    assert await all_answers(index, LOG) == answers(LOG)
    await index.close()


async def test_limits_of_a_query(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    index = await filled(tmp_path, threads)
    every = answers(LOG)["T", "k0"]
    times = {row.offset: row.store_ms for row in LOG}
    assert len(every) > 3
    assert (await index.query("T", "k0", 2, *EVER)).offsets == every[:2]
    begin, end = times[every[-1]], times[every[1]]
    assert (await index.query("T", "k0", 9, begin, end)).offsets == every[1:]
    assert (await index.query("T", "k0", 9, begin + 2000, end)).offsets == every[1:-1]
    await index.close()


async def test_each_file_is_on_disk_before_the_next_is_made(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    disk = BreakingDisk()
    index = open_index(tmp_path, threads, disk)
    await index.recover(0, END, trusted=True)
    await put_from(index, LOG, 0)
    names = sorted(contents(tmp_path))
    steps = [(what, name) for name in names for what in ("made", "synced")]
    assert disk.events == steps[:-1], "the newest is not on disk yet"
    assert index.durable_ms < LOG[-1].store_ms
    await index.sync()
    assert disk.events == steps
    assert index.durable_ms == LOG[-1].store_ms
    await index.close()


async def test_names_tell_the_local_time_and_never_go_back(
    tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC-8")
    time.tzset()
    try:
        index = open_index(tmp_path, threads)
        await index.recover(0, END, trusted=True)
        for n in range(3 * ENTRIES):
            put(index, Row("T", b"KEYS\x01k", 100 + n, FIRST_MS + 123 - n))
            if index.is_full:
                await index.flush()
        await index.close()
    finally:
        monkeypatch.undo()
        time.tzset()
    first = 20231115061320123
    assert sorted(contents(tmp_path)) == [str(first + n) for n in range(4)]


async def test_memory_is_bounded_by_flushes(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    index = open_index(tmp_path, threads, entries=1 << 20)
    await index.recover(0, END, trusted=True)
    n = 0
    for _ in range(3):
        while not index.is_full:
            put(index, Row("T", b"KEYS\x01k", n, FIRST_MS))
            n += 1
        assert 0 < index.waiting <= 1 << 17
        await index.flush()
        assert index.waiting == 0
    assert n > 1 << 16
    await index.close()


async def test_a_full_disk_loses_nothing(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    disk = BreakingDisk()
    index = open_index(tmp_path, threads, disk)
    await index.recover(0, END, trusted=True)
    await put_from(index, LOG[:4], 0)
    for row in LOG[4:6]:
        put(index, row)
    disk.is_full = True
    with pytest.raises(DiskFullError):
        await index.flush()
    assert await all_answers(index, LOG) == answers(LOG[:6])
    for row in LOG[6:30]:
        put(index, row)  # more than the file has room for
    with pytest.raises(DiskFullError):
        await index.flush()
    await index.query("T", "k0", 9, *EVER)
    disk.is_full = False
    await put_from(index, LOG, 0)
    assert await all_answers(index, LOG) == answers(LOG)
    await index.close()


async def test_files_below_the_logs_begin_go(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    index = await filled(tmp_path, threads)
    before = contents(tmp_path)
    await index.remove_below(LOG[0].offset)
    assert contents(tmp_path) == before
    await index.remove_below(LOG[20].offset)
    after = contents(tmp_path)
    assert 0 < len(after) < len(before)
    kept = await all_answers(index, LOG)
    for asked, offsets in answers(LOG).items():
        wanted = [offset for offset in offsets if offset >= LOG[20].offset]
        assert kept.get(asked, [])[: len(wanted)] == wanted
    await index.remove_below(END)
    assert list(contents(tmp_path)) == [max(before)], "the newest stays"
    await index.close()
    index = open_index(tmp_path, threads)
    assert await index.recover(END, END + 1, trusted=True) == END
    await index.close()


async def test_an_emptied_log(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    index = await filled(tmp_path, threads)
    await index.clear(LOG[30].offset)
    assert contents(tmp_path) == {}
    await put_from(index, LOG, 0)
    assert await all_answers(index, LOG) == answers(LOG[30:])
    await index.close()


# --- starts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(len(LOG) + 1))
async def test_what_lies_above_the_logs_end_is_cut_off(
    tmp_path: Path, threads: ThreadPoolExecutor, count: int
) -> None:
    index = await filled(tmp_path / "long", threads)
    await index.close()
    end = LOG[count].offset if count < len(LOG) else END
    index = open_index(tmp_path / "long", threads)
    position = await index.recover(0, end, trusted=True)
    assert position <= end
    await put_from(index, LOG[:count], position)
    assert await all_answers(index, LOG) == answers(LOG[:count])
    await index.close()
    short = await filled(tmp_path / "short", threads, count)
    await short.close()
    long_files, short_files = contents(tmp_path / "long"), {}
    if (tmp_path / "short").exists():
        short_files = contents(tmp_path / "short")
    assert long_files == short_files


async def test_after_a_power_loss_the_newest_file_is_made_again(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    index = await filled(tmp_path, threads)
    await index.close()
    right = contents(tmp_path)
    (tmp_path / max(right)).write_bytes(os.urandom(len(right[max(right)])))
    index = open_index(tmp_path, threads)
    position = await index.recover(0, END, trusted=False)
    assert 0 < position < LOG[-1].offset
    assert sorted(contents(tmp_path)) == sorted(right)[:-1]
    await put_from(index, LOG, position)
    await index.close()
    assert contents(tmp_path) == right


async def test_a_kill_at_any_write(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    async def run(folder: Path, disk: BreakingDisk) -> None:
        index = open_index(folder, threads, disk)
        position = await index.recover(0, END, trusted=True)
        for at, row in enumerate(LOG):
            if row.offset >= position:
                put(index, row)
                if at % 4 == 3:
                    await index.flush()
        await index.flush()

    disk = BreakingDisk()
    await run(tmp_path / "whole", disk)
    right = contents(tmp_path / "whole")
    for writes in range((1 << 60) - disk.writes_left):
        folder = tmp_path / str(writes)
        disk = BreakingDisk()
        disk.writes_left = writes
        with pytest.raises(Killed):
            await run(folder, disk)
        # Killed a second time, while it recovers or goes on.
        disk = BreakingDisk()
        disk.writes_left = 1 + writes % 5
        with pytest.raises(Killed):
            await run(folder, disk)
        await run(folder, BreakingDisk())
        assert contents(folder) == right


@pytest.mark.parametrize(
    ("harm", "which"),
    [
        *(("shape", n) for n in range(3)),
        *(("header", n) for n in range(3)),
        *(("last", n) for n in range(3)),
        ("order", 1),
        ("order", 2),
    ],
)
async def test_a_damaged_file_and_all_after_it_are_made_again(
    tmp_path: Path,
    threads: ThreadPoolExecutor,
    harm: str,
    which: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = await filled(tmp_path, threads)
    await index.close()
    right = contents(tmp_path)
    name = sorted(right)[which]
    data = bytearray(right[name])
    if harm == "shape":
        data += bytes(20)
    elif harm == "header":
        data[:40] = bytes(39) + b"\xff"
    elif harm == "order":
        data = bytearray(right[sorted(right)[0]])
    else:
        data[24:32] = bytes(8)
    (tmp_path / name).write_bytes(data)
    index = open_index(tmp_path, threads)
    position = await index.recover(0, END, trusted=True)
    await put_from(index, LOG, position)
    assert await all_answers(index, LOG) == answers(LOG)
    await index.close()
    assert contents(tmp_path) == right
    assert "made again from the log" in caplog.text
    assert str(tmp_path) in caplog.text


async def test_other_files_are_left_alone(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    for name in ("notes.txt", "123", "2023111422132000a"):
        (tmp_path / name).write_bytes(b"mine")
    index = await filled(tmp_path, threads)
    await index.close()
    index = open_index(tmp_path, threads)
    await index.recover(0, 0, trusted=False)
    await index.close()
    assert {name for name, data in contents(tmp_path).items() if data == b"mine"} == {
        "notes.txt", "123", "2023111422132000a",
    }  # fmt: skip


@pytest.mark.parametrize("which", [0, -1])
async def test_damage_that_a_query_meets_is_mended(
    tmp_path: Path, threads: ThreadPoolExecutor, which: int
) -> None:
    index = await filled(tmp_path, threads)
    right = contents(tmp_path)
    path = tmp_path / sorted(right)[which]
    data = bytearray(right[path.name])
    at = 40 + 7 * 4 + 20
    for entry in range(at, at + 6 * 20, 20):
        data[entry + 16] = 0x7F  # leads far forward
    path.write_bytes(data)
    for asked, offsets in (await all_answers(index, LOG)).items():
        assert set(offsets) <= set(answers(LOG)[asked]), "incomplete, but nothing wrong"
    assert str(index.broken) == str(path)
    position = await index.mend(0, END)
    assert index.broken is None
    await put_from(index, LOG, position)
    assert await all_answers(index, LOG) == answers(LOG)
    await index.close()
    assert contents(tmp_path) == right
