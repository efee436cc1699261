"""Polling, committing by hand, and reading single queues."""

import asyncio

import pytest

from ledgermq.client import member as member_module
from ledgermq.client.errors import (
    BrokerRefused,
    InvalidArgument,
    NoLeader,
    RequestFailed,
    TopicNotFound,
)
from ledgermq.client.pull_consumer import PullConsumer
from ledgermq.client.result import MessageQueue
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import response
from tests.support import until

Q0 = MessageQueue("T", "RaftNode00", 0)
COMMIT = RequestCode.UPDATE_CONSUMER_OFFSET


def consumer(cluster, topics="T", **kwargs):
    return PullConsumer("cg2", topics, cluster.nameserver, **({"start": "earliest"} | kwargs))


def offset(cluster, queue_id=0):
    return cluster.group.offsets.get(("cg2", "T", queue_id))


async def poll_all(c, count):
    got = []
    async with asyncio.timeout(10):
        while len(got) < count:
            got += await c.poll()
    return got


class TestPoll:
    async def test_messages_come_in_the_order_of_their_queue(self, cluster):
        for i in range(10):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster) as c:
            got = await poll_all(c, 10)
        assert [m.body for m in got] == [b"%d" % i for i in range(10)]

    async def test_no_more_than_max(self, cluster):
        for i in range(10):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster) as c:
            await until(lambda: len(c._member._ready) == 10)
            assert len(await c.poll(max=4)) == 4
            assert len(await c.poll(max=100)) == 6

    async def test_nothing_there(self, cluster):
        async with consumer(cluster) as c:
            assert await c.poll(timeout=0.05) == []

    async def test_a_message_that_comes_while_it_waits(self, cluster):
        async with consumer(cluster) as c:
            task = asyncio.create_task(c.poll(timeout=10))
            await until(lambda: cluster.broker.count(RequestCode.PULL_MESSAGE) >= 2)
            cluster.put("T", 1, b"late")
            assert [m.body for m in await task] == [b"late"]

    async def test_tags(self, cluster):
        for tag in "ABC":
            cluster.put("T", 0, tag.encode(), TAGS=tag)
        async with consumer(cluster, {"T": "A || C"}) as c:
            assert [m.body for m in await poll_all(c, 2)] == [b"A", b"C"]

    async def test_max_is_above_zero(self, cluster):
        async with consumer(cluster) as c:
            with pytest.raises(InvalidArgument, match="max=0"):
                await c.poll(max=0)

    async def test_a_poll_that_is_cancelled_loses_nothing(self, cluster):
        async with consumer(cluster) as c:
            task = asyncio.create_task(c.poll(timeout=10))
            await asyncio.sleep(0)
            task.cancel()
            await until(task.done)
            cluster.put("T", 0, b"x")
            assert [m.body for m in await poll_all(c, 1)] == [b"x"]


class TestCommit:
    async def test_what_was_polled_is_committed(self, cluster):
        for i in range(10):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster) as c:
            await until(lambda: len(c._member._ready) == 10)
            await c.poll(max=4)
            assert offset(cluster) is None
            await c.commit()
            assert offset(cluster) == 4

    async def test_nothing_is_committed_by_itself(self, cluster, monkeypatch):
        monkeypatch.setattr(member_module, "COMMIT_S", 0.01)
        for i in range(40):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster) as c:
            await poll_all(c, 40)
            pulls = cluster.broker.count(RequestCode.PULL_MESSAGE)
            await until(lambda: cluster.broker.count(RequestCode.PULL_MESSAGE) > pulls)
        assert offset(cluster) is None
        assert cluster.broker.count(COMMIT) == 0

    async def test_without_a_commit_the_messages_come_again(self, cluster):
        cluster.put("T", 0, b"x")
        for _ in range(2):
            async with consumer(cluster) as c:
                assert [m.body for m in await poll_all(c, 1)] == [b"x"]

    async def test_after_a_commit_they_do_not(self, cluster):
        for i in range(3):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster) as c:
            await poll_all(c, 3)
            await c.commit()
        cluster.put("T", 0, b"new")
        async with consumer(cluster) as c:
            assert [m.body for m in await poll_all(c, 1)] == [b"new"]

    async def test_the_broker_confirms_it(self, cluster):
        cluster.put("T", 0, b"x")
        async with consumer(cluster) as c:
            await poll_all(c, 1)
            await c.commit()
            assert not any(r.is_oneway for r in cluster.broker.requests(COMMIT))

    async def test_a_second_commit_sends_nothing_new(self, cluster):
        cluster.put("T", 0, b"x")
        async with consumer(cluster) as c:
            await poll_all(c, 1)
            await until(lambda: len(c.assigned()) == 2)
            await until(lambda: all(a.held is not None for a in c._member.assignments.values()))
            await c.commit()
            sent = cluster.broker.count(COMMIT)
            await c.commit()
            assert cluster.broker.count(COMMIT) == sent

    async def test_a_refusal_is_raised_and_can_be_repeated(self, cluster):
        cluster.put("T", 0, b"x")
        async with consumer(cluster) as c:
            await poll_all(c, 1)
            cluster.broker.refuse(COMMIT, 26, "group not exist", times=2)
            with pytest.raises(BrokerRefused, match="group not exist"):
                await c.commit()
            cluster.broker.hooks.clear()
            await c.commit()
        assert offset(cluster) == 1

    async def test_it_follows_a_new_leader(self, trio):
        trio.put("T", 0, b"x")
        async with consumer(trio) as c:
            await poll_all(c, 1)
            await trio.kill_leader("RaftNode00")
            task = asyncio.create_task(c.commit(timeout=10))
            await until(lambda: c._member.instance.routes._polls)
            trio.elect(trio.nodes["RaftNode00"][1])
            await task
        assert offset(trio) == 1

    async def test_no_leader_in_time(self, trio):
        trio.put("T", 0, b"x")
        async with consumer(trio) as c:
            await poll_all(c, 1)
            await trio.kill_leader("RaftNode00")
            with pytest.raises(NoLeader, match="commit offset"):
                await c.commit(timeout=0.2)

    async def test_silence(self, cluster):
        cluster.put("T", 0, b"x")
        async with consumer(cluster) as c:
            await poll_all(c, 1)
            cluster.broker.silent.add(COMMIT)
            with pytest.raises(RequestFailed, match="commit offset"):
                await c.commit(timeout=0.15)


