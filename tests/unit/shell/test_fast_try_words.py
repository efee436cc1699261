"""What fast-try.sh says and writes without a cluster: usage, settings, configuration files."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.shell import sh

CONF = sh.ROOT / "conf"
MEMBERS = ("n0", "n1", "n2")
PARTS = sh.ROOT / "bin" / "fast-try"


def fast_try(*words: str, **env: object) -> subprocess.CompletedProcess[str]:
    return sh.run("sh", sh.ROOT / "fast-try.sh", *words, **env)


def keys(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def written(name: str, **env: object) -> dict[str, str]:
    """The configuration that fast-try.sh would write for a node."""
    parts = "".join(f'. "{PARTS}/{part}.sh"; ' for part in ("settings", "nodes", "confs"))
    kind = "namesrv" if name == "namesrv" else "master" if name[:6] == "broker" else "member"
    result = sh.call(f"{parts} read_settings; describe {name}; {kind}_conf", **env)
    assert result.stderr == ""
    return keys(result.stdout)


def test_help_names_every_command_and_setting() -> None:
    shown = fast_try("help").stdout
    for word in (
        "start",
        "dledger",
        "two-groups",
        "single",
        "2m-noslave",
        "status",
        "kill-leader",
        "restart",
        "logs",
        "stop",
        "clean",
    ):
        assert re.search(rf"^  .*\b{word}\b", shown, re.MULTILINE)
    script = (PARTS / "settings.sh").read_text()
    for name in (*re.findall(r"^    ([A-Z_]+)=\$\{", script, re.MULTILINE), "EXTRA_CONF", "PYTHON"):
        assert re.search(rf"^  {name} ", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        pytest.param(["launch"], {}, "no command 'launch'", id="unknown command"),
        pytest.param(["start", "three"], {}, "not 'three'", id="unknown kind of cluster"),
        pytest.param(["restart"], {}, "restart needs a node", id="no node"),
        pytest.param(["restart", "n7"], {}, "No node is called 'n7'", id="unknown node"),
        pytest.param(["restart", "RaftNode01-n0"], {}, "namesrv n0 n1 n2", id="no second group"),
        pytest.param(["start", "single", "two"], {}, "one deployment", id="two kinds"),
        pytest.param(["clean", "all"], {}, "not 'all'", id="clean with a wrong word"),
        pytest.param(["status"], {"NAMESRV_PORT": "98a"}, "NAMESRV_PORT=98a", id="no number"),
        pytest.param(["status"], {"BROKER_PORT": "65535"}, "BROKER_PORT=65535", id="too high"),
        pytest.param(["status"], {"DLEDGER_PORT": "0"}, "DLEDGER_PORT=0", id="too low"),
        pytest.param(["status"], {"STORE_ROOT": "/"}, "root folder", id="the root folder"),
    ],
)
def test_a_wrong_word_ends_with_code_2(
    tmp_path: Path, words: list[str], env: dict[str, str], said: str
) -> None:
    result = fast_try(*words, **({"STORE_ROOT": tmp_path / "s"} | env))
    assert result.returncode == 2
    assert said in result.stderr


def test_when_nothing_runs(tmp_path: Path) -> None:
    store = tmp_path / "a 存储"
    status = fast_try("status", STORE_ROOT=store)
    assert status.returncode == 5
    assert [line.split()[0] for line in status.stdout.splitlines()[1:]] == [
        "namesrv", "n0", "n1", "n2",
    ]  # fmt: skip
    assert fast_try("stop", STORE_ROOT=store).returncode == 0
    for command in ("kill-leader", "restart"):
        words = [command, "n0"] if command == "restart" else [command]
        result = fast_try(*words, STORE_ROOT=store)
        assert result.returncode == 5
        assert "Start it:" in result.stderr
    assert fast_try("logs", STORE_ROOT=store).returncode == 1
    assert not store.exists()


@pytest.mark.parametrize(
    ("last", "nodes"),
    [
        ("single", ["broker-a"]),
        ("2m-noslave", ["broker-a", "broker-b"]),
        ("two-groups", [*MEMBERS, *(f"RaftNode01-{n}" for n in MEMBERS)]),
    ],
)
def test_the_last_deployment_is_remembered(tmp_path: Path, last: str, nodes: list[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cluster").write_text(f"MODE={last}\nBROKER_PORT=\n")
    status = fast_try("status", STORE_ROOT=tmp_path)
    assert status.returncode == 5
    assert [line.split()[0] for line in status.stdout.splitlines()[1:]] == ["namesrv", *nodes]
    again = fast_try("restart", nodes[-1], STORE_ROOT=tmp_path)
    assert again.returncode == 5
    assert again.stderr.endswith(f" start {last}\n")


def test_the_guides_name_for_it_works_too() -> None:
    assert sh.run("sh", "bin/dledger/fast-try.sh", "help", cwd=sh.ROOT).returncode == 0


def test_a_link_to_it_works(tmp_path: Path) -> None:
    (tmp_path / "try").symlink_to(sh.ROOT / "fast-try.sh")
    assert "usage: fast-try.sh" in sh.run(tmp_path / "try", "help").stdout


# --- configuration files ------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_the_defaults_are_those_of_conf_dledger(name: str) -> None:
    ours = written(name)
    shipped = keys((CONF / "dledger" / f"broker-{name}.conf").read_text())
    extra = {"brokerIP1": "127.0.0.1"}
    # Without effect here; the shipped file has them because the guides do.
    inert = ("storePathCommitLog", "sendMessageThreadPoolNums")
    assert ours == {k: v for k, v in shipped.items() if k not in inert} | extra


@pytest.mark.parametrize(
    ("name", "shipped", "store"),
    [
        pytest.param("broker-a", "single/broker.conf", None, id="single"),
        pytest.param("broker-a", "2m-noslave/broker-a.properties", "broker-a", id="broker-a"),
        pytest.param("broker-b", "2m-noslave/broker-b.properties", "broker-b", id="broker-b"),
    ],
)
def test_masters_are_those_of_conf(name: str, shipped: str, store: str | None) -> None:
    ours = written(name)
    theirs = keys((CONF / shipped).read_text())
    assert ours.pop("storePathRootDir") == f"/tmp/rmqstore/{name}"
    assert theirs.pop("storePathRootDir", None) == (store and f"~/store/{store}")
    assert ours == theirs | {"brokerIP1": "127.0.0.1"}


@pytest.mark.parametrize("group", ["RaftNode00", "RaftNode01"])
@pytest.mark.parametrize("node", MEMBERS)
def test_two_groups_are_those_of_conf_dledger_two_groups(group: str, node: str) -> None:
    name = node if group == "RaftNode00" else f"{group}-{node}"
    ours = written(name)
    shipped = keys((CONF / "dledger" / "two-groups" / f"broker-{group}-{node}.conf").read_text())
    for key in ("brokerName", "listenPort", "dLegerPeers", "dLegerSelfId", "storePathRootDir"):
        assert ours[key] == shipped[key]


def test_the_environment_moves_everything(tmp_path: Path) -> None:
    moved = written(
        "RaftNode01-n2",
        NAMESRV_PORT=9900,
        BROKER_PORT=20000,
        DLEDGER_PORT=21000,
        STORE_ROOT=f"{tmp_path}/a 存储/",
        HOST="127.0.0.9",
        EXTRA_CONF="heartbeatIntervalMs=50\nflushDiskType=ASYNC_FLUSH",
    )
    assert moved == {
        "brokerClusterName": "RaftCluster",
        "brokerName": "RaftNode01",
        "brokerIP1": "127.0.0.9",
        "listenPort": "20050",
        "namesrvAddr": "127.0.0.9:9900",
        "storePathRootDir": f"{tmp_path}/a 存储/node12",
        "enableDLegerCommitLog": "true",
        "dLegerGroup": "RaftNode01",
        "dLegerPeers": "n0-127.0.0.9:21003;n1-127.0.0.9:21004;n2-127.0.0.9:21005",
        "dLegerSelfId": "n2",
        "heartbeatIntervalMs": "50",
        "flushDiskType": "ASYNC_FLUSH",
    }


def test_the_environment_moves_masters_too(tmp_path: Path) -> None:
    moved = written(
        "broker-b",
        NAMESRV_PORT=9900,
        BROKER_PORT=20000,
        STORE_ROOT=tmp_path,
        HOST="127.0.0.9",
        EXTRA_CONF="flushDiskType=SYNC_FLUSH",
    )
    assert moved["listenPort"] == "20010"
    assert moved["namesrvAddr"] == "127.0.0.9:9900"
    assert moved["brokerIP1"] == "127.0.0.9"
    assert moved["storePathRootDir"] == f"{tmp_path}/broker-b"
    assert moved["flushDiskType"] == "SYNC_FLUSH"
    assert not [key for key in moved if "dLeger" in key or "DLeger" in key]


def test_a_folder_named_from_here_is_made_absolute() -> None:
    assert written("namesrv", STORE_ROOT="here")["kvConfigPath"].startswith("/")


# --- clean --------------------------------------------------------------------------------------


def test_clean_removes_only_what_start_made(tmp_path: Path) -> None:
    ours = ["run/cluster", "conf/broker-n0.conf", "logs/n0/broker.log", "node00/data", "run/n0.pid"]
    ours += ["conf/broker-b.conf", "broker-b/commitlog/00000000000000000000"]
    theirs = ["notes.txt", "logs/rocketmqlogs/broker.log", "node01/data", "conf/my.conf"]
    theirs += ["broker-a/commitlog/00000000000000000000"]
    for name in ours + theirs:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert fast_try("clean", STORE_ROOT=tmp_path).returncode == 1
    assert all((tmp_path / name).exists() for name in ours)
    assert fast_try("clean", "--yes", STORE_ROOT=tmp_path).returncode == 0
    assert not [name for name in ours if (tmp_path / name).exists()]
    assert all((tmp_path / name).exists() for name in theirs)
