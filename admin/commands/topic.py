"""`mqadmin topicList`, `topicRoute`, `topicStatus`, `updateTopic`.

Columns, formats and texts: the subcommands of the same names of RocketMQ 4.9.
"""

import asyncio
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from ledgermq.admin import output
from ledgermq.admin.command import Call, subcommand
from ledgermq.admin.errors import AdminError, TopicMissingError
from ledgermq.admin.output import Table
from ledgermq.admin.session import LEADER_ID, Session, reading_address
from ledgermq.remoting.bodies.consumer import GroupList
from ledgermq.remoting.bodies.route import ClusterInfo, TopicRouteData
from ledgermq.remoting.bodies.stats import MessageQueue, TopicOffset, TopicStatsTable
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.errors import LedgerMQError, PeerError
from ledgermq.remoting.headers.namesrv import (
    GetKVConfigResponse,
    KVConfigRequest,
    PutKVConfigRequest,
)
from ledgermq.remoting.headers.topic import CreateTopicRequest, TopicRequest

_ORDER_NAMESPACE = "ORDER_TOPIC_CONFIG"
_HIDDEN_PREFIXES = ("%RETRY%", "%DLQ%")
_UNIT, _UNIT_SUB = 1, 2
_ROUTE_LINE_WIDTH = 158

_TOPIC = click.option("-t", "--topic", required=True, help="Topic name.")


# --- topicList ------------------------------------------------------------------------------------


@subcommand(
    "topicList",
    help_text="List every topic the name server knows, internal ones included.",
    examples="""
        mqadmin topicList -n 127.0.0.1:9876
        mqadmin topicList -n 127.0.0.1:9876 -c    with clusters and consumer groups
    """,
)
@click.option(
    "-c", "--clusterModel", "cluster_model", is_flag=True, help="With cluster and groups."
)
async def topic_list(call: Call, cluster_model: bool) -> None:
    """206; with -c also 106, then 105 and 300 per topic."""
    async with call.session() as session:
        topics = await session.topics()
        if not cluster_model:
            table = Table("%s", ("#Topic",))
            for topic in topics:
                table.add((topic,), {"topic": topic})
            if call.as_json or output.on_terminal():
                output.show(table, as_json=call.as_json)
            else:
                # Upstream prints names only, without a title.
                for topic in topics:
                    output.say(topic)
            return
        info = await session.cluster_info()
        table = Table("%-20s  %-48s  %-48s", ("#Cluster Name", "#Topic", "#Consumer Group"))
        for topic in topics:
            if topic.startswith(_HIDDEN_PREFIXES):
                continue
            cluster, groups = await _cluster_and_groups(session, info, topic)
            for group in groups or [""]:
                table.add(
                    (cluster, topic, group),
                    {"cluster": cluster, "topic": topic, "consumerGroup": group or None},
                )
        output.show(table, as_json=call.as_json)


async def _cluster_and_groups(
    session: Session, info: ClusterInfo, topic: str
) -> tuple[str, list[str]]:
    """As far as they can be learnt: a topic may have gone, a broker may be silent."""
    try:
        route = await session.route(topic)
    except (TopicMissingError, PeerError):
        return "", []
    groups: set[str] = set()
    for addr in _reading_addresses(route):
        try:
            answer = await session.ask_broker(
                addr, RequestCode.QUERY_TOPIC_CONSUME_BY_WHO, TopicRequest(topic=topic)
            )
        except LedgerMQError:
            continue
        if answer.code == ResponseCode.SUCCESS:
            groups.update(GroupList.decode(answer.body).group_list)
    names = {b.broker_name for b in route.broker_datas}
    clusters = [c for c, members in info.cluster_addr_table.items() if names & set(members)]
    return (clusters[0] if clusters else ""), sorted(groups)


# --- topicRoute -----------------------------------------------------------------------------------


@subcommand(
    "topicRoute",
    help_text="Show which brokers have the queues of a topic. In a pipe, JSON, as upstream's.",
    examples="""
        mqadmin topicRoute -n 127.0.0.1:9876 -t TopicTest
        mqadmin topicRoute -n 127.0.0.1:9876 -t TopicTest -l    one line a broker
    """,
)
@_TOPIC
@click.option("-l", "--list", "as_list", is_flag=True, help="One line for each broker.")
async def topic_route(call: Call, topic: str, as_list: bool) -> None:
    """105."""
    async with call.session() as session:
        route = await session.route(topic.strip())
    if call.as_json or not (as_list or output.on_terminal()):
        output.show_json(msgspec.json.decode(route.encode()))
        return
    table = _route_table(route)
    output.show(table, as_json=False)
    if not output.on_terminal():
        queues = route.queue_datas
        reads, writes = (
            sum(q.read_queue_nums for q in queues),
            sum(q.write_queue_nums for q in queues),
        )
        output.say("-" * _ROUTE_LINE_WIDTH)
        output.say(table.plain % ("Total:", len(queues), "", reads, writes, ""))


