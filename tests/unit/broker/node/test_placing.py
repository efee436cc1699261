"""Queue offsets stay dense whatever is refused, deleted or lost on the way to the log."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker import node as node_module
from ledgermq.broker.app import BrokerApp
from ledgermq.broker.writer import AppendResult, OutgoingRecord
from ledgermq.dledger.errors import DiskFullError
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import request
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message import pack_host
from tests.support import until
from tests.support.brokers import Brokers, pull_all, send_request


def record(body: bytes = b"x", topic: str = "T", properties: bytes = b"") -> OutgoingRecord:
    return OutgoingRecord(
        topic, 0, body, properties, 0, 0, 1_700_000_000_000, pack_host("1.2.3.4:5")
    )


def full(*_: object) -> None:
    """Stands for a write."""
    raise DiskFullError("data: no room left on the device")


async def append(app: BrokerApp, *records: OutgoingRecord) -> list[AppendResult | PeerError]:
    """Append one by one in one go; the outcomes in order, each exactly once."""
    outcomes: list[AppendResult | PeerError] = []
    for r in records:
        app.node.append(r, outcomes.append)
    await until(lambda: len(outcomes) >= len(records), what="an outcome for every append")
    await asyncio.sleep(0)
    assert len(outcomes) == len(records)
    return outcomes


FITS_NOWHERE = [
    pytest.param(record(properties=b"k\x01" + b"v" * 32_800), id="properties over 32767 bytes"),
    pytest.param(record(b"b" * 70_000), id="record over the size of a segment"),
]


@pytest.mark.parametrize("refused", FITS_NOWHERE)
async def test_a_record_that_fits_nowhere_leaves_no_hole(
    tmp_path: Path, refused: OutgoingRecord
) -> None:
    async with Brokers(tmp_path, mapped_file_size_commit_log=64 << 10) as group:
        await group.create_topic("T")
        app = await group.leader()
        found = await append(app, record(), refused, record())
        assert [o.code for o in found if isinstance(o, PeerError)] == [13]
        assert [o.queue_offset for o in found if isinstance(o, AppendResult)] == [0, 1]
        assert not app.failed.done()
        # A batch is stored whole or not at all.
        outcomes: list[Any] = []
        assert app.node.append_all([record(), refused, record()], outcomes.append) == []
        assert [o.code for o in outcomes] == [13]
        assert [m.queue_offset for m in await pull_all(group, "T")] == [0, 1]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_batch_between_single_sends(tmp_path: Path, nodes: int) -> None:
    """The files are so small that batches go across two of them."""
    async with Brokers(tmp_path, nodes=nodes, mapped_file_size_commit_log=4096) as group:
        await group.create_topic("T")
        app = await group.leader()
        bodies, outcomes, wanted = [], [], []
        for turn in range(4):
            batch = [b"%d-%d " % (turn, n) + bytes(100 * n) for n in range(9)]
            placed = app.node.append_all([record(body) for body in batch], outcomes.append)
            assert [p.queue_offset for p in placed] == [10 * turn + n for n in range(9)]
            wanted.append(placed[-1])
            app.node.append(record(b"one"), outcomes.append)
            bodies += [*batch, b"one"]
            if turn % 2:
                await until(lambda: len(outcomes) == 2 * turn + 2)  # noqa: B023 - of this turn
        assert outcomes[::2] == wanted, "once for each batch, with the place of its last"
        assert [o.queue_offset for o in outcomes] == [8, 9, 18, 19, 28, 29, 38, 39]
        found = await pull_all(group, "T")
        assert [m.body for m in found] == bodies
        assert [m.queue_offset for m in found] == list(range(40))
        assert len({m.physical_offset // 4096 for m in found}) > 4
        assert app.node.pending_count == 0
        assert app.node._placing.pending_bytes == 0


@pytest.mark.parametrize("nodes", [1, 3])
async def test_messages_of_several_queues_in_one_go(tmp_path: Path, nodes: int) -> None:
    """Across files, and between single sends and batches, the offsets of each queue are dense."""
    async with Brokers(tmp_path, nodes=nodes, mapped_file_size_commit_log=4096) as group:
        await group.create_topic("T", 3)
        await group.create_topic("U", 2)
        app = await group.leader()
        outcomes: list[Any] = []
        wanted: dict[tuple[str, int], list[bytes]] = {}
        for turn in range(6):
            run = [
                replace(record(b"%d-%d " % (turn, n) + bytes(70 * n), "TU"[n % 2]), queue_id=n % 2)
                for n in range(9)
            ]
            run[4].queue_id = 2 - 2 * (turn % 2)
            assert app.node.append_each(run, outcomes.append)
            batch = [record(b"%d batch" % turn), record(b"%d batch end" % turn)]
            app.node.append_all(batch, outcomes.append)
            app.node.append(record(b"%d one" % turn), outcomes.append)
            assert app.node.pending_count == 11 * (turn % 2 + 1)
            for m in [*run, *batch, record(b"%d one" % turn)]:
                wanted.setdefault((m.topic, m.queue_id), []).append(m.body)
            if turn % 2:
                await until(lambda: len(outcomes) == 3 * turn + 3)  # noqa: B023 - of this turn
        for (topic, queue_id), bodies in wanted.items():
            found = await pull_all(group, topic, queue_id)
            assert [m.body for m in found] == bodies
            assert [m.queue_offset for m in found] == list(range(len(bodies)))
        for turn, results in enumerate(outcomes[::3]):
            places = {r.physical_offset for r in results}
            assert len(places) == 9, turn
        assert app.node.pending_count == app.node._placing.pending_bytes == 0


async def test_a_run_is_answered_with_the_places_of_its_messages(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 2)
        app = await group.leader()
        outcomes: list[Any] = []
        run = [replace(record(b"%d" % n), queue_id=n % 2) for n in range(5)]
        assert app.node.append_each(run, outcomes.append)
        await until(lambda: outcomes)
        [results] = outcomes
        found = {m.body: m for q in (0, 1) for m in await pull_all(group, "T", q)}
        for message, result in zip(run, results, strict=True):
            stored = found[message.body]
            assert (stored.queue_offset, stored.physical_offset) == (
                result.queue_offset,
                result.physical_offset,
            )


async def test_a_run_that_finds_no_room_is_refused_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before it and is not dispatched yet still counts."""
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 2)
        app = await group.leader()
        outcomes: list[Any] = []
        before = [replace(record(b"%d" % n), queue_id=n % 2) for n in range(5)]
        assert app.node.append_each(before, outcomes.append)
        app.log._appends._write_staged()
        with monkeypatch.context() as patch:
            patch.setattr(app.log.ledger._clean_writes, "write", full)
            assert app.node.append_each([record(b"lost"), record(b"too")], outcomes.append)
            app.log._appends._flush_staged()
        assert [o.code for o in outcomes] == [14]
        app = await group.leader()
        assert app.node.append_each([record(b"a"), record(b"b")], outcomes.append)
        await until(lambda: len(outcomes) == 3)
        assert [m.body for m in await pull_all(group, "T")] == [b"0", b"2", b"4", b"a", b"b"]
        assert [m.body for m in await pull_all(group, "T", 1)] == [b"1", b"3"]
        assert app.node.pending_count == app.node._placing.pending_bytes == 0


