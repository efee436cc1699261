"""Counters of a broker: totals, and rates over the last seconds and minutes.

Pure: the clock is given. One counter object is touched per batch of messages, not per message.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

# The windows of putTps and its like, in seconds; the first is what clusterList shows.
WINDOWS_S = (10, 60, 600)
_SECOND_MS = 1000


class Counter:
    """A total, its rates over `WINDOWS_S`, and where it stood at the last two midnights.

    Attributes:
        total: since the start.
        today_morning: the total at the last midnight, or at the start.
        yesterday_morning: the total at the midnight before.
    """

    def __init__(self) -> None:
        self.total = 0
        self.today_morning = 0
        self.yesterday_morning = 0
        # (end of the second, total at that time), one a second at most; oldest first.
        self._marks: deque[tuple[int, int]] = deque(maxlen=WINDOWS_S[-1] + 1)

    def add(self, count: int) -> None:
        """Count `count` more."""
        self.total += count

    def mark(self, now_ms: int) -> None:
        """Note the total; to be called about once a second."""
        if not self._marks or now_ms - self._marks[-1][0] >= _SECOND_MS:
            self._marks.append((now_ms, self.total))

    def roll_day(self) -> None:
        """It is midnight."""
        self.yesterday_morning, self.today_morning = self.today_morning, self.total

    def rate(self, now_ms: int, window_s: int) -> float:
        """Mean per second over the window, or since the first mark when that is later."""
        start_ms, start_total = now_ms, self.total
        for at_ms, total in reversed(self._marks):
            if at_ms < now_ms - window_s * _SECOND_MS:
                break
            start_ms, start_total = at_ms, total
        elapsed_ms = now_ms - start_ms
        return (self.total - start_total) * _SECOND_MS / elapsed_ms if elapsed_ms > 0 else 0.0

    def rates(self, now_ms: int) -> str:
        """The rates over all windows, with blanks between."""
        return " ".join(f"{self.rate(now_ms, window_s):.2f}" for window_s in WINDOWS_S)


class BrokerStats:
    """What a broker counts.

    Attributes:
        put: messages taken in.
        put_bytes: their bodies, bytes.
        got: messages handed to consumers.
        found: pulls that found something.
        missed: pulls that found nothing.
        boot_ms: start of the broker, ms since 1970.
    """

    def __init__(self, now_ms: Callable[[], int], boot_ms: int) -> None:
        self.put = Counter()
        self.put_bytes = Counter()
        self.got = Counter()
        self.found = Counter()
        self.missed = Counter()
        self.boot_ms = boot_ms
        self._now_ms = now_ms
        self._day: date | None = None

    def on_put(self, count: int, size_bytes: int) -> None:
        """`count` messages with bodies of `size_bytes` together were committed."""
        self.put.add(count)
        self.put_bytes.add(size_bytes)

    def on_get(self, count: int) -> None:
        """A pull was answered with `count` messages."""
        self.got.add(count)
        (self.found if count else self.missed).add(1)

    def tick(self, today: date) -> None:
        """To be called about once a second; `today` is the local date."""
        now_ms = self._now_ms()
        for counter in (self.put, self.put_bytes, self.got, self.found, self.missed):
            counter.mark(now_ms)
            if self._day is not None and today != self._day:
                counter.roll_day()
        self._day = today

    def items(self) -> dict[str, str]:
        """The keys of request 28 that come from counters."""
        now_ms = self._now_ms()
        mean_bytes = self.put_bytes.total / self.put.total if self.put.total else 0.0
        total_rates = " ".join(
            f"{self.found.rate(now_ms, w) + self.missed.rate(now_ms, w):.2f}" for w in WINDOWS_S
        )
        return {
            "putTps": self.put.rates(now_ms),
            "getTransferredTps": self.got.rates(now_ms),
            "getTransferedTps": self.got.rates(now_ms),  # as 4.x clusterList spells it
            "getFoundTps": self.found.rates(now_ms),
            "getMissTps": self.missed.rates(now_ms),
            "getTotalTps": total_rates,
            "putMessageTimesTotal": str(self.put.total),
            "putMessageSizeTotal": str(self.put_bytes.total),
            "putMessageAverageSize": f"{mean_bytes:.2f}",
            **_mornings("msgPut", self.put),
            **_mornings("msgGet", self.got),
        }


def _mornings(prefix: str, counter: Counter) -> dict[str, str]:
    return {
        f"{prefix}TotalYesterdayMorning": str(counter.yesterday_morning),
        f"{prefix}TotalTodayMorning": str(counter.today_morning),
        f"{prefix}TotalTodayNow": str(counter.total),
    }


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What request 28 tells of the log.

    Attributes:
        min_physical_offset: oldest byte kept.
        max_physical_offset: end of the committed log, bytes.
        earliest_store_time_ms: store time of the oldest message, ms since 1970; -1 for none.
        dispatch_behind_bytes: committed and not yet in the queues.
        unflushed_bytes: written and not yet on this disk.
        disk_used_ratio: of the log's file system, 0 to 1.
        pending_sends: sends waiting for their commit.
    """

    min_physical_offset: int = 0
    max_physical_offset: int = 0
    earliest_store_time_ms: int = -1
    dispatch_behind_bytes: int = 0
    unflushed_bytes: int = 0
    disk_used_ratio: float = 0.0
    pending_sends: int = 0
