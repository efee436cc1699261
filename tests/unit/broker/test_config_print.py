"""What is shown of a configuration: items, -p, -m, -h, --check, and the page about it."""

from pathlib import Path

import pytest

from ledgermq.broker import __main__ as main
from ledgermq.broker.config import (
    KEYS,
    BrokerConfig,
    all_items,
    items_to_print,
    load_config,
    read_config,
)
from ledgermq.broker.config_docs import render
from ledgermq.broker.config_inert import INERT
from ledgermq.broker.config_values import show
from tests.support.ports import reserve_port

from .config_files import GROUP, ROOT, SERVERS, load


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    """(exit code, lines of stdout, lines of stderr)."""
    code = main._run(arguments)
    shown = capsys.readouterr()
    return code, shown.out.splitlines(), shown.err.splitlines()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NAMESRV_ADDR", "JAVA_OPT", "LEDGERMQ_USER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_items(tmp_path: Path) -> None:
    config, _ = load(tmp_path, "slaveReadEnable=true\nzzz=1\nflushDiskType=SYNC_FLUSH")
    items = all_items(config)
    assert items == sorted(items)
    assert {"slaveReadEnable=true", "zzz=1", "listenPort=10911", "traceOn=true"} <= set(items)
    assert f"dLegerPeers={GROUP['dLegerPeers']}" in items
    assert "storePathCommitLog=" in items


def test_each_item_has_its_source(tmp_path: Path) -> None:
    conf = tmp_path / "b  # x.conf"
    conf.write_text("fileReservedTime = 48\nzzz=1\nbrokerId=3\nslaveTimeout=1\nbrokerName=")
    env = SERVERS | {"LEDGERMQ_USER_HOME": "/u"}
    lines = items_to_print(load_config(conf, {"listenPort": "20911"}, env)[0])
    short = {line.replace(f"{tmp_path}/", "") for line in lines}
    assert {
        "fileReservedTime=48  # b # x.conf:1",
        "zzz=1  # b # x.conf:2",
        "slaveTimeout=1  # b # x.conf:4",
        "listenPort=20911  # command line",
        "namesrvAddr=a:1  # environment NAMESRV_ADDR",
        "storePathRootDir=/u/store  # environment LEDGERMQ_USER_HOME",
        "traceOn=true  # default",
        "slaveReadEnable=  # no effect",
        "brokerId=0  # default",  # not what the file says
    } <= short
    assert len({line.partition("=")[0] for line in lines}) == len(lines)


@pytest.mark.parametrize("group", [False, True])
def test_what_is_printed_is_a_file_again(tmp_path: Path, *, group: bool) -> None:
    text = "maxMessageSize=1000\nbrokerName=b  # c\nstorePathIndex=/a b/#x\nslaveTimeout=7\n"
    conf = tmp_path / "first.conf"
    conf.write_text(text + "".join(f"{k}={v}\n" for k, v in GROUP.items() if group))
    config, _ = load_config(conf, {}, SERVERS)
    assert config.broker_name == "b  # c"
    printed = tmp_path / "printed.conf"
    printed.write_text("".join(f"{line}\n" for line in items_to_print(config)))
    again = read_config(printed, {}, {})
    assert again.problems == []
    assert again.config == config


