"""Requests about single queues, and how they fail."""

import asyncio

import pytest

from ledgermq.client.errors import BrokerRefused, NoLeader, RequestFailed, TopicNotFound
from ledgermq.client.instance import Instance
from ledgermq.client.queue_calls import QueueCalls
from ledgermq.client.result import MessageQueue
from ledgermq.client.subscription import Subscription
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import response
from ledgermq.remoting.errors import PeerError
from tests.support import until

from .builders import message

Q = MessageQueue("T", "RaftNode00", 0)
ALL = Subscription("T", "*", 1)
PULL, COMMIT = RequestCode.PULL_MESSAGE, RequestCode.UPDATE_CONSUMER_OFFSET
QUERY, BACK = RequestCode.QUERY_CONSUMER_OFFSET, RequestCode.CONSUMER_SEND_MSG_BACK


@pytest.fixture
async def instance(trio):
    made = Instance("test", trio.nameserver)
    await made.start(["T"])
    yield made
    await made.close()


@pytest.fixture
def calls(instance):
    return QueueCalls(instance, "cg")


async def lose_leader(trio, instance):
    """Kill the leader, wait until the client's side has seen it."""
    node = await trio.kill_leader("RaftNode00")
    await until(lambda: instance.transport.peek(node.address) is None)
    return node


class TestLeaderCalls:
    async def test_an_answer(self, calls):
        assert await calls.max_offset(Q, 1000) == 0

    async def test_the_leader_is_asked(self, calls, trio):
        trio.elect(trio.nodes["RaftNode00"][1])
        await calls._instance.routes.refresh("T")
        await calls.max_offset(Q, 1000)
        counts = [n.count(RequestCode.GET_MAX_OFFSET) for n in trio.nodes["RaftNode00"]]
        assert counts == [0, 1, 0]

    async def test_a_lost_leader_is_followed(self, calls, instance, trio):
        await calls.max_offset(Q, 1000)
        await lose_leader(trio, instance)
        task = asyncio.create_task(calls.max_offset(Q, 10_000))
        await until(lambda: instance.routes._polls)
        trio.elect(trio.nodes["RaftNode00"][2])
        assert await task == 0

    @pytest.mark.parametrize(
        ("code", "remark"), [(14, "service not available"), (2, "busy"), (1, "not the leader")]
    )
    async def test_one_that_is_no_leader_any_more_is_left(self, calls, trio, code, remark):
        trio.broker.refuse(RequestCode.GET_MAX_OFFSET, code, remark)
        trio.elect(trio.nodes["RaftNode00"][1])
        assert await calls.max_offset(Q, 5000) == 0
        assert trio.broker.count(RequestCode.GET_MAX_OFFSET) == 1

    async def test_no_leader_in_time_says_what_was_asked_and_seen(self, calls, instance, trio):
        await lose_leader(trio, instance)
        await instance.routes.refresh("T")
        with pytest.raises(NoLeader) as caught:
            await calls.max_offset(Q, 150)
        text = str(caught.value)
        assert "query queue offset" in text
        assert "no leader of RaftNode00" in text

    @pytest.mark.parametrize(
        ("code", "remark"), [(1, "broken"), (17, "no topic"), (29, "queue id")]
    )
    async def test_other_refusals_are_raised_at_once(self, calls, trio, code, remark):
        trio.broker.refuse(RequestCode.GET_MIN_OFFSET, code, remark)
        with pytest.raises(BrokerRefused, match=remark) as caught:
            await calls.min_offset(Q, 1000)
        assert caught.value.code == code
        assert trio.broker.count(RequestCode.GET_MIN_OFFSET) == 1

    async def test_silence(self, calls, trio):
        trio.broker.silent.add(RequestCode.SEARCH_OFFSET_BY_TIMESTAMP)
        with pytest.raises(RequestFailed, match="search offset at 127"):
            await calls.search(Q, 0, 120)

    async def test_an_unknown_topic(self, calls):
        with pytest.raises(TopicNotFound, match="Nope"):
            await calls.max_offset(Q._replace(topic="Nope"), 1000)


