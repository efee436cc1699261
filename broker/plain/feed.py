"""The records of a plain commitlog, for the key index."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from ledgermq.broker.store.index_view import Records

from . import scan
from .commit_log import CommitLog


class PlainFeed:
    """Implements `Feed`: what is dispatched here."""

    def __init__(
        self, commit_log: CommitLog, threads: Executor, *, applied: Callable[[], int]
    ) -> None:
        """Read the log up to the byte that `applied` tells."""
        self._log = commit_log
        self._threads = threads
        self._applied = applied

    @property
    def begin_pos(self) -> int:
        """See `Feed.begin_pos`."""
        return self._log.begin_pos

    async def records(self, pos: int, end: int) -> tuple[Records, int]:
        """See `Feed.records`."""
        pos, end = max(pos, self._log.begin_pos), min(end, self._applied())
        if pos >= end:
            return Records(), pos
        data = self._log.cached(pos, scan.CHUNK_BYTES)
        if data is None:
            loop = asyncio.get_running_loop()
            data = await loop.run_in_executor(self._threads, self._log.read_records, pos)
        if scan.is_blank(data):
            return Records(), scan.next_file(pos, self._log.segment_bytes)
        places = [(pos + at, at, at + size) for at, size in scan.walk(data, pos)]
        places = [place for place in places if place[0] < end]
        return Records(data, places), pos + places[-1][2] if places else pos