def test_p_and_m(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "broker.conf"
    conf.write_text("fileReservedTime=48\nlistenPrt=1\n")
    code, full, complaints = run(capsys, "-c", str(conf), "-n", "a:1;b:1", "-p")
    assert code == 0
    assert f"fileReservedTime=48  # {conf}:1" in full
    assert complaints == [
        f"mqbroker: warning: {conf}:2: unknown key listenPrt is ignored. Did you mean listenPort?"
    ]
    code, some, _ = run(capsys, "-c", str(conf), "-n", "a:1;b:1", "-m")
    assert code == 0
    assert {"namesrvAddr=a:1;b:1  # command line", f"fileReservedTime=48  # {conf}:1"} <= set(some)
    assert set(some) < set(full)
    assert all("=" in line for line in full)


def test_p_needs_no_file_and_no_name_server(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, complaints = run(capsys, "-p")
    assert (code, complaints) == (0, [])
    assert "brokerRole=ASYNC_MASTER  # default" in lines


def test_p_shows_what_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "broker.conf"
    conf.write_text("listenPort=x\nbrokerRole=SLAVE\n")
    code, lines, complaints = run(capsys, "-p", "-c", str(conf))
    assert code == 0
    assert {"listenPort=10911  # default", f"brokerRole=SLAVE  # {conf}:2"} <= set(lines)
    assert len(complaints) == 2


def test_h_teaches_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = run(capsys, "-h")
    text = "\n".join(lines)
    assert code == 0
    for words in (
        "-n localhost:9876  ",
        "-c conf/broker.conf",
        "conf/dledger/broker-n0.conf",
        "conf/2m-noslave/broker-a.properties",
        "mqbroker --check -c",
        "-p | grep",
    ):
        assert words in text
    for word in text.split():
        if word.startswith("conf/"):
            assert (ROOT / word).is_file(), word


# --- --check ----------------------------------------------------------------------------------


def test_check_finds_no_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "broker.conf"
    conf.write_text(f"namesrvAddr=10.0.0.8:9876\nlistenPort={reserve_port(-2)}\n")
    assert run(capsys, "--check", "-c", str(conf)) == (0, [f"{conf}: no mistakes"], [])


def test_check_tells_warnings_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "broker.conf"
    conf.write_text(f"fileReservedTime=7\nlistenPort={reserve_port(-2)}\nnamesrvAddr=a:1\n")
    code, [warning, summary], _ = run(capsys, "--check", "-c", str(conf))
    assert code == 0
    assert warning.startswith(f"warning: {conf}:1: fileReservedTime counts hours")
    assert summary == f"{conf}: no mistakes, 1 warning"


def test_check_finds_all_mistakes_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "abort" / "x").mkdir(parents=True)
    conf = tmp_path / "broker.conf"
    conf.write_text(
        f"listenPort=x\nbrokerRole=SLAVE\nnamesrvAddr=a:1\nstorePathRootDir={tmp_path}\n"
        "brokerName=a|b\n"
    )
    code, lines, _ = run(capsys, "--check", "-c", str(conf))
    assert code == 1
    assert [line for line in lines if line.startswith(f"problem: {conf}:1: listenPort is 'x'")]
    assert [line for line in lines if line.startswith(f"problem: {conf}:2: brokerRole is SLAVE")]
    assert [line for line in lines if "abortFile is" in line and line.startswith("problem: ")]
    assert [line for line in lines if line.startswith(f"warning: {conf}:5: brokerName is 'a|b'")]
    assert "mistakes, 1 warning" in lines[-1]


def test_check_of_a_file_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, [complaint] = run(capsys, "--check", "-c", "no.conf")
    assert (code, lines) == (1, [])
    assert complaint.startswith("mqbroker: no.conf: cannot be read")


def test_java_s_options_are_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAVA_OPT", "-server -Duser.home=/u -Xmx1g")
    _, lines, complaints = run(capsys, "-p")
    assert "storePathRootDir=/u/store  # environment LEDGERMQ_USER_HOME" in lines
    assert [c for c in complaints if "JAVA_OPT is ignored" in c] == complaints
    assert len(complaints) == 1


@pytest.mark.parametrize(
    "name", [str(p.relative_to(ROOT)) for p in sorted((ROOT / "conf").rglob("broker*.*"))]
)
def test_the_shipped_files_have_no_mistakes(name: str) -> None:
    """What is said about them is about keys without effect."""
    reading = read_config(ROOT / name, {}, SERVERS)
    assert reading.problems == []
    assert not [w for w in reading.warnings if "has no effect here" not in w]


def test_the_start_refuses_what_check_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint" / "x").mkdir(parents=True)
    conf = tmp_path / "broker.conf"
    conf.write_text(f"storePathRootDir={tmp_path}\n")
    code, lines, complaints = run(capsys, "-c", str(conf))
    assert (code, lines) == (1, [])
    assert "storeCheckpoint is" in complaints[0]


# --- the page ---------------------------------------------------------------------------------


def test_show_writes_what_is_read() -> None:
    for name, k in KEYS.items():
        text = show(getattr(BrokerConfig(), name))
        if text:
            assert show(k.read(text)) == text, name
    assert show((86_400_000, 90_000)) == "1d 90s"


def test_no_key_is_known_twice() -> None:
    names = [n for k in KEYS.values() for n in (k.name, *k.aliases)] + list(INERT)
    assert len(names) == len(set(names))


def test_the_page_is_made_from_the_code() -> None:
    page = (ROOT / "docs" / "config.md").read_text()
    assert page == render(), "run: python -m ledgermq.broker.config_docs > docs/config.md"
    for name in [*INERT, *(k.name for k in KEYS.values())]:
        assert f"`{name}`" in page


def test_the_page_says_where_a_key_acts_and_why_not_elsewhere() -> None:
    page = render()
    assert "| `storePathIndex` | both |" in page
    assert "| `dLegerPeers` | group |" in page
    assert "| `syncFlushTimeout` | plain |" in page
    assert "| `syncFlushTimeout` | a send waits until a majority has it" in page
    assert "| `dLegerPeers` | acts | only a node of a group" in page
    assert "| `useTLS` | TLS is not served yet | the same |" in page
