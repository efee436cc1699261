"""14, 15, 43."""

from dataclasses import replace

import pytest

from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.features import offsets
from ledgermq.broker.features.offsets import OffsetService
from ledgermq.broker.metadata import GroupPut, TopicPut
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.remoting.bodies.group import ConsumerOffsetTable, SubscriptionGroupConfig

from .fakes import BROKER, Bench, topic

QUEUE = {"consumerGroup": "g", "topic": "T", "queueId": "1"}


@pytest.fixture
def bench() -> Bench:
    return made(replace(BROKER, auto_create_subscription_group=False))


def made(config: BrokerConfig) -> Bench:
    bench = Bench()
    offsets.register(
        bench.registry, OffsetService(bench.metadata, bench.writer, bench.queues, config)
    )
    bench.writer.write(TopicPut(topic("T")))
    bench.writer.write(GroupPut(SubscriptionGroupConfig(group_name="g")))
    return bench


async def test_a_commit_that_overtakes_its_heartbeat_creates_the_group() -> None:
    bench = made(BROKER)
    reply = await bench.call(15, QUEUE | {"consumerGroup": "fresh", "commitOffset": "3"})
    assert reply.code == 0
    assert "fresh" in bench.metadata.groups
    assert (await bench.call(14, QUEUE | {"consumerGroup": "fresh"})).ext == {"offset": "3"}


async def test_a_commit_is_visible_at_once_and_in_the_table_once_logged(bench: Bench) -> None:
    reply = await bench.call(15, QUEUE | {"commitOffset": "42"})
    assert reply.code == 0
    assert (await bench.call(14, QUEUE)).ext == {"offset": "42"}
    bench.writer.flush()
    assert (await bench.call(14, QUEUE)).ext == {"offset": "42"}
    table = ConsumerOffsetTable.decode((await bench.call(43)).body)
    assert table.offset_table == {"T@g": {1: 42}}


@pytest.mark.parametrize(
    ("begin", "is_recent", "flag", "found"),
    [
        pytest.param(0, True, {}, True, id="young queue"),
        pytest.param(0, True, {"setZeroIfNotFound": "true"}, True, id="young queue, asked to"),
        pytest.param(0, True, {"setZeroIfNotFound": "false"}, False, id="asked not to"),
        pytest.param(0, False, {}, False, id="first message is long ago"),
        pytest.param(5, True, {}, False, id="first message is gone"),
    ],
)
async def test_a_group_without_an_offset(
    bench: Bench, begin: int, is_recent: bool, flag: dict[str, str], found: bool
) -> None:
    bench.queues.begin["T", 1] = begin
    bench.queues.is_recent = is_recent
    if found:
        assert (await bench.call(14, QUEUE | flag)).ext == {"offset": "0"}
    else:
        assert (await bench.refusal(14, QUEUE | flag)).code == 22


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"consumerGroup": "unknown"}, 26, id="unknown group"),
        pytest.param({"topic": "unknown"}, 17, id="unknown topic"),
        pytest.param({"queueId": "4"}, 29, id="unknown queue"),
        pytest.param({"commitOffset": "-1"}, 29, id="below 0"),
        pytest.param({"topic": INTERNAL_TOPIC}, 16, id="internal topic"),
    ],
)
async def test_commits_that_are_refused(bench: Bench, change: dict[str, str], code: int) -> None:
    error = await bench.refusal(15, QUEUE | {"commitOffset": "42"} | change)
    assert error.code == code
    assert bench.writer.query_offset("g", "T", 1) is None


async def test_predefined_groups_commit(bench: Bench) -> None:
    ext = QUEUE | {"consumerGroup": "TOOLS_CONSUMER", "commitOffset": "1"}
    assert (await bench.call(15, ext)).code == 0


async def test_offsets_of_the_internal_topic_are_nobodys(bench: Bench) -> None:
    assert (await bench.refusal(14, QUEUE | {"topic": INTERNAL_TOPIC})).code == 16


def test_who_forwards() -> None:
    assert {14, 15} == offsets.LEADER_CODES
