"""Snapshots of metadata and queues: what is in them, when they are made, what may go after them."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.broker.metadata import (
    LogBegin,
    Metadata,
    OffsetsPut,
    TopicDelete,
    encode_op,
)
from ledgermq.broker.store import keeper
from ledgermq.broker.store.queue_mark import QueueMark
from ledgermq.broker.store.queue_snapshot import (
    Progress,
    decode_payload,
    encode_head,
    encode_queues,
)
from ledgermq.broker.store.queue_table import QueueRow
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import CallerError, DiskFullError
from ledgermq.dledger.store.slots import SlotFile, write_values
from ledgermq.dledger.store.snapshots import Snapshot
from ledgermq.remoting.errors import StorageError
from tests.support import until

from .replicas import FakeLog, Replica, fill, move_begin, put_topic
from .test_consume_queue import WatchedDisk

# --- the payload ------------------------------------------------------------------------------

ROWS = [QueueRow(f"T{n}", n % 4, n, 10 * n) for n in range(1, 500)]


def payload(rows: list[QueueRow] = ROWS) -> bytes:
    metadata = Metadata()
    metadata.apply(3, 2, encode_op(OffsetsPut({})))
    parts = encode_queues(Progress(9, 2, 4711, 1_700_000_000_000), rows)
    return encode_head(metadata.dump()) + b"".join(parts)


@pytest.mark.parametrize("count", [0, 1, 200, 201, 499])
def test_a_payload_comes_apart_as_it_was_made(count: int) -> None:
    state = decode_payload(payload(ROWS[:count]))
    assert state.rows == ROWS[:count]
    assert (state.end_pos, state.store_ms) == (4711, 1_700_000_000_000)
    metadata = Metadata()
    metadata.restore(state.metadata)
    assert metadata.applied_index == 3


def test_a_newer_payload_is_refused() -> None:
    with pytest.raises(StorageError, match=r"version 2; .*Install the newer ledgermq"):
        decode_payload(b"\x02" + payload()[1:])
    with pytest.raises(StorageError, match="version none"):
        decode_payload(b"")


@given(st.integers(0, 2000), st.integers(0, 255), st.booleans())
def test_a_harmed_payload_is_an_error_or_a_payload(at: int, byte: int, cut: bool) -> None:
    data = bytearray(payload(ROWS[:100]))
    at %= len(data)
    data[at] = byte
    try:
        state = decode_payload(bytes(data[:at] if cut else data))
        Metadata().restore(state.metadata)
    except StorageError as e:
        assert "snapshot" in str(e)  # noqa: PT017 - it may be none


@pytest.mark.parametrize("row", [QueueRow("T", 0, -1, 5), QueueRow("T", 0, 6, 5)])
def test_bounds_that_cannot_be_are_damage(row: QueueRow) -> None:
    with pytest.raises(StorageError, match="numbers that cannot be"):
        decode_payload(payload([row]))


# --- the mark ---------------------------------------------------------------------------------


def test_the_mark_keeps_what_it_was_told(tmp_path: Path) -> None:
    def mark(segment_bytes: int = 100) -> QueueMark:
        found = QueueMark(tmp_path / "queues", segment_bytes, OsDisk())
        found.close()
        return found

    assert not mark().reliable
    first = QueueMark(tmp_path / "queues", 100, OsDisk())
    first.save(reliable=True)
    first.close()
    assert mark().reliable
    assert not mark(120).reliable
    again = QueueMark(tmp_path / "queues", 100, OsDisk())
    again.save(reliable=False)
    again.close()
    assert not mark().reliable


def test_a_newer_mark_is_refused_and_a_broken_one_means_no(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "queues")
    write_values(file, 2, 100, True)
    file.close()
    with pytest.raises(CallerError, match=r"queues.*version 2"):
        QueueMark(tmp_path / "queues", 100, OsDisk())
    (tmp_path / "queues").write_bytes(b"\x55" * 8192)
    mark = QueueMark(tmp_path / "queues", 100, OsDisk())
    assert not mark.reliable
    mark.close()


# --- when -------------------------------------------------------------------------------------


@pytest.fixture
async def replica(tmp_path: Path) -> Any:
    found = Replica(tmp_path, FakeLog(tmp_path / "dledger"))
    put_topic(found.log, "T")
    fill(found.log, 60)
    await found.start()
    yield found
    await found.crash()


def hurried(monkeypatch: pytest.MonkeyPatch, **more: float) -> None:
    for name, value in {"_FLUSH_S": 0.005, **more}.items():
        monkeypatch.setattr(keeper, name, value)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"_SNAPSHOT_S": 0.02}, id="after a time"),
        pytest.param({"_SNAPSHOT_ENTRIES": 61}, id="after so many entries"),
    ],
)
async def test_a_snapshot_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, float]
) -> None:
    hurried(monkeypatch, **more)
    log = FakeLog(tmp_path / "dledger")
    replica = Replica(tmp_path, log)
    put_topic(log, "T")
    fill(log, 59)
    await replica.start()
    if "_SNAPSHOT_ENTRIES" in more:
        for _ in range(8):
            await replica.dispatcher._keeper._round()
        assert log.saves == 0
    fill(log, 1)
    await replica.follow()
    await until(lambda: log.snapshots.index == log.end_index)
    saves = log.saves
    for _ in range(8):
        await replica.dispatcher._keeper._round()
    assert log.saves == saves  # nothing new, no snapshot
    assert log.snapshots.newest is not None
    assert log.snapshots.newest.complete
    assert log.snapshots.newest.term == log.term
    await replica.crash()


async def test_a_stop_takes_one_and_only_when_there_is_something_new(replica: Replica) -> None:
    await replica.stop()
    assert replica.log.saves == 1
    await replica.start()
    await replica.stop()
    assert replica.log.saves == 1
    await replica.start()


async def test_an_empty_log_gives_no_snapshot(tmp_path: Path) -> None:
    replica = Replica(tmp_path, FakeLog(tmp_path / "dledger"))
    await replica.start()
    assert replica.dispatcher.serving
    await replica.stop()
    assert replica.log.saves == 0


async def test_the_queues_are_on_disk_before_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = WatchedDisk()
    log = FakeLog(tmp_path / "dledger", disk)
    replica = Replica(tmp_path, log)
    put_topic(log, "T")
    fill(log, 60)
    await replica.start()
    synced: list[set[Path]] = []
    save = log.save_snapshot

    async def saving(snapshot: Snapshot) -> None:
        synced.append(set(disk.synced))
        await save(snapshot)

    monkeypatch.setattr(log, "save_snapshot", saving)
    await replica.snapshot()
    written = set((replica.folder / "consumequeue").rglob("*"))
    assert len([p for p in written if p.is_file()]) == 13
    assert written <= synced[0]
    await replica.crash()


async def test_the_state_is_that_of_one_moment(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries are dispatched while a snapshot is being made: it holds none of them."""
    index, fingerprint = replica.dispatcher.applied, replica.metadata.fingerprint()
    taking = asyncio.create_task(replica.dispatcher._keeper.take())
    await asyncio.sleep(0)
    fill(replica.log, 5)
    replica.log.apply(OffsetsPut({"g": {"T": {0: 3}}}))
    put_topic(replica.log, "New")
    await replica.follow()
    snapshot = await taking
    state = decode_payload(snapshot.payload)
    metadata = Metadata()
    metadata.restore(state.metadata)
    assert snapshot.index == index
    assert metadata.fingerprint() == fingerprint
    assert {(r.topic, r.queue_id): r.max_offset for r in state.rows} == {
        (INTERNAL_TOPIC, 0): 1,
        ("T", 0): 30,
        ("T", 1): 30,
    }
    assert state.end_pos == sum(replica.log.places[index])


