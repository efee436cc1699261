"""Requests over a real connection: codes, headers and bodies as brokers and clients see them."""

import json
import logging
import zlib

import pytest

from ledgermq.namesrv.app import NamesrvApp
from ledgermq.namesrv.config import NamesrvConfig
from ledgermq.remoting.bodies.registration import (
    DataVersion,
    RegisterBrokerBody,
    TopicConfig,
    TopicConfigSerializeWrapper,
)
from ledgermq.remoting.bodies.route import KVTable, QueueData, TopicRouteData
from ledgermq.remoting.codes import RequestCode as Code
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import request
from ledgermq.remoting.errors import CallerError
from ledgermq.remoting.headers.broker import (
    QueryDataVersionRequest,
    RegisterBrokerRequest,
    UnregisterBrokerRequest,
)
from ledgermq.remoting.headers.namesrv import (
    BrokerMemberGroupRequest,
    BrokerNameRequest,
    KVConfigRequest,
    KVNamespaceRequest,
    PutKVConfigRequest,
    RouteRequest,
    TopicsByClusterRequest,
)
from ledgermq.remoting.headers.topic import DeleteTopicInNamesrvRequest, TopicRequest
from tests.support import until

from .conftest import Asker

GROUP, CLUSTER = "RaftNode00", "RaftCluster"
N0, N1 = "127.0.0.1:30911", "127.0.0.1:30921"


def header(addr=N0, broker_id=0, **more):
    return RegisterBrokerRequest(
        broker_name=more.pop("name", GROUP),
        broker_addr=addr,
        cluster_name=CLUSTER,
        ha_server_addr="127.0.0.1:30912",
        broker_id=broker_id,
        **more,
    )


def body(*topics, term=1, **topic_fields):
    return RegisterBrokerBody(
        topic_config_serialize_wrapper=TopicConfigSerializeWrapper(
            topic_config_table={t: TopicConfig(topic_name=t, **topic_fields) for t in topics},
            data_version=DataVersion(state_version=term, counter=1),
        )
    )


async def registered(asker, *topics, addr=N0, broker_id=0, term=1, **topic_fields):
    answer = await asker.ask(
        Code.REGISTER_BROKER,
        header(addr, broker_id),
        body(*topics, term=term, **topic_fields).encode(),
    )
    assert answer.code == ResponseCode.SUCCESS, answer.remark
    return answer


async def addrs(asker):
    answer = await asker.ask(Code.GET_BROKER_CLUSTER_INFO)
    group = json.loads(answer.body)["brokerAddrTable"].get(GROUP)
    return group["brokerAddrs"] if group else None


async def names(asker, code, header=None):
    answer = await asker.ask(code, header)
    assert answer.code == ResponseCode.SUCCESS, answer.remark
    return json.loads(answer.body)["topicList"]


# --- registering --------------------------------------------------------------------------------


async def test_the_route_as_every_client_can_read_it(asker):
    await registered(asker, "T", read_queue_nums=4, write_queue_nums=4)

    answer = await asker.ask(Code.GET_ROUTEINFO_BY_TOPIC, RouteRequest(topic="T"))

    assert answer.code == ResponseCode.SUCCESS
    assert not set(b" \n") & set(answer.body), "the Go client needs it compact"
    assert json.loads(answer.body) == {
        "queueDatas": [
            {
                "brokerName": GROUP,
                "readQueueNums": 4,
                "writeQueueNums": 4,
                "perm": 6,
                "topicSysFlag": 0,
            }
        ],
        "brokerDatas": [
            {
                "cluster": CLUSTER,
                "brokerName": GROUP,
                "brokerAddrs": {"0": N0},
                "enableActingMaster": False,
            }
        ],
        "filterServerTable": {},
    }


async def test_an_unknown_topic_is_code_17_with_upstreams_remark(asker):
    answer = await asker.ask(Code.GET_ROUTEINFO_BY_TOPIC, RouteRequest(topic="T"))

    assert answer.code == ResponseCode.TOPIC_NOT_EXIST
    assert answer.remark == "No topic route info in name server for the topic: T"


async def test_a_follower_gets_the_leaders_addresses(asker):
    await registered(asker, "T")

    answer = await registered(asker, addr=N1, broker_id=2)

    assert answer.ext == {"masterAddr": N0, "haServerAddr": "127.0.0.1:30912"}
    assert await addrs(asker) == {"0": N0, "2": N1}


