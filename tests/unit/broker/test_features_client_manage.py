"""34, 35, 38, 46 and the notifications that follow."""

from dataclasses import replace
from typing import Any

import pytest

from ledgermq.broker.clients import ClientTable
from ledgermq.broker.config import BrokerConfig
from ledgermq.broker.features import client_manage
from ledgermq.broker.features.client_manage import ClientManager
from ledgermq.broker.metadata import GroupPut
from ledgermq.remoting.bodies.consumer import CheckClientBody, ConsumerIdList
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.heartbeat import (
    ConsumerData,
    HeartbeatData,
    ProducerData,
    SubscriptionData,
)

from .fakes import BROKER, Bench, client, topic


class ManagedBench(Bench):
    """With the feature registered and a clock to turn."""

    def __init__(self, config: BrokerConfig = BROKER) -> None:
        super().__init__()
        self.clock_ms = 0
        self.manager = ClientManager(
            ClientTable(), self.metadata, self.writer, config, lambda: self.clock_ms
        )
        client_manage.register(self.registry, self.manager)


def body(client_id: str, group: str = "g", **more: Any) -> bytes:
    data = HeartbeatData(
        client_id=client_id,
        consumer_data_set=[
            ConsumerData(group_name=group, subscription_data_set=[SubscriptionData(topic="T")])
        ],
        **more,
    )
    return data.encode()


async def test_a_first_heartbeat_creates_group_and_retry_topic() -> None:
    bench = ManagedBench()
    reply = await bench.call(34, body=body("a"), language="GO", version=317)
    assert reply.code == 0
    assert reply.ext == {"IS_SUPPORT_HEART_BEAT_V2": "true", "IS_SUB_CHANGE": "true"}
    assert bench.metadata.groups == {"g": SubscriptionGroupConfig(group_name="g")}
    assert bench.metadata.topics == {"%RETRY%g": topic("%RETRY%g", 1)}
    group = bench.manager.clients.consumer_group("g")
    assert group is not None
    member = group.members[bench.connection]
    assert (member.language, member.version, member.address) == ("GO", 317, "10.0.0.9:5000")
    before = bench.metadata.applied_index
    await bench.call(34, body=body("a"))
    assert bench.metadata.applied_index == before, "the second one finds everything there"


async def test_the_retry_topic_has_the_groups_queues() -> None:
    bench = ManagedBench()
    bench.writer.write(GroupPut(SubscriptionGroupConfig(group_name="g", retry_queue_nums=3)))
    bench.writer.write(GroupPut(SubscriptionGroupConfig(group_name="h", retry_queue_nums=0)))
    await bench.call(34, body=body("a", "g"))
    await bench.call(34, body=body("a", "h"))
    assert bench.metadata.topics == {"%RETRY%g": topic("%RETRY%g", 3)}


@pytest.mark.parametrize(
    ("leads", "refuses", "creates"),
    [
        pytest.param(False, False, True, id="a follower leaves it to the leader"),
        pytest.param(True, True, True, id="a leader that has just lost its place"),
        pytest.param(True, False, False, id="switched off"),
    ],
)
async def test_a_heartbeat_counts_even_if_nothing_can_be_created(
    leads: bool, refuses: bool, creates: bool
) -> None:
    bench = ManagedBench(replace(BROKER, auto_create_subscription_group=creates))
    bench.writer.leads, bench.writer.refuses = leads, refuses
    assert (await bench.call(34, body=body("a"))).code == 0
    assert bench.metadata.groups == {}
    assert bench.metadata.topics == {}
    assert bench.manager.clients.consumer_ids("g") == ["a"]


async def test_producers_create_nothing() -> None:
    bench = ManagedBench()
    data = HeartbeatData(client_id="a", producer_data_set=[ProducerData(group_name="p")])
    await bench.call(34, body=data.encode())
    assert bench.metadata.applied_index == -1
    assert len(bench.manager.clients.producers("p")) == 1


async def test_a_heartbeat_without_a_client_id_is_refused() -> None:
    bench = ManagedBench()
    assert "clientID" in (await bench.refusal(34, {}, body(""))).remark


