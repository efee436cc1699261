"""What the log keeps no longer: by age, hour and disk, decided from the log alone."""

from pathlib import Path
from typing import Any, cast

import pytest

from ledgermq.broker.config import BrokerConfig, load_config
from ledgermq.broker.metadata import LogBegin, Metadata, encode_op
from ledgermq.broker.retention import MAX_FILES, Retention, begin_index, local_hour
from ledgermq.remoting.errors import CallerError
from tests.unit.broker.store.replicas import FIRST_MS, FakeLog, fill

HOUR_MS = 3_600_000
NOW_MS = 1_000 * HOUR_MS


def begin(ages_h: list[float], **more: Any) -> int | None:
    """The decision for files of these ages in hours; file n begins at entry 100 * n."""
    values: dict[str, Any] = {
        "hour": 4,
        "reserved_hours": 72,
        "delete_when": [4],
        "disk_used_ratio": 0.1,
        "max_used_ratio": 0.75,
        **more,
    }
    segments = [(100 * n, NOW_MS - int(age * HOUR_MS)) for n, age in enumerate(ages_h)]
    return begin_index(segments, NOW_MS, values.pop("hour"), **values)


@pytest.mark.parametrize(
    ("ages_h", "expected"),
    [
        pytest.param([], None, id="no file"),
        pytest.param([999], None, id="the last file stays"),
        pytest.param([999, 999], 100, id="but not the one before"),
        pytest.param([73, 71, 0], 100, id="old enough"),
        pytest.param([72, 1], 100, id="just old enough"),
        pytest.param([71.9, 1], None, id="too young"),
        pytest.param([90, 80, 75, 10, 0], 300, id="several"),
        pytest.param([90, 10, 75, 0], 100, id="none behind one that stays"),
        pytest.param([999] * 30, 100 * MAX_FILES, id="a few at a time"),
    ],
)
def test_whole_files_go_by_the_age_of_their_newest_message(
    ages_h: list[float], expected: int | None
) -> None:
    assert begin(ages_h) == expected


@pytest.mark.parametrize(
    ("more", "goes"),
    [
        pytest.param({"hour": 5}, False, id="another hour"),
        pytest.param({"hour": 16, "delete_when": [4, 16]}, True, id="one of the hours"),
        pytest.param({"hour": 5, "disk_used_ratio": 0.76}, True, id="the disk is full"),
        pytest.param({"hour": 5, "disk_used_ratio": 0.75}, False, id="the disk is not"),
        pytest.param({"delete_when": []}, False, id="no hour at all"),
    ],
)
def test_the_hour_and_the_disk(more: dict[str, Any], goes: bool) -> None:
    assert begin([100, 0], **more) == (100 if goes else None)


def test_a_full_disk_removes_nothing_young() -> None:
    assert begin([71, 10, 0], disk_used_ratio=0.99) is None


def test_the_hour_is_a_local_one() -> None:
    hours = {local_hour(FIRST_MS + n * HOUR_MS) for n in range(24)}
    assert hours == set(range(24))


# --- the driver -------------------------------------------------------------------------------


class Group:
    def __init__(self, folder: Path) -> None:
        self.log = FakeLog(folder)
        self.metadata = Metadata()
        self.asked: list[int] = []
        self.hour = 4
        self.now_ms = FIRST_MS + 200 * HOUR_MS
        object.__setattr__(self.log.host, "wall_ms", lambda: self.now_ms)
        self.applied = -1
        self.retention = Retention(
            cast(Any, self.log),
            BrokerConfig(file_reserved_hours=100),
            metadata=self.metadata,
            applied=lambda: self.applied,
            disk_used_ratio=lambda: 0.1,
            append=self.asked.append,
            hour_of=lambda _: self.hour,
        )


@pytest.fixture
def group(tmp_path: Path) -> Group:
    group = Group(tmp_path)
    fill(group.log, 100)
    group.applied = group.log.end_index
    return group


async def test_the_leader_asks_for_what_the_policy_says(group: Group) -> None:
    firsts = [first for _, first in group.log.segment_begins()]
    assert 3 < len(firsts) < MAX_FILES
    await group.retention.check()
    assert group.asked == [firsts[-1]]
    group.metadata.apply(100, 1, encode_op(LogBegin(firsts[-1])))
    await group.retention.check()
    assert len(group.asked) == 1  # decided, and on its way


@pytest.mark.parametrize("why", ["young", "hour"])
async def test_otherwise_it_asks_for_nothing(group: Group, why: str) -> None:
    if why == "young":
        group.now_ms = FIRST_MS + 99 * HOUR_MS
    else:
        group.hour = 3
    await group.retention.check()
    assert group.asked == []


async def test_what_is_not_dispatched_yet_is_no_candidate(group: Group) -> None:
    firsts = [first for _, first in group.log.segment_begins()]
    group.applied = firsts[2] + 1
    await group.retention.check()
    assert group.asked == [firsts[2]]
    group.applied = -1
    await group.retention.check()
    assert len(group.asked) == 1


async def test_each_file_is_looked_at_once(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = group.log.read_entries

    async def counted(first: int, last: int, size: int) -> tuple[bytes, int]:
        reads.append(first)
        return await read(first, last, size)

    monkeypatch.setattr(group.log, "read_entries", counted)
    await group.retention.check()
    count = len(reads)
    await group.retention.check()
    assert len(reads) == count == len(group.log.segment_begins()) - 1


# --- the keys ---------------------------------------------------------------------------------

KEYS = "enableDLegerCommitLog=true\ndLegerGroup=G\ndLegerPeers=n0-a:1\ndLegerSelfId=n0\n"


def configured(tmp_path: Path, text: str) -> BrokerConfig:
    path = tmp_path / "broker.conf"
    path.write_text(KEYS + text)
    return load_config(path, {}, {})[0]


def test_the_keys_of_retention(tmp_path: Path) -> None:
    config = configured(tmp_path, "")
    assert (config.file_reserved_hours, config.delete_when) == (72, ("04",))
    assert config.disk_max_used_percent == 75
    config = configured(
        tmp_path, "fileReservedTime=48\ndeleteWhen=04;16\ndiskMaxUsedSpaceRatio=88\n"
    )
    assert (config.file_reserved_hours, config.delete_when) == (48, ("04", "16"))
    assert config.disk_max_used_percent == 88


@pytest.mark.parametrize("value", ["24", "4,5", "noon", "-1", "4 5"])
def test_an_hour_that_is_none(tmp_path: Path, value: str) -> None:
    with pytest.raises(CallerError, match="deleteWhen"):
        configured(tmp_path, f"deleteWhen={value}\n")
