"""Routes: what a name server's answer means, and the next queue."""

import pytest

from ledgermq.client.route_table import QueuePicker, TopicRoute

from .builders import queue, route_data

A, B = {0: "a:0", 1: "a:1"}, {0: "b:0", 2: "b:2"}


def route(addresses=None, **queues):
    return TopicRoute.from_data("T", route_data(addresses or {"a": A, "b": B}, **queues))


def test_queues_of_every_group_in_order():
    r = route({"b": B, "a": A})
    assert r.write_queues == (queue(0, "a"), queue(1, "a"), queue(0, "b"), queue(1, "b"))
    assert r.read_queues == r.write_queues
    assert not r.provisional


def test_read_and_write_queues_are_counted_apart():
    r = route({"a": A}, read=3, write=1)
    assert r.write_queues == (queue(0),)
    assert r.read_queues == (queue(0), queue(1), queue(2))


@pytest.mark.parametrize(
    ("perm", "writes", "reads"),
    [(6, 2, 2), (4, 0, 2), (2, 2, 0), (0, 0, 0), (7, 2, 2)],
    ids=["read and write", "read only", "write only", "nothing", "inherit does not matter"],
)
def test_permissions(perm, writes, reads):
    r = route({"a": A}, perm=perm)
    assert (len(r.write_queues), len(r.read_queues)) == (writes, reads)


def test_a_group_without_leader_keeps_its_queues():
    r = route({"a": {1: "a:1", 2: "a:2"}})
    assert len(r.write_queues) == 2
    assert r.master("a") is None


def test_queues_of_a_group_without_any_address_are_left_out():
    data = route_data({"a": A, "b": B})
    data.broker_datas = data.broker_datas[:1]
    r = TopicRoute.from_data("T", data)
    assert {q.broker_name for q in r.write_queues} == {"a"}


@pytest.mark.parametrize(("limit", "template", "made"), [(4, 8, 4), (4, 2, 2), (4, 4, 4)])
def test_a_provisional_route_has_the_smaller_number_of_queues(limit, template, made):
    data = route_data({"a": A}, read=template, write=template, perm=7)
    r = TopicRoute.from_data("New", data, provisional_queues=limit)
    assert len(r.write_queues) == made
    assert all(q.topic == "New" for q in r.write_queues)
    assert r.provisional
    assert r.read_queues == ()


def test_master_of_an_unknown_group_is_none():
    assert route().master("zz") is None


@pytest.mark.parametrize(
    ("known", "wanted", "avoid", "address"),
    [
        pytest.param(A, 0, (), "a:0", id="the one wanted"),
        pytest.param(A, 1, (), "a:1", id="a replica wanted"),
        pytest.param({1: "a:1", 2: "a:2"}, 0, (), "a:1", id="no leader: the next id"),
        pytest.param({0: "a:0", 3: "a:3"}, 2, (), "a:3", id="not there: one more"),
        pytest.param({0: "a:0", 5: "a:5"}, 2, (), "a:0", id="neither: any"),
        pytest.param(A, 0, ("a:0",), "a:1", id="suspect: another one"),
        pytest.param({0: "a:0"}, 0, ("a:0",), "a:0", id="suspect, but the only one"),
        pytest.param({}, 0, (), None, id="none"),
    ],
)
def test_address_to_read_from(known, wanted, avoid, address):
    r = TopicRoute("T", {"a": known}, (), ())
    assert r.address("a", wanted, avoid) == address


def test_addresses():
    assert route().addresses(masters_only=True) == {"a:0", "b:0"}
    assert route().addresses(masters_only=False) == {"a:0", "a:1", "b:0", "b:2"}


def test_same_as():
    assert route().same_as(route())
    assert not route().same_as(None)
    assert not route().same_as(route({"a": A}))
    assert not route().same_as(route(read=3))
    moved = route({"a": {0: "a:1", 1: "a:0"}, "b": B})
    assert not route().same_as(moved)


class TestPicker:
    def picks(self, picker, r, count, **kwargs):
        return [picker.pick(r, **kwargs) for _ in range(count)]

    def test_round_robin_from_the_start_given(self):
        r = route()
        assert self.picks(QueuePicker(1), r, 5) == [
            queue(1, "a"), queue(0, "b"), queue(1, "b"), queue(0, "a"), queue(1, "a"),
        ]  # fmt: skip

    def test_any_start_is_fine(self):
        r = route()
        assert QueuePicker(4 * 1000 + 2).pick(r) == queue(0, "b")

    def test_every_queue_gets_its_turn(self):
        r = route()
        assert set(self.picks(QueuePicker(7), r, 4)) == set(r.write_queues)

    def test_a_group_without_leader_is_passed_over(self):
        r = route({"a": {1: "a:1"}, "b": B})
        assert {q.broker_name for q in self.picks(QueuePicker(0), r, 6)} == {"b"}

    def test_none_when_no_group_has_a_leader(self):
        assert QueuePicker(0).pick(route({"a": {1: "a:1"}})) is None

    def test_none_without_queues(self):
        assert QueuePicker(0).pick(route({"a": A}, perm=4)) is None

    def test_a_retry_avoids_the_broker_that_failed(self):
        picked = self.picks(QueuePicker(0), route(), 6, avoid_broker="a")
        assert {q.broker_name for q in picked} == {"b"}

    def test_the_broker_that_failed_is_better_than_none(self):
        assert QueuePicker(0).pick(route({"a": A}), avoid_broker="a") == queue(0, "a")

    def test_a_suspect_leader_is_avoided(self):
        picked = self.picks(QueuePicker(0), route(), 6, suspect=lambda a: a == "b:0")
        assert {q.broker_name for q in picked} == {"a"}

    def test_suspects_are_better_than_none_and_still_take_turns(self):
        picked = self.picks(QueuePicker(0), route({"a": A}), 4, suspect=lambda _: True)
        assert picked == [queue(0), queue(1), queue(0), queue(1)]
