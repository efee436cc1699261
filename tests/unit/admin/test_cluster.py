"""clusterList: upstream's columns for scripts, a table for people, JSON for programs."""

import asyncio
import re
from types import SimpleNamespace

import pytest

from ledgermq.admin import output, session
from ledgermq.admin.commands import cluster as cluster_commands
from ledgermq.remoting.command import response
from tests.support import free_ports

from .conftest import CLUSTER, GROUP, mqadmin

HEADER = (
    "#Cluster Name     #Broker Name            #BID  #Addr                  #Version       "
    "         #InTPS(LOAD)       #OutTPS(LOAD) #PCWait(ms) #Hour #SPACE"
)


async def test_plain_lines_are_upstreams_byte_for_byte(name_server, broker):
    result = await mqadmin("clusterList", "-n", name_server)

    assert result.code == 0
    assert result.err == ""
    assert result.lines == [
        HEADER,
        f"{CLUSTER:16}  {GROUP:22}  0     {broker.address:22} V4_9_8          "
        "       123.46(1,3ms)        45.60(2,4ms)          0  0.00 0.1234",
    ]


async def test_the_leader_is_found_by_the_third_word(name_server, broker, make_broker):
    for broker_id in (2, 3):
        await (await make_broker()).register(name_server, broker_id)

    result = await mqadmin("clusterList", "-n", name_server)

    rows = [line.split() for line in result.lines[1:]]
    assert [row[2] for row in rows] == ["0", "2", "3"]
    assert rows[0][3] == broker.address


async def test_rows_are_sorted_by_cluster_name_and_id(name_server, make_broker):
    for name, cluster, broker_id in (
        ("b", "c2", 1),
        ("b", "c2", 0),
        ("z", "c1", 0),
        ("a", "c2", 0),
    ):
        await (await make_broker()).register(name_server, broker_id, name=name, cluster=cluster)

    rows = (await mqadmin("clusterList", "-n", name_server, "--json")).json

    assert [(r["cluster"], r["brokerName"], r["brokerId"]) for r in rows] == [
        ("c1", "z", 0),
        ("c2", "a", 0),
        ("c2", "b", 0),
        ("c2", "b", 1),
    ]


async def test_json(name_server, broker):
    broker.figures["earliestMessageTimeStamp"] = "1000"

    [row] = (await mqadmin("clusterList", "-n", name_server, "--json")).json

    assert row.pop("oldestMessageHours") > 400_000
    assert row == {
        "cluster": CLUSTER,
        "brokerName": GROUP,
        "brokerId": 0,
        "addr": broker.address,
        "version": "V4_9_8",
        "inTps": 123.456,
        "outTps": 45.6,
        "pageCacheLockMs": 0.0,
        "diskUsedRatio": 0.1234,
        "answered": True,
    }


async def test_the_spelling_of_4_9_is_read_too(name_server, broker):
    broker.figures["getTransferedTps"] = broker.figures.pop("getTransferredTps")

    [row] = (await mqadmin("clusterList", "-n", name_server, "--json")).json

    assert row["outTps"] == 45.6


@pytest.mark.parametrize("earliest", ["-1", "0", "soon"])
async def test_a_broker_without_messages_has_no_age(name_server, broker, earliest):
    broker.figures["earliestMessageTimeStamp"] = earliest

    [row] = (await mqadmin("clusterList", "-n", name_server, "--json")).json

    assert row["oldestMessageHours"] == 0.0


async def test_more_stats(name_server, broker):
    result = await mqadmin("clusterList", "-n", name_server, "-m")

    assert result.lines == [
        "#Cluster Name     #Broker Name                       #InTotalYest  #OutTotalYest"
        "  #InTotalToday #OutTotalToday",
        f"{CLUSTER:16}  {GROUP:32}              5              1              7              2",
    ]


async def test_more_stats_of_a_broker_without_them_are_zero(name_server, broker):
    broker.figures.clear()

    [row] = (await mqadmin("clusterList", "-n", name_server, "-m", "--json")).json

    assert [row[k] for k in ("inYesterday", "outYesterday", "inToday", "outToday")] == [0] * 4


