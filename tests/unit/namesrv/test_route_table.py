"""The rules of the route table, one by one; the clock and the connections are plain numbers."""

import pytest

from ledgermq.namesrv.route_table import (
    DEFAULT_EXPIRY_MS,
    FLAG_UNIT,
    FLAG_UNIT_SUB,
    Registration,
    RouteTable,
)
from ledgermq.remoting.bodies.registration import DataVersion, TopicConfig
from ledgermq.remoting.bodies.route import QueueData
from ledgermq.remoting.errors import PeerError

GROUP = "RaftNode00"
N0, N1, N2 = "127.0.0.1:30911", "127.0.0.1:30921", "127.0.0.1:30931"


def topics(*names, queues=4, perm=6, flags=0):
    return {
        name: TopicConfig(
            topic_name=name,
            read_queue_nums=queues,
            write_queue_nums=queues,
            perm=perm,
            topic_sys_flag=flags,
        )
        for name in names
    }


def reg(addr=N0, broker_id=0, *, name=GROUP, cluster="RaftCluster", term=0, counter=1, **more):
    """A registration; by default its connection is named after its address."""
    more.setdefault("session", f"connection of {addr}")
    return Registration(
        cluster=cluster,
        broker_name=name,
        broker_id=broker_id,
        addr=addr,
        version=DataVersion(state_version=term, counter=counter),
        **more,
    )


def group_of_three(table=None, term=1, now_ms=0):
    table = table or RouteTable()
    table.register(reg(N0, 0, term=term, topics=topics("T")), now_ms)
    table.register(reg(N1, 2), now_ms)
    table.register(reg(N2, 3), now_ms)
    return table


def addrs(table, name=GROUP):
    group = table.member_group(name)
    return group.broker_addrs if group else None


def perm_of(table, topic="T"):
    return table.route(topic).queue_datas[0].perm


# --- registering --------------------------------------------------------------------------------


def test_a_leader_brings_its_topics_and_clients_find_all_members():
    table = group_of_three()

    route = table.route("T")

    assert route.queue_datas == [
        QueueData(broker_name=GROUP, read_queue_nums=4, write_queue_nums=4, perm=6)
    ]
    [group] = route.broker_datas
    assert (group.cluster, group.broker_name) == ("RaftCluster", GROUP)
    assert group.broker_addrs == {0: N0, 2: N1, 3: N2}


def test_an_unknown_topic_has_no_route():
    assert group_of_three().route("nobody's") is None


def test_topics_come_from_id_0_only():
    table = RouteTable()

    table.register(reg(N1, 2, topics=topics("T")), 0)

    assert table.topics() == []
    assert addrs(table) == {2: N1}


def test_a_follower_learns_the_leaders_address():
    table = RouteTable()
    table.register(reg(N0, 0, ha_addr="127.0.0.1:30912"), 0)

    outcome = table.register(reg(N1, 2), 0)

    assert (outcome.master_addr, outcome.master_ha_addr) == (N0, "127.0.0.1:30912")


@pytest.mark.parametrize("broker_id", [0, 2], ids=["leader", "follower without a leader"])
def test_nobody_else_learns_one(broker_id):
    outcome = RouteTable().register(reg(N1, broker_id), 0)

    assert (outcome.master_addr, outcome.master_ha_addr) == ("", "")


def test_first_marks_new_members_and_role_changes_only():
    table = RouteTable()

    firsts = [
        table.register(r, 0).first
        for r in (reg(N0, 1), reg(N0, 1), reg(N0, 0), reg(N0, 0), reg(N0, 0, name="Other"))
    ]

    assert firsts == [True, False, True, False, True]


def test_the_leader_names_the_cluster():
    table = RouteTable()
    table.register(reg(N1, 2, cluster="old"), 0)
    table.register(reg(N2, 3, cluster="ignored"), 0)
    assert table.cluster_info().cluster_addr_table == {"old": [GROUP]}

    table.register(reg(N0, 0, cluster="new"), 0)

    assert table.cluster_info().cluster_addr_table == {"new": [GROUP]}


# --- role changes -------------------------------------------------------------------------------


def test_a_follower_that_became_leader_loses_its_old_id_and_replaces_the_old_leader():
    table = group_of_three(term=1)

    table.register(reg(N1, 0, term=2, topics=topics("T")), 0)

    assert addrs(table) == {0: N1, 3: N2}


def test_the_old_leader_comes_back_as_follower():
    table = group_of_three(term=1)
    table.register(reg(N1, 0, term=2, topics=topics("T")), 0)

    table.register(reg(N0, 1), 0)

    assert addrs(table) == {0: N1, 1: N0, 3: N2}


