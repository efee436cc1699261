"""What a leader dispatches from memory is what anybody would from its log."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.broker import node, topics
from ledgermq.broker.app import BrokerApp
from ledgermq.broker.store import dispatch, keeper
from ledgermq.broker.store.consume_queue import Unit, pack_unit
from ledgermq.broker.store.dispatch import Arrivals, Dispatcher
from ledgermq.broker.store.placed import PlacedRecord, PlacedRecords
from ledgermq.broker.writer import AppendResult, OutgoingRecord
from ledgermq.dledger.errors import DiskFullError
from ledgermq.dledger.raft.effects import Role
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message import decode_record, decode_records, java_hash, pack_host
from tests.support import until
from tests.support.brokers import Brokers, pull_all, pull_request
from tests.support.fuzz import fuzzing
from tests.unit.broker.fakes import topic as topic_config

BORN = pack_host("1.2.3.4:5")
Outcome = AppendResult | PeerError


def placed_record(index: int, queue_offset: int, unit: bytes, code: int = 0) -> PlacedRecord:
    return PlacedRecord(
        log_index=index,
        end_pos=1000 * (index + 1),
        store_ms=1 + index,
        queue=("T", 0),
        queue_offset=queue_offset,
        tags_code=code,
        unit=unit,
    )


def note(records: PlacedRecords, term: int, index: int) -> PlacedRecord:
    record = placed_record(index, index, pack_unit(index * 100, 100, 0))
    records.note(term, record)
    return record


# --- the list itself --------------------------------------------------------------------------


def test_records_are_taken_up_to_the_first_gap() -> None:
    records = PlacedRecords()
    made = {i: note(records, 1, i) for i in (3, 4, 6, 7, 8)}
    assert records.take(2, 9, 10) == []  # 2 is not known here
    assert len(records) == 5
    assert records.take(3, 9, 10) == [made[3], made[4]]
    assert records.take(5, 9, 10) == []
    assert records.take(6, 7, 10) == [made[6], made[7]]
    assert records.take(8, 7, 10) == []  # not committed yet
    assert records.take(8, 8, 10) == [made[8]]
    assert len(records) == 0


def test_no_more_are_taken_than_asked_for_and_those_before_are_forgotten() -> None:
    records = PlacedRecords()
    made = [note(records, 1, i) for i in range(6)]
    assert records.take(1, 9, 2) == made[1:3]
    assert len(records) == 3
    assert records.take(5, 9, 2) == made[5:]


def test_another_term_forgets_what_was_placed_in_the_one_before() -> None:
    records = PlacedRecords()
    note(records, 1, 3)
    second = placed_record(3, 7, b"another")
    records.note(2, second)
    assert (records.term, records.take(3, 3, 9)) == (2, [second])
    note(records, 2, 4)
    records.forget()
    assert records.take(4, 4, 9) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("note"), st.integers(0, 3), st.integers(1, 3)),
        st.tuples(st.just("take"), st.integers(-2, 4), st.integers(0, 6), st.integers(0, 4)),
        st.tuples(st.just("forget")),
    ),
    max_size=30,
)


@fuzzing(200)
@given(STEPS)
def test_records_are_those_of_a_simple_model(steps: list[tuple[Any, ...]]) -> None:
    records, term, end, applied = PlacedRecords(), 0, -1, -1
    known: dict[int, PlacedRecord] = {}
    for name, *args in steps:
        if name == "note":
            if not args[0]:  # now and then a term begins
                term += 1
                known.clear()
            end += args[1]
            known[end] = note(records, term, end)
        elif name == "forget":
            records.forget()
            known.clear()
        else:
            first, last = applied + 1 + max(args[0], 0), applied + args[1]
            found = records.take(first, last, args[2])
            wanted: list[PlacedRecord] = []
            while first + len(wanted) <= last and len(wanted) < args[2]:
                record = known.get(first + len(wanted))
                if record is None:
                    break
                wanted.append(record)
            assert found == wanted
            applied = max(applied, first - 1 + len(found))
            for index in [i for i in known if i < first + len(found)]:
                del known[index]
        assert len(records) == len(known)


# --- a node -----------------------------------------------------------------------------------


class Watch:
    """Notes of every dispatcher how far it was after each chunk, and what it told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.states: dict[Dispatcher, dict[int, tuple[int, int, int]]] = {}
        self.arrived: dict[Dispatcher, Arrivals] = {}
        # How many records came from memory, and how many chunks from the log.
        self.placed = self.read = 0
        apply_chunk = Dispatcher._apply_chunk
        apply_placed, apply_log = Dispatcher._apply_placed, Dispatcher._apply

        def chunk(dispatcher: Dispatcher, apply: Callable[[Arrivals], None]) -> None:
            def watched(arrivals: Arrivals) -> None:
                apply(arrivals)
                progress = dispatcher._progress
                state = (progress.term, progress.store_ms, progress.end_pos)
                self.states.setdefault(dispatcher, {})[progress.index] = state
                told = self.arrived.setdefault(dispatcher, {})
                for key, codes in arrivals.items():
                    told.setdefault(key, []).extend(codes)

            apply_chunk(dispatcher, watched)

        def placed(
            dispatcher: Dispatcher, records: list[PlacedRecord], term: int, into: Arrivals
        ) -> None:
            self.placed += len(records)
            apply_placed(dispatcher, records, term, into)

        def log(dispatcher: Dispatcher, data: bytes, into: Arrivals) -> None:
            self.read += 1
            apply_log(dispatcher, data, into)

        patch.setattr(Dispatcher, "_apply_chunk", chunk)
        patch.setattr(Dispatcher, "_apply_placed", placed)
        patch.setattr(Dispatcher, "_apply", log)


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader notes what it builds, also where a compiled look at the log is cheaper."""
    monkeypatch.setattr(node, "NOTES_PLACED", True)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """No snapshots but for deleted topics: a copy begins with the first entry."""
    monkeypatch.setattr(keeper, "_FLUSH_S", 3600)
    return Watch(monkeypatch)


def message(
    topic: str = "T", queue_id: int = 0, tag: str = "A", size: int = 5, sys_flag: int = 0
) -> OutgoingRecord:
    properties = f"KEYS\x01k\x02TAGS\x01{tag}\x02" if tag else ""
    return OutgoingRecord(topic, queue_id, b"b" * size, properties.encode(), 0, sys_flag, 1, BORN)


class Held:
    """Commits of a node, as far as they are let through."""

    def __init__(self, app: BrokerApp) -> None:
        self._dispatcher = app.dispatcher
        self._log = app.log
        self._committed = app.dispatcher.committed
        self._told = -1
        app.dispatcher.committed = self._hold  # type: ignore[method-assign]

    def _hold(self, index: int) -> None:
        self._told = max(self._told, index)

    async def commits_all(self) -> int:
        """Wait until the whole log is committed, though nothing of it is dispatched."""
        await asyncio.sleep(0)  # what is staged gets written
        end = self._log.ledger.end_index
        await until(lambda: self._told >= end, what="the commits")
        return end

    async def release(self, index: int | None = None) -> None:
        """Dispatch up to `index`, or all from now on."""
        if index is None:
            self._dispatcher.committed = self._committed  # type: ignore[method-assign]
            index = await self.commits_all() if self._told < 0 else self._told
        self._committed(index)
        await until(lambda: self._dispatcher.applied >= index, what=f"dispatch up to {index}")


def all_units(app: BrokerApp) -> dict[tuple[str, int], list[Unit]]:
    queues = app.dispatcher.queues
    return {
        (row.topic, row.queue_id): queues.get(row.topic, row.queue_id).read(0, 1 << 20)
        for row in queues.rows()
        if row.topic != topics.INTERNAL_TOPIC and row.max_offset
    }


async def compare_with_a_copy(group: Brokers, watch: Watch, patch: pytest.MonkeyPatch) -> None:
    """A node made of the leader's log, entry by entry, comes to the same."""
    app = await group.leader()
    end = app.dispatcher.applied
    assert end == app.log.ledger.end_index
    assert watch.placed > 0  # else a thing would be compared with itself
    with patch.context() as one_by_one:
        one_by_one.setattr(dispatch, "_CHUNK_BYTES", 1)
        async with app.dispatcher._keeper._busy:
            copy = await group.copy()
        await until(lambda: copy.node.ready, what="a copy that leads")
    assert all_units(copy) == all_units(app)
    assert copy.metadata.topics == app.metadata.topics
    ours, theirs = watch.states[app.dispatcher], watch.states[copy.dispatcher]
    assert ours[end] == theirs[end]
    assert {i: s for i, s in ours.items() if i in theirs} == {
        i: s for i, s in theirs.items() if i in ours
    }
    if 0 in theirs:  # there was no snapshot
        assert watch.arrived[copy.dispatcher] == watch.arrived[app.dispatcher]


