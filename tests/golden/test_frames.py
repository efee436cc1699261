"""Captured frames: framing, both header serialisations, headers and bodies."""

import msgspec
import pytest

from ledgermq.remoting import fastjson, frame
from ledgermq.remoting.bodies import consumer, group, heartbeat, registration, route, stats
from ledgermq.remoting.bodies.base import Body
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers import (
    broker,
    client,
    namesrv,
    offset,
    pull,
    query,
    send,
    topic,
    transaction,
)
from ledgermq.remoting.headers.base import Header
from ledgermq.remoting.message import decode_batch, decode_properties, decode_records, encode_batch
from tests.golden.captured import VERSIONS, CapturedFrame, frames

R = RequestCode

REQUEST_HEADERS: dict[int, type[Header]] = {
    R.SEND_MESSAGE: send.SendMessageRequest,
    R.SEND_MESSAGE_V2: send.SendMessageRequestV2,
    R.SEND_BATCH_MESSAGE: send.SendMessageRequestV2,
    R.SEND_REPLY_MESSAGE: send.SendMessageRequest,
    R.SEND_REPLY_MESSAGE_V2: send.SendMessageRequestV2,
    R.PUSH_REPLY_MESSAGE_TO_CLIENT: send.PushReplyRequest,
    R.CONSUMER_SEND_MSG_BACK: send.SendBackRequest,
    R.END_TRANSACTION: transaction.EndTransactionRequest,
    R.CHECK_TRANSACTION_STATE: transaction.CheckTransactionStateRequest,
    R.PULL_MESSAGE: pull.PullMessageRequest,
    R.LITE_PULL_MESSAGE: pull.PullMessageRequest,
    R.QUERY_MESSAGE: query.QueryMessageRequest,
    R.VIEW_MESSAGE_BY_ID: query.ViewMessageRequest,
    R.QUERY_CONSUME_QUEUE: query.QueryConsumeQueueRequest,
    R.GET_CONSUME_STATS: query.ConsumeStatsRequest,
    R.QUERY_CONSUMER_OFFSET: offset.QueryConsumerOffsetRequest,
    R.UPDATE_CONSUMER_OFFSET: offset.UpdateConsumerOffsetRequest,
    R.SEARCH_OFFSET_BY_TIMESTAMP: offset.SearchOffsetRequest,
    R.GET_MAX_OFFSET: offset.QueueOffsetRequest,
    R.GET_MIN_OFFSET: offset.QueueOffsetRequest,
    R.GET_EARLIEST_MSG_STORETIME: offset.QueueOffsetRequest,
    R.RESET_CONSUMER_CLIENT_OFFSET: offset.ResetOffsetRequest,
    R.INVOKE_BROKER_TO_RESET_OFFSET: offset.InvokeResetOffsetRequest,
    R.GET_CONSUMER_STATUS_FROM_CLIENT: offset.ConsumerStatusRequest,
    R.UNREGISTER_CLIENT: client.UnregisterClientRequest,
    R.GET_CONSUMER_LIST_BY_GROUP: client.ConsumerListRequest,
    R.NOTIFY_CONSUMER_IDS_CHANGED: client.NotifyConsumerIdsChangedRequest,
    R.GET_CONSUMER_CONNECTION_LIST: client.ConsumerConnectionRequest,
    R.GET_PRODUCER_CONNECTION_LIST: client.ProducerConnectionRequest,
    R.GET_CONSUMER_RUNNING_INFO: client.ConsumerRunningInfoRequest,
    R.CONSUME_MESSAGE_DIRECTLY: client.ConsumeMessageDirectlyRequest,
    R.DELETE_SUBSCRIPTIONGROUP: client.DeleteSubscriptionGroupRequest,
    R.UPDATE_AND_CREATE_TOPIC: topic.CreateTopicRequest,
    R.DELETE_TOPIC_IN_BROKER: topic.TopicRequest,
    R.DELETE_TOPIC_IN_NAMESRV: topic.DeleteTopicInNamesrvRequest,
    R.GET_TOPIC_STATS_INFO: topic.TopicRequest,
    R.GET_TOPIC_CONFIG: topic.TopicRequest,
    R.QUERY_TOPIC_CONSUME_BY_WHO: topic.TopicRequest,
    R.REGISTER_BROKER: broker.RegisterBrokerRequest,
    R.UNREGISTER_BROKER: broker.UnregisterBrokerRequest,
    R.QUERY_DATA_VERSION: broker.QueryDataVersionRequest,
    R.VIEW_BROKER_STATS_DATA: broker.ViewBrokerStatsRequest,
    R.PUT_KV_CONFIG: namesrv.PutKVConfigRequest,
    R.DELETE_KV_CONFIG: namesrv.KVConfigRequest,
    R.GET_ROUTEINFO_BY_TOPIC: namesrv.RouteRequest,
    R.WIPE_WRITE_PERM_OF_BROKER: namesrv.BrokerNameRequest,
    R.ADD_WRITE_PERM_OF_BROKER: namesrv.BrokerNameRequest,
}
REPLY_HEADERS: dict[int, type[Header]] = {
    R.SEND_MESSAGE: send.SendMessageResponse,
    R.SEND_MESSAGE_V2: send.SendMessageResponse,
    R.SEND_BATCH_MESSAGE: send.SendMessageResponse,
    R.SEND_REPLY_MESSAGE_V2: send.SendMessageResponse,
    R.PULL_MESSAGE: pull.PullMessageResponse,
    R.LITE_PULL_MESSAGE: pull.PullMessageResponse,
    R.QUERY_MESSAGE: query.QueryMessageResponse,
    R.QUERY_CONSUMER_OFFSET: offset.QueryConsumerOffsetResponse,
    R.SEARCH_OFFSET_BY_TIMESTAMP: offset.OffsetResponse,
    R.GET_MAX_OFFSET: offset.OffsetResponse,
    R.GET_MIN_OFFSET: offset.OffsetResponse,
    R.GET_EARLIEST_MSG_STORETIME: offset.EarliestStoreTimeResponse,
    R.HEART_BEAT: client.HeartbeatResponse,
    R.REGISTER_BROKER: broker.RegisterBrokerResponse,
    R.QUERY_DATA_VERSION: broker.QueryDataVersionResponse,
    R.GET_BROKER_CONFIG: broker.BrokerConfigResponse,
    R.WIPE_WRITE_PERM_OF_BROKER: namesrv.WipeWritePermResponse,
    R.ADD_WRITE_PERM_OF_BROKER: namesrv.AddWritePermResponse,
}
REQUEST_BODIES: dict[int, type[Body]] = {
    R.HEART_BEAT: heartbeat.HeartbeatData,
    R.LOCK_BATCH_MQ: consumer.LockBatchBody,
    R.UNLOCK_BATCH_MQ: consumer.LockBatchBody,
    R.CHECK_CLIENT_CONFIG: consumer.CheckClientBody,
    R.REGISTER_BROKER: registration.RegisterBrokerBody,
    R.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: group.SubscriptionGroupConfig,
    R.RESET_CONSUMER_CLIENT_OFFSET: consumer.ResetOffsetBody,
    R.QUERY_DATA_VERSION: registration.DataVersion,
}
REPLY_BODIES: dict[int, type[Body]] = {
    R.GET_BROKER_RUNTIME_INFO: route.KVTable,
    R.GET_CONSUMER_LIST_BY_GROUP: consumer.ConsumerIdList,
    R.LOCK_BATCH_MQ: consumer.LockOkBody,
    R.REGISTER_BROKER: route.KVTable,
    R.GET_ROUTEINFO_BY_TOPIC: route.TopicRouteData,
    R.GET_BROKER_CLUSTER_INFO: route.ClusterInfo,
    R.GET_ALL_SUBSCRIPTIONGROUP_CONFIG: group.SubscriptionGroupTable,
    R.GET_TOPIC_STATS_INFO: stats.TopicStatsTable,
    R.GET_CONSUMER_CONNECTION_LIST: consumer.ConsumerConnection,
    R.GET_PRODUCER_CONNECTION_LIST: consumer.ProducerConnection,
    R.GET_ALL_TOPIC_LIST_FROM_NAMESERVER: route.TopicList,
    R.GET_CONSUME_STATS: stats.ConsumeStats,
    R.INVOKE_BROKER_TO_RESET_OFFSET: consumer.ResetOffsetBody,
    R.QUERY_TOPIC_CONSUME_BY_WHO: consumer.GroupList,
    R.GET_CONSUMER_RUNNING_INFO: consumer.ConsumerRunningInfo,
    R.CONSUME_MESSAGE_DIRECTLY: consumer.ConsumeMessageDirectlyResult,
    R.VIEW_BROKER_STATS_DATA: stats.BrokerStatsData,
    R.QUERY_CONSUME_QUEUE: consumer.ConsumeQueueBody,
    R.QUERY_DATA_VERSION: registration.DataVersion,
    R.GET_TOPIC_CONFIG: registration.TopicConfig,
}
RECORD_REPLIES = {R.PULL_MESSAGE, R.LITE_PULL_MESSAGE, R.QUERY_MESSAGE, R.VIEW_MESSAGE_BY_ID}
RECORD_REQUESTS = {R.CHECK_TRANSACTION_STATE, R.CONSUME_MESSAGE_DIRECTLY}
# Bodies that are the message itself, or properties text.
OPAQUE_REQUEST_BODIES = {
    R.SEND_MESSAGE,
    R.SEND_MESSAGE_V2,
    R.SEND_BATCH_MESSAGE,
    R.SEND_REPLY_MESSAGE,
    R.SEND_REPLY_MESSAGE_V2,
    R.PUSH_REPLY_MESSAGE_TO_CLIENT,
    R.UPDATE_BROKER_CONFIG,
}
OPAQUE_REPLY_BODIES = {R.GET_BROKER_CONFIG, R.GET_NAMESRV_CONFIG}
# Codes of 5.x features, and 317, that nothing of ours handles.
NOT_OURS = {317, 400, 401, 200050, 200051, 200053}
# Fields every 5.x request may carry, and those the broker does not look at.
IGNORED_FIELDS = {"bname", "ReqT", "lo", "ns", "nsd", "oway", "removeOffset"}
# Features of 5.x that we do not have: static topics, POP, its retry policies.
IGNORED_BODY_FIELDS = {
    "mappingDataVersion",
    "topicQueueMappingInfoMap",
    "topicQueueMappingDetailMap",
    "groupRetryPolicy",
    "mqPopTable",
}

