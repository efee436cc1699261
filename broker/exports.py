"""config/*.json as upstream writes them: for people and tools to read, never read back here."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import aiofiles
import aiofiles.os

from .metadata import Metadata

log = logging.getLogger(__name__)

_INTERVAL_S = 5.0


class Exports:
    """Writes a file when its table has changed, keeping the previous version as `.bak`."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        self._folder = folder
        self._tables: dict[str, tuple[Callable[[], int], Callable[[], bytes]]] = {
            "topics.json": (lambda: metadata.topic_version, metadata.export_topics),
            "subscriptionGroup.json": (lambda: metadata.group_version, metadata.export_groups),
            "consumerOffset.json": (lambda: metadata.offset_version, metadata.export_offsets),
        }
        self._written: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            await self.write()

    async def write(self) -> None:
        """Write what changed; a failure is logged and tried again, nothing depends on it."""
        for name, (version_of, export) in self._tables.items():
            version = version_of()
            if self._written.get(name) == version:
                continue
            path = self._folder / name
            try:
                async with aiofiles.open(path.with_suffix(".tmp"), "wb") as f:
                    await f.write(export())
                if path.exists():
                    await aiofiles.os.replace(path, path.with_name(name + ".bak"))
                await aiofiles.os.replace(path.with_suffix(".tmp"), path)
                self._written[name] = version
            except OSError as e:
                log.warning("%s not written: %s", path, e.strerror)

    async def close(self) -> None:
        """Stop, after a last write."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self.write()
