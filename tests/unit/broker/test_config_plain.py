"""A broker without a group: the guides' files, key by key, its defaults and its role."""

import re
import socket
from pathlib import Path

import pytest

from ledgermq.broker.config import KEYS, BrokerConfig, load_config, read_config
from ledgermq.broker.config_inert import INERT
from ledgermq.broker.config_values import show

from .config_files import FIXTURES, GROUP, SERVERS, load, read_plain, short

# A file of each block of keys in the guides: same keys, same values.
MASTERS = ["async_master", "async_trailing_blanks", "first_steps", "noslave", "sync_a", "sync_b"]
SLAVES = ["async_slave", "sync_a_s", "sync_b_s", "sync_c_s"]


def with_comments_on(name: str) -> dict[str, str]:
    """Key -> value of a guide's file, those that it comments out too."""
    text = (FIXTURES / f"{name}.conf").read_text()
    return dict(re.findall(r"^\s*#?([a-zA-Z0-9]+) ?= ?(.*?)\s*$", text, re.MULTILINE))


@pytest.mark.parametrize("name", [*MASTERS, *SLAVES, "dledger_n0"])
def test_every_key_of_the_guides_acts_or_says_why_not(name: str, tmp_path: Path) -> None:
    keys = with_comments_on(name)
    text = "".join(f"{k}={v}\n" for k, v in keys.items())
    reading = read_plain(tmp_path, text)
    assert not [w for w in reading.warnings if "unknown" in w]
    by_name = {n: field for field, k in KEYS.items() for n in (k.name, *k.aliases)}
    for n, value in keys.items():
        if n in INERT:
            assert [w for w in reading.warnings if f"key {n} has no effect here" in w], n
        else:
            assert show(getattr(reading.config, by_name[n])) == show(KEYS[by_name[n]].read(value))


def test_the_fixtures_have_the_keys_that_the_guides_comment_out() -> None:
    assert with_comments_on("async_trailing_blanks").keys() >= {
        "destroyMapedFileIntervalForcibly",
        "redeleteHangedFileInterval",
        "flushCommitLogLeastPages",
        "flushConsumeQueueLeastPages",
        "flushCommitLogThoroughInterval",
        "flushConsumeQueueThoroughInterval",
        "checkTransactionMessageEnable",
        "sendMessageThreadPoolNums",
        "pullMessageThreadPoolNums",
    }


@pytest.mark.parametrize("name", MASTERS)
def test_the_masters_of_the_guides_start(name: str) -> None:
    config, _ = load_config(FIXTURES / f"{name}.conf", {}, SERVERS)
    assert not config.in_group
    assert config.broker_id == 0


@pytest.mark.parametrize("name", SLAVES)
def test_the_slaves_of_the_guides_are_refused_with_the_way_out(name: str) -> None:
    [problem] = read_config(FIXTURES / f"{name}.conf", {}, SERVERS).problems
    assert re.search(r"\.conf:\d+: brokerRole is SLAVE, .* not served\. Use a DLedger", problem)
    assert "conf/dledger" in problem


def test_the_paths_of_a_guide(tmp_path: Path) -> None:
    config, _ = load_config(FIXTURES / "sync_a.conf", {}, {})
    root = Path("/data/rocketmq-m")
    assert config.commit_log_dir == root / "commitlog"
    assert config.consume_queue_dir == root / "consumequeue"
    assert config.index_dir == root / "index"
    assert config.checkpoint_path == root / "checkpoint"
    assert config.abort_path == root / "abort"
    text = "".join(
        f"{key}={tmp_path}/{key}\n"
        for key in (
            "storePathRootDir",
            "storePathCommitLog",
            "storePathConsumeQueue",
            "storePathIndex",
            "storeCheckpoint",
            "abortFile",
        )
    )
    moved = read_plain(tmp_path, text).config
    assert moved.commit_log_dir == tmp_path / "storePathCommitLog"
    assert moved.consume_queue_dir == tmp_path / "storePathConsumeQueue"
    assert moved.index_dir == tmp_path / "storePathIndex"
    assert moved.folders_on_disk == (moved.store_path_root_dir, moved.commit_log_dir)
    assert moved.checkpoint_path == tmp_path / "storeCheckpoint"
    assert moved.abort_path == tmp_path / "abortFile"


def test_no_file_is_upstreams_default() -> None:
    config, warnings = load_config(None, {"namesrvAddr": "localhost:9876"}, {})
    assert warnings == []
    assert config.broker_name == socket.gethostname()
    assert config.broker_cluster_name == "DefaultCluster"
    assert config.listen_port == 10911
    assert config.ha_listen_port == 10912
    assert config.store_path_root_dir == Path.home() / "store"
    assert config.commit_log_dir == Path.home() / "store/commitlog"
    assert config.checkpoint_path == Path.home() / "store/checkpoint"
    assert (config.broker_role, config.flush_disk_type) == ("ASYNC_MASTER", "ASYNC_FLUSH")


def test_a_host_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledgermq.broker.config.socket.gethostname", lambda: "")
    assert load_config(None, {}, {})[0].broker_name == "DEFAULT_BROKER"