def _route_table(route: TopicRouteData) -> Table:
    table = Table(
        "%-45s %-32s %-50s %-10s %-11s %-5s",
        ("#ClusterName", "#BrokerName", "#BrokerAddrs", "#ReadQueue", "#WriteQueue", "#Perm"),
    )
    groups = {b.broker_name: b for b in route.broker_datas}
    for queue in sorted(route.queue_datas, key=lambda q: q.broker_name):
        group = groups.get(queue.broker_name)
        addrs = sorted(group.broker_addrs.items()) if group else []
        table.add(
            (
                group.cluster if group else "",
                queue.broker_name,
                "{" + ", ".join(f"{broker_id}={addr}" for broker_id, addr in addrs) + "}",
                str(queue.read_queue_nums),
                str(queue.write_queue_nums),
                str(queue.perm),
            ),
            {},
        )
    return table


# --- topicStatus ----------------------------------------------------------------------------------


@subcommand(
    "topicStatus",
    help_text="Show the first and next offset of every queue of a topic.",
    examples="""
        mqadmin topicStatus -n 127.0.0.1:9876 -t TopicTest
        mqadmin topicStatus -n 127.0.0.1:9876 -t TopicTest --json
    """,
)
@_TOPIC
async def topic_status(call: Call, topic: str) -> None:
    """105, then 202 to each of its brokers."""
    topic = topic.strip()
    async with call.session() as session:
        route = await session.route(topic)
        header = TopicRequest(topic=topic)
        answers = await asyncio.gather(
            *(
                session.order_broker(addr, RequestCode.GET_TOPIC_STATS_INFO, header)
                for addr in _reading_addresses(route)
            )
        )
    offsets: dict[MessageQueue, TopicOffset] = {}
    for answer in answers:
        offsets.update(TopicStatsTable.decode(answer.body).offset_table)
    output.show(_status_table(offsets), as_json=call.as_json)


def _status_table(offsets: Mapping[MessageQueue, TopicOffset]) -> Table:
    columns = ("#Broker Name", "#QID", "#Min Offset", "#Max Offset", "#Last Updated")
    table = Table("%-32s  %-4s  %-20s  %-20s    %s", columns, right=frozenset(columns[1:4]))
    for queue in sorted(offsets, key=lambda q: (q.broker_name, q.queue_id)):
        found = offsets[queue]
        table.add(
            (
                queue.broker_name,
                str(queue.queue_id),
                str(found.min_offset),
                str(found.max_offset),
                _local_time(found.last_update_timestamp),
            ),
            {
                "brokerName": queue.broker_name,
                "queueId": queue.queue_id,
                "minOffset": found.min_offset,
                "maxOffset": found.max_offset,
                "lastUpdateTimestamp": found.last_update_timestamp or None,
            },
        )
    return table


def _local_time(timestamp_ms: int) -> str:
    """E.g. "2025-11-21 09:30:00,125"; empty for 0, which means never."""
    if timestamp_ms <= 0:
        return ""
    moment = datetime.datetime.fromtimestamp(timestamp_ms / 1000, datetime.UTC).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S},{timestamp_ms % 1000:03d}"


# --- updateTopic ----------------------------------------------------------------------------------


@subcommand(
    "updateTopic",
    help_text="Create a topic, or change it, on one broker (-b) or a whole cluster (-c).",
    examples="""
        mqadmin updateTopic -n 127.0.0.1:9876 -c RaftCluster -t TopicTest
        mqadmin updateTopic -n 127.0.0.1:9876 -c RaftCluster -t Orders -r 16 -w 16 -p 6
        mqadmin updateTopic -n 127.0.0.1:9876 -b 127.0.0.1:30911 -t TopicTest -r 8 -w 8
    """,
)
@click.option("-b", "--brokerAddr", "broker_addr", help="host:port of the leader of one group.")
@click.option("-c", "--clusterName", "cluster", help="Every group of this cluster.")
@_TOPIC
@click.option(
    "-r", "--readQueueNums", "reads", type=click.IntRange(1), default=8, show_default=True
)
@click.option(
    "-w", "--writeQueueNums", "writes", type=click.IntRange(1), default=8, show_default=True
)
@click.option(
    "-p",
    "--perm",
    type=click.Choice(["2", "4", "6"]),
    default="6",
    show_default=True,
    help="2 write, 4 read, 6 both.",
)
@click.option("-o", "--order", type=bool, default=False, help="An ordered topic: true or false.")
@click.option("-u", "--unit", type=bool, default=False, help="A unit topic: true or false.")
@click.option("-s", "--hasUnitSub", "unit_sub", type=bool, default=False, help="true or false.")
async def update_topic(
    call: Call, broker_addr: str | None, cluster: str | None, **values: Any
) -> None:
    """17 to the leaders; an ordered topic's queues also to every name server (100)."""
    header = _create_request(**values)
    async with call.session() as session:
        leaders = await _targets(session, broker_addr, cluster)
        for addr in leaders.values():
            await session.order_broker(addr, RequestCode.UPDATE_AND_CREATE_TOPIC, header)
            if not call.as_json:
                output.say(f"create topic to {addr} success.")
        if header.order:
            order = await _store_order(session, header, list(leaders), merge=cluster is None)
            if not call.as_json:
                kind = "broker" if cluster is None else "cluster"
                output.say(f"set {kind} orderConf. isOrder=true, orderConf=[{order}]")
    if call.as_json:
        output.show_json({"topic": header.topic, "brokers": list(leaders.values())})
    else:
        output.say(_describe(header))