async def test_a_dead_brokers_row_stays_with_blanks(name_server, broker, make_broker):
    dead = await make_broker()
    await dead.register(name_server, 2)
    [dead.address] = [f"127.0.0.1:{free_ports(1)[0]}"]
    await dead.register(name_server, 2)

    result = await mqadmin("clusterList", "-n", name_server)

    assert result.code == 0
    assert len(result.lines) == 3
    assert re.fullmatch(
        rf"{CLUSTER}\s+{GROUP}\s+2\s+{dead.address}\s+0\.00\(,ms\)\s+0\.00\(,ms\)\s+0\.00 0\.0000",
        result.lines[2],
    )
    assert f"no figures of {GROUP} id 2: connect to {dead.address} failed" in result.err


async def test_silent_brokers_are_waited_for_together_not_one_after_the_other(
    name_server, make_broker, monkeypatch
):
    monkeypatch.setattr(session, "RUNTIME_INFO_TIMEOUT_MS", 300)
    brokers = [await make_broker() for _ in range(3)]
    waiting = asyncio.Event()
    asked = []

    async def answer_when_all_are_asked(command):
        asked.append(command)
        if len(asked) == 3:
            waiting.set()
        await waiting.wait()
        return response(0, body=b'{"table":{}}')

    for broker_id, broker in enumerate(brokers):
        broker.answers = {28: answer_when_all_are_asked}
        await broker.register(name_server, broker_id)

    rows = (await mqadmin("clusterList", "-n", name_server, "--json")).json

    assert [row["answered"] for row in rows] == [True] * 3


async def test_a_silent_broker_costs_no_more_than_its_timeout(name_server, broker, monkeypatch):
    monkeypatch.setattr(session, "RUNTIME_INFO_TIMEOUT_MS", 700)
    broker.answers = {28: lambda _: None}

    result = await mqadmin("clusterList", "-n", name_server)

    assert result.code == 0
    assert re.search(r"to request 28 within (700|6\d\d) ms", result.err)


async def test_one_cluster_only(name_server, broker, make_broker):
    await (await make_broker()).register(name_server, name="other", cluster="c2")

    rows = (await mqadmin("clusterList", "-n", name_server, "-c", "c2", "--json")).json

    assert [r["brokerName"] for r in rows] == ["other"]


async def test_an_unknown_cluster_lists_the_known_ones(name_server, broker):
    result = await mqadmin("clusterList", "-n", name_server, "-c", "nobody's")

    assert result.code == 1
    assert "knows no cluster nobody's" in result.err
    assert f"Clusters it knows: {CLUSTER}." in result.err


async def test_without_brokers_the_header_stands_alone_with_a_hint(name_server):
    result = await mqadmin("clusterList", "-n", name_server)

    assert (result.code, result.lines) == (0, [HEADER])
    assert "no broker is registered" in result.err
    assert "mqbroker -n" in result.err


async def test_an_interval_repeats_the_table(name_server, broker, monkeypatch):
    class Enough(Exception):
        pass

    pauses = []

    async def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            raise Enough

    monkeypatch.setattr(cluster_commands, "asyncio", SimpleNamespace(sleep=pause))

    with pytest.raises(Enough):
        await mqadmin("clusterList", "-n", name_server, "-i", "7")

    assert pauses == [7, 7, 7]
    assert len(broker.asked) == 3


async def test_people_get_a_table(name_server, broker, monkeypatch):
    monkeypatch.setattr(output, "on_terminal", lambda: True)

    result = await mqadmin("clusterList", "-n", name_server, env={"COLUMNS": "160"})

    assert "┃ Cluster Name" in result.out
    assert broker.address in result.out
    assert "#" not in result.out


async def test_a_narrow_terminal_keeps_whole_addresses(name_server, broker, monkeypatch):
    monkeypatch.setattr(output, "on_terminal", lambda: True)

    result = await mqadmin("clusterList", "-n", name_server, env={"COLUMNS": "80"})

    assert broker.address in result.out
    assert "InTPS(LOAD)" in result.out
    assert "SPACE" not in result.out
    assert all(len(line) <= 80 for line in result.lines)