@pytest.mark.parametrize("version", [409, 477], ids=["4.9: no mapping section", "5.x: with one"])
async def test_a_compressed_registration(asker, version):
    data = body("T", "U").encode_compressed(version)

    answer = await asker.ask(Code.REGISTER_BROKER, header(compressed=True), data, version=version)

    assert answer.code == ResponseCode.SUCCESS, answer.remark
    assert await names(asker, Code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER) == ["T", "U"]


async def test_a_registration_in_fastjsons_dialect(asker):
    text = b'{"topicConfigSerializeWrapper":{"dataVersion":{"counter":1,"timestamp":2},'
    text += b'"topicConfigTable":{"T":{"topicName":"T","perm":6,"readQueueNums":4,'
    text += b'"topicFilterType":"SINGLE_TAG","writeQueueNums":4,"order":false,"topicSysFlag":0}},'
    text += b'"topicQueueMappingInfoMap":{"T":{"currIdMap":{0:0,1:1}}}},"filterServerList":[]}'

    answer = await asker.ask(Code.REGISTER_BROKER, header(), text)

    assert answer.code == ResponseCode.SUCCESS, answer.remark
    assert await names(asker, Code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER) == ["T"]


async def test_a_registration_without_a_body_brings_no_topics(asker):
    answer = await asker.ask(Code.REGISTER_BROKER, header())

    assert answer.code == ResponseCode.SUCCESS
    assert await addrs(asker) == {"0": N0}


async def test_a_damaged_body_is_refused_by_its_crc(asker):
    data = body("T").encode()
    crc = zlib.crc32(data) & 0x7FFFFFFF
    good = await asker.ask(Code.REGISTER_BROKER, header(body_crc32=crc), data)
    bad = await asker.ask(Code.REGISTER_BROKER, header(N1, body_crc32=crc), data + b" ")

    assert good.code == ResponseCode.SUCCESS
    assert (bad.code, bad.remark) == (ResponseCode.SYSTEM_ERROR, "crc32 not match")
    assert await addrs(asker) == {"0": N0}


@pytest.mark.parametrize(
    ("register", "data", "remark"),
    [
        pytest.param(header(), b"{", "not JSON", id="a body that is cut short"),
        pytest.param(header(compressed=True), b"{}", "not compressed", id="not compressed"),
        pytest.param(header("nowhere"), b"", "an address is host:port", id="no address"),
        pytest.param(header(name=""), b"", "register broker failed", id="no name"),
    ],
)
async def test_a_bad_registration_is_refused_and_the_connection_lives(
    asker, register, data, remark
):
    answer = await asker.ask(Code.REGISTER_BROKER, register, data)

    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert remark in answer.remark
    assert await addrs(asker) is None


async def test_a_missing_header_field_is_named(asker):
    answer = await asker.ask(Code.REGISTER_BROKER)

    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert "'brokerName'" in answer.remark


async def test_a_oneway_registration_counts_and_gets_no_reply(asker, caplog):
    caplog.set_level(logging.DEBUG, "ledgermq.remoting.connection")
    connection = await asker.client.connect(asker.address)
    command = request(Code.REGISTER_BROKER, header().to_ext(), body("T").encode())
    connection.oneway(command)

    # Answers of one connection come in order: a reply to the one-way would have come before.
    assert await addrs(asker) == {"0": N0}
    assert "late reply" not in caplog.text


async def test_a_stale_leader_is_told_that_it_is_ignored(asker, caplog):
    await registered(asker, "T", addr=N1, term=2)

    answer = await registered(asker, "T", addr=N0, term=1)

    assert (
        answer.remark == f"ignored: a live leader of a higher term holds id 0 of {GROUP}, not {N0}"
    )
    assert await addrs(asker) == {"0": N1}
    assert "registration ignored" in caplog.text


async def test_too_many_topics_are_left_out_with_a_warning(asker, app, caplog):
    app.server.config.max_topics = 1
    app.server.take_bounds()

    await registered(asker, "T", "U")

    assert "1 topics of broker=RaftNode00 left out" in caplog.text


