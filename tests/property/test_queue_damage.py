"""Any harm to what is derived from the log: the node comes back right, or stops and says so.

Never does a consumer get another message than the one that was stored at its offset.
"""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ledgermq.broker.metadata import OffsetsPut
from ledgermq.remoting.errors import PeerError
from tests.support import until
from tests.unit.broker.store.replicas import FakeLog, Replica, fill, move_begin, put_topic

from .test_queue_history import folder

Messages = dict[tuple[str, int], list[tuple[int, bytes]]]
KEYS = [("T", 0), ("T", 1), ("U", 0), ("U", 1)]

harms = st.tuples(
    st.sampled_from(["cut", "zero", "flip", "remove"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
)


async def build(where: Path, *, trimmed: bool) -> tuple[FakeLog, Messages]:
    """A store with two snapshots and a tail behind them, left as a kill leaves it."""
    log = FakeLog(where / "dledger")
    replica = Replica(where, log)
    await replica.start()
    for topic in ("T", "U"):
        put_topic(log, topic)
        fill(log, 40, topic, size=5)
    log.apply(OffsetsPut({"g": {"T": {0: 7}}}))
    await replica.follow()
    if trimmed:
        move_begin(log, 2)
        await replica.follow()
    await replica.snapshot()
    for topic in ("T", "U"):
        fill(log, 20, topic, size=5)
    await replica.follow()
    await replica.snapshot()
    fill(log, 9, "T")
    await replica.follow()
    await replica.dispatcher.queues.flush_all()
    right = {key: [(m.queue_offset, m.body) for m in await replica.messages(*key)] for key in KEYS}
    assert all(len(m) > 10 for m in right.values())
    await replica.crash()
    return log, right


def damage(path: Path, kind: str, where: float, bit: int) -> None:
    data = bytearray(path.read_bytes())
    at = int(where * len(data))
    if kind == "cut":
        del data[at:]
    elif kind == "zero":
        data[at:] = bytes(len(data) - at)
    elif kind == "flip":
        data[at] ^= bit
    else:
        path.unlink()
        return
    path.write_bytes(data)


async def look(replica: Replica, right: Messages) -> bool:
    """Read all that a consumer could; True when all of it is right, False when the node stopped."""
    for key in KEYS:
        try:
            found = [(m.queue_offset, m.body) for m in await replica.messages(*key)]
        except PeerError:
            assert replica.failures
            return False
        if replica.failures or not replica.dispatcher.serving:
            assert not found
            return False
        assert found == right[key]
        for offset, body in right[key][:: max(len(right[key]) // 3, 1)]:
            assert await replica.reader.store_time_at(*key, offset) is not None, body
    return not replica.failures


async def restarted(where: Path, log: FakeLog) -> Replica:
    """A node on this store."""
    replica = Replica(where, log)
    await replica.start(follow=False)
    replica.dispatcher.committed(log.end_index)
    d = replica.dispatcher
    await until(
        lambda: (
            replica.failures
            or (d._rebuild is None and not d.serving)  # waits for a leader
            or (d.serving and d.applied == log.end_index)
        )
    )
    return replica


def on_copy(tmp: Path, made: tuple[Path, FakeLog], then: Any) -> None:
    """Run `then(store, log)` on a copy of a store."""
    where, log = made
    store = tmp / "store"
    shutil.copytree(where, store)
    log.config.folder = store / "dledger"
    asyncio.run(then(store))


def files_of(store: Path, what: str) -> list[Path]:
    found = sorted(p for p in (store / what).rglob("*") if p.is_file())
    return found or [store / what]


@pytest.fixture(scope="module", params=[False, True], ids=["whole log", "begin moved"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    where = tmp_path_factory.mktemp("made")
    log, right = asyncio.run(build(where, trimmed=request.param))
    assert (log.begin.index > 0) == request.param
    return where, log, right


@given(harm=harms)
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("what", ["consumequeue", "dledger/snapshot", "dledger/queues"])
def test_harm_while_the_node_is_down(made: Any, what: str, harm: Any) -> None:
    where, log, right = made
    kind, which, at, bit = harm
    begin = log.begin

    async def run(store: Path) -> None:
        files = files_of(store, what)
        damage(files[int(which * len(files))], kind, at, bit)
        replica = await restarted(store, log)
        is_right = await look(replica, right)
        await replica.crash()
        event(f"right at once: {is_right}")
        if is_right or not replica.failures:
            # Without a snapshot that reaches the begin it can only wait for a leader.
            assert is_right or begin.index > 0
            return
        again = await restarted(store, log)
        assert await look(again, right), again.failures
        await again.crash()

    with folder() as tmp:
        on_copy(tmp, (where, log), run)


@given(harm=harms)
@settings(deadline=None, max_examples=60)
def test_harm_while_the_node_runs(made: Any, harm: Any) -> None:
    where, log, right = made
    kind, which, at, bit = harm

    async def run(store: Path) -> None:
        replica = await restarted(store, log)
        files = files_of(store, "consumequeue")
        damage(files[int(which * len(files))], kind, at, bit)
        is_right = await look(replica, right)
        event(f"right at once: {is_right}")
        await replica.crash()
        if is_right:
            return
        assert "made anew" in str(replica.failures[0])
        again = await restarted(store, log)
        assert await look(again, right), again.failures
        await again.crash()

    with folder() as tmp:
        on_copy(tmp, (where, log), run)


@given(where_=st.floats(0, 1, exclude_max=True), bit=st.integers(1, 255))
@settings(deadline=None, max_examples=60)
def test_a_byte_of_the_log_that_changed_never_reaches_a_consumer(
    made: Any, where_: float, bit: int
) -> None:
    where, log, right = made

    async def run(store: Path) -> None:
        replica = await restarted(store, log)
        at = log.begin.pos + int(where_ * (len(log.data) - log.begin.pos))
        log.data[at] ^= bit
        try:
            if not await look(replica, right):
                assert "damaged" in str(replica.failures[0])
                event("noticed")
        finally:
            log.data[at] ^= bit
            await replica.crash()

    with folder() as tmp:
        on_copy(tmp, (where, log), run)