class TestSingleQueues:
    async def test_assigned(self, cluster):
        async with consumer(cluster) as c:
            await until(lambda: c.assigned() == [Q0, Q0._replace(queue_id=1)])

    async def test_queues(self, cluster):
        async with consumer(cluster) as c:
            assert await c.queues("T") == [Q0, Q0._replace(queue_id=1)]
            with pytest.raises(TopicNotFound):
                await c.queues("Nope")

    async def test_read_by_offset(self, cluster):
        for i in range(10):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster) as c:
            pulled = await c.read(Q0, 4, max=3)
        assert [m.body for m in pulled.messages] == [b"4", b"5", b"6"]
        assert [m.queue_offset for m in pulled.messages] == [4, 5, 6]
        assert (pulled.next_offset, pulled.moved) == (7, False)
        assert (pulled.min_offset, pulled.max_offset) == (0, 10)

    async def test_read_does_not_touch_the_group(self, cluster):
        cluster.put("T", 0, b"x")
        async with consumer(cluster) as c:
            await c.read(Q0, 0)
            await c.read(Q0, 0)
        assert offset(cluster) is None

    async def test_read_at_the_end_returns_at_once(self, cluster):
        async with consumer(cluster) as c:
            pulled = await c.read(Q0, 0)
        assert (pulled.messages, pulled.next_offset) == ([], 0)

    async def test_read_waits_when_told(self, cluster):
        async with consumer(cluster) as c:
            task = asyncio.create_task(c.read(Q0, 0, timeout=5))
            await until(
                lambda: any(
                    p.ext["suspendTimeoutMillis"] == "5000"
                    for p in cluster.broker.requests(RequestCode.PULL_MESSAGE)
                )
            )
            cluster.put("T", 0, b"x")
            assert [m.body for m in (await task).messages] == [b"x"]

    async def test_read_of_tags(self, cluster):
        for tag in "ABA":
            cluster.put("T", 0, tag.encode(), TAGS=tag)
        async with consumer(cluster) as c:
            pulled = await c.read(Q0, 0, tags="A")
        assert [m.queue_offset for m in pulled.messages] == [0, 2]
        assert pulled.next_offset == 3

    async def test_read_beyond_the_end_says_where_to_go_on(self, cluster):
        cluster.put("T", 0, b"x")
        async with consumer(cluster) as c:
            pulled = await c.read(Q0, 50)
        assert (pulled.moved, pulled.next_offset) == (True, 1)

    async def test_read_of_an_unknown_group(self, cluster):
        async with consumer(cluster) as c:
            with pytest.raises(NoLeader, match="no node of nowhere"):
                await c.read(Q0._replace(broker_name="nowhere"), 0)

    async def test_offsets(self, cluster):
        for i in range(10):
            cluster.put("T", 0, b"%d" % i)
        cluster.group.min_offsets["T", 0] = 3
        async with consumer(cluster) as c:
            assert await c.min_offset(Q0) == 3
            assert await c.max_offset(Q0) == 10
            assert await c.committed(Q0) is None
            cluster.group.offsets["cg2", "T", 0] = 5
            assert await c.committed(Q0) == 5

    async def test_a_refused_question(self, cluster):
        cluster.broker.hooks[RequestCode.GET_MAX_OFFSET] = lambda _c, _r: response(29, "queue id")
        async with consumer(cluster) as c:
            with pytest.raises(BrokerRefused, match="queue id"):
                await c.max_offset(Q0)
