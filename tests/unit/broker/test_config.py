"""Reading a broker.conf: what counts, what warns, what stops, and the page about it."""

import re
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.config import all_items, first_address, load_config
from ledgermq.remoting.errors import CallerError

from .config_files import FIXTURES, GROUP, load


def problems(tmp_path: Path, text: str, **overrides: Any) -> list[str]:
    """The lines of the error that `text` causes, without the folder."""
    with pytest.raises(CallerError) as e:
        load(tmp_path, text, **overrides)
    return str(e.value).replace(f"{tmp_path}/", "").split("\n")


def test_dledger_file_of_the_guide() -> None:
    config, warnings = load_config(
        FIXTURES / "dledger_n0.conf", {}, {}, local_ip=lambda: "10.0.0.7"
    )
    assert config.broker_cluster_name == "RaftCluster"
    assert config.broker_name == "RaftNode00"
    assert config.listen_port == 30911
    assert config.namesrv_addr == ("127.0.0.1:9876",)
    assert config.store_path_root_dir == Path("/tmp/rmqstore/node00")
    assert config.dledger_dir == Path("/tmp/rmqstore/node00/dledger-n0")
    assert config.dledger_data_dir == Path("/tmp/rmqstore/node00/dledger-n0/data")
    assert config.dleger_group == "RaftNode00"
    assert list(config.dleger_peers) == ["n0", "n1", "n2"]
    assert config.raft_address == ("127.0.0.1", 40911)
    assert config.address == "10.0.0.7:30911"
    assert config.follower_broker_id == 1
    assert config.sync_flush is False
    assert [re.sub(r".*n0\.conf:", "", w).split(":")[0] for w in warnings] == ["21", "39"]
    assert "key storePathCommitLog has no effect here: a group's log lies in" in warnings[0]
    assert "key sendMessageThreadPoolNums has no effect here" in warnings[1]


@pytest.mark.parametrize(
    ("name", "broker_id", "port", "role"),
    [
        pytest.param("sync_a", 0, 10911, "SYNC_MASTER", id="a"),
        pytest.param("sync_a_s", 1, 10920, "SLAVE", id="a-s"),
        pytest.param("sync_b", 0, 10911, "SYNC_MASTER", id="b"),
        pytest.param("sync_b_s", 1, 10920, "SLAVE", id="b-s"),
        pytest.param("sync_c_s", 2, 10920, "SLAVE", id="c-s"),
    ],
)
def test_indented_files_of_a_guide_in_a_group(
    name: str, broker_id: int, port: int, role: str
) -> None:
    config, warnings = load_config(FIXTURES / f"{name}.conf", GROUP, {})
    assert config.broker_id == broker_id
    assert config.listen_port == port
    assert config.broker_cluster_name == "rocketmq_cluster"
    assert config.namesrv_addr == ("192.168.5.57:9876", "192.168.5.58:9876")
    assert config.sync_flush is True
    assert config.default_topic_queue_nums == 4
    assert config.mapped_file_size_commit_log == 1073741824
    assert config.mapped_file_size_consume_queue == 300000
    assert config.max_message_size == 65536
    assert config.broker_role == role
    assert [w for w in warnings if "brokerRole has no effect here: the role is decided" in w]
    assert config.index_dir.name == "index"
    assert config.abort_path.parent == config.index_dir.parent
    assert (config.file_reserved_hours, config.delete_when) == (48, ("04",))
    assert config.disk_max_used_percent == 88
    assert not [w for w in warnings if "unknown" in w]


def test_trailing_blanks_and_commented_keys() -> None:
    config, warnings = load_config(FIXTURES / "async_trailing_blanks.conf", GROUP, {})
    assert config.namesrv_addr == ("rocketmq-nameserver1:9876",)
    assert config.broker_name == "broker-a|broker-b"
    assert config.mapped_file_size_consume_queue == 300000
    assert config.store_path_commit_log == Path("/usr/local/rocketmq/store/commitlog")
    assert config.consume_queue_dir == Path("/usr/local/rocketmq/store/consumequeue")
    assert config.file_reserved_hours == 120
    assert not [w for w in warnings if "unknown" in w]


@pytest.mark.parametrize("name", ["noslave", "async_master", "async_slave"])
def test_a_broker_name_with_a_remark_is_one_name_and_warns(name: str) -> None:
    config, warnings = load_config(FIXTURES / f"{name}.conf", GROUP, {"NAMESRV_ADDR": "a:9876"})
    assert config.broker_name.startswith("broker-a ")
    assert config.broker_name.endswith("(broker-b, broker-c, etc.)")
    assert [w for w in warnings if ".conf:" in w and "several names or a comment?" in w]
    assert ("slaveReadEnable" in config.inert) == (name != "noslave")


def test_no_file_at_all() -> None:
    config, warnings = load_config(None, GROUP, {}, local_ip=lambda: "10.0.0.7")
    assert config.address == "10.0.0.7:10911"
    assert [w for w in warnings if "no name server is set" in w]


