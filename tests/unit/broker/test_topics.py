"""Names, what exists from the start, what creates itself."""

from dataclasses import replace

import pytest

from ledgermq.broker import topics as rules
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.errors import PeerError

from .fakes import BROKER, topic


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("TopicTest", None, id="plain"),
        pytest.param("a|b%C_d-9", None, id="all legal characters"),
        pytest.param("x" * 127, None, id="longest"),
        pytest.param("", "is empty", id="empty"),
        pytest.param("x" * 128, "128 characters, more than 127", id="too long"),
        pytest.param("a b", "other characters", id="blank"),
        pytest.param("a\n", "other characters", id="newline at the end"),
        pytest.param("主题", "other characters", id="Chinese"),
        pytest.param("%RETRY%" + "x" * 248, None, id="longest retry topic"),
        pytest.param("%DLQ%" + "x" * 251, "256 characters, more than 255", id="long DLQ topic"),
    ],
)
def test_topic_names(name: str, says: str | None) -> None:
    problem = rules.topic_name_problem(name)
    assert problem is None if says is None else says in (problem or "")


@pytest.mark.parametrize(
    ("name", "is_good"), [("g", True), ("x" * 120, True), ("x" * 121, False), ("g h", False)]
)
def test_group_names(name: str, is_good: bool) -> None:
    assert (rules.group_name_problem(name) is None) == is_good


@pytest.mark.parametrize(
    ("name", "is_system"),
    [
        ("TBW102", True),
        ("RMQ_SYS_TRANS_HALF_TOPIC", True),
        (rules.INTERNAL_TOPIC, True),
        ("rmq_sys_wheel_timer", True),
        ("RaftCluster", True),
        ("RaftNode00", True),
        ("RaftCluster_REPLY_TOPIC", True),
        ("TopicTest", False),
        ("%RETRY%g", False),
    ],
)
def test_system_topics_are_known(name: str, is_system: bool) -> None:
    assert rules.is_system(name, BROKER) == is_system


@pytest.mark.parametrize(
    ("name", "code"),
    [
        pytest.param("a b", 29, id="bad name"),
        pytest.param("SCHEDULE_TOPIC_XXXX", 16, id="schedule"),
        pytest.param("RMQ_SYS_TRANS_HALF_TOPIC", 16, id="half"),
        pytest.param(rules.INTERNAL_TOPIC, 16, id="internal"),
    ],
)
def test_what_takes_no_sends(name: str, code: int) -> None:
    with pytest.raises(PeerError) as e:
        rules.check_sendable(name)
    assert e.value.code == code


@pytest.mark.parametrize("name", ["TopicTest", "TBW102", "BenchmarkTest", "%RETRY%g"])
def test_what_takes_sends(name: str) -> None:
    rules.check_sendable(name)


def test_the_internal_topic_is_refused_under_any_name_of_it() -> None:
    rules.refuse_internal("T", None, "%RETRY%g")
    with pytest.raises(PeerError) as e:
        rules.refuse_internal("T", None, rules.INTERNAL_TOPIC)
    assert e.value.code == 16


@pytest.mark.parametrize(
    ("name", "queue_id", "code"),
    [("T", 0, None), ("T", 3, None), ("T", 4, 29), ("T", -1, 29), ("U", 0, 17)],
)
def test_check_queue(name: str, queue_id: int, code: int | None) -> None:
    table = {"T": topic("T", 4)}
    if code is None:
        assert rules.check_queue(table, name, queue_id) is table["T"]
        return
    with pytest.raises(PeerError) as e:
        rules.check_queue(table, name, queue_id)
    assert e.value.code == code


def test_retry_and_dlq_names() -> None:
    assert rules.retry_topic("g") == "%RETRY%g"
    assert rules.dlq_topic("g") == "%DLQ%g"
    assert rules.is_retry("%RETRY%g")
    assert not rules.is_retry("%DLQ%g")
    assert rules.is_dlq("%DLQ%g")


# --- what exists from the start ---------------------------------------------------------------