ALL = frames()
OURS = [f for f in ALL if f.request_code not in NOT_OURS]


def _ids(f: CapturedFrame) -> str:
    return f.name


def _fields(c: RemotingCommand) -> tuple[object, ...]:
    return (c.code, c.ext, c.body, c.remark, c.opaque, c.flag, c.language, c.version)


@pytest.mark.parametrize("captured", ALL, ids=_ids)
def test_a_frame_encoded_again_reads_the_same(captured: CapturedFrame) -> None:
    kind = frame.SerializeType(captured.raw[4])
    again = frame.encode(captured.command, kind)

    assert _fields(frame.decode(again[4:])) == _fields(captured.command)
    if kind is frame.SerializeType.ROCKETMQ:
        assert len(again) == len(captured.raw)


def test_both_serialisations_were_captured() -> None:
    kinds = {f.raw[4] for f in ALL}
    assert kinds == {0, 1}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("chunk", [1, 7, 1000, 1 << 20])
def test_the_whole_capture_as_one_stream(version: str, chunk: int) -> None:
    mine = [f for f in ALL if f.name.startswith(version)]
    stream = b"".join(f.raw for f in mine)
    decoder = frame.CommandDecoder()
    got = []
    for at in range(0, len(stream), chunk):
        got += decoder.feed(stream[at : at + chunk])
    assert [_fields(c) for c in got] == [_fields(f.command) for f in mine]


