"""Totals, rates over windows, and midnights."""

from datetime import date

from ledgermq.broker.stats import BrokerStats, Counter

DAY_1, DAY_2, DAY_3 = date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)


def test_a_rate_covers_its_window_only() -> None:
    counter = Counter()
    for second in range(31):
        counter.mark(second * 1000)
        counter.add(100 if second < 15 else 10)
    assert counter.rate(30_000, 10) == 11.0
    assert counter.rate(30_000, 60) == 1660 / 30
    assert counter.total == 1660


def test_a_rate_without_marks_is_nothing() -> None:
    counter = Counter()
    counter.add(5)
    assert counter.rate(1000, 10) == 0.0
    counter.mark(1000)
    assert counter.rate(1000, 10) == 0.0
    assert counter.rates(2000) == "0.00 0.00 0.00"


def test_marks_are_a_second_apart() -> None:
    counter = Counter()
    for now_ms in range(0, 2500, 100):
        counter.mark(now_ms)
    assert len(counter._marks) == 3


def test_marks_are_bounded() -> None:
    counter = Counter()
    for second in range(2000):
        counter.mark(second * 1000)
    assert len(counter._marks) == 601


def test_items_of_request_28() -> None:
    now_ms = 0
    stats = BrokerStats(lambda: now_ms, boot_ms=1)
    stats.tick(DAY_1)
    stats.on_put(20, 400)
    stats.on_get(10)
    stats.on_get(0)
    now_ms = 2000
    items = stats.items()
    assert items["putTps"] == "10.00 10.00 10.00"
    assert items["getTransferredTps"] == items["getTransferedTps"] == "5.00 5.00 5.00"
    assert (items["getFoundTps"], items["getMissTps"]) == ("0.50 0.50 0.50", "0.50 0.50 0.50")
    assert items["getTotalTps"] == "1.00 1.00 1.00"
    assert items["putMessageTimesTotal"] == "20"
    assert items["putMessageSizeTotal"] == "400"
    assert items["putMessageAverageSize"] == "20.00"


def test_no_message_has_no_mean_size() -> None:
    assert BrokerStats(lambda: 0, boot_ms=1).items()["putMessageAverageSize"] == "0.00"


def test_midnights() -> None:
    stats = BrokerStats(lambda: 0, boot_ms=1)
    for today, count in ((DAY_1, 1), (DAY_1, 10), (DAY_2, 100), (DAY_3, 1000)):
        stats.tick(today)
        stats.on_put(count, count)
    items = stats.items()
    assert items["msgPutTotalYesterdayMorning"] == "11"
    assert items["msgPutTotalTodayMorning"] == "111"
    assert items["msgPutTotalTodayNow"] == "1111"
    assert items["msgGetTotalTodayNow"] == "0"
