"""200, 201, 203, 204, 207, 208, 300, 352."""

import pytest

from ledgermq.broker.clients import ClientTable
from ledgermq.broker.features import groups
from ledgermq.broker.features.groups import GroupService
from ledgermq.broker.metadata import GroupPut, OffsetsPut, TopicPut
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.remoting.bodies.consumer import ConsumerConnection, GroupList, ProducerConnection
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig, SubscriptionGroupTable
from ledgermq.remoting.bodies.heartbeat import (
    ConsumerData,
    HeartbeatData,
    ProducerData,
    SubscriptionData,
)
from ledgermq.remoting.bodies.stats import ConsumeStats, MessageQueue, OffsetWrapper
from ledgermq.remoting.connection import Connection

from .fakes import BROKER, Bench, topic


class GroupBench(Bench):
    """With the feature registered, two topics and a client table."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: ClientTable[Connection] = ClientTable()
        groups.register(
            self.registry,
            GroupService(self.metadata, self.writer, self.queues, self.clients, BROKER),
        )
        self.writer.write(TopicPut(topic("T", 2)))
        self.writer.write(TopicPut(topic("U", 1)))

    def join(self, *subscribed: str, language: str = "JAVA") -> None:
        data = HeartbeatData(
            client_id="a",
            producer_data_set=[ProducerData(group_name="p")],
            consumer_data_set=[
                ConsumerData(
                    group_name="g",
                    subscription_data_set=[SubscriptionData(topic=t) for t in subscribed],
                )
            ],
        )
        self.clients.heartbeat(
            self.connection, data, address="10.0.0.9:1", language=language, version=399, now_ms=0
        )


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


async def test_create_show_and_delete(bench: GroupBench) -> None:
    settings = SubscriptionGroupConfig(group_name="g", retry_max_times=3)
    assert (await bench.call(200, body=settings.encode())).code == 0
    reply = await bench.call(352, {"group": "g"})
    assert SubscriptionGroupConfig.decode(reply.body) == settings
    table = SubscriptionGroupTable.decode((await bench.call(201)).body)
    assert table.subscription_group_table["g"] == settings
    assert "TOOLS_CONSUMER" in table.subscription_group_table
    assert table.data_version.counter == 1
    assert (await bench.call(207, {"groupName": "g"})).code == 0
    assert (await bench.refusal(352, {"group": "g"})).code == 26


@pytest.mark.parametrize(
    ("clean", "left"), [({}, 9), ({"cleanOffset": "false"}, 9), ({"cleanOffset": "true"}, None)]
)
async def test_delete_with_offsets(
    bench: GroupBench, clean: dict[str, str], left: int | None
) -> None:
    bench.writer.write(GroupPut(SubscriptionGroupConfig(group_name="g")))
    bench.writer.write(OffsetsPut({"g": {"T": {0: 9}}}))
    await bench.call(207, {"groupName": "g"} | clean)
    assert bench.metadata.offset("g", "T", 0) == left


async def test_a_bad_group_name(bench: GroupBench) -> None:
    body = SubscriptionGroupConfig(group_name="g h").encode()
    assert (await bench.refusal(200, {}, body)).code == 29


async def test_consumer_connections(bench: GroupBench) -> None:
    assert (await bench.refusal(203, {"consumerGroup": "g"})).code == 206
    bench.join("T", language="")
    body = ConsumerConnection.decode((await bench.call(203, {"consumerGroup": "g"})).body)
    (connection,) = body.connection_set
    assert (connection.client_id, connection.client_addr) == ("a", "10.0.0.9:1")
    assert (connection.language, connection.version) == ("OTHER", 399)
    assert body.subscription_table == {"T": SubscriptionData(topic="T")}
    assert body.consume_type == "CONSUME_PASSIVELY"


async def test_producer_connections(bench: GroupBench) -> None:
    assert (await bench.refusal(204, {"producerGroup": "p"})).code == 1
    bench.join("T")
    body = ProducerConnection.decode((await bench.call(204, {"producerGroup": "p"})).body)
    assert [c.language for c in body.connection_set] == ["JAVA"]


def wrapper(queue: tuple[str, int], end: int, consumed: int, time_ms: int) -> object:
    key = MessageQueue(topic=queue[0], broker_name="RaftNode00", queue_id=queue[1])
    return key, OffsetWrapper(
        broker_offset=end, consumer_offset=consumed, pull_offset=consumed, last_timestamp=time_ms
    )


async def stats(bench: GroupBench, **ext: str) -> dict[MessageQueue, OffsetWrapper]:
    reply = await bench.call(208, {"consumerGroup": "g"} | ext)
    return ConsumeStats.decode(reply.body).offset_table


async def test_consume_stats(bench: GroupBench) -> None:
    bench.queues.times["T", 0] = [100, 200, 300]
    bench.writer.write(OffsetsPut({"g": {"T": {0: 1}, "U": {0: 0}}}))
    bench.writer.commit_offset("g", "T", 0, 2)
    t0, t1 = wrapper(("T", 0), 3, 2, 200), wrapper(("T", 1), 0, 0, 0)
    u0 = wrapper(("U", 0), 0, 0, 0)
    assert list((await stats(bench)).items()) == [t0, t1, u0]
    assert list((await stats(bench, topic="T")).items()) == [t0, t1]
    assert list((await stats(bench, topicList="U;;gone")).items()) == [u0]
    bench.join("U")
    assert list((await stats(bench)).items()) == [u0], "T is not subscribed any more"


async def test_who_consumes_a_topic(bench: GroupBench) -> None:
    bench.writer.write(OffsetsPut({"was-here": {"T": {0: 1}}}))
    bench.join("T")
    reply = await bench.call(300, {"topic": "T"})
    assert GroupList.decode(reply.body).group_list == ["g", "was-here"]
    assert (await bench.refusal(300, {"topic": INTERNAL_TOPIC})).code == 16
