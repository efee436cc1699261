"""10, 310 and 320: what is stored, what is answered, what is refused and in which order."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.headers.send import SendMessageRequestV2
from ledgermq.remoting.message import MessageExt, offset_msg_id
from ledgermq.remoting.message_batch import BatchItem, encode_batch
from tests.golden.captured import frames
from tests.support import until
from tests.support.brokers import HOST, Brokers, pull_all, send_request


def v2(topic: str, body: bytes = b"x", code: int = 310, **more: Any) -> RemotingCommand:
    fields: dict[str, Any] = {
        "producer_group": "PG",
        "topic": topic,
        "default_topic": "TBW102",
        "default_topic_queue_nums": 4,
        "queue_id": 0,
        "sys_flag": 0,
        "born_timestamp": 1_700_000_000_000,
        "flag": 0,
        **more,
    }
    return request(code, SendMessageRequestV2(**fields).to_ext(), body)


async def stored(group: Brokers, topic: str = "T") -> list[MessageExt]:
    return await pull_all(group, topic)


# --- what is stored and answered --------------------------------------------------------------


@pytest.mark.parametrize("make", [send_request, v2], ids=["10", "310"])
async def test_a_message_is_stored_as_it_came(tmp_path: Path, make: Any) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 4)
        app = await group.leader()
        text = "KEYS\x01k1\x02UNIQ_KEY\x01FD01\x02naïve\x01标签\x02TAGS\x01TagA\x02"
        command = make("T", b"\x00\xff body", queue_id=2, properties=text, flag=7, sys_flag=1 << 8)
        reply = await group.ask(app, command)
        assert reply.code == 0
        [message] = await pull_all(group, "T", 2)
        raw = await app.reader.read_record(message.physical_offset)
        assert raw is not None
        assert raw.endswith(f"{text}CLUSTER\x01RaftCluster\x02".encode())
        assert (message.body, message.flag, message.sys_flag) == (b"\x00\xff body", 7, 1 << 8)
        assert (message.queue_id, message.queue_offset) == (2, 0)
        assert message.born_timestamp_ms == 1_700_000_000_000
        assert message.store_host == app.config.address
        mine = group.client.peek(app.config.address)
        assert mine is not None
        assert message.born_host == mine.local
        assert reply.ext == {
            "msgId": offset_msg_id(HOST, app.config.listen_port, message.physical_offset),
            "queueId": "2",
            "queueOffset": "0",
            "transactionId": "FD01",
            "MSG_REGION": "DefaultRegion",
            "TRACE_ON": "true",
        }


@pytest.mark.parametrize("version", ["4.9.5", "5.3.3"])
async def test_the_answer_has_the_fields_of_javas(tmp_path: Path, version: str) -> None:
    """Every captured send of Java clients, sent to us."""
    async with Brokers(tmp_path, max_message_size=4 << 20) as group:
        compared = 0
        for frame in frames():
            sent = frame.request
            if (
                sent is None
                or sent.code not in (10, 310, 320)
                or not frame.name.startswith(version)
            ):
                continue
            if "TRAN_MSG" in sent.ext["i"] or "DELAY" in sent.ext["i"]:
                continue
            for topic in (sent.ext["b"],):
                if topic not in (await group.leader()).metadata.topics:
                    await group.create_topic(topic, 8)
            copy = RemotingCommand(sent.code, dict(sent.ext), sent.body)
            reply = await group.ask(await group.leader(), copy)
            assert reply.code == 0, reply.remark
            java = frame.command.ext
            # 4.9.5 does not tell the id that the client itself has sent.
            assert set(reply.ext) - {"transactionId"} == set(java) - {"transactionId"}
            assert reply.ext["queueId"] == java["queueId"]
            assert reply.ext["msgId"].count(",") == java["msgId"].count(",")
            assert all(isinstance(v, str) for v in reply.ext.values())
            if "transactionId" in java:
                assert reply.ext["transactionId"] == java["transactionId"]
            compared += 1
        assert compared > 3


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param("A\x01b", "A\x01b\x02", id="missing last separator"),
        pytest.param("A\x01b\x02", "A\x01b\x02", id="complete"),
        pytest.param("", "", id="none"),
    ],
)
async def test_properties_with_and_without_the_last_separator(
    tmp_path: Path, text: str, kept: str
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        reply = await group.ask(app, send_request("T", properties=text))
        assert "transactionId" not in reply.ext
        [message] = await stored(group)
        raw = await app.reader.read_record(message.physical_offset)
        assert raw is not None
        assert raw.endswith(f"{kept}CLUSTER\x01RaftCluster\x02".encode())


async def test_ids_with_characters_that_json_escapes_or_a_similar_name(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        for text, wanted in (
            ('UNIQ_KEY\x01a"b\\c\x02', 'a"b\\c'),
            ("X_UNIQ_KEY\x01wrong\x02UNIQ_KEY\x01right\x02", "right"),
            ("X_UNIQ_KEY\x01wrong\x02", None),
            ("UNIQ_KEY\x01é\x02", "é"),
        ):
            reply = await group.ask(await group.leader(), send_request("T", properties=text))
            assert reply.code == 0
            assert reply.ext.get("transactionId") == wanted


async def test_a_one_way_send_is_stored_and_not_answered(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        for command in (
            send_request("T", b"one"),
            send_request("Nowhere", b"refused", default_topic="none"),
            v2("T", encode_batch([BatchItem(0, b"two", b"")]), code=320),
        ):
            await group.client.oneway(app.config.address, command)
        assert await group.send("T", b"three") == 2
        assert [m.body for m in await stored(group)] == [b"one", b"two", b"three"]


async def test_a_born_host_of_ipv6(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        command = send_request("T")
        command.ext["lmqClient"] = "2001:db8::1:4711"
        assert (await group.ask(await group.leader(), command)).code == 0
        await group.send("T", b"after")
        first, second = await stored(group)
        assert first.born_host == "[2001:db8::1]:4711"
        assert first.sys_flag & 0x10
        assert second.body == b"after"
        command = send_request("T")
        command.ext["lmqClient"] = "no address"
        assert (await group.ask(await group.leader(), command)).code == 1


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [320, 10], ids=["320", "10 with the batch flag"])
async def test_a_batch_is_several_records_of_one_answer(tmp_path: Path, code: int) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        await group.send("T")
        items = [BatchItem(i, b"b%d" % i, b"KEYS\x01k%d" % i) for i in range(5)]
        header = {"properties": "UNIQ_KEY\x01BATCH\x02WAIT\x01true\x02", "batch": True}
        make = v2 if code == 320 else send_request
        command = make("T", encode_batch(items), **header)
        command.code = code
        reply = await group.ask(app, command)
        assert reply.code == 0, reply.remark
        found = (await stored(group))[1:]
        assert [m.body for m in found] == [i.body for i in items]
        assert [m.flag for m in found] == [0, 1, 2, 3, 4]
        assert [m.keys for m in found] == [[f"k{i}"] for i in range(5)]
        assert [m.properties["CLUSTER"] for m in found] == ["RaftCluster"] * 5
        assert [m.queue_offset for m in found] == [1, 2, 3, 4, 5]
        assert reply.ext["queueOffset"] == "1"
        assert reply.ext["msgId"] == ",".join(m.offset_msg_id for m in found)
        assert reply.ext["transactionId"] == "BATCH"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", 13, id="empty"),
        pytest.param(b"\x00\x00\x00\x05\x00", 13, id="cut short"),
        pytest.param(encode_batch([BatchItem(0, b"b", b"\xff\xfe")]), 13, id="not UTF-8"),
        pytest.param(
            encode_batch([BatchItem(0, b"a", b""), BatchItem(0, b"b", b"k\x01" + b"v" * 32_760)]),
            13,
            id="properties too long",
        ),
        pytest.param(
            encode_batch([BatchItem(0, b"b", f"REAL_TOPIC\x01{INTERNAL_TOPIC}\x02".encode())]),
            16,
            id="internal topic",
        ),
        pytest.param(
            encode_batch([BatchItem(0, b"b", b"TRAN_MSG\x01true\x02")]), 16, id="half message"
        ),
        pytest.param(encode_batch([BatchItem(0, b"b", b"DELAY\x013\x02")]), 13, id="delayed"),
    ],
)
async def test_a_bad_batch_is_refused_as_a_whole(tmp_path: Path, body: bytes, code: int) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        reply = await group.ask(await group.leader(), v2("T", body, code=320, batch=True))
        assert reply.code == code, reply.remark
        assert await stored(group) == []
        assert await group.send("T") == 0


@pytest.mark.parametrize("topic", ["%RETRY%CG", "%DLQ%" + "g" * 130])
async def test_no_batch_for_retries_and_long_names(tmp_path: Path, topic: str) -> None:
    async with Brokers(tmp_path) as group:
        command = v2(topic, encode_batch([BatchItem(0, b"b", b"")]), code=320)
        assert (await group.ask(await group.leader(), command)).code == 13


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "more", "code"),
    [
        pytest.param(INTERNAL_TOPIC, {}, 16, id="internal topic"),
        pytest.param("bad topic!", {}, 29, id="bad characters"),
        pytest.param("", {}, 29, id="no name"),
        pytest.param("t" * 128, {}, 29, id="name too long"),
        pytest.param("SCHEDULE_TOPIC_XXXX", {}, 16, id="system topic"),
        pytest.param("RMQ_SYS_TRANS_HALF_TOPIC", {}, 16, id="half topic"),
        pytest.param("Unknown", {"default_topic": "none"}, 17, id="unknown topic"),
        pytest.param("T", {"queue_id": 4}, 29, id="queue id"),
        pytest.param("Locked", {}, 16, id="not writable"),
        pytest.param(
            "T", {"properties": f"REAL_TOPIC\x01{INTERNAL_TOPIC}\x02"}, 16, id="REAL_TOPIC"
        ),
        pytest.param("T", {"properties": f"RETRY_TOPIC\x01{INTERNAL_TOPIC}"}, 16, id="RETRY_TOPIC"),
        pytest.param("T", {"properties": "TRAN_MSG\x01true\x02"}, 16, id="half message"),
        pytest.param("T", {"sys_flag": 4}, 16, id="prepared flag"),
        pytest.param("T", {"sys_flag": 8}, 16, id="commit flag"),
        pytest.param("T", {"properties": "DELAY\x013\x02"}, 13, id="delayed"),
        pytest.param("T", {"properties": "TIMER_DELAY_SEC\x0110\x02"}, 13, id="timed"),
        pytest.param("T", {"properties": "a\x01" + "b" * 32_760}, 13, id="properties too long"),
    ],
)
async def test_what_may_not_be_stored(
    tmp_path: Path, topic: str, more: dict[str, Any], code: int
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 4)
        await group.create_topic("Locked", 1, perm=4)
        app = await group.leader()
        reply = await group.ask(app, send_request(topic, **more))
        assert reply.code == code, reply.remark
        assert reply.remark
        assert "Unknown" not in app.metadata.topics
        assert await group.send("T") == 0
        assert app.reader.max_offset(INTERNAL_TOPIC, 0) == 0


@pytest.mark.parametrize(
    "text",
    ["MYDELAY\x015\x02", "K\x01DELAY\x02", "XTRAN_MSG\x01true\x02", "DELAY\x010\x02"],
    ids=["other name", "value", "other name of half", "level 0"],
)
async def test_what_only_looks_like_a_delay_is_stored(tmp_path: Path, text: str) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        reply = await group.ask(await group.leader(), send_request("T", properties=text))
        assert reply.code == 0, reply.remark


async def test_a_body_over_the_limit(tmp_path: Path) -> None:
    async with Brokers(tmp_path, max_message_size=100) as group:
        await group.create_topic("T")
        app = await group.leader()
        assert (await group.ask(app, send_request("T", b"b" * 100))).code == 0
        reply = await group.ask(app, send_request("T", b"b" * 101))
        assert reply.code == 13
        assert "maxMessageSize 100" in (reply.remark or "")
        # The name comes first.
        assert (await group.ask(app, send_request("!", b"b" * 101))).code == 29


@pytest.mark.parametrize("field", ["topic", "queueId", "bornTimestamp", "producerGroup", "flag"])
async def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    async with Brokers(tmp_path) as group:
        command = send_request("T")
        del command.ext[field]
        reply = await group.ask(await group.leader(), command)
        assert reply.code == 1
        assert f"'{field}'" in (reply.remark or "")


async def test_a_queue_below_zero_is_any_queue(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T", 4)
        app = await group.leader()
        replies = [await group.ask(app, send_request("T", queue_id=-1)) for _ in range(40)]
        queues = {int(r.ext["queueId"]) for r in replies}
        assert len(queues) > 1
        assert queues <= set(range(4))
        for queue_id in queues:
            wanted = [r for r in replies if r.ext["queueId"] == str(queue_id)]
            assert len(await pull_all(group, "T", queue_id)) == len(wanted)


# --- topics that create themselves ------------------------------------------------------------


@pytest.mark.parametrize(("asked", "made"), [(4, 4), (16, 8), (0, 1)])
async def test_an_unknown_topic_creates_itself(tmp_path: Path, asked: int, made: int) -> None:
    async with Brokers(tmp_path) as group:
        app = await group.leader()
        reply = await group.ask(app, send_request("Fresh", default_topic_queue_nums=asked))
        assert reply.code == 0
        topic = app.metadata.topics["Fresh"]
        assert (topic.read_queue_nums, topic.write_queue_nums, topic.perm) == (made, made, 6)


async def test_many_first_sends_create_the_topic_once(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await group.leader()
        version = app.metadata.topic_version
        replies = await asyncio.gather(*(group.ask(app, send_request("Fresh")) for _ in range(50)))
        assert {r.code for r in replies} == {0}
        assert sorted(int(r.ext["queueOffset"]) for r in replies) == list(range(50))
        assert app.metadata.topic_version == version + 1


async def test_one_way_sends_wait_for_their_topic_though_the_client_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path) as group:
        app = await group.leader()
        put, may_go_on = app.node.put_topic, asyncio.Event()

        async def slow(config: TopicConfig) -> None:
            await may_go_on.wait()
            await put(config)

        monkeypatch.setattr(app.node, "put_topic", slow)
        client = RemotingClient()
        for i in range(20):
            await client.oneway(app.config.address, send_request("New", b"%d" % i))
        await client.close()
        await until(lambda: not app._listener.connections - {None}, what="the client is gone")
        may_go_on.set()
        await until(lambda: app.reader.max_offset("New", 0) == 20, what="all are stored")
        assert [m.body for m in await stored(group, "New")] == [b"%d" % i for i in range(20)]


async def test_sends_that_wait_for_a_topic_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path, max_pending_send_bytes=1 << 20) as group:
        app = await group.leader()
        put, may_go_on = app.node.put_topic, asyncio.Event()

        async def slow(config: TopicConfig) -> None:
            await may_go_on.wait()
            await put(config)

        monkeypatch.setattr(app.node, "put_topic", slow)
        body = bytes(300 << 10)
        asked = [asyncio.create_task(group.ask(app, send_request("New", body))) for _ in range(5)]
        done, _ = await asyncio.wait(asked[3:], return_when=asyncio.ALL_COMPLETED)
        assert {task.result().code for task in done} == {2}
        may_go_on.set()
        assert [(await task).code for task in asked[:3]] == [0, 0, 0]
        assert (await group.ask(app, send_request("New", body))).code == 0


async def test_creating_can_be_forbidden(tmp_path: Path) -> None:
    async with Brokers(tmp_path, auto_create_topic_enable=False) as group:
        reply = await group.ask(await group.leader(), send_request("Fresh"))
        assert reply.code == 17
        assert "mqadmin updateTopic" in (reply.remark or "")


async def test_a_topic_deleted_between_its_creation_and_the_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path) as group:
        app = await group.leader()
        put_topic = app.node.put_topic

        async def put_and_delete(config: Any) -> None:
            await put_topic(config)
            await app.node.delete_topic(config.topic_name)

        monkeypatch.setattr(type(app.node), "put_topic", lambda _, c: put_and_delete(c))
        assert (await group.ask(app, send_request("Fresh"))).code == 17
        monkeypatch.undo()
        assert await group.send("Fresh") == 0


async def test_a_creator_that_leaves_and_a_creation_that_fails_leave_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        app = await group.leader()
        await group.same_metadata()
        for follower in await group.followers():
            await group.crash(follower.config.dleger_self_id)
        asking = asyncio.create_task(group.ask(app, send_request("Fresh")))
        await until(lambda: app.node.pending_count > 0)
        mine = group.client.peek(app.config.address)
        assert mine is not None
        mine.close()
        await until(lambda: not app.node.ready)
        with pytest.raises(Exception, match="lost"):
            await asking
        await asyncio.sleep(0)
        assert app.node.pending_count == 0
        assert "never retrieved" not in caplog.text


async def test_a_retry_tried_too_often_goes_to_the_dead_letters(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await group.leader()
        body = json.dumps({"groupName": "CG", "retryMaxTimes": 2}).encode()
        create = request(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, {}, body)
        assert (await group.ask(app, create)).code == 0
        again = {"reconsume_times": 3, "max_reconsume_times": 2}
        early = send_request("%RETRY%CG", b"1", reconsume_times=1, max_reconsume_times=2)
        assert (await group.ask(app, early)).code == 0
        late = send_request("%RETRY%CG", b"2", **again)
        assert (await group.ask(app, late)).code == 17  # says what to do
        await group.create_topic("%DLQ%CG")
        late = send_request("%RETRY%CG", b"3", **again)
        assert (await group.ask(app, late)).code == 0
        assert [m.body for m in await pull_all(group, "%DLQ%CG")] == [b"3"]
