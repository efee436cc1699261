"""The producer when leaders, brokers and name servers fail."""

import asyncio

import pytest

from ledgermq.client.errors import BrokerRefused, NoLeader, SendManyFailed, SendTimeout
from ledgermq.client.producer import Producer
from ledgermq.client.result import MessageQueue, SendStatus
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import response
from tests.support import until

SEND = RequestCode.SEND_MESSAGE_V2
GROUP = "RaftNode00"


@pytest.fixture
async def producer(trio):
    async with Producer("pg", trio.nameserver, timeout=10) as made:
        await made.send("T", b"before")
        yield made


async def gone(producer, node):
    """Wait until the producer's side has seen the connection close too."""
    await until(lambda: producer._instance.transport.peek(node.address) is None)


async def test_a_killed_leader_is_followed_at_once(producer, trio):
    await trio.kill_leader(GROUP)
    trio.elect(trio.nodes[GROUP][1])
    result = await producer.send("T", b"after")
    assert result.status is SendStatus.SEND_OK
    assert trio.nodes[GROUP][1].count(SEND) == 1


async def test_a_send_waits_for_the_election(producer, trio):
    await trio.kill_leader(GROUP)
    task = asyncio.create_task(producer.send("T", b"after"))
    asked = trio.name_servers[0].count(RequestCode.GET_ROUTEINFO_BY_TOPIC)
    await until(lambda: trio.name_servers[0].count(RequestCode.GET_ROUTEINFO_BY_TOPIC) >= asked + 2)
    assert not task.done()
    trio.elect(trio.nodes[GROUP][1])
    await task
    assert trio.bodies("T")[-1] == b"after"


async def test_routes_that_still_name_the_dead_leader(producer, trio):
    dead = trio.leaders[GROUP]
    await dead.stop()
    task = asyncio.create_task(producer.send("T", b"after"))
    await until(lambda: producer._instance.routes.is_suspect(dead.address))
    trio.elect(trio.nodes[GROUP][2])
    await task
    assert trio.nodes[GROUP][2].count(SEND) == 1


async def test_a_leader_that_comes_back_under_its_address(producer, trio):
    dead = trio.leaders[GROUP]
    await dead.stop()
    task = asyncio.create_task(producer.send("T", b"after"))
    await until(lambda: producer._instance.routes.is_suspect(dead.address))
    await dead.start()
    assert (await task).status is SendStatus.SEND_OK


@pytest.mark.parametrize(
    ("code", "remark"),
    [
        (2, "[REJECTREQUEST]system busy, start flow control for a while"),
        (14, "service not available"),
        (1, "this broker is not the leader"),
        (1500, "go away"),
    ],
)
async def test_a_deposed_leader_that_refuses(producer, trio, code, remark):
    old = trio.leaders[GROUP]
    old.refuse(SEND, code, remark)
    trio.elect(trio.nodes[GROUP][1])
    await producer.send("T", b"after")
    assert trio.nodes[GROUP][1].count(SEND) == 1


async def test_a_leader_that_is_busy_for_a_moment(producer, trio):
    trio.broker.refuse(SEND, 2, "busy", times=2)
    assert (await producer.send("T", b"x")).status is SendStatus.SEND_OK
    assert trio.broker.count(SEND) == 4


async def test_a_connection_lost_before_the_answer_is_sent_again(producer, trio):
    """At least once: the first copy may be stored too."""
    first = trio.leaders[GROUP]
    handler = first._handlers[SEND]

    def store_and_die(connection, command):
        handler(connection, command)
        connection._transport.abort()

    first.hooks[SEND] = store_and_die
    task = asyncio.create_task(producer.send("T", b"twice"))
    await until(lambda: first.count(SEND) >= 2)
    trio.elect(trio.nodes[GROUP][1])
    await task
    assert trio.bodies("T").count(b"twice") >= 2


async def test_no_leader_until_the_deadline(producer, trio):
    await gone(producer, await trio.kill_leader(GROUP))
    with pytest.raises(NoLeader, match="clusterList") as caught:
        await producer.send("T", b"x", timeout=0.2)
    text = str(caught.value)
    assert "200 ms" in text
    assert "names no leader of RaftNode00" in text
    assert trio.nameserver in text
    assert not caught.value.maybe_stored


async def test_no_leader_from_the_beginning(trio):
    await trio.kill_leader(GROUP)
    async with Producer("pg", trio.nameserver) as p:
        with pytest.raises(NoLeader, match="no leader of RaftNode00"):
            await p.send("T", b"x", timeout=0.2)


async def test_silence_is_a_timeout_that_may_be_stored(producer, trio):
    trio.broker.silent.add(SEND)
    with pytest.raises(SendTimeout, match="may have been stored") as caught:
        await producer.send("T", b"x", timeout=0.2)
    assert caught.value.maybe_stored
    assert trio.broker.address in str(caught.value)


async def test_lost_and_then_no_leader_may_be_stored(producer, trio):
    leader = trio.leaders[GROUP]
    leader.hooks[SEND] = lambda c, _r: c._transport.abort()
    task = asyncio.create_task(producer.send("T", b"x", timeout=0.4))
    await until(lambda: leader.count(SEND) >= 2)
    await trio.kill_leader(GROUP)
    with pytest.raises(SendTimeout) as caught:
        await task
    assert caught.value.maybe_stored


async def test_busy_until_the_deadline_is_the_brokers_own_refusal(producer, trio):
    trio.broker.refuse(SEND, 2, "busy all day")
    with pytest.raises(BrokerRefused, match="busy all day") as caught:
        await producer.send("T", b"x", timeout=0.3)
    assert caught.value.code == 2
    assert not caught.value.maybe_stored


