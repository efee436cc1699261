"""The consume queues of all topics below one folder."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from ledgermq.dledger.disk import Disk
from ledgermq.dledger.errors import DiskFullError
from ledgermq.remoting.errors import StorageError

from .consume_queue import UNIT_BYTES, ConsumeQueue, Unit, pack_unit
from .queue_files import QueueFiles, sync

# Queues looked at before others have their turn.
_SLICE = 50
_FLUSH_SLICE = 20

# (topic, queue id, queue offset, its unit) -> whether the unit leads to that message.
T = TypeVar("T")
IsRight = Callable[[str, int, int, Unit], Awaitable[bool]]


class QueueRow(NamedTuple):
    """The bounds of one queue, as a snapshot keeps them."""

    topic: str
    queue_id: int
    min_offset: int
    max_offset: int


class ConsumeQueues:
    """All queues below one folder.

    Attributes:
        dirty: queues with units that are in memory only.
        nothing: what readers get for a queue that does not exist.
    """

    def __init__(self, folder: Path, segment_bytes: int, disk: Disk, threads: Executor) -> None:
        """No queue is known yet; `restore` tells those that there are."""
        self.folder = folder
        self.segment_bytes = segment_bytes
        self._disk = disk
        self._files = QueueFiles(segment_bytes, disk, threads)
        self._queues: dict[tuple[str, int], ConsumeQueue] = {}
        # Used as sets that keep their order: what is written first must not be chance.
        self.dirty: dict[ConsumeQueue, None] = {}
        self._unsynced: tuple[dict[Path, None], dict[Path, None]] = {}, {}
        self.nothing = ConsumeQueue(folder / "nothing" / "here", self._files)

    def get(self, topic: str, queue_id: int) -> ConsumeQueue:
        """The queue; an empty one when it is new."""
        key = (topic, queue_id)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = ConsumeQueue(self._folder_of(*key), self._files)
        return queue

    def find(self, topic: str, queue_id: int) -> ConsumeQueue | None:
        """The queue, if there is one."""
        return self._queues.get((topic, queue_id))

    def _folder_of(self, topic: str, queue_id: int) -> Path:
        return self.folder / topic / str(queue_id)

    def rows(self) -> list[QueueRow]:
        """The bounds of every queue that had a message."""
        return [
            QueueRow(topic, queue_id, q.min_offset, q.max_offset)
            for (topic, queue_id), q in self._queues.items()
            if q.max_offset
        ]

    def restore(self, rows: Iterable[QueueRow]) -> None:
        """Take queues over as a snapshot knows them."""
        for row in rows:
            folder = self._folder_of(row.topic, row.queue_id)
            queue = ConsumeQueue(folder, self._files, row.min_offset, row.max_offset)
            self._queues[row.topic, row.queue_id] = queue

    async def in_thread(self, function: Callable[..., T], *args: object) -> T:
        """Call what may wait for the disk."""
        return await self._files.in_thread(function, *args)

    async def any_files(self) -> bool:
        """Whether there is anything in the folder."""
        return bool(await self._files.in_thread(self._disk.names, self.folder))

    async def find_problem(self, begin_pos: int, end_pos: int) -> str | None:
        """Why the files do not hold the queues of a log of these bounds; None: they seem to."""
        try:
            queues = list(self._queues.values())
            for at in range(0, len(queues), _SLICE):
                some = queues[at : at + _SLICE]
                problem = await self._files.in_thread(_first_problem, some, begin_pos, end_pos)
                if problem is not None:
                    return problem
        except (StorageError, OSError) as e:
            return str(e)
        return None

    # --- writing ------------------------------------------------------------------------------

    def append(self, queue: ConsumeQueue, physical_offset: int, size: int, tags_code: int) -> None:
        """Add a unit; it is on file after the next `flush`."""
        self.append_packed(queue, pack_unit(physical_offset, size, tags_code), 1)

    def append_packed(self, queue: ConsumeQueue, units: bytes, count: int) -> None:
        """Add `count` units that are packed already; see `append`."""
        is_much = queue.append_packed(units, count)
        self.dirty[queue] = None
        if is_much:
            with suppress(DiskFullError):  # it stays among those that wait
                self._write(queue)

    def flush(self, limit: int) -> None:
        """Write the waiting units of up to `limit` queues.

        Raises:
            DiskFullError: no room; what is not written waits on and can be read.
        """
        for queue in list(islice(self.dirty, limit)):
            self._write(queue)

    async def flush_all(self) -> None:
        """`flush` all queues, in slices, so that others have their turn.

        Raises:
            DiskFullError: no room; what is not written waits on and can be read.
        """
        for _ in range(len(self.dirty) // _FLUSH_SLICE):
            self.flush(_FLUSH_SLICE)
            await asyncio.sleep(0)
        self.flush(len(self.dirty))

    def _write(self, queue: ConsumeQueue) -> None:
        files, folders = self._unsynced
        for path in queue.flush():
            files[path] = None
            # Up to the name of the folder of all: after `remove_all` the old one could come back.
            folders.update(dict.fromkeys(path.parents[:4]))
        self.dirty.pop(queue, None)

    async def sync(self) -> None:
        """Put on disk, in a thread, what was written before this call."""
        unsynced, self._unsynced = self._unsynced, ({}, {})
        try:
            await self._files.in_thread(sync, self._disk, *unsynced)
        except BaseException:
            # Cancelled, perhaps: they are not known to be on disk.
            self._unsynced[0].update(unsynced[0])
            self._unsynced[1].update(unsynced[1])
            raise

    # --- removing -----------------------------------------------------------------------------

    async def trim(self, begin_pos: int, is_right: IsRight) -> None:
        """Let every queue begin where the log will; the files stay.

        The log still holds what is before: so the two units at the new begin are known to be
        right, and since a queue is dense, so is the begin.

        Raises:
            StorageError: one of them is wrong, or missing.
        """
        for count, ((topic, queue_id), queue) in enumerate(list(self._queues.items())):
            low = await queue.first_at(begin_pos)
            for offset in (low - 1, low):
                for unit in await queue.read_later(offset, 1):
                    if not await is_right(topic, queue_id, offset, unit) and not queue.dropped:
                        raise StorageError(f"{queue.folder}: unit {offset} is wrong")
            if not queue.dropped:
                queue.min_offset = low
            if count % _SLICE == 0:
                await asyncio.sleep(0)

    async def remove_below(self) -> None:
        """Remove the files that no queue needs any more."""
        for queue, path in await self.files_below():
            await self.remove_file(queue, path)

    async def files_below(self) -> list[tuple[ConsumeQueue, Path]]:
        """The files that no queue needs any more, each with its queue."""
        found: list[tuple[ConsumeQueue, Path]] = []
        for queue in list(self._queues.values()):
            if queue.min_offset * UNIT_BYTES >= self.segment_bytes and not queue.dropped:
                paths = await self._files.in_thread(queue.files_below)
                found += [(queue, path) for path in paths]
        return found

    async def remove_file(self, queue: ConsumeQueue, path: Path) -> None:
        """Remove one of `files_below`, unless its topic was deleted: it may be another's now."""
        if not queue.dropped:
            self._files.forget(path)
            await self._files.in_thread(self._disk.remove, path)

    def detach(self, topic: str) -> None:
        """Forget the queues of a topic; their files stay until `remove_topic`."""
        for key in [k for k in self._queues if k[0] == topic]:
            queue = self._queues.pop(key)
            queue.dropped = True
            self.dirty.pop(queue, None)

    async def remove_topic(self, topic: str) -> None:
        """Remove the files of a topic that was detached."""
        folder = self.folder / topic
        self._files.forget(folder)
        await self._files.in_thread(self._disk.remove_folder, folder)

    async def remove_unknown(self, topics: set[str]) -> None:
        """Remove what a crash left of topics that were deleted."""
        for name in await self._files.in_thread(self._disk.names, self.folder):
            if name not in topics:
                await self.remove_topic(name)

    def detach_all(self) -> None:
        """Forget every queue; the files stay until `remove_all`."""
        for topic in dict.fromkeys(topic for topic, _ in self._queues):
            self.detach(topic)
        self._unsynced = {}, {}
        self._files.close()

    async def remove_all(self) -> None:
        """Remove the files of all queues."""
        await self._files.in_thread(self._disk.remove_folder, self.folder)

    def close(self) -> None:
        """Close the files."""
        self._files.close()


def _first_problem(queues: list[ConsumeQueue], begin_pos: int, end_pos: int) -> str | None:
    return next((p for q in queues if (p := q.problem(begin_pos, end_pos)) is not None), None)
