"""The producer against brokers that work."""

import asyncio
import zlib

import pytest

from ledgermq.client.errors import (
    BrokerRefused,
    InvalidArgument,
    NameServerUnreachable,
    SendManyFailed,
    TopicNotFound,
)
from ledgermq.client.producer import Producer
from ledgermq.client.result import MessageQueue, SendStatus
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import response
from ledgermq.remoting.message import Message, decode_record, parse_offset_msg_id
from tests.support import free_ports, until

SEND, BATCH = RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE
ROUTE = RequestCode.GET_ROUTEINFO_BY_TOPIC


@pytest.fixture
async def producer(cluster):
    async with Producer("pg", cluster.nameserver) as made:
        yield made


def record(cluster, result):
    """The stored record a result names."""
    return decode_record(cluster.group.log[parse_offset_msg_id(result.offset_msg_id).offset])


class TestSend:
    async def test_the_result_names_where_the_message_is(self, producer, cluster):
        result = await producer.send("T", b"hi", tag="TagA", keys=["k1", "k2"])
        stored = record(cluster, result)
        assert stored.body == b"hi"
        assert (stored.tag, stored.keys) == ("TagA", ["k1", "k2"])
        assert (stored.topic, stored.queue_id) == ("T", result.queue.queue_id)
        assert stored.queue_offset == result.queue_offset == 0
        assert stored.msg_id == result.msg_id
        assert result.status is SendStatus.SEND_OK
        assert result.queue.broker_name == "RaftNode00"

    async def test_queues_take_turns(self, producer):
        results = [await producer.send("T", b"x") for _ in range(6)]
        ids = [r.queue.queue_id for r in results]
        assert ids in ([0, 1] * 3, [1, 0] * 3)

    async def test_the_first_queue_is_random(self, cluster):
        first = set()
        for _ in range(40):
            async with Producer("pg", cluster.nameserver) as p:
                first.add((await p.send("T", b"x")).queue.queue_id)
            if len(first) == 2:
                return
        pytest.fail(f"40 producers began at {first}")

    async def test_a_queue_by_name(self, producer):
        wanted = MessageQueue("T", "RaftNode00", 1)
        results = [await producer.send("T", b"x", queue=wanted) for _ in range(3)]
        assert {r.queue for r in results} == {wanted}
        assert [r.queue_offset for r in results] == [0, 1, 2]

    async def test_text_properties_and_delay(self, producer, cluster):
        result = await producer.send("T", "héllo", properties={"a": "b"}, delay_level=3)
        stored = record(cluster, result)
        assert stored.body == "héllo".encode()
        assert stored.properties["a"] == "b"
        assert stored.properties["DELAY"] == "3"

    async def test_a_message_object(self, producer, cluster):
        result = await producer.send(Message("T", b"whole", tag="X"))
        assert record(cluster, result).tag == "X"

    async def test_ids_are_unique(self, producer):
        results = await asyncio.gather(*(producer.send("T", b"x") for _ in range(200)))
        assert len({r.msg_id for r in results}) == 200
        assert all(len(r.msg_id) == 32 for r in results)

    async def test_ids_of_two_producers_of_one_process_differ(self, cluster):
        async with Producer("a", cluster.nameserver) as a, Producer("b", cluster.nameserver) as b:
            sent = [await p.send("T", b"x") for p in (a, b) for _ in range(50)]
        assert len({r.msg_id for r in sent}) == 100

    async def test_large_bodies_travel_compressed(self, producer, cluster):
        body = b"abc" * 10_000
        result = await producer.send("T", body)
        (sent,) = cluster.broker.requests(SEND)
        assert sent.body != body
        assert zlib.decompress(sent.body) == body
        assert int(sent.ext["f"]) == 0x301
        assert record(cluster, result).body == body

    async def test_compression_off(self, cluster):
        body = b"abc" * 10_000
        async with Producer("pg", cluster.nameserver, compress=False) as p:
            await p.send("T", body)
        assert cluster.broker.requests(SEND)[0].body == body

    async def test_the_header_is_upstreams_short_one(self, producer, cluster):
        await producer.send("T", b"x")
        (sent,) = cluster.broker.requests(SEND)
        assert sent.language == "PYTHON"
        assert {k: sent.ext[k] for k in "abcdfhjkmn"} == {
            "a": "pg",
            "b": "T",
            "c": "TBW102",
            "d": "4",
            "f": "0",
            "h": "0",
            "j": "0",
            "k": "false",
            "m": "false",
            "n": "RaftNode00",
        }
        assert all(isinstance(v, str) for v in sent.ext.values())

    async def test_many_senders_share_one_connection_per_broker(self, producer, cluster):
        await asyncio.gather(*(producer.send("T", b"x") for _ in range(100)))
        assert len(cluster.broker.connections) == 1

    async def test_a_cancelled_send_leaves_the_producer_usable(self, producer, cluster):
        cluster.broker.silent.add(SEND)
        task = asyncio.create_task(producer.send("T", b"x"))
        await until(lambda: cluster.broker.count(SEND) == 1)
        task.cancel()
        await until(task.done)
        assert task.cancelled()
        cluster.broker.silent.clear()
        assert (await producer.send("T", b"y")).status is SendStatus.SEND_OK
        assert not producer._sender.live

    @pytest.mark.parametrize("status", SendStatus)
    async def test_weaker_promises_are_results(self, producer, cluster, status):
        ext = {"msgId": "AB", "queueId": "1", "queueOffset": "5"}
        cluster.broker.hooks[SEND] = lambda _c, _r: response(int(status), "slow", ext)
        result = await producer.send("T", b"x")
        assert (result.status, result.queue_offset, result.queue.queue_id) == (status, 5, 1)

    async def test_an_unreadable_answer_says_so(self, producer, cluster):
        cluster.broker.hooks[SEND] = lambda _c, _r: response(0, ext={"msgId": "AB"})
        with pytest.raises(BrokerRefused, match="unreadable answer") as caught:
            await producer.send("T", b"x")
        assert caught.value.maybe_stored

    @pytest.mark.parametrize("timeout", [0, -1])
    async def test_a_timeout_is_above_zero(self, producer, timeout):
        with pytest.raises(InvalidArgument, match="timeout"):
            await producer.send("T", b"x", timeout=timeout)

    async def test_bad_arguments_send_nothing(self, producer, cluster):
        for body in (b"", b"x" * (5 << 20)):
            with pytest.raises(InvalidArgument):
                await producer.send("T", body)
        assert cluster.broker.count(SEND) == 0