async def settled(outcomes: list[Outcome], count: int) -> list[AppendResult]:
    """Wait for all answers, which must be good."""
    await until(lambda: len(outcomes) == count, what="the answers")
    assert not [o for o in outcomes if isinstance(o, PeerError)]
    return [o for o in outcomes if isinstance(o, AppendResult)]


@pytest.mark.parametrize("chunk", [4096, 3, 1])
async def test_queues_times_and_terms_are_those_of_the_log(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(dispatch, "_CHUNK_RECORDS", chunk)
    async with Brokers(tmp_path, mapped_file_size_commit_log=65536) as group:
        await group.create_topic("T", 3)
        await group.create_topic("U")
        await group.create_topic("X")
        app = await group.leader()
        now_ms = 4_000_000_000_000
        app.replica.node._records._wall_ms = lambda: now_ms
        outcomes: list[Outcome] = []
        for n in range(60):
            now_ms += (n * 7) % 5 - 1  # a clock that now and then goes back
            big = 9000 if n % 5 == 0 else n  # segments end in between
            tag = ("", "TagA", "标签")[n % 3]
            app.node.append(message("TTU"[n % 3], n % 2, tag, big), outcomes.append)
            if n == 45:
                app.node.append(message("X", sys_flag=4), outcomes.append)  # in no queue
            if n % 10 == 9:
                await asyncio.sleep(0)
            if n % 20 == 19:
                await until(lambda n=n: len(outcomes) > n, what="the answers")
        await settled(outcomes, 61)
        assert 40 <= watch.placed < 60
        assert watch.read > 0
        await group.send("T")
        assert len(app.dispatcher.placed) == 0
        assert len(app.log.segment_begins()) >= 2
        await compare_with_a_copy(group, watch, monkeypatch)
        for (topic, queue_id), units in all_units(app).items():
            for offset, unit in enumerate(units):
                raw = await app.reader.read_record(unit.physical_offset)
                assert raw is not None
                found = decode_record(raw)
                assert (found.topic, found.queue_id, found.queue_offset) == (
                    topic,
                    queue_id,
                    offset,
                )
                assert unit.tags_code == (java_hash(found.tag) if found.tag else 0)


@pytest.mark.parametrize("seed", range(4))
async def test_changes_of_the_metadata_between_sends(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Topics come, change and go while messages of theirs wait to be dispatched."""
    random = Random(seed)
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 2)
        app = await group.leader()
        outcomes: list[Outcome] = []
        changes: list[asyncio.Task[None]] = []
        count = 0
        for step in range(120):
            held = random.choice(["T", "T", "U", "V"])
            match random.randrange(12):
                case 0:
                    config = topic_config(held, random.randint(1, 4))
                    changes.append(asyncio.create_task(app.node.put_topic(config)))
                case 1 if held != "T":
                    changes.append(asyncio.create_task(app.node.delete_topic(held)))
                case 2:
                    await asyncio.sleep(0)
                case _:
                    count += 1
                    app.node.append(message(held, step % 2, f"tag{step}", step), outcomes.append)
        await asyncio.gather(*changes)
        await until(lambda: len(outcomes) == count, what="the answers")
        await until(lambda: app.dispatcher.applied == app.log.ledger.end_index)
        assert {o.code for o in outcomes if isinstance(o, PeerError)} <= {17}
        assert not app.failed.done()
        await compare_with_a_copy(group, watch, monkeypatch)


@pytest.mark.parametrize("step_by_step", [True, False])
async def test_a_topic_deleted_and_made_again_while_its_records_wait(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch, step_by_step: bool
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 2)
        await group.create_topic("U")
        app = await group.leader()
        held = Held(app)
        outcomes: list[Outcome] = []
        first = app.log.ledger.end_index + 1
        for n in range(3):
            app.node.append(message("T", n % 2), outcomes.append)
        deleting = asyncio.create_task(app.node.delete_topic("T"))
        await asyncio.sleep(0)
        # Behind its topic's end: as a message that was on its way when the topic went.
        app.node._placing.place(message("T", 0, "Late"), outcomes.append)
        app.node.append(message("U"), outcomes.append)
        making = asyncio.create_task(app.node.put_topic(topic_config("T", 1)))
        await asyncio.sleep(0)
        app.node._placing.place(message("U", 0, "B", 9), outcomes.append)
        assert len(app.dispatcher.placed) == 6
        end = await held.commits_all()
        assert end == first + 7
        for index in range(first, end + 1) if step_by_step else ():
            held._committed(index)
            for _ in range(4):
                await asyncio.sleep(0)
        await held.release()
        await asyncio.gather(deleting, making)
        await settled(outcomes, 6)
        assert app.metadata.topics["T"].write_queue_nums == 1
        assert all_units(app).keys() == {("U", 0)}
        assert [u.tags_code for u in all_units(app)["U", 0]] == [java_hash("A"), java_hash("B")]
        assert await group.send("T", b"anew") == 0
        assert [m.body for m in await pull_all(group, "T")] == [b"anew"]
        await compare_with_a_copy(group, watch, monkeypatch)


async def test_a_failed_write_forgets_what_was_placed(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places that were given away are given again, to other messages."""

    def full(*_: object) -> None:
        raise DiskFullError("data: no room left on the device")

    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 2)
        app = await group.leader()
        held = Held(app)
        outcomes: list[Outcome] = []
        app.node.append(message("T", 0, "Written"), outcomes.append)
        end = await held.commits_all()  # in the log, not yet dispatched
        for n in range(3):
            app.node.append(message("T", n % 2, "Lost", 40), outcomes.append)
        assert len(app.dispatcher.placed) == 4
        with monkeypatch.context() as patch:
            patch.setattr(app.log.ledger.data, "write", full)
            app.log._appends._flush_staged()
        assert len(app.dispatcher.placed) == 0
        assert [o.code for o in outcomes if isinstance(o, PeerError)] == [14] * 3
        for n in range(4):
            app.node.append(message("T", 1 - n % 2, f"Next{n}", n), outcomes.append)
        assert app.log.ledger.staged_index == end + 4
        await held.release()
        await until(lambda: len(outcomes) == 8, what="the answers")
        await until(lambda: app.dispatcher.applied == end + 4)
        tags = {q: [u.tags_code for u in all_units(app)["T", q]] for q in (0, 1)}
        assert tags == {
            0: [java_hash(t) for t in ("Written", "Next1", "Next3")],
            1: [java_hash(t) for t in ("Next0", "Next2")],
        }
        assert await group.send("T") == 3
        await compare_with_a_copy(group, watch, monkeypatch)


@pytest.mark.parametrize("way", ["stepped down", "halted"])
async def test_a_leader_that_steps_down_forgets_what_it_placed(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        assert await group.send("T") == 0
        held = Held(app)
        outcomes: list[Outcome] = []
        for n in range(3):
            app.node.append(message("T", 0, f"t{n}", n), outcomes.append)
        await held.commits_all()
        assert len(app.dispatcher.placed) == 3
        if way == "halted":
            app.node.halt("the test says so")
        else:
            app.replica.node.on_role(Role.FOLLOWER, app.log.core.term, None)
        assert len(app.dispatcher.placed) == 0
        assert [o.code for o in outcomes if isinstance(o, PeerError)] == [1] * 3
        before = watch.read
        await held.release()
        assert watch.read > before  # from the log this time
        await until(lambda: app.node.ready, what="the only member to lead again")
        assert await group.send("T") == 4
        await compare_with_a_copy(group, watch, monkeypatch)


@pytest.mark.parametrize("term", [-1, 1])
async def test_what_was_placed_in_another_term_is_not_believed(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch, term: int
) -> None:
    """The log says what lies at an index, whatever this node once thought."""
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        assert await group.send("T") == 0
        held = Held(app)
        app.node.append(message("T", 0, "True"), lambda _: None)
        end = await held.commits_all()
        placed = app.dispatcher.placed
        placed.forget()
        wrong = placed_record(end, 1, pack_unit(7, 200, 7), 7)
        placed.note(app.log.core.term + term, wrong)
        await held.release()
        assert [u.tags_code for u in all_units(app)["T", 0]] == [0, java_hash("True")]
        assert len(placed) == 0
        assert await group.send("T") == 2
        await compare_with_a_copy(group, watch, monkeypatch)


async def test_a_place_in_its_queue_that_is_not_the_next_stops_the_node(
    tmp_path: Path, watch: Watch
) -> None:
    """Also when it is one of many that are dispatched together."""
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 2)
        app = await group.leader()
        outcomes: list[Outcome] = []
        for n in range(6):
            if n == 4:
                app.node._placing._next_offsets["T", 0] = 3  # 2 is left out
            app.node.append(message("T", n % 2), outcomes.append)
        reason = await asyncio.wait_for(asyncio.shield(app.failed), 5)
        assert "queue T/0 continues at 2, the record says 3" in str(reason)
        assert watch.placed == 6
        await until(lambda: len(outcomes) == 6, what="the answers")
        assert all(isinstance(o, PeerError) for o in outcomes)
        assert app.reader.max_offset("T", 0) <= 2


async def test_a_snapshot_of_a_leader_forgets_what_was_placed(tmp_path: Path, watch: Watch) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        await app.dispatcher._keeper._save()
        note(app.dispatcher.placed, 1, 10_000)
        newest = app.log.snapshots.newest
        assert newest is not None
        app.dispatcher.reseed(newest)
        assert len(app.dispatcher.placed) == 0
        await until(lambda: app.dispatcher.serving, what="the queues")


async def test_a_pull_that_waits_hears_of_a_placed_record(tmp_path: Path, watch: Watch) -> None:
    """Of the one that has its tag, in its queue."""
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 2)
        app = await group.leader()
        assert await group.send("T", queue_id=1) == 0
        ask = pull_request("T", 1, queue_id=1, sys_flag=6, subscription="TagB")
        pulling = asyncio.create_task(group.ask(app, ask))
        await until(lambda: len(app.polling), what="a pull that waits")
        before, read = watch.placed, watch.read
        outcomes: list[Outcome] = []
        for queue_id, tag in ((0, "TagB"), (1, "TagA"), (1, "TagB")):
            app.node.append(message("T", queue_id, tag), outcomes.append)
        await settled(outcomes, 3)
        reply = await pulling
        assert reply.code == 0
        assert [(m.queue_id, m.queue_offset, m.tag) for m in decode_records(reply.body)] == [
            (1, 2, "TagB")
        ]
        assert (watch.placed - before, watch.read - read) == (3, 0)
