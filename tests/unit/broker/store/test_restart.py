"""From a snapshot to whole queues: at a start, and when a leader fills a node anew."""

import asyncio
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ledgermq.broker.metadata import (
    Metadata,
    OffsetsPut,
    TopicDelete,
    TopicPut,
    encode_op,
)
from ledgermq.broker.store import rebuild as rebuild_module
from ledgermq.broker.store.queue_builder import QueueBuilder
from ledgermq.broker.store.queue_snapshot import (
    Progress,
    decode_payload,
    encode_head,
    encode_queues,
)
from ledgermq.broker.store.queue_table import ConsumeQueues, QueueRow
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.snapshots import Snapshot
from ledgermq.remoting.errors import StorageError
from ledgermq.remoting.message_record import RecordPeek
from tests.support import until
from tests.unit.broker.fakes import topic

from .replicas import FakeLog, Replica, fill, move_begin, put_topic


@pytest.fixture
async def replica(tmp_path: Path) -> Any:
    found = Replica(tmp_path, FakeLog(tmp_path / "dledger"))
    put_topic(found.log, "T")
    fill(found.log, 60)
    await found.start()
    yield found
    await found.crash()


def queue_files(replica: Replica, topic: str) -> bool:
    return (replica.folder / "consumequeue" / topic).exists()


# --- the start --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        pytest.param("none", None, id="nothing"),
        pytest.param("folder", "is missing or has another size", id="folder gone"),
        pytest.param("queue", "T/1/.* is missing", id="one queue gone"),
        pytest.param("size", "another file size", id="another file size"),
        pytest.param("mark", "given up", id="mark gone"),
        pytest.param("origin", "made by another node", id="a leader's snapshot"),
    ],
)
async def test_what_makes_a_start_build_the_queues_anew(
    replica: Replica, caplog: pytest.LogCaptureFixture, harm: str, says: str | None
) -> None:
    units = replica.units()
    await replica.stop()
    newest = replica.log.snapshots.newest
    assert newest is not None
    queues = replica.folder / "consumequeue"
    match harm:
        case "folder":
            shutil.rmtree(queues)
        case "queue":
            shutil.rmtree(queues / "T/1")
        case "size":
            replica.queue_bytes = 140
        case "mark":
            (replica.log.config.folder / "queues").unlink()
        case "origin":
            replica.log.snapshots.save(replace(newest, complete=False))
    await replica.start()
    assert not replica.failures
    assert replica.units() == units
    found = [r.getMessage() for r in caplog.records if "made anew" in r.getMessage()]
    assert bool(found) == (says is not None)
    if says:
        assert re.search(says, found[0])
        # It is whole again: the next start has nothing to do.
        await replica.dispatcher._keeper._round()
        await replica.crash()
        caplog.clear()
        await replica.start()
        assert replica.units() == units
        assert "made anew" not in caplog.text


