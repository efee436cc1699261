"""The view that brings records to the index: progress, low priority, queries that wait for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from ledgermq.broker.store import index_view
from ledgermq.broker.store.group_feed import GroupFeed
from ledgermq.broker.store.index_file import IndexFile, Shape
from ledgermq.broker.store.index_view import IndexView, Records
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import StorageError
from ledgermq.dledger.store.begin import Begin
from ledgermq.remoting.message import encode_record, pack_host
from ledgermq.remoting.message_record import peek_record
from tests.support import until

from .indexes import ENTRIES, EVER, FIRST_MS, SLOTS, BreakingDisk, contents, open_index
from .replicas import FakeLog

V4, V6 = pack_host("10.0.0.1:10911"), pack_host("[2001:db8::1]:10911")


def record(key: str, topic: str = "T", host: bytes = V4, store_ms: int = FIRST_MS) -> bytes:
    return encode_record(
        topic=topic.encode(), queue_id=0, flag=0, queue_offset=0, physical_offset=0, sys_flag=0,
        born_timestamp_ms=1, born_host=host, store_timestamp_ms=store_ms, store_host=host,
        reconsume_times=0, prepared_transaction_offset=0, body=b"body",
        properties=f"TAGS\x01a\x02KEYS\x01{key}\x02".encode(),
    )  # fmt: skip


class ListFeed:
    """A log in memory; record n is at 100 + 10 n."""

    def __init__(self, records: list[bytes]) -> None:
        self.all = records
        self.begin_pos = 100
        self.chunk = 5
        self.asked: list[int] = []
        self.failures: list[Exception] = []
        self.is_stuck = False

    @property
    def end(self) -> int:
        return 100 + 10 * len(self.all)

    async def records(self, pos: int, end: int) -> tuple[Records, int]:
        self.asked.append(pos)
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        if self.is_stuck:
            return Records(), pos
        first = (max(pos, self.begin_pos) - 100 + 9) // 10
        last = min(first + self.chunk, (end - 100 + 9) // 10)
        data, places = b"before", []
        for n in range(first, min(last, len(self.all))):
            places.append((100 + 10 * n, len(data), len(data) + len(self.all[n])))
            data += self.all[n]
        return Records(data + b"behind", places), 100 + 10 * last


Open = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Starts views on one folder; those still open are closed afterwards."""
    monkeypatch.setattr(index_view, "_GATHER_S", 0.001)
    monkeypatch.setattr(index_view, "_RETRY_S", 0.001)
    async with AsyncExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(1))

        async def start(feed: ListFeed, **options: Any) -> IndexView:
            view = IndexView(open_index(tmp_path / "index", threads, **options), feed)
            await view.start(feed.end, trusted=True)
            stack.push_async_callback(view.close)
            return view

        yield start


async def found(view: IndexView, key: str, topic: str = "T") -> list[int]:
    return (await view.query(topic, key, 99, *EVER)).offsets


async def test_a_query_sees_what_was_visible_when_it_came(start: Open) -> None:
    feed = ListFeed([record(f"k{n}") for n in range(40)])
    view = await start(feed)
    assert await found(view, "k0") == []
    view.applied_to(300)
    assert await found(view, "k19") == [290]
    assert await found(view, "k20") == []
    assert view.position == 300
    view.applied_to(200)  # never back
    view.applied_to(feed.end)
    assert await found(view, "k39") == [490]


async def test_without_queries_it_follows_by_itself(start: Open) -> None:
    feed = ListFeed([record(f"k{n}") for n in range(40)])
    view = await start(feed)
    view.applied_to(feed.end)
    await until(lambda: view.position == feed.end)
    assert feed.asked == list(range(100, feed.end, 50)), "each chunk once"


@pytest.mark.parametrize("turns", range(5))
async def test_closed_while_work_arrives(start: Open, turns: int) -> None:
    """Whatever the turns of the loop between the two, the task hears that it is to end."""
    feed = ListFeed([record("k"), record("l")])
    view = await start(feed)
    view.applied_to(110)
    await until(lambda: view.position == 110)
    await asyncio.sleep(0.02)  # it rests, with a key that is not yet in the file
    assert view.index.waiting
    view.applied_to(feed.end)
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await view.close()


async def test_a_query_does_not_wait_forever(start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_view, "_QUERY_WAIT_S", 0.01)
    feed = ListFeed([record("k")])
    view = await start(feed)
    feed.is_stuck = True
    view.applied_to(feed.end)
    assert await found(view, "k") == []
    feed.is_stuck = False
    await until(lambda: view.position == feed.end)
    assert await found(view, "k") == [100]


async def test_what_is_indexed_and_what_not(start: Open, caplog: pytest.LogCaptureFixture) -> None:
    long = "%RETRY%" + "x" * 130
    feed = ListFeed([
        record("k", "T"), record("k", INTERNAL_TOPIC), record("k", "T", V6), record("k", long),
        b"no record", b"", record("k", "T")[:-1], b"\xff" * 200, record("k", "T"),
    ])  # fmt: skip
    view = await start(feed)
    view.applied_to(feed.end)
    assert await found(view, "k") == [180, 120, 100]
    assert await found(view, "k", long) == [130]
    assert await found(view, "k", INTERNAL_TOPIC) == []
    assert [f"the record at {n} " in caplog.text for n in range(100, 190, 10)] == [
        False, False, False, False, True, True, True, True, False,
    ]  # fmt: skip


