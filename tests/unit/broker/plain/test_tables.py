"""config/*.json of a broker without a group: read back as they were saved, or refused by name."""

import asyncio
import errno
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.metadata import (
    GroupDelete,
    GroupPut,
    Metadata,
    OffsetsPut,
    Op,
    TopicDelete,
    TopicPut,
    encode_op,
)
from ledgermq.broker.plain.tables import Tables
from ledgermq.dledger.disk import Disk, OsDisk
from ledgermq.dledger.errors import CallerError, DiskFullError, StorageError
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from tests.golden.captured import rebuild
from tests.support import until
from tests.unit.broker.fakes import topic
from tests.unit.dledger.logs import PowerCut
from tests.unit.dledger.power import PowerDisk

NOW_MS = 1_800_000_000_000
FILES = ("topics.json", "subscriptionGroup.json", "consumerOffset.json")


class Broker:
    """Metadata that changes as the plain node changes it, and its files."""

    def __init__(self, folder: Path, disk: Disk, threads: ThreadPoolExecutor) -> None:
        self.folder = folder
        self.metadata = Metadata()
        self.tables = Tables(folder, self.metadata, disk, threads, now_ms=lambda: NOW_MS)
        self.warnings = self.tables.load()

    def do(self, *ops: Op) -> None:
        for op in ops:
            self.metadata.apply(self.metadata.applied_index + 1, 0, encode_op(op))

    async def save(self) -> None:
        await self.tables.save_topics()
        await self.tables.save_groups()
        await self.tables.save_offsets()

    def text(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @property
    def state(self) -> Any:
        m = self.metadata
        groups = {name: m.offsets_of(name) for name in ("g", "h")}
        return dict(m.topics), dict(m.groups), groups, dict(self.tables.deleted)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def broker(tmp_path: Path, threads: ThreadPoolExecutor) -> Broker:
    return Broker(tmp_path / "config", OsDisk(), threads)


def again(broker: Broker, threads: ThreadPoolExecutor) -> Broker:
    return Broker(broker.folder, OsDisk(), threads)


def group(name: str, **settings: Any) -> SubscriptionGroupConfig:
    return SubscriptionGroupConfig(group_name=name, **settings)


def fill(broker: Broker) -> None:
    broker.do(
        TopicPut(topic("T", 4)),
        TopicPut(topic("%RETRY%g", 1)),
        GroupPut(group("g", retry_max_times=3)),
        OffsetsPut({"g": {"T": {0: 9, 3: 1}, "%RETRY%g": {0: 2}}, "h": {"T": {0: 5}}}),
    )


# --- saved and read -----------------------------------------------------------------------------


async def test_what_is_saved_is_read_back(broker: Broker, threads: ThreadPoolExecutor) -> None:
    assert broker.warnings == []
    fill(broker)
    await broker.save()
    after = again(broker, threads)
    assert after.warnings == []
    assert after.state == broker.state
    assert after.metadata.topic_version == 2
    assert sorted(p.name for p in broker.folder.iterdir()) == sorted(FILES)


async def test_nothing_is_written_before_something_changes(
    broker: Broker, threads: ThreadPoolExecutor
) -> None:
    await broker.save()
    assert not broker.folder.exists()
    fill(broker)
    await broker.save()
    times = [(broker.folder / name).stat().st_ino for name in FILES]
    await broker.save()
    after = again(broker, threads)
    await after.save()
    assert [(broker.folder / name).stat().st_ino for name in FILES] == times


async def test_the_version_before_is_the_backup(broker: Broker) -> None:
    broker.do(TopicPut(topic("T")))
    await broker.save()
    broker.do(TopicPut(topic("U")))
    await broker.save()
    assert list(broker.text("topics.json")["topicConfigTable"]) == ["T", "U"]
    assert list(broker.text("topics.json.bak")["topicConfigTable"]) == ["T"]
    assert broker.text("topics.json")["dataVersion"]["counter"] == 2


async def test_offsets_that_went_with_their_topic_do_not_come_back(
    broker: Broker, threads: ThreadPoolExecutor
) -> None:
    fill(broker)
    await broker.save()
    broker.do(TopicDelete("T"))
    await broker.save()
    broker.do(TopicPut(topic("T")))
    await broker.tables.save_topics()
    assert again(broker, threads).metadata.offset("g", "T", 0) is None
    broker.do(GroupDelete("g", clean_offsets=True))
    await broker.tables.save_offsets()
    assert broker.text("consumerOffset.json")["offsetTable"] == {}


async def test_every_start_tells_another_version(
    broker: Broker, threads: ThreadPoolExecutor
) -> None:
    broker.do(TopicPut(topic("T")))
    await broker.save()
    first = broker.metadata.version_of(1)
    second = again(broker, threads).metadata.version_of(1)
    assert (first.timestamp, second.timestamp) == (NOW_MS, NOW_MS + 1)


async def test_deleted_topics(broker: Broker, threads: ThreadPoolExecutor) -> None:
    await broker.tables.note_deleted("T", 100)
    await broker.tables.note_deleted("U", 200)
    after = again(broker, threads)
    assert after.tables.deleted == {"T": 100, "U": 200}
    after.tables.forget_deleted_below(100)
    assert after.tables.deleted == {"U": 200}
    await after.tables.note_deleted("V", 300)
    assert broker.text("deletedTopics.json") == {"deletedTopics": {"U": 200, "V": 300}}


# --- upstream's files ---------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["plain-4.9.5/clean", "plain-4.9.5/kill9"])
def test_a_store_of_upstream(store: str, tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    rebuild(store, tmp_path)
    broker = Broker(tmp_path / "config", OsDisk(), threads)
    assert broker.warnings == []
    java = (tmp_path / "config" / "topics.json").read_text(encoding="utf-8")
    want = json.loads(java)
    for name, row in want["topicConfigTable"].items():
        config = broker.metadata.topics[name]
        assert (config.read_queue_nums, config.perm) == (row["readQueueNums"], row["perm"])
    assert broker.metadata.topics.keys() == want["topicConfigTable"].keys()
    assert broker.metadata.topic_version == want["dataVersion"]["counter"]
    java = (tmp_path / "config" / "subscriptionGroup.json").read_text(encoding="utf-8")
    assert broker.metadata.groups.keys() == json.loads(java)["subscriptionGroupTable"].keys()
    assert broker.metadata.groups["CG_Store"].retry_max_times == 16
    assert broker.metadata.offsets_of("CG_Store")["GoldA"] == {0: 10, 1: 5}
    assert broker.metadata.offsets_of("CG_Store")["%RETRY%CG_Store"] == {0: 1}
    broker.do(TopicPut(topic("New")))
    assert broker.metadata.topic_version == want["dataVersion"]["counter"] + 1


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def test_files_of_other_versions(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    write(
        tmp_path,
        "topics.json",
        """{"topicConfigTable":{
        "T":{"perm":4,"attributes":{"+message.type":"FIFO"},"new":{"x":[1]},"order":null},
        "U":{"topicName":"U","readQueueNums":"8"}}}""",
    )
    write(
        tmp_path,
        "subscriptionGroup.json",
        """{"dataVersion":{"counter":5},
        "subscriptionGroupTable":{"g":{"groupRetryPolicy":{"type":"CUSTOMIZED"}}},
        "forbiddenTable":{}}""",
    )
    write(
        tmp_path,
        "consumerOffset.json",
        """{"groupTopicMap":{"g":["T"]},
        "offsetTable":{"T@g":{0:7,1:-1},"T@h":{0:-1},"gone@g":{0:1},"T@x@y":{2:3}}}""",
    )
    broker = Broker(tmp_path, OsDisk(), threads)
    t, u = broker.metadata.topics["T"], broker.metadata.topics["U"]
    assert (t.topic_name, t.perm, t.read_queue_nums, t.order) == ("T", 4, 16, False)
    assert t.attributes == {"+message.type": "FIFO"}
    assert (u.read_queue_nums, u.perm) == (8, 6)
    assert broker.metadata.groups["g"] == group("g")
    assert broker.metadata.group_version == 5
    assert broker.metadata.offsets_of("g") == {"T": {0: 7}}
    assert broker.metadata.offsets_of("h") == {}
    assert broker.metadata.offsets_of("x@y") == {"T": {2: 3}}
    assert len(broker.warnings) == 1
    assert "the offsets in 1 topics that do not exist are left out: gone" in broker.warnings[0]


# --- broken files -------------------------------------------------------------------------------

BROKEN = [
    pytest.param("topics.json", "", "line 1, byte 0", id="empty"),
    pytest.param("topics.json", '{"dataVersion":{}}', "topicConfigTable is missing", id="no table"),
    pytest.param("topics.json", '{"topicConfigTable":[]}', "is missing", id="another table"),
    pytest.param(
        "topics.json",
        '{"topicConfigTable":{\n"T":{"topicName":"S"}}}',
        "line 2, byte 22: 'T': calls itself 'S'",
        id="another topic",
    ),
    pytest.param(
        "topics.json", '{"topicConfigTable":{"T":{"perm":"rw"}}}', "'T': Expected `int`", id="type"
    ),
    pytest.param(
        "topics.json", '{"topicConfigTable":{"T":{"readQueueNums":-6}}}', "cannot be", id="negative"
    ),
    pytest.param(
        "topics.json", '{"topicConfigTable":{"T":{"topicSysFlag":1' + 20 * "0" + "}}}",
        "cannot be", id="a huge number",
    ),
    pytest.param("topics.json", '{"topicConfigTable":{"T":7}}', "no settings", id="no settings"),
    pytest.param(
        "topics.json", '{"topicConfigTable":{},"dataVersion":{"counter":[]}}', "dataVersion",
        id="version",
    ),
    pytest.param(
        "topics.json", '{"topicConfigTable":{},"dataVersion":{"counter":-1,"timestamp":-1}}',
        "dataVersion", id="a version below zero",
    ),
    pytest.param(
        "subscriptionGroup.json", '{"subscriptionGroupTable":{"g":{"groupName":"h"}}}',
        "calls itself 'h'", id="another group",
    ),
    pytest.param("consumerOffset.json", '{"offsetTable":{"T":{0:1}}}', "topic@group", id="no @"),
    pytest.param("consumerOffset.json", '{"offsetTable":{"T@g":{"x":1}}}', "'T@g'", id="queue"),
    pytest.param("consumerOffset.json", '{"offsetTable":{"T@g":7}}', "'T@g'", id="no queues"),
    pytest.param(
        "consumerOffset.json", '{"offsetTable":{"T@g":{0:9223372036854775808}}}', "cannot be",
        id="a huge offset",
    ),
    pytest.param("deletedTopics.json", '{"deletedTopics":{"T":"x"}}', "deletedTopics", id="ours"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "says"), BROKEN)
def test_a_broken_file_without_a_backup_is_refused(
    name: str, text: str, says: str, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    write(tmp_path, name, text)
    with pytest.raises(CallerError) as e:
        Broker(tmp_path, OsDisk(), threads)
    assert str(tmp_path / name) in str(e.value)
    assert says in str(e.value)
    assert f"nor can {name}.bak: missing. Mend one of them" in str(e.value)


@pytest.mark.parametrize("damage", ["broken", "missing"])
async def test_the_backup_stands_in_and_is_kept(
    broker: Broker, damage: str, threads: ThreadPoolExecutor
) -> None:
    broker.do(TopicPut(topic("T")))
    await broker.save()
    broker.do(TopicPut(topic("U")))
    await broker.save()
    path = broker.folder / "topics.json"
    if damage == "broken":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        path.unlink()
    backup = path.with_name("topics.json.bak").read_bytes()
    after = again(broker, threads)
    assert list(after.metadata.topics) == ["T"]
    assert len(after.warnings) == 1
    assert (
        f"{path} is not used ({'line 1' if damage == 'broken' else 'missing'}" in after.warnings[0]
    )
    assert "topics.json.bak, the version before it, was read instead" in after.warnings[0]
    # Nothing has changed since, but the file is to be there again; the backup was the better one.
    await after.save()
    assert path.with_name("topics.json.bak").read_bytes() == backup
    assert again(broker, threads).warnings == []
    after.do(TopicPut(topic("V")))
    await after.save()
    assert list(after.text("topics.json.bak")["topicConfigTable"]) == ["T"]
    assert list(after.text("topics.json")["topicConfigTable"]) == ["T", "V"]


def test_a_broken_backup_does_not_matter(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    write(tmp_path, "topics.json", '{"topicConfigTable":{"T":{}}}')
    write(tmp_path, "topics.json.bak", "")
    assert Broker(tmp_path, OsDisk(), threads).warnings == []


def test_both_broken_says_what_is_lost(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    write(tmp_path, "consumerOffset.json", "")
    write(tmp_path, "consumerOffset.json.bak", '{"offsetTable":\n7x}')
    with pytest.raises(CallerError, match=r"byte 0: .*\.bak: line 2, byte 17: .*begin again"):
        Broker(tmp_path, OsDisk(), threads)


# --- the disk -----------------------------------------------------------------------------------


class StubbornDisk(OsDisk):
    """Fails as it is told.

    Attributes:
        failing: name of the call that fails.
        code: with this.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failing = ""
        self.code = errno.ENOSPC

    def _may(self, name: str) -> None:
        if self.failing == name:
            raise OSError(self.code, os.strerror(self.code))

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        self._may("pwrite")
        return os.pwrite(fd, data, offset)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._may("pread")
        return os.pread(fd, size, offset)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._may("fdatasync")
        os.fdatasync(fd)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize(
    ("failing", "code", "error"),
    [
        pytest.param("pwrite", errno.ENOSPC, DiskFullError, id="full"),
        pytest.param("pwrite", errno.EDQUOT, DiskFullError, id="quota"),
        pytest.param("pwrite", errno.EIO, StorageError, id="broken"),
        pytest.param("fdatasync", errno.EIO, StorageError, id="a sync fails"),
    ],
)
async def test_a_failed_save_leaves_the_file(
    failing: str, code: int, error: type[Exception], tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    disk = StubbornDisk()
    broker = Broker(tmp_path, disk, threads)
    broker.do(TopicPut(topic("T")))
    await broker.tables.save_topics()
    before = contents(tmp_path)
    broker.do(TopicPut(topic("U")))
    disk.failing, disk.code = failing, code
    with pytest.raises(error, match=str(tmp_path / "topics.json")):
        await broker.tables.save_topics()
    assert contents(tmp_path) == before
    disk.failing = ""
    await broker.tables.save_topics()
    assert list(again(broker, threads).metadata.topics) == ["T", "U"]


def test_a_file_that_cannot_be_read_stops_the_node(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    write(tmp_path, "topics.json", '{"topicConfigTable":{}}')
    disk = StubbornDisk()
    disk.failing, disk.code = "pread", errno.EIO
    with pytest.raises(StorageError, match=r"topics\.json: read failed"):
        Broker(tmp_path, disk, threads)


@pytest.mark.parametrize("calls", range(14))
async def test_after_a_power_failure_a_saved_version_is_there(
    calls: int, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    disk = PowerDisk()
    broker = Broker(tmp_path, disk, threads)
    broker.do(TopicPut(topic("T")))
    await broker.tables.save_topics()
    broker.do(TopicPut(topic("U")))
    await broker.tables.save_topics()
    disk._left = calls
    broker.do(TopicPut(topic("V")))
    saved = ["T", "U"]
    try:
        await broker.tables.save_topics()
        saved.append("V")
    except PowerCut:
        pass
    disk.fail(tmp_path)
    found = list(again(broker, threads).metadata.topics)
    assert found[: len(saved)] == saved
    assert calls < 13 or len(saved) == 3


# --- at the same time ---------------------------------------------------------------------------


class GatedDisk(OsDisk):
    """A sync waits until it is let go.

    Attributes:
        syncs: how many have begun.
        most: how many were under way at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.syncs = 0
        self.under_way = 0
        self.most = 0

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.syncs += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.gate.acquire()
        self.under_way -= 1
        os.fdatasync(fd)


async def test_saves_that_come_meanwhile_are_one(tmp_path: Path) -> None:
    disk = GatedDisk()
    with ThreadPoolExecutor(4) as threads:
        broker = Broker(tmp_path, disk, threads)
        broker.do(TopicPut(topic("A")))
        first = asyncio.create_task(broker.tables.save_topics())
        await until(lambda: disk.syncs == 1)
        later = []
        for name in "BCD":
            broker.do(TopicPut(topic(name)))
            later.append(asyncio.create_task(broker.tables.save_topics()))
        disk.gate.release()
        await first
        await until(lambda: disk.syncs == 2)
        # The file of the first is there; nobody who came after it began was told anything.
        assert list(broker.text("topics.json")["topicConfigTable"]) == ["A"]
        assert not any(task.done() for task in later)
        disk.gate.release()
        await asyncio.gather(*later)
        assert list(broker.text("topics.json")["topicConfigTable"]) == ["A", "B", "C", "D"]
        assert (disk.syncs, disk.most) == (2, 1)


async def test_a_caller_that_gives_up_ends_no_save(tmp_path: Path) -> None:
    disk = GatedDisk()
    with ThreadPoolExecutor(4) as threads:
        broker = Broker(tmp_path, disk, threads)
        broker.do(TopicPut(topic("A")))
        first = asyncio.create_task(broker.tables.save_topics())
        await until(lambda: disk.syncs == 1)
        first.cancel()
        broker.do(TopicPut(topic("B")))
        second = asyncio.create_task(broker.tables.save_topics())
        disk.gate.release(2)
        await second
        assert first.cancelled()
        assert (disk.syncs, disk.most) == (2, 1)
        assert list(broker.text("topics.json")["topicConfigTable"]) == ["A", "B"]


async def test_who_comes_after_a_failure_tries_again(tmp_path: Path) -> None:
    disk = GatedDisk()
    with ThreadPoolExecutor(4) as threads:
        broker = Broker(tmp_path, disk, threads)
        broker.do(TopicPut(topic("A")))
        first = asyncio.create_task(broker.tables.save_topics())
        await until(lambda: disk.syncs == 1)
        second = asyncio.create_task(broker.tables.save_topics())
        (tmp_path / "topics.json.new.tmp").unlink()
        disk.gate.release(2)
        with pytest.raises(StorageError):
            await first
        await second
        assert list(broker.text("topics.json")["topicConfigTable"]) == ["A"]
