"""What is shipped for a deployment: configuration files, systemd units, pages in two languages."""

import configparser
import re
from pathlib import Path

import pytest

from ledgermq.broker.config import load_config
from ledgermq.namesrv.config import load as load_namesrv
from tests.unit.docs.blocks import blocks_of
from tests.unit.shell import sh

CONF = sh.ROOT / "conf"
PAGES = sh.ROOT / "docs" / "deploy"
UNITS = sorted((sh.ROOT / "deploy").glob("*.service"))
MASTERS = ("broker.conf", "single/broker.conf", "2m-noslave/broker-a.properties",
           "2m-noslave/broker-b.properties")  # fmt: skip
NAMES = ("README", "single", "2m-noslave", "dledger", "systemd")


# --- configuration files --------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASTERS)
def test_masters_have_no_group(name: str) -> None:
    config, _ = load_config(CONF / name, {}, {"HOME": "/home"})
    assert not config.enable_dleger_commit_log
    assert config.broker_id == 0
    assert config.broker_role == "ASYNC_MASTER"
    assert config.flush_disk_type == "ASYNC_FLUSH"
    assert (config.delete_when, config.file_reserved_hours) == (("04",), 48)
    assert config.broker_cluster_name == "DefaultCluster"
    assert "dleger" not in (CONF / name).read_text().lower()


def test_both_masters_fit_on_one_machine() -> None:
    both = [load_config(CONF / name, {}, {})[0] for name in MASTERS[2:]]
    ports = [p for c in both for p in (c.listen_port - 2, c.listen_port, c.listen_port + 1)]
    assert len(set(ports)) == 6
    stores = [c.store_path_root_dir for c in both]
    assert not stores[0].is_relative_to(stores[1])
    assert not stores[1].is_relative_to(stores[0])
    assert [c.broker_name for c in both] == ["broker-a", "broker-b"]


@pytest.mark.parametrize("name", ["single/namesrv.conf", "dledger/namesrv.conf"])
def test_name_servers_are_accepted(name: str) -> None:
    config, warnings = load_namesrv(CONF / name)
    assert config.listen_port == 9876
    assert not warnings


# --- systemd --------------------------------------------------------------------------------------


def unit(path: Path) -> dict[str, dict[str, str]]:
    """Section -> key -> value; of a key that stands twice, the last one."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return {section: dict(parser[section]) for section in parser.sections()}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_start_what_exists(path: Path) -> None:
    service = unit(path)["Service"]
    program, option, conf = service["ExecStart"].split()
    assert (sh.ROOT / "bin" / Path(program).name).is_file()
    assert Path(program).parent == Path("/opt/ledgermq/bin")
    shown = sh.run("sh", sh.ROOT / "bin" / Path(program).name, "-h").stdout
    assert f" {option}," in shown
    assert conf.startswith("/etc/ledgermq/")
    assert conf.endswith(".conf")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_are_restarted_and_kept_in(path: Path) -> None:
    sections = unit(path)
    service = sections["Service"]
    assert service["User"] == "ledgermq"
    assert service["Restart"] == "on-failure"
    assert service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"]) >= 20
    assert int(service["LimitNOFILE"]) >= 65536
    assert service["NoNewPrivileges"] == service["ProtectHome"] == "true"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    # Where it may write is where it is told to write.
    assert service["WorkingDirectory"] == f"%S/{service['StateDirectory']}"
    text = path.read_text()
    assert f"Environment=JAVA_OPT=-Duser.home=%S/{service['StateDirectory']}\n" in text
    assert f"Environment=ROCKETMQ_LOG_HOME=%L/{service['LogsDirectory']}\n" in text
    assert sections["Install"]["WantedBy"] == "multi-user.target"


def test_both_units_differ_only_where_they_must() -> None:
    broker, namesrv = (unit(path)["Service"] for path in UNITS)
    differ = {key for key in broker if broker[key] != namesrv.get(key)}
    assert differ <= {"ExecStart", "StateDirectory", "LogsDirectory", "WorkingDirectory",
                      "Environment", "TimeoutStopSec"}  # fmt: skip
    assert set(broker) == set(namesrv)


def test_the_pages_name_units_that_exist() -> None:
    text = (PAGES / "systemd.md").read_text()
    named = set(re.findall(r"deploy/([\w@.-]+\.service)", text))
    assert named == {path.name for path in UNITS}
    for conf in re.findall(r"^cp (conf/\S+)", text, re.MULTILINE):
        assert (sh.ROOT / conf).is_file()


# --- pages ----------------------------------------------------------------------------------------


def outline(page: Path) -> list[str]:
    """Headings, rows and list entries, without their words."""
    text = re.sub(r"(?s)^```.*?^```$", "", page.read_text(), flags=re.MULTILINE)
    lines = [line for line in text.splitlines() if line.startswith(("#", "|", "- "))]
    return [line.split(" ")[0] if line[0] != "|" else "|" * line.count("|") for line in lines]


def shown_blocks(page: Path) -> list[str]:
    return re.findall(r"(?sm)^```(?:console|ini)\n(.*?)^```$", page.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_say_the_same(name: str) -> None:
    ours, theirs = PAGES / f"{name}.md", PAGES / f"{name}.zh.md"
    assert [b[:2] for b in blocks_of(ours)] == [b[:2] for b in blocks_of(theirs)]
    assert shown_blocks(ours) == shown_blocks(theirs)
    assert outline(ours) == outline(theirs)

    def links(page: Path) -> list[str]:
        found = re.findall(r"\]\(([^)#]+)\)", page.read_text())
        return [link.replace(".zh.md", ".md") for link in found[1:]]

    assert links(ours) == links(theirs)


def test_every_page_is_in_the_table() -> None:
    table = (PAGES / "README.md").read_text()
    assert {p.name for p in PAGES.glob("*.md")} == {
        f"{n}{s}.md" for n in NAMES for s in ("", ".zh")
    }
    assert not [name for name in NAMES[1:] if f"({name}.md)" not in table]
