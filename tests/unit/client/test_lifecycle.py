"""Heartbeats, goodbyes, background failures, and use in the wrong place."""

import asyncio
import os
import re

import pytest

from ledgermq.client import instance as instance_module
from ledgermq.client.errors import BackgroundFailure, ClientClosed, ForkedClient, WrongLoop
from ledgermq.client.instance import Instance
from ledgermq.client.producer import Producer
from ledgermq.client.pull_consumer import PullConsumer
from ledgermq.client.push_consumer import Consumer
from ledgermq.remoting.bodies.heartbeat import HeartbeatData
from ledgermq.remoting.codes import RequestCode
from tests.support import until

from .fake import FakeCluster

BEAT, BYE = RequestCode.HEART_BEAT, RequestCode.UNREGISTER_CLIENT
ROUTE = RequestCode.GET_ROUTEINFO_BY_TOPIC


def beats(node) -> list[HeartbeatData]:
    return [HeartbeatData.decode(c.body) for c in node.requests(BEAT)]


class TestHeartbeats:
    async def test_a_producer_greets_the_leader_only(self, trio):
        async with Producer("pg", trio.nameserver) as p:
            await p.send("T", b"x")
            await until(lambda: trio.broker.count(BEAT))
        assert [n.count(BEAT) > 0 for n in trio.nodes["RaftNode00"]] == [True, False, False]
        (beat, *_) = beats(trio.broker)
        assert [g.group_name for g in beat.producer_data_set] == ["pg"]
        assert beat.consumer_data_set == []

    async def test_the_client_id_is_ip_process_and_time(self, trio):
        async with Producer("pg", trio.nameserver) as p:
            await p.send("T", b"x")
            await until(lambda: trio.broker.count(BEAT))
        client_id = beats(trio.broker)[0].client_id
        assert re.fullmatch(rf"127\.0\.0\.1@{os.getpid()}#\d{{14,}}", client_id)

    async def test_a_consumer_greets_every_node_with_its_subscriptions(self, trio):
        async with Consumer("cg", {"T": "A || B"}, trio.nameserver, start="earliest"):
            nodes = trio.nodes["RaftNode00"]
            await until(lambda: all(n.count(BEAT) for n in nodes))
        beat = beats(nodes[2])[0]
        (consumer,) = beat.consumer_data_set
        assert consumer.group_name == "cg"
        assert consumer.consume_type == "CONSUME_PASSIVELY"
        assert consumer.consume_from_where == "CONSUME_FROM_FIRST_OFFSET"
        subscriptions = {s.topic: s for s in consumer.subscription_data_set}
        assert set(subscriptions) == {"T", "%RETRY%cg"}
        assert subscriptions["T"].tags_set == ["A", "B"]
        assert subscriptions["T"].sub_string == "A || B"

    async def test_a_pull_consumer_says_that_it_asks(self, trio):
        async with PullConsumer("cg", "T", trio.nameserver):
            await until(lambda: trio.broker.count(BEAT))
        (consumer,) = beats(trio.broker)[0].consumer_data_set
        assert consumer.consume_type == "CONSUME_ACTIVELY"
        assert consumer.consume_from_where == "CONSUME_FROM_LAST_OFFSET"
        assert [s.topic for s in consumer.subscription_data_set] == ["T"]

    async def test_a_new_leader_is_greeted_at_once(self, trio):
        async with Producer("pg", trio.nameserver) as p:
            await p.send("T", b"x")
            await trio.kill_leader("RaftNode00")
            second = trio.nodes["RaftNode00"][1]
            trio.elect(second)
            await p.send("T", b"y")
            await until(lambda: second.count(BEAT))

    async def test_they_are_repeated(self, trio, monkeypatch):
        monkeypatch.setattr(instance_module, "HEARTBEAT_S", 0.01)
        async with Producer("pg", trio.nameserver) as p:
            await p.send("T", b"x")
            await until(lambda: trio.broker.count(BEAT) >= 3)

    async def test_a_lost_connection_is_made_up_for_at_once(self, trio):
        async with Consumer("cg", "T", trio.nameserver):
            third = trio.nodes["RaftNode00"][2]
            await until(lambda: third.count(BEAT) == 1 and third.members["cg"])
            for connection in list(third.connections):
                connection.close()
            await until(lambda: third.count(BEAT) == 2)

    async def test_a_refused_one_is_repeated_soon(self, trio, monkeypatch):
        monkeypatch.setattr(instance_module, "_HEARTBEAT_RETRY_S", 0.01)
        trio.broker.refuse(BEAT, 1, "not yet", times=2)
        async with Consumer("cg", "T", trio.nameserver):
            await until(lambda: trio.broker.members["cg"])
        assert trio.broker.count(BEAT) >= 3


