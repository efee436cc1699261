"""17, 21, 202, 215, 305, 351."""

import pytest

from ledgermq.broker.features import topics
from ledgermq.broker.features.topics import TopicService
from ledgermq.broker.metadata import TopicPut
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.remoting.bodies.registration import TopicConfig, TopicConfigSerializeWrapper
from ledgermq.remoting.bodies.route import TopicList
from ledgermq.remoting.bodies.stats import MessageQueue, TopicOffset, TopicStatsTable

from .fakes import BROKER, Bench, topic

CREATE = {
    "topic": "T",
    "defaultTopic": "TBW102",
    "readQueueNums": "8",
    "writeQueueNums": "4",
    "perm": "6",
    "topicFilterType": "SINGLE_TAG",
    "topicSysFlag": "0",
    "order": "true",
}


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    topics.register(
        bench.registry, TopicService(bench.metadata, bench.writer, bench.queues, BROKER)
    )
    return bench


async def test_create_and_change(bench: Bench) -> None:
    assert (await bench.call(17, CREATE | {"attributes": "+a=1,+b=2"})).code == 0
    assert bench.metadata.topics["T"] == TopicConfig(
        topic_name="T",
        read_queue_nums=8,
        write_queue_nums=4,
        perm=6,
        order=True,
        attributes={"a": "1", "b": "2"},
    )
    await bench.call(17, CREATE | {"perm": "4", "order": "false", "attributes": "-a,+b=3,-zz"})
    changed = bench.metadata.topics["T"]
    assert (changed.perm, changed.order, changed.attributes) == (4, False, {"b": "3"})
    assert bench.metadata.creation_index("T") == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"topic": ""}, "is empty", id="no name"),
        pytest.param({"topic": "a b"}, "other characters", id="bad name"),
        pytest.param({"topic": "TBW102"}, "system topic", id="system topic"),
        pytest.param({"topic": "RaftCluster"}, "system topic", id="the cluster's"),
        pytest.param({"topic": INTERNAL_TOPIC}, "system topic", id="internal"),
        pytest.param({"readQueueNums": "-1"}, "-1 read queues", id="below 0"),
        pytest.param({"writeQueueNums": "4097"}, "4097 write queues", id="too many"),
        pytest.param({"readQueueNums": "0", "writeQueueNums": "0"}, "no queue", id="none"),
        pytest.param({"perm": "8"}, "permission 8", id="permission"),
        pytest.param({"topicFilterType": "ANY"}, "filter type 'ANY'", id="filter type"),
        pytest.param({"attributes": "a=1"}, "attribute change 'a=1'", id="no sign"),
        pytest.param({"attributes": "+a"}, "attribute change '+a'", id="no value"),
        pytest.param({"attributes": "-a=1"}, "attribute change '-a=1'", id="a value too many"),
    ],
)
async def test_what_is_not_created(bench: Bench, change: dict[str, str], says: str) -> None:
    error = await bench.refusal(17, CREATE | change)
    assert error.code == 29
    assert says in error.remark
    assert bench.metadata.topics == {}


async def test_a_follower_cannot(bench: Bench) -> None:
    bench.writer.leads = False
    assert (await bench.refusal(17, CREATE)).code == 14


async def test_delete(bench: Bench) -> None:
    bench.writer.write(TopicPut(topic("T")))
    bench.writer.write(TopicPut(topic("TBW102", 8, 7)))
    assert (await bench.call(215, {"topic": "T"})).code == 0
    assert list(bench.metadata.topics) == ["TBW102"]
    before = bench.metadata.applied_index
    assert (await bench.call(215, {"topic": "T"})).code == 0
    assert bench.metadata.applied_index == before
    assert (await bench.refusal(215, {"topic": "TBW102"})).code == 29


async def test_all_topics(bench: Bench) -> None:
    bench.writer.write(TopicPut(topic("T")))
    wrapper = TopicConfigSerializeWrapper.decode((await bench.call(21)).body)
    assert wrapper.topic_config_table == {"T": topic("T")}
    assert wrapper.data_version.counter == 1


async def test_topic_config(bench: Bench) -> None:
    bench.writer.write(TopicPut(topic("T")))
    reply = await bench.call(351, {"topic": "T", "lo": "true"})
    assert TopicConfig.decode(reply.body) == topic("T")
    assert (await bench.refusal(351, {"topic": "U"})).code == 17


async def test_topic_stats(bench: Bench) -> None:
    bench.writer.write(TopicPut(topic("T", 2)))
    bench.queues.times["T", 0] = [100, 200, 300]
    bench.queues.begin["T", 0] = 1
    table = TopicStatsTable.decode((await bench.call(202, {"topic": "T"})).body)
    assert table.offset_table == {
        MessageQueue(topic="T", broker_name="RaftNode00", queue_id=0): TopicOffset(
            min_offset=1, max_offset=3, last_update_timestamp=300
        ),
        MessageQueue(topic="T", broker_name="RaftNode00", queue_id=1): TopicOffset(),
    }
    assert (await bench.refusal(202, {"topic": "U"})).code == 17


async def test_system_topics(bench: Bench) -> None:
    for name in ("T", "TBW102", "RaftNode00"):
        bench.writer.write(TopicPut(topic(name)))
    names = TopicList.decode((await bench.call(305)).body).topic_list
    assert names == ["RaftNode00", "TBW102"]
