"""A leader gets ready by its own no-op, not by anything that lies before it."""

from pathlib import Path

from tests.support import until
from tests.support.brokers import Brokers


async def test_entries_before_the_own_noop_make_nobody_ready(tmp_path: Path) -> None:
    """While it dispatches what others left, a new leader's queue offsets are too low."""
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        node, core = app.node, app.log.core
        noop = core.term_first_index
        # As just after an election: leader, the no-op not committed yet.
        node.ready = False
        node.on_applied(noop - 1)
        assert not node.ready
        node.on_applied(noop)
        assert node.ready


async def test_a_leader_that_is_ready_has_dispatched_its_noop(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3) as group:
        await group.create_topic("T")
        for _ in range(3):
            await group.send("T")
        first = await group.leader()
        await group.crash(first.config.dleger_self_id)
        second = await group.leader()
        await until(lambda: second.node.ready, what="a ready leader")
        assert second.dispatcher.applied >= second.log.core.term_first_index
        assert await group.send("T") == 3
