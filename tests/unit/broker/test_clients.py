"""The table of clients: joining, leaving, falling silent, subscriptions."""

from typing import Any

from ledgermq.broker.clients import ClientTable, HeartbeatChange
from ledgermq.remoting.bodies.heartbeat import (
    ConsumerData,
    HeartbeatData,
    ProducerData,
    SubscriptionData,
)


def subscription(topic: str, version: int = 1, expression: str = "*") -> SubscriptionData:
    return SubscriptionData(topic=topic, sub_version=version, sub_string=expression)


def consumer(
    client_id: str, group: str = "g", *subs: SubscriptionData, **more: Any
) -> HeartbeatData:
    return HeartbeatData(
        client_id=client_id,
        consumer_data_set=[ConsumerData(group_name=group, subscription_data_set=list(subs))],
        **more,
    )


def producer(client_id: str, group: str) -> HeartbeatData:
    return HeartbeatData(client_id=client_id, producer_data_set=[ProducerData(group_name=group)])


def beat(
    table: ClientTable[str], connection: str, data: HeartbeatData, now_ms: int = 0
) -> HeartbeatChange:
    return table.heartbeat(
        connection, data, address="10.0.0.9:1", language="GO", version=317, now_ms=now_ms
    )


def test_members_join_and_are_told_once() -> None:
    table: ClientTable[str] = ClientTable()
    assert beat(table, "c1", consumer("b", "g", subscription("T"))).changed_groups == ["g"]
    assert beat(table, "c2", consumer("a", "g", subscription("T"))).changed_groups == ["g"]
    assert beat(table, "c1", consumer("b", "g", subscription("T"))).changed_groups == []
    assert table.consumer_ids("g") == ["a", "b"]
    assert table.consumer_connections("g") == ["c1", "c2"]
    assert table.find_consumer("g", "a") == "c2"
    assert table.find_consumer("g", "zz") is None
    assert table.find_consumer("h", "a") is None


def test_nobody_is_there() -> None:
    table: ClientTable[str] = ClientTable()
    assert table.consumer_ids("g") == []
    assert table.consumer_connections("g") == []
    assert table.consumer_group("g") is None
    assert table.subscription("g", "T") is None
    assert table.producers("p") == []
    assert table.producer_connections("p") == []


def test_what_is_known_of_a_member() -> None:
    table: ClientTable[str] = ClientTable()
    data = HeartbeatData(
        client_id="a",
        consumer_data_set=[
            ConsumerData(
                group_name="g",
                consume_type="CONSUME_ACTIVELY",
                message_model="BROADCASTING",
                consume_from_where="CONSUME_FROM_TIMESTAMP",
                subscription_data_set=[subscription("T")],
            )
        ],
    )
    beat(table, "c1", data, now_ms=5)
    group = table.consumer_group("g")
    assert group is not None
    member = group.members["c1"]
    assert (member.client_id, member.address, member.language) == ("a", "10.0.0.9:1", "GO")
    assert (member.version, member.last_seen_ms) == (317, 5)
    assert (group.consume_type, group.message_model) == ("CONSUME_ACTIVELY", "BROADCASTING")
    assert group.consume_from_where == "CONSUME_FROM_TIMESTAMP"


def test_a_reconnected_client_counts_once() -> None:
    table: ClientTable[str] = ClientTable()
    beat(table, "old", consumer("a", "g", subscription("T")))
    assert beat(table, "new", consumer("a", "g", subscription("T"))).changed_groups == ["g"]
    assert table.consumer_ids("g") == ["a"]
    assert table.find_consumer("g", "a") == "new"
    assert table.connection_closed("old").changed_groups == ["g"]
    assert table.consumer_ids("g") == ["a"]


def test_a_connection_that_changes_its_client_id() -> None:
    table: ClientTable[str] = ClientTable()
    beat(table, "c1", consumer("a", "g", subscription("T")))
    assert beat(table, "c1", consumer("b", "g", subscription("T"))).changed_groups == ["g"]
    assert table.consumer_ids("g") == ["b"]


def test_a_group_twice_in_one_heartbeat_is_told_once() -> None:
    table: ClientTable[str] = ClientTable()
    data = HeartbeatData(
        client_id="a",
        consumer_data_set=[
            ConsumerData(group_name="g", subscription_data_set=[subscription("T")]),
            ConsumerData(group_name="g", subscription_data_set=[subscription("U")]),
            ConsumerData(group_name=""),
        ],
        producer_data_set=[ProducerData(group_name="")],
    )
    assert beat(table, "c1", data).changed_groups == ["g"]
    assert table.producers("") == []
    assert table.consumer_group("") is None


