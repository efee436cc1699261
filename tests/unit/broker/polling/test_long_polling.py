"""Who waits, who is woken, and that each is run again once."""

import asyncio
from typing import Any

import pytest

from ledgermq.broker import long_polling
from ledgermq.broker.long_polling import HeldPull, LongPolling
from ledgermq.remoting.clock import mono_ms
from tests.support import until

FAR_MS = 1 << 60


def waiting(polling: LongPolling) -> int:
    return len(polling._deadlines)


class Pulls:
    """Makes pulls that write down when they are run again."""

    def __init__(self, polling: LongPolling) -> None:
        self.polling = polling
        self.runs: list[tuple[str, bool]] = []
        self.closed: set[str] = set()

    def hold(
        self, name: str, *, codes: Any = None, deadline_ms: int = FAR_MS, queue_id: int = 0
    ) -> bool:
        return self.polling.hold(
            "T",
            queue_id,
            HeldPull(
                deadline_ms,
                codes,
                lambda over: self.runs.append((name, over)),
                lambda: name in self.closed,
            ),
        )


@pytest.fixture
async def pulls() -> Any:
    polling = LongPolling()
    yield Pulls(polling)
    polling.close()


async def test_an_arrival_wakes_those_of_its_queue_whose_filter_takes_it(pulls: Pulls) -> None:
    pulls.hold("all")
    pulls.hold("one", codes={1})
    pulls.hold("two", codes={2, 3})
    pulls.hold("other queue", queue_id=1)
    pulls.polling.arrived({("T", 0): [1], ("U", 0): [2]})
    assert pulls.runs == [("all", False), ("one", False)]
    pulls.polling.arrived({("T", 0): [5, 3], ("T", 1): [0]})
    assert pulls.runs[2:] == [("two", False), ("other queue", False)]
    assert waiting(pulls.polling) == 0
    assert not pulls.polling._held


async def test_each_is_run_again_once(pulls: Pulls) -> None:
    pulls.hold("a")
    pulls.polling.arrived({("T", 0): [1, 1, 2]})
    pulls.polling.arrived({("T", 0): [1]})
    pulls.polling.wake_all()
    assert pulls.runs == [("a", False)]


async def test_one_that_holds_again_from_within_waits_for_the_next_arrival() -> None:
    polling = LongPolling()
    runs: list[bool] = []

    def again(_over: bool) -> None:
        runs.append(_over)
        polling.hold("T", 0, HeldPull(FAR_MS, None, runs.append, lambda: False))

    polling.hold("T", 0, HeldPull(FAR_MS, None, again, lambda: False))
    polling.arrived({("T", 0): [1]})
    assert runs == [False]
    assert waiting(polling) == 1
    polling.wake_all()
    assert runs == [False, True]
    assert waiting(polling) == 0
    polling.close()


async def test_the_deadline_and_closed_connections(pulls: Pulls) -> None:
    pulls.hold("late", deadline_ms=mono_ms())
    pulls.hold("gone", deadline_ms=mono_ms())
    pulls.hold("patient")
    pulls.closed.add("gone")
    await until(lambda: pulls.runs)
    assert pulls.runs == [("late", True)]
    assert waiting(pulls.polling) == 1
    pulls.closed.add("patient")
    pulls.polling.arrived({("T", 0): [1]})
    assert pulls.runs == [("late", True)]
    assert pulls.polling._timer is not None


async def test_no_timer_runs_while_nobody_waits(pulls: Pulls) -> None:
    assert pulls.polling._timer is None
    pulls.hold("a", deadline_ms=mono_ms())
    await until(lambda: pulls.runs)
    await until(lambda: pulls.polling._timer is None)


async def test_the_bound(pulls: Pulls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_polling, "MAX_HELD", 3)
    assert [pulls.hold(str(i)) for i in range(5)] == [True, True, True, False, False]
    pulls.polling.arrived({("T", 0): [1]})
    assert pulls.hold("again")


async def test_the_end_answers_everybody() -> None:
    polling = LongPolling()
    pulls = Pulls(polling)
    pulls.hold("a")
    pulls.hold("b", queue_id=3)
    polling.close()
    assert sorted(pulls.runs) == [("a", True), ("b", True)]
    await asyncio.sleep(0)
