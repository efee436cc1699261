"""Whatever one peer sends, the others are served and the tables stay as they were."""

import asyncio
import json

import pytest

from ledgermq.remoting import frame
from ledgermq.remoting.codes import RequestCode as Code
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.headers.broker import RegisterBrokerRequest
from ledgermq.remoting.headers.namesrv import PutKVConfigRequest
from tests.support import until

from .conftest import Asker

ADDR = "127.0.0.1:30911"
SERVED = [
    Code.PUT_KV_CONFIG,
    Code.GET_KV_CONFIG,
    Code.DELETE_KV_CONFIG,
    Code.REGISTER_BROKER,
    Code.UNREGISTER_BROKER,
    Code.GET_ROUTEINFO_BY_TOPIC,
    Code.GET_BROKER_CLUSTER_INFO,
    Code.WIPE_WRITE_PERM_OF_BROKER,
    Code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
    Code.DELETE_TOPIC_IN_NAMESRV,
    Code.REGISTER_TOPIC_IN_NAMESRV,
    Code.GET_KVLIST_BY_NAMESPACE,
    Code.GET_TOPICS_BY_CLUSTER,
    Code.GET_SYSTEM_TOPIC_LIST_FROM_NS,
    Code.GET_UNIT_TOPIC_LIST,
    Code.GET_HAS_UNIT_SUB_TOPIC_LIST,
    Code.GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST,
    Code.UPDATE_NAMESRV_CONFIG,
    Code.GET_NAMESRV_CONFIG,
    Code.QUERY_DATA_VERSION,
    Code.ADD_WRITE_PERM_OF_BROKER,
    Code.GET_BROKER_MEMBER_GROUP,
]
# Every field that some request must have, so that a bad body is what is wrong.
EVERY_FIELD = {
    "namespace": "ns",
    "key": "k",
    "value": "v",
    "topic": "T",
    "cluster": "c",
    "brokerName": "b",
    "brokerAddr": "h:1",
    "clusterName": "c",
    "haServerAddr": "h:2",
    "brokerId": "7",
}
WITHOUT_FIELDS = {
    Code.GET_BROKER_CLUSTER_INFO,
    Code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
    Code.GET_SYSTEM_TOPIC_LIST_FROM_NS,
    Code.GET_UNIT_TOPIC_LIST,
    Code.GET_HAS_UNIT_SUB_TOPIC_LIST,
    Code.GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST,
    Code.UPDATE_NAMESRV_CONFIG,
    Code.GET_NAMESRV_CONFIG,
}
BODIES = [b"{", b"\x00\xff\xfe", b"x\x9c damaged zlib", b"[1,2]", b'"text"', b"{" * 500]


def frame_with_header(header):
    data = json.dumps(header).encode()
    return (len(data) + 4).to_bytes(4) + len(data).to_bytes(4) + data


async def register(asker):
    header = RegisterBrokerRequest(
        broker_name="RaftNode00",
        broker_addr=ADDR,
        cluster_name="RaftCluster",
        ha_server_addr="",
        broker_id=0,
    )
    assert (await asker.ask(Code.REGISTER_BROKER, header)).code == ResponseCode.SUCCESS


async def registered_addrs(asker):
    answer = await asker.ask(Code.GET_BROKER_CLUSTER_INFO)
    return {n: g["brokerAddrs"] for n, g in json.loads(answer.body)["brokerAddrTable"].items()}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="a web browser"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 32, id="TLS"),
        pytest.param(b"\xff" * 64, id="a length below zero in Java"),
        pytest.param((17 << 20).to_bytes(4) + b"\x00" * 64, id="a frame over the limit"),
        pytest.param(b"\x00\x00\x00\x02\x00\x00", id="no room for a header length"),
        pytest.param(b"\x00\x00\x00\x04\x00\x00\xff\xff", id="a header longer than its frame"),
        pytest.param(b"\x00\x00\x00\x04\x07\x00\x00\x00", id="an unknown serialisation"),
        pytest.param(b"\x00\x00\x00\x06\x00\x00\x00\x02{x", id="a header that is no JSON"),
        pytest.param(b"\x00\x00\x00\x06\x01\x00\x00\x02\x00\x67", id="a binary header cut short"),
        pytest.param(frame_with_header([]), id="a header that is a list"),
        pytest.param(frame_with_header({"code": "many"}), id="a code that is no number"),
    ],
)
async def test_bad_bytes_close_their_connection_and_nothing_else(app, asker, data, caplog):
    await register(asker)
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(data)

    closed, served = await asyncio.gather(
        asyncio.wait_for(reader.read(), 10), registered_addrs(asker)
    )

    writer.close()
    await writer.wait_closed()
    assert closed == b"", "no reply to what is no request"
    assert served == {"RaftNode00": {"0": ADDR}}
    assert len([r for r in caplog.records if "bad bytes" in r.message]) == 1, "logged once"


