"""The command lines of RocketMQ's guides, typed as they stand there (with ports of this test's)."""

import re
from pathlib import Path

import pytest

from tests.drill.fast_try import ROOT, FastTry, free_range
from tests.drill.shell import BOOT_SECONDS, Shell, has_ended
from tests.support import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def namesrv_conf(tmp_path: Path) -> tuple[Path, int]:
    """A configuration with a free port."""
    port = free_range()
    conf = tmp_path / "namesrv.conf"
    conf.write_text(f"listenPort = {port} \n")
    return conf, port


@pytest.mark.parametrize("program", ["mqnamesrv", "mqbroker"])
def test_help(shell: Shell, program: str) -> None:
    shown = shell.type(f"sh $ROCKETMQ_HOME/bin/{program} -h")
    assert shown.startswith(f"usage: {program} [-c <arg>] [-h]")
    for option in ("-c,--configFile <arg>", "-n,--namesrvAddr <arg>", "-p,--printConfigItem"):
        assert option in shown
    assert shell.type(f'PATH="$PATH:$ROCKETMQ_HOME/bin"; {program} -h') == shown
    assert shell.type(f"./{program} -h", cwd=ROOT / "bin") == shown


def test_the_configuration_is_printed(shell: Shell) -> None:
    shown = shell.type("sh $ROCKETMQ_HOME/bin/mqbroker -p | grep slave")
    assert "slaveReadEnable=" in shown
    assert "listenPort=9876" in shell.type("sh bin/mqnamesrv -p", cwd=ROOT)


@pytest.mark.parametrize(
    "conf", sorted(str(p.relative_to(ROOT)) for p in (ROOT / "conf").rglob("broker*.*"))
)
def test_each_shipped_file_has_no_mistakes(shell: Shell, conf: str) -> None:
    shown = shell.type(f"sh bin/mqbroker --check -c {conf} 2>&1 || true", cwd=ROOT).splitlines()
    # Its ports are not free ones of a test: somebody may have them at the moment.
    in_use = "where nobody can listen now"
    assert not [line for line in shown if line.startswith("problem: ") and in_use not in line]
    assert re.match(rf"{conf}: (no|\d) mistakes?", shown[-1])


def test_the_name_server_from_its_folder(shell: Shell, namesrv_conf: tuple[Path, int]) -> None:
    conf, port = namesrv_conf
    # The guide leaves the output to nohup.out; a test's goes elsewhere.
    out = shell.folder / "out"
    pid = shell.begin(f"nohup sh mqnamesrv -c '{conf}' >'{out}' 2>&1 &", cwd=ROOT / "bin")
    shell.says(
        out, rf"The Name Server boot success\. serializeType=JSON, address 0\.0\.0\.0:{port}"
    )
    assert (shell.home / "logs" / "rocketmqlogs" / "namesrv.log").exists()
    assert shell.type("sh mqshutdown namesrv", cwd=ROOT / "bin").splitlines() == [
        f"The mqnamesrv({pid}) is running...",
        f"Send shutdown request to mqnamesrv({pid}) OK",
    ]
    wait_until(lambda: has_ended(pid), what="the end of the name server")
    assert shell.type("sh mqshutdown namesrv", code=255, cwd=ROOT / "bin") == (
        "No mqnamesrv running.\n"
    )
    assert shell.type("sh bin/mqshutdown broker", code=255, cwd=ROOT) == "No mqbroker running.\n"


def test_user_home_moves_logs_and_store(shell: Shell, namesrv_conf: tuple[Path, int]) -> None:
    conf, _ = namesrv_conf
    here = shell.folder / "m1"
    here.mkdir()
    export = 'export JAVA_OPT="-Duser.home=`pwd`"'
    begin = f"nohup sh $ROCKETMQ_HOME/bin/mqnamesrv -c '{conf}' >out 2>&1 &"
    shell.begin(f"{export}; {begin}", cwd=here)
    shell.says(here / "out", "boot success")
    assert (here / "logs" / "rocketmqlogs" / "namesrv.log").exists()
    assert "JAVA_OPT" not in (here / "out").read_text()
    shown = shell.type(
        f"{export}; sh $ROCKETMQ_HOME/bin/mqbroker -c $ROCKETMQ_HOME/conf/broker.conf -p", cwd=here
    )
    assert f"storePathRootDir={here}/store" in shown
    assert list(shell.home.iterdir()) == []


