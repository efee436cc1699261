"""29 to 33."""

import pytest

from ledgermq.broker.features import queue_info
from ledgermq.broker.topics import INTERNAL_TOPIC

from .fakes import Bench, record

QUEUE = {"topic": "T", "queueId": "1"}


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    queue_info.register(bench.registry, bench.queues)
    bench.queues.times["T", 1] = [100, 200, 300]
    bench.queues.begin["T", 1] = 1
    return bench


@pytest.mark.parametrize(
    ("boundary", "upper"), [({}, False), ({"boundaryType": "UPPER"}, True),
                            ({"boundaryType": "lower"}, False)],
)  # fmt: skip
async def test_search_offset(bench: Bench, boundary: dict[str, str], upper: bool) -> None:
    reply = await bench.call(29, QUEUE | {"timestamp": "250"} | boundary)
    assert reply.ext == {"offset": "7"}
    assert bench.queues.asked == [("T", 1, 250, upper)]


async def test_both_ends(bench: Bench) -> None:
    assert (await bench.call(30, QUEUE)).ext == {"offset": "3"}
    assert (await bench.call(31, QUEUE)).ext == {"offset": "1"}
    assert (await bench.call(30, QUEUE | {"topic": "never written"})).ext == {"offset": "0"}


async def test_earliest_store_time(bench: Bench) -> None:
    assert (await bench.call(32, QUEUE)).ext == {"timestamp": "200"}
    assert (await bench.call(32, QUEUE | {"queueId": "2"})).ext == {"timestamp": "-1"}


async def test_view_message(bench: Bench) -> None:
    bench.queues.records[48] = record("T", 48)
    reply = await bench.call(33, {"offset": "48"})
    assert reply.body == bench.queues.records[48]
    error = await bench.refusal(33, {"offset": "49"})
    assert error.code == 1
    assert "49" in error.remark


@pytest.mark.parametrize("code", [29, 30, 31, 32])
async def test_the_internal_topic_is_closed(bench: Bench, code: int) -> None:
    ext = {"topic": INTERNAL_TOPIC, "queueId": "0", "timestamp": "0"}
    assert (await bench.refusal(code, ext)).code == 16


async def test_internal_records_look_as_if_there_were_none(bench: Bench) -> None:
    bench.queues.records[48] = record(INTERNAL_TOPIC, 48)
    hidden = await bench.refusal(33, {"offset": "48"})
    absent = await bench.refusal(33, {"offset": "49"})
    assert hidden.code == absent.code == 1
    assert hidden.remark.replace("48", "49") == absent.remark


def test_who_forwards() -> None:
    assert {29, 30, 31, 32} == queue_info.LEADER_CODES, "every node answers 33"