async def test_a_kill_while_queues_are_made_anew(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_module, "_CHUNK_BYTES", 2000)
    fill(replica.log, 300)
    await replica.follow()
    units = replica.units()
    await replica.stop()
    shutil.rmtree(replica.folder / "consumequeue/T/0")
    await replica.start(follow=False)
    rebuild = replica.dispatcher._rebuild
    assert rebuild is not None
    replica.dispatcher.committed(replica.log.end_index // 2)
    await until(lambda: rebuild._built > 100)
    replica.dispatcher.queues.flush(10)
    assert not replica.dispatcher.serving
    assert replica.reader.max_offset("T", 0) == 0
    await replica.crash()
    await replica.start()
    assert replica.units() == units


async def test_nothing_is_served_before_the_commit_reaches_the_snapshot(replica: Replica) -> None:
    await replica.stop()
    end = replica.log.end_index
    await replica.start(follow=False)
    assert replica.dispatcher.applied == end
    replica.arrived.clear()
    for index in (-1, 5, end - 1):
        replica.dispatcher.committed(index)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not replica.dispatcher.serving
        assert replica.reader.max_offset("T", 0) == replica.reader.min_offset("T", 0) == 0
    assert replica.arrived == []
    replica.dispatcher.committed(end)
    await until(lambda: replica.dispatcher.serving)
    assert replica.arrived == [{}]  # the node may be ready now
    assert replica.reader.max_offset("T", 0) == 30


async def test_a_snapshot_of_entries_that_the_group_lost(replica: Replica) -> None:
    await replica.stop()
    newest = replica.log.snapshots.newest
    assert newest is not None
    replica.log.snapshots.save(replace(newest, term=7))
    await replica.start()
    assert "of term 7, in the log it is of term 1: the group has lost" in str(replica.failures[0])
    assert not replica.dispatcher.serving


@pytest.mark.parametrize(
    ("created", "begin", "starts"),
    [
        pytest.param(2, 5, 7, id="older than the log"),
        pytest.param(5, 5, None, id="at its begin"),
        pytest.param(6, 5, None, id="younger"),
        pytest.param(0, 0, None, id="a whole log"),
    ],
)
def test_only_an_old_topic_may_start_later_than_at_0(
    tmp_path: Path, created: int, begin: int, starts: int | None
) -> None:
    metadata = Metadata()
    metadata.apply(created, 1, encode_op(TopicPut(topic("T"))))
    queues = ConsumeQueues(tmp_path, 100, OsDisk(), cast(Any, None))
    builder = QueueBuilder(queues, metadata)
    builder.first_index = begin
    header = entry.EntryHeader(1, 248, 9, 1, 0, 0, 0, 0, 200)
    peek = RecordPeek(200, 0, 7, 48, 0, 0, 0, b"T", b"")
    if starts is None:
        with pytest.raises(StorageError, match="queue T/0 continues at 0, the record says 7"):
            builder.place(header, peek)
    else:
        builder.place(header, peek)
        assert queues.rows() == [QueueRow("T", 0, 7, 8)]
        with pytest.raises(StorageError, match="continues at 8, the record says 7"):
            builder.place(header, peek)


@pytest.mark.parametrize("more", [1, -1])
async def test_a_log_that_gives_other_ends_than_the_snapshot(replica: Replica, more: int) -> None:
    await replica.stop()
    newest = replica.log.snapshots.newest
    assert newest is not None
    state = decode_payload(newest.payload)
    rows = [
        r._replace(max_offset=r.max_offset + more) if r.topic == "T" and r.queue_id else r
        for r in state.rows
    ]
    progress = Progress(newest.index, newest.term, state.end_pos, state.store_ms)
    wrong = encode_head(state.metadata) + b"".join(encode_queues(progress, rows))
    replica.log.snapshots.save(replace(newest, payload=wrong, complete=False))
    await replica.start()
    assert f"queue T/1 ends at {30 + more} by the snapshot and at 30 by the log" in str(
        replica.failures[0]
    )


async def test_without_a_snapshot_that_reaches_the_begin_a_node_waits(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    move_begin(replica.log, 2)
    await replica.follow()
    await replica.snapshot()
    await replica.crash()
    shutil.rmtree(replica.log.config.folder / "snapshot")
    await replica.start(follow=False)
    replica.dispatcher.committed(replica.log.end_index)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not replica.dispatcher.serving
    assert not replica.failures
    assert "waiting for a leader to fill this node" in caplog.text
    await replica.stop()
    assert replica.log.snapshots.newest is None
    await replica.start(follow=False)


# --- a leader's snapshot ----------------------------------------------------------------------


@pytest.mark.parametrize("had", ["nothing", "another history"])
async def test_a_node_that_is_filled_anew(tmp_path: Path, had: str) -> None:
    leader = Replica(tmp_path / "leader", FakeLog(tmp_path / "leader/dledger"))
    put_topic(leader.log, "T")
    fill(leader.log, 100)
    leader.log.apply(OffsetsPut({"g": {"T": {0: 3}}}))
    await leader.start()
    assert move_begin(leader.log, 4) > 45  # further than the follower ever was
    await leader.follow()
    await leader.snapshot()
    snapshot = leader.log.snapshots.newest
    assert snapshot is not None
    fill(leader.log, 20)
    await leader.follow()

    log = FakeLog(tmp_path / "dledger")
    follower = Replica(tmp_path, log)
    if had != "nothing":
        put_topic(log, "Old")
        put_topic(log, "T")
        fill(log, 30, "Old")
        fill(log, 8, "T")
    await follower.start()
    if had != "nothing":
        await follower.snapshot()
    log.data, log.places, log.chains = leader.log.data, leader.log.places, leader.log.chains
    log.begin = leader.log.begin
    log.snapshots.save(replace(snapshot, complete=False))
    follower.dispatcher.reseed(replace(snapshot, complete=False))
    assert not follower.dispatcher.serving
    assert follower.reader.max_offset("T", 0) == 0
    assert follower.metadata.topics.keys() == {"T"}
    for index in (log.begin.index + 3, snapshot.index - 1):
        follower.dispatcher.committed(index)
        await until(lambda i=index: follower.dispatcher._rebuild._built == i)
        assert not follower.dispatcher.serving
    await follower.follow()
    assert not follower.failures
    assert follower.units() == leader.units()
    assert follower.rows() == leader.rows()
    assert follower.metadata.fingerprint() == leader.metadata.fingerprint()
    assert not queue_files(follower, "Old")
    await follower.stop()
    await follower.start()
    assert follower.units() == leader.units()
    await follower.crash()
    await leader.crash()


async def test_a_kill_while_a_node_is_filled_anew(replica: Replica) -> None:
    move_begin(replica.log, 2)
    await replica.follow()
    await replica.snapshot()
    units = replica.units()
    snapshot = replica.log.snapshots.newest
    assert snapshot is not None
    theirs = replace(snapshot, complete=False)
    replica.log.snapshots.save(theirs)
    replica.dispatcher.reseed(theirs)
    await replica.crash()
    await replica.start()
    assert replica.units() == units


async def test_what_was_begun_before_a_seed_is_not_finished(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot is on its way to the disk while the log is replaced."""
    log = replica.log
    await replica.snapshot()
    theirs = log.snapshots.newest
    assert theirs is not None
    theirs = replace(theirs, complete=False)
    fill(log, 4)
    log.apply(TopicDelete("T"))
    move_begin(log, 2)
    monkeypatch.setattr(log, "move_begin", lambda _: pytest.fail("the begin of another log"))
    await replica.follow()
    saving, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Snapshot) -> None:
        saving.set()
        await go_on.wait()

    monkeypatch.setattr(log, "save_snapshot", slow)
    begun = asyncio.create_task(replica.dispatcher._keeper._round())
    await saving.wait()
    replica.dispatcher._target = theirs.index
    replica.dispatcher.reseed(theirs)
    go_on.set()
    await begun
    await replica.follow(theirs.index)
    assert queue_files(replica, "T") or replica.dispatcher.queues.dirty
    assert not replica.dispatcher._mark_file.reliable
    assert replica.dispatcher._keeper._saved_index == -1
    assert len(await replica.messages("T", 0)) == 30


async def test_a_snapshot_of_what_was_before_a_seed_is_not_kept(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica.snapshot()
    theirs = replica.log.snapshots.newest
    assert theirs is not None
    fill(replica.log, 4)
    await replica.follow()
    saves, syncing, go_on = replica.log.saves, asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        syncing.set()
        await go_on.wait()

    with monkeypatch.context() as patch:
        patch.setattr(replica.dispatcher.queues, "sync", slow)
        begun = asyncio.create_task(replica.dispatcher._keeper._round())
        replica.dispatcher._keeper._saved_at_s = -1e9
        await syncing.wait()
        replica.dispatcher.reseed(replace(theirs, complete=False))
        go_on.set()
        await begun
    assert replica.log.saves == saves
    await replica.follow()
    assert len(await replica.messages("T", 0)) == 32


@pytest.mark.parametrize("when", ["before the last save", "in the last save"])
async def test_a_node_that_is_filled_anew_while_it_closes(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The queues are gone, the progress is the leader's: together they are the state of nothing."""
    await replica.snapshot()
    theirs = replica.log.snapshots.newest
    assert theirs is not None
    fill(replica.log, 4)
    await replica.follow()
    dispatcher, saves = replica.dispatcher, replica.log.saves
    queues, keeper = dispatcher.queues, dispatcher._keeper
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        waiting.set()
        await go_on.wait()

    if when == "before the last save":
        monkeypatch.setattr(keeper, "_round", slow)
        keeper.hurry()
    else:
        monkeypatch.setattr(queues, "sync", slow)
    closing = asyncio.create_task(replica.stop())
    await waiting.wait()
    dispatcher.reseed(replace(theirs, complete=False))
    go_on.set()
    await closing
    monkeypatch.undo()
    assert replica.log.saves == saves
    await replica.start()
    assert not replica.failures
    assert len(await replica.messages("T", 0)) == 32
