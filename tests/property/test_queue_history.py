"""Whatever happened to topics and log, and wherever it stopped: the same queues and metadata."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from ledgermq.broker.metadata import OffsetsPut, TopicDelete
from ledgermq.broker.topics import INTERNAL_TOPIC
from tests.unit.broker.store.replicas import FakeLog, Replica, move_begin, put_topic

NAMES = ("A", "B")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(NAMES), st.integers(1, 25)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES), st.just(0)),
        st.tuples(st.just("offsets"), st.sampled_from(NAMES), st.integers(0, 99)),
        st.tuples(st.just("begin"), st.just(""), st.integers(1, 3)),
        st.tuples(st.just("snapshot"), st.just(""), st.just(0)),
        st.tuples(st.just("stop"), st.just(""), st.just(0)),
        st.tuples(st.just("crash"), st.just(""), st.integers(0, 40)),
        st.tuples(st.just("lose"), st.sampled_from(NAMES), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.just(0)),
    ),
    min_size=3,
    max_size=14,
)


@contextmanager
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


class History:
    """Carries steps out, and knows what each queue must hold."""

    def __init__(self, where: Path) -> None:
        self.log = FakeLog(where / "dledger")
        self.replica = Replica(where, self.log)
        self.sent: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        self.topics: set[str] = set()

    async def run(self, history: list[tuple[str, str, int]]) -> None:
        await self.replica.start()
        for what, name, number in history:
            await getattr(self, what)(name, number)
        await self.wait("", 0)

    async def send(self, topic: str, count: int) -> None:
        if topic not in self.topics:
            put_topic(self.log, topic)
            self.topics.add(topic)
        for _ in range(count):
            index = self.log.end_index + 1
            queue_id, body = index % 2, b"%d-%d" % (index, count) * (1 + index % 9)
            self.log.append(topic, queue_id, body, properties=f"TAGS\x01t{index % 3}\x02")
            self.sent.setdefault((topic, queue_id), []).append((index, body))

    async def delete(self, topic: str, _: int) -> None:
        if topic in self.topics:
            self.log.apply(TopicDelete(topic))
            self.topics.remove(topic)
            for key in [k for k in self.sent if k[0] == topic]:
                del self.sent[key]

    async def offsets(self, topic: str, offset: int) -> None:
        self.log.apply(OffsetsPut({"g": {topic: {0: offset}}}))

    async def begin(self, _: str, segment: int) -> None:
        if len(self.log.segment_begins()) > segment:
            move_begin(self.log, segment)
            event("a begin that moves")

    async def wait(self, _: str, __: int) -> None:
        await self.replica.follow()
        assert not self.replica.failures

    async def snapshot(self, _: str, __: int) -> None:
        await self.wait("", 0)
        if self.log.end_index < 0:
            return
        async with self.replica.dispatcher._keeper._busy:
            await self.replica.snapshot()

    async def stop(self, _: str, __: int) -> None:
        await self.wait("", 0)
        await self.replica.stop()
        await self.replica.start()
        assert not self.replica.failures

    async def crash(self, _: str, behind: int) -> None:
        """At some point on the way to the end."""
        d = self.replica.dispatcher
        d.committed(max(self.log.end_index - behind, d.applied))
        for _turn in range(behind):
            await asyncio.sleep(0)
        await self.replica.crash()
        await self.replica.start()
        assert not self.replica.failures

    async def lose(self, topic: str, _: int) -> None:
        """A topic's queues are lost while the node is down."""
        await self.replica.crash()
        shutil.rmtree(self.replica.folder / "consumequeue" / topic, ignore_errors=True)
        await self.replica.start()
        assert not self.replica.failures

    async def check(self) -> None:
        """Each queue holds exactly its messages that the log holds."""
        first = self.log.begin.index
        for key, sent in self.sent.items():
            kept = [(n, m) for n, m in enumerate(sent) if m[0] >= first]
            found = await self.replica.messages(*key)
            assert [(m.queue_offset, m.body) for m in found] == [(n, m[1]) for n, m in kept]
            assert self.replica.reader.max_offset(*key) == len(sent)
        known = {(r.topic, r.queue_id) for r in self.replica.rows() if r.topic != INTERNAL_TOPIC}
        assert known == self.sent.keys()


def run(where: Path, history: list[tuple[str, str, int]], then: Any) -> None:
    async def whole() -> None:
        h = History(where)
        await h.run(history)
        await h.check()
        await then(h)
        await h.replica.crash()

    asyncio.run(whole())


@given(steps)
@settings(deadline=None, max_examples=60)
def test_restarts_leave_what_one_long_run_gives(history: list[tuple[str, str, int]]) -> None:
    async def compare(h: History) -> None:
        """The snapshots and the tails, against a replica that reads the log from its start."""
        if h.log.begin.index:
            return
        fingerprint, units = h.replica.metadata.fingerprint(), h.replica.units()
        event("begins at 0")
        with folder() as other:
            twin = Replica(other, h.log)
            folder_before, h.log.config.folder = h.log.config.folder, other / "dledger"
            await twin.start()
            if not h.replica.metadata.log_begin:
                assert twin.metadata.fingerprint() == fingerprint
                assert twin.units() == units
            await twin.crash()
            h.log.config.folder = folder_before

    with folder() as where:
        run(where, history, compare)


@given(steps)
@settings(deadline=None, max_examples=60)
def test_queues_made_anew_are_the_trimmed_ones(history: list[tuple[str, str, int]]) -> None:
    async def rebuild(h: History) -> None:
        await h.snapshot("", 0)
        rows, units = h.replica.rows(), h.replica.units()
        event(f"begin moved: {h.log.begin.index > 0}")
        await h.replica.crash()
        shutil.rmtree(h.replica.folder / "consumequeue", ignore_errors=True)
        await h.replica.start()
        assert not h.replica.failures
        assert h.replica.rows() == rows
        assert h.replica.units() == units
        await h.check()

    with folder() as where:
        run(where, history, rebuild)