def test_every_field_keeps_what_the_file_says(tmp_path: Path) -> None:
    """Written out and read again, every key gives the same configuration."""
    config, _ = load(tmp_path, "namesrvAddr=a:1;b:2\npreferredLeaderId=n1\nmaxMessageSize=1000")
    again, _ = load(tmp_path, "\n".join(all_items(config)))
    assert again == config


# --- defaults and precedence ------------------------------------------------------------------


def test_defaults(tmp_path: Path) -> None:
    config, warnings = load(tmp_path, "namesrvAddr=a:1")
    assert warnings == []
    assert config.broker_name == "G"
    assert config.broker_ip1 == "10.0.0.7"
    assert config.store_path_root_dir == Path.home() / "store"
    assert config.message_delay_levels_ms[:5] == (1000, 5000, 10_000, 30_000, 60_000)
    assert config.message_delay_levels_ms[-1] == 7_200_000
    assert len(config.message_delay_levels_ms) == 18


def test_first_address_is_an_ipv4_address() -> None:
    assert first_address().count(".") == 3


def test_first_address_without_a_route(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> "Unreachable":
            return self

        def __exit__(self, *_: object) -> None: ...
        def connect(self, _address: object) -> None:
            raise OSError

    monkeypatch.setattr("ledgermq.broker.config.socket.socket", Unreachable)
    assert first_address() == "127.0.0.1"


def test_user_home_of_the_environment(tmp_path: Path) -> None:
    env = {"LEDGERMQ_USER_HOME": str(tmp_path)}
    assert load(tmp_path, env=env)[0].store_path_root_dir == tmp_path / "store"
    assert load(tmp_path, "storePathRootDir=/x", env=env)[0].store_path_root_dir == Path("/x")
    home = load(tmp_path, "storePathRootDir=~/x")[0].store_path_root_dir
    assert home == Path.home() / "x"


def test_name_servers_command_line_before_file_before_environment(tmp_path: Path) -> None:
    env = {"NAMESRV_ADDR": "env:1"}
    assert load(tmp_path, env=env)[0].namesrv_addr == ("env:1",)
    assert load(tmp_path, "namesrvAddr=file:1", env=env)[0].namesrv_addr == ("file:1",)
    config, warnings = load(tmp_path, "namesrvAddr=", env=env)
    assert (config.namesrv_addr, warnings) == (("env:1",), [])
    config, warnings = load(tmp_path, "namesrvAddr=file:1", env=env, namesrvAddr="cli:1;cli:1")
    assert config.namesrv_addr == ("cli:1",)
    assert warnings == []


def test_queue_files_hold_whole_units(tmp_path: Path) -> None:
    config, _ = load(tmp_path, "mappedFileSizeConsumeQueue=41")
    assert config.mapped_file_size_consume_queue == 60


# --- warnings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        pytest.param(
            "brokerRole=SLAVE",
            "broker.conf:1: key brokerRole has no effect here: the role is decided by election:"
            " leader or follower",
            id="inert key",
        ),
        pytest.param(
            "brokerId=3",
            "broker.conf:1: key brokerId has no effect here: in a group the leader is 0 and a"
            " follower is the number in its dLegerSelfId + 1",
            id="typed inert key",
        ),
        pytest.param(
            "listenport=30911",
            "broker.conf:1: unknown key listenport is ignored. Did you mean listenPort?",
            id="unknown key, near one",
        ),
        pytest.param(
            "zzz=1",
            "broker.conf:1: unknown key zzz is ignored. See docs/config.md for all keys",
            id="unknown key, near none",
        ),
        pytest.param(
            "listenPort=1000\nlistenPort=2000",
            "broker.conf:2: key listenPort was set before at broker.conf:1; the last one counts."
            " Remove one of them",
            id="set twice",
        ),
        pytest.param(
            "dLegerPeers=n0-h:1;n1-h:2",
            "broker.conf:1: a group of two peers stops when one is lost. Three peers survive the"
            " loss of one",
            id="two peers",
        ),
        pytest.param(
            "mapedFileSizeCommitLog=65536",
            "broker.conf:1: mappedFileSizeCommitLog is 65536 bytes; a message of maxMessageSize,"
            " 4194304 bytes, does not fit and will be refused",
            id="file smaller than a message",
        ),
    ],
)
def test_warnings(tmp_path: Path, line: str, warning: str) -> None:
    _, warnings = load(tmp_path, line, {"NAMESRV_ADDR": "a:1"})
    assert [w.replace(f"{tmp_path}/", "") for w in warnings] == [warning]


def test_the_last_of_two_counts(tmp_path: Path) -> None:
    assert load(tmp_path, "listenPort=1000\nlistenPort = 2000 ")[0].listen_port == 2000


# --- errors -----------------------------------------------------------------------------------