class TestGoodbye:
    async def test_a_producer_says_goodbye(self, trio):
        async with Producer("pg", trio.nameserver) as p:
            await p.send("T", b"x")
            await until(lambda: trio.broker.producers)
            client_id = p._instance.client_id
            await until(lambda: p._instance._heartbeat_sent)
        (bye,) = trio.broker.requests(BYE)
        assert bye.ext == {"clientID": client_id, "producerGroup": "pg"}

    async def test_a_consumer_says_goodbye_to_every_node(self, trio):
        nodes = trio.nodes["RaftNode00"]
        async with Consumer("cg", "T", trio.nameserver) as c:
            await until(lambda: len(c._member.instance._heartbeat_sent) == 3)
        assert [n.count(BYE) for n in nodes] == [1, 1, 1]
        assert nodes[1].requests(BYE)[0].ext["consumerGroup"] == "cg"
        assert not nodes[1].members["cg"]

    async def test_closing_twice_is_fine(self, trio):
        producer = await Producer("pg", trio.nameserver).start()
        await producer.close()
        await producer.close()

    async def test_a_silent_broker_does_not_hold_up_the_close(self, trio, monkeypatch):
        monkeypatch.setattr(instance_module, "_CLOSE_TIMEOUT_MS", 50)
        trio.broker.silent.add(BYE)
        async with Producer("pg", trio.nameserver) as p:
            await p.send("T", b"x")
            await until(lambda: p._instance._heartbeat_sent)
        assert trio.broker.count(BYE) == 1

    async def test_nothing_of_a_client_is_left(self, trio):
        before = asyncio.all_tasks()
        async with Producer("pg", trio.nameserver) as p, Consumer("cg", "T", trio.nameserver):
            await p.send("T", b"x")
        await until(lambda: asyncio.all_tasks() == before)
        await until(lambda: not trio.broker.connections)


class TestRoutesOverTime:
    async def test_known_routes_are_refreshed(self, trio, monkeypatch):
        monkeypatch.setattr(instance_module, "MISSING_REFRESH_S", 0.01)
        monkeypatch.setattr(instance_module, "ROUTE_REFRESH_S", 0.02)
        async with Producer("pg", trio.nameserver) as p:
            await p.send("T", b"x")
            trio.topics["T"] = 5
            await until(lambda: len(p._instance.routes.cached("T").write_queues) == 5)

    async def test_a_dead_name_server_is_logged_and_survived(self, trio, monkeypatch, caplog):
        monkeypatch.setattr(instance_module, "MISSING_REFRESH_S", 0.01)
        monkeypatch.setattr(instance_module, "ROUTE_REFRESH_S", 0.01)
        async with Producer("pg", trio.nameserver) as p:
            await p.send("T", b"x")
            await trio.name_servers[0].stop()
            await until(lambda: "routes not refreshed" in caplog.text)
            await p.send("T", b"y")


class TestBackgroundFailures:
    async def test_the_next_call_raises_it(self, trio, caplog):
        async with Producer("pg", trio.nameserver) as p:

            async def job() -> None:
                raise KeyError("bug")

            p._instance.spawn("some job", job())
            await until(lambda: p._instance._failure)
            with pytest.raises(BackgroundFailure, match=r"some job.*KeyError") as caught:
                await p.send("T", b"x")
            assert isinstance(caught.value.__cause__, KeyError)
        assert "some job" in caplog.text

    async def test_a_waiting_consumer_hears_of_it(self, trio):
        async with Consumer("cg", "T", trio.nameserver) as c:
            waiting = asyncio.create_task(anext(aiter(c)))
            await asyncio.sleep(0)

            async def job() -> None:
                raise KeyError("bug")

            c._member.instance.spawn("some job", job())
            with pytest.raises(BackgroundFailure, match="some job"):
                await waiting

    async def test_the_first_one_is_kept(self, trio):
        instance = Instance("x", trio.nameserver)
        await instance.start()

        async def job(text: str) -> None:
            raise ValueError(text)

        instance.spawn("one", job("first"))
        instance.spawn("two", job("second"))
        await until(lambda: len(instance._jobs) == 2)
        with pytest.raises(BackgroundFailure, match="first"):
            instance.check()
        await instance.close()


class TestWrongUse:
    @pytest.mark.parametrize("kind", [Producer, Consumer, PullConsumer])
    async def test_before_the_start(self, kind, trio):
        made = kind("g", trio.nameserver) if kind is Producer else kind("g", "T", trio.nameserver)
        with pytest.raises(ClientClosed, match=r"not started.*async with"):
            await use(made)

    @pytest.mark.parametrize("kind", [Producer, Consumer, PullConsumer])
    async def test_after_the_close(self, kind, trio):
        made = kind("g", trio.nameserver) if kind is Producer else kind("g", "T", trio.nameserver)
        async with made:
            pass
        with pytest.raises(ClientClosed, match="is closed"):
            await use(made)
        with pytest.raises(ClientClosed, match="is closed"):
            await made.start()

    async def test_in_another_loop(self, trio):
        async with Producer("pg", trio.nameserver) as p:
            with pytest.raises(WrongLoop, match=r"another.*ledgermq\.sync"):
                await asyncio.to_thread(asyncio.run, p.send("T", b"x"))

    def test_after_its_loop_was_closed(self):
        async def begin():
            cluster = await FakeCluster.open()
            cluster.topics["T"] = 1
            producer = await Producer("pg", cluster.nameserver).start()
            for job in list(producer._instance._jobs):
                job.cancel()
            await producer._instance.transport.drop_connections()
            await cluster.close()
            return producer

        producer = asyncio.run(begin())
        with pytest.raises(WrongLoop, match="closed now"):
            asyncio.run(producer.send("T", b"x"))

    async def test_in_a_forked_child(self, trio, monkeypatch):
        async with Producer("pg", trio.nameserver) as p:
            real = os.getpid()
            monkeypatch.setattr(os, "getpid", lambda: real + 1)
            with pytest.raises(ForkedClient, match=f"process {real}.*after the fork"):
                await p.send("T", b"x")
            monkeypatch.undo()


async def use(made):
    if isinstance(made, Producer):
        await made.send("T", b"x")
    elif isinstance(made, Consumer):
        await anext(aiter(made))
    else:
        await made.poll()
