"""11 and 361: each status, waiting for messages, filters, followers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.app import BrokerApp
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.message import decode_records
from tests.support import until
from tests.support.brokers import Brokers, pull_request, send_request

COMMIT, SUSPEND, SUBSCRIPTION = 1, 2, 4
WAIT = SUSPEND | SUBSCRIPTION


async def send(group: Brokers, body: bytes, tag: str = "", topic: str = "T") -> None:
    text = f"TAGS\x01{tag}\x02" if tag else ""
    reply = await group.ask(await group.leader(), send_request(topic, body, properties=text))
    assert reply.code == 0


async def heartbeat(group: Brokers, app: BrokerApp, version: int, expression: str) -> None:
    body = (
        '{"clientID":"c","consumerDataSet":[{"groupName":"CG","consumeType":"CONSUME_PASSIVELY",'
        '"messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET",'
        f'"subscriptionDataSet":[{{"topic":"T","subString":"{expression}","subVersion":{version},'
        '"expressionType":"TAG"}]}]}'
    )
    assert (await group.ask(app, request(RequestCode.HEART_BEAT, {}, body.encode()))).code == 0


async def filled(group: Brokers, count: int = 5, queues: int = 1) -> BrokerApp:
    await group.create_topic("T", queues)
    for i in range(count):
        await send(group, b"m%d" % i, f"Tag{i % 2}")
    return await group.leader()


# --- statuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [11, 361])
async def test_found(tmp_path: Path, code: int) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        command = pull_request("T", 1, max_msg_nums=3)
        command.code = code
        reply = await group.ask(app, command)
        assert (reply.code, reply.remark) == (0, "FOUND")
        assert reply.ext == {
            "suggestWhichBrokerId": "0",
            "nextBeginOffset": "4",
            "minOffset": "0",
            "maxOffset": "5",
            "topicSysFlag": "0",
            "groupSysFlag": "0",
        }
        units = app.dispatcher.queues.get("T", 0).read(1, 3)
        stored = [await app.log.read_at(u.physical_offset, u.size) for u in units]
        assert reply.body == b"".join(stored)


@pytest.mark.parametrize(
    ("messages", "offset", "code", "remark", "following"),
    [
        pytest.param(5, 5, 19, "OFFSET_OVERFLOW_ONE", 5, id="at the end"),
        pytest.param(5, 6, 21, "OFFSET_OVERFLOW_BADLY", 5, id="past the end"),
        pytest.param(5, -1, 21, "OFFSET_TOO_SMALL", 0, id="before the begin"),
        pytest.param(0, 0, 19, "NO_MESSAGE_IN_QUEUE", 0, id="empty queue"),
        pytest.param(0, 3, 21, "NO_MESSAGE_IN_QUEUE", 0, id="past an empty queue"),
    ],
)
async def test_nothing_found(
    tmp_path: Path, messages: int, offset: int, code: int, remark: str, following: int
) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group, messages)
        reply = await group.ask(app, pull_request("T", offset))
        assert (reply.code, reply.remark) == (code, remark)
        assert reply.ext["nextBeginOffset"] == str(following)
        assert reply.ext["maxOffset"] == str(messages)
        assert reply.body == b""


async def test_no_match_moves_the_offset_on(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        reply = await group.ask(app, pull_request("T", 0, subscription="Other"))
        assert (reply.code, reply.remark) == (20, "NO_MATCHED_MESSAGE")
        assert reply.ext["nextBeginOffset"] == "5"
        # Not held either: there is more to look through.
        waiting = pull_request("T", 0, subscription="Other", sys_flag=WAIT)
        assert (await group.ask(app, waiting)).code == 20


@pytest.mark.parametrize(
    ("expression", "bodies"),
    [
        ("*", [b"m0", b"m1", b"m2", b"m3", b"m4"]),
        ("", [b"m0", b"m1", b"m2", b"m3", b"m4"]),
        ("Tag1", [b"m1", b"m3"]),
        (" Tag1 || Nothing ", [b"m1", b"m3"]),
        ("Tag0||Tag1", [b"m0", b"m1", b"m2", b"m3", b"m4"]),
    ],
)
async def test_tag_filter(tmp_path: Path, expression: str, bodies: list[bytes]) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        reply = await group.ask(app, pull_request("T", 0, subscription=expression))
        assert [m.body for m in decode_records(reply.body)] == bodies
        assert int(reply.ext["nextBeginOffset"]) == 5


async def test_limits_of_one_answer(tmp_path: Path) -> None:
    async with Brokers(
        tmp_path, max_transfer_count_in_memory=4, max_transfer_bytes_in_memory=1000
    ) as group:
        await group.create_topic("T")
        for size in (1, 1, 1, 1, 1, 2000, 400, 400, 400):
            await send(group, b"x" * size)
        app = await group.leader()
        taken = []
        at = 0
        while at < 9:
            reply = await group.ask(app, pull_request("T", at, max_msg_nums=32))
            taken.append(len(decode_records(reply.body)))
            at = int(reply.ext["nextBeginOffset"])
        assert taken == [4, 1, 1, 1, 1, 1]  # the first one always, however large
        reply = await group.ask(app, pull_request("T", 0, max_msg_nums=0))
        assert len(decode_records(reply.body)) == 1


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "code"),
    [
        pytest.param({"topic": INTERNAL_TOPIC}, 16, id="internal topic"),
        pytest.param({"topic": "Unknown"}, 17, id="unknown topic"),
        pytest.param({"topic": "WriteOnly"}, 16, id="not readable"),
        pytest.param({"queue_id": 1}, 29, id="queue id"),
        pytest.param({"queue_id": -1}, 29, id="queue id below zero"),
        pytest.param({"consumer_group": "no group!"}, 26, id="bad group name"),
        pytest.param({"consumer_group": "Off"}, 16, id="group may not consume"),
        pytest.param({"expression_type": "SQL92"}, 1, id="SQL"),
        pytest.param({"sys_flag": 0}, 24, id="no heartbeat"),
    ],
)
async def test_what_is_refused(tmp_path: Path, more: dict[str, Any], code: int) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group, 1)
        await group.create_topic("WriteOnly", perm=2)
        body = b'{"groupName":"Off","consumeEnable":false}'
        create = request(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, {}, body)
        assert (await group.ask(app, create)).code == 0
        fields = {"topic": "T", "offset": 0, **more}
        reply = await group.ask(app, pull_request(**fields))
        assert reply.code == code, reply.remark
        assert reply.remark


async def test_a_broker_that_may_not_be_read(tmp_path: Path) -> None:
    async with Brokers(tmp_path, broker_permission=2) as group:
        app = await filled(group, 1)
        assert (await group.ask(app, pull_request("Unknown", 0))).code == 16


async def test_groups_that_may_not_create_themselves(tmp_path: Path) -> None:
    async with Brokers(tmp_path, auto_create_subscription_group=False) as group:
        app = await filled(group, 1)
        assert (await group.ask(app, pull_request("T", 0))).code == 26
        reply = await group.ask(app, pull_request("T", 0, consumer_group="TOOLS_CONSUMER"))
        assert reply.code == 0


async def test_the_subscription_of_the_heartbeat(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        await heartbeat(group, app, 7, "Tag1")
        await group.create_topic("Other")
        reply = await group.ask(app, pull_request("T", 0, sys_flag=0, sub_version=7))
        assert [m.body for m in decode_records(reply.body)] == [b"m1", b"m3"]
        assert (await group.ask(app, pull_request("T", 0, sys_flag=0, sub_version=8))).code == 25
        assert (await group.ask(app, pull_request("Other", 0, sys_flag=0))).code == 24


# --- waiting ----------------------------------------------------------------------------------


def waiting(offset: int, **more: Any) -> RemotingCommand:
    return pull_request("T", offset, **{"sys_flag": WAIT, **more})


async def held(app: BrokerApp, count: int = 1) -> None:
    await until(lambda: len(app.polling._deadlines) == count, what=f"{count} held pulls")


async def test_an_arrival_wakes(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        asking = asyncio.create_task(group.ask(app, waiting(5)))
        await held(app)
        await send(group, b"new")
        reply = await asking
        assert [m.body for m in decode_records(reply.body)] == [b"new"]
        assert len(app.polling._deadlines) == 0


async def test_only_a_matching_tag_wakes(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        asking = asyncio.create_task(group.ask(app, waiting(5, subscription="Wanted")))
        await held(app)
        await send(group, b"other", "Other")
        assert not asking.done()
        assert len(app.polling._deadlines) == 1
        await send(group, b"wanted", "Wanted")
        reply = await asking
        assert [m.body for m in decode_records(reply.body)] == [b"wanted"]
        assert reply.ext["nextBeginOffset"] == "7"


@pytest.mark.parametrize(
    ("messages", "remark"), [(0, "NO_MESSAGE_IN_QUEUE"), (5, "OFFSET_OVERFLOW_ONE")]
)
async def test_the_deadline_answers_19(tmp_path: Path, messages: int, remark: str) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group, messages)
        reply = await group.ask(app, waiting(messages, suspend_timeout_millis=30))
        assert (reply.code, reply.remark) == (19, remark)
        assert reply.ext["nextBeginOffset"] == str(messages)


async def test_short_polling_does_not_wait_longer(tmp_path: Path) -> None:
    async with Brokers(tmp_path, long_polling_enable=False, short_polling_time_ms=30) as group:
        app = await filled(group)
        reply = await group.ask(app, waiting(5, suspend_timeout_millis=60_000))
        assert reply.code == 19


async def test_without_the_bit_nobody_waits(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        assert (await group.ask(app, waiting(5, sys_flag=SUBSCRIPTION))).code == 19
        assert (await group.ask(app, waiting(9))).code == 21  # nor for a wrong offset


async def test_a_closed_connection_is_forgotten(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        client = RemotingClient()
        tasks = [
            asyncio.create_task(client.request(app.config.address, c, 9000))
            for c in [waiting(5, suspend_timeout_millis=200) for _ in range(3)]
        ]
        await held(app, 3)
        await client.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await held(app, 0)
        await send(group, b"new")
        assert not app.failed.done()


async def test_when_too_many_wait_the_next_is_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledgermq.broker.long_polling.MAX_HELD", 2)
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        tasks = [asyncio.create_task(group.ask(app, waiting(5))) for _ in range(2)]
        await held(app, 2)
        assert (await group.ask(app, waiting(5))).code == 19
        await send(group, b"new")
        assert [r.code for r in await asyncio.gather(*tasks)] == [0, 0]


async def test_a_topic_deleted_while_a_pull_waits(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        asking = asyncio.create_task(group.ask(app, waiting(5, suspend_timeout_millis=300)))
        await held(app)
        await group.delete_topic("T")
        reply = await asking
        assert reply.code in (17, 19, 21)
        assert not app.failed.done()


async def test_a_stop_answers_the_pulls_that_wait(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        asking = asyncio.create_task(group.ask(app, waiting(5)))
        await held(app)
        await group.stop()
        assert (await asking).code == 19


# --- followers --------------------------------------------------------------------------------


async def test_a_follower_serves_what_is_committed(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        leader = await filled(group)
        assert (await group.ask(leader, pull_request("T", 0))).code == 0  # makes the group
        await group.same_metadata()
        for follower in await group.followers():
            await until(lambda f=follower: f.reader.max_offset("T", 0) == 5)
            ours = await group.ask(follower, pull_request("T", 0))
            assert ours.body == (await group.ask(leader, pull_request("T", 0))).body
            asking = asyncio.create_task(group.ask(follower, waiting(5)))
            await held(follower)
        await send(group, b"new")
        assert [m.body for m in decode_records((await asking).body)] == [b"new"]


@pytest.mark.parametrize("messages", [0, 5], ids=["empty", "shorter"])
async def test_a_follower_never_says_that_an_offset_is_wrong(tmp_path: Path, messages: int) -> None:
    """Its own end is not the queue's: a client told 21 or a smaller offset would read again."""
    async with Brokers(tmp_path, nodes=3) as group:
        leader = await filled(group, messages)
        await group.ask(leader, pull_request("T", 0))
        await group.same_metadata()
        follower = (await group.followers())[0]
        reply = await group.ask(follower, waiting(50, suspend_timeout_millis=30))
        assert reply.code == 20
        assert reply.ext["nextBeginOffset"] == "50"
        reply = await group.ask(follower, pull_request("T", 50))
        assert (reply.code, reply.ext["nextBeginOffset"]) == (20, "50")


