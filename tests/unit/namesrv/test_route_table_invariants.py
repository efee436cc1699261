"""Whatever happens in whatever order, the table stays whole."""

from hypothesis import given
from hypothesis import strategies as st

from ledgermq.namesrv.route_table import Registration, RouteTable
from ledgermq.remoting.bodies.registration import DataVersion, TopicConfig
from ledgermq.remoting.bodies.route import QueueData

NAMES = ["a", "b"]
ADDRS = ["h:1", "h:2", "h:3"]
TOPICS = ["T", "U"]

registrations = st.builds(
    lambda name, broker_id, addr, session, term, counter, topics, acts, queues: Registration(
        cluster=f"c-{name}{'-new' * (counter and acts)}",
        broker_name=name,
        broker_id=broker_id,
        addr=addr,
        session=session,
        expiry_ms=5,
        version=DataVersion(state_version=term, counter=counter),
        topics={t: TopicConfig(topic_name=t, read_queue_nums=queues) for t in topics},
        enable_acting_master=acts,
    ),
    st.sampled_from(NAMES),
    st.integers(0, 2),
    st.sampled_from(ADDRS),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 1),
    st.sets(st.sampled_from(TOPICS)),
    st.booleans(),
    st.sampled_from([4, 4, 8]),
)
steps = st.one_of(
    st.tuples(st.just("register"), registrations, st.booleans()),
    st.tuples(
        st.just("unregister"), st.sampled_from(NAMES), st.sampled_from(ADDRS), st.integers(0, 2)
    ),
    st.tuples(st.just("close"), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.integers(0, 6)),
    st.tuples(st.just("delete"), st.sampled_from(TOPICS), st.sampled_from(["", "c-a", "c-b"])),
    st.tuples(st.sampled_from(["wipe", "add"]), st.sampled_from(NAMES)),
    st.tuples(st.just("enter"), st.sampled_from(TOPICS), st.sets(st.sampled_from(NAMES))),
)


def take(table, step, now_ms):
    match step:
        case ("register", registration, drop):
            table.register(registration, now_ms, drop_missing_topics=drop)
        case ("unregister", name, addr, session):
            table.unregister(name, addr, session)
        case ("close", session):
            table.close_session(session)
        case ("wait", passed_ms):
            now_ms += passed_ms
            table.expire(now_ms)
        case ("delete", topic, cluster):
            table.delete_topic(topic, cluster)
        case ("wipe", name):
            table.wipe_write_perm(name)
        case ("add", name):
            table.add_write_perm(name)
        case ("enter", topic, names):
            table.register_topic(topic, [QueueData(broker_name=n) for n in sorted(names)])
    return now_ms


def check(table):
    info = table.cluster_info()
    groups = info.broker_addr_table
    addresses = [addr for group in groups.values() for addr in group.broker_addrs.values()]
    assert len(addresses) == len(set(addresses)), "an address stands twice"
    assert all(group.broker_addrs for group in groups.values()), "a group without members"
    listed = [name for names in info.cluster_addr_table.values() for name in names]
    assert sorted(listed) == sorted(groups), "clusters and groups differ"
    for topic in table.topics():
        route = table.route(topic)
        names = [queue.broker_name for queue in route.queue_datas]
        assert names, "a topic without queues"
        assert [group.broker_name for group in route.broker_datas] == names
        assert set(names) <= set(groups), "a topic on a group that is gone"


@given(st.lists(steps, max_size=30))
def test_the_table_stays_whole(history):
    table, now_ms = RouteTable(), 0
    for step in history:
        now_ms = take(table, step, now_ms)
        check(table)
    assert all(m.deadline_ms < now_ms + 6 for m in table.expire(now_ms + 6))
    assert table.topics() == [], "everybody was silent"
    assert table.cluster_info().broker_addr_table == {}
