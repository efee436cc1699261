"""Which files of a log are kept no longer.

A file goes when it is older than `fileReservedTime`: in the hours named by `deleteWhen`, and at any
hour once the disk is fuller than `diskMaxUsedSpaceRatio`. Past `diskSpaceCleanForciblyRatio` the
oldest go however young they are, past `diskSpaceWarningLevelRatio` nothing may be written. The last
file stays. Source: broker-behaviour §11.

In a group the leader decides, and all replicas do the same. There a file's age is that of the
newest message in it, by the store time in the log: the files' own times differ between nodes.
"""

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Self

from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.remoting.message_record import peek_record

from .config_fields import BrokerConfig
from .metadata import Metadata

log = logging.getLogger(__name__)

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """What the keys of retention say.

    Attributes:
        reserved_hours: how long messages are kept at least. Source: fileReservedTime.
        delete_when: hours of the day, local, in which files are removed.
        max_used_ratio: of the disk, 0 to 1; above it, files are removed at any hour.
        force_ratio: above it, files are removed however young they are.
        force_enable: false: never that. Source: cleanFileForciblyEnable.
        full_ratio: above it, writes are refused. Source: diskSpaceWarningLevelRatio.
        max_files: most files that go by one decision. Source: deleteFileBatchMax.
    """

    reserved_hours: int
    delete_when: tuple[int, ...]
    max_used_ratio: float
    force_ratio: float
    force_enable: bool
    full_ratio: float
    max_files: int

    @classmethod
    def of(cls, config: BrokerConfig) -> Self:
        """The rules of one broker."""
        return cls(
            reserved_hours=config.file_reserved_hours,
            delete_when=tuple(int(hour) for hour in config.delete_when),
            max_used_ratio=config.disk_max_used_percent / 100,
            force_ratio=config.disk_space_clean_forcibly_percent / 100,
            force_enable=config.clean_file_forcibly_enable,
            full_ratio=config.disk_space_warning_level_percent / 100,
            max_files=config.delete_file_batch_max,
        )

    def files_to_go(self, last_ms: Sequence[int], now_ms: int, hour: int, used_ratio: float) -> int:
        """How many of the oldest files go now.

        Args:
            last_ms: when each file was written last, in ms since 1970, in the log's order.
            now_ms: ms since 1970.
            hour: of the day, local, 0-23.
            used_ratio: how full the fullest disk is, 0 to 1.
        """
        candidates = last_ms[: min(self.max_files, len(last_ms) - 1)] if last_ms else ()
        if self.force_enable and used_ratio > self.force_ratio:
            return len(candidates)
        if hour not in self.delete_when and used_ratio <= self.max_used_ratio:
            return 0
        oldest_ms = now_ms - self.reserved_hours * _HOUR_MS
        count = 0
        for written_ms in candidates:
            # None behind one that stays: a log has no gaps.
            if written_ms > oldest_ms:
                break
            count += 1
        return count


def local_hour(now_ms: int) -> int:
    """Hour of the day where this machine stands, 0-23."""
    return datetime.fromtimestamp(now_ms / 1000).astimezone().hour


def disk_used_ratio(*folders: Path) -> float:
    """How full the fullest of the disks is, 0 to 1, as `df` counts: what only root may use is used.

    Raises:
        OSError: a folder is not there, or its disk does not answer.
    """
    found = [shutil.disk_usage(folder) for folder in folders]
    return max(usage.used / max(usage.used + usage.free, 1) for usage in found)


class DiskGauge:
    """How full the disk is, as of the last look.

    Attributes:
        used_ratio: 0 to 1.
        is_full: whether writes are to be refused.
    """

    def __init__(self, used_ratio: Callable[[], float], full_ratio: float) -> None:
        """Take the disk for empty until `measure`; past `full_ratio` (0 to 1) it is full."""
        self._look = used_ratio
        self._full_ratio = full_ratio
        self.used_ratio = 0.0
        self.is_full = False

    def measure(self) -> float:
        """Look again; 0 to 1. A disk that does not answer is as full as it was."""
        try:
            self.used_ratio = self._look()
        except OSError as e:
            log.warning("how full the disk is cannot be seen: %s", e)
        was_full, self.is_full = self.is_full, self.used_ratio > self._full_ratio
        if self.is_full and not was_full:
            log.error("sends are refused from now on: %s", self.refusal())
        elif was_full and not self.is_full:
            log.warning("sends are accepted again: the disk is %.1f%% full", self.used_ratio * 100)
        return self.used_ratio

    def refusal(self) -> str:
        """What a client is told whose message is refused for want of room."""
        return (
            f"service not available now: the broker's disk is {self.used_ratio:.1%} full, and"
            f" above {self._full_ratio:.0%} (diskSpaceWarningLevelRatio) no message is taken."
            " Free some space there, or send to another broker"
        )


class Retention:
    """The ready leader's look at the log, every few seconds.

    Attributes:
        gauge: says whether writes are to be refused: here it is the own disk that counts. Every
            node is to `measure`, leader or not: a new leader must know at once.
    """

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
            disk_used_ratio: how full this node's fullest disk is, 0 to 1.
            append: puts a `LogBegin` with this index into the log.
            hour_of: ms since 1970 -> hour of the day, local.
        """
        self._rules = RetentionRules.of(config)
        self.gauge = DiskGauge(disk_used_ratio, self._rules.full_ratio)
        self._log = log_server
        self._metadata = metadata
        self._applied = applied
        self._append = append
        self._hour_of = hour_of
        # First index of a whole file -> store time of its last message.
        self._last_ms: dict[int, int] = {}

    def measure(self) -> None:
        """Look how full the own disk is, and tell the log, which compares it with the others'."""
        used_ratio = self.gauge.measure()
        # Up: above a limit of whole percents here is above it for the leader too.
        self._log.report_disk(min(math.ceil(used_ratio * 100), 100))

    async def check(self) -> None:
        """Ask the group for a later begin if it is time; by the ready leader only.

        Raises:
            StorageError: the log cannot be read.
        """
        self.measure()
        used_ratio = self._log.fullest_disk_percent() / 100
        now_ms = self._log.host.wall_ms()
        segments = await self._segments()
        times = [last_ms for _, last_ms in segments]
        count = self._rules.files_to_go(times, now_ms, self._hour_of(now_ms), used_ratio)
        if count and segments[count][0] > self._metadata.log_begin:
            self._append(segments[count][0])

    async def _segments(self) -> list[tuple[int, int]]:
        """First index and last time of each file; the last one is not over yet, its time is now."""
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
