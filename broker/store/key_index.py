"""The key index: which records have a key, by hash.

Derived from the log: files that are broken are removed, and the records are put again. Source:
RocketMQ IndexService.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from ledgermq.dledger.disk import Disk, ensure_folder
from ledgermq.dledger.errors import DamagedError, DiskFullError
from ledgermq.remoting.errors import StorageError

from .index_builder import IndexBuilder
from .index_file import Header, IndexFile, Search, Shape
from .index_keys import key_hash
from .index_recovery import NAME_CHARS, Held, open_files, remove_from, settle
from .record_keys import HashedKey

log = logging.getLogger(__name__)

# Entries in memory, 20 bytes each, beyond which nothing should be put before a flush.
_MAX_WAITING = 1 << 16
_LINK_KEYS = 256
_MAX_NAME_MS = 253_402_214_400_000  # the end of year 9999
T = TypeVar("T")


class Found(NamedTuple):
    """What a query found.

    Attributes:
        offsets: physical offsets, newest first; another key may have the same hash.
        last_store_ms: store time of the newest record in the index, ms since 1970; 0: none.
        last_offset: its physical offset.
    """

    offsets: list[int]
    last_store_ms: int
    last_offset: int


class KeyIndex:
    """All files of an index, the newest of which grows.

    For one event loop; what waits for the disk runs in threads. `recover` comes first.

    Attributes:
        broken: a file that turned out to be damaged. `mend` is to be called.
        durable_ms: store time up to which everything is on disk, ms since 1970.
    """

    def __init__(
        self, folder: Path, disk: Disk, threads: Executor, *, slots: int, entries: int
    ) -> None:
        """An index in `folder`; each of its files has so many slots and entries."""
        self.broken: Path | None = None
        self.durable_ms = 0
        self._folder = folder
        self._disk = disk
        self._threads = threads
        self._shape = Shape(slots, entries)
        self._sealed: list[Held] = []
        self._builder: IndexBuilder | None = None
        # Highest physical offset put. What is not above it is in the index already.
        self._last_pos = -1
        self._last_name = ""
        # Keys that are in no chain yet.
        self._keys: list[HashedKey] = []
        # Held while files are written, removed, or changed for another.
        self._lock = asyncio.Lock()

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # It must not go on once the lock is free.
            await asyncio.wait([work])
            raise

    # --- the start ----------------------------------------------------------------------------

    async def recover(self, begin_pos: int, end_pos: int, *, trusted: bool) -> int:
        """Take over the files.

        Args:
            begin_pos: where the log begins, a physical offset.
            end_pos: where it ends. What the index holds of more is removed.
            trusted: nothing that was written is lost: a clean stop, or a process that was killed.
                False after the machine may have lost power.

        Returns:
            The physical offset from which on records are to be put again.
        """
        async with self._lock:
            self._sealed = await self._in_thread(
                lambda: open_files(self._folder, self._disk, self._shape, trusted=trusted)
            )
            position = await self._settle(begin_pos, end_pos)
            await self._make_durable()
        await self.remove_below(begin_pos)
        return position

    async def _make_durable(self) -> None:
        """Put on disk what was taken over; the checkpoint will say so."""
        held = self._sealed[-1:]
        if self._builder is not None:
            await self._in_thread(self._builder.file.sync)
            held.append(Held(self._builder.file, self._builder.header))
        self.durable_ms = held[-1].header.end_ms if held else 0

    async def mend(self, begin_pos: int, end_pos: int) -> int:
        """Remove the broken file and all after it; where to go on, see `recover`."""
        async with self._lock:
            held = [*self._sealed]
            if self._builder is not None:
                held.append(Held(self._builder.file, self._builder.header))
            paths = [each.file.path for each in held]
            at = paths.index(self.broken) if self.broken in paths else len(held)
            self._sealed = held[:at]
            self._drop_builder()
            await self._in_thread(remove_from, self._disk, paths[at:], "it is damaged")
            position = await self._settle(begin_pos, end_pos)
            self.broken = None
            return position

    async def clear(self, begin_pos: int) -> None:
        """Forget everything: the log begins anew at `begin_pos`."""
        async with self._lock:
            paths = [held.file.path for held in self._sealed]
            if self._builder is not None:
                paths.append(self._builder.file.path)
            self._sealed = []
            self._drop_builder()
            self._last_pos = begin_pos - 1
            self.broken = None
            await self._in_thread(remove_from, self._disk, paths, "the log begins anew")

    async def _settle(self, begin_pos: int, end_pos: int) -> int:
        """The newest of the files becomes the one that grows."""
        self._drop_builder()
        position = await self._in_thread(settle, self._disk, self._sealed, end_pos)
        self._last_name = self._sealed[-1].file.path.name if self._sealed else ""
        if position is not None:
            file, header = self._sealed.pop()
            builder = IndexBuilder(file, header)
            try:
                await self._in_thread(builder.load)
            except DamagedError as e:
                builder.close()
                await self._in_thread(remove_from, self._disk, [file.path], str(e))
                return await self._settle(begin_pos, end_pos)
            self._builder = builder
            self._last_pos = max(header.end_pos, begin_pos - 1)
        else:
            self._last_pos = begin_pos - 1
        self.durable_ms = self._sealed[-1].header.end_ms if self._sealed else 0
        return max(position or 0, begin_pos)

    def _drop_builder(self) -> None:
        self._keys.clear()
        if self._builder is not None:
            self._builder.close()
            self._builder = None

    # --- adding -------------------------------------------------------------------------------

    def put(self, keys: list[HashedKey], last_offset: int) -> None:
        """Add the keys of records; those that are there already are skipped.

        Records come in the order of the log. Memory only: while `is_full`, `flush` first.

        Args:
            keys: in the order of the log.
            last_offset: physical offset of the last of the records.
        """
        if keys and keys[0][1] <= self._last_pos:
            keys = [key for key in keys if key[1] > self._last_pos]
        self._last_pos = max(self._last_pos, last_offset)
        self._keys += keys
        if len(self._keys) >= _LINK_KEYS and not self._lock.locked():
            self._link()

    @property
    def is_full(self) -> bool:
        """Whether `flush` must come before the next `put`."""
        return self.waiting >= _MAX_WAITING or len(self._keys) >= 2 * _LINK_KEYS

    @property
    def waiting(self) -> int:
        """Entries in memory only."""
        return len(self._keys) + (self._builder.waiting if self._builder is not None else 0)

    @property
    def growing_since_ms(self) -> int | None:
        """Store time of the oldest record in the file that grows; None: no file grows."""
        if self._builder is not None and self._builder.header.begin_ms:
            return self._builder.header.begin_ms
        return self._keys[0][2] if self._keys else None

    def _link(self) -> None:
        """Chain what was put, as far as the file has room."""
        if self._builder is None or not self._keys:
            return
        keys = self._keys[: self._builder.room]
        self._builder.link(keys)
        del self._keys[: len(keys)]

    async def _link_all(self) -> None:
        """Chain all that was put, in new files where needed."""
        self._link()
        while self._keys:
            if self._builder is not None:
                await self._seal(self._builder)
            self._builder = await self._begin_file(self._keys[0][2])
            self._link()

    async def _seal(self, builder: IndexBuilder) -> None:
        """A file is full: put it on disk before there is another one."""
        await self._in_thread(builder.write)
        await self._in_thread(builder.file.sync)
        self._sealed.append(Held(builder.file, builder.header))
        self.durable_ms = builder.header.end_ms
        self._builder = None
        builder.close()

    async def _begin_file(self, store_ms: int) -> IndexBuilder:
        second, ms = divmod(min(max(store_ms, 0), _MAX_NAME_MS), 1000)
        name = time.strftime("%Y%m%d%H%M%S", time.localtime(second)) + f"{ms:03d}"
        if name <= self._last_name:
            # The order of the names is what counts.
            name = f"{int(self._last_name) + 1:0{NAME_CHARS}d}"
        file = IndexFile(self._folder / name, self._disk, self._shape)
        await self._in_thread(ensure_folder, self._disk, self._folder)
        await self._in_thread(file.make)
        self._last_name = name
        return IndexBuilder(file, Header(0, 0, 0, 0, 0, 1))

    async def flush(self) -> None:
        """Write what was put.

        Raises:
            DiskFullError: no room; it waits on.
            StorageError: the disk failed; the file is `broken`.
        """
        async with self._lock:
            await self._write(and_sync=False)

    async def _write(self, *, and_sync: bool) -> None:
        try:
            await self._link_all()
            if self._builder is not None:
                await self._in_thread(self._builder.write)
                if and_sync:
                    await self._in_thread(self._builder.file.sync)
                    self.durable_ms = self._builder.header.end_ms
        except StorageError as e:
            if self._builder is not None:
                self._blame(self._builder.file, e)
            raise

    async def sync(self) -> None:
        """Put on disk what was put so far; errors as of `flush`."""
        async with self._lock:
            await self._write(and_sync=True)

    async def close(self) -> None:
        """Put everything on disk; errors as of `flush`."""
        try:
            await self.sync()
        finally:
            self._drop_builder()

    # --- removing -----------------------------------------------------------------------------

    async def remove_below(self, pos: int) -> None:
        """Remove the files all of whose records lie below this physical offset."""
        gone = [held for held in self._sealed if held.header.end_pos < pos]
        self._sealed = [held for held in self._sealed if held.header.end_pos >= pos]
        for held in gone:
            await self._in_thread(self._disk.remove, held.file.path)

    # --- queries ------------------------------------------------------------------------------

    async def query(
        self, topic: str, key: str, max_count: int, begin_ms: int, end_ms: int
    ) -> Found:
        """Records of a topic that may have a key, stored between two times (ms, both inclusive).

        Args:
            topic: of the records.
            key: a unique key, or one of the KEYS.
            max_count: most offsets.
            begin_ms: a record may be up to a second older.
            end_ms: latest store time.
        """
        search = Search(key_hash(topic, key), max_count, begin_ms, end_ms)
        async with self._lock:
            # On a full or broken disk the newest few keys are not found.
            with suppress(DiskFullError, StorageError):
                await self._link_all()
            files: list[tuple[Held, int | None]] = [(held, None) for held in self._sealed]
            last = self._sealed[-1].header if self._sealed else None
            if self._builder is not None:
                last = self._builder.header
                try:
                    files.append((Held(self._builder.file, last), self._builder.search(search)))
                except DamagedError as e:
                    self._blame(self._builder.file, e)
        await self._in_thread(self._search_files, search, files)
        return Found(search.offsets, last.end_ms if last else 0, last.end_pos if last else 0)

    def _search_files(self, search: Search, files: list[tuple[Held, int | None]]) -> None:
        for (file, header), head in reversed(files):
            if head == 0 or not search.may_be_in(header.begin_ms, header.end_ms):
                continue
            try:
                file.search(search, header, head)
            except StorageError as e:
                if self._disk.exists(file.path):  # else it was removed meanwhile
                    self._blame(file, e)

    def gaps(self, begin_pos: int) -> list[tuple[Path, int, int]]:
        """(file, from, to) where no record between the physical offsets may have keys.

        That is before each file and after the one before it, or the log's begin.
        """
        held = [*self._sealed]
        if self._builder is not None:
            held.append(Held(self._builder.file, self._builder.header))
        found: list[tuple[Path, int, int]] = []
        for file, header in held:
            if begin_pos < header.begin_pos:
                found.append((file.path, begin_pos, header.begin_pos))
            begin_pos = max(begin_pos, header.end_pos + 1)
        return found

    def _blame(self, file: IndexFile, error: StorageError) -> None:
        if self.broken is None or file.path < self.broken:
            log.warning("the key index is incomplete until it is made again: %s", error)
            self.broken = file.path