REQUESTS_WITH_FIELDS = [
    f for f in OURS if f.request is None and not set(f.command.ext) <= IGNORED_FIELDS
]


@pytest.mark.parametrize("captured", REQUESTS_WITH_FIELDS, ids=_ids)
def test_request_header(captured: CapturedFrame) -> None:
    ext = captured.command.ext
    header = REQUEST_HEADERS[captured.command.code].from_ext(ext)
    _assert_same_fields(header, ext)


# A refused send carries some fields of a successful one; a pull's reply is always whole.
WHOLE_REPLIES = [
    f
    for f in OURS
    if f.request is not None
    and f.command.ext
    and (f.command.code == ResponseCode.SUCCESS or f.request_code == R.PULL_MESSAGE)
]


@pytest.mark.parametrize("captured", WHOLE_REPLIES, ids=_ids)
def test_reply_header(captured: CapturedFrame) -> None:
    header = REPLY_HEADERS[captured.request_code].from_ext(captured.command.ext)
    _assert_same_fields(header, captured.command.ext)


def _assert_same_fields(header: Header, ext: dict[str, str]) -> None:
    again = header.to_ext()
    known = {name: value for name, value in ext.items() if name not in IGNORED_FIELDS}
    assert {name: again.get(name) for name in known} == known
    # What we add are defaults; reading both gives the same.
    assert type(header).from_ext(again) == header