async def test_brokers_get_the_order_configuration_back(asker, app):
    await asker.ask(
        Code.PUT_KV_CONFIG,
        PutKVConfigRequest(namespace="ORDER_TOPIC_CONFIG", key="T", value="RaftNode00:4"),
    )
    answer = await registered(asker, "T")
    assert KVTable.decode(answer.body).table == {"T": "RaftNode00:4"}

    app.server.config.return_order_topic_config_to_broker = False

    assert (await registered(asker, "T")).body == b""


# --- leaving ------------------------------------------------------------------------------------


async def test_unregister(asker):
    await registered(asker, "T")
    goodbye = UnregisterBrokerRequest(
        broker_name=GROUP, broker_addr=N0, cluster_name=CLUSTER, broker_id=0
    )

    first = await asker.ask(Code.UNREGISTER_BROKER, goodbye)
    again = await asker.ask(Code.UNREGISTER_BROKER, goodbye)

    assert (first.code, again.code) == (0, 0)
    assert await addrs(asker) is None


async def test_a_closed_connection_takes_the_leader_along_and_followers_keep_the_topic(app, asker):
    leader = Asker(app.port)
    await registered(leader, "T", addr=N0)
    await registered(asker, addr=N1, broker_id=2)

    await leader.close()

    async def leader_is_gone():
        return await addrs(asker) == {"2": N1}

    await until(leader_is_gone, what="the leader's removal")
    answer = await asker.ask(Code.GET_ROUTEINFO_BY_TOPIC, RouteRequest(topic="T"))
    route = TopicRouteData.decode(answer.body)
    assert [q.broker_name for q in route.queue_datas] == [GROUP]
    assert route.broker_datas[0].broker_addrs == {2: N1}


async def test_a_broker_that_reconnected_first_survives_its_old_connection(app, asker):
    old = Asker(app.port)
    await registered(old, "T")
    await registered(asker, "T")

    await old.close()
    await until(lambda: app.connections == 1, what="the old connection's end")

    assert await addrs(asker) == {"0": N0}


async def test_silence_is_noticed_by_the_scan(config, clock):
    config.scan_not_active_broker_interval = 1
    app = NamesrvApp(config, clock)
    await app.start()
    asker = Asker(app.port)
    try:
        await asker.ask(
            Code.REGISTER_BROKER, header(N0, heartbeat_timeout_millis=1000), body("T").encode()
        )
        await registered(asker, addr=N1, broker_id=2)
        clock.ms = 1001

        async def silent_one_is_gone():
            return await addrs(asker) == {"2": N1}

        await until(silent_one_is_gone, what="the silent broker's removal")
    finally:
        await asker.close()
        await app.stop()


async def test_query_data_version(asker, clock):
    question = QueryDataVersionRequest(
        broker_name=GROUP, broker_addr=N0, cluster_name=CLUSTER, broker_id=0
    )
    mine = DataVersion(state_version=1, counter=1)

    unknown = await asker.ask(Code.QUERY_DATA_VERSION, question, mine.encode())
    await registered(asker, "T", term=1)
    same = await asker.ask(Code.QUERY_DATA_VERSION, question, mine.encode())
    newer = await asker.ask(
        Code.QUERY_DATA_VERSION, question, DataVersion(state_version=1, counter=2).encode()
    )

    assert (unknown.ext, unknown.body) == ({"changed": "true"}, b"")
    assert same.ext == {"changed": "false"}
    assert DataVersion.decode(same.body) == mine
    assert newer.ext == {"changed": "true"}


# --- lists --------------------------------------------------------------------------------------


