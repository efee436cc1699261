"""What the measurement of growth computes, and what its made-up brokers and clients say."""

import pytest

from bench.scale import Point, clients, name_server, run, slope
from ledgermq.remoting.bodies.heartbeat import HeartbeatData
from ledgermq.remoting.bodies.registration import RegisterBrokerBody


def points(*values: tuple[int, float], what: str = "x: MB") -> list[Point]:
    return [Point(what, f"{size} of them", size, value) for size, value in values]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(1, 5.0), (2, 7.0), (3, 9.0)], 2.0),
        ([(10, 3.0), (1000, 3.0)], 0.0),
        ([(7, 3.0)], 0.0),
        ([(0, 0.0), (1, 1.0), (2, 5.0)], 2.5),
    ],
)
def test_the_slope_of_some_points(values: list[tuple[int, float]], expected: float) -> None:
    others = points((1, 1000.0), (2, 0.0), what="y: MB")
    assert slope(points(*values) + others, "x: MB") == pytest.approx(expected)


def test_the_table_has_a_slope_where_something_grows() -> None:
    found = run.table(points((1, 1234.0), (2, 0.5)) + points((1, 99.0), what="y: us")).splitlines()
    assert found[2:] == [
        "| x: MB | 1 of them | 1,234 |",
        "| x: MB | 2 of them | 0.5 |",
        "| x: MB | each one more | -1,234 |",
        "| y: us | 1 of them | 99 |",
    ]


def test_groups_share_every_tenth_topic() -> None:
    tables = []
    for group in (3, 777):
        command = name_server.registration(group, 2, 30)
        wrapper = RegisterBrokerBody.decode(command.body).topic_config_serialize_wrapper
        tables.append(set(wrapper.topic_config_table))
    assert [len(table) for table in tables] == [30, 30]
    assert tables[0] & tables[1] == {"shared-0", "shared-1", "shared-2"}


def test_brokers_and_clients_have_names_of_their_own() -> None:
    brokers = {
        name_server.registration(group, member, 1).ext["brokerAddr"]
        for group in range(1000)
        for member in range(name_server.MEMBERS)
    }
    assert len(brokers) == 3000
    ids = {HeartbeatData.decode(clients.heartbeat(n)).client_id for n in range(1000)}
    assert len(ids) == 1000
