"""What the log keeps no longer: by age, hour and disk, decided from the log alone."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ledgermq.broker.config import BrokerConfig, load_config
from ledgermq.broker.metadata import LogBegin, Metadata, encode_op
from ledgermq.broker.retention import (
    DiskGauge,
    Retention,
    RetentionRules,
    disk_used_ratio,
    local_hour,
)
from ledgermq.remoting.errors import CallerError
from tests.unit.broker.store.replicas import FIRST_MS, FakeLog, fill

HOUR_MS = 3_600_000
MAX_FILES = 10
NOW_MS = 1_000 * HOUR_MS


RULES = RetentionRules(
    reserved_hours=72,
    delete_when=(4,),
    max_used_ratio=0.75,
    force_ratio=0.85,
    force_enable=True,
    full_ratio=0.9,
    max_files=10,
)


def going(ages_h: list[float], *, hour: int = 4, used_ratio: float = 0.1, **rules: Any) -> int:
    """How many files of these ages in hours go."""
    times = [NOW_MS - int(age * HOUR_MS) for age in ages_h]
    return replace(RULES, **rules).files_to_go(times, NOW_MS, hour, used_ratio)


@pytest.mark.parametrize(
    ("ages_h", "expected"),
    [
        pytest.param([], 0, id="no file"),
        pytest.param([999], 0, id="the last file stays"),
        pytest.param([999, 999], 1, id="but not the one before"),
        pytest.param([73, 71, 0], 1, id="old enough"),
        pytest.param([72, 1], 1, id="just old enough"),
        pytest.param([71.9, 1], 0, id="too young"),
        pytest.param([90, 80, 75, 10, 0], 3, id="several"),
        pytest.param([90, 10, 75, 0], 1, id="none behind one that stays"),
        pytest.param([999] * 30, 10, id="a few at a time"),
    ],
)
def test_whole_files_go_by_their_age(ages_h: list[float], expected: int) -> None:
    assert going(ages_h) == expected


@pytest.mark.parametrize(
    ("more", "goes"),
    [
        pytest.param({"hour": 5}, False, id="another hour"),
        pytest.param({"hour": 16, "delete_when": (4, 16)}, True, id="one of the hours"),
        pytest.param({"hour": 5, "used_ratio": 0.76}, True, id="the disk is full"),
        pytest.param({"hour": 5, "used_ratio": 0.75}, False, id="the disk is not"),
        pytest.param({"delete_when": ()}, False, id="no hour at all"),
    ],
)
def test_the_hour_and_the_disk(more: dict[str, Any], goes: bool) -> None:
    assert going([100, 0], **more) == goes


@pytest.mark.parametrize(
    ("ages_h", "more", "expected"),
    [
        pytest.param([1, 1, 0], {"used_ratio": 0.85}, 0, id="not yet"),
        pytest.param([1, 1, 0], {"used_ratio": 0.86}, 2, id="young ones too"),
        pytest.param([1, 1, 0], {"used_ratio": 0.86, "hour": 5}, 2, id="at any hour"),
        pytest.param([1, 1, 0], {"used_ratio": 0.99, "force_enable": False}, 0, id="forbidden"),
        pytest.param([99, 1, 0], {"used_ratio": 0.99, "force_enable": False}, 1, id="old ones"),
        pytest.param([1] * 30, {"used_ratio": 0.86}, 10, id="a few at a time"),
        pytest.param([1] * 30, {"used_ratio": 0.86, "max_files": 3}, 3, id="fewer"),
        pytest.param([1], {"used_ratio": 0.99}, 0, id="never the last"),
        pytest.param([], {"used_ratio": 0.99}, 0, id="no file"),
    ],
)
def test_a_nearly_full_disk(ages_h: list[float], more: dict[str, Any], expected: int) -> None:
    assert going(ages_h, **more) == expected


def test_the_hour_is_a_local_one() -> None:
    hours = {local_hour(FIRST_MS + n * HOUR_MS) for n in range(24)}
    assert hours == set(range(24))


# --- how full ---------------------------------------------------------------------------------


def test_writes_are_refused_above_a_level_and_taken_again_below(
    caplog: pytest.LogCaptureFixture,
) -> None:
    used = [0.9, 0.91, 0.99, 0.9, 0.5]
    gauge = DiskGauge(lambda: used.pop(0), 0.9)
    assert not gauge.is_full
    found = []
    while used:
        gauge.measure()
        found.append(gauge.is_full)
        if gauge.used_ratio == 0.91:
            assert "disk is 91.0% full" in gauge.refusal()
            assert "above 90% (diskSpaceWarningLevelRatio)" in gauge.refusal()
    assert found == [False, True, True, False, False]
    assert [r.levelname for r in caplog.records] == ["ERROR", "WARNING"]


def test_a_disk_that_does_not_answer_is_as_full_as_it_was() -> None:
    answers: list[float | OSError] = [0.95, OSError("no answer")]

    def look() -> float:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    gauge = DiskGauge(look, 0.9)
    assert (gauge.measure(), gauge.measure()) == (0.95, 0.95)
    assert gauge.is_full


def test_the_fullest_disk_counts_and_what_only_root_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A twentieth is kept for root: of 1000, 855 are used and 95 can be.
    usage = {"a": (1000, 855, 95), "b": (1000, 100, 900), "c": (0, 0, 0)}
    monkeypatch.setattr(shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(*usage[p.name]))
    assert disk_used_ratio(Path("a"), Path("b"), Path("c")) == 0.9
    assert disk_used_ratio(Path("c")) == 0.0


# --- the driver -------------------------------------------------------------------------------


class Group:
    def __init__(self, folder: Path) -> None:
        self.log = FakeLog(folder)
        self.metadata = Metadata()
        self.asked: list[int] = []
        self.hour = 4
        self.used_ratio = 0.1
        self.now_ms = FIRST_MS + 200 * HOUR_MS
        object.__setattr__(self.log.host, "wall_ms", lambda: self.now_ms)
        self.applied = -1
        self.retention = Retention(
            cast(Any, self.log),
            BrokerConfig(file_reserved_hours=100, delete_file_batch_max=MAX_FILES),
            metadata=self.metadata,
            applied=lambda: self.applied,
            disk_used_ratio=lambda: self.used_ratio,
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


async def test_a_nearly_full_disk_costs_young_messages(group: Group) -> None:
    firsts = [first for _, first in group.log.segment_begins()]
    group.now_ms, group.hour, group.used_ratio = FIRST_MS, 3, 0.86
    await group.retention.check()
    assert group.asked == [firsts[-1]]
    assert not group.retention.gauge.is_full
    # Asked for once, however long it takes until the files are gone.
    group.metadata.apply(100, 1, encode_op(LogBegin(firsts[-1])))
    group.used_ratio = 0.91
    await group.retention.check()
    assert len(group.asked) == 1
    assert group.retention.gauge.is_full


async def test_a_follower_whose_disk_is_nearly_full_counts_as_much(group: Group) -> None:
    firsts = [first for _, first in group.log.segment_begins()]
    group.now_ms, group.hour, group.log.others_percent = FIRST_MS, 3, 85
    await group.retention.check()
    assert group.asked == []
    group.log.others_percent = 86
    await group.retention.check()
    assert group.asked == [firsts[-1]]


async def test_sends_are_refused_for_the_own_disk_only(group: Group) -> None:
    group.log.others_percent = 99
    await group.retention.check()
    assert not group.retention.gauge.is_full
    group.used_ratio = 0.91
    await group.retention.check()
    assert group.retention.gauge.is_full


@pytest.mark.parametrize(
    ("used_ratio", "percent"), [(0.0, 0), (0.85, 85), (0.8501, 86), (0.999, 100), (1.0, 100)]
)
def test_every_node_tells_its_log_how_full_its_disk_is(
    group: Group, used_ratio: float, percent: int
) -> None:
    """Rounded up: above a limit here is above it there."""
    group.used_ratio = used_ratio
    group.retention.measure()
    assert group.log.own_percent == percent
    assert group.retention.gauge.used_ratio == used_ratio


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


def test_the_rules_of_the_keys(tmp_path: Path) -> None:
    assert RetentionRules.of(configured(tmp_path, "")) == RULES
    text = (
        "fileReservedTime=48\ndeleteWhen=04;16\ndiskMaxUsedSpaceRatio=60\n"
        "diskSpaceCleanForciblyRatio=70\ndiskSpaceWarningLevelRatio=80\n"
        "cleanFileForciblyEnable=false\ndeleteFileBatchMax=3\n"
    )
    assert RetentionRules.of(configured(tmp_path, text)) == RetentionRules(
        reserved_hours=48,
        delete_when=(4, 16),
        max_used_ratio=0.6,
        force_ratio=0.7,
        force_enable=False,
        full_ratio=0.8,
        max_files=3,
    )


@pytest.mark.parametrize("value", ["24", "4,5", "noon", "-1", "4 5"])
def test_an_hour_that_is_none(tmp_path: Path, value: str) -> None:
    with pytest.raises(CallerError, match="deleteWhen"):
        configured(tmp_path, f"deleteWhen={value}\n")
