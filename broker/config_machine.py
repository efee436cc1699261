"""What a configuration cannot know by itself: this machine's folders, addresses and ports."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from ledgermq.dledger.disk import OsDisk
from ledgermq.remoting.errors import CallerError

from .config_fields import BrokerConfig
from .config_keys import keys_of
from .config_lint import NOWHERE, Place, ports_of

_KEYS = keys_of(BrokerConfig)


class Findings(NamedTuple):
    """What stops the broker on this machine, and what is only doubtful."""

    problems: list[str]
    warnings: list[str]


class Machine(Protocol):
    """What is asked of a machine."""

    def has_address(self, ip: str) -> bool:
        """Whether an address is one of its own."""

    def port_trouble(self, port: int) -> str:
        """Why nobody can listen there now, "" when one can."""

    def is_locked(self, path: Path) -> bool:
        """Whether another process has locked a file or folder."""


class ThisMachine:
    """The one that runs this program."""

    def has_address(self, ip: str) -> bool:
        """Whether a socket can be bound to it."""
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((ip, 0))
            except OSError as e:
                return e.errno != errno.EADDRNOTAVAIL
        return True

    def port_trouble(self, port: int) -> str:
        """The system's word for it; the probe is closed again at once."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
                probe.listen()
            except OSError as e:
                return e.strerror or str(e)
        return ""

    def is_locked(self, path: Path) -> bool:
        """Tries the lock that a store takes."""
        disk = OsDisk()
        try:
            if path.exists():
                disk.close(disk.lock(path, folder=path.is_dir()))
        except BlockingIOError:
            return True
        except OSError:
            return False  # not ours to read; the start will say so
        return False


def check_machine(config: BrokerConfig, place: Place, machine: Machine) -> Findings:
    """What a start finds on this machine.

    Args:
        config: whatever could be read.
        place: field name -> where it was set.
        machine: `ThisMachine()` except in tests.
    """
    found = Findings([], [])
    _check_address(config, place, machine, found)
    _check_markers(config, place, found)
    _check_folders(config, place, found)
    _check_neighbours(config, place, machine, found)
    _check_kind_of_store(config, place, found)
    return found


def check_in_use(config: BrokerConfig, place: Place, machine: Machine) -> list[str]:
    """Ports and stores that another process has now; a start finds out when it takes them."""
    problems = []
    for use, port in ports_of(config).items():
        if trouble := machine.port_trouble(port):
            where = place("dleger_peers" if use.startswith("dLeger") else "listen_port")
            problems.append(
                f"{where}: {use} is {port}, where nobody can listen now: {trouble}. See who holds"
                f" it: lsof -i:{port}. Stop that one, or change the port"
            )
    root = config.dledger_dir if config.in_group else config.store_path_root_dir
    if machine.is_locked(root / "lock"):
        problems.append(
            f"{place('store_path_root_dir')}: {root} is in use by another process. Stop that one,"
            " or give this broker a storePathRootDir of its own"
        )
    return problems


def replace_marker_folders(config: BrokerConfig) -> list[str]:
    """Remove the empty folders that guides make where the store keeps files.

    Returns:
        A warning for each.

    Raises:
        CallerError: one is not empty; nothing in it was touched.
    """
    warnings = []
    for field_name, path in _marker_folders(config):
        try:
            path.rmdir()
        except OSError as e:
            raise CallerError(_full_marker(NOWHERE, field_name, path)) from e
        warnings.append(f"{path} was an empty folder; {_KEYS[field_name].name} is a file there now")
    return warnings


def _marker_folders(config: BrokerConfig) -> Iterator[tuple[str, Path]]:
    """(field name, path) of files that are folders."""
    markers = {"abort_file": config.abort_path}
    if not config.in_group:
        markers["store_checkpoint"] = config.checkpoint_path
    return ((name, path) for name, path in markers.items() if path.is_dir())


