"""What happens to messages that are handed to loops and handlers."""

import asyncio

import pytest

from ledgermq.client import push_consumer
from ledgermq.client.errors import ClientClosed, InvalidArgument
from ledgermq.client.push_consumer import Consumer
from ledgermq.remoting.codes import RequestCode
from tests.support import until

BACK = RequestCode.CONSUMER_SEND_MSG_BACK
RETRY = "%RETRY%cg"


def consumer(cluster, topics="T", **kwargs):
    return Consumer("cg", topics, cluster.nameserver, **({"start": "earliest"} | kwargs))


def fill(cluster, count, **properties):
    for i in range(count):
        cluster.put("T", 0, b"%d" % i, **properties)


def committed(cluster, queue_id=0, topic="T"):
    return cluster.group.offsets.get(("cg", topic, queue_id))


async def failing_loop(c):
    async for _ in c:
        raise ValueError("mine")


async def failing_consumer(made):
    async with made as c:
        async for _ in c:
            raise ValueError("mine")


async def stuck_loop(c):
    async for _ in c:
        await asyncio.Event().wait()


class TestLoop:
    async def test_messages_arrive_with_what_they_were_sent_with(self, cluster):
        cluster.put("T", 1, b"hi", TAGS="A", KEYS="k1 k2", own="v", UNIQ_KEY="ID")
        async with consumer(cluster) as c:
            message = await anext(aiter(c))
        assert (message.topic, message.body, message.tag) == ("T", b"hi", "A")
        assert message.keys == ["k1", "k2"]
        assert message.properties["own"] == "v"
        assert (message.broker_name, message.queue_id) == ("RaftNode00", 1)
        assert (message.queue_offset, message.msg_id) == (0, "ID")

    async def test_messages_that_come_later(self, cluster):
        async with consumer(cluster) as c:
            first = asyncio.create_task(anext(aiter(c)))
            await until(lambda: cluster.broker.count(RequestCode.PULL_MESSAGE) >= 2)
            cluster.put("T", 1, b"late")
            assert (await first).body == b"late"

    async def test_the_end_of_the_body_acknowledges(self, cluster):
        fill(cluster, 3)
        async with consumer(cluster) as c:
            seen = []
            async for message in c:
                seen.append(message.body)
                if len(seen) == 3:
                    assert held_of(c, 0)[0].committable == 2
                    break
        assert seen == [b"0", b"1", b"2"]
        assert committed(cluster) == 3

    async def test_break_acknowledges_at_once(self, cluster):
        fill(cluster, 2)
        async with consumer(cluster) as c:
            async for _ in c:
                break
            assert held_of(c, 0)[0].committable == 1
        assert committed(cluster) == 1

    async def test_return_acknowledges(self, cluster):
        fill(cluster, 2)

        async def first():
            async with consumer(cluster) as c:
                async for message in c:
                    return message
            return None

        assert (await first()).body == b"0"
        assert committed(cluster) == 1

    async def test_an_error_that_ends_everything_gives_the_message_back(self, cluster):
        fill(cluster, 2)
        with pytest.raises(ValueError, match="mine"):
            await failing_consumer(consumer(cluster))
        (back,) = cluster.broker.requests(BACK)
        assert back.ext["group"] == "cg"
        assert back.ext["originTopic"] == "T"
        assert back.ext["delayLevel"] == "0"
        assert back.ext["maxReconsumeTimes"] == "16"
        assert committed(cluster) == 1
        assert len(cluster.group.records[RETRY, 0]) == 1

    async def test_an_error_caught_outside_of_the_loop_gives_it_back_too(self, cluster):
        fill(cluster, 2)
        async with consumer(cluster) as c:
            with pytest.raises(ValueError, match="mine"):
                await failing_loop(c)
            bodies = []
            async for message in c:
                bodies.append((message.body, message.reconsume_times))
                if len(bodies) == 2:
                    break
        assert sorted(bodies) == [(b"0", 1), (b"1", 0)]
        assert cluster.broker.count(BACK) == 1

    async def test_an_error_caught_and_then_the_end(self, cluster):
        fill(cluster, 1)
        async with consumer(cluster) as c:
            with pytest.raises(ValueError, match="mine"):
                await failing_loop(c)
        assert cluster.broker.count(BACK) == 1

    async def test_an_error_inside_the_body_that_is_caught_there_is_none(self, cluster):
        fill(cluster, 1)
        async with consumer(cluster) as c:
            async for _ in c:
                with pytest.raises(ValueError, match="x"):
                    raise ValueError("x")
                break
        assert cluster.broker.count(BACK) == 0
        assert committed(cluster) == 1

    async def test_cancellation_leaves_the_message_unacknowledged(self, cluster):
        fill(cluster, 3)
        got = asyncio.Event()

        async def work():
            async with consumer(cluster) as c:
                async for message in c:
                    if message.body == b"1":
                        got.set()
                        await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await got.wait()
        task.cancel()
        await until(task.done)
        assert task.cancelled()
        assert committed(cluster) == 1
        assert cluster.broker.count(BACK) == 0

    async def test_a_timeout_around_the_loop_gives_the_message_back(self, cluster):
        fill(cluster, 2)
        async with consumer(cluster) as c:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stuck_loop(c), 0.5)
            async for message in c:
                assert message.body == b"1"
                break
        assert cluster.broker.count(BACK) == 1
        assert committed(cluster) == 2

    async def test_a_retried_message_shows_its_own_topic(self, cluster):
        fill(cluster, 1)
        async with consumer(cluster) as c:
            with pytest.raises(ValueError, match="mine"):
                await failing_loop(c)
            message = await anext(aiter(c))
        assert (message.topic, message.reconsume_times) == ("T", 1)
        assert committed(cluster, topic=RETRY) == 1

    async def test_two_loops_share_the_messages(self, cluster):
        fill(cluster, 40)
        seen: list[bytes] = []
        async with consumer(cluster) as c:

            async def loop():
                async for message in c:
                    seen.append(message.body)
                    await asyncio.sleep(0)

            tasks = [asyncio.create_task(loop()) for _ in range(2)]
            await until(lambda: len(seen) == 40)
            await c.close()
            await asyncio.gather(*tasks)
        assert sorted(seen) == sorted(b"%d" % i for i in range(40))

    async def test_closing_from_elsewhere_ends_the_loop(self, cluster):
        async with consumer(cluster) as c:
            task = asyncio.create_task(anext(aiter(c)))
            await asyncio.sleep(0)
            await c.close()
            with pytest.raises(StopAsyncIteration):
                await task
            with pytest.raises(ClientClosed):
                await anext(aiter(c))

    async def test_an_iterator_that_is_kept_acknowledges_at_a_normal_end(self, cluster):
        fill(cluster, 2)
        async with consumer(cluster) as c:
            kept = aiter(c)
            await anext(kept)
        assert committed(cluster) == 1
        del kept

    async def test_an_iterator_that_is_kept_gives_back_at_an_error(self, cluster):
        fill(cluster, 2)
        kept = []

        async def work():
            async with consumer(cluster) as c:
                kept.append(aiter(c))
                await anext(kept[0])
                raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            await work()
        assert cluster.broker.count(BACK) == 1


