"""What the dispatcher must never do: run ahead of the commits, or take a record twice."""

import asyncio
from pathlib import Path

import pytest

from ledgermq.dledger.errors import StorageError
from tests.support import until
from tests.support.brokers import Brokers, send_request


@pytest.mark.parametrize("wrong", [pytest.param(0, id="again"), pytest.param(2, id="one left out")])
async def test_a_queue_offset_that_is_not_the_next_stops_the_node(
    wrong: int, tmp_path: Path
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        assert await group.send("T") == 0
        app = await group.leader()
        app.node._placing._next_offsets["T", 0] = wrong
        asking = asyncio.create_task(group.ask(app, send_request("T")))
        reason = await asyncio.wait_for(asyncio.shield(app.failed), 5)
        assert isinstance(reason, StorageError)
        assert f"queue T/0 continues at 1, the record says {wrong}" in str(reason)
        assert (await asking).code != 0
        assert app.reader.max_offset("T", 0) == 1


@pytest.mark.parametrize("cached", [True, False], ids=["from memory", "from the disk"])
async def test_nothing_is_seen_that_is_not_committed(cached: bool, tmp_path: Path) -> None:
    """The log holds more than is committed nearly always: at the leader and at followers."""
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        committed = app.dispatcher.committed
        told: list[int] = []
        app.dispatcher.committed = told.append  # type: ignore[method-assign]
        first = app.log.ledger.end_index + 1
        asking = [asyncio.create_task(group.ask(app, send_request("T"))) for _ in range(3)]
        await until(lambda: told and told[-1] == first + 2, what="three entries in the log")
        if not cached:
            app.log.ledger.cache.truncate(0)
        seen: list[int] = []
        for index in (first, first + 1):
            committed(index)
            await until(lambda i=index: app.dispatcher.applied >= i, what="what is committed")
            seen.append(app.dispatcher.applied)
            assert app.reader.max_offset("T", 0) == index - first + 1
        assert seen == [first, first + 1]
        assert [t.done() for t in asking].count(True) <= 2
        committed(first + 2)
        assert [r.code for r in await asyncio.gather(*asking)] == [0, 0, 0]