def test_system_topics() -> None:
    table = {t.topic_name: (t.write_queue_nums, t.perm) for t in rules.system_topics(BROKER)}
    assert table == {
        "SELF_TEST_TOPIC": (1, 6),
        "BenchmarkTest": (1024, 6),
        "RaftCluster": (16, 7),
        "RaftNode00": (1, 7),
        "OFFSET_MOVED_EVENT": (1, 6),
        "SCHEDULE_TOPIC_XXXX": (18, 6),
        "RaftCluster_REPLY_TOPIC": (1, 6),
        "RMQ_SYS_TRANS_HALF_TOPIC": (1, 6),
        "RMQ_SYS_TRANS_OP_HALF_TOPIC": (1, 6),
        "TBW102": (8, 7),
    }
    assert rules.INTERNAL_TOPIC not in table


def test_system_topics_follow_the_configuration() -> None:
    config = replace(
        BROKER,
        auto_create_topic_enable=False,
        trace_topic_enable=True,
        cluster_topic_enable=False,
        broker_topic_enable=False,
        message_delay_levels_ms=tuple(range(1, 31)),
        broker_name="broker-a (broker-b)",
    )
    table = {t.topic_name: t for t in rules.system_topics(config)}
    assert "TBW102" not in table
    assert table["RMQ_SYS_TRACE_TOPIC"].write_queue_nums == 1
    assert table["RaftCluster"].perm == 1
    assert table["SCHEDULE_TOPIC_XXXX"].write_queue_nums == 30
    assert "broker-a (broker-b)" not in table


def test_predefined_groups() -> None:
    names = [g.group_name for g in rules.system_groups()]
    assert len(names) == 8
    assert "TOOLS_CONSUMER" in names
    own = SubscriptionGroupConfig(group_name="TOOLS_CONSUMER", retry_max_times=1)
    assert rules.find_group({}, "TOOLS_CONSUMER") is not None
    assert rules.find_group({"TOOLS_CONSUMER": own}, "TOOLS_CONSUMER") is own
    assert rules.find_group({}, "g") is None


# --- what creates itself ----------------------------------------------------------------------

TABLE = {"TBW102": topic("TBW102", 8, 7), "Parent": topic("Parent", 2, 5), "Plain": topic("Plain")}


@pytest.mark.parametrize(
    ("name", "parent", "wanted", "queues", "perm"),
    [
        pytest.param("New", "TBW102", 4, 4, 6, id="as the client wants"),
        pytest.param("New", "TBW102", 16, 8, 6, id="no more than the parent has"),
        pytest.param("New", "TBW102", 0, 1, 6, id="at least one"),
        pytest.param("New", "Parent", 4, 2, 4, id="the parent's permission"),
        pytest.param("%RETRY%g", "none", 4, 1, 6, id="retry topic"),
    ],
)
def test_auto_creation(name: str, parent: str, wanted: int, queues: int, perm: int) -> None:
    made = rules.auto_create(TABLE, name, parent, wanted, BROKER)
    assert made == topic(name, queues, perm)


@pytest.mark.parametrize("parent", ["none", "Plain", ""])
def test_no_auto_creation_without_a_parent_to_inherit_from(parent: str) -> None:
    assert rules.auto_create(TABLE, "New", parent, 4, BROKER) is None


def test_no_auto_creation_when_switched_off_later() -> None:
    config = replace(BROKER, auto_create_topic_enable=False)
    assert rules.auto_create(TABLE, "New", "TBW102", 4, config) is None
    assert rules.auto_create(TABLE, "New", "Parent", 4, config) is not None


def test_a_new_group() -> None:
    assert rules.new_group("g", BROKER) == SubscriptionGroupConfig(group_name="g")
    assert rules.new_group("g h", BROKER) is None
    off = replace(BROKER, auto_create_subscription_group=False)
    assert rules.new_group("g", off) is None


@pytest.mark.parametrize(("wanted", "queues"), [(1, 1), (3, 3), (0, 1)])
def test_a_new_retry_topic(wanted: int, queues: int) -> None:
    group = SubscriptionGroupConfig(group_name="g", retry_queue_nums=wanted)
    assert rules.new_retry_topic(group) == topic("%RETRY%g", queues)
    assert rules.new_dlq_topic("g") == topic("%DLQ%g", 1)
