"""The window of a queue: nothing unacknowledged is ever passed over by a commit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.client.process_queue import ProcessQueue

from .builders import message, queue


def window(*offsets: int, start: int = 0, following: int | None = None) -> ProcessQueue:
    held = ProcessQueue(queue(), start)
    held.add([message(o) for o in offsets], following if following is not None else start)
    return held


def test_empty_commits_where_it_would_pull_next():
    assert ProcessQueue(queue(), 7).committable == 7


def test_the_oldest_unacknowledged_bounds_the_commit():
    held = window(3, 4, 5, start=3, following=6)
    assert held.acknowledge(4)
    assert held.committable == 3
    assert held.acknowledge(3)
    assert held.committable == 5
    assert held.acknowledge(5)
    assert held.committable == 6


def test_gaps_of_filtered_messages_are_committed_with_the_last():
    held = window(2, 9, start=0, following=20)
    held.acknowledge(2)
    assert held.committable == 9
    held.acknowledge(9)
    assert held.committable == 20


def test_an_answer_without_a_match_moves_on():
    held = ProcessQueue(queue(), 5)
    assert held.add([], 50) == []
    assert (held.next_pull, held.committable) == (50, 50)


def test_it_never_goes_back():
    held = window(0, 1, following=2)
    assert held.add([], 0) == []
    assert held.next_pull == 2


def test_messages_before_the_offset_asked_for_are_dropped():
    held = ProcessQueue(queue(), 5)
    new = held.add([message(3), message(5), message(6)], 7)
    assert [m.queue_offset for m in new] == [5, 6]
    assert len(held) == 2


def test_a_repeated_answer_adds_nothing():
    held = window(0, 1, following=2)
    assert held.add([message(0), message(1)], 2) == []
    assert len(held) == 2


def test_acknowledging_twice_or_the_unknown_says_so():
    held = window(0, following=1)
    assert held.acknowledge(0)
    assert not held.acknowledge(0)
    assert not held.acknowledge(99)


def test_bytes_are_counted():
    held = ProcessQueue(queue(), 0)
    held.add([message(0, b"12345"), message(1, b"123")], 2)
    assert held.cached_bytes == 8
    held.acknowledge(0)
    assert held.cached_bytes == 3


@pytest.mark.parametrize(
    ("messages", "size", "full"),
    [(3, 100, True), (4, 100, False), (4, 9, True), (4, 10, False)],
    ids=["count reached", "room", "bytes reached", "bytes below"],
)
def test_is_full(messages, size, full):
    held = ProcessQueue(queue(), 0)
    held.add([message(i, b"abc") for i in range(3)], 3)
    assert held.is_full(messages, size) is full


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_commit_is_the_smallest_unacknowledged_in_any_order(steps, rng):
    offsets, at = [], 0
    for step in steps:
        offsets.append(at)
        at += step
    held = ProcessQueue(queue(), 0)
    held.add([message(o) for o in offsets], at)
    left = offsets[:]
    before = held.committable
    for offset in rng.sample(offsets, len(offsets)):
        held.acknowledge(offset)
        left.remove(offset)
        assert held.committable == min(left, default=at)
        assert held.committable >= before
        before = held.committable
    assert held.cached_bytes == 0