NEXT_STEP = (
    r"\b(Write|Type|Separate|Choose|Correct|rename|Give|Set|Use|Change|Raise|A level|Every peer)\b"
)
PEERS = "n0-127.0.0.1:40911;n1-127.0.0.1:40912;n2-127.0.0.1:40913"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("listenPort=", "listenPort has no value", id="no value"),
        pytest.param("listenPort=many", "'many', not a whole number", id="no number"),
        pytest.param("listenPort=1_000", "'1_000', not a whole number", id="underscore"),
        pytest.param("listenPort=٣٣٣٣", "not a whole number", id="other digits"),
        pytest.param("listenPort=2", "listenPort is 2, outside 3 to 65535", id="low"),
        pytest.param("listenPort=65536", "outside 3 to 65535", id="high"),
        pytest.param("mapedFileSizeCommitLog=65535", "outside 65536 to", id="small file"),
        pytest.param("autoCreateTopicEnable=yes", "'yes', not true or false", id="boolean"),
        pytest.param("flushDiskType=SYNC", "not one of ASYNC_FLUSH, SYNC_FLUSH", id="enum"),
        pytest.param("namesrvAddr=a:1；b:2", "full-width character '；'", id="；"),  # noqa: RUF001
        pytest.param("namesrvAddr=a:1，b:2", "full-width character '，'", id="，"),  # noqa: RUF001
        pytest.param("namesrvAddr=a：1", "full-width character '：'", id="："),  # noqa: RUF001
        pytest.param("namesrvAddr=a:1,b:2", "namesrvAddr holds a comma", id="comma"),
        pytest.param("namesrvAddr=a:1; b:2", "holds a blank", id="blank"),
        pytest.param("namesrvAddr=a:1;\tb:2", "holds a tab", id="tab"),
        pytest.param("namesrvAddr=a", "holds 'a', not host:port", id="no port"),
        pytest.param("namesrvAddr=:1", "holds ':1', not host:port", id="no host"),
        pytest.param("namesrvAddr=a:b", "holds 'a:b', not host:port", id="port no number"),
        pytest.param("namesrvAddr=a:70000", "a port lies between 1 and 65535", id="big port"),
        pytest.param("messageDelayLevel=1s 5x", "holds '5x'", id="delay unit"),
        pytest.param("messageDelayLevel=s", "holds 's'", id="delay without number"),
        pytest.param("messageDelayLevel=0s", "holds '0s'", id="delay of nothing"),
        pytest.param("dLegerPeers=n0:1", "not id-host:port", id="peer without id"),
        pytest.param("dLegerPeers=n0-h", "holds 'h', not host:port", id="peer without port"),
        pytest.param("dLegerPeers=0-h:1", "holds the id '0'", id="peer id"),
        pytest.param("dLegerPeers=n0-h:1;n0-h:2", "names 'n0' twice", id="peer twice"),
        pytest.param("dLegerPeers=n0-h:1;n1-h:1", "the address h:1 twice", id="address twice"),
        pytest.param("dLegerPeers=n0-h:1；n1-h:2", "full-width", id="peers ；"),  # noqa: RUF001
        pytest.param("dLegerSelfId=node0", "holds the id 'node0'", id="self id"),
        pytest.param(
            "dLegerSelfId=n7", "'n7', but dLegerPeers (broker.conf:4) names n0, n1, n2",
            id="self not among peers",
        ),
        pytest.param("preferredLeaderId=n1;n8", "preferredLeaderId names n8", id="preferred"),
        pytest.param("dLegerGroup=", "dLegerGroup has no value, and", id="no group"),
        pytest.param("dLegerPeers=;", "dLegerPeers has no value, and", id="no peers"),
        pytest.param("enableDLegerCommitLog=on", "'on', not true or false", id="neither"),
        pytest.param("listenPort=40911", "listenPort is 40911, the port", id="same port"),
        pytest.param("listenPort=40915", "listenPort - 2 (VIP) is 40913", id="same VIP port"),
        pytest.param("electionTimeoutMinMs=400", "less than three heartbeats", id="election"),
        pytest.param("electionTimeoutMaxMs=1000", "not above electionTimeoutMinMs", id="spread"),
    ],
)  # fmt: skip
def test_errors_name_place_cause_and_next_step(tmp_path: Path, line: str, says: str) -> None:
    found = problems(tmp_path, line)
    assert len(found) == 1
    assert found[0].startswith("broker.conf:1: ")
    assert says in found[0]
    assert re.search(NEXT_STEP, found[0])


def test_all_errors_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "listenPort=x\nbrokerId=y\ndLegerSelfId=\n", namesrvAddr="a")
    assert [line.partition(" ")[0] for line in found] == [
        "broker.conf:1:",
        "broker.conf:2:",
        "command",
        "broker.conf:3:",
    ]
    assert found[2].startswith("command line: namesrvAddr holds 'a'")


def test_a_line_without_an_equals_sign(tmp_path: Path) -> None:
    assert "broker.conf:1: " in problems(tmp_path, "listenPort 10911")[0]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"no\.conf: cannot be read: No such file.*-c"):
        load_config(tmp_path / "no.conf", {}, {})


def test_ipv6_hosts_and_hosts_with_a_dash(tmp_path: Path) -> None:
    config, _ = load(tmp_path, "dLegerPeers=n0-[::1]:1;n1-my-host:2;n2-h:3;")
    assert config.dleger_peers == {"n0": ("::1", 1), "n1": ("my-host", 2), "n2": ("h", 3)}
