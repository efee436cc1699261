"""Mistakes that only this machine shows: folders, addresses, ports, other brokers."""

import fcntl
import os
import re
import socket
from pathlib import Path

import pytest

from ledgermq.broker.config_machine import (
    Findings,
    ThisMachine,
    check_in_use,
    check_machine,
    replace_marker_folders,
)
from ledgermq.remoting.errors import CallerError

from .config_files import GROUP, read_plain, short


class Machine:
    """One with the address 10.0.0.7 and what a test gives it."""

    def __init__(self) -> None:
        self.taken: dict[int, str] = {}
        self.locked: set[Path] = set()

    def has_address(self, ip: str) -> bool:
        return ip in {"10.0.0.7", "127.0.0.1"}

    def port_trouble(self, port: int) -> str:
        return self.taken.get(port, "")

    def is_locked(self, path: Path) -> bool:
        return path in self.locked


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def check(tmp_path: Path, machine: Machine, text: str = "") -> Findings:
    """What `text`, a plain broker's file with the root <test>/store, shows on that machine."""
    reading = read_plain(tmp_path, f"storePathRootDir={tmp_path}/store\n{text}")
    assert reading.problems == []
    found = check_machine(reading.config, reading.place, machine)
    return Findings(short(tmp_path, found.problems), short(tmp_path, found.warnings))


def group_text() -> str:
    return "".join(f"{k}={v}\n" for k, v in GROUP.items())


def test_nothing_wrong(tmp_path: Path, machine: Machine, root: Path) -> None:
    assert check(tmp_path, machine) == ([], [])
    (root / "abort").touch()
    (root / "checkpoint").touch()
    (root / "commitlog").mkdir()
    assert check(tmp_path, machine, "brokerIP1=127.0.0.1") == ([], [])
    assert check(tmp_path, machine, f"storePathCommitLog={tmp_path}/elsewhere") == ([], [])


# --- files that are folders -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name"), [("storeCheckpoint", "checkpoint"), ("abortFile", "abort")]
)
def test_an_empty_folder_warns_and_is_replaced(
    tmp_path: Path, machine: Machine, root: Path, key: str, name: str
) -> None:
    (root / name).mkdir()
    [warning] = check(tmp_path, machine, f"{key}={root}/{name}").warnings
    assert warning.startswith(f"broker.conf:2: {key} is store/{name}, an empty folder, where a")
    [by_default] = check(tmp_path, machine).warnings
    assert by_default.startswith(f"configuration: {key} is ")
    config = read_plain(tmp_path, f"storePathRootDir={root}").config
    assert replace_marker_folders(config) == [
        f"{root}/{name} was an empty folder; {key} is a file there now"
    ]
    assert not (root / name).exists()
    assert replace_marker_folders(config) == []


def test_a_folder_with_something_in_it_is_refused_and_kept(
    tmp_path: Path, machine: Machine, root: Path
) -> None:
    (root / "abort" / "mine").mkdir(parents=True)
    [problem] = check(tmp_path, machine).problems
    assert "abortFile is store/abort, a folder with something in it" in problem
    config = read_plain(tmp_path, f"storePathRootDir={root}").config
    with pytest.raises(CallerError, match="Move that folder away"):
        replace_marker_folders(config)
    assert (root / "abort" / "mine").exists()


def test_a_group_has_no_checkpoint_to_replace(tmp_path: Path, root: Path) -> None:
    for name in ("checkpoint", "abort"):
        (root / name).mkdir()
    config = read_plain(tmp_path, f"storePathRootDir={root}\n{group_text()}").config
    assert len(replace_marker_folders(config)) == 1
    assert (root / "checkpoint").exists()


# --- folders ----------------------------------------------------------------------------------


def test_a_file_in_the_way(tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "store").write_text("")
    [problem] = check(tmp_path, machine).problems
    assert problem.startswith("broker.conf:1: storePathRootDir is store, and ")
    assert "Not a directory. Choose a folder" in problem


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, machine: Machine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _mode: path != other)
    [problem] = check(tmp_path, machine, f"storePathIndex={other}/a/b").problems
    assert problem.startswith("broker.conf:2: storePathIndex is other/a/b, and ")
    assert "other: Permission denied" in problem