def _create_request(
    *,
    topic: str,
    reads: int,
    writes: int,
    perm: str,
    order: bool,
    unit: bool,
    unit_sub: bool,
) -> CreateTopicRequest:
    return CreateTopicRequest(
        topic=topic.strip(),
        default_topic="TBW102",
        read_queue_nums=reads,
        write_queue_nums=writes,
        perm=int(perm),
        topic_filter_type="SINGLE_TAG",
        topic_sys_flag=(_UNIT if unit else 0) | (_UNIT_SUB if unit_sub else 0),
        order=order,
    )


async def _targets(
    session: Session, broker_addr: str | None, cluster: str | None
) -> dict[str, str]:
    """Broker name -> leader's address, of the one broker or of the whole cluster."""
    if (broker_addr is None) == (cluster is None):
        raise AdminError(
            "updateTopic needs either a broker or a cluster",
            f"Add -c <cluster> or -b host:port; see: mqadmin clusterList -n {session.name_server}",
        )
    info = await session.cluster_info()
    if broker_addr is not None:
        addr = broker_addr.strip()
        names = [n for n, g in info.broker_addr_table.items() if addr in g.broker_addrs.values()]
        return {names[0] if names else addr: addr}
    assert cluster is not None
    names = sorted(info.cluster_addr_table.get(cluster.strip(), []))
    if not names:
        known = ", ".join(sorted(info.cluster_addr_table)) or "none, no broker is registered"
        raise AdminError(
            f"the name server {session.name_server} knows no cluster {cluster}",
            f"Clusters it knows: {known}.",
        )
    leaders = {n: info.broker_addr_table[n].broker_addrs.get(LEADER_ID, "") for n in names}
    leaderless = [n for n, addr in leaders.items() if not addr]
    if leaderless:
        raise AdminError(
            f"no leader now: {', '.join(leaderless)}; nothing was changed",
            "An election takes about a second. Try again, and look at:"
            f" mqadmin clusterList -n {session.name_server}",
        )
    return leaders


async def _store_order(
    session: Session, header: CreateTopicRequest, names: Sequence[str], *, merge: bool
) -> str:
    """Write e.g. "a:8;b:8" for an ordered topic; return what was written."""
    queues = dict.fromkeys(names, str(header.write_queue_nums))
    if merge:
        queues = {**await _stored_order(session, header.topic), **queues}
    order = ";".join(f"{name}:{count}" for name, count in sorted(queues.items()))
    await session.tell_name_servers(
        RequestCode.PUT_KV_CONFIG,
        PutKVConfigRequest(namespace=_ORDER_NAMESPACE, key=header.topic, value=order),
    )
    return order


async def _stored_order(session: Session, topic: str) -> dict[str, str]:
    header = KVConfigRequest(namespace=_ORDER_NAMESPACE, key=topic)
    try:
        answer = await session.ask_name_server(RequestCode.GET_KV_CONFIG, header)
    except PeerError as e:
        if e.code == ResponseCode.QUERY_NOT_FOUND:
            return {}
        raise
    value = GetKVConfigResponse.from_ext(answer.ext).value or ""
    pairs = (part.rpartition(":") for part in value.split(";") if ":" in part)
    return {name: count for name, _, count in pairs}


def _describe(header: CreateTopicRequest) -> str:
    perm = ("R" if header.perm & 4 else "-") + ("W" if header.perm & 2 else "-") + "-"
    return (
        f"TopicConfig [topicName={header.topic}, readQueueNums={header.read_queue_nums},"
        f" writeQueueNums={header.write_queue_nums}, perm={perm},"
        f" topicFilterType={header.topic_filter_type}, topicSysFlag={header.topic_sys_flag},"
        f" order={str(header.order).lower()}]"
    )


def _reading_addresses(route: TopicRouteData) -> list[str]:
    return [addr for addr in map(reading_address, route.broker_datas) if addr]