class TestTopics:
    async def test_a_new_topic_is_made_by_sending(self, producer, cluster):
        results = [await producer.send("New", b"x") for _ in range(8)]
        assert {r.queue.queue_id for r in results} == {0, 1, 2, 3}
        assert cluster.topics["New"] == 4

    async def test_lookups_are_105_topic_then_105_template(self, cluster):
        async with Producer("pg", cluster.nameserver) as p:
            await p.send("New", b"x")
        asked = [c.ext["topic"] for c in cluster.name_servers[0].requests(ROUTE)]
        assert asked == ["TBW102", "New", "TBW102"]

    async def test_the_real_route_is_taken_up_soon(self, producer, cluster, monkeypatch):
        await producer.send("New", b"x")
        assert producer._instance.routes.cached("New").provisional
        await until(lambda: not producer._instance.routes.cached("New").provisional)

    async def test_a_topic_that_cannot_be_made(self, producer, cluster):
        del cluster.topics["TBW102"]
        with pytest.raises(TopicNotFound, match="updateTopic") as caught:
            await producer.send("New", b"x")
        assert caught.value.topic == "New"

    async def test_a_broker_that_does_not_make_topics(self, producer, cluster):
        cluster.broker.refuse(SEND, 17, "topic[New] not exist")
        with pytest.raises(TopicNotFound, match="not exist"):
            await producer.send("New", b"x")
        assert cluster.broker.count(SEND) == 3

    async def test_a_topic_whose_queues_changed_is_looked_up_again(self, producer, cluster):
        await producer.send("T", b"x")
        cluster.topics["T"] = 1
        cluster.broker.refuse(SEND, 17, "topic not exist", times=1)
        result = await producer.send("T", b"x")
        assert result.queue.queue_id == 0
        assert len(producer._instance.routes.cached("T").write_queues) == 1

    async def test_queues(self, producer):
        assert await producer.queues("T") == [MessageQueue("T", "RaftNode00", i) for i in (0, 1)]
        with pytest.raises(TopicNotFound):
            await producer.queues("Nope")