@pytest.mark.parametrize("lock", ["lock", "dledger-n0/lock"])
def test_the_log_in_the_store_of_another_broker(
    tmp_path: Path, machine: Machine, root: Path, lock: str
) -> None:
    other = tmp_path / "b"
    (other / "config").mkdir(parents=True)
    (other / lock).parent.mkdir(exist_ok=True)
    (other / lock).touch()
    line = f"storePathCommitLog={other}/commitlog"
    [warning] = check(tmp_path, machine, line).warnings
    assert re.match(
        r"broker.conf:2: storePathCommitLog is b/commitlog, in the store .*b of", warning
    )
    machine.locked = {other / lock}
    [problem] = check(tmp_path, machine, line).problems
    assert "which is running. Choose another folder" in problem


def test_a_store_of_the_other_kind(tmp_path: Path, machine: Machine, root: Path) -> None:
    (root / "dledger-n0").mkdir()
    [problem] = check(tmp_path, machine).problems
    assert "holds the store of a group's node, n0, and without enableDLegerCommitLog" in problem
    (root / "commitlog").mkdir()
    assert check(tmp_path, machine, group_text()) == ([], [])
    (root / "commitlog" / ("0" * 20)).touch()
    [warning] = check(tmp_path, machine, group_text()).warnings
    assert "a group's node does not see its messages" in warning


# --- address and ports ------------------------------------------------------------------------


def test_an_address_of_another_machine(tmp_path: Path, machine: Machine) -> None:
    [warning] = check(tmp_path, machine, "brokerIP1=10.0.0.8").warnings
    assert warning.startswith("broker.conf:2: brokerIP1 is 10.0.0.8, no address of this machine")
    assert check(tmp_path, machine, "brokerIP1=10.0.0.7").warnings == []


def test_ports_that_are_taken(tmp_path: Path, machine: Machine) -> None:
    reading = read_plain(tmp_path, "listenPort=20911\n" + group_text())
    machine.taken = {20909: "Address already in use", 40911: "Permission denied"}
    assert short(tmp_path, check_in_use(reading.config, reading.place, machine)) == [
        "broker.conf:1: listenPort - 2 (VIP) is 20909, where nobody can listen now: Address already"
        " in use. See who holds it: lsof -i:20909. Stop that one, or change the port",
        "broker.conf:4: dLegerSelfId in dLegerPeers is 40911, where nobody can listen now:"
        " Permission denied. See who holds it: lsof -i:40911. Stop that one, or change the port",
    ]


@pytest.mark.parametrize("group", [False, True])
def test_a_store_that_is_in_use(
    tmp_path: Path, machine: Machine, root: Path, *, group: bool
) -> None:
    text = f"storePathRootDir={root}\n" + (group_text() if group else "")
    reading = read_plain(tmp_path, text)
    machine.locked = {root / "dledger-n0/lock" if group else root / "lock"}
    [problem] = short(tmp_path, check_in_use(reading.config, reading.place, machine))
    assert re.match(r"broker.conf:1: store\S* is in use by another process", problem)


# --- the real one -----------------------------------------------------------------------------


def test_this_machine_knows_its_addresses() -> None:
    here = ThisMachine()
    assert here.has_address("127.0.0.1")
    assert not here.has_address("203.0.113.7")


def test_this_machine_sees_a_taken_port() -> None:
    here = ThisMachine()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in here.port_trouble(port)
    assert here.port_trouble(port) == ""


def test_this_machine_sees_a_lock_and_leaves_none(tmp_path: Path) -> None:
    here = ThisMachine()
    lock = tmp_path / "lock"
    assert not here.is_locked(lock)
    assert not lock.exists(), "asking makes no file"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert here.is_locked(lock)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert not here.is_locked(lock)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
