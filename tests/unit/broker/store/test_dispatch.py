"""From the log to the queues: the same units as Java's, after every kind of end."""

import asyncio
import shutil
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.app import BrokerApp
from ledgermq.broker.metadata import LogBegin, Metadata, TopicPut, encode_op
from ledgermq.broker.store import dispatch, keeper
from ledgermq.broker.store.consume_queue import Unit
from ledgermq.broker.store.dispatch import Arrivals, DispatchCallbacks, Dispatcher
from ledgermq.dledger.errors import DiskFullError
from ledgermq.dledger.ids import NodeId, RaftConfig
from ledgermq.dledger.member import ServerCallbacks, ServerConfig
from ledgermq.dledger.server import LogServer
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.command import request
from ledgermq.remoting.errors import StorageError
from ledgermq.remoting.message import decode_records, java_hash
from tests.golden.captured import files, manifest, rebuild
from tests.support import until
from tests.support.brokers import Brokers, broker_config, pull_all, pull_request, send_request

JAVA_STORES = ("dledger-4.9.5/clean", "dledger-4.9.5/kill9")
TOPICS = ("GoldA", "GoldB", "%RETRY%CG_Store", "RMQ_SYS_TRANS_HALF_TOPIC")


def units(app: BrokerApp, topic: str, queue_id: int = 0) -> list[Unit]:
    return app.dispatcher.queues.get(topic, queue_id).read(0, 100_000)


def on_disk(root: Path) -> dict[str, bytes]:
    """Content of every queue file below a store."""
    folder = root / "consumequeue"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- Java's stores ----------------------------------------------------------------------------


def java_log(root: Path, me: str, segment_bytes: int) -> LogServer:
    def nothing(*_: Any) -> Any:
        return None

    peers = {NodeId(f"n{i}"): ("127.0.0.1", 1) for i in range(3)}
    return LogServer(
        ServerConfig(
            raft=RaftConfig(self_id=NodeId(me), voters=tuple(peers)),
            group="RaftNode00",
            members=peers,
            folder=root / f"dledger-{me}",
            data_folder=None,
            segment_bytes=segment_bytes,
            sync_flush=False,
            flush_interval_ms=500,
            address="127.0.0.1:10911",
        ),
        ServerCallbacks(**dict.fromkeys((f.name for f in fields(ServerCallbacks)), nothing)),
    )


@pytest.mark.parametrize("store", JAVA_STORES)
async def test_a_java_log_gives_the_units_that_java_wrote(store: str, tmp_path: Path) -> None:
    about = manifest(store)
    rebuild(store, tmp_path / "java")
    log = java_log(tmp_path / "java", about["dLegerSelfId"], about["mappedFileSizeCommitLog"])
    metadata = Metadata()
    for index, topic in enumerate(TOPICS):
        config = TopicConfig(topic_name=topic, read_queue_nums=4, write_queue_nums=4, perm=6)
        metadata.apply(index, 1, encode_op(TopicPut(config=config)))
    metadata._created_at = dict.fromkeys(TOPICS, -1)
    dispatcher = Dispatcher(log, tmp_path / "ours/consumequeue", 200, metadata)
    seen: list[int] = []
    arrived: dict[tuple[str, int], int] = {}

    def applied(index: int, arrivals: Arrivals) -> None:
        seen.append(index)
        for key, codes in arrivals.items():
            arrived[key] = arrived.get(key, 0) + len(codes)

    failures: list[Exception] = []
    await dispatcher.start(DispatchCallbacks(applied, failures.append, failures.append))
    dispatcher.committed(log.ledger.end_index)
    await until(lambda: seen and seen[-1] == log.ledger.end_index)
    assert not failures
    await dispatcher.close()
    compared = 0
    for folder in about["dirs"]:
        topic = folder.split("/")[1] if "/" in folder else ""
        if topic not in TOPICS or folder.count("/") != 2:
            continue
        for name, content in files(store, folder):
            ours = (tmp_path / "ours" / folder / f"{name:020d}").read_bytes()
            assert ours == content.ljust(200, b"\0"), folder
            compared += sum(1 for u in struct.iter_unpack(">qiq", content) if u[1])
    assert compared > 25
    assert sum(arrived.values()) == compared
    await log.close()


# --- restarts ---------------------------------------------------------------------------------


