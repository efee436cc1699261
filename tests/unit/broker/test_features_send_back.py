"""36: back to the retry topic, or to the dead letters."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from ledgermq.broker.config import BrokerConfig
from ledgermq.broker.features import send_back
from ledgermq.broker.features.send_back import SendBackService
from ledgermq.broker.metadata import GroupPut, TopicPut
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.broker.writer import AppendResult
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message import SysFlag, decode_properties, offset_msg_id, pack_host
from tests.support import until

from .fakes import BROKER, Bench, record, topic

BACK = {"offset": "48", "group": "g", "delayLevel": "0"}


class BackBench(Bench):
    """With the feature registered, a group and a stored message at offset 48."""

    def __init__(self, config: BrokerConfig = BROKER, **settings: Any) -> None:
        super().__init__()
        self.picked: list[int] = []
        service = SendBackService(
            self.metadata, self.writer, self.queues, self.appender, config, self.pick
        )
        send_back.register(self.registry, service)
        self.writer.write(GroupPut(SubscriptionGroupConfig(group_name="g", **settings)))
        self.store()

    def pick(self, queues: int) -> int:
        self.picked.append(queues)
        return queues - 1

    def store(self, name: str = "T", **more: Any) -> None:
        self.queues.records[48] = record(name, 48, **more)

    def properties(self) -> dict[str, str]:
        return decode_properties(self.appender.messages[-1].properties)


async def test_a_first_failure() -> None:
    bench = BackBench(retry_queue_nums=3)
    bench.store(properties={"TAGS": "TagA", "UNIQ_KEY": "U1", "WAIT": "true"}, sys_flag=0x301)
    reply = await bench.call(36, BACK)
    assert (reply.code, reply.ext) == (0, {})
    (message,) = bench.appender.messages
    assert (message.topic, message.queue_id, message.reconsume_times) == ("%RETRY%g", 2, 1)
    assert (message.body, message.sys_flag, message.flag) == (b"hello", 0x301, 17)
    assert message.born_timestamp_ms == 1_700_000_000_123
    assert message.born_host == pack_host("10.0.0.9:5000")
    assert bench.properties() == {
        "TAGS": "TagA",
        "UNIQ_KEY": "U1",
        "WAIT": "false",
        "RETRY_TOPIC": "T",
        "ORIGIN_MESSAGE_ID": offset_msg_id("10.0.0.3", 30931, 48),
        "DELAY": "3",
    }
    assert bench.metadata.topics == {"%RETRY%g": topic("%RETRY%g", 3)}
    assert bench.picked == [3]


async def test_a_later_failure_keeps_where_the_message_came_from() -> None:
    bench = BackBench()
    marks = {"RETRY_TOPIC": "T", "ORIGIN_MESSAGE_ID": "FIRST", "DELAY": "3"}
    bench.store("%RETRY%g", properties=marks, reconsume_times=4)
    await bench.call(36, BACK)
    assert bench.properties() == marks | {"DELAY": "7", "WAIT": "false"}
    assert bench.appender.messages[0].reconsume_times == 5


async def test_the_consumer_may_choose_the_level() -> None:
    bench = BackBench()
    await bench.call(36, BACK | {"delayLevel": "9"})
    assert bench.properties()["DELAY"] == "9"


@pytest.mark.parametrize(
    ("times", "ext", "version", "is_dead"),
    [
        pytest.param(15, {}, 399, False, id="the group's limit, not reached"),
        pytest.param(16, {}, 399, True, id="the group's limit"),
        pytest.param(2, {"maxReconsumeTimes": "2"}, 399, True, id="the client's own"),
        pytest.param(16, {"maxReconsumeTimes": "20"}, 121, False, id="the client's is higher"),
        pytest.param(2, {"maxReconsumeTimes": "2"}, 120, False, id="too old to have its own"),
        pytest.param(0, {"delayLevel": "-1"}, 399, True, id="given up"),
    ],
)
async def test_when_a_message_is_dead(
    times: int, ext: dict[str, str], version: int, is_dead: bool
) -> None:
    bench = BackBench()
    bench.store(reconsume_times=times, properties={"DELAY": "3"})
    await bench.call(36, BACK | ext, version=version)
    (message,) = bench.appender.messages
    assert (message.topic == "%DLQ%g") == is_dead
    assert ("DELAY" in bench.properties()) != is_dead
    assert message.reconsume_times == times + 1
    if is_dead:
        assert bench.metadata.topics == {"%DLQ%g": topic("%DLQ%g", 1)}
        assert message.queue_id == 0


async def test_a_copy_closes_no_transaction_again() -> None:
    bench = BackBench()
    bench.store(sys_flag=SysFlag.TRANSACTION_COMMIT, prepared_transaction_offset=4)
    await bench.call(36, BACK)
    assert bench.appender.messages[0].prepared_transaction_offset == 0


async def test_a_retry_topic_with_fewer_queues_than_the_group_wants() -> None:
    bench = BackBench(retry_queue_nums=4)
    bench.writer.write(TopicPut(topic("%RETRY%g", 2)))
    await bench.call(36, BACK)
    assert bench.appender.messages[0].queue_id == 1


async def test_a_group_without_retries_drops() -> None:
    bench = BackBench(retry_queue_nums=0)
    assert (await bench.call(36, BACK)).code == 0
    assert bench.appender.messages == []


@pytest.mark.parametrize(
    ("ext", "code"),
    [pytest.param({"group": "h"}, 26, id="group"), pytest.param({"offset": "1"}, 1, id="offset")],
)
async def test_what_is_not_there(ext: dict[str, str], code: int) -> None:
    bench = BackBench()
    assert (await bench.refusal(36, BACK | ext)).code == code
    assert bench.appender.messages == []


@pytest.mark.parametrize("perm", [4, 0])
async def test_topics_that_take_no_messages(perm: int) -> None:
    bench = BackBench()
    bench.writer.write(TopicPut(topic("%RETRY%g", 1, perm)))
    error = await bench.refusal(36, BACK)
    assert error.code == 16
    assert "updateTopic -t %RETRY%g" in error.remark


async def test_a_topic_without_queues_to_write() -> None:
    bench = BackBench()
    bench.writer.write(TopicPut(topic("%RETRY%g", 0)))
    assert (await bench.refusal(36, BACK)).code == 16


async def test_a_broker_that_takes_no_messages() -> None:
    bench = BackBench(replace(BROKER, broker_permission=4))
    error = await bench.refusal(36, BACK)
    assert error.code == 16
    assert "brokerPermission is 4" in error.remark


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        pytest.param(INTERNAL_TOPIC, {}, id="a metadata record"),
        pytest.param("T", {"RETRY_TOPIC": INTERNAL_TOPIC}, id="a claim to come from there"),
    ],
)
async def test_the_internal_topic_stays_closed(name: str, marks: dict[str, str]) -> None:
    bench = BackBench()
    bench.store(name, properties=marks)
    assert (await bench.refusal(36, BACK)).code == 16
    assert bench.appender.messages == []


async def test_marks_that_do_not_fit() -> None:
    bench = BackBench()
    bench.store(properties={"big": "x" * 32_700})
    assert (await bench.refusal(36, BACK)).code == 13


async def test_a_refused_append_is_the_answer() -> None:
    bench = BackBench()
    bench.appender.refusal = PeerError(14, "no leader")
    assert (await bench.refusal(36, BACK)).code == 14


async def test_a_follower_cannot_create_the_topic() -> None:
    bench = BackBench()
    bench.writer.leads = False
    assert (await bench.refusal(36, BACK)).code == 14
    assert bench.appender.messages == []


async def test_an_append_that_ends_after_its_asker_has_gone() -> None:
    bench = BackBench()
    bench.appender.holds = True
    task = asyncio.ensure_future(bench.call(36, BACK))
    await until(lambda: bench.appender.waiting, what="the append")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.appender.waiting[0](AppendResult(0, 48))
