"""Plain sends that came in together: appended in one go, answered as one by one."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.broker.writer import AppendResult
from ledgermq.dledger.errors import CallerError
from ledgermq.remoting import frame
from ledgermq.remoting.errors import PeerError
from tests.support.fuzz import fuzzing

from .frames import (
    ANY_SENDS,
    REFUSALS,
    RESULTS,
    Broker,
    known_topics,
    plain,
)


@pytest.mark.parametrize("takes_runs", [True, False], ids=["in one go", "one by one"])
@pytest.mark.parametrize("outcomes", [RESULTS, REFUSALS], ids=["stored", "refused"])
def test_frames_that_came_together_are_stored_and_answered_as_on_the_long_way(
    runner: asyncio.Runner,
    outcomes: st.SearchStrategy[AppendResult | PeerError],
    takes_runs: bool,
) -> None:
    metadata = known_topics()
    runs: list[int] = []

    @fuzzing(150)
    @given(st.lists(ANY_SENDS, min_size=1, max_size=8), outcomes)
    def each(frames: list[bytes], outcome: AppendResult | PeerError) -> None:
        long, short = Broker(outcome, metadata), Broker(outcome, metadata)
        short.node.takes_runs = takes_runs
        short.registry.shortcut = short.quick
        runner.run(long.take(*frames))
        runner.run(short.take(*frames))
        records, heard, reasons = long.traces
        assert short.node.records == records
        assert short.client.reasons == reasons
        assert b"".join(short.client.heard) == b"".join(heard)
        runs.extend(short.node.runs)

    each()
    assert max(runs) >= 3
    assert len(runs) > 15


def test_no_more_than_a_bounded_number_goes_in_one_go() -> None:
    broker = Broker()
    frames = [plain(top={"opaque": n}) for n in range(600)]
    at, stops = 0, []
    while at < len(frames):
        at = broker.quick(broker.client, frames, at)
        stops.append(at)
    assert stops == [256, 512, 600]
    assert broker.node.runs == [256, 256, 88]
    answers = b"".join(broker.client.heard)
    assert [a.opaque for a in frame.CommandDecoder().feed(answers)] == list(range(600))


def test_a_run_that_raises_is_tried_one_by_one(runner: asyncio.Runner) -> None:
    """The first of them then goes the long way, which says why."""
    broker = Broker()
    broker.node.error = CallerError("no room")
    frames = [plain(top={"opaque": n}) for n in range(3)]
    assert broker.quick(broker.client, frames, 0) == 0
    assert (broker.node.runs, broker.node.tries) == ([3], 1)
    broker.node.error = None
    assert broker.quick(broker.client, frames, 1) == 3
    assert len(broker.node.records) == 2


def test_a_run_ends_before_the_first_that_is_not_plain() -> None:
    broker = Broker()
    frames = [plain(), plain(e="1"), plain(m="true"), plain(), plain(top={"flag": 2}), plain()]
    assert [broker.quick(broker.client, frames, at) for at in range(6)] == [2, 2, 2, 4, 4, 6]
    assert broker.node.runs == [2]
    assert [r.queue_id for r in broker.node.records] == [2, 1, 1, 2, 2]