async def fill(group: Brokers, count: int, topics: tuple[str, ...] = ("T", "U")) -> None:
    app = await group.leader()
    queues = app.metadata.topics[topics[0]].write_queue_nums
    for i in range(count):
        topic = topics[i % len(topics)]
        command = send_request(topic, b"m%d" % i, i % queues, properties=f"TAGS\x01tag{i % 5}\x02")
        assert (await group.ask(app, command)).code == 0


async def copy_of(group: Brokers, suffix: str = "copy") -> BrokerApp:
    """The leader's files as they are now, but for a snapshot that is being written."""
    app = await group.leader()
    async with app.dispatcher._keeper._busy:
        return await group.copy(suffix=suffix)


async def test_after_a_clean_stop_nothing_is_dispatched_again(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 3)
        await group.create_topic("U", 3)
        await fill(group, 60)
        before = await group.leader()
        end = before.dispatcher.applied
        kept = {(t, q): units(before, t, q) for t in ("T", "U") for q in range(3)}
        await group.stop()
        files_before = on_disk(tmp_path / "n0")
        app = BrokerApp(group.config("n0"))
        group.apps["n0"] = app
        assert app.dispatcher.applied == end
        await app.start()
        assert {k: units(app, *k) for k in kept} == kept
        await group.leader()
        assert on_disk(tmp_path / "n0").keys() == files_before.keys()
        await fill(group, 6)
        assert [m.queue_offset for m in await pull_all(group, "T")] == list(range(11))


async def test_a_kill_at_any_point_leaves_the_same_queues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_FLUSH_S", 0.01)  # flushes and snapshots all the time
    monkeypatch.setattr(keeper, "_SNAPSHOT_S", 0.01)
    async with Brokers(tmp_path, flush_interval_commit_log_ms=5) as group:
        await group.create_topic("T", 3)
        await group.create_topic("U", 3)
        for round_ in range(6):
            await fill(group, 20)
            if round_ % 2:
                await asyncio.sleep(0.03)
            copy = await copy_of(group, f"copy{round_}")
            await until(lambda c=copy: c.node.ready)
            app = await group.leader()
            for topic in ("T", "U"):
                for queue_id in range(3):
                    assert units(copy, topic, queue_id) == units(app, topic, queue_id)
            assert copy.metadata.topics == app.metadata.topics


async def test_a_kill_before_the_first_snapshot(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 3)
        await fill(group, 30, ("T",))
        kept = [units(await group.leader(), "T", q) for q in range(3)]
        await group.crash()
        app = await group.start()
        await group.leader()
        assert [units(app, "T", q) for q in range(3)] == kept


@pytest.mark.parametrize("clean", [True, False], ids=["clean stop", "kill"])
async def test_missing_queues_are_made_anew_from_the_log(tmp_path: Path, clean: bool) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 3)
        await fill(group, 45, ("T",))
        app = await group.leader()
        kept = [units(app, "T", q) for q in range(3)]
        print_ = app.metadata.topics
        await (group.stop() if clean else group.crash())
        shutil.rmtree(tmp_path / "n0/consumequeue", ignore_errors=not clean)
        app = await group.start()
        await group.leader()
        assert [units(app, "T", q) for q in range(3)] == kept
        assert app.metadata.topics == print_


async def test_a_kill_while_missing_queues_are_made_anew(tmp_path: Path) -> None:
    """The queues that the snapshot speaks of are gone; the new ones are not whole."""
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 3)
        await fill(group, 45, ("T",))
        app = await group.leader()
        kept = [units(app, "T", q) for q in range(3)]
        await group.stop()
        shutil.rmtree(tmp_path / "n0/consumequeue")
        await group.start()
        await group.crash()
        app = await group.start()
        await group.leader()
        assert [units(app, "T", q) for q in range(3)] == kept


async def test_another_size_of_queue_files_makes_them_anew(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 3)
        await fill(group, 45, ("T",))
        kept = [units(await group.leader(), "T", q) for q in range(3)]
        await group.stop()
        group._more["mapped_file_size_consume_queue"] = 140
        app = await group.start()
        await group.leader()
        assert [units(app, "T", q) for q in range(3)] == kept
        sizes = {
            p.stat().st_size for p in (tmp_path / "n0/consumequeue").rglob("0*") if p.is_file()
        }
        assert await group.send("T") == 15
        assert sizes <= {140}