async def test_topic_lists(asker, app):
    await registered(asker, "T", "Unit", topic_sys_flag=0)
    app.server.table.route("Unit").queue_datas[0].topic_sys_flag = 3

    assert await names(asker, Code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER) == ["T", "Unit"]
    in_cluster = TopicsByClusterRequest(cluster=CLUSTER)
    assert await names(asker, Code.GET_TOPICS_BY_CLUSTER, in_cluster) == ["T", "Unit"]
    assert await names(asker, Code.GET_UNIT_TOPIC_LIST) == ["Unit"]
    assert await names(asker, Code.GET_HAS_UNIT_SUB_TOPIC_LIST) == ["Unit"]
    assert await names(asker, Code.GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST) == []
    system = await asker.ask(Code.GET_SYSTEM_TOPIC_LIST_FROM_NS)
    assert json.loads(system.body) == {"topicList": [CLUSTER, GROUP], "brokerAddr": N0}


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("enable_all_topic_list", Code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER),
        ("enable_topic_list", Code.GET_SYSTEM_TOPIC_LIST_FROM_NS),
        ("enable_topic_list", Code.GET_TOPICS_BY_CLUSTER),
        ("enable_topic_list", Code.GET_UNIT_TOPIC_LIST),
    ],
)
async def test_lists_can_be_switched_off(asker, app, field, code):
    setattr(app.server.config, field, False)

    answer = await asker.ask(code, TopicsByClusterRequest(cluster=CLUSTER))

    assert (answer.code, answer.remark) == (ResponseCode.SYSTEM_ERROR, "disable")


@pytest.mark.parametrize(
    ("name", "wanted"), [(GROUP, {"0": N0}), ("nobody", {})], ids=["known", "unknown"]
)
async def test_member_group(asker, name, wanted):
    await registered(asker, "T")

    answer = await asker.ask(
        Code.GET_BROKER_MEMBER_GROUP,
        BrokerMemberGroupRequest(cluster_name=CLUSTER, broker_name=name),
    )

    assert json.loads(answer.body) == {
        "brokerMemberGroup": {"cluster": CLUSTER, "brokerName": name, "brokerAddrs": wanted}
    }


# --- an operator's changes ----------------------------------------------------------------------


async def test_write_permission_is_taken_and_given(asker):
    await registered(asker, "T", "U")
    name = BrokerNameRequest(broker_name=GROUP)

    wiped = await asker.ask(Code.WIPE_WRITE_PERM_OF_BROKER, name)
    route = await asker.ask(Code.GET_ROUTEINFO_BY_TOPIC, RouteRequest(topic="T"))
    added = await asker.ask(Code.ADD_WRITE_PERM_OF_BROKER, name)

    assert wiped.ext == {"wipeTopicCount": "2"}
    assert TopicRouteData.decode(route.body).queue_datas[0].perm == 4
    assert added.ext == {"addTopicCount": "2"}


async def test_topics_are_entered_and_deleted_by_hand(asker):
    await registered(asker, "T")
    data = TopicRouteData(queue_datas=[QueueData(broker_name=GROUP, perm=6)])

    await asker.ask(Code.REGISTER_TOPIC_IN_NAMESRV, TopicRequest(topic="Hand"), data.encode())
    await asker.ask(Code.REGISTER_TOPIC_IN_NAMESRV, TopicRequest(topic="No body"))
    assert await names(asker, Code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER) == ["Hand", "T"]

    for topic in ("Hand", "never there"):
        gone = await asker.ask(
            Code.DELETE_TOPIC_IN_NAMESRV, DeleteTopicInNamesrvRequest(topic=topic)
        )
        assert gone.code == ResponseCode.SUCCESS
    assert await names(asker, Code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER) == ["T"]


async def test_key_value_pairs(asker, tmp_path):
    pair = KVConfigRequest(namespace="ns", key="k")
    put = PutKVConfigRequest(namespace="ns", key="k", value="v")
    missing = await asker.ask(Code.GET_KV_CONFIG, pair)
    assert (missing.code, missing.remark) == (
        ResponseCode.QUERY_NOT_FOUND,
        "No config item, Namespace: ns Key: k",
    )

    assert (await asker.ask(Code.PUT_KV_CONFIG, put)).code == ResponseCode.SUCCESS
    assert json.loads((tmp_path / "kvConfig.json").read_text())["configTable"]["ns"] == {"k": "v"}
    assert (await asker.ask(Code.GET_KV_CONFIG, pair)).ext == {"value": "v"}
    listed = await asker.ask(Code.GET_KVLIST_BY_NAMESPACE, KVNamespaceRequest(namespace="ns"))
    assert json.loads(listed.body) == {"table": {"k": "v"}}

    assert (await asker.ask(Code.DELETE_KV_CONFIG, pair)).code == ResponseCode.SUCCESS
    listed = await asker.ask(Code.GET_KVLIST_BY_NAMESPACE, KVNamespaceRequest(namespace="ns"))
    assert listed.code == ResponseCode.QUERY_NOT_FOUND


