"""When the log goes to the disk."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledgermq.broker.plain.commit_log import CommitLog
from ledgermq.broker.plain.flushing import PAGE_BYTES, Flusher, FlushPolicy
from ledgermq.dledger.host import Host
from ledgermq.remoting.errors import StorageError
from tests.support import until

from .plain_logs import EMPTY_BYTES, open_plain, put

POLICY = FlushPolicy(500, 4, 10_000)


# --- the policy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flushed", "end", "waited_ms", "now"),
    [
        pytest.param(0, 0, 99_999, False, id="nothing is dirty"),
        pytest.param(0, 4 * PAGE_BYTES - 1, 0, False, id="three pages"),
        pytest.param(0, 4 * PAGE_BYTES, 0, True, id="four pages"),
        pytest.param(PAGE_BYTES - 1, 4 * PAGE_BYTES, 0, True, id="pages are counted, not bytes"),
        pytest.param(PAGE_BYTES, 5 * PAGE_BYTES - 1, 9_999, False, id="soon"),
        pytest.param(PAGE_BYTES, PAGE_BYTES + 1, 10_000, True, id="a byte, after long"),
    ],
)
def test_the_policy(flushed: int, end: int, waited_ms: int, now: bool) -> None:
    assert POLICY.flush_now(flushed, end, waited_ms) is now


def test_no_least_pages_means_every_byte() -> None:
    assert FlushPolicy(500, 0, 10_000).flush_now(7, 8, 0)
    assert not FlushPolicy(500, 0, 10_000).flush_now(8, 8, 99_999)


# --- the flusher ----------------------------------------------------------------------------------


class Rig:
    """A log, its flusher, a clock that a test moves, and syncs that it lets go."""

    def __init__(self, folder: Path, policy: FlushPolicy | None) -> None:
        self.log, _ = open_plain(folder)
        self.go = threading.Event()
        self.go.set()
        self.syncs = 0
        self.broken = False
        self.now_ms = 0
        self.durable: list[int] = []
        self.failures: list[StorageError] = []
        self._real, self.log.sync = self.log.sync, self._sync  # type: ignore[method-assign]
        self.flusher = Flusher(
            self.log,
            on_durable=self.durable.append,
            on_failure=self.failures.append,
            policy=policy,
            host=Host(mono_ms=lambda: self.now_ms),
        )

    def _sync(self) -> None:
        self.syncs += 1
        assert self.go.wait(20)
        if self.broken:
            raise StorageError("fdatasync failed")
        self._real()

    def put(self, bodies: int = 1) -> int:
        put(self.log, [b"x" * 500] * bodies)
        self.flusher.request()
        return self.log.end_pos

    def close(self) -> None:
        self.go.set()
        self.flusher.close()
        self.log.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, None)
    yield rig
    rig.close()


@pytest.fixture
async def lazy(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, FlushPolicy(1, 4, 10_000))
    yield rig
    rig.close()


async def turns() -> None:
    """Enough for timers of a millisecond to run, many times."""
    for _ in range(5):
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.002, done.set_result, None)
        await done


async def test_what_comes_during_a_sync_joins_the_next(rig: Rig) -> None:
    rig.go.clear()
    ends = [rig.put() for _ in range(4)]
    assert (rig.flusher.synced_pos, rig.durable) == (0, [])
    rig.go.set()
    await until(lambda: rig.flusher.synced_pos == ends[-1], what="all synced")
    assert rig.durable == [ends[0], ends[-1]]
    assert rig.syncs == 2


async def test_without_news_there_is_no_sync(rig: Rig) -> None:
    rig.flusher.request()
    rig.flusher.flush()
    end = rig.put()
    await until(lambda: rig.durable == [end], what="synced")
    rig.flusher.request()
    await turns()
    assert rig.syncs == 1


async def test_a_log_may_not_be_on_disk_at_first(tmp_path: Path) -> None:
    log: CommitLog
    log, _ = open_plain(tmp_path)
    put(log, [b"x"])
    durable: list[int] = []
    flusher = Flusher(log, on_durable=durable.append, on_failure=pytest.fail, synced_pos=0)
    flusher.request()
    await until(lambda: durable == [EMPTY_BYTES + 1], what="synced")
    flusher.close()
    log.close()


@pytest.mark.parametrize("policy", [None, FlushPolicy(1, 0, 0)])
async def test_a_failed_sync_proves_nothing(tmp_path: Path, policy: FlushPolicy | None) -> None:
    rig = Rig(tmp_path, policy)
    rig.broken = True
    rig.put()
    await until(lambda: rig.failures, what="the failure")
    assert str(rig.failures[0]) == "fdatasync failed"
    await turns()
    assert (rig.durable, rig.flusher.synced_pos, len(rig.failures)) == ([], 0, 1)
    rig.close()


async def test_closing_finishes_the_sync_under_way(rig: Rig) -> None:
    rig.go.clear()
    end = rig.put()
    rig.put()
    rig.go.set()
    rig.flusher.close()
    await until(lambda: rig.durable == [end], what="the sync under way")
    rig.flusher.request()
    rig.flusher.flush()
    await turns()
    assert rig.syncs == 1


async def test_few_dirty_pages_wait(lazy: Rig) -> None:
    lazy.put(2)
    await turns()
    assert lazy.syncs == 0
    end = lazy.put(20)
    await until(lambda: lazy.durable == [end], what="flushed for its pages")
    lazy.now_ms = 9_999
    end = lazy.put()
    await turns()
    assert lazy.syncs == 1
    lazy.now_ms = 10_000
    await until(lambda: lazy.durable[-1] == end, what="flushed for its age")
    assert lazy.syncs == 2


async def test_without_writes_the_timer_rests(lazy: Rig) -> None:
    end = lazy.put(20)
    await until(lambda: lazy.durable == [end], what="flushed")
    await until(lambda: lazy.flusher._timer is None, what="no timer")
    lazy.flusher.request()
    assert lazy.flusher._timer is None


async def test_what_comes_during_a_flush_waits_for_the_policy_again(lazy: Rig) -> None:
    lazy.go.clear()
    first = lazy.put(20)
    await until(lambda: lazy.syncs == 1, what="the flush")
    lazy.put(2)
    await turns()
    lazy.go.set()
    await until(lambda: lazy.durable == [first], what="flushed")
    await turns()
    assert lazy.syncs == 1
    lazy.flusher.flush()
    await until(lambda: lazy.durable[-1] == lazy.log.end_pos, what="flushed at once")


async def test_a_closed_flusher_has_no_timer(lazy: Rig) -> None:
    lazy.put(20)
    lazy.flusher.close()
    lazy.put(20)
    await turns()
    assert (lazy.syncs, lazy.flusher._timer) == (0, None)