async def test_a_start_goes_on_where_the_last_one_ended(start: Open, tmp_path: Path) -> None:
    feed = ListFeed([record(f"k{n % 3}") for n in range(50)])
    view = await start(feed)
    view.applied_to(250)
    await found(view, "")
    await view.close()
    feed.asked.clear()
    view = await start(feed)
    assert view.position == 240, "the last record once more: it may have been cut in two"
    view.applied_to(feed.end)
    assert await found(view, "k1") == [100 + 10 * n for n in range(49, -1, -1) if n % 3 == 1]
    assert min(feed.asked) == 240
    await view.close()
    assert len(contents(tmp_path / "index")) == 3


async def test_more_than_memory_may_hold_goes_to_the_file(start: Open) -> None:
    feed = ListFeed([record("k")] * 2000)
    feed.chunk = 700
    view = await start(feed, slots=7, entries=300)
    view.applied_to(feed.end)
    await until(lambda: view.position == feed.end)
    assert view.index.waiting < 1000
    assert len(await found(view, "k")) == 99


async def test_idle_it_writes_what_is_in_memory(
    start: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_view, "_FLUSH_S", 0.01)
    feed = ListFeed([record("k")] * 3)
    view = await start(feed)
    view.applied_to(feed.end)
    await until(lambda: view.position == feed.end and view.index.waiting == 0)


async def test_troubles_pass(start: Open, caplog: pytest.LogCaptureFixture) -> None:
    disk = BreakingDisk()
    feed = ListFeed([record("k")] * 1000)
    feed.chunk = 1000
    feed.failures = [StorageError("the log is away"), StorageError("the log is away"), OSError("x")]
    view = await start(feed, disk=disk)
    disk.is_full = True
    view.applied_to(feed.end)
    await until(lambda: "no room left" in caplog.text)
    assert caplog.text.count("the log is away") == 1
    assert view.position == 100
    disk.is_full = False
    await until(lambda: view.position == feed.end)
    offsets = await found(view, "k")
    assert offsets == [feed.end - 10 * n for n in range(1, 100)]