async def test_routes_carry_the_order_configuration_when_asked_to(asker, app):
    await registered(asker, "T")
    await asker.ask(
        Code.PUT_KV_CONFIG,
        PutKVConfigRequest(namespace="ORDER_TOPIC_CONFIG", key="T", value="RaftNode00:16"),
    )

    async def order():
        answer = await asker.ask(Code.GET_ROUTEINFO_BY_TOPIC, RouteRequest(topic="T"))
        return TopicRouteData.decode(answer.body).order_topic_conf

    assert await order() is None
    app.server.config.order_message_enable = True
    assert await order() == "RaftNode00:16"


async def test_no_route_is_answered_before_brokers_could_register(asker, app, clock):
    app.server.config.need_wait_for_service = True
    await registered(asker, "T")

    clock.ms = 44_999
    early = await asker.ask(Code.GET_ROUTEINFO_BY_TOPIC, RouteRequest(topic="T"))
    clock.ms = 45_000
    later = await asker.ask(Code.GET_ROUTEINFO_BY_TOPIC, RouteRequest(topic="T"))

    assert (early.code, early.remark) == (ResponseCode.SYSTEM_ERROR, "name server not ready")
    assert later.code == ResponseCode.SUCCESS


# --- configuration while running ----------------------------------------------------------------


async def test_the_configuration_can_be_read(asker):
    answer = await asker.ask(Code.GET_NAMESRV_CONFIG)

    lines = answer.body.decode().splitlines()
    assert "listenPort=0" in lines
    assert lines == sorted(lines)


async def test_a_change_takes_effect_and_is_written_to_the_file(asker, app, tmp_path):
    path = tmp_path / "namesrv.properties"
    path.write_text("# mine\nlistenPort = 9876\norderMessageEnable = false\n")

    answer = await asker.ask(
        Code.UPDATE_NAMESRV_CONFIG, body=b"orderMessageEnable=true\nmaxBrokers=7\n"
    )

    assert answer.code == ResponseCode.SUCCESS, answer.remark
    assert app.server.config.order_message_enable is True
    assert app.server.table.max_members == 7
    assert path.read_text() == (
        "# mine\nlistenPort = 9876\norderMessageEnable=true\nmaxBrokers=7\n"
    )


@pytest.mark.parametrize(
    ("text", "code", "remark"),
    [
        ("kvConfigPath=/tmp/x", ResponseCode.NO_PERMISSION, "Can not update config in black list"),
        ("listenPort=1", ResponseCode.INVALID_PARAMETER, "takes effect at a start only"),
        ("orderMesageEnable=true", ResponseCode.INVALID_PARAMETER, "mean orderMessageEnable?"),
        ("maxBrokers=0", ResponseCode.INVALID_PARAMETER, "request:2: maxBrokers is '0'"),
        ("no equals sign", ResponseCode.INVALID_PARAMETER, "request:2: "),
    ],
    ids=["black list", "not while running", "unknown", "bad value", "no property"],
)
async def test_a_refused_change_changes_nothing(asker, app, tmp_path, text, code, remark):
    answer = await asker.ask(
        Code.UPDATE_NAMESRV_CONFIG, body=f"orderMessageEnable=true\n{text}\n".encode()
    )

    assert answer.code == code
    assert remark in answer.remark
    assert app.server.config.order_message_enable is False
    assert not (tmp_path / "namesrv.properties").exists()


# --- the application ----------------------------------------------------------------------------


async def test_a_taken_port_is_named_with_the_way_to_its_holder(app, tmp_path):
    config = NamesrvConfig(
        listen_port=app.port, bind_address="127.0.0.1", kv_config_path=str(tmp_path / "kv.json")
    )

    with pytest.raises(CallerError, match=f"lsof -i:{app.port}"):
        await NamesrvApp(config).start()


async def test_after_stop_nothing_listens_and_stopping_twice_is_fine(config):
    app = NamesrvApp(config)
    await app.start()
    first = Asker(app.port)
    await addrs(first)

    await app.stop()
    await app.stop()

    again = NamesrvApp(NamesrvConfig(**{**_fields(config), "listen_port": app.port}))
    await again.start()
    await again.stop()
    await first.close()


def _fields(config):
    return {name: getattr(config, name) for name in type(config).__dataclass_fields__}