class TestTags:
    async def test_only_the_tags_wanted(self, cluster):
        for tag in "ABCAB":
            cluster.put("T", 0, tag.encode(), TAGS=tag)
        seen = []
        async with consumer(cluster, {"T": "A || B"}) as c:
            async for message in c:
                seen.append(message.body)
                if len(seen) == 4:
                    break
        assert seen == [b"A", b"B", b"A", b"B"]

    async def test_tags_of_one_hash_are_told_apart(self, cluster):
        cluster.put("T", 0, b"wrong", TAGS="BB")
        cluster.put("T", 0, b"right", TAGS="Aa")
        async with consumer(cluster, {"T": "Aa"}) as c:
            async for message in c:
                assert message.body == b"right"
                break
        assert committed(cluster) == 2

    async def test_progress_over_messages_nobody_wants(self, cluster):
        fill(cluster, 100, TAGS="other")
        async with consumer(cluster, {"T": "mine"}) as c:
            await until(lambda: held_of(c, 0))
            await until(lambda: held_of(c, 0)[0].committable == 100)
        assert committed(cluster) == 100


class TestRun:
    async def test_handlers_run_at_the_same_time(self, cluster):
        fill(cluster, 10)
        at_once, most, done = 0, 0, 0

        async def handler(message):
            nonlocal at_once, most, done
            at_once += 1
            most = max(most, at_once)
            await until(lambda: most == 4 or done >= 8)
            at_once -= 1
            done += 1

        async with consumer(cluster, concurrency=4) as c:
            task = asyncio.create_task(c.run(handler))
            await until(lambda: done == 10)
            await c.close()
            await task
        assert most == 4
        assert committed(cluster) == 10

    async def test_it_starts_and_closes_by_itself(self, cluster):
        fill(cluster, 3)
        seen = []
        c = consumer(cluster)

        async def handler(message):
            seen.append(message.body)

        task = asyncio.create_task(c.run(handler))
        await until(lambda: len(seen) == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert c._member.instance.transport.closed

    async def test_a_plain_function_will_do(self, cluster):
        fill(cluster, 3)
        seen = []
        async with consumer(cluster) as c:
            task = asyncio.create_task(c.run(lambda m: seen.append(m.body)))
            await until(lambda: len(seen) == 3)
            await c.close()
            await task
        assert cluster.broker.count(BACK) == 0

    async def test_a_failing_handler_gets_the_message_again(self, cluster, caplog):
        fill(cluster, 5)
        seen = []

        async def handler(message):
            seen.append((message.body, message.reconsume_times))
            if message.body == b"2" and message.reconsume_times < 2:
                raise ValueError("not yet")

        async with consumer(cluster) as c:
            task = asyncio.create_task(c.run(handler))
            await until(lambda: (b"2", 2) in seen)
            await c.close()
            await task
        assert sorted(seen) == sorted([(b"%d" % i, 0) for i in range(5)] + [(b"2", 1), (b"2", 2)])
        assert "not yet" in caplog.text
        assert committed(cluster) == 5

    async def test_max_retries_travels(self, cluster):
        fill(cluster, 1)

        async def handler(message):
            raise ValueError

        async with consumer(cluster, max_retries=3) as c:
            task = asyncio.create_task(c.run(handler))
            await until(lambda: cluster.broker.count(BACK))
            await c.close()
            await task
        assert cluster.broker.requests(BACK)[0].ext["maxReconsumeTimes"] == "3"

    async def test_cancelling_leaves_messages_in_work_unacknowledged(self, cluster):
        fill(cluster, 3)
        working = asyncio.Event()

        async def handler(message):
            if message.body != b"0":
                working.set()
                await asyncio.Event().wait()

        async with consumer(cluster) as c:
            task = asyncio.create_task(c.run(handler))
            await working.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert committed(cluster) == 1
        assert cluster.broker.count(BACK) == 0

    async def test_what_cannot_be_given_back_is_tried_here_again(
        self, cluster, monkeypatch, caplog
    ):
        monkeypatch.setattr(push_consumer, "_REDELIVER_S", 0.01)
        cluster.broker.refuse(BACK, 1, "store is broken")
        fill(cluster, 1)
        seen = []

        async def handler(message):
            seen.append(message.reconsume_times)
            if len(seen) < 3:
                raise ValueError

        async with consumer(cluster) as c:
            task = asyncio.create_task(c.run(handler))
            await until(lambda: len(seen) == 3)
            await c.close()
            await task
        assert seen == [0, 1, 2]
        assert "store is broken" in caplog.text
        assert committed(cluster) == 1

    async def test_a_message_waiting_for_another_try_is_not_committed(self, cluster):
        cluster.broker.refuse(BACK, 1, "store is broken")
        fill(cluster, 2)
        seen = []

        async def handler(message):
            seen.append(message.body)
            if message.body == b"0":
                raise ValueError

        async with consumer(cluster) as c:
            task = asyncio.create_task(c.run(handler))
            await until(lambda: len(seen) == 2 and cluster.broker.count(BACK) and c._redeliveries)
            await c.close()
            await task
        assert committed(cluster) == 0

    async def test_it_can_be_the_only_use_of_a_closed_consumer(self, cluster):
        async with consumer(cluster) as c:
            pass
        with pytest.raises(ClientClosed):
            await c.run(lambda _m: None)


class TestFlowControl:
    async def test_pulling_pauses_when_enough_is_held(self, cluster):
        fill(cluster, 300)
        async with consumer(cluster, max_cached_messages=64) as c:
            await until(lambda: c._member.assignments and len(c._member._ready) == 64)
            pulls = cluster.broker.count(RequestCode.PULL_MESSAGE)
            seen = 0
            async for _ in c:
                seen += 1
                assert len(c._member._ready) <= 96
                if seen == 300:
                    break
        assert cluster.broker.count(RequestCode.PULL_MESSAGE) > pulls
        assert committed(cluster) == 300

    async def test_bytes_count_too(self, cluster):
        for _ in range(100):
            cluster.put("T", 0, b"x" * 1000)
        async with consumer(cluster, max_cached_bytes=20_000) as c:
            await until(lambda: len(c._member._ready) == 32)
            assert held_of(c, 0)[0].cached_bytes == 32_000


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"start": "yesterday"}, "yesterday"),
        ({"start": -5}, "-5"),
        ({"topics": {}}, "no topic"),
        ({"topics": {"T": "||"}}, "no tag"),
        ({"nameserver": "nonsense"}, "nonsense"),
    ],
)
def test_bad_arguments_are_refused_at_once(kwargs, words):
    arguments = {"group": "cg", "topics": "T", "nameserver": "h:1"} | kwargs
    with pytest.raises(InvalidArgument, match=words):
        Consumer(**arguments)


def held_of(c, queue_id, topic="T"):
    """The windows of the queue of that number, as far as it is ours."""
    mine = c._member.assignments.values()
    return [a.held for a in mine if a.queue[::2] == (topic, queue_id) and a.held is not None]
