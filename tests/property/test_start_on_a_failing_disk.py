"""A disk that fails during a start: the node starts all the same, or says where and what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.config import BrokerConfig
from ledgermq.broker.replica import Replica, ReplicaEvents
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.host import Host
from ledgermq.dledger.store import entry_index
from ledgermq.remoting.errors import LedgerMQError
from tests.support.brokers import ALONE, Brokers, broker_config

_MAY_FAIL = (
    "open", "pread", "pread_cached", "pwrite", "truncate", "size", "fdatasync", "lock", "names",
    "exists", "make_folder", "remove", "rename", "sync_folder",
)  # fmt: skip
# Every so many-th call; all of them with LEDGERMQ_FUZZ=long.
_STEP = 1 if os.environ.get("LEDGERMQ_FUZZ") == "long" else 4
# What an advice begins with: a person is asked to do something.
_ADVICE = re.compile(r"\b(See|Look|Give|Mend|Free|Raise|Correct|Start|free)\b")


class FailingDisk(OsDisk):
    """Its call number `at` fails, as a call by descriptor does: without any path.

    Attributes:
        calls: how many there were.
        failed: the call that failed; "" while none has.
    """

    def __init__(self, at: int, number: int = errno.EIO) -> None:
        super().__init__()
        self.calls = 0
        self.failed = ""
        self._open: set[int] = set()
        for name in _MAY_FAIL:
            setattr(self, name, self._counted(name, getattr(self, name), at, number))

    def _counted(self, name: str, real: Any, at: int, number: int) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            self.calls += 1
            if self.calls == at:
                self.failed = f"{name}{args}"
                raise OSError(number, os.strerror(number))
            found = real(*args, **more)
            if name in ("open", "lock"):
                self._open.add(found)
            return found

        return call

    def close(self, fd: int) -> None:  # type: ignore[override]
        self._open.discard(fd)
        os.close(fd)

    def close_all(self) -> None:
        """What the end of the process does."""
        for fd in list(self._open):
            self.close(fd)


class Start:
    """One start of a replica; `problems` is what an operator is told."""

    def __init__(self, config: BrokerConfig, at: int, number: int = errno.EIO) -> None:
        self.disk = FailingDisk(at, number)
        self.problems: list[BaseException] = []
        self._config = config

    async def run(self) -> None:
        try:
            await self._run()
        finally:
            self.disk.close_all()

    async def _run(self) -> None:
        try:
            replica = Replica(self._config, self._events(), Host(disk=self.disk))
        except Exception as e:  # noqa: BLE001 - which of them it is, is the question
            self.problems.append(e)
            return
        try:
            await replica.open()
        except Exception as e:  # noqa: BLE001
            self.problems.append(e)
        try:
            await replica.close()
        except LedgerMQError as e:
            self.problems.append(e)

    def _events(self) -> ReplicaEvents:
        def nothing(*_: Any) -> None:
            return None

        return ReplicaEvents(
            on_role=nothing,
            on_ready=nothing,
            on_applied=nothing,
            on_change=nothing,
            on_transfer_ended=nothing,
            on_stop=self.problems.append,
        )

    def explained(self) -> str:
        """What is wrong with what was told; "" when nothing is."""
        for problem in self.problems:
            text = str(problem)
            if not isinstance(problem, LedgerMQError):
                return f"{self.disk.failed}: {problem!r}"
            if str(self._config.store_path_root_dir) not in text:
                return f"{self.disk.failed}: no path in {text!r}"
            if "Input/output" in text and not _ADVICE.search(text):
                return f"{self.disk.failed}: no advice in {text!r}"
        return ""


async def stored(folder: Path, state: str) -> Path:
    """A node's store as a stop or a kill leaves it."""
    if state == "new":
        return folder / "n0"
    async with Brokers(folder, mapped_file_size_commit_log=64 << 10) as group:
        await group.create_topic("T")
        for i in range(60):
            await group.send("T", b"%d" % i * 1000)
        app = await group.leader()
        await app.dispatcher._keeper.save()
        await group.send("T", b"after the snapshot")
        if state == "killed":
            shutil.copytree(app.config.store_path_root_dir, folder / "killed")
            return folder / "killed"
        await group.stop("n0")
    return folder / "n0"


def copies(store: Path, config: BrokerConfig) -> Iterator[BrokerConfig]:
    """The same store again and again."""
    for k in range(100_000):
        folder = store.parent / f"copy{k}"
        if store.exists():
            shutil.copytree(store, folder)
        yield replace(config, store_path_root_dir=folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("state", ["new", "stopped", "killed"])
async def test_a_call_of_the_disk_that_fails(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its files are copied hundreds of times.
    monkeypatch.setattr(entry_index, "UNITS_PER_SEGMENT", 2000)
    store = await stored(tmp_path, state)
    peers = {"n0": ("127.0.0.1", 1)}
    config = broker_config(store, peers, "n0", **ALONE, mapped_file_size_commit_log=64 << 10)
    wrong: list[str] = []
    for k, one in enumerate(copies(store, config)):
        start = Start(one, 1 + k * _STEP)
        await start.run()
        if problem := start.explained():
            wrong.append(problem)
        if not start.disk.failed:
            assert not start.problems
            assert start.disk.calls > 50
            break
    assert not wrong, "\n".join(wrong)