def test_numbers_are_upstreams() -> None:
    """As /docs/config.md says; upstream's MessageStoreConfig has the same."""
    defaults = BrokerConfig()
    assert {KEYS[n].name: getattr(defaults, n) for n in KEYS if "flush" in n} == {
        "flushDiskType": "ASYNC_FLUSH",
        "flushIntervalCommitLog": 500,
        "flushCommitLogLeastPages": 4,
        "flushCommitLogThoroughInterval": 10_000,
        "syncFlushTimeout": 5000,
        "flushIntervalConsumeQueue": 1000,
        "flushConsumeQueueLeastPages": 2,
        "flushConsumeQueueThoroughInterval": 60_000,
        "flushConsumerOffsetInterval": 5000,
        "offsetFlushIntervalMs": 200,
    }
    assert defaults.disk_max_used_percent == 75
    assert defaults.disk_space_clean_forcibly_percent == 85
    assert defaults.disk_space_warning_level_percent == 90
    assert defaults.clean_resource_interval_ms == 10_000
    assert defaults.delete_file_batch_max == 10
    assert defaults.destroy_mapped_file_interval_forcibly_ms == 120_000
    assert defaults.max_hash_slot_num == 5_000_000
    assert defaults.max_index_num == 20_000_000


# --- the role ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("brokerRole=SLAVE\nbrokerId=1", "is not served. Use a DLedger", id="slave"),
        pytest.param("brokerRole=SLAVE\nbrokerId=0", "brokerId (broker.conf:2) is 0", id="id 0"),
        pytest.param("brokerRole=SLAVE", "brokerId (configuration) is 0", id="no id"),
        pytest.param("brokerRole=MASTER", "not one of ASYNC_MASTER, SYNC_MASTER", id="neither"),
    ],
)
def test_roles_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    [problem] = short(tmp_path, read_plain(tmp_path, text).problems)
    assert problem.startswith("broker.conf:1: brokerRole is ")
    assert says in problem


def test_a_master_has_id_0_whatever_is_written(tmp_path: Path) -> None:
    reading = read_plain(tmp_path, "brokerId=3")
    assert reading.config.broker_id == 0
    assert short(tmp_path, reading.warnings) == [
        "broker.conf:1: brokerId is 3, and brokerRole ASYNC_MASTER makes it 0. Write brokerId=0,"
        " or use a DLedger group for several copies, conf/dledger"
    ]


def test_sync_master_says_that_there_is_nobody_to_wait_for(tmp_path: Path) -> None:
    [warning] = short(tmp_path, read_plain(tmp_path, "brokerRole=SYNC_MASTER").warnings)
    assert warning.startswith("broker.conf:1: brokerRole is SYNC_MASTER, and there are no slaves")


# --- keys that act in one kind ----------------------------------------------------------------


def test_a_group_s_keys_say_that_they_need_the_switch(tmp_path: Path) -> None:
    text = "".join(f"{k}={v}\n" for k, v in GROUP.items() if k != "enableDLegerCommitLog")
    found = short(tmp_path, read_plain(tmp_path, text).warnings)
    assert found == [
        f"broker.conf:{line}: key {key} has no effect here: only a node of a group"
        " (enableDLegerCommitLog=true) has peers"
        for line, key in enumerate(("dLegerGroup", "dLegerPeers", "dLegerSelfId"), start=1)
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("flushCommitLogLeastPages=4", "pages are not counted", id="flush"),
        pytest.param("flushConsumeQueueLeastPages=2", "rebuilt from the log", id="queue flush"),
        pytest.param("storeCheckpoint=/x", "beside its log", id="checkpoint"),
        pytest.param("storePathCommitLog=/x", "dledger-<dLegerSelfId>", id="log"),
        pytest.param("redeleteHangedFileInterval=1", "all nodes do the same", id="retention"),
        pytest.param("syncFlushTimeout=1", "until a majority has it", id="timeout"),
        pytest.param("flushConsumerOffsetInterval=1", "records of the log", id="offsets"),
    ],
)
def test_keys_of_plain_brokers_say_why_not_in_a_group(
    tmp_path: Path, line: str, reason: str
) -> None:
    key = line.partition("=")[0]
    _, warnings = load(tmp_path, line, SERVERS)
    assert [w for w in warnings if f"key {key} has no effect here: " in w and reason in w]
    assert read_plain(tmp_path, line).warnings == []


@pytest.mark.parametrize("line", ["storePathConsumeQueue=/x", "storePathIndex=/x", "abortFile=/x"])
def test_paths_that_act_in_both(tmp_path: Path, line: str) -> None:
    assert load(tmp_path, line, SERVERS)[1] == read_plain(tmp_path, line).warnings == []


def test_an_inert_key_s_reason_is_that_of_its_kind(tmp_path: Path) -> None:
    [plain] = read_plain(tmp_path, "slaveReadEnable=true").warnings
    [group] = load(tmp_path, "slaveReadEnable=true", SERVERS)[1]
    assert plain.endswith("a plain broker has no slaves")
    assert group.endswith("a follower always serves pulls, of committed messages only")


def test_every_inert_key_has_a_reason_for_each_kind() -> None:
    assert not [name for name, idle in INERT.items() if not all(idle)]


@pytest.mark.parametrize("value", ["true", "TRUE", "True"])
def test_the_switch_may_stand_below_what_depends_on_it(tmp_path: Path, value: str) -> None:
    group = "".join(f"{k}={v}\n" for k, v in GROUP.items() if k != "enableDLegerCommitLog")
    reading = read_plain(tmp_path, f"{group}enableDLegerCommitLog={value}")
    assert reading.config.in_group
    assert reading.warnings == reading.problems == []