# --- subscriptions ----------------------------------------------------------------------------


def test_the_higher_version_of_a_subscription_counts() -> None:
    table: ClientTable[str] = ClientTable()
    beat(table, "c1", consumer("a", "g", subscription("T", 2, "TagA")))
    assert beat(table, "c1", consumer("a", "g", subscription("T", 3, "TagB"))).changed_groups == []
    assert beat(table, "c1", consumer("a", "g", subscription("T", 2, "TagC"))).changed_groups == []
    known = table.subscription("g", "T")
    assert known is not None
    assert (known.sub_string, known.sub_version) == ("TagB", 3)
    assert table.subscription("g", "U") is None


def test_topics_that_come_or_go_are_a_change() -> None:
    table: ClientTable[str] = ClientTable()
    beat(table, "c1", consumer("a", "g", subscription("T")))
    both = consumer("a", "g", subscription("T"), subscription("U"))
    assert beat(table, "c1", both).changed_groups == ["g"]
    assert table.groups_of_topic("U") == ["g"]
    assert beat(table, "c1", consumer("a", "g", subscription("U"))).changed_groups == ["g"]
    assert table.groups_of_topic("T") == []


def test_the_short_form_keeps_what_is_known() -> None:
    table: ClientTable[str] = ClientTable()
    full = consumer("a", "g", subscription("T"), heartbeat_fingerprint=7)
    assert beat(table, "c1", full).resend is False
    short = consumer("a", "g", heartbeat_fingerprint=7, without_sub=True)
    change = beat(table, "c1", short)
    assert (change.resend, change.changed_groups) == (False, [])
    assert table.subscription("g", "T") is not None


def test_the_short_form_of_an_unknown_client_is_asked_for_the_long_one() -> None:
    table: ClientTable[str] = ClientTable()
    short = consumer("a", "g", heartbeat_fingerprint=7, without_sub=True)
    assert beat(table, "c1", short).resend is True
    assert beat(table, "c1", short).resend is True, "still no topic is known"


# --- leaving ----------------------------------------------------------------------------------


def test_unregister() -> None:
    table: ClientTable[str] = ClientTable()
    beat(table, "c1", consumer("a", "g", subscription("T")))
    beat(table, "c1", producer("a", "p"))
    beat(table, "c2", producer("b", "p"))
    assert [m.client_id for m in table.producers("p")] == ["a", "b"]
    assert table.producer_connections("p") == ["c1", "c2"]
    assert table.unregister("c1", producer_group="p").changed_groups == []
    assert [m.client_id for m in table.producers("p")] == ["b"]
    assert table.unregister("c1", consumer_group="g").changed_groups == ["g"]
    assert table.unregister("c1", consumer_group="g").changed_groups == []
    assert table.unregister("c1", "no", "no").changed_groups == []
    assert table.consumer_group("g") is None


def test_a_closed_connection_leaves_every_group() -> None:
    table: ClientTable[str] = ClientTable()
    for group in ("g", "h"):
        beat(table, "c1", consumer("a", group, subscription("T")))
    beat(table, "c2", consumer("b", "h", subscription("T")))
    beat(table, "c1", producer("a", "p"))
    assert sorted(table.connection_closed("c1").changed_groups) == ["g", "h"]
    assert table.consumer_ids("h") == ["b"]
    assert table.producers("p") == []
    assert table.connection_closed("c1").changed_groups == []


def test_the_silent_expire() -> None:
    table: ClientTable[str] = ClientTable()
    beat(table, "old", consumer("a", "g", subscription("T")), now_ms=0)
    beat(table, "old2", consumer("c", "g", subscription("T")), now_ms=0)
    beat(table, "new", consumer("b", "g", subscription("T")), now_ms=1000)
    beat(table, "old", producer("a", "p"), now_ms=0)
    beat(table, "new", producer("b", "q"), now_ms=1000)
    change, silent = table.expire(120_000, 120_000)
    assert (change.changed_groups, silent) == ([], [])
    change, silent = table.expire(120_001, 120_000)
    assert change.changed_groups == ["g"]
    assert silent == ["old", "old2"]
    assert table.consumer_ids("g") == ["b"]
    assert table.producers("p") == []
    assert len(table.producers("q")) == 1
