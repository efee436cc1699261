"""Locks of queues: one client at a time, dead after 60 s."""

import pytest

from ledgermq.broker import order_locks
from ledgermq.broker.order_locks import LOCK_LIVE_MS, OrderLocks
from ledgermq.remoting.bodies.stats import MessageQueue

Q0 = MessageQueue(topic="T", broker_name="b", queue_id=0)
Q1 = MessageQueue(topic="T", broker_name="b", queue_id=1)


def test_a_queue_is_one_clients() -> None:
    locks = OrderLocks()
    assert locks.lock("g", "a", [Q0, Q1], 0) == [Q0, Q1]
    assert locks.lock("g", "b", [Q0, Q1], 1) == []
    assert locks.lock("h", "b", [Q0], 1) == [Q0], "another group has locks of its own"


def test_a_lock_lives_60_s_after_its_renewal() -> None:
    locks = OrderLocks()
    locks.lock("g", "a", [Q0], 0)
    assert locks.lock("g", "a", [Q0], 50_000) == [Q0]
    assert locks.lock("g", "b", [Q0], 50_000 + LOCK_LIVE_MS) == []
    assert locks.lock("g", "b", [Q0], 50_001 + LOCK_LIVE_MS) == [Q0]
    assert locks.lock("g", "a", [Q0], 50_002 + LOCK_LIVE_MS) == []


def test_only_the_holder_unlocks() -> None:
    locks = OrderLocks()
    locks.lock("g", "a", [Q0], 0)
    locks.unlock("g", "b", [Q0, Q1])
    assert locks.lock("g", "b", [Q0], 1) == []
    locks.unlock("g", "a", [Q0])
    assert locks.lock("g", "b", [Q0], 1) == [Q0]


def test_a_new_leader_knows_no_locks() -> None:
    locks = OrderLocks()
    locks.lock("g", "a", [Q0], 0)
    locks.clear()
    assert locks.lock("g", "b", [Q0], 1) == [Q0]


def test_dead_locks_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_locks, "SWEEP_AT", 1)
    locks = OrderLocks()
    locks.lock("g", "a", [Q0], 0)
    locks.lock("h", "a", [Q0], LOCK_LIVE_MS)
    locks.lock("i", "a", [Q0], LOCK_LIVE_MS + 1)
    assert sorted(group for group, _ in locks._locks) == ["h", "i"]
