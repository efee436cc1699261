"""One send, step by step, where the tests of the producer do not look."""

import asyncio

import pytest

from ledgermq.client import delivery as delivery_module
from ledgermq.client.delivery import Delivery, Sender, Stored
from ledgermq.client.errors import (
    BackgroundFailure,
    ClientClosed,
    NoLeader,
    SendTimeout,
    TopicNotFound,
)
from ledgermq.client.instance import Instance
from ledgermq.client.result import MessageQueue
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import request
from ledgermq.remoting.headers.send import SendMessageRequestV2
from tests.support import until

SEND = RequestCode.SEND_MESSAGE_V2


@pytest.fixture
async def sender(trio):
    instance = Instance("test", trio.nameserver)
    await instance.start()
    yield Sender(instance)
    await instance.close()


def build(queue: MessageQueue):
    header = SendMessageRequestV2(
        producer_group="pg",
        topic=queue.topic,
        default_topic="TBW102",
        default_topic_queue_nums=4,
        queue_id=queue.queue_id,
        sys_flag=0,
        born_timestamp=0,
        flag=0,
    )
    return request(SEND, header.to_ext(), b"x")


class Begun:
    """A delivery that has been started, and its outcomes."""

    def __init__(self, sender, topic="T", timeout_ms=3000, queue=None, make=build):
        self.outcomes = []
        self.delivery = Delivery(sender, topic, make, timeout_ms, self.outcomes.append, queue)
        self.delivery.start()

    async def outcome(self):
        await until(lambda: self.outcomes, what="an outcome")
        (only,) = self.outcomes
        return only


async def test_the_first_send_gets_a_task_the_next_do_not(sender):
    spawned = []
    spawn = sender.instance.spawn

    def watch(job, work):
        spawned.append(job)
        return spawn(job, work)

    sender.instance.spawn = watch
    assert isinstance(await Begun(sender).outcome(), Stored)
    assert spawned == ["send"]
    assert isinstance(await Begun(sender).outcome(), Stored)
    assert spawned == ["send"]


async def test_a_settled_send_is_not_alive(sender):
    begun = Begun(sender)
    assert sender.live == {begun.delivery}
    await begun.outcome()
    assert not sender.live


async def test_the_first_outcome_counts(sender):
    begun = Begun(sender)
    first = await begun.outcome()
    begun.delivery.settle(TopicNotFound("T", "late"))
    assert begun.outcomes == [first]


async def test_nobody_hears_of_an_abandoned_send(sender, trio):
    await Begun(sender).outcome()
    begun = Begun(sender)
    begun.delivery.abandon()
    await Begun(sender).outcome()
    await until(lambda: trio.broker.count(SEND) == 3)
    assert begun.outcomes == []
    assert not sender.live


async def test_abandoned_while_it_connects_it_writes_nothing(sender, trio):
    begun = Begun(sender)
    begun.delivery.abandon()
    await until(lambda: not [j for j in sender.instance._jobs if "send" in j.get_name()])
    assert trio.broker.count(SEND) == 0
    assert begun.outcomes == []


async def test_abandoned_while_the_connection_opens_it_writes_nothing(sender, trio):
    transport = sender.instance.transport
    opened = transport.connect
    begun = None

    async def slow(address, timeout_ms):
        connection = await opened(address, timeout_ms)
        begun.delivery.abandon()
        return connection

    transport.connect = slow
    begun = Begun(sender)
    await until(lambda: not sender.live)
    await until(lambda: not [j for j in sender.instance._jobs if "send" in j.get_name()])
    assert trio.broker.count(SEND) == 0


async def test_abandoned_while_it_waits_for_a_leader(sender, trio):
    await trio.kill_leader("RaftNode00")
    begun = Begun(sender)
    await until(lambda: sender.instance.routes._polls)
    begun.delivery.abandon()
    trio.elect(trio.nodes["RaftNode00"][1])
    await until(lambda: not [j for j in sender.instance._jobs if "send" in j.get_name()])
    assert begun.outcomes == []


async def test_a_lost_connection_of_an_abandoned_send_is_nothing(sender, trio):
    await Begun(sender).outcome()
    trio.broker.silent.add(SEND)
    begun = Begun(sender)
    await until(lambda: trio.broker.count(SEND) == 2)
    begun.delivery.abandon()
    await trio.kill_leader("RaftNode00")
    await until(lambda: not sender.instance.transport.peek(trio.broker.address))
    assert begun.outcomes == []


async def test_no_time_left_before_the_first_attempt(sender, monkeypatch):
    now = [0]
    monkeypatch.setattr(delivery_module, "mono_ms", lambda: now[0])
    begun = Begun(sender, timeout_ms=100)
    now[0] = 100
    outcome = await begun.outcome()
    assert isinstance(outcome, NoLeader)
    assert "no time left" in str(outcome)


async def test_no_time_left_after_a_lost_connection(sender, trio, monkeypatch):
    await Begun(sender).outcome()
    trio.broker.silent.add(SEND)
    now = [0]
    monkeypatch.setattr(delivery_module, "mono_ms", lambda: now[0])
    begun = Begun(sender, timeout_ms=2000)
    await until(lambda: trio.broker.count(SEND) == 2)
    now[0] = 2000
    await trio.broker.stop()
    outcome = await begun.outcome()
    assert isinstance(outcome, SendTimeout)
    assert outcome.maybe_stored


async def test_a_bug_is_told_to_the_sender_and_to_the_next_caller(sender, caplog):
    def broken(queue):
        raise KeyError("bug")

    outcome = await Begun(sender, make=broken).outcome()
    assert isinstance(outcome, BackgroundFailure)
    await until(lambda: sender.instance._failure)
    with pytest.raises(BackgroundFailure, match="bug"):
        sender.instance.check()
    assert "KeyError" in caplog.text


async def test_a_bug_in_the_fast_way_reaches_the_caller_itself(sender):
    await Begun(sender).outcome()

    def broken(queue):
        raise KeyError("bug")

    with pytest.raises(KeyError):
        Begun(sender, make=broken)


async def test_close_settles_all_that_live(sender, trio):
    await Begun(sender).outcome()
    trio.broker.silent.add(SEND)
    begun = [Begun(sender) for _ in range(3)]
    sender.close()
    outcomes = [await b.outcome() for b in begun]
    assert all(isinstance(o, ClientClosed) and o.maybe_stored for o in outcomes)
    assert not sender.live


async def test_queues_of_a_topic_take_turns_across_sends_at_the_same_time(sender):
    await Begun(sender).outcome()
    begun = [Begun(sender) for _ in range(6)]
    places = [(await b.outcome()).queue.queue_id for b in begun]
    assert sorted(places) == [0, 0, 0, 1, 1, 1]


async def test_each_topic_has_its_own_turn(sender, trio):
    trio.topics["U"] = 2
    first = [(await Begun(sender, t).outcome()).queue for t in "TTUU"]
    assert {q.queue_id for q in first if q.topic == "T"} == {0, 1}
    assert {q.queue_id for q in first if q.topic == "U"} == {0, 1}


async def test_sends_that_begin_together_share_connection_and_route(sender, trio):
    begun = [Begun(sender) for _ in range(20)]
    await asyncio.gather(*(b.outcome() for b in begun))
    assert len(trio.broker.connections) == 1
    asked = trio.name_servers[0].requests(RequestCode.GET_ROUTEINFO_BY_TOPIC)
    assert [c.ext["topic"] for c in asked].count("T") == 1
