"""Body classes: tolerant in, standard out."""

import inspect
from contextlib import suppress
from importlib import import_module

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting.bodies.base import Body
from ledgermq.remoting.bodies.consumer import (
    ConsumerIdList,
    ConsumerStatusBody,
    LockBatchBody,
    LockOkBody,
    ResetOffsetBody,
)
from ledgermq.remoting.bodies.group import ConsumerOffsetTable, DelayOffsetTable
from ledgermq.remoting.bodies.heartbeat import HeartbeatData
from ledgermq.remoting.bodies.registration import DataVersion
from ledgermq.remoting.bodies.route import (
    BrokerData,
    ClusterInfo,
    KVTable,
    QueueData,
    TopicList,
    TopicRouteData,
)
from ledgermq.remoting.bodies.stats import MessageQueue, TopicOffset, TopicStatsTable
from ledgermq.remoting.errors import PeerError

MODULES = ("route", "registration", "heartbeat", "consumer", "stats", "group")
CLASSES: list[type[Body]] = [
    cls
    for module in MODULES
    for _, cls in inspect.getmembers(
        import_module(f"ledgermq.remoting.bodies.{module}"), inspect.isclass
    )
    if issubclass(cls, Body) and cls is not Body
]

ROUTE = TopicRouteData(
    queue_datas=[QueueData(broker_name="b", read_queue_nums=4, write_queue_nums=4, perm=6)],
    broker_datas=[
        BrokerData(cluster="c", broker_name="b", broker_addrs={0: "1.2.3.4:1", 2: "1.2.3.4:2"})
    ],
)


def test_a_route_is_compact_standard_json_with_quoted_ids() -> None:
    # The Go client dials " 127.0.0.1" when there is a blank after the colon.
    assert ROUTE.encode() == (
        b'{"queueDatas":[{"brokerName":"b","readQueueNums":4,"writeQueueNums":4,"perm":6,'
        b'"topicSysFlag":0}],"brokerDatas":[{"cluster":"c","brokerName":"b","brokerAddrs":'
        b'{"0":"1.2.3.4:1","2":"1.2.3.4:2"},"enableActingMaster":false}],'
        b'"filterServerTable":{}}'
    )


def test_none_is_left_out_at_any_depth() -> None:
    text = ROUTE.encode().decode()
    assert "orderTopicConf" not in text
    assert "zoneName" not in text
    assert "null" not in text
    with_conf = TopicRouteData(order_topic_conf="b:8").encode()
    assert msgspec.json.decode(with_conf)["orderTopicConf"] == "b:8"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_body_has_a_default_for_every_field(cls: type[Body]) -> None:
    for empty in (b"", b"{}", b"{}\n"):
        assert cls.decode(empty) == cls()
    assert cls.decode(cls().encode()) == cls()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_field_may_be_null(cls: type[Body]) -> None:
    nulls = {f.encode_name: None for f in msgspec.structs.fields(cls)}
    assert cls.decode(msgspec.json.encode(nulls)) == cls()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"{", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_such_body_is_a_peer_error(cls: type[Body], body: bytes) -> None:
    with pytest.raises(PeerError):
        cls.decode(body)


def test_defaults_are_not_shared() -> None:
    TopicList().topic_list.append("t")
    assert TopicList().topic_list == []


def test_the_dialect_of_106() -> None:
    body = (
        b'{"brokerAddrTable":{"b":{"brokerAddrs":{0:"127.0.0.1:1",1:"127.0.0.1:2"},'
        b'"brokerName":"b","cluster":"c"}},"clusterAddrTable":{"c":["b"]}}'
    )
    info = ClusterInfo.decode(body)
    assert info.broker_addr_table["b"].broker_addrs == {0: "127.0.0.1:1", 1: "127.0.0.1:2"}
    assert ClusterInfo.decode(info.encode()) == info


QUEUE = MessageQueue(broker_name="b", queue_id=3, topic="中")


def test_queues_as_keys_read_in_both_forms_and_leave_as_text() -> None:
    java = '{"offsetTable":{{"brokerName":"b","queueId":3,"topic":"中"}:{"maxOffset":9}}}'
    table = TopicStatsTable.decode(java.encode())
    assert table.offset_table == {QUEUE: TopicOffset(max_offset=9)}
    ours = table.encode()
    assert ours.decode() == (
        '{"offsetTable":{"{\\"brokerName\\":\\"b\\",\\"queueId\\":3,\\"topic\\":\\"中\\"}":'
        '{"minOffset":0,"maxOffset":9,"lastUpdateTimestamp":0}},"topicPutTps":0.0}'
    )
    assert TopicStatsTable.decode(ours) == table


def test_other_maps_of_queues() -> None:
    reset = ResetOffsetBody(offset_table={QUEUE: 5})
    assert ResetOffsetBody.decode(reset.encode()) == reset
    status = ConsumerStatusBody.decode(
        '{"messageQueueTable":{{"brokerName":"b","queueId":3,"topic":"中"}:7}}'.encode()
    )
    assert status.message_queue_table == {QUEUE: 7}


@pytest.mark.parametrize("key", [b'"x"', b'"{"', b"5", b'{"queueId":"x"}'])
def test_a_key_that_is_no_queue_is_a_peer_error(key: bytes) -> None:
    with pytest.raises(PeerError, match="body is no ResetOffsetBody"):
        ResetOffsetBody.decode(b'{"offsetTable":{%s:1}}' % key)