def test_a_follower_removes_only_its_own_old_entry():
    table = group_of_three(term=1)

    table.register(reg(N0, 1), 0)

    assert addrs(table) == {1: N0, 2: N1, 3: N2}
    assert table.route("T").queue_datas != []


def test_the_last_member_may_change_its_id_without_losing_topics():
    table = RouteTable()
    table.register(reg(N0, 0, topics=topics("T")), 0)

    table.register(reg(N0, 1), 0)

    assert addrs(table) == {1: N0}
    assert table.topics() == ["T"]


def test_an_address_under_another_broker_name_leaves_the_old_one():
    table = RouteTable()
    table.register(reg(N0, 0, topics=topics("T")), 0)

    table.register(reg(N0, 0, name="Renamed"), 0)

    assert addrs(table) is None
    assert addrs(table, "Renamed") == {0: N0}
    assert table.topics() == []


def test_a_new_leader_brings_its_topics_even_with_the_old_data_version():
    table = RouteTable()
    table.register(reg(N0, 0, topics=topics("T", queues=4)), 0)
    table.register(reg(N1, 2), 0)

    table.register(reg(N1, 0, topics=topics("T", queues=8)), 0)

    assert table.route("T").queue_datas[0].write_queue_nums == 8


# --- a stale leader -----------------------------------------------------------------------------


def test_a_stale_leaders_registration_changes_nothing():
    table = group_of_three(term=1)
    table.register(reg(N1, 0, term=2, topics=topics("T")), 0)

    outcome = table.register(reg(N0, 0, term=1, topics=topics("stale")), 10)

    assert not outcome.accepted
    assert addrs(table) == {0: N1, 3: N2}
    assert table.topics() == ["T"]


@pytest.mark.parametrize(
    ("term", "now_ms"),
    [
        pytest.param(5, 0, id="an equal term may take id 0: Java's brokers always say 0"),
        pytest.param(6, 0, id="a higher term takes id 0"),
        pytest.param(4, DEFAULT_EXPIRY_MS + 1, id="a silent holder does not stop a lower term"),
    ],
)
def test_who_may_take_id_0(term, now_ms):
    table = RouteTable()
    table.register(reg(N0, 0, term=5), 0)

    assert table.register(reg(N1, 0, term=term), now_ms).accepted
    assert addrs(table) == {0: N1}


def test_a_holder_counts_as_alive_up_to_its_last_millisecond():
    table = RouteTable()
    table.register(reg(N0, 0, term=5), 0)

    assert not table.register(reg(N1, 0, term=4), DEFAULT_EXPIRY_MS).accepted


def test_a_leader_may_register_again_with_a_lower_term():
    table = RouteTable()
    table.register(reg(N0, 0, term=5), 0)

    assert table.register(reg(N0, 0, term=1), 1).accepted, "its store was wiped"


# --- changed topics -----------------------------------------------------------------------------


def test_an_unchanged_version_adds_missing_topics_but_changes_none():
    table = RouteTable()
    table.register(reg(topics=topics("T", queues=4)), 0)

    table.register(reg(topics=topics("T", "New", queues=8)), 0)

    assert table.route("T").queue_datas[0].read_queue_nums == 4
    assert table.route("New").queue_datas[0].read_queue_nums == 8


def test_a_changed_version_changes_topics():
    table = RouteTable()
    table.register(reg(topics=topics("T", queues=4)), 0)

    table.register(reg(topics=topics("T", queues=8), counter=2), 0)

    assert table.route("T").queue_datas[0].read_queue_nums == 8


def test_a_topic_missing_from_a_registration_stays():
    table = RouteTable()
    table.register(reg(topics=topics("A", "B")), 0)

    table.register(reg(topics=topics("A"), counter=2), 0)

    assert table.topics() == ["A", "B"]


def test_unless_registrations_delete_topics():
    table = RouteTable()
    table.register(reg(topics=topics("A", "B")), 0)
    table.register(reg(N1, 0, name="Other", topics=topics("B")), 0)

    table.register(reg(topics=topics("A"), counter=2), 0, drop_missing_topics=True)

    assert table.topics() == ["A", "B"]
    assert [q.broker_name for q in table.route("B").queue_datas] == ["Other"]


# --- leaving ------------------------------------------------------------------------------------


def test_unregister_drops_one_member():
    table = group_of_three()

    assert table.unregister(GROUP, N0, f"connection of {N0}")

    assert addrs(table) == {2: N1, 3: N2}


