"""An offset leaves the buffer only when a record that holds this very offset is applied."""

from dataclasses import dataclass, field

import pytest

from ledgermq.broker.metadata import Offsets, OffsetsPut
from ledgermq.broker.offset_buffer import OffsetBuffer, OnDone
from ledgermq.broker.writer import AppendResult
from ledgermq.remoting.errors import PeerError
from tests.support import until

APPLIED = AppendResult(0, 0)
REFUSED = PeerError(14, "no room")
NEVER_MS = 3_600_000


@dataclass
class Log:
    """Takes records, and answers when told."""

    leads: bool = True
    records: list[tuple[Offsets, OnDone]] = field(default_factory=list)

    def write(self, op: OffsetsPut, on_done: OnDone) -> None:
        self.records.append((op.offsets, on_done))

    def answer(self, result: AppendResult | PeerError) -> None:
        self.records.pop(0)[1](result)


def buffer(log: Log, interval_ms: int = NEVER_MS, max_record_bytes: int = 1 << 20) -> OffsetBuffer:
    return OffsetBuffer(interval_ms, max_record_bytes, may_write=lambda: log.leads, write=log.write)


@pytest.fixture
def log() -> Log:
    return Log()


async def test_an_offset_that_moved_while_its_record_was_under_way_stays(log: Log) -> None:
    moved = buffer(log)
    moved.put("G", "T", 0, 5)
    moved.put("G", "T", 1, 7)
    moved.flush()
    moved.put("G", "T", 0, 6)
    log.answer(APPLIED)
    assert moved.get("G", "T", 0) == 6
    assert moved.get("G", "T", 1) is None  # in the metadata now
    moved.flush()
    assert log.records[0][0] == {"G": {"T": {0: 6}}}
    log.answer(APPLIED)
    assert moved.get("G", "T", 0) is None


async def test_an_offset_set_back_while_its_record_was_under_way_stays_too(log: Log) -> None:
    moved = buffer(log)
    moved.put("G", "T", 0, 5)
    moved.flush()
    moved.put("G", "T", 0, 0)  # an operator resets it
    log.answer(APPLIED)
    assert moved.get("G", "T", 0) == 0


async def test_what_is_applied_is_not_written_again(log: Log) -> None:
    moved = buffer(log)
    moved.put("G", "T", 0, 5)
    moved.flush()
    log.answer(APPLIED)
    moved.flush()
    assert not log.records


async def test_what_is_refused_is_written_again(log: Log) -> None:
    moved = buffer(log, interval_ms=0)
    moved.put("G", "T", 0, 5)
    moved.flush()
    log.answer(REFUSED)
    assert moved.get("G", "T", 0) == 5
    await until(lambda: log.records, what="the record again")
    assert [offsets for offsets, _ in log.records] == [{"G": {"T": {0: 5}}}]


async def test_who_does_not_lead_writes_nothing_and_forgets(log: Log) -> None:
    moved = buffer(log)
    moved.put("G", "T", 0, 5)
    log.leads = False
    moved.flush()
    assert not log.records
    moved.clear()
    log.leads = True
    moved.flush()
    assert not log.records
    assert moved.get("G", "T", 0) is None


async def test_a_record_of_an_earlier_office_removes_nothing_of_this_one(log: Log) -> None:
    moved = buffer(log)
    moved.put("G", "T", 0, 9)
    moved.flush()
    moved.clear()
    moved.put("G", "T", 0, 3)
    log.answer(PeerError(1, "leadership changed"))
    assert moved.get("G", "T", 0) == 3


async def test_a_deleted_topic_and_a_deleted_group_take_their_offsets_along(log: Log) -> None:
    moved = buffer(log)
    for group in ("G", "H"):
        for topic in ("T", "U"):
            moved.put(group, topic, 0, 1)
    moved.drop_topic("T")
    moved.drop_group("H")
    moved.flush()
    assert log.records[0][0] == {"G": {"U": {0: 1}}}


async def test_several_records_when_one_would_be_too_large(log: Log) -> None:
    moved = buffer(log, max_record_bytes=100)
    for queue in range(5):
        moved.put("G", "T", queue, queue)
    moved.flush()
    merged: dict[int, int] = {}
    for offsets, _ in log.records:
        assert 1 <= len(offsets["G"]["T"]) <= 2
        merged |= offsets["G"]["T"]
    assert merged == {queue: queue for queue in range(5)}