async def test_after_a_failed_sync_nothing_vouches_for_the_files(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried(monkeypatch, _SNAPSHOT_S=0)
    await replica.snapshot()
    assert replica.dispatcher._mark_file.reliable
    await replica.crash()
    await replica.start()

    async def failing() -> None:
        raise StorageError("fdatasync failed: Input/output error")

    monkeypatch.setattr(replica.dispatcher.queues, "sync", failing)
    fill(replica.log, 4)
    replica.dispatcher.committed(replica.log.end_index)
    await until(lambda: replica.failures)
    assert "fdatasync failed" in str(replica.failures[0])
    assert not replica.dispatcher._mark_file.reliable


# --- deleted topics ---------------------------------------------------------------------------


def queue_files(replica: Replica, topic: str) -> bool:
    return (replica.folder / "consumequeue" / topic).exists()


async def test_files_of_deleted_topics_go_after_one_snapshot(replica: Replica) -> None:
    log = replica.log
    for name in "ABC":
        put_topic(log, name)
        fill(log, 4, name)
    await replica.follow()
    await replica.snapshot()
    for name in "ABC":
        log.apply(TopicDelete(name))
    await replica.follow()
    assert all(queue_files(replica, n) for n in "ABC")
    assert await replica.messages("A", 0) == []
    saves = log.saves
    await replica.dispatcher._keeper._round()
    assert log.saves == saves + 1
    assert not any(queue_files(replica, n) for n in "ABC")
    assert queue_files(replica, "T")


async def test_a_topic_created_again_waits_for_the_old_files(replica: Replica) -> None:
    log = replica.log
    await replica.snapshot()
    await replica.dispatcher._keeper._busy.acquire()
    log.apply(TopicDelete("T"))
    deleted = log.end_index
    fill(log, 3)  # refused by any leader, skipped here
    log.next_offsets.clear()
    log.next_offsets[INTERNAL_TOPIC, 0] = 2
    created = put_topic(log, "T")
    fill(log, 6)
    replica.dispatcher.committed(log.end_index)
    await until(lambda: replica.dispatcher._blocked)
    assert deleted < replica.dispatcher.applied < created
    assert "T" not in replica.metadata.topics
    replica.dispatcher._keeper._busy.release()
    await replica.follow()
    assert not replica.failures
    assert [m.queue_offset for m in await replica.messages("T", 0)] == [0, 1, 2]
    await replica.snapshot()
    await replica.crash()
    shutil.rmtree(replica.folder / "consumequeue")
    await replica.start()
    assert not replica.failures
    assert [m.queue_offset for m in await replica.messages("T", 0)] == [0, 1, 2]


async def test_no_room_for_a_snapshot(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a deleted topic go all the same; the next start makes all queues anew."""
    log = replica.log
    put_topic(log, "U")
    fill(log, 7, "U")
    await replica.follow()
    await replica.snapshot()
    assert replica.dispatcher._mark_file.reliable

    async def full(_: Snapshot) -> None:
        raise DiskFullError("snapshot: no room")

    with monkeypatch.context() as patch:
        patch.setattr(log, "save_snapshot", full)
        log.apply(TopicDelete("T"))
        put_topic(log, "T")
        fill(log, 2)
        await replica.follow()
    assert not replica.failures
    assert not replica.dispatcher._mark_file.reliable
    assert [m.queue_offset for m in await replica.messages("T", 0)] == [0]
    kept = replica.units()
    await replica.crash()
    await replica.start()
    assert replica.units() == kept


# --- the begin --------------------------------------------------------------------------------


async def test_the_begin_moves_behind_a_snapshot_that_knows_of_it(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = replica.log
    order: list[str] = []
    save, move = log.save_snapshot, log.move_begin

    async def saving(snapshot: Snapshot) -> None:
        rows = {r[:2]: r for r in decode_payload(snapshot.payload).rows}
        order.append(f"snapshot {rows['T', 0].min_offset > 0}")
        await save(snapshot)

    def moving(index: int) -> None:
        order.append(f"begin {index}")
        move(index)

    monkeypatch.setattr(log, "save_snapshot", saving)
    monkeypatch.setattr(log, "move_begin", moving)
    index = move_begin(log, 2)
    assert replica.metadata.log_begin == 0
    await replica.follow()
    assert replica.metadata.log_begin == index
    await replica.dispatcher._keeper._round()
    assert order == ["snapshot True", f"begin {index}"]
    await replica.dispatcher._keeper._round()
    assert len(order) == 2
    names = sorted(int(p.name) for p in (replica.folder / "consumequeue/T/0").iterdir())
    first = replica.reader.min_offset("T", 0)
    assert names[0] <= first * 20 < names[0] + replica.queue_bytes


async def test_a_begin_inside_a_file_means_the_file(replica: Replica) -> None:
    (_, _), (_, second), (_, third) = replica.log.segment_begins()[:3]
    replica.log.apply(LogBegin(third - 1))
    await replica.follow()
    await replica.snapshot()
    assert replica.log.begin.index == second
    await replica.dispatcher._keeper._round()


async def test_a_kill_between_the_snapshot_and_the_begin(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = replica.log
    index = move_begin(log, 2)
    await replica.follow()
    with monkeypatch.context() as patch:
        patch.setattr(log, "move_begin", lambda _: None)
        await replica.snapshot()
    await replica.crash()
    assert log.begin.index == 0
    await replica.start()
    await replica.dispatcher._keeper._round()
    assert log.begin.index == index
    assert not replica.failures
