"""Files of config/: written whole when their table has changed, the version before as `.bak`."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ledgermq.dledger.disk import Disk, ensure_folder, replace_file
from ledgermq.dledger.store.segments import translated

from . import config_json
from .metadata import Metadata


class TableFile:
    """Saves a table in a thread; one save at a time.

    After a crash at any moment the newest version that was saved is there, under the file's name
    or, between two renames, as `.bak`.
    """

    def __init__(
        self,
        path: Path,
        disk: Disk,
        threads: Executor | None,
        *,
        version: Callable[[], object],
        table: Callable[[], object],
    ) -> None:
        """Nothing is written yet.

        Args:
            path: of the file; its folder is made when missing.
            disk: where it lies.
            threads: does the writing; None: the event loop's own threads.
            version: of the table: another value whenever it has changed.
            table: the table of this moment, as `config_json.pretty` takes it; what it holds does
                not change later.
        """
        self.path = path
        self._disk = disk
        self._threads = threads
        self._version = version
        self._table = table
        # Version in the file, none before anything is known about it.
        self._saved: object = None
        # The file is not to become the backup.
        self._is_broken = False
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    @property
    def backup(self) -> Path:
        """The version before."""
        return self.path.with_name(self.path.name + ".bak")

    def use_backup(self) -> None:
        """The file cannot be read: no save may put it in the place of the backup."""
        self._is_broken = True

    def loaded(self) -> None:
        """The table of this moment is what the file holds; or the backup, and is to be saved."""
        if not self._is_broken:
            self._saved = self._version()

    async def save(self) -> None:
        """Have the table of this moment, or a later one, on disk; nothing to do if it is there.

        Raises:
            DiskFullError: no room; the file is what it was.
            StorageError: the disk failed; the file or the backup is what the file was.
        """
        if self._next is None:
            if self._running is None and self._saved == self._version():
                return
            # Whoever calls before this one begins gets its result.
            self._next = asyncio.create_task(self._save_after(self._running))
        # A caller that gives up must not end a write: there may be others, and never two writes.
        await asyncio.shield(self._next)

    async def _save_after(self, running: asyncio.Task[None] | None) -> None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        try:
            version = self._version()
            if version == self._saved:
                return
            table, loop = self._table(), asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self._write, table)
            self._saved = version
        finally:
            self._running = None

    def _write(self, table: object) -> None:
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            if not self._disk.exists(self.path.parent):
                ensure_folder(self._disk, self.path.parent)
            replace_file(self._disk, fresh, config_json.pretty(table))
            if self._disk.exists(self.path) and not self._is_broken:
                self._disk.rename(self.path, self.backup)
            self._disk.rename(fresh, self.path)
            self._is_broken = False
            self._disk.sync_folder(self.path.parent)
        except OSError as e:
            # Half a file takes room that others need.
            with suppress(OSError):
                self._disk.remove(fresh.with_name(fresh.name + ".tmp"))
            raise translated(e, self.path) from e


class MetadataFiles(NamedTuple):
    """The three files of the metadata."""

    topics: TableFile
    groups: TableFile
    offsets: TableFile


def metadata_files(
    folder: Path, metadata: Metadata, disk: Disk, threads: Executor | None
) -> MetadataFiles:
    """Topics, groups and offsets of a broker, as upstream names them; see `TableFile`."""
    m = metadata

    def file(name: str, version: Callable[[], object], table: Callable[[], object]) -> TableFile:
        return TableFile(folder / name, disk, threads, version=version, table=table)

    return MetadataFiles(
        file("topics.json", lambda: m.topic_version, m.topic_table),
        file("subscriptionGroup.json", lambda: m.group_version, m.group_table),
        file(
            "consumerOffset.json",
            # Offsets also go with their topic, and with their group.
            lambda: (m.offset_version, m.topic_version, m.group_version),
            m.offset_table,
        ),
    )