def _body_class(captured: CapturedFrame) -> type[Body]:
    table = REQUEST_BODIES if captured.request is None else REPLY_BODIES
    return table[captured.request_code]


def _is_json(captured: CapturedFrame) -> bool:
    if captured.request is None:
        return captured.request_code not in OPAQUE_REQUEST_BODIES | RECORD_REQUESTS
    return captured.request_code not in OPAQUE_REPLY_BODIES | RECORD_REPLIES


@pytest.mark.parametrize("captured", [f for f in OURS if f.command.body and _is_json(f)], ids=_ids)
def test_body(captured: CapturedFrame) -> None:
    command, code, cls = captured.command, captured.request_code, _body_class(captured)
    if code == R.REGISTER_BROKER and captured.request is None and command.body[:1] != b"{":
        _assert_compressed_registration(command)
        return
    body = cls.decode(command.body)
    again = body.encode()

    assert cls.decode(again) == body
    # Standard JSON, compact, with nothing of the original lost.
    standard = msgspec.json.decode(again)
    assert msgspec.json.encode(standard) == again
    assert _without_ignored(fastjson.loads(command.body), standard)


def _without_ignored(original: object, ours: object) -> bool:
    """Whether everything in `original` but the ignored fields is in `ours`."""
    if isinstance(original, dict) and isinstance(ours, dict):
        ours = {_sorted_key(k): v for k, v in ours.items()}
        wanted = {k: v for k, v in original.items() if k not in IGNORED_BODY_FIELDS}
        return all(k in ours and _without_ignored(v, ours[k]) for k, v in wanted.items())
    if isinstance(original, list) and isinstance(ours, list):
        pairs = zip(original, ours, strict=True)
        return all(_without_ignored(a, b) for a, b in pairs)
    return original == ours


def _sorted_key(key: str) -> str:
    if not key.startswith("{"):
        return key
    return msgspec.json.encode(msgspec.json.decode(key), order="sorted").decode()


def _assert_compressed_registration(command: RemotingCommand) -> None:
    header = broker.RegisterBrokerRequest.of(command)
    cls = registration.RegisterBrokerBody
    if not header.compressed:
        # 5.3.3 forgets to say that it compresses; its own name server fails on that, too.
        with pytest.raises(PeerError):
            cls.decode(command.body)
    body = cls.decode_compressed(command.body, command.version)
    topics = body.topic_config_serialize_wrapper.topic_config_table
    assert "SELF_TEST_TOPIC" in topics
    assert all(name == t.topic_name and t.read_queue_nums > 0 for name, t in topics.items())
    assert body.topic_config_serialize_wrapper.data_version.timestamp > 1_795_000_000_000
    again = body.encode_compressed(command.version)
    assert cls.decode_compressed(again, command.version) == body


def test_both_compressed_registrations_were_captured() -> None:
    found = [
        f.command.version
        for f in OURS
        if f.command.code == R.REGISTER_BROKER and f.command.body[:1] == b"\x78"
    ]
    assert any(v < registration.MAPPING_VERSION for v in found)
    assert any(v >= registration.MAPPING_VERSION for v in found)


@pytest.mark.parametrize(
    "captured",
    [
        f
        for f in OURS
        if f.command.body and f.request_code in (RECORD_REPLIES if f.request else RECORD_REQUESTS)
    ],
    ids=_ids,
)
def test_records_in_bodies(captured: CapturedFrame) -> None:
    messages = decode_records(captured.command.body)
    assert messages
    for message in messages:
        assert message.msg_id == message.properties["UNIQ_KEY"]
        assert message.store_host == "127.0.0.1:33911"
        assert message.born_host.startswith("127.0.0.1:")
        assert message.topic


@pytest.mark.parametrize(
    "captured", [f for f in OURS if f.command.code == R.SEND_BATCH_MESSAGE], ids=_ids
)
def test_batches(captured: CapturedFrame) -> None:
    items = decode_batch(captured.command.body)
    assert [item.body for item in items] in (
        [b"b0", b"b1"],
        [b"batch 0", b"batch 1", b"batch 2"],
    )
    assert all(decode_properties(item.properties)["UNIQ_KEY"] for item in items)
    assert encode_batch(items) == captured.command.body
