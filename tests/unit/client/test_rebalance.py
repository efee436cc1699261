"""Shares of a group: complete, disjoint, fair, and the same from everyone's view."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.client.rebalance import allocate

from .builders import queue


def ids(queues):
    return [q.queue_id for q in queues]


@pytest.mark.parametrize(
    ("queues", "members", "shares"),
    [
        pytest.param(4, "ab", [[0, 1], [2, 3]], id="even"),
        pytest.param(5, "ab", [[0, 1, 2], [3, 4]], id="the first gets one more"),
        pytest.param(8, "abc", [[0, 1, 2], [3, 4, 5], [6, 7]], id="the first two get one more"),
        pytest.param(2, "abc", [[0], [1], []], id="more members than queues"),
        pytest.param(0, "ab", [[], []], id="no queue"),
        pytest.param(3, "a", [[0, 1, 2]], id="alone"),
    ],
)
def test_shares_are_contiguous_blocks(queues, members, shares):
    all_queues = [queue(i) for i in range(queues)]
    assert [ids(allocate(all_queues, list(members), m)) for m in members] == shares


@pytest.mark.parametrize("count", range(13))
@pytest.mark.parametrize("size", range(1, 8))
def test_each_queue_goes_to_exactly_one_member(count, size):
    queues = [queue(i) for i in range(count)]
    members = [f"m{i}" for i in range(size)]
    shares = [allocate(queues, members, m) for m in members]
    assert sorted(q for share in shares for q in share) == queues
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_member_the_broker_does_not_list_gets_nothing():
    assert allocate([queue(0)], ["a", "b"], "c") == []


def test_nobody_listed():
    assert allocate([queue(0)], [], "a") == []


def test_member_ids_sort_as_text():
    queues = [queue(0), queue(1)]
    assert ids(allocate(queues, ["m9", "m10"], "m10")) == [0]


def test_queues_of_several_brokers_go_by_broker_first():
    queues = [queue(0, "b"), queue(1, "a"), queue(0, "a"), queue(1, "b")]
    assert allocate(queues, ["x", "y"], "x") == [queue(0, "a"), queue(1, "a")]


@given(
    st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=30),
    st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_order_and_repetition_of_the_input_do_not_matter(places, members, rng):
    queues = [queue(i, b) for b, i in places]
    names = sorted(members)
    mixed, mixed_names = [*queues, *queues[:3]], [*names, names[0]]
    rng.shuffle(mixed)
    rng.shuffle(mixed_names)
    shares = [allocate(mixed, mixed_names, m) for m in names]
    assert shares == [allocate(queues, names, m) for m in names]
    assert sorted(q for s in shares for q in s) == sorted(queues)