def _full_marker(place: str, field_name: str, path: Path) -> str:
    return (
        f"{place}: {_KEYS[field_name].name} is {path}, a folder with something in it, where a file"
        " belongs. Move that folder away, or name another file"
    )


def _check_markers(config: BrokerConfig, place: Place, found: Findings) -> None:
    for name, path in _marker_folders(config):
        if any(path.iterdir()):
            found.problems.append(_full_marker(place(name), name, path))
        else:
            found.warnings.append(
                f"{place(name)}: {_KEYS[name].name} is {path}, an empty folder, where a file"
                f" belongs. The start replaces it; rmdir {path} does it now"
            )


def _check_address(config: BrokerConfig, place: Place, machine: Machine, found: Findings) -> None:
    if "broker_ip1" in config.sources and not machine.has_address(config.broker_ip1):
        found.warnings.append(
            f"{place('broker_ip1')}: brokerIP1 is {config.broker_ip1}, no address of this machine:"
            " clients cannot connect unless something forwards it here. See the addresses: ip addr"
        )


def _folders(config: BrokerConfig) -> dict[str, Path]:
    """Field name -> folder, of all that this kind of broker writes."""
    folders = {
        "store_path_root_dir": config.store_path_root_dir,
        "store_path_consume_queue": config.consume_queue_dir,
        "store_path_index": config.index_dir,
    }
    if config.in_group:
        return folders | {"store_path_dledger_commit_log": config.dledger_data_dir}
    return folders | {"store_path_commit_log": config.commit_log_dir}


def _check_folders(config: BrokerConfig, place: Place, found: Findings) -> None:
    """Each can be made or written; one complaint for each thing in the way."""
    blocked: set[Path] = set()
    for name, folder in _folders(config).items():
        there = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
        if there in blocked:
            continue
        if not there.is_dir():
            reason = os.strerror(errno.ENOTDIR)
        elif not os.access(there, os.W_OK | os.X_OK):
            reason = os.strerror(errno.EACCES)
        else:
            continue
        blocked.add(there)
        found.problems.append(
            f"{place(name)}: {_KEYS[name].name} is {folder}, and {there}: {reason}."
            " Choose a folder that this user can write"
        )


def _check_neighbours(
    config: BrokerConfig, place: Place, machine: Machine, found: Findings
) -> None:
    """No folder of this broker lies in the store of another one."""
    root = config.store_path_root_dir
    for name, folder in _folders(config).items():
        if name not in config.sources or folder.is_relative_to(root):
            continue
        for above in folder.parents:
            locks = [p for p in (above / "lock", *above.glob("dledger-*/lock")) if p.is_file()]
            if not locks or not (above / "config").is_dir():
                continue
            text = f"{place(name)}: {_KEYS[name].name} is {folder}, in the store {above} of another"
            if any(machine.is_locked(lock) for lock in locks):
                found.problems.append(f"{text} broker, which is running. Choose another folder")
            else:
                found.warnings.append(
                    f"{text} broker. Two brokers must not share a folder: choose another one,"
                    " unless that broker is gone for good"
                )
            break


def _check_kind_of_store(config: BrokerConfig, place: Place, found: Findings) -> None:
    """A store of the other kind would stay where it is, its messages unseen."""
    root, where = config.store_path_root_dir, place("enable_dleger_commit_log")
    if not config.in_group:
        for folder in sorted(root.glob("dledger-*")):
            found.problems.append(
                f"{where}: {root} holds the store of a group's node,"
                f" {folder.name.removeprefix('dledger-')}, and without enableDLegerCommitLog=true"
                " its messages would not be seen. Set that, or choose another storePathRootDir"
            )
    elif config.commit_log_dir.is_dir() and any(config.commit_log_dir.iterdir()):
        found.warnings.append(
            f"{where}: {config.commit_log_dir} holds a plain commitlog, and a group's node does"
            " not see its messages. Consume them first with enableDLegerCommitLog=false"
        )