def test_memory_options_are_ignored_with_a_line(shell: Shell) -> None:
    shell.env["JAVA_OPT"] = "-server -Xms256m -Xmx256m -Xmn128m"
    shown = shell.type("sh $ROCKETMQ_HOME/bin/mqnamesrv -h 2>&1")
    assert shown.count("JAVA_OPT is ignored") == 1
    assert shown.count("usage:") == 1


def test_a_home_of_javas_rocketmq_is_passed_over(shell: Shell) -> None:
    shell.env["ROCKETMQ_HOME"] = str(shell.home)
    assert "is no ledgermq" in shell.type("sh bin/mqnamesrv -h 2>&1", cwd=ROOT)


def test_a_group_of_brokers_and_the_quickstart(
    shell: Shell, namesrv_conf: tuple[Path, int]
) -> None:
    conf, port = namesrv_conf
    shell.begin(f"nohup sh bin/mqnamesrv -c '{conf}' >'{shell.folder}/ns' 2>&1 &", cwd=ROOT)
    peers = ";".join(f"n{i}-127.0.0.1:{port + 50 + i}" for i in range(3))
    for n in range(3):
        text = (ROOT / "conf" / "dledger" / f"broker-n{n}.conf").read_text()
        text = text.replace("127.0.0.1:9876", f"127.0.0.1:{port}")
        text = text.replace("/tmp/rmqstore", str(shell.folder / "store"))
        text = re.sub("listenPort=.*", f"listenPort={port + 10 + 10 * n}", text)
        text = re.sub("dLegerPeers=.*", f"dLegerPeers={peers}", text)
        mine = shell.folder / f"broker-n{n}.conf"
        mine.write_text(text + "brokerIP1=127.0.0.1\n")
        out = shell.folder / f"n{n}"
        shell.begin(f"nohup sh bin/mqbroker -c {mine} >'{out}' 2>&1 &", cwd=ROOT)
    for n in range(3):
        shell.says(
            shell.folder / f"n{n}",
            rf"The broker\[RaftNode00, 127\.0\.0\.1:{port + 10 + 10 * n}\] boot success\."
            rf" serializeType=JSON and name server is 127\.0\.0\.1:{port}",
        )

    def three_rows() -> bool:
        shown = shell.type(f"sh bin/mqadmin clusterList -n 127.0.0.1:{port}", cwd=ROOT)
        return len(re.findall(r"^RaftCluster +RaftNode00 +\d ", shown, re.MULTILINE)) == 3

    wait_until(three_rows, timeout_s=BOOT_SECONDS, what="three rows in clusterList")
    shell.env["NAMESRV_ADDR"] = f"localhost:{port}"
    sent = shell.type("sh bin/tools.sh org.apache.rocketmq.example.quickstart.Producer", cwd=ROOT)
    assert len(re.findall(r"^SendResult \[sendStatus=SEND_OK, ", sent, re.MULTILINE)) == 1000
    out = shell.folder / "consumed"
    consume = "sh bin/tools.sh org.apache.rocketmq.example.quickstart.Consumer"
    shell.begin(f"{consume} >'{out}' 2>&1 &", cwd=ROOT)
    wait_until(
        lambda: out.exists() and out.read_text().count("TopicTest") >= 1000,
        timeout_s=60,
        what="1,000 messages printed",
    )


def test_the_guides_fast_try(fast_try: FastTry) -> None:
    fast_try.script = ROOT / "bin" / "dledger" / "fast-try.sh"
    assert "RaftNode00" in fast_try("start").stdout


def test_the_log_folder_written_into_the_logback_file(
    shell: Shell, namesrv_conf: tuple[Path, int], tmp_path: Path
) -> None:
    """`cd conf && sed -i 's#${user.home}#...#g' *.xml`, as one guide has it."""
    from tests.drill.fast_try import copy_of_the_tree

    root = copy_of_the_tree(tmp_path / "copy")
    shell.env |= {"ROCKETMQ_HOME": str(root), "LEDGERMQ_VENV": str(ROOT / ".venv")}
    shell.type(f"sed -i 's#${{user.home}}#{tmp_path}/mq#g' *.xml", cwd=root / "conf")
    out = shell.folder / "out"
    shell.begin(f"nohup sh mqnamesrv -c {namesrv_conf[0]} >'{out}' 2>&1 &", cwd=root / "bin")
    shell.says(out, "boot success")
    assert (tmp_path / "mq" / "logs" / "rocketmqlogs" / "namesrv.log").exists()