async def test_one_removed_queue_is_made_anew(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 3)
        await fill(group, 45, ("T",))
        kept = [units(await group.leader(), "T", q) for q in range(3)]
        await group.stop()
        shutil.rmtree(tmp_path / "n0/consumequeue/T/1")
        app = await group.start()
        await group.leader()
        assert [units(app, "T", q) for q in range(3)] == kept


async def test_exported_tables_are_never_read(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        await fill(group, 5, ("T",))
        before = (await group.leader()).metadata.topics
        await group.stop()
        exported = sorted((tmp_path / "n0/config").glob("*.json*"))
        assert {"topics.json", "consumerOffset.json"} <= {p.name for p in exported}
        for path in exported:
            path.write_bytes(b'{"topicConfigTable": {"T": {"readQueueNums": 9')
        app = await group.start()
        await group.leader()
        assert app.metadata.topics == before
        assert len(await pull_all(group, "T")) == 5


# --- deleted topics ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["no restart", "stop", "crash", "stop twice"])
async def test_a_topic_deleted_and_created_again_begins_at_zero(tmp_path: Path, how: str) -> None:
    async with Brokers(tmp_path) as group:

        async def restart() -> None:
            if how != "no restart":
                await (group.crash() if how == "crash" else group.stop())
                await group.start()
                await group.leader()

        await group.create_topic("T")
        await fill(group, 30, ("T",))
        await group.delete_topic("T")
        await restart()
        await group.create_topic("T")
        assert await group.send("T", b"again") == 0
        if how != "stop":
            await restart()
        assert await group.send("T", b"more") == 1
        assert [m.body for m in await pull_all(group, "T")] == [b"again", b"more"]
        if how == "stop twice":
            await group.stop()
            shutil.rmtree(tmp_path / "n0/consumequeue")
            await group.start()
            assert [m.body for m in await pull_all(group, "T")] == [b"again", b"more"]


async def test_a_kill_right_after_a_deletion(tmp_path: Path) -> None:
    """The copies are made between the deletion and the next mark."""
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        await group.create_topic("U")
        await fill(group, 40)
        await group.delete_topic("T")
        await fill(group, 5, ("U",))
        copy = await copy_of(group, "a")
        await group.create_topic("T")
        await fill(group, 5, ("T",))
        other = await copy_of(group, "b")
        for app in (copy, other):
            await until(lambda a=app: a.node.ready)
            assert not app.failed.done()
        assert "T" not in copy.metadata.topics
        assert len(units(copy, "U")) == len(units(other, "U")) == 25
        assert units(other, "T") == units(await group.leader(), "T")


async def test_a_deletion_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        await group.create_topic("U")
        await fill(group, 20)
        app = await group.leader()

        def full(_: Any) -> None:
            raise DiskFullError("consumequeue: no room")

        with monkeypatch.context() as patch:
            patch.setattr(app.dispatcher.queues, "_write", full)
            await group.delete_topic("T")
            copy = await copy_of(group)
            await until(lambda: copy.node.ready)
        assert len(units(copy, "U")) == 10
        await group.create_topic("T")
        assert await group.send("T") == 0
        assert not app.failed.done()


# --- the begin --------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stop", "crash"])
async def test_a_log_that_lost_its_beginning_serves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(keeper, "_FLUSH_S", 0.01)
    async with Brokers(tmp_path, mapped_file_size_commit_log=64 << 10) as group:
        await group.create_topic("T")
        for n in range(40):
            await group.send("T", b"%02d" % n * 2500)
        app = await group.leader()
        begin = app.log.segment_begins()[2][1]
        app.node._append_op(LogBegin(begin), lambda _: None)
        await until(lambda: app.log.begin.index == begin, what="the log's begin")
        queue = app.dispatcher.queues.get("T", 0)
        first = queue.min_offset
        kept = queue.read(first, 100)
        assert 5 < first < 40 == queue.max_offset
        data = sorted(p.name for p in (tmp_path / "n0/dledger-n0/data").iterdir())
        assert int(data[0]) == app.log.begin.pos == 2 * (64 << 10)
        moved = await group.ask(app, pull_request("T", first - 1))
        assert (moved.code, int(moved.ext["nextBeginOffset"])) == (21, first)
        assert int(moved.ext["minOffset"]) == first
        found = await group.ask(app, pull_request("T", first))
        assert decode_records(found.body)[0].body == b"%02d" % first * 2500
        command = request(31, {"topic": "T", "queueId": "0"})
        assert (await group.ask(app, command)).ext["offset"] == str(first)
        oldest = decode_records(found.body)[0].store_timestamp_ms
        command = request(32, {"topic": "T", "queueId": "0"})
        assert (await group.ask(app, command)).ext["timestamp"] == str(oldest)
        for harm in (False, True):
            await (group.stop() if end == "stop" else group.crash())
            if harm:
                shutil.rmtree(tmp_path / "n0/consumequeue")
            app = await group.start()
            await group.leader()
            queue = app.dispatcher.queues.get("T", 0)
            assert (queue.min_offset, queue.max_offset) == (first, 40)
            assert queue.read(first, 100) == kept
        assert await group.send("T") == 40


# --- rules ------------------------------------------------------------------------------------


async def test_a_gap_in_queue_offsets_stops_the_node(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        assert await group.send("T") == 0
        app = await group.leader()
        app.node._placing._next_offsets["T", 0] = 5
        command = send_request("T")
        asking = asyncio.create_task(group.ask(app, command))
        reason = await asyncio.wait_for(asyncio.shield(app.failed), 5)
        assert isinstance(reason, StorageError)
        assert "queue T/0 continues at 1, the record says 5" in str(reason)
        assert "Move this node's store away" in str(reason)
        reply = await asking
        assert reply.code != 0  # answered, not left alone
        assert (await group.ask(app, send_request("T"))).code == 14


async def test_only_committed_messages_are_seen(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        await group.send("T")
        app = await group.leader()
        await group.same_metadata()
        for follower in await group.followers():
            await group.crash(follower.config.dleger_self_id)
        end = app.log.ledger.end_index
        asking = asyncio.create_task(group.ask(app, send_request("T")))
        await until(lambda: app.log.ledger.end_index > end, what="the entry in the leader's log")
        assert app.dispatcher.applied <= end
        assert app.reader.max_offset("T", 0) == 1
        record_at = app.log.ledger.index.get(app.log.ledger.end_index)
        assert record_at is not None
        assert await app.reader.read_record(record_at.pos + 48) is None
        reply = await asking
        assert reply.code != 0
        assert units(app, "T") == units(app, "T")[:1]


async def test_tags_codes_are_javas_hashes(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        texts = {
            "": 0,
            "KEYS\x01k\x02": 0,
            "TAGS\x01TagA\x02": 2598919,
            "KEYS\x01k\x02TAGS\x01TagA": 2598919,
            "XTAGS\x01TagB\x02": 0,
            "TAGS\x01": 0,
            "TAGS\x01TagB\x02TAGS\x01TagA\x02": 2598919,
            "KEYS\x01k\x02TAGS\x01标签 \x02": java_hash("标签 "),
        }
        for text in texts:
            assert (await group.ask(app, send_request("T", properties=text))).code == 0
        assert [u.tags_code for u in units(app, "T")] == list(texts.values())


async def test_an_answer_that_breaks_does_not_stop_the_dispatch(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()

        def broken(_: Any) -> None:
            raise RuntimeError("broke")

        loop = asyncio.get_running_loop()
        caught: list[Any] = []
        loop.set_exception_handler(lambda _, context: caught.append(context))
        app.polling.arrived = broken  # type: ignore[method-assign]
        assert await group.send("T") == 0
        assert await group.send("T") == 1
        loop.set_exception_handler(None)
        assert caught


async def test_a_log_too_old_for_the_memory_is_read_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 3)
        await fill(group, 30, ("T",))
        app = await group.leader()
        kept = [units(app, "T", q) for q in range(3)]
        await group.crash()
        monkeypatch.setattr(dispatch, "_CHUNK_BYTES", 700)  # a few entries at a time
        app = await group.start()
        await group.leader()
        assert [units(app, "T", q) for q in range(3)] == kept


def test_the_configuration_of_these_tests_is_a_group(tmp_path: Path) -> None:
    config = broker_config(tmp_path, {"n0": ("127.0.0.1", 1)}, "n0")
    assert config.dledger_dir == tmp_path / "dledger-n0"
