"""26, 28."""

from collections.abc import Callable

import pytest

import ledgermq
from ledgermq.broker.features import broker_info
from ledgermq.broker.features.broker_info import InfoService
from ledgermq.broker.stats import BrokerStats, StoreInfo
from ledgermq.remoting.bodies.registration import DataVersion
from ledgermq.remoting.bodies.route import KVTable

from .fakes import BROKER, Bench

BOOT_MS = 1_700_000_000_000


@pytest.fixture
def serve() -> Callable[[bool], Bench]:
    def make(is_active: bool) -> Bench:
        bench = Bench()
        service = InfoService(
            BROKER,
            BrokerStats(lambda: 0, BOOT_MS),
            lambda: StoreInfo(48, 4711, 5, 6, 7, 0.25, 8),
            lambda: is_active,
            lambda: BOOT_MS + 93_784_000,
        )
        broker_info.register(bench.registry, service)
        return bench

    return make


async def test_configuration(serve: Callable[[bool], Bench]) -> None:
    reply = await serve(True).call(26)
    lines = reply.body.decode().splitlines()
    assert lines == sorted(lines)
    assert "brokerName=RaftNode00" in lines
    assert DataVersion.decode(reply.ext["version"].encode()).timestamp == BOOT_MS


# What Java's clusterList and brokerStatus read and parse as numbers.
NUMBERS = [
    "sendThreadPoolQueueSize",
    "pullThreadPoolQueueSize",
    "ackThreadPoolQueueSize",
    "sendThreadPoolQueueHeadWaitTimeMills",
    "pullThreadPoolQueueHeadWaitTimeMills",
    "ackThreadPoolQueueHeadWaitTimeMills",
    "pageCacheLockTimeMills",
    "earliestMessageTimeStamp",
    "commitLogDiskRatio",
    "timerReadBehind",
    "timerOffsetBehind",
    "timerCongestNum",
    "timerEnqueueTps",
    "timerDequeueTps",
    "msgPutTotalYesterdayMorning",
    "msgPutTotalTodayMorning",
    "msgPutTotalTodayNow",
    "msgGetTotalYesterdayMorning",
    "msgGetTotalTodayMorning",
    "msgGetTotalTodayNow",
    "bootTimestamp",
    "commitLogMinOffset",
    "commitLogMaxOffset",
    "dispatchBehindBytes",
    "putMessageTimesTotal",
]


@pytest.mark.parametrize("is_active", [True, False])
async def test_figures(serve: Callable[[bool], Bench], is_active: bool) -> None:
    table = KVTable.decode((await serve(is_active).call(28)).body).table
    for name in NUMBERS:
        float(table[name])
    for name in ("putTps", "getTransferredTps"):
        assert [float(rate) for rate in table[name].split(" ")] == [0.0, 0.0, 0.0]
    assert table["brokerActive"] == ("true" if is_active else "false")
    assert table["brokerVersionDesc"] == f"ledgermq-{ledgermq.__version__}"
    assert table["runtime"] == "[ 1 days, 2 hours, 3 minutes, 4 seconds ]"
    assert (table["commitLogMinOffset"], table["commitLogMaxOffset"]) == ("48", "4711")
    assert table["earliestMessageTimeStamp"] == "5"
    assert table["dispatchBehindBytes"] == "6"
    assert table["remainHowManyDataToFlush"] == "7 B"
    assert table["commitLogDiskRatio"] == "0.2500"
    assert table["sendThreadPoolQueueSize"] == "8"
