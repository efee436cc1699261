"""Clusters to test against."""

from collections.abc import AsyncIterator

import pytest

from .fake import DEFAULT_TOPIC, FakeCluster


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    """One broker group of one node, topic T with 2 queues, topics made by sending."""
    fake = await FakeCluster.open()
    fake.topics |= {"T": 2, DEFAULT_TOPIC: 8}
    yield fake
    await fake.close()


@pytest.fixture
async def trio() -> AsyncIterator[FakeCluster]:
    """One broker group of three nodes, topic T with 2 queues."""
    fake = await FakeCluster.open(nodes=3)
    fake.topics["T"] = 2
    yield fake
    await fake.close()


@pytest.fixture
async def pair() -> AsyncIterator[FakeCluster]:
    """Two broker groups, topic T with 2 queues in each."""
    fake = await FakeCluster.open("a", "b")
    fake.topics["T"] = 2
    yield fake
    await fake.close()


@pytest.fixture(autouse=True)
def no_name_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell says must not reach the tests."""
    monkeypatch.delenv("NAMESRV_ADDR", raising=False)