async def test_damage_is_mended(start: Open, tmp_path: Path) -> None:
    feed = ListFeed([record("k") for _ in range(50)])
    view = await start(feed)
    view.applied_to(feed.end)
    assert len(await found(view, "k")) == 50
    await view.index.flush()
    right = contents(tmp_path / "index")
    for name, data in right.items():
        (tmp_path / "index" / name).write_bytes(data[: len(data) // 2])
    assert len(await found(view, "k")) < 50
    await until(lambda: view.index.broken is None)
    assert len(await found(view, "k")) == 50
    await view.index.flush()
    assert contents(tmp_path / "index") == right


@pytest.mark.parametrize("which", [0, 1])
async def test_a_file_that_is_missing_is_noticed(
    start: Open, tmp_path: Path, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    feed = ListFeed([record("k") for _ in range(70)])
    feed.all[0] = feed.all[20] = feed.all[21] = record("k", INTERNAL_TOPIC)
    view = await start(feed)
    view.applied_to(feed.end)
    await found(view, "")
    await view.close()
    right = contents(tmp_path / "index")
    assert len(right) > 3
    view = await start(feed)
    view.applied_to(feed.end)
    assert len(await found(view, "k")) == 67
    await view.close()
    assert "missing" not in caplog.text

    (tmp_path / "index" / sorted(right)[which]).unlink()
    view = await start(feed)
    view.applied_to(feed.end)
    assert len(await found(view, "k")) == 67
    await view.close()
    assert contents(tmp_path / "index") == right
    assert "is missing" in caplog.text


async def test_an_emptied_log(start: Open) -> None:
    feed = ListFeed([record("k") for _ in range(50)])
    view = await start(feed)
    view.applied_to(feed.end)
    assert len(await found(view, "k")) == 50
    feed.begin_pos = 400
    await view.reseed(400)
    assert await found(view, "k") == []
    view.applied_to(feed.end)
    assert await found(view, "k") == [100 + 10 * n for n in range(49, 29, -1)]


async def test_files_below_the_begin_go(start: Open, tmp_path: Path) -> None:
    feed = ListFeed([record("k") for _ in range(50)])
    view = await start(feed)
    view.applied_to(feed.end)
    await found(view, "k")
    await view.remove_below(feed.end)
    assert len(contents(tmp_path / "index")) == 1


async def test_a_finish_leaves_nothing_out(start: Open, tmp_path: Path) -> None:
    feed = ListFeed([record(f"k{n}") for n in range(300)])
    view = await start(feed)
    view.applied_to(feed.end)
    assert await view.finish()
    assert view.position == feed.end
    again = await start(feed)
    assert again.position >= feed.end - 10, "the last record is always put again"
    again.applied_to(feed.end)
    assert await found(again, "k299") == [100 + 10 * 299], "upstream would not look again"
    assert again.index.durable_ms == FIRST_MS, "the files are on disk: upstream keeps them"


async def test_upstream_goes_back_to_the_first_key_that_it_removes_after_a_kill(
    start: Open, tmp_path: Path
) -> None:
    feed = ListFeed([record(f"k{n}", store_ms=FIRST_MS + n) for n in range(50)])
    view = await start(feed)
    saved: list[tuple[int, int]] = []  # kept up to, complete up to
    for count in range(1, len(feed.all) + 1):
        pos, store_ms = 100 + 10 * count, FIRST_MS + count - 1
        view.applied_to(pos)
        saved.append((view.index.durable_ms, view.complete_ms(pos, store_ms)))
        await until(lambda pos=pos: view.position == pos)  # type: ignore[misc]
        saved.append((view.index.durable_ms, view.complete_ms(pos, store_ms)))
        await view.index.sync()
        saved.append((view.index.durable_ms, view.complete_ms(pos, store_ms)))
        assert saved[-1][1] > store_ms - ENTRIES, "no further back than needed"
    shape = Shape(SLOTS, ENTRIES)
    files = [IndexFile(p, OsDisk(), shape) for p in sorted((tmp_path / "index").iterdir())]
    assert len(files) == 3
    for kept_ms, complete_ms in saved:
        removed = [file.header() for file in files if file.header().end_ms > kept_ms]
        assert all(header.begin_ms >= complete_ms for header in removed), (kept_ms, complete_ms)


async def test_a_finish_that_takes_for_ever_says_so(
    start: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_view, "_FINISH_S", 0.01)
    feed = ListFeed([record("k")])
    feed.is_stuck = True
    view = await start(feed)
    view.applied_to(feed.end)
    assert not await view.finish()


async def test_a_close_says_what_it_could_not_write(
    start: Open, caplog: pytest.LogCaptureFixture
) -> None:
    disk = BreakingDisk()
    feed = ListFeed([record("k")])
    view = await start(feed, disk=disk)
    view.applied_to(feed.end)
    await found(view, "k")
    disk.is_full = True
    await view.close()
    assert "the next start" in caplog.text


# --- the log of a group -----------------------------------------------------------------------


def group_log(tmp_path: Path) -> FakeLog:
    log = FakeLog(tmp_path / "dledger")
    for n in range(60):
        log.append("T", n % 2, b"x" * (n * 13 % 300), properties=f"KEYS\x01k{n}\x02")
    return log


async def read_all(feed: GroupFeed, pos: int, end: int) -> list[int]:
    """Physical offsets of all records."""
    offsets: list[int] = []
    while True:
        records, after = await feed.records(pos, end)
        for offset, begin, end_of_it in records.places:
            peek = peek_record(records.data, begin)
            assert (peek.physical_offset, peek.size) == (offset, end_of_it - begin)
        offsets += [offset for offset, _, _ in records.places]
        if after == pos:
            return offsets
        pos = after


@pytest.mark.parametrize("in_cache", [True, False])
async def test_the_records_of_a_group(tmp_path: Path, in_cache: bool) -> None:
    log = group_log(tmp_path)
    log.in_cache = in_cache
    applied = 59
    feed = GroupFeed(cast(Any, log), applied=lambda: applied)
    every = [pos + 48 for pos, _ in log.places]
    assert feed.begin_pos == every[0] == 48
    for first in (0, 1, 17, 59):
        assert await read_all(feed, every[first], log.end_pos) == every[first:]
        assert await read_all(feed, every[first] - 1, log.end_pos) == every[first:]
    assert await read_all(feed, 0, every[20]) == every[:20]
    assert await read_all(feed, log.end_pos, log.end_pos) == []
    applied = 9
    assert await read_all(feed, 0, log.end_pos) == every[:10]
    applied = 12
    assert await read_all(feed, every[10], log.end_pos) == every[10:13]


async def test_a_group_whose_begin_moves(tmp_path: Path) -> None:
    log = group_log(tmp_path)
    feed = GroupFeed(cast(Any, log), applied=lambda: 59)
    every = [pos + 48 for pos, _ in log.places]
    records, pos = await feed.records(0, log.end_pos)
    assert len(records.places) < 30
    log.begin = Begin(30, log.places[30][0], 1, log.chains[29])
    assert feed.begin_pos == every[30]
    assert await read_all(feed, pos, log.end_pos) == every[30:]


async def test_the_index_of_a_group(start: Open, tmp_path: Path) -> None:
    log = group_log(tmp_path)
    feed = cast(Any, GroupFeed(cast(Any, log), applied=lambda: 59))
    feed.end = log.end_pos
    view = await start(feed)
    view.applied_to(log.end_pos)
    for n, (pos, _) in enumerate(log.places):
        assert await found(view, f"k{n}") == [pos + 48]