async def test_half_a_frame_waits_for_its_other_half(app):
    data = frame.encode(request(Code.GET_BROKER_CLUSTER_INFO))
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)

    for byte in data:
        writer.write(bytes([byte]))
        await writer.drain()
    size = int.from_bytes(await reader.readexactly(4))
    answer = frame.decode(await reader.readexactly(size))

    writer.close()
    await writer.wait_closed()
    assert answer.code == ResponseCode.SUCCESS


async def test_a_connection_closed_within_a_frame_is_forgotten(app, asker):
    await register(asker)
    _, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(frame.encode(request(Code.GET_BROKER_CLUSTER_INFO))[:-3])
    await writer.drain()
    await until(lambda: app.connections == 2)

    writer.close()
    await writer.wait_closed()

    await until(lambda: app.connections == 1)
    assert await registered_addrs(asker) == {"RaftNode00": {"0": ADDR}}


async def test_a_code_that_is_not_served_is_upstreams_code_3(asker):
    answer = await asker.ask(Code.SEND_MESSAGE)

    assert answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
    assert answer.remark == " request type 10 not supported"


@pytest.mark.parametrize("code", sorted(set(SERVED) - WITHOUT_FIELDS), ids=lambda c: c.name)
async def test_a_request_without_fields_names_the_first_missing_one(asker, code):
    answer = await asker.ask(code)

    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert "is missing" in answer.remark


@pytest.mark.parametrize("code", SERVED, ids=lambda c: c.name)
async def test_a_bad_body_is_answered_and_costs_nobody_else(asker, code, caplog):
    await register(asker)

    for body in BODIES:
        command = RemotingCommand(code, dict(EVERY_FIELD), body)
        answer = await asker.client.request(asker.address, command, 5000)
        assert answer.is_response

    addrs = await registered_addrs(asker)
    assert addrs["RaftNode00"] == {"0": ADDR}
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("field", "value"),
    [("brokerId", "zero"), ("brokerId", str(2**63)), ("bodyCrc32", "x"), ("compressed", "maybe")],
)
async def test_a_field_of_the_wrong_type_is_named(asker, field, value):
    command = RemotingCommand(Code.REGISTER_BROKER, {**EVERY_FIELD, field: value})

    answer = await asker.client.request(asker.address, command, 5000)

    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert f"'{field}' cannot be {value!r}" in answer.remark


async def test_bounds_hold_on_the_wire_too(asker, app):
    app.server.config.max_brokers = 1
    app.server.config.max_kv_entries = 1
    app.server.take_bounds()
    await register(asker)
    put = PutKVConfigRequest(namespace="ns", key="k", value="v")
    await asker.ask(Code.PUT_KV_CONFIG, put)

    broker = await asker.client.request(
        asker.address, RemotingCommand(Code.REGISTER_BROKER, dict(EVERY_FIELD)), 5000
    )
    put.key = "another"
    pair = await asker.ask(Code.PUT_KV_CONFIG, put)

    assert (broker.code, pair.code) == (ResponseCode.SYSTEM_ERROR, ResponseCode.SYSTEM_ERROR)
    assert "raise maxBrokers" in broker.remark
    assert "raise maxKvEntries" in pair.remark
    assert await registered_addrs(asker) == {"RaftNode00": {"0": ADDR}}


async def test_a_disk_that_refuses_is_told_to_the_operator(asker, tmp_path):
    (tmp_path / "kvConfig.json.tmp").mkdir()

    answer = await asker.ask(
        Code.PUT_KV_CONFIG, PutKVConfigRequest(namespace="ns", key="k", value="v")
    )

    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert "kvConfig.json.tmp" in answer.remark


async def test_many_clients_are_served_at_once(app, asker):
    await register(asker)
    askers = [Asker(app.port) for _ in range(50)]
    try:
        found = await asyncio.gather(*(registered_addrs(a) for a in askers for _ in range(4)))
    finally:
        for one in askers:
            await one.close()

    assert found == [{"RaftNode00": {"0": ADDR}}] * 200