@pytest.mark.parametrize(
    ("name", "addr"),
    [(GROUP, "127.0.0.1:1"), ("Other", N0)],
    ids=["unknown address", "address of another name"],
)
def test_unregister_of_a_stranger_changes_nothing(name, addr):
    table = group_of_three()

    assert not table.unregister(name, addr, f"connection of {addr}")
    assert addrs(table) == {0: N0, 2: N1, 3: N2}


def test_a_late_goodbye_does_not_take_the_next_process_with_it():
    """Of a broker that was started again while the name server had no time for its goodbye."""
    table = group_of_three()
    table.register(reg(N0, 0, term=1, topics=topics("T"), session="new"), 0)

    assert not table.unregister(GROUP, N0, f"connection of {N0}")
    assert addrs(table) == {0: N0, 2: N1, 3: N2}
    assert table.unregister(GROUP, N0, "new")


def test_topics_stay_while_any_member_is_left():
    table = group_of_three()
    table.unregister(GROUP, N0, f"connection of {N0}")

    route = table.route("T")

    assert route.broker_datas[0].broker_addrs == {2: N1, 3: N2}
    assert len(route.queue_datas) == 1


def test_topics_go_with_the_last_member():
    table = group_of_three()
    table.register(reg("10.0.0.9:1", 0, name="Other", topics=topics("T", "Mine")), 0)
    for addr in (N0, N1, N2):
        table.unregister(GROUP, addr, f"connection of {addr}")

    assert addrs(table) is None
    assert [q.broker_name for q in table.route("T").queue_datas] == ["Other"]

    table.unregister("Other", "10.0.0.9:1", "connection of 10.0.0.9:1")

    assert table.topics() == []
    assert table.cluster_info().broker_addr_table == {}
    assert table.cluster_info().cluster_addr_table == {}


def test_a_closed_connection_takes_its_members_along_at_once():
    table = group_of_three()

    gone = table.close_session(f"connection of {N0}")

    assert [(m.broker_name, m.broker_id, m.addr) for m in gone] == [(GROUP, 0, N0)]
    assert addrs(table) == {2: N1, 3: N2}


def test_an_old_connection_that_closes_late_takes_nothing():
    table = group_of_three()
    table.register(reg(N0, 0, term=1, topics=topics("T"), session="new"), 0)

    assert table.close_session(f"connection of {N0}") == []
    assert addrs(table) == {0: N0, 2: N1, 3: N2}


def test_silence_ends_a_membership_after_its_own_time():
    table = RouteTable()
    table.register(reg(N0, 0), 0)
    table.register(reg(N1, 2, expiry_ms=1000), 0)

    assert [m.addr for m in table.expire(1000)] == []
    assert [m.addr for m in table.expire(1001)] == [N1]
    assert [m.addr for m in table.expire(DEFAULT_EXPIRY_MS)] == []
    assert [m.addr for m in table.expire(DEFAULT_EXPIRY_MS + 1)] == [N0]
    assert addrs(table) is None


def test_registering_again_is_a_sign_of_life():
    table = RouteTable()
    table.register(reg(N0, 0), 0)
    table.register(reg(N0, 0), 100_000)

    assert table.expire(DEFAULT_EXPIRY_MS + 1) == []


# --- asking for the version ---------------------------------------------------------------------


def test_the_same_version_is_unchanged_and_a_sign_of_life():
    table = RouteTable()
    table.register(reg(N0, 0, counter=7), 0)

    changed, stored = table.query_version(N0, DataVersion(counter=7), 100_000)

    assert (changed, stored) == (False, DataVersion(counter=7))
    assert table.expire(DEFAULT_EXPIRY_MS + 1) == []


def test_another_version_is_changed_and_no_sign_of_life():
    table = RouteTable()
    table.register(reg(N0, 0, counter=7), 0)

    changed, stored = table.query_version(N0, DataVersion(counter=8), 100_000)

    assert (changed, stored) == (True, DataVersion(counter=7))
    assert [m.addr for m in table.expire(DEFAULT_EXPIRY_MS + 1)] == [N0]


def test_an_unknown_broker_has_changed():
    assert RouteTable().query_version(N0, DataVersion(), 0) == (True, None)


# --- lists --------------------------------------------------------------------------------------


def two_clusters():
    table = RouteTable()
    table.register(reg(N0, 0, name="a", cluster="c1", topics=topics("A", "Both")), 0)
    table.register(
        reg(N1, 0, name="b", cluster="c2", topics=topics("Both", flags=FLAG_UNIT_SUB)), 0
    )
    flags = FLAG_UNIT | FLAG_UNIT_SUB
    table.register(reg(N2, 0, name="d", cluster="c2", topics=topics("Unit", flags=flags)), 0)
    return table


