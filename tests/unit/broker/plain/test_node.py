"""Topics, groups and consumer offsets of a broker without a group."""

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import request
from ledgermq.remoting.errors import PeerError
from tests.support import until
from tests.support.brokers import send_request
from tests.support.plain import Held, PlainBroker

from .test_appends import outgoing


def table(broker: PlainBroker, name: str) -> dict[str, Any]:
    """What a file of config/ holds; Java writes numbers as keys."""
    text = (broker.folder / "config" / name).read_text()
    found: dict[str, Any] = json.loads(re.sub(r"([{,]\s*)(\d+):", r'\1"\2":', text))
    return found


def saved_offset(broker: PlainBroker) -> int | None:
    try:
        rows = table(broker, "consumerOffset.json")["offsetTable"]
    except FileNotFoundError:
        # Not saved yet, or a save is between its two renames.
        return None
    offset: int | None = rows.get("T@CG", {}).get("0")
    return offset


async def with_group(broker: PlainBroker, count: int = 3) -> None:
    await broker.create_topic("T")
    await broker.create_group("CG")
    await broker.fill(count)


# --- topics and groups ----------------------------------------------------------------------------


async def test_what_was_answered_is_on_disk(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        await broker.create_topic("T", queues=3)
        await broker.create_group("CG")
        assert table(broker, "topics.json")["topicConfigTable"]["T"]["readQueueNums"] == 3
        assert "CG" in table(broker, "subscriptionGroup.json")["subscriptionGroupTable"]
        await broker.restart(kill=True)
        assert broker.app.metadata.topics["T"].read_queue_nums == 3
        assert "CG" in broker.app.metadata.groups
        await broker.done(
            RequestCode.DELETE_SUBSCRIPTIONGROUP, {"groupName": "CG", "cleanOffset": "true"}
        )
        await broker.restart(kill=True)
        assert "CG" not in broker.app.metadata.groups


async def test_what_finds_no_room_is_not_answered_as_done(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held()) as broker:
        assert isinstance(broker.disk, Held)
        broker.disk.room = 0
        with pytest.raises(AssertionError, match=r"not saved: .*topics\.json.*no room"):
            await broker.create_topic("T")
        assert not broker.app.failed.done()
        broker.disk.room = None
        await broker.create_topic("T")
        await broker.restart(kill=True)
        assert "T" in broker.app.metadata.topics


async def test_a_disk_that_fails_under_a_table_stops_the_broker(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held()) as broker:
        assert isinstance(broker.disk, Held)
        broker.disk.broken = "topics.json"
        with pytest.raises(AssertionError, match="this broker stops"):
            await broker.create_topic("T")
        assert "topics.json" in str(await broker.app.failed)
        reply = await broker.ask(send_request("TBW102"))
        assert reply.code != 0


async def test_a_broker_that_stops_takes_no_change(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        await broker.create_topic("T")
        node = broker.app.node
        node.halt("it stops")
        for change in (node.delete_topic("T"), node.delete_group("CG", True)):
            with pytest.raises(PeerError, match="this broker stops"):
                await change


# --- deletion -------------------------------------------------------------------------------------


async def test_a_topic_made_again_begins_at_0_without_its_old_messages(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        await with_group(broker, 30)
        await broker.commit(20)
        await broker.delete_topic("T")
        assert not (broker.folder / "consumequeue" / "T").exists()
        assert (await broker.ask(send_request("T"))).code in (0, ResponseCode.TOPIC_NOT_EXIST)
        await broker.create_topic("T")
        begun = broker.app.reader.max_offset("T", 0)
        assert begun <= 1, "one may have made the topic anew by itself"
        assert broker.app.node.query_offset("CG", "T", 0) is None
        await broker.send("T", b"new")
        for harm in (None, "consumequeue", "snapshot", "checkpoint"):
            await broker.crash()
            if harm == "checkpoint":
                (broker.folder / harm).unlink()
            elif harm:
                shutil.rmtree(broker.folder / harm)
            await broker.start()
            assert (await broker.bodies())[-1] == b"new"
            assert broker.app.reader.min_offset("T", 0) == 0
            assert broker.app.reader.max_offset("T", 0) == begun + 1
            assert broker.app.node.query_offset("CG", "T", 0) is None


async def test_a_topic_made_again_is_no_reason_to_make_all_queues_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bounds that were kept last are those of the old topic."""
    config = {"flush_interval_consume_queue_ms": 3_600_000}
    async with PlainBroker(tmp_path, **config) as broker:
        await with_group(broker, 30)
        await broker.create_topic("U")
        await broker.fill(30, "U")
        await broker.master._keeper.save()
        await broker.delete_topic("T")
        await broker.create_topic("T")
        bodies = await broker.fill(5)
        await broker.restart(kill=True)
        assert "made anew" not in caplog.text
        assert broker.master.dispatcher.units == 5
        assert await broker.bodies() == bodies
        assert len(await broker.bodies("U")) == 30


async def test_a_deleted_topic_stays_so_when_the_queues_are_made_anew(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, auto_create_topic_enable=False) as broker:
        await with_group(broker, 20)
        await broker.delete_topic("T")
        await broker.crash()
        shutil.rmtree(broker.folder / "consumequeue", ignore_errors=True)
        await broker.start()
        assert "T" not in broker.app.metadata.topics
        assert not broker.master.dispatcher.queues.rows()


async def test_a_deletion_is_noted_before_anything_is_gone(tmp_path: Path) -> None:
    """Copies of the files at each sync and each removal of a deletion: a kill at any point."""
    async with PlainBroker(tmp_path, disk=Held()) as broker:
        disk = broker.disk
        assert isinstance(disk, Held)
        await with_group(broker, 12)
        await broker.create_topic("U")
        await broker.send("U", b"other")
        await broker.commit(12)
        await broker.master._keeper.save()
        await broker.send("U", b"not synced")
        deletion = asyncio.create_task(broker.delete_topic("T"))
        for point in ("commitlog", "deletedTopics", "consumerOffset", "topics"):
            before = disk.waiting
            disk.hold(point)
            await until(lambda n=before: disk.waiting > n, what=f"a sync of {point}")
            assert not deletion.done()
            await check_copy(broker, point)
        disk.release()
        await deletion
        await check_copy(broker, "end")


async def check_copy(broker: PlainBroker, point: str) -> None:
    for harm in ("", "consumequeue"):
        target = broker.folder.parent / f"{point}-{harm}"
        shutil.copytree(broker.folder, target / "store")
        if harm:
            shutil.rmtree(target / "store" / harm)
        copy = PlainBroker(target)
        async with copy:
            reader = copy.app.reader
            count = len(await copy.pull_all("T")) if "T" in copy.app.metadata.topics else 0
            if point == "commitlog":
                assert count == 12
            else:
                assert count in (0, 12)
            offset = copy.app.node.query_offset("CG", "T", 0) or 0
            assert offset <= reader.max_offset("T", 0)
            assert (await copy.bodies("U"))[0] == b"other"
            if point == "end":
                assert "T" not in copy.app.metadata.topics
            await copy.create_topic("T")
            assert await copy.send("T", b"next") == count
            assert (await copy.bodies("T"))[-1] == b"next"


async def test_a_deletion_waits_for_what_is_under_way(tmp_path: Path) -> None:
    config: dict[str, Any] = {"flush_disk_type": "SYNC_FLUSH", "auto_create_topic_enable": False}
    async with PlainBroker(tmp_path, disk=Held(), **config) as broker:
        disk = broker.disk
        assert isinstance(disk, Held)
        await broker.create_topic("T")
        disk.hold()
        told: list[Any] = []
        broker.app.node.append(outgoing(b"last"), told.append)
        deletion = asyncio.create_task(broker.delete_topic("T"))
        await until(lambda: broker.app.node._deleting)
        late = await broker.ask(send_request("T", b"late"))
        assert late.code == ResponseCode.TOPIC_NOT_EXIST
        assert not told
        assert not deletion.done()
        disk.release()
        await deletion
        assert told[0].queue_offset == 0
        assert not broker.app.node._deleting


async def test_a_deletion_does_not_wait_for_what_the_full_disk_refused(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held()) as broker:
        disk = broker.disk
        assert isinstance(disk, Held)
        await with_group(broker)
        told: list[Any] = []
        disk.room = 0
        broker.app.node.append(outgoing(bytes(5000)), told.append)
        deletion = asyncio.create_task(broker.app.node.delete_topic("T"))
        await until(lambda: told)
        assert told[0].code == ResponseCode.SERVICE_NOT_AVAILABLE
        disk.room = None
        # Whether there was room for the note or not, it has an end, and others can go on.
        await asyncio.gather(deletion, return_exceptions=True)
        await broker.create_topic("U")


async def test_without_room_for_the_note_the_topic_stays_whole(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, disk=Held()) as broker:
        disk = broker.disk
        assert isinstance(disk, Held)
        await with_group(broker)
        await broker.create_topic("U")
        disk.room = 0
        with pytest.raises(AssertionError, match=r"not saved: .*deletedTopics\.json"):
            await broker.delete_topic("T")
        disk.room = None
        assert broker.master._tables.deleted == {}
        await broker.delete_topic("U")
        assert await broker.send("T", b"x") == 3
        await broker.crash()
        shutil.rmtree(broker.folder / "consumequeue", ignore_errors=True)
        await broker.start()
        assert len(await broker.bodies()) == 4


async def test_records_behind_a_cut_log_are_not_of_the_deleted_topic(tmp_path: Path) -> None:
    """An operator moved the end of the log away: places are used a second time."""
    async with PlainBroker(tmp_path) as broker:
        await with_group(broker, 3)
        await broker.delete_topic("T")
        await broker.stop()
        shutil.rmtree(broker.folder / "commitlog")
        (broker.folder / "checkpoint").unlink()
        await broker.start()
        await broker.create_topic("T")
        assert await broker.send("T", b"new") == 0
        await broker.crash()
        shutil.rmtree(broker.folder / "consumequeue", ignore_errors=True)
        await broker.start()
        assert await broker.bodies() == [b"new"]


# --- consumer offsets -----------------------------------------------------------------------------


async def test_offsets_are_seen_at_once_and_saved_now_and_then(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, flush_consumer_offset_interval_ms=30) as broker:
        await with_group(broker)
        for offset in (1, 2):
            await broker.commit(offset)
            assert broker.app.node.query_offset("CG", "T", 0) == offset
        await until(lambda: saved_offset(broker) == 2)
        await broker.restart(kill=True)
        assert broker.app.node.query_offset("CG", "T", 0) == 2


async def test_offsets_are_saved_by_a_stop_and_not_before_their_time(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path, flush_consumer_offset_interval_ms=3_600_000) as broker:
        await with_group(broker)
        await broker.commit(2)
        assert saved_offset(broker) is None
        await broker.restart(kill=True)
        assert broker.app.node.query_offset("CG", "T", 0) is None
        await broker.commit(2)
        await broker.restart()
        assert saved_offset(broker) == 2
        assert broker.app.node.query_offset("CG", "T", 0) == 2


async def test_offsets_that_move_to_the_last_are_saved_by_the_engine_itself(
    tmp_path: Path,
) -> None:
    async with PlainBroker(tmp_path, flush_consumer_offset_interval_ms=3_600_000) as broker:
        await with_group(broker)
        broker.app.node.commit_offset("CG", "T", 0, 2)
        await broker.app.node.close()
        assert saved_offset(broker) == 2


async def test_offsets_that_found_no_room_are_saved_by_the_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with PlainBroker(tmp_path, disk=Held(), flush_consumer_offset_interval_ms=5) as broker:
        assert isinstance(broker.disk, Held)
        await with_group(broker)
        broker.disk.room = 0
        await broker.commit(3)
        await until(lambda: "consumer offsets are in memory only" in caplog.text)
        assert not broker.app.failed.done()
        broker.disk.room = None
        await broker.restart()
        assert broker.app.node.query_offset("CG", "T", 0) == 3


async def test_nothing_is_left_behind_by_a_broker_that_failed(tmp_path: Path) -> None:
    broker = PlainBroker(tmp_path, disk=Held(), flush_consumer_offset_interval_ms=5)
    await broker.start()
    assert isinstance(broker.disk, Held)
    await with_group(broker)
    broker.disk.broken = "config"
    await broker.commit(1)
    await broker.app.failed
    broker.app.node.commit_offset("CG", "T", 0, 2)
    await broker.stop()
    assert not broker.app.node._saving
    assert broker.app.node._offsets._timer is None
    await broker.__aexit__()


async def test_pulls_and_requests_of_nobody_leave_no_trace(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        await broker.pull("nobody", 0)
        reply = await broker.ask(
            request(RequestCode.GET_MAX_OFFSET, {"topic": "nobody", "queueId": "0"})
        )
        assert reply.code != 0 or reply.ext["offset"] == "0"
        assert not broker.master.dispatcher.queues.rows()
