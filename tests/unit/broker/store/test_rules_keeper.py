"""A snapshot vouches for the queue files: they are on the disk before it says so."""

import errno
from pathlib import Path

import pytest

from tests.support import until
from tests.unit.dledger.power import PowerDisk

from .replicas import FakeLog, Replica, fill, put_topic


async def test_queues_that_a_snapshot_knows_survive_a_loss_of_power(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = PowerDisk()
    log = FakeLog(tmp_path / "dledger", disk)
    put_topic(log, "T")
    fill(log, 40)
    replica = Replica(tmp_path, log)
    await replica.start()
    await replica.snapshot()
    units = replica.units()
    assert sum(map(len, units.values())) > 40
    await replica.crash()
    disk.fail(tmp_path)
    await replica.start()
    assert replica.units() == units
    assert not replica.failures
    assert "made anew" not in caplog.text, "the files were there, and taken as they are"
    await replica.stop()


async def test_what_came_after_the_snapshot_is_dispatched_again(tmp_path: Path) -> None:
    disk = PowerDisk()
    log = FakeLog(tmp_path / "dledger", disk)
    put_topic(log, "T")
    fill(log, 20)
    replica = Replica(tmp_path, log)
    await replica.start()
    await replica.snapshot()
    fill(log, 20)
    await replica.follow()
    await replica.dispatcher.queues.flush_all()  # written, not synced
    units = replica.units()
    await replica.crash()
    disk.fail(tmp_path)
    await replica.start()
    assert replica.units() == units
    assert not replica.failures
    await replica.stop()


async def test_a_failure_that_cannot_be_noted_stops_the_node_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would go on without anybody who writes its queues."""
    log = FakeLog(tmp_path / "dledger", disk := PowerDisk())
    put_topic(log, "T")
    replica = Replica(tmp_path, log)
    await replica.start()
    await replica.snapshot()
    fill(log, 10)
    await replica.follow()

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(disk, "pwrite", fail)
        replica.dispatcher._keeper.hurry()
        await until(lambda: replica.failures, what="the node to stop")
    assert "write failed: Input/output error" in str(replica.failures[0])
    assert "consumequeue" in str(replica.failures[0]) or "/T/" in str(replica.failures[0])
    await replica.stop()