@pytest.mark.parametrize(
    "odd", [pytest.param(record(topic="Missing"), id="no such topic"), *FITS_NOWHERE]
)
async def test_a_run_with_a_message_to_be_refused_is_not_taken(
    tmp_path: Path, odd: OutgoingRecord
) -> None:
    async with Brokers(tmp_path, mapped_file_size_commit_log=64 << 10) as group:
        await group.create_topic("T")
        app = await group.leader()
        outcomes: list[Any] = []
        assert not app.node.append_each([record(), odd, record()], outcomes.append)
        assert app.node.append_each([record(b"a"), record(b"b")], outcomes.append)
        await until(lambda: outcomes)
        assert [m.body for m in await pull_all(group, "T")] == [b"a", b"b"]
        await app.stop()
        assert not app.node.append_each([record(), record()], outcomes.append)
        assert len(outcomes) == 1


async def test_a_batch_that_finds_no_room_is_refused_once_and_leaves_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        outcomes: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(app.log.ledger._clean_writes, "write", full)
            app.node.append_all([record(), record()], outcomes.append)
            await until(lambda: outcomes)
        assert [o.code for o in outcomes] == [14]
        assert app.node._placing.pending_bytes == 0
        app = await group.leader()
        placed = app.node.append_all([record(b"a"), record(b"b")], outcomes.append)
        assert [p.queue_offset for p in placed] == [0, 1]
        await until(lambda: len(outcomes) == 2)
        assert [m.body for m in await pull_all(group, "T")] == [b"a", b"b"]