async def test_a_refusal_for_good_is_not_repeated(producer, trio):
    trio.broker.refuse(SEND, 13, "message too large")
    with pytest.raises(BrokerRefused, match=r"message too large\. The message itself") as caught:
        await producer.send("T", b"x")
    assert caught.value.code == 13
    assert trio.broker.count(SEND) == 2


@pytest.mark.parametrize(("code", "maybe_stored"), [(1, True), (16, False)])
async def test_other_refusals_are_repeated_twice(producer, trio, code, maybe_stored):
    trio.broker.refuse(SEND, code, "not now")
    with pytest.raises(BrokerRefused, match="not now") as caught:
        await producer.send("T", b"x")
    assert caught.value.maybe_stored is maybe_stored
    assert trio.broker.count(SEND) == 1 + 3


async def test_many_sends_survive_a_change_of_leader_in_order(producer, trio):
    bodies = [b"%d" % i for i in range(4000)]
    task = asyncio.create_task(producer.send_many("T", bodies))
    await until(lambda: trio.broker.count(SEND) > 500)
    await trio.kill_leader(GROUP)
    await until(lambda: producer._instance.routes._polls, what="somebody looks for a leader")
    trio.elect(trio.nodes[GROUP][1])
    results = await task
    assert len(results) == 4000
    stored = trio.group.records
    for body, result in zip(bodies, results, strict=True):
        assert body in stored["T", result.queue.queue_id][result.queue_offset]


async def test_many_sends_without_a_leader_ask_for_routes_together(producer, trio):
    await trio.kill_leader(GROUP)
    before = trio.name_servers[0].count(RequestCode.GET_ROUTEINFO_BY_TOPIC)
    with pytest.raises(SendManyFailed, match="300 of 300") as caught:
        await producer.send_many("T", [b"x"] * 300, timeout=0.5)
    assert all(isinstance(e, NoLeader | SendTimeout) for e in caught.value.results)
    asked = trio.name_servers[0].count(RequestCode.GET_ROUTEINFO_BY_TOPIC) - before
    assert asked < 60


class TestTwoGroups:
    async def test_the_other_group_takes_over(self, pair):
        async with Producer("pg", pair.nameserver) as p:
            await p.send_many("T", [b"x"] * 4)
            await pair.kill_leader("a")
            results = [await p.send("T", b"y") for _ in range(6)]
        assert {r.queue.broker_name for r in results} == {"b"}

    async def test_a_refusing_broker_is_avoided_by_the_retry(self, pair):
        pair.nodes["a"][0].refuse(SEND, 1, "UNKNOWN_ERROR")
        async with Producer("pg", pair.nameserver) as p:
            results = [await p.send("T", b"y") for _ in range(6)]
        assert {r.queue.broker_name for r in results} == {"b"}

    async def test_a_queue_by_name_waits_for_its_own_group(self, pair):
        wanted = MessageQueue("T", "a", 0)
        async with Producer("pg", pair.nameserver, timeout=10) as p:
            await p.send("T", b"x", queue=wanted)
            dead = await pair.kill_leader("a")
            task = asyncio.create_task(p.send("T", b"y", queue=wanted))
            await until(lambda: p._instance.routes._polls)
            assert not task.done()
            await dead.start()
            pair.down.clear()
            pair.elect(dead)
            assert (await task).queue == wanted

    async def test_a_queue_by_name_without_leader_ends_in_no_leader(self, pair):
        async with Producer("pg", pair.nameserver) as p:
            await pair.kill_leader("a")
            with pytest.raises(NoLeader, match="of a"):
                await p.send("T", b"y", queue=MessageQueue("T", "a", 0), timeout=0.2)


class TestNameServers:
    async def test_sends_go_on_without_any_name_server(self, producer, trio):
        await trio.name_servers[0].stop()
        assert (await producer.send("T", b"x")).status is SendStatus.SEND_OK

    async def test_no_leader_and_no_name_server_says_both(self, producer, trio):
        await gone(producer, await trio.kill_leader(GROUP))
        await trio.name_servers[0].stop()
        with pytest.raises(NoLeader, match="no name server answered"):
            await producer.send("T", b"x", timeout=0.3)


async def test_closing_settles_what_is_on_its_way(trio):
    producer = await Producer("pg", trio.nameserver).start()
    trio.broker.silent.add(SEND)
    task = asyncio.create_task(producer.send("T", b"x"))
    await until(lambda: trio.broker.count(SEND) == 1)
    await producer.close()
    with pytest.raises(Exception, match="closed while a message was on its way") as caught:
        await task
    assert caught.value.maybe_stored


async def test_oneway_needs_a_leader(producer, trio):
    await gone(producer, await trio.kill_leader(GROUP))
    with pytest.raises(NoLeader):
        await producer.send_oneway("T", b"x", timeout=0.2)


async def test_an_answer_after_the_deadline_changes_nothing(producer, trio):
    late = []

    def keep(connection, command):
        late.append((connection, command))

    trio.broker.hooks[SEND] = keep
    with pytest.raises(SendTimeout):
        await producer.send("T", b"x", timeout=0.2)
    connection, command = late[0]
    ext = {"msgId": "AB", "queueId": "0", "queueOffset": "0"}
    connection.reply(command, response(0, ext=ext))
    trio.broker.hooks.clear()
    assert (await producer.send("T", b"y")).status is SendStatus.SEND_OK