class TestOffsets:
    async def test_none_committed(self, calls):
        assert await calls.committed(Q, 1000) is None

    async def test_committed(self, calls):
        await calls.commit(Q, 7, 1000)
        assert await calls.committed(Q, 1000) == 7

    async def test_a_refused_question_is_no_missing_offset(self, calls, trio):
        trio.broker.refuse(QUERY, 26, "group not exist")
        with pytest.raises(BrokerRefused, match="group not exist"):
            await calls.committed(Q, 1000)

    async def test_one_way(self, calls, trio):
        assert await calls.commit_oneway(Q, 9)
        await until(lambda: trio.group.offsets.get(("cg", "T", 0)) == 9)
        assert trio.broker.requests(COMMIT)[0].is_oneway

    async def test_one_way_without_a_leader_says_so(self, calls, instance, trio):
        await lose_leader(trio, instance)
        await instance.routes.refresh("T")
        assert not await calls.commit_oneway(Q, 9)

    async def test_one_way_to_a_dead_leader_says_so(self, calls, instance, trio):
        await lose_leader(trio, instance)
        assert not await calls.commit_oneway(Q, 9)

    async def test_one_way_for_an_unknown_topic_says_so(self, calls):
        assert not await calls.commit_oneway(Q._replace(topic="Nope"), 9)

    async def test_a_retry_topic_begins_at_its_beginning(self, calls, trio, instance):
        trio.topics["%RETRY%cg"] = 1
        retry = MessageQueue("%RETRY%cg", "RaftNode00", 0)
        for _ in range(3):
            trio.put("%RETRY%cg", 0, b"x")
        assert await calls.first_offset(retry, "latest", 1000) == 0

    async def test_earliest_is_the_oldest_that_is_kept(self, calls, trio):
        for _ in range(5):
            trio.put("T", 0, b"x")
        trio.group.min_offsets["T", 0] = 2
        assert await calls.first_offset(Q, "earliest", 1000) == 2
        assert await calls.first_offset(Q, "latest", 1000) == 5


class TestPull:
    async def pull(self, calls, **kwargs):
        arguments = {"max_messages": 10, "suspend_ms": 0} | kwargs
        return await calls.pull(Q, arguments.pop("offset", 0), ALL, **arguments)

    async def test_nothing_to_suspend_for(self, calls, trio):
        await self.pull(calls)
        assert trio.broker.requests(PULL)[0].ext["sysFlag"] == "4"

    async def test_a_commit_travels_with_its_bit(self, calls, trio):
        await self.pull(calls, commit=3)
        asked = trio.broker.requests(PULL)[0].ext
        assert (asked["sysFlag"], asked["commitOffset"]) == ("5", "3")

    async def test_a_commit_of_zero_is_one_too(self, calls, trio):
        await self.pull(calls, commit=0)
        assert trio.broker.requests(PULL)[0].ext["sysFlag"] == "5"

    async def test_a_replica_gets_no_commit(self, calls, trio):
        await self.pull(calls, commit=3, broker_id=2)
        assert trio.broker.count(PULL) == 0
        asked = trio.nodes["RaftNode00"][1].requests(PULL)[0].ext
        assert (asked["sysFlag"], asked["commitOffset"]) == ("4", "0")

    async def test_a_retried_message_gets_its_topic_back(self, calls, trio):
        trio.put("T", 0, b"x", RETRY_TOPIC="Orders")
        (got,) = (await self.pull(calls)).messages
        assert (got.topic, got.broker_name) == ("Orders", "RaftNode00")

    @pytest.mark.parametrize("code", [1, 2, 16, 24, 26])
    async def test_refusals(self, calls, trio, code):
        trio.broker.refuse(PULL, code, "no")
        with pytest.raises(BrokerRefused) as caught:
            await self.pull(calls)
        assert caught.value.code == code

    async def test_a_node_that_is_gone_is_avoided_next_time(self, calls, instance, trio):
        dead = await lose_leader(trio, instance)
        with pytest.raises(RequestFailed, match="pull of MessageQueue"):
            await self.pull(calls)
        assert instance.routes.is_suspect(dead.address)
        await self.pull(calls)
        assert sum(n.count(PULL) for n in trio.nodes["RaftNode00"][1:]) == 1

    async def test_an_answer_that_says_too_little(self, calls, trio):
        trio.broker.hooks[PULL] = lambda _c, _r: response(0, ext={"minOffset": "0"})
        with pytest.raises(BrokerRefused, match=r"unreadable answer.*suggestWhichBrokerId"):
            await self.pull(calls)

    async def test_a_record_that_is_damaged_names_the_queue(self, calls, trio):
        trio.put("T", 0, b"x")
        usual = trio.broker._handlers[PULL]

        async def damage(connection, command):
            reply = await usual(connection, command)
            reply.body = reply.body[:-1]
            return reply

        trio.broker.hooks[PULL] = damage
        with pytest.raises(PeerError, match=r"queueId=0.*cannot be read"):
            await self.pull(calls)


class TestGiveBack:
    async def test_what_it_says(self, calls, trio):
        trio.put("T", 0, b"x")
        pulled = await calls.pull(Q, 0, ALL, max_messages=1, suspend_ms=0)
        (got,) = pulled.messages
        await calls.give_back(got, 5, 1000, delay_level=2)
        (back,) = trio.broker.requests(BACK)
        assert back.ext == {
            "offset": str(got.physical_offset),
            "group": "cg",
            "delayLevel": "2",
            "originMsgId": got.msg_id,
            "originTopic": "T",
            "unitMode": "false",
            "maxReconsumeTimes": "5",
        }

    async def test_a_message_of_a_group_that_is_gone(self, calls):
        lost = message(0)
        lost.broker_name = "nowhere"
        with pytest.raises(NoLeader, match="nowhere"):
            await calls.give_back(lost, 5, 120)