class TestSendMany:
    async def test_results_are_in_order(self, producer, cluster):
        bodies = [b"%d" % i for i in range(3000)]
        results = await producer.send_many("T", bodies, tag="A")
        assert [record(cluster, r).body for r in results] == bodies
        assert record(cluster, results[5]).tag == "A"

    async def test_they_are_pipelined(self, producer, cluster):
        await producer.send("T", b"first")
        release = asyncio.Event()
        handler = cluster.broker._handlers[SEND]

        async def slow(connection, command):
            await release.wait()
            return handler(connection, command)

        cluster.broker.hooks[SEND] = slow
        task = asyncio.create_task(producer.send_many("T", [b"x"] * 100))
        await until(lambda: cluster.broker.count(SEND) == 101, what="all are on their way")
        release.set()
        assert len(await task) == 100

    async def test_no_task_per_message(self, producer, cluster):
        await producer.send("T", b"first")
        cluster.broker.silent.add(SEND)
        task = asyncio.create_task(producer.send_many("T", [b"x"] * 500))
        await until(lambda: cluster.broker.count(SEND) == 501)
        assert not [t for t in asyncio.all_tasks() if t.get_name().endswith(": send")]
        task.cancel()
        await until(task.done)

    async def test_an_iterator_of_mixed_bodies(self, producer, cluster):
        mixed = iter([b"a", "b", Message("T", b"c", tag="own")])
        results = await producer.send_many("T", mixed, tag="A", keys="k")
        assert [record(cluster, r).tag for r in results] == ["A", "A", "own"]

    async def test_nothing_to_send(self, producer):
        assert await producer.send_many("T", []) == []

    async def test_one_that_fails_does_not_hide_the_others(self, producer, cluster):
        handler = cluster.broker._handlers[SEND]

        def pick(connection, command):
            if command.body == b"bad":
                return response(13, "message illegal")
            return handler(connection, command)

        cluster.broker.hooks[SEND] = pick
        with pytest.raises(SendManyFailed, match="1 of 3") as caught:
            await producer.send_many("T", [b"a", b"bad", b"c"])
        first, second, third = caught.value.results
        assert record(cluster, first).body == b"a"
        assert isinstance(second, BrokerRefused)
        assert record(cluster, third).body == b"c"


class TestSendBatch:
    async def test_one_request_one_queue_consecutive_offsets(self, producer, cluster):
        results = await producer.send_batch("T", [b"a", "b", Message("T", b"c", tag="X")], tag="A")
        assert cluster.broker.count(BATCH) == 1
        assert len({r.queue for r in results}) == 1
        assert [r.queue_offset for r in results] == [0, 1, 2]
        stored = [record(cluster, r) for r in results]
        assert [m.body for m in stored] == [b"a", b"b", b"c"]
        assert [m.tag for m in stored] == ["A", "A", "X"]
        assert [m.msg_id for m in stored] == [r.msg_id for r in results]

    async def test_the_header_says_batch_and_carries_no_id(self, producer, cluster):
        await producer.send_batch("T", [b"a"])
        (sent,) = cluster.broker.requests(BATCH)
        assert sent.ext["m"] == "true"
        assert "UNIQ_KEY" not in sent.ext["i"]

    async def test_no_compression_inside(self, producer, cluster):
        body = b"x" * 10_000
        (result,) = await producer.send_batch("T", [body])
        assert record(cluster, result).body == body
        assert cluster.broker.requests(BATCH)[0].ext["f"] == "0"

    async def test_a_broker_that_names_one_id_only(self, producer, cluster):
        ext = {"msgId": "AB", "queueId": "1", "queueOffset": "5"}
        cluster.broker.hooks[BATCH] = lambda _c, _r: response(0, ext=ext)
        results = await producer.send_batch("T", [b"a", b"b"])
        assert [(r.offset_msg_id, r.queue_offset) for r in results] == [("AB", 5), ("", 6)]

    @pytest.mark.parametrize(
        ("bodies", "words"),
        [
            pytest.param([], "empty batch", id="nothing"),
            pytest.param([Message("U", b"x")], "one topic", id="another topic"),
            pytest.param([Message("T", b"x", delay_level=1)], "delay", id="a delay"),
            pytest.param([b"x" * (3 << 20)] * 2, "over the limit", id="too large"),
        ],
    )
    async def test_what_no_batch_is(self, producer, bodies, words):
        with pytest.raises(InvalidArgument, match=words):
            await producer.send_batch("T", bodies)


class TestOneway:
    async def test_it_arrives_without_an_answer(self, producer, cluster):
        await producer.send_oneway("T", b"x", tag="A")
        await until(lambda: cluster.bodies("T") == [b"x"])
        (sent,) = cluster.broker.requests(SEND)
        assert sent.is_oneway

    async def test_it_returns_though_the_broker_is_silent(self, producer, cluster):
        cluster.broker.silent.add(SEND)
        await producer.send_oneway("T", b"x")


async def test_start_needs_a_name_server():
    (port,) = free_ports(1)
    with pytest.raises(NameServerUnreachable, match=str(port)):
        async with Producer("pg", f"127.0.0.1:{port}"):
            pytest.fail("entered")


async def test_a_failed_start_can_be_repeated(cluster):
    producer = Producer("pg", cluster.nameserver)
    await cluster.name_servers[0].stop()
    with pytest.raises(NameServerUnreachable):
        await producer.start()
    await cluster.name_servers[0].start()
    async with producer:
        await producer.send("T", b"x")


def test_a_group_name_is_checked_at_once():
    with pytest.raises(InvalidArgument, match="group name"):
        Producer("a b")