def test_cluster_info_lists_groups_by_cluster():
    info = two_clusters().cluster_info()

    assert info.cluster_addr_table == {"c1": ["a"], "c2": ["b", "d"]}
    assert {n: g.broker_addrs for n, g in info.broker_addr_table.items()} == {
        "a": {0: N0},
        "b": {0: N1},
        "d": {0: N2},
    }


def test_topic_lists():
    table = two_clusters()

    assert table.topics() == ["A", "Both", "Unit"]
    assert table.topics_of_cluster("c1") == ["A", "Both"]
    assert table.topics_of_cluster("c2") == ["Both", "Unit"]
    assert table.topics_of_cluster("nobody's") == []
    assert table.topics_with_flags(FLAG_UNIT) == ["Unit"]
    assert table.topics_with_flags(FLAG_UNIT_SUB) == ["Both", "Unit"]
    assert table.topics_with_flags(FLAG_UNIT_SUB, lacks=FLAG_UNIT) == ["Both"]
    assert table.system_topics() == (["a", "b", "c1", "c2", "d"], N0)
    assert RouteTable().system_topics() == ([], "")


def test_an_acting_master_is_announced_when_the_broker_asks_for_it():
    table = RouteTable()
    table.register(reg(N0, 0, name="java5", enable_acting_master=True, topics=topics("T")), 0)
    table.register(reg(N1, 0, name="java4", topics=topics("T")), 0)

    flags = {g.broker_name: g.enable_acting_master for g in table.route("T").broker_datas}

    assert flags == {"java4": False, "java5": True}


# --- an operator's changes ----------------------------------------------------------------------


def test_wiped_write_permission_lasts_until_a_changed_registration():
    table = RouteTable()
    table.register(reg(topics=topics("T", "U")), 0)

    assert table.wipe_write_perm(GROUP) == 2
    table.register(reg(topics=topics("T", "U")), 0)
    assert perm_of(table) == 4

    table.register(reg(topics=topics("T", "U"), counter=2), 0)
    assert perm_of(table) == 6


def test_write_permission_can_be_given_back():
    table = RouteTable()
    table.register(reg(topics=topics("T")), 0)
    table.wipe_write_perm(GROUP)

    assert table.add_write_perm(GROUP) == 1
    assert perm_of(table) == 6


def test_permissions_of_an_unknown_broker_touch_nothing():
    table = RouteTable()
    table.register(reg(topics=topics("T")), 0)

    assert table.wipe_write_perm("Other") == 0
    assert perm_of(table) == 6


def test_delete_topic_everywhere_or_in_one_cluster():
    table = two_clusters()

    assert table.delete_topic("Both", "c2")
    assert [q.broker_name for q in table.route("Both").queue_datas] == ["a"]
    assert not table.delete_topic("Both", "c2")
    assert table.delete_topic("Both")
    assert table.route("Both") is None
    assert not table.delete_topic("Both")


def test_a_topic_entered_by_hand_is_on_known_brokers_only():
    table = two_clusters()
    queues = [QueueData(broker_name=n, read_queue_nums=1, perm=6) for n in ("a", "nobody")]

    assert table.register_topic("Hand", queues) == 1
    assert table.route("Hand").queue_datas == queues[:1]
    assert table.register_topic("Other", queues[1:]) == 0
    assert table.route("Other") is None


# --- bounds -------------------------------------------------------------------------------------


def test_a_full_table_refuses_new_brokers_and_keeps_old_ones():
    table = RouteTable(max_members=1)
    table.register(reg(N0, 0), 0)

    with pytest.raises(PeerError, match=r"1 brokers already; raise maxBrokers .* 127.0.0.1:30921"):
        table.register(reg(N1, 2), 0)

    assert table.register(reg(N0, 1), 0).accepted
    assert addrs(table) == {1: N0}


def test_a_full_table_leaves_new_topics_out_and_keeps_the_broker():
    table = RouteTable(max_topics=2)

    outcome = table.register(reg(topics=topics("A", "B", "C", "D")), 0)

    assert outcome.topics_refused == 2
    assert table.topics() == ["A", "B"]
    assert table.register(reg(N1, 0, name="Other", topics=topics("A")), 0).topics_refused == 0


def test_a_full_table_refuses_topics_by_hand():
    table = RouteTable(max_topics=1)
    table.register(reg(topics=topics("A")), 0)
    queues = [QueueData(broker_name=GROUP)]

    with pytest.raises(PeerError, match="1 topics already; raise maxTopics"):
        table.register_topic("B", queues)

    assert table.register_topic("A", queues) == 1
