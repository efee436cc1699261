"""Encoded routes are kept for all who ask, and never older than the table."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.namesrv.route_bodies import RouteBodies
from ledgermq.namesrv.route_table import Registration, RouteTable
from ledgermq.remoting.bodies.registration import DataVersion, TopicConfig
from ledgermq.remoting.bodies.route import TopicRouteData

from .test_route_table_invariants import TOPICS, steps, take


def registration(name: str, *topics: str, counter: int = 1, queues: int = 8) -> Registration:
    return Registration(
        cluster="c",
        broker_name=name,
        broker_id=0,
        addr=f"{name}:1",
        session=name,
        version=DataVersion(counter=counter),
        topics={t: TopicConfig(topic_name=t, read_queue_nums=queues) for t in topics},
    )


@given(st.lists(steps, max_size=30))
def test_they_are_what_the_table_says_whatever_happened(history):
    table, now_ms = RouteTable(), 0
    bodies = RouteBodies(table)
    for step in history:
        now_ms = take(table, step, now_ms)
        for topic in TOPICS:
            route = table.route(topic)
            assert bodies.get(topic) == (route.encode() if route else None)


@pytest.fixture
def table() -> RouteTable:
    table = RouteTable()
    for name in "ab":
        table.register(registration(name, "T", "U", "V"), 0)
    return table


def test_a_route_is_encoded_once_while_brokers_say_what_they_said(table, monkeypatch):
    asked = []
    monkeypatch.setattr(table, "route", lambda t: asked.append(t) or RouteTable.route(table, t))
    bodies = RouteBodies(table)
    for turn in range(5):
        for name in "ab":
            table.register(registration(name, "T", "U", "V", counter=turn), turn)
        assert bodies.get("T") == RouteTable.route(table, "T").encode()
    assert asked == ["T"]
    table.register(registration("a", "T", queues=4, counter=9), 9)
    assert bodies.get("T") == RouteTable.route(table, "T").encode()
    assert asked == ["T", "T"]


def test_who_goes_and_who_takes_over_is_in_the_next_answer(table):
    bodies = RouteBodies(table)
    follower = replace(registration("a"), addr="a:2", broker_id=1, session="a2")
    leader = replace(registration("a", "T"), addr="a:2", session="a2")
    table.register(follower, 1)
    seen = [bodies.get("T")]
    for change in (
        lambda: table.close_session("a"),
        lambda: table.register(leader, 2),
        lambda: table.expire(1 << 60),
    ):
        change()
        route = table.route("T")
        seen.append(bodies.get("T"))
        assert seen[-1] == (route.encode() if route else None)
    assert len(set(seen)) == 4


def test_the_order_configuration_is_that_of_the_moment(table):
    bodies = RouteBodies(table)
    for order in (None, "a:4", "b:4", None, "a:4"):
        body = bodies.get("T", order)
        assert TopicRouteData.decode(body).order_topic_conf == order


def test_what_is_kept_is_bounded(table):
    size = len(table.route("T").encode())
    bodies = RouteBodies(table, max_bytes=2 * size)
    for _ in range(3):
        for topic in ("T", "U", "V"):
            assert bodies.get(topic) == table.route(topic).encode()
            assert bodies._bytes == sum(map(len, bodies._bodies.values())) <= 2 * size
    assert [topic for topic, _ in bodies._bodies] == ["U", "V"]
    assert RouteBodies(table, max_bytes=size - 1).get("T") == table.route("T").encode()


def test_an_unknown_topic_is_not_kept(table):
    bodies = RouteBodies(table)
    for n in range(100):
        assert bodies.get(f"none-{n}") is None
    assert not bodies._bodies
