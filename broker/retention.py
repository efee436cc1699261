"""Which part of the log is kept no longer: the leader decides, all replicas do the same.

A file of the log goes when the newest message in it is older than `fileReservedTime`: in the hours
named by `deleteWhen`, and at any hour once the disk is fuller than `diskMaxUsedSpaceRatio`. The
last file stays. Source: broker-behaviour §11; there the age is the file's, which differs between
nodes, here it is the store time in the log.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.remoting.message_record import peek_record

from .config_fields import BrokerConfig
from .metadata import Metadata

# Files in one decision. Source: deleteFileBatchMax.
MAX_FILES: Final = 10
_HOUR_MS = 3_600_000


def begin_index(
    segments: Sequence[tuple[int, int]],
    now_ms: int,
    hour: int,
    *,
    reserved_hours: int,
    delete_when: Sequence[int],
    disk_used_ratio: float,
    max_used_ratio: float,
) -> int | None:
    """Where the log should begin.

    Args:
        segments: (first index, store time of the last message in ms since 1970) of each file of
            the log, in order.
        now_ms: ms since 1970.
        hour: of the day, local, 0-23.
        reserved_hours: how long messages are kept at least.
        delete_when: hours of the day in which files are removed.
        disk_used_ratio: how full the fullest disk is, 0 to 1.
        max_used_ratio: above it, files are removed at any hour.

    Returns:
        The first index to keep; None: everything stays.
    """
    if hour not in delete_when and disk_used_ratio <= max_used_ratio:
        return None
    oldest_ms = now_ms - reserved_hours * _HOUR_MS
    begin = None
    for (_, last_ms), (following, _) in pairwise(segments[: MAX_FILES + 1]):
        if last_ms > oldest_ms:
            break
        begin = following
    return begin


def local_hour(now_ms: int) -> int:
    """Hour of the day where this machine stands, 0-23."""
    return datetime.fromtimestamp(now_ms / 1000).astimezone().hour


class Retention:
    """The ready leader's look at the log, every few seconds."""

    def __init__(
        self,
        log_server: LogServer,
        config: BrokerConfig,
        *,
        metadata: Metadata,
        applied: Callable[[], int],
        disk_used_ratio: Callable[[], float],
        append: Callable[[int], None],
        hour_of: Callable[[int], int] = local_hour,
    ) -> None:
        """Decide for one group.

        Args:
            log_server: the log.
            config: of this broker.
            metadata: knows the begin that was decided last.
            applied: the highest index dispatched here.
            disk_used_ratio: how full the fullest disk is, 0 to 1.
            append: puts a `LogBegin` with this index into the log.
            hour_of: ms since 1970 -> hour of the day, local.
        """
        self._log = log_server
        self._config = config
        self._metadata = metadata
        self._applied = applied
        self._disk_used_ratio = disk_used_ratio
        self._append = append
        self._hour_of = hour_of
        # First index of a whole file -> store time of its last message.
        self._last_ms: dict[int, int] = {}

    async def check(self) -> None:
        """Ask the group for a later begin if it is time; by the ready leader only.

        Raises:
            StorageError: the log cannot be read.
        """
        config, now_ms = self._config, self._log.host.wall_ms()
        begin = begin_index(
            await self._segments(),
            now_ms,
            self._hour_of(now_ms),
            reserved_hours=config.file_reserved_hours,
            delete_when=[int(hour) for hour in config.delete_when],
            disk_used_ratio=self._disk_used_ratio(),
            max_used_ratio=config.disk_max_used_percent / 100,
        )
        if begin is not None and begin > self._metadata.log_begin:
            self._append(begin)

    async def _segments(self) -> list[tuple[int, int]]:
        """As `begin_index` wants them; the last one is not over yet, its time is now."""
        applied = self._applied()
        firsts = [first for _, first in self._log.segment_begins() if first <= applied]
        found: list[tuple[int, int]] = []
        for first, following in pairwise(firsts):
            found.append((first, await self._store_ms(first, following - 1)))
        self._last_ms = dict(found)
        if firsts:
            found.append((firsts[-1], self._log.host.wall_ms()))
        return found

    async def _store_ms(self, first: int, last: int) -> int:
        known = self._last_ms.get(first)
        if known is not None:
            return known
        data, _ = await self._log.read_entries(last, last, 1)
        return peek_record(data, entry.HEADER_BYTES).store_timestamp_ms
