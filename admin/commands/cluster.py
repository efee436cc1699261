"""`mqadmin clusterList`: who leads, where, how loaded.

Columns and their formats: ClusterListSubCommand of RocketMQ 4.9.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import click

from ledgermq.admin import output
from ledgermq.admin.command import Call, subcommand
from ledgermq.admin.errors import AdminError
from ledgermq.admin.output import Table
from ledgermq.admin.session import Session
from ledgermq.remoting.bodies.route import ClusterInfo
from ledgermq.remoting.errors import LedgerMQError

_PLAIN = "%-16s  %-22s  %-4s  %-22s %-16s %19s %19s %10s %5s %6s"
_COLUMNS = (
    "#Cluster Name",
    "#Broker Name",
    "#BID",
    "#Addr",
    "#Version",
    "#InTPS(LOAD)",
    "#OutTPS(LOAD)",
    "#PCWait(ms)",
    "#Hour",
    "#SPACE",
)
_OPTIONAL = ("#PCWait(ms)", "#Hour", "#SPACE", "#Version", "#OutTPS(LOAD)", "#InTPS(LOAD)")
_PLAIN_MORE = "%-16s  %-32s %14s %14s %14s %14s"
_COLUMNS_MORE = (
    "#Cluster Name",
    "#Broker Name",
    "#InTotalYest",
    "#OutTotalYest",
    "#InTotalToday",
    "#OutTotalToday",
)
# 4.9 brokers write the name with one r less.
_OUT_TPS_KEYS = ("getTransferredTps", "getTransferedTps")
_MS_PER_HOUR = 3_600_000

Figures = Mapping[str, str]


class Broker(NamedTuple):
    """One row."""

    cluster: str
    name: str
    broker_id: int
    addr: str


@subcommand(
    "clusterList",
    help_text="List every broker of every cluster. BID 0 is the leader of its group.",
    examples="""
        mqadmin clusterList -n 127.0.0.1:9876
        mqadmin clusterList -n 127.0.0.1:9876 -i 2            every two seconds
        mqadmin clusterList -n '10.0.0.1:9876;10.0.0.2:9876' -m   message counts
        mqadmin clusterList -n 127.0.0.1:9876 --json | jq '.[] | select(.brokerId == 0) | .addr'
    """,
)
@click.option("-m", "--moreStats", "more", is_flag=True, help="Message counts per day.")
@click.option(
    "-i", "--interval", "interval_s", type=click.IntRange(1), help="Repeat every so many seconds."
)
@click.option("-c", "--clusterName", "cluster", help="Only this cluster.")
async def cluster_list(call: Call, more: bool, interval_s: int | None, cluster: str | None) -> None:
    """106 for the brokers, 28 for the figures of each."""
    async with call.session() as session:
        while True:
            await _show_once(session, call, cluster, more=more)
            if interval_s is None:
                return
            await asyncio.sleep(interval_s)


async def _show_once(session: Session, call: Call, cluster: str | None, *, more: bool) -> None:
    info = await session.cluster_info()
    if cluster is not None and cluster not in info.cluster_addr_table:
        known = ", ".join(sorted(info.cluster_addr_table)) or "none"
        raise AdminError(
            f"the name server {session.name_server} knows no cluster {cluster}",
            f"Clusters it knows: {known}.",
        )
    brokers = [b for b in _brokers(info) if cluster in (None, b.cluster)]
    answers = await session.runtime_infos([b.addr for b in brokers])
    figures: dict[str, Figures] = {}
    for broker in brokers:
        answer = answers[broker.addr]
        if isinstance(answer, LedgerMQError):
            output.warn(f"no figures of {broker.name} id {broker.broker_id}: {answer}")
        else:
            figures[broker.addr] = answer
    output.show(
        _more_table(brokers, figures) if more else _table(brokers, figures), as_json=call.as_json
    )
    if not brokers:
        output.warn(
            f"no broker is registered at {session.name_server};"
            f" start one: mqbroker -n {session.name_server} -c <broker.conf>"
        )


def _brokers(info: ClusterInfo) -> Iterator[Broker]:
    for cluster in sorted(info.cluster_addr_table):
        for name in sorted(info.cluster_addr_table[cluster]):
            group = info.broker_addr_table.get(name)
            for broker_id, addr in sorted(group.broker_addrs.items()) if group else ():
                yield Broker(cluster, name, broker_id, addr)


def _table(brokers: list[Broker], figures: Mapping[str, Figures]) -> Table:
    table = Table(_PLAIN, _COLUMNS, right=frozenset(_COLUMNS[5:]), optional=_OPTIONAL)
    now_ms = time.time() * 1000
    for broker in brokers:
        known = figures.get(broker.addr, {})
        earliest_ms = _number(known, "earliestMessageTimeStamp")
        hours = (now_ms - earliest_ms) / _MS_PER_HOUR if earliest_ms and earliest_ms > 0 else 0.0
        in_tps, out_tps = _tps(known, "putTps"), _tps(known, *_OUT_TPS_KEYS)
        used = _number(known, "commitLogDiskRatio")
        table.add(
            (
                broker.cluster,
                broker.name,
                str(broker.broker_id),
                broker.addr,
                known.get("brokerVersionDesc", ""),
                _load(in_tps, known, "send"),
                _load(out_tps, known, "pull"),
                known.get("pageCacheLockTimeMills", ""),
                f"{hours:.2f}",
                f"{used or 0.0:.4f}",
            ),
            {
                **_identity(broker),
                "version": known.get("brokerVersionDesc"),
                "inTps": in_tps,
                "outTps": out_tps,
                "pageCacheLockMs": _number(known, "pageCacheLockTimeMills"),
                "oldestMessageHours": round(hours, 2) if known else None,
                "diskUsedRatio": used,
                "answered": broker.addr in figures,
            },
        )
    return table


def _more_table(brokers: list[Broker], figures: Mapping[str, Figures]) -> Table:
    table = Table(_PLAIN_MORE, _COLUMNS_MORE, right=frozenset(_COLUMNS_MORE[2:]))
    for broker in brokers:
        known = figures.get(broker.addr, {})
        counts = {
            "inYesterday": _span(known, "msgPutTotal", "TodayMorning", "YesterdayMorning"),
            "outYesterday": _span(known, "msgGetTotal", "TodayMorning", "YesterdayMorning"),
            "inToday": _span(known, "msgPutTotal", "TodayNow", "TodayMorning"),
            "outToday": _span(known, "msgGetTotal", "TodayNow", "TodayMorning"),
        }
        table.add(
            (broker.cluster, broker.name, *(str(count) for count in counts.values())),
            {**_identity(broker), **counts},
        )
    return table


def _identity(broker: Broker) -> dict[str, str | int]:
    return {
        "cluster": broker.cluster,
        "brokerName": broker.name,
        "brokerId": broker.broker_id,
        "addr": broker.addr,
    }


def _load(tps: float | None, figures: Figures, kind: str) -> str:
    """E.g. "   123.40(0,0ms)": rate, queue length, age of the queue's head."""
    size = figures.get(f"{kind}ThreadPoolQueueSize", "")
    wait_ms = figures.get(f"{kind}ThreadPoolQueueHeadWaitTimeMills", "")
    return f"{tps or 0.0:9.2f}({size},{wait_ms}ms)"


def _tps(figures: Figures, *keys: str) -> float | None:
    """The first of a series "10 s, 1 min, 10 min"."""
    for key in keys:
        series = figures.get(key, "").split()
        if series:
            return _float(series[0])
    return None


def _number(figures: Figures, key: str) -> float | None:
    return _float(figures.get(key, ""))


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _span(figures: Figures, counter: str, end: str, begin: str) -> int:
    """What a counter grew by between two of its readings; 0 when one is not known."""
    last, first = _number(figures, counter + end), _number(figures, counter + begin)
    return int(last - first) if last is not None and first is not None else 0
