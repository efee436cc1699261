"""Members of one group: shares, revoked queues, offsets, and leaders that fail."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ledgermq.client import assignment as assignment_module
from ledgermq.client import member as member_module
from ledgermq.client.errors import BackgroundFailure
from ledgermq.client.push_consumer import Consumer
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import response
from ledgermq.remoting.headers.pull import PullMessageRequest
from tests.support import until

PULL, COMMIT = RequestCode.PULL_MESSAGE, RequestCode.UPDATE_CONSUMER_OFFSET
MEMBERS, BACK = RequestCode.GET_CONSUMER_LIST_BY_GROUP, RequestCode.CONSUMER_SEND_MSG_BACK


def consumer(cluster, topics="T", **kwargs):
    return Consumer("cg", topics, cluster.nameserver, **({"start": "earliest"} | kwargs))


def shares(*consumers, topic="T"):
    return [
        sorted(q.queue_id for q in c._member.assignments if q.topic == topic) for c in consumers
    ]


def offset(cluster, queue_id=0, topic="T"):
    return cluster.group.offsets.get(("cg", topic, queue_id))


async def begun(c, count):
    """Wait until `count` queues of T know where they begin."""
    mine = c._member.assignments
    await until(
        lambda: sum(a.held is not None and a.queue.topic == "T" for a in mine.values()) == count
    )


class TestRebalance:
    async def test_alone_means_all_queues_and_the_retry_topic(self, cluster):
        async with consumer(cluster) as c:
            await until(lambda: shares(c) == [[0, 1]])
            await until(lambda: shares(c, topic="%RETRY%cg") == [[0]])

    async def test_two_members_share(self, cluster):
        cluster.topics["T"] = 4
        async with consumer(cluster) as one:
            await until(lambda: shares(one) == [[0, 1, 2, 3]])
            async with consumer(cluster) as two:
                await until(lambda: sorted(shares(one, two)) == [[0, 1], [2, 3]])
            await until(lambda: shares(one) == [[0, 1, 2, 3]])

    async def test_three_members_two_queues(self, cluster):
        async with consumer(cluster) as a, consumer(cluster) as b, consumer(cluster) as c:
            await until(lambda: sorted(shares(a, b, c)) == [[], [0], [1]])

    async def test_every_message_is_seen_while_members_come_and_go(self, cluster):
        cluster.topics["T"] = 4
        seen: set[bytes] = set()
        wanted = {b"%d" % i for i in range(400)}

        async def handler(message):
            seen.add(message.body)

        async def put():
            for i in range(400):
                cluster.put("T", i % 4, b"%d" % i)
                if i % 20 == 0:
                    await asyncio.sleep(0)

        async with consumer(cluster) as one:
            first = asyncio.create_task(one.run(handler))
            putting = asyncio.create_task(put())
            async with consumer(cluster) as two:
                second = asyncio.create_task(two.run(handler))
                await putting
                await until(lambda: sorted(shares(one, two)) == [[0, 1], [2, 3]])
                await two.close()
                await second
            await until(lambda: seen == wanted)
            await one.close()
            await first

    async def test_a_change_notice_of_another_group_is_nothing(self, cluster):
        async with consumer(cluster) as c:
            await until(lambda: shares(c, topic="%RETRY%cg") == [[0]])
            asked = cluster.broker.count(MEMBERS)
            cluster.broker.members["other"] = dict(cluster.broker.members["cg"])
            cluster.broker._notify("other")
            cluster.broker._notify("cg")
            await until(lambda: cluster.broker.count(MEMBERS) > asked)
            assert cluster.broker.count(MEMBERS) <= asked + 2

    async def test_more_queues_are_taken_up(self, cluster):
        async with consumer(cluster) as c:
            await until(lambda: shares(c) == [[0, 1]])
            cluster.topics["T"] = 3
            await c._member.instance.routes.refresh("T")
            await until(lambda: shares(c) == [[0, 1, 2]])

    async def test_a_topic_that_comes_later(self, cluster):
        async with consumer(cluster, {"Later": "*"}) as c:
            await until(lambda: c._member.instance._heartbeat_sent)
            assert shares(c, topic="Later") == [[]]
            cluster.topics["Later"] = 1
            cluster.put("Later", 0, b"x")
            assert (await anext(aiter(c))).body == b"x"

    async def test_a_member_nobody_lists_yet_tries_again(self, cluster, monkeypatch):
        monkeypatch.setattr(member_module, "_REBALANCE_RETRY_S", 0.01)
        cluster.broker.refuse(MEMBERS, 1, "no consumer for this group", times=5)
        async with consumer(cluster) as c:
            await until(lambda: shares(c) == [[0, 1]])

    async def test_the_list_is_asked_again_without_a_notice(self, cluster, monkeypatch):
        monkeypatch.setattr(member_module, "REBALANCE_S", 0.01)
        async with consumer(cluster) as c:
            await until(lambda: shares(c) == [[0, 1]])
            asked = cluster.broker.count(MEMBERS)
            await until(lambda: cluster.broker.count(MEMBERS) > asked + 4)


class TestRevoked:
    async def test_work_on_a_revoked_queue_is_not_committed(self, cluster):
        for i in range(2):
            cluster.put("T", i, b"%d" % i)
        async with consumer(cluster) as one:
            await begun(one, 2)
            loops = [aiter(one), aiter(one)]
            in_hand = [await anext(loop) for loop in loops]
            assert {m.queue_id for m in in_hand} == {0, 1}
            async with consumer(cluster) as two:
                await until(lambda: sorted(shares(one, two)) == [[0], [1]])
                ((kept,), (lost,)) = shares(one, two)
                assert offset(cluster, lost) in (None, 0)
                two_has = await anext(aiter(two))
                assert two_has.queue_id == lost
                for received in list(one._in_hand.values()):
                    one.acknowledge(received)
                await one.close()
                assert offset(cluster, kept) == 1
                assert offset(cluster, lost) in (None, 0)
            assert offset(cluster, lost) == 1

    async def test_the_progress_before_the_revocation_is_told(self, cluster, monkeypatch):
        monkeypatch.setattr(member_module, "COMMIT_S", 3600)
        cluster.topics["T"] = 4
        for i in range(4):
            cluster.put("T", i, b"x")
        async with consumer(cluster) as one:
            await begun(one, 4)
            loop = aiter(one)
            for _ in range(4):
                await anext(loop)
            task = asyncio.create_task(anext(loop))
            await asyncio.sleep(0)
            async with consumer(cluster) as two:
                await until(lambda: sorted(shares(one, two)) == [[0, 1], [2, 3]])
                (lost,) = shares(two)
                await until(lambda: [offset(cluster, i) for i in lost] == [1, 1])
            task.cancel()

    async def test_messages_of_a_revoked_queue_are_not_handed_out(self, cluster):
        for i in range(20):
            cluster.put("T", i % 2, b"%d" % i)
        async with consumer(cluster) as one:
            await until(lambda: len(one._member._ready) == 20)
            async with consumer(cluster) as two:
                await until(lambda: sorted(shares(one, two)) == [[0], [1]])
                ((kept,), _) = shares(one, two)
                loop = aiter(one)
                got = [await anext(loop) for _ in range(10)]
                assert {m.queue_id for m in got} == {kept}
                assert not one._member._ready or one._member.take_now() is None

    async def test_a_revoked_message_is_not_given_back(self, cluster):
        cluster.put("T", 0, b"x")
        async with consumer(cluster) as c:
            loop = aiter(c)
            await anext(loop)
            for a in c._member.assignments.values():
                a.revoke()
            (received,) = c._in_hand.values()
            await c._give_back(received)
        assert cluster.broker.count(BACK) == 0


class TestOffsets:
    async def test_a_successor_goes_on_where_the_group_stopped(self, cluster):
        for i in range(10):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster) as c:
            loop = aiter(c)
            first = [(await anext(loop)).body for _ in range(4)]
        async with consumer(cluster) as c:
            loop = aiter(c)
            second = [(await anext(loop)).body for _ in range(6)]
        assert first + second == [b"%d" % i for i in range(10)]

    async def test_progress_is_told_every_few_seconds_one_way_and_once(self, cluster, monkeypatch):
        monkeypatch.setattr(member_module, "COMMIT_S", 0.01)
        async with consumer(cluster) as c:
            await begun(c, 2)
            await until(lambda: cluster.broker.count(COMMIT) >= 2)
            told = cluster.broker.count(COMMIT)
            cluster.put("T", 0, b"x")
            async for _ in c:
                break
            await until(lambda: offset(cluster) == 1)
            await until(lambda: cluster.broker.count(COMMIT) > told)
            sent = cluster.broker.requests(COMMIT)
        assert all(s.is_oneway for s in sent[: told + 1])
        per_queue = [(s.ext["topic"], s.ext["queueId"], s.ext["commitOffset"]) for s in sent]
        assert per_queue.count(("T", "0", "1")) <= 2

    async def test_pulls_carry_the_offset_along(self, cluster, monkeypatch):
        monkeypatch.setattr(member_module, "COMMIT_S", 3600)
        for i in range(40):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster, max_cached_messages=1) as c:
            loop = aiter(c)
            for _ in range(34):
                await anext(loop)
            await until(lambda: (offset(cluster) or 0) >= 32)

    async def test_the_last_word_is_said_at_the_close(self, cluster, monkeypatch):
        monkeypatch.setattr(member_module, "COMMIT_S", 3600)
        cluster.put("T", 0, b"x")
        async with consumer(cluster) as c:
            async for _ in c:
                break
        assert offset(cluster) == 1
        assert not cluster.broker.requests(COMMIT)[-1].is_oneway

    async def test_a_close_without_a_leader_is_logged_and_ends(self, cluster, monkeypatch, caplog):
        monkeypatch.setattr(member_module, "_CLOSE_COMMIT_TIMEOUT_MS", 100)
        async with consumer(cluster) as c:
            await begun(c, 2)
            await cluster.kill_leader("RaftNode00")
        assert "not committed" in caplog.text

    @pytest.mark.parametrize(
        ("start", "first"),
        [
            ("earliest", b"0"),
            ("latest", b"new"),
            (0, b"0"),
            (datetime.now(UTC) - timedelta(days=1), b"0"),
            (datetime.now(UTC) + timedelta(days=1), b"new"),
            (1 << 45, b"new"),
        ],
        ids=["earliest", "latest", "ms, the beginning", "yesterday", "tomorrow", "ms, far away"],
    )
    async def test_where_a_new_group_begins(self, cluster, start, first):
        cluster.topics["T"] = 1
        for i in range(3):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster, start=start) as c:
            await begun(c, 1)
            cluster.put("T", 0, b"new")
            assert (await anext(aiter(c))).body == first

    async def test_where_the_broker_knows_an_offset_start_does_not_matter(self, cluster):
        cluster.topics["T"] = 1
        for i in range(3):
            cluster.put("T", 0, b"%d" % i)
        cluster.group.offsets["cg", "T", 0] = 1
        async with consumer(cluster, start="latest") as c:
            assert (await anext(aiter(c))).body == b"1"

    async def test_a_start_at_the_end_is_told_at_once(self, cluster, monkeypatch):
        """Or messages that come before the first commit are lost to a consumer that dies."""
        monkeypatch.setattr(member_module, "COMMIT_S", 3600)
        cluster.put("T", 0, b"old")
        async with consumer(cluster, start="latest"):
            await until(lambda: offset(cluster) == 1)

    async def test_an_offset_below_the_oldest_message(self, cluster, caplog):
        cluster.topics["T"] = 1
        for i in range(10):
            cluster.put("T", 0, b"%d" % i)
        cluster.group.offsets["cg", "T", 0] = 2
        cluster.group.min_offsets["T", 0] = 7
        async with consumer(cluster) as c:
            assert (await anext(aiter(c))).body == b"7"
        assert "offset 2 does not exist" in caplog.text
        assert offset(cluster) == 8

    async def test_an_offset_beyond_the_end(self, cluster):
        cluster.topics["T"] = 1
        cluster.group.offsets["cg", "T", 0] = 100
        async with consumer(cluster) as c:
            await until(lambda: offset(cluster) == 0)
            cluster.put("T", 0, b"x")
            assert (await anext(aiter(c))).body == b"x"

    async def test_messages_in_work_when_the_queue_was_reset_are_not_counted(self, cluster):
        cluster.topics["T"] = 1
        for i in range(40):
            cluster.put("T", 0, b"%d" % i)
        async with consumer(cluster, max_cached_messages=32) as c:
            loop = aiter(c)
            await anext(loop)
            await anext(loop)
            cluster.group.min_offsets["T", 0] = 39
            await until(lambda: any(a.held.next_pull >= 39 for a in assigned(c)))
            assert (await anext(loop)).body == b"39"
            assert [a.held.committable for a in assigned(c)] == [39]


def assigned(c):
    return [a for a in c._member.assignments.values() if a.queue.topic == "T"]


class TestPullRequests:
    async def test_what_a_pull_says(self, cluster):
        cluster.topics["T"] = 1
        cluster.group.offsets["cg", "T", 0] = 0
        async with consumer(cluster, {"T": "A || B"}) as c:
            await until(lambda: cluster.broker.count(PULL))
            version = c._member.subscriptions["T"].version
        asked = [PullMessageRequest.from_ext(p.ext) for p in cluster.broker.requests(PULL)]
        first = next(p for p in asked if p.topic == "T")
        assert first == PullMessageRequest(
            consumer_group="cg",
            topic="T",
            queue_id=0,
            queue_offset=0,
            max_msg_nums=32,
            sys_flag=7,
            commit_offset=0,
            suspend_timeout_millis=15_000,
            sub_version=version,
            subscription="A || B",
            expression_type="TAG",
        )

    async def test_the_replica_that_is_suggested_is_asked_next(self, trio):
        trio.topics["T"] = 1
        usual = trio.broker._handlers[PULL]

        async def suggest(connection, command):
            reply = await usual(connection, command)
            reply.ext["suggestWhichBrokerId"] = "2"
            return reply

        trio.broker.hooks[PULL] = suggest
        trio.put("T", 0, b"x")
        async with consumer(trio) as c:
            await anext(aiter(c))
            replica = trio.nodes["RaftNode00"][1]
            await until(lambda: replica.count(PULL))
        # Only the leader is given the offset to store.
        assert {p.ext["sysFlag"] for p in replica.requests(PULL)} == {"6"}

    async def test_a_lost_leader_is_replaced_by_a_replica_and_then_by_the_next_leader(self, trio):
        trio.topics["T"] = 1
        nodes = trio.nodes["RaftNode00"]
        async with consumer(trio) as c:
            await begun(c, 1)
            await trio.kill_leader("RaftNode00")
            trio.group.append("T", 0, b"x", "", nodes[1].address)
            loop = aiter(c)
            assert (await anext(loop)).body == b"x"
            trio.elect(nodes[1])
            trio.group.append("T", 0, b"y", "", nodes[1].address)
            assert (await anext(loop)).body == b"y"
        assert offset(trio) == 2

    async def test_a_stranger_greets_and_tries_again(self, cluster):
        cluster.broker.refuse(PULL, 24, "the consumer's subscription not exist", times=1)
        async with consumer(cluster) as c:
            cluster.put("T", 0, b"x")
            assert (await anext(aiter(c))).body == b"x"
            await until(lambda: cluster.broker.count(RequestCode.HEART_BEAT) >= 2)

    async def test_a_trouble_that_lasts_is_logged_once(self, cluster, caplog, monkeypatch):
        monkeypatch.setattr(assignment_module, "_PAUSE_LONGEST_S", 0.05)
        cluster.topics["T"] = 1
        cluster.broker.refuse(PULL, 16, "the broker is not readable", times=6)
        async with consumer(cluster) as c:
            cluster.put("T", 0, b"x")
            assert (await anext(aiter(c))).body == b"x"
        said = [r for r in caplog.records if "not readable" in r.message and "topic=T" in r.message]
        assert len(said) <= 1

    async def test_a_refusal_that_will_never_change_reaches_the_application(self, cluster):
        cluster.broker.refuse(PULL, 23, "parse the consumer's subscription failed")
        async with consumer(cluster) as c:
            with pytest.raises(BackgroundFailure, match="subscription failed"):
                await anext(aiter(c))

    async def test_a_message_that_cannot_be_read_reaches_the_application(self, cluster):
        """Skipping it would lose it."""
        ext = {
            "suggestWhichBrokerId": "0",
            "nextBeginOffset": "1",
            "minOffset": "0",
            "maxOffset": "1",
        }
        cluster.broker.hooks[PULL] = lambda _c, _r: response(0, ext=ext, body=b"\0" * 200)
        async with consumer(cluster) as c:
            with pytest.raises(BackgroundFailure, match="cannot be read"):
                await anext(aiter(c))


class TestLies:
    async def test_offsets_and_pulls_that_cannot_be_read_are_asked_for_again(self, cluster):
        """One bad answer is no reason to end a consumer: another node may do better."""
        cluster.put("T", 0, b"x")
        bad = {PULL: 2, RequestCode.QUERY_CONSUMER_OFFSET: 2}

        def spoil(code):
            usual = cluster.broker._handlers[code]

            async def answer(connection, command):
                bad[code] -= 1
                if bad[code] >= 0:
                    return response(0, ext={"offset": "many", "minOffset": "0"})
                reply = usual(connection, command)
                return await reply if asyncio.iscoroutine(reply) else reply

            cluster.broker.hooks[code] = answer

        for code in bad:
            spoil(code)
        async with consumer(cluster, start="earliest") as c:
            assert (await anext(aiter(c))).body == b"x"

    @pytest.mark.parametrize("code", [19, 20, 21])
    async def test_a_broker_that_has_nothing_and_says_so_at_once(self, cluster, code):
        ext = {
            "suggestWhichBrokerId": "0",
            "nextBeginOffset": "0",
            "minOffset": "0",
            "maxOffset": "0",
        }
        cluster.topics["T"] = 1
        cluster.broker.hooks[PULL] = lambda _c, _r: response(code, ext=ext)
        loop = asyncio.get_running_loop()
        async with consumer(cluster):
            await until(lambda: cluster.broker.count(PULL), what="the first pull")
            begin_s, before = loop.time(), cluster.broker.count(PULL)
            await until(lambda: loop.time() - begin_s > 0.3, what="some time")
            # Two queues, the group's retry topic among them; an answer takes far less than 1 ms.
            most = 2 + 2 * 2 * (loop.time() - begin_s) / assignment_module._QUICK_PAUSE_S
            assert cluster.broker.count(PULL) - before <= most


class TestGiveBack:
    async def test_it_follows_a_new_leader(self, trio):
        trio.topics["T"] = 1
        trio.put("T", 0, b"x")
        nodes = trio.nodes["RaftNode00"]
        failed = asyncio.Event()

        async def handler(message):
            if message.reconsume_times == 0:
                await trio.kill_leader("RaftNode00")
                failed.set()
                raise ValueError
            done.set()

        done = asyncio.Event()
        async with consumer(trio, timeout=10) as c:
            task = asyncio.create_task(c.run(handler))
            await failed.wait()
            trio.elect(nodes[2])
            await done.wait()
            await c.close()
            await task
        assert nodes[2].count(BACK) == 1