def test_a_table_that_is_no_map_is_a_peer_error() -> None:
    with pytest.raises(PeerError, match="body is no ResetOffsetBody"):
        ResetOffsetBody.decode(b'{"offsetTable":[1]}')


def test_queues_sort_by_broker_and_number() -> None:
    queues = [MessageQueue(broker_name=b, queue_id=q, topic="t") for b, q in (("b", 0), ("a", 1))]
    assert sorted(queues)[0].broker_name == "a"


def test_locks() -> None:
    body = LockBatchBody.decode(
        b'{"clientId":"c","consumerGroup":"g","mqSet":[{"brokerName":"b","queueId":0,"topic":"t"}]}'
    )
    assert (body.client_id, body.consumer_group, body.only_this_broker) == ("c", "g", False)
    assert LockOkBody(lock_ok_mq_set=body.mq_set).encode() == (
        b'{"lockOKMQSet":[{"brokerName":"b","queueId":0,"topic":"t"}]}'
    )


def test_offsets_of_groups_and_delay_levels() -> None:
    offsets = ConsumerOffsetTable.decode(b'{"offsetTable":{"t@g":{0:123,1:5}}}')
    assert offsets.offset_table == {"t@g": {0: 123, 1: 5}}
    assert b'{"t@g":{"0":123,"1":5}}' in offsets.encode()
    delays = DelayOffsetTable.decode(b'{"dataVersion":{"counter":2},"offsetTable":{1:2,3:2\t}\n}')
    assert delays.offset_table == {1: 2, 3: 2}
    assert delays.data_version == DataVersion(counter=2)


def test_a_cpp_heartbeat() -> None:
    body = (
        b'{"clientID":"c","consumerDataSet":[{"consumeFromWhere":0,"consumeType":1,"groupName":'
        b'"g","messageModel":1,"subscriptionDataSet":[{"subString":"*","subVersion":'
        b'"1795259738132","topic":"t"}]}],"producerDataSet":[]}\n'
    )
    (consumer,) = HeartbeatData.decode(body).consumer_data_set
    assert consumer.consume_type == "CONSUME_PASSIVELY"
    assert consumer.message_model == "CLUSTERING"
    assert consumer.consume_from_where == "CONSUME_FROM_LAST_OFFSET"
    (subscription,) = consumer.subscription_data_set
    assert subscription.sub_version == 1795259738132
    assert subscription.expression_type == "TAG"


@pytest.mark.parametrize(
    "consumers", [b"5", b"[5]", b'[{"consumeType":99}]', b'[{"consumeType":-1}]', b'{"a":1}']
)
def test_a_heartbeat_with_broken_consumers_is_a_peer_error(consumers: bytes) -> None:
    with pytest.raises(PeerError, match="body is no HeartbeatData"):
        HeartbeatData.decode(b'{"consumerDataSet":%s}' % consumers)


def test_a_heartbeat_that_is_a_list_is_a_peer_error() -> None:
    with pytest.raises(PeerError, match="body is no HeartbeatData"):
        HeartbeatData.decode(b"[{1:2}]")


def test_a_wrong_type_is_a_peer_error_that_names_it() -> None:
    with pytest.raises(PeerError, match=r"body is no ConsumerIdList: .*consumerIdList"):
        ConsumerIdList.decode(b'{"consumerIdList":{"a":1}}')


def test_references_are_followed() -> None:
    route = TopicRouteData.decode(
        b'{"queueDatas":[{"brokerName":"b","perm":6},{"$ref":"$.queueDatas[0]"}]}'
    )
    assert route.queue_datas[0] == route.queue_datas[1] == QueueData(broker_name="b", perm=6)


def test_references_cannot_blow_up() -> None:
    bomb = '{"queueDatas":[{"$ref":"$"}]}'
    with pytest.raises(PeerError, match="references to more than"):
        TopicRouteData.decode(bomb.encode())


def test_numbers_as_text_are_read() -> None:
    data = QueueData.decode(b'{"perm":"6","readQueueNums":"4"}')
    assert (data.perm, data.read_queue_nums) == (6, 4)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=5))
def test_tables_survive(table: dict[str, str]) -> None:
    with suppress(UnicodeEncodeError):
        body = KVTable(table=table).encode()
        assert KVTable.decode(body).table == table


@given(st.sampled_from(CLASSES), st.binary(max_size=80))
def test_random_bytes_give_a_body_or_a_peer_error(cls: type[Body], data: bytes) -> None:
    with suppress(PeerError):
        cls.decode(data)
    with suppress(PeerError):
        cls.decode(b'{"$ref":' + data + b"}")


@given(
    st.sampled_from(CLASSES),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("$.@[]ab0", max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["$ref", "offsetTable", "consumerDataSet", "consumeType", "topicList"]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    ),
)
def test_random_documents_give_a_body_or_a_peer_error(cls: type[Body], document: object) -> None:
    with suppress(PeerError):
        cls.decode(msgspec.json.encode(document))


def test_a_heartbeat_of_megabytes_is_refused_before_it_is_read() -> None:
    body = b'{"consumerDataSet":[' + b"{}," * 100_000 + b"{}]}"
    with pytest.raises(PeerError, match="over the limit of 262144"):
        HeartbeatData.decode(body)
