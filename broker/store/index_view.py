"""Brings dispatched records to the key index, with progress of its own and at low priority.

A query first waits, within reason, until everything is indexed that was visible when it came.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from ledgermq.remoting.errors import LedgerMQError

from .key_index import Found, KeyIndex
from .record_keys import Place, keys_in

log = logging.getLogger(__name__)

# New records are left to gather for so long.
_GATHER_S = 0.2
_FLUSH_S = 2.0
_QUERY_WAIT_S = 2.0
_FINISH_S = 10.0
_RETRY_S = 5.0
# Between two slices the loop does its other work; then the view rests so many times their length.
_SLICE_RECORDS = 128
_REST = 8.0
# So far behind, it takes more of the time: the load lasts.
_LATE_BYTES = 256 << 20
_REST_LATE = 2.0


class Records(NamedTuple):
    """Some records of a log.

    Attributes:
        data: in which they lie.
        places: of each.
    """

    data: bytes = b""
    places: Sequence[Place] = ()


class Feed(Protocol):
    """The visible records of a log, in its order."""

    @property
    def begin_pos(self) -> int:
        """Physical offset of the oldest record, or below."""
        ...

    async def records(self, pos: int, end: int) -> tuple[Records, int]:
        """A chunk of those from `pos` on and below `end`.

        Positions from which records are gone begin at the oldest one.

        Returns:
            And the position to go on at; `pos` itself when there is nothing.
        """
        ...


class IndexView:
    """Follows one log. `start` comes first.

    Attributes:
        index: what is written.
        position: all records below this physical offset are indexed.
    """

    def __init__(self, index: KeyIndex, feed: Feed) -> None:
        """Index what `feed` brings."""
        self.index = index
        self.position = 0
        self._feed = feed
        self._target = 0
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._flushed_s = 0.0
        self._problem = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self, end_pos: int, *, trusted: bool) -> None:
        """Take over the files and follow on.

        Args:
            end_pos: end of the log; records from there on are not the ones that were indexed.
            trusted: see `KeyIndex.recover`.
        """
        self.position = await self.index.recover(self._feed.begin_pos, end_pos, trusted=trusted)
        self._begin()

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._flushed_s = loop.time()
        self._task = loop.create_task(self._run())

    def applied_to(self, end_pos: int) -> None:
        """Records below this physical offset are visible. Cheap: for the hot path."""
        if end_pos > self._target:
            self._target = end_pos
            self._work.set()

    def complete_ms(self, pos: int, store_ms: int) -> int:
        """Store time up to which upstream finds all keys in the files that it keeps after a kill.

        It removes the file that grows. Source: RocketMQ IndexService.load.

        Args:
            pos: a physical offset.
            store_ms: no record below it is younger.
        """
        since_ms = self.index.growing_since_ms
        if since_ms is None:
            since_ms = store_ms if self.position >= pos else self.index.durable_ms
        return min(since_ms, store_ms)

    async def query(
        self, topic: str, key: str, max_count: int, begin_ms: int, end_ms: int
    ) -> Found:
        """See `KeyIndex.query`; what became visible before is in it, within reason."""
        if not await self._reach(self._target, _QUERY_WAIT_S):
            log.info("a query by key is answered %d bytes behind", self._target - self.position)
        found = await self.index.query(topic, key, max_count, begin_ms, end_ms)
        if self.index.broken is not None:
            self._work.set()
        return found

    async def _reach(self, pos: int, timeout_s: float) -> bool:
        """Whether everything below `pos` is indexed in time."""
        if self._task is None or self.position >= pos:
            return self.position >= pos
        reached = asyncio.get_running_loop().create_future()
        waiter = (pos, reached)
        self._waiters.append(waiter)
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                await reached
        except TimeoutError:
            return False
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if not self._waiters:
                self._hurry.clear()
        return True

    async def remove_below(self, pos: int) -> None:
        """The log begins at `pos` now."""
        await self.index.remove_below(pos)

    async def reseed(self, begin_pos: int) -> None:
        """The log was emptied and begins at `begin_pos`: so does the index."""
        await self._end()
        await self.index.clear(begin_pos)
        self.position = self._target = begin_pos
        self._begin()

    async def close(self) -> None:
        """Stop; what is indexed is on disk afterwards, or is indexed again by the next start."""
        await self._end()
        try:
            await self.index.close()
        except (LedgerMQError, OSError) as e:
            log.warning("the next start goes on with an older end of the key index: %s", e)

    async def finish(self) -> bool:
        """Index all that is visible, within reason, and close; whether everything is on disk."""
        reached = await self._reach(self._target, _FINISH_S)
        await self._end()
        try:
            await self.index.close()
        except (LedgerMQError, OSError) as e:
            log.warning("the key index is behind: %s", e)
            return False
        return reached

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # --- the work -----------------------------------------------------------------------------

    async def _run(self) -> None:
        is_checked = False
        while True:
            try:
                if not is_checked:
                    await self._find_missing()
                    is_checked = True
                await self._step()
                self._problem = ""
            except (LedgerMQError, OSError) as e:
                if str(e) != self._problem:
                    self._problem = str(e)
                    log.warning("no key is indexed at present, another try follows: %s", e)
                await asyncio.sleep(_RETRY_S)

    async def _find_missing(self) -> None:
        """A file that somebody removed leaves records with keys between two others.

        The first chunk of each gap tells: most records have keys.
        """
        for path, begin, end in self.index.gaps(self._feed.begin_pos):
            records, _ = await self._feed.records(begin, end)
            data, places = records
            starts = range(0, len(places), _SLICE_RECORDS)
            if any(keys_in(data, places[at : at + _SLICE_RECORDS]).keys for at in starts):
                log.warning("before %s a file of the key index is missing", path)
                self.index.broken = path
                return

    async def _step(self) -> None:
        """Index a chunk, or wait for one."""
        if self.index.broken is not None:
            self.position = -1  # queries wait
            self.position = await self.index.mend(self._feed.begin_pos, self._target)
        await self._flush_in_time()
        if self.position < self._target:
            records, position = await self._feed.records(self.position, self._target)
            if position > self.position:
                await self._put(records)
                self._advance(position)
            else:
                await asyncio.sleep(_GATHER_S)  # visible, but not to be read yet
        else:
            await self._rest()

    async def _flush_in_time(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self.index.is_full or now_s - self._flushed_s >= _FLUSH_S:
            self._flushed_s = now_s
            if self.index.waiting:
                await self.index.flush()

    def _advance(self, position: int) -> None:
        self.position = position
        for waiter in [w for w in self._waiters if w[0] <= position]:
            self._waiters.remove(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)

    async def _rest(self) -> None:
        """Until there is work; then a little longer, that more of it comes together."""
        self._work.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S if self.index.waiting else None):
                await self._work.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_S):
                await self._hurry.wait()

    async def _put(self, records: Records) -> None:
        loop, data, places = asyncio.get_running_loop(), records.data, records.places
        for first in range(0, len(places), _SLICE_RECORDS):
            begun_s = loop.time()
            self._put_slice(data, places[first : first + _SLICE_RECORDS])
            if self.index.is_full:
                await self.index.flush()
            spent_s = loop.time() - begun_s
            is_late = self._target - self.position > _LATE_BYTES
            rest_s = spent_s * (_REST_LATE if is_late else _REST)
            await asyncio.sleep(0 if self._hurry.is_set() else rest_s)

    def _put_slice(self, data: bytes, places: Sequence[Place]) -> None:
        found = keys_in(data, places)
        for offset, problem in found.unreadable:
            log.warning("the record at %d is not indexed: %s", offset, problem)
        self.index.put(found.keys, places[-1][0])