async def test_a_topic_deleted_by_a_client_that_left_can_be_created_again(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        await append(app, *[record() for _ in range(5)])
        deleting = asyncio.create_task(app.node.delete_topic("T"))
        await asyncio.sleep(0)
        deleting.cancel()
        # Until the deletion is applied nothing may be stored behind it and answered with success.
        (late,) = await append(app, record())
        assert isinstance(late, PeerError)
        await until(lambda: "T" not in app.metadata.topics)
        await group.create_topic("T")
        assert await group.send("T", b"new") == 0
        assert [m.body for m in await pull_all(group, "T")] == [b"new"]
        assert not app.failed.done()


async def test_a_topic_created_while_its_deletion_is_under_way_exists_afterwards(
    tmp_path: Path,
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        await append(app, *[record() for _ in range(3)])
        config = app.metadata.topics["T"]
        deleting = asyncio.create_task(app.node.delete_topic("T"))
        await asyncio.sleep(0)
        await app.node.put_topic(config)
        await deleting
        assert "T" in app.metadata.topics
        assert await group.send("T") == 0


async def test_offsets_of_a_deleted_topic_do_not_reach_the_next_one(tmp_path: Path) -> None:
    async with Brokers(tmp_path, offset_flush_interval_ms=60_000) as group:
        await group.create_topic("T")
        app = await group.leader()
        app.node.commit_offset("CG", "T", 0, 99)
        await group.delete_topic("T")
        await group.create_topic("T")
        assert app.node.query_offset("CG", "T", 0) is None
        app.node.flush_offsets()
        await group.send("T")
        assert app.metadata.offset("CG", "T", 0) is None


async def test_one_answer_that_fails_does_not_cost_the_others_theirs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()

        def broken(_: AppendResult | PeerError) -> None:
            raise RuntimeError("the answer broke")

        outcomes: list[Any] = []
        app.node.append(record(), broken)
        app.node.append(record(), outcomes.append)
        await until(lambda: outcomes)
        assert outcomes[0].queue_offset == 1
        assert "the answer broke" in caplog.text
        assert await group.send("T") == 2


async def test_on_a_full_disk_sends_get_14_and_offsets_stay_dense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        assert await group.send("T") == 0

        with monkeypatch.context() as patch:
            patch.setattr(app.log.ledger.data, "write", full)
            outcomes = await append(app, record(), record())
            assert [o.code for o in outcomes if isinstance(o, PeerError)] == [14, 14]
            reply = await group.ask(app, send_request("T"))
            assert reply.code == 14
            assert "no room" in (reply.remark or "")
        assert await group.send("T") == 1
        assert [m.queue_offset for m in await pull_all(group, "T")] == [0, 1]
        assert app.node.pending_count == 0


async def test_what_is_written_counts_when_the_rest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the appends are in the log and not dispatched yet when the disk is full."""
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        outcomes: list[Any] = []
        app.node.append(record(), outcomes.append)
        app.log._appends._flush_staged()  # in the log, not yet dispatched
        app.node.append(record(), outcomes.append)
        with monkeypatch.context() as patch:
            patch.setattr(
                app.log.ledger, "write_staged", _undo(app, DiskFullError("data: no room"))
            )
            app.log._appends._flush_staged()
        app.node.append(record(), outcomes.append)
        await until(lambda: len(outcomes) == 3)
        placed = [o.queue_offset for o in outcomes if isinstance(o, AppendResult)]
        assert sorted(placed) == [0, 1]
        assert [o.code for o in outcomes if isinstance(o, PeerError)] == [14]


def _undo(app: BrokerApp, error: Exception) -> Any:
    def write_staged() -> int:
        app.log.ledger.drop_staged()
        raise error

    return write_staged


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        pytest.param("send_queue_capacity", 3, id="by number"),
        pytest.param("max_pending_send_bytes", 300, id="by bytes"),
    ],
)
async def test_appends_over_a_bound_are_answered_busy(
    tmp_path: Path, limit: str, value: int
) -> None:
    async with Brokers(tmp_path, **{limit: value}) as group:
        await group.create_topic("T")
        outcomes = await append(await group.leader(), *[record() for _ in range(10)])
        busy = [o for o in outcomes if isinstance(o, PeerError)]
        stored = [o.queue_offset for o in outcomes if isinstance(o, AppendResult)]
        assert {o.code for o in busy} == {2}
        assert "flow control" in busy[0].remark
        assert 0 < len(stored) < 10
        assert sorted(stored) == list(range(len(stored)))
        assert await group.send("T") == len(stored)
        # In one go: all or none, and exactly as many as may wait.
        app, many = await group.leader(), [record() for _ in range(4)]
        answers: list[Any] = []
        assert not app.node.append_each(many, answers.append)
        assert app.node.append_each(many[:3], answers.append)
        assert not app.node.append_each(many[:1], answers.append)
        await until(lambda: answers)
        assert len(answers[0]) == 3


async def test_times_in_the_log_do_not_fall_after_a_restart(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        ahead = 10_000_000
        now = wall_ms()
        group.apps["n0"].node._records._wall_ms = lambda: now + ahead
        await group.send("T")
        await group.stop()
        await group.start()
        await group.send("T")
        first, second = [m.store_timestamp_ms for m in await pull_all(group, "T")]
        assert first == now + ahead
        assert second >= first


async def test_a_leader_elected_on_a_full_disk_gets_ready_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Brokers(tmp_path)
    monkeypatch.setattr(node_module, "_RETRY_S", 0.02, raising=False)
    app = group.apps["n0"] = BrokerApp(group.config("n0"))
    refused = 0

    def write(self: Ledger) -> int:
        nonlocal refused
        if self._staged > 0 and refused < 3:  # the no-op, entry 0, has room
            refused += 1
            self.drop_staged()
            raise DiskFullError("data: no room")
        return write_staged(self)

    write_staged = Ledger.write_staged
    monkeypatch.setattr(Ledger, "write_staged", write)
    await app.start()
    try:
        await group.leader()
        assert refused == 3
    finally:
        await group.__aexit__()


async def test_a_request_for_a_broken_batch_stores_nothing(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        command = send_request("T", b"\x00\x00\x00\x05\x00", batch=True)
        command.code = RequestCode.SEND_MESSAGE
        reply = await group.ask(await group.leader(), command)
        assert reply.code == 13
        empty = request(RequestCode.SEND_BATCH_MESSAGE, command.ext, b"")
        assert (await group.ask(await group.leader(), empty)).code == 13
        assert await group.send("T") == 0