async def test_nor_does_a_leader_that_may_have_been_replaced(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        await group.ask(app, pull_request("T", 0))
        app.log.has_lease = lambda: False  # type: ignore[method-assign]
        reply = await group.ask(app, waiting(50, suspend_timeout_millis=30))
        assert (reply.code, reply.ext["nextBeginOffset"]) == (20, "50")


# --- offsets that travel with a pull ----------------------------------------------------------


async def test_a_pull_commits_an_offset_on_the_leader(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        flags = COMMIT | SUBSCRIPTION
        await group.ask(app, pull_request("T", 3, sys_flag=flags, commit_offset=3))
        assert app.node.query_offset("CG", "T", 0) == 3
        await group.ask(app, pull_request("T", 3, commit_offset=4))  # without the bit
        await group.ask(app, pull_request("T", 3, sys_flag=flags, commit_offset=-1))
        assert app.node.query_offset("CG", "T", 0) == 3


async def test_a_follower_passes_the_offset_on(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        leader = await filled(group)
        await group.ask(leader, pull_request("T", 0))
        await group.same_metadata()
        follower = (await group.followers())[0]
        command = pull_request("T", 3, sys_flag=COMMIT | SUBSCRIPTION, commit_offset=3)

        async def arrived() -> bool:
            await group.ask(follower, command)
            return leader.node.query_offset("CG", "T", 0) == 3

        await until(arrived)
        assert follower.node.query_offset("CG", "T", 0) in (None, 3)


async def test_a_held_pull_commits_on_arrival_only(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await filled(group)
        flags = COMMIT | WAIT
        asking = asyncio.create_task(group.ask(app, waiting(5, sys_flag=flags, commit_offset=5)))
        await held(app)
        app.node.commit_offset("CG", "T", 0, 2)  # the operator has moved the group back
        await send(group, b"new")
        await asking
        assert app.node.query_offset("CG", "T", 0) == 2