async def test_the_short_form_is_answered_with_the_wish_for_the_long_one() -> None:
    bench = ManagedBench()
    short = HeartbeatData(
        client_id="a",
        consumer_data_set=[ConsumerData(group_name="g")],
        heartbeat_fingerprint=7,
        without_sub=True,
    ).encode()
    full = body("a", heartbeat_fingerprint=7)
    answers = [(await bench.call(34, body=b)).ext["IS_SUB_CHANGE"] for b in (short, full, short)]
    assert answers == ["true", "false", "false"]


# --- notifications ----------------------------------------------------------------------------


async def test_every_member_hears_of_a_change() -> None:
    bench = ManagedBench()
    one, two = client("10.0.0.1:1"), client("10.0.0.2:2")
    await bench.call(34, body=body("a"), connection=one)
    assert one.notified() == ["g"], "the one who joins is told too"
    await bench.call(34, body=body("b"), connection=two)
    assert (one.notified(), two.notified()) == (["g", "g"], ["g"])
    await bench.call(34, body=body("b"), connection=two)
    assert len(two.sent) == 1, "nothing changed, nobody is told"
    bench.manager.connection_closed(two)
    assert len(one.sent) == 3
    opaques = {command.opaque for command in one.sent}
    assert len(opaques) == 3


async def test_a_group_may_not_want_to_hear() -> None:
    bench = ManagedBench()
    quiet = SubscriptionGroupConfig(group_name="g", notify_consumer_ids_changed_enable=False)
    bench.writer.write(GroupPut(quiet))
    await bench.call(34, body=body("a"))
    assert bench.connection.sent == []


async def test_a_broker_may_not_tell() -> None:
    bench = ManagedBench(replace(BROKER, notify_consumer_ids_changed_enable=False))
    await bench.call(34, body=body("a"))
    assert bench.connection.sent == []


async def test_the_silent_are_dropped_and_closed() -> None:
    bench = ManagedBench()
    silent, loud = client("10.0.0.1:1"), client("10.0.0.2:2")
    await bench.call(34, body=body("a"), connection=silent)
    bench.clock_ms = 60_000
    await bench.call(34, body=body("b"), connection=loud)
    bench.clock_ms = 120_001
    bench.manager.expire()
    assert len(silent.close_reasons) == 1
    assert loud.close_reasons == []
    assert loud.notified() == ["g", "g"]
    assert bench.manager.clients.consumer_ids("g") == ["b"]


# --- 35, 38, 46 -------------------------------------------------------------------------------


async def test_unregister() -> None:
    bench = ManagedBench()
    one, two = client("10.0.0.1:1"), client("10.0.0.2:2")
    await bench.call(34, body=body("a"), connection=one)
    await bench.call(34, body=body("b"), connection=two)
    reply = await bench.call(35, {"clientID": "b", "consumerGroup": "g"}, connection=two)
    assert reply.code == 0
    assert bench.manager.clients.consumer_ids("g") == ["a"]
    assert len(one.sent) == 3


async def test_consumer_list() -> None:
    bench = ManagedBench()
    error = await bench.refusal(38, {"consumerGroup": "g"})
    assert error.code == 1
    await bench.call(34, body=body("b"), connection=client("10.0.0.1:1"))
    await bench.call(34, body=body("a"), connection=client("10.0.0.2:2"))
    reply = await bench.call(38, {"consumerGroup": "g"})
    assert ConsumerIdList.decode(reply.body).consumer_id_list == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "is_served"), [("TAG", True), ("", True), ("SQL92", False), (None, True)]
)
async def test_check_client(kind: str | None, is_served: bool) -> None:
    bench = ManagedBench()
    data = None if kind is None else SubscriptionData(topic="T", expression_type=kind)
    check = CheckClientBody(client_id="a", group="g", subscription_data=data).encode()
    if is_served:
        assert (await bench.call(46, body=check)).code == 0
    else:
        assert (await bench.refusal(46, {}, check)).code == 1
