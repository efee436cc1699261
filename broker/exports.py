"""config/*.json of a group's broker: for people and tools to read, never read back here."""

import asyncio
import logging
from pathlib import Path

from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import DiskFullError, StorageError

from .metadata import Metadata
from .table_file import metadata_files

log = logging.getLogger(__name__)

_INTERVAL_S = 5.0


class Exports:
    """Writes a file when its table has changed, keeping the previous version as `.bak`."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        self._files = metadata_files(folder, metadata, OsDisk(), None)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            await self.write()

    async def write(self) -> None:
        """Write what changed; a failure is logged and tried again, nothing depends on it."""
        for file in self._files:
            try:
                await file.save()
            except (DiskFullError, StorageError) as e:
                log.warning("not exported: %s", e)

    async def close(self) -> None:
        """Stop, after a last write."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self.write()
