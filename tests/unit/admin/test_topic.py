"""topicList, topicRoute, topicStatus, updateTopic."""

import pytest

from ledgermq.admin import output
from ledgermq.remoting.bodies.consumer import GroupList
from ledgermq.remoting.bodies.stats import MessageQueue, TopicOffset, TopicStatsTable
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode as Code
from ledgermq.remoting.command import request, response
from ledgermq.remoting.headers.namesrv import KVConfigRequest
from ledgermq.remoting.headers.topic import CreateTopicRequest
from tests.support import free_ports

from .conftest import CLUSTER, GROUP, mqadmin


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")


# --- topicList ----------------------------------------------------------------------------------


async def test_topic_list_prints_names_only(name_server, broker):
    await broker.register(name_server, topics=["T", "A", "%RETRY%g"])

    result = await mqadmin("topicList", "-n", name_server)

    assert (result.code, result.lines) == (0, ["%RETRY%g", "A", "T"])


async def test_topic_list_on_a_terminal_and_as_json(name_server, broker, terminal):
    shown = await mqadmin("topicList", "-n", name_server)
    as_json = await mqadmin("topicList", "-n", name_server, "--json")

    assert "┃ Topic ┃" in shown.out
    assert as_json.json == [{"topic": "T"}]


async def test_topic_list_with_clusters_and_groups(name_server, broker):
    await broker.register(name_server, topics=["T", "%RETRY%g", "%DLQ%g"])
    broker.answers[Code.QUERY_TOPIC_CONSUME_BY_WHO] = lambda _: response(
        0, body=GroupList(group_list=["g2", "g1"]).encode()
    )

    result = await mqadmin("topicList", "-n", name_server, "-c")

    assert result.lines == [
        f"{'#Cluster Name':20}  {'#Topic':48}  {'#Consumer Group':48}",
        f"{CLUSTER:20}  {'T':48}  {'g1':48}",
        f"{CLUSTER:20}  {'T':48}  {'g2':48}",
    ]


@pytest.mark.parametrize("alive", [True, False], ids=["refuses", "is dead"])
async def test_topic_list_with_groups_of_a_broker_that_does_not_tell(
    name_server, broker, make_broker, alive
):
    if not alive:
        [port] = free_ports(1)
        broker.address = f"127.0.0.1:{port}"
        await broker.register(name_server, topics=["T"])

    result = await mqadmin("topicList", "-n", name_server, "-c", "--json")

    assert result.json == [{"cluster": CLUSTER, "topic": "T", "consumerGroup": None}]


# --- topicRoute ---------------------------------------------------------------------------------


async def test_topic_route_in_a_pipe_is_json(name_server, broker):
    plain = await mqadmin("topicRoute", "-n", name_server, "-t", " T ")
    as_json = await mqadmin("topicRoute", "-n", name_server, "-t", "T", "-l", "--json")

    assert plain.code == 0
    assert plain.json["brokerDatas"][0]["brokerAddrs"] == {"0": broker.address}
    assert plain.json["queueDatas"][0]["readQueueNums"] == 2
    assert as_json.out == plain.out


async def test_topic_route_as_a_list(name_server, broker, make_broker):
    follower = await make_broker()
    await follower.register(name_server, 2)
    other = await make_broker()
    await other.register(name_server, name="Other", topics=["T"], read_queue_nums=3)

    result = await mqadmin("topicRoute", "-n", name_server, "-t", "T", "-l")

    assert [line.split() for line in result.lines[:1]] == [
        ["#ClusterName", "#BrokerName", "#BrokerAddrs", "#ReadQueue", "#WriteQueue", "#Perm"]
    ]
    addrs = f"{{0={broker.address}, 2={follower.address}}}"
    assert result.lines[1] == (
        f"{CLUSTER:45} {'Other':32} {f'{{0={other.address}}}':50} 3          16          6    "
    )
    assert result.lines[2] == f"{CLUSTER:45} {GROUP:32} {addrs:50} 2          2           6    "
    assert result.lines[3] == "-" * 158
    assert result.lines[4].split() == ["Total:", "2", "5", "18"]


async def test_topic_route_on_a_terminal_is_a_table(name_server, broker, terminal):
    result = await mqadmin("topicRoute", "-n", name_server, "-t", "T")

    assert "┃ ClusterName" in result.out
    assert f"{{0={broker.address}}}" in result.out


@pytest.mark.parametrize("command", ["topicRoute", "topicStatus", "consumeMessage"])
async def test_a_missing_topic_is_named_with_the_next_steps(name_server, broker, command):
    result = await mqadmin(command, "-n", name_server, "-t", "nobodys")

    assert result.code == 1
    assert result.out == ""
    assert f"the name server {name_server} knows no topic nobodys" in result.err
    assert f"mqadmin updateTopic -n {name_server} -c <cluster> -t nobodys" in result.err


# --- topicStatus --------------------------------------------------------------------------------


