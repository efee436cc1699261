"""What every node does every few seconds: it looks at its disk, and lets go what may go."""

from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.errors import DiskFullError
from tests.support import until
from tests.support.brokers import Brokers


def failing(error: Exception, calls: list[int]) -> Any:
    async def remove_below(_pos: int) -> None:
        calls.append(1)
        raise error

    return remove_below


async def test_files_that_cannot_be_removed_stop_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody would look at the disk any more, and the node would fill it."""
    async with Brokers(tmp_path, clean_resource_interval_ms=10) as group:
        app = await group.leader()
        error = PermissionError(1, "Operation not permitted")
        monkeypatch.setattr(app.replica.index, "remove_below", failing(error, []))
        await until(app.failed.done, what="the node to stop")
        found = str(app.failed.result())
        assert f"{app.config.index_dir}: removal of files failed" in found
        assert "the right to read and write" in found


async def test_no_room_to_remove_files_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that copies on write may need room for it."""
    async with Brokers(tmp_path, clean_resource_interval_ms=10) as group:
        app, calls = await group.leader(), []
        monkeypatch.setattr(
            app.replica.index, "remove_below", failing(DiskFullError("no room"), calls)
        )
        await until(lambda: len(calls) > 2, what="further rounds")
        assert not app.failed.done()


async def test_a_node_tells_the_group_how_full_its_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path, nodes=3, clean_resource_interval_ms=10) as group:
        leader = await group.leader()
        follower = (await group.followers())[0]
        for app in group.apps.values():
            used_ratio = 0.853 if app is follower else 0.2
            monkeypatch.setattr(app.replica._retention.gauge, "_look", lambda r=used_ratio: r)
        await until(lambda: leader.log.fullest_disk_percent() == 86, what="the follower's disk")
        gauge = leader.replica._retention.gauge
        assert (gauge.used_ratio, gauge.is_full) == (0.2, False)