def stats(name, *queues):
    table = {
        MessageQueue(broker_name=name, queue_id=i, topic="T"): TopicOffset(
            min_offset=low, max_offset=high, last_update_timestamp=at
        )
        for i, (low, high, at) in enumerate(queues)
    }
    return lambda _: response(0, body=TopicStatsTable(offset_table=table).encode())


async def test_topic_status(name_server, broker, make_broker, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    broker.answers[Code.GET_TOPIC_STATS_INFO] = stats(GROUP, (0, 7, 0), (1, 12, 0))
    other = await make_broker()
    await other.register(name_server, 2, name="Other", topics=[])
    await other.register(name_server, 0, name="Other", topics=["T"])
    other.answers[Code.GET_TOPIC_STATS_INFO] = stats("Other", (0, 1, 0))

    result = await mqadmin("topicStatus", "-n", name_server, "-t", "T")

    assert result.code == 0
    assert result.lines == [
        f"{'#Broker Name':32}  #QID  #Min Offset           #Max Offset             #Last Updated",
        f"{'Other':32}  0     0                     1                       ",
        f"{GROUP:32}  0     0                     7                       ",
        f"{GROUP:32}  1     1                     12                      ",
    ]


async def test_topic_status_shows_local_time_and_ms(name_server, broker):
    broker.answers[Code.GET_TOPIC_STATS_INFO] = stats(GROUP, (0, 7, 1_700_000_000_005))

    plain = await mqadmin("topicStatus", "-n", name_server, "-t", "T")
    as_json = await mqadmin("topicStatus", "-n", name_server, "-t", "T", "--json")

    # The zone shifts days, hours and minutes only.
    date, time = plain.lines[1].split()[-2:]
    assert date.startswith("2023-11-1")
    assert time.endswith(":20,005")
    assert as_json.json == [
        {
            "brokerName": GROUP,
            "queueId": 0,
            "minOffset": 0,
            "maxOffset": 7,
            "lastUpdateTimestamp": 1_700_000_000_005,
        }
    ]


async def test_topic_status_asks_a_follower_when_there_is_no_leader(name_server, broker):
    broker.answers[Code.GET_TOPIC_STATS_INFO] = stats(GROUP, (0, 7, 0))
    await broker.register(name_server, 1)

    result = await mqadmin("topicStatus", "-n", name_server, "-t", "T", "--json")

    assert [row["maxOffset"] for row in result.json] == [7]


async def test_topic_status_of_a_dead_broker_says_who(name_server, broker):
    [port] = free_ports(1)
    broker.address = f"127.0.0.1:{port}"
    await broker.register(name_server, topics=["T"])

    result = await mqadmin("topicStatus", "-n", name_server, "-t", "T")

    assert result.code == 1
    assert f"the broker 127.0.0.1:{port} does not answer" in result.err
    assert f"mqadmin clusterList -n {name_server}" in result.err


# --- updateTopic --------------------------------------------------------------------------------


async def kv(name_server, topic):
    header = KVConfigRequest(namespace="ORDER_TOPIC_CONFIG", key=topic)
    client = RemotingClient()
    try:
        answer = await client.request(
            name_server, request(Code.GET_KV_CONFIG, header.to_ext()), 5000
        )
    finally:
        await client.close()
    return answer.ext.get("value")


@pytest.fixture
def willing(broker):
    broker.answers[Code.UPDATE_AND_CREATE_TOPIC] = lambda _: response(0)
    return broker


def created(broker):
    return [
        CreateTopicRequest.from_ext(c.ext)
        for c in broker.asked
        if c.code == Code.UPDATE_AND_CREATE_TOPIC
    ]


async def test_update_topic_in_a_cluster(name_server, willing, make_broker):
    other = await make_broker()
    await other.register(name_server, name="Other")
    other.answers = willing.answers
    follower = await make_broker()
    await follower.register(name_server, 2)

    result = await mqadmin("updateTopic", "-n", name_server, "-c", CLUSTER, "-t", " New ")

    assert result.code == 0, result.err
    assert result.lines == [
        f"create topic to {other.address} success.",
        f"create topic to {willing.address} success.",
        "TopicConfig [topicName=New, readQueueNums=8, writeQueueNums=8, perm=RW-,"
        " topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false]",
    ]
    assert follower.asked == []
    [header] = created(willing)
    assert header.default_topic == "TBW102"
    assert (header.topic, header.read_queue_nums, header.write_queue_nums) == ("New", 8, 8)
    assert (header.perm, header.topic_filter_type, header.order) == (6, "SINGLE_TAG", False)


async def test_update_topic_takes_every_flag(name_server, willing):
    flags = ["-r", "3", "-w", "2", "-p", "4", "-u", "true", "-s", "true"]

    result = await mqadmin(
        "updateTopic", "-n", name_server, "-b", willing.address, "-t", "New", *flags, "--json"
    )

    assert result.json == {"topic": "New", "brokers": [willing.address]}
    [header] = created(willing)
    assert (header.read_queue_nums, header.write_queue_nums) == (3, 2)
    assert (header.perm, header.topic_sys_flag) == (4, 3)


async def test_an_ordered_topic_is_told_to_the_name_server(name_server, willing, make_broker):
    other = await make_broker()
    await other.register(name_server, name="Other")
    other.answers = willing.answers
    arguments = ["updateTopic", "-n", name_server, "-t", "O", "-o", "true"]

    cluster_wide = await mqadmin(*arguments, "-c", CLUSTER, "-w", "4")
    assert await kv(name_server, "O") == f"Other:4;{GROUP}:4"
    one = await mqadmin(*arguments, "-b", willing.address, "-w", "9")

    assert await kv(name_server, "O") == f"Other:4;{GROUP}:9"
    assert (
        f"set cluster orderConf. isOrder=true, orderConf=[Other:4;{GROUP}:4]" in cluster_wide.lines
    )
    assert f"set broker orderConf. isOrder=true, orderConf=[Other:4;{GROUP}:9]" in one.lines


async def test_an_ordered_topic_on_one_broker_is_the_first_entry(name_server, willing):
    await mqadmin("updateTopic", "-n", name_server, "-b", willing.address, "-t", "O", "-o", "true")

    assert await kv(name_server, "O") == f"{GROUP}:8"


async def test_an_order_that_one_name_server_did_not_take_is_reported(name_server, willing):
    [dead] = free_ports(1)

    result = await mqadmin(
        "updateTopic", "-n", f"{name_server};127.0.0.1:{dead}", "-c", CLUSTER, "-t", "O",
        "-o", "true",
    )  # fmt: skip

    assert result.code == 1
    assert f"the name server 127.0.0.1:{dead} did not take the change" in result.err


@pytest.mark.parametrize("where", [[], ["-b", "h:1", "-c", "c"]], ids=["neither", "both"])
async def test_update_topic_needs_one_place(name_server, where):
    result = await mqadmin("updateTopic", "-n", name_server, "-t", "New", *where)

    assert result.code == 1
    assert "needs either a broker or a cluster" in result.err


async def test_update_topic_in_an_unknown_cluster_lists_the_known_ones(name_server, willing):
    result = await mqadmin("updateTopic", "-n", name_server, "-c", "nobodys", "-t", "New")

    assert result.code == 1
    assert f"Clusters it knows: {CLUSTER}." in result.err
    assert created(willing) == []


async def test_update_topic_without_a_leader_changes_nothing(name_server, willing, make_broker):
    other = await make_broker()
    await other.register(name_server, 2, name="Zed")

    result = await mqadmin("updateTopic", "-n", name_server, "-c", CLUSTER, "-t", "New")

    assert result.code == 1
    assert "no leader now: Zed; nothing was changed" in result.err
    assert created(willing) == []


async def test_a_refused_topic_shows_the_brokers_reason(name_server, broker):
    broker.answers[Code.UPDATE_AND_CREATE_TOPIC] = lambda _: response(29, "bad name")

    result = await mqadmin("updateTopic", "-n", name_server, "-c", CLUSTER, "-t", "New")

    assert result.code == 1
    assert f"the broker {broker.address} refused: CODE: 29  DESC: bad name" in result.err
    assert result.out == ""


@pytest.mark.parametrize(
    "flags", [["-r", "0"], ["-w", "x"], ["-p", "7"], ["-o", "perhaps"]], ids=" ".join
)
async def test_a_bad_flag_is_a_usage_error(name_server, flags):
    result = await mqadmin("updateTopic", "-n", name_server, "-c", "c", "-t", "New", *flags)

    assert result.code == 2
    assert f"'{flags[0]}'" in result.err


async def test_a_name_server_that_hides_its_topics_is_quoted(name_server_app, name_server):
    name_server_app.server.config.enable_all_topic_list = False

    result = await mqadmin("topicList", "-n", name_server)

    assert result.code == 1
    assert "CODE: 1  DESC: disable" in result.err
    assert "its log says more" in result.err


@pytest.mark.parametrize("command", ["topicRoute", "sendMessage", "topicStatus"])
async def test_a_name_server_that_is_not_ready_is_quoted(
    name_server_app, name_server, broker, command
):
    name_server_app.server.config.need_wait_for_service = True
    body = ["-p", "x"] if command == "sendMessage" else []

    result = await mqadmin(command, "-n", name_server, "-t", "T", *body)

    assert result.code == 1
    assert "name server not ready" in result.err


async def test_topic_list_with_a_topic_that_has_just_gone(name_server_app, name_server, broker):
    table = name_server_app.server.table
    table.topics = lambda: ["Gone"]

    result = await mqadmin("topicList", "-n", name_server, "-c", "--json")

    assert result.json == [{"cluster": "", "topic": "Gone", "consumerGroup": None}]
