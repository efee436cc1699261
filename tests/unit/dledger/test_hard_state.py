"""Slots, term and vote, the durable mark, and whose a store is."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.errors import CallerError, DamagedError, StorageError
from ledgermq.dledger.ids import NodeId
from ledgermq.dledger.store import slots
from ledgermq.dledger.store.hard_state import HardState, Mark, MarkFile
from ledgermq.dledger.store.identity import StoreIdentity
from ledgermq.dledger.store.slots import SlotFile
from tests.unit.dledger.logs import flip, overwrite

SLOT_BYTES = 4096


def payload_of(path: Path) -> bytes | None:
    file = SlotFile(path)
    file.close()
    return file.payload


def written(path: Path, *payloads: bytes) -> None:
    file = SlotFile(path)
    for payload in payloads:
        file.write(payload)
    file.close()


def test_a_new_file_has_its_full_size_and_no_payload(tmp_path: Path) -> None:
    assert payload_of(tmp_path / "f") is None
    assert (tmp_path / "f").stat().st_size == 2 * SLOT_BYTES


def test_the_newest_payload_counts(tmp_path: Path) -> None:
    for count in range(1, 5):
        written(tmp_path / "f", f"value {count}".encode())
        assert payload_of(tmp_path / "f") == f"value {count}".encode()
    assert (tmp_path / "f").stat().st_size == 2 * SLOT_BYTES


@pytest.mark.parametrize("at", [0, 4, 8, 20, 25])
def test_a_torn_slot_leaves_the_other(tmp_path: Path, at: int) -> None:
    written(tmp_path / "f", b"first", b"second")  # sequences 1 and 2: slots 1 and 0
    flip(tmp_path / "f", at)
    assert payload_of(tmp_path / "f") == b"first"
    written(tmp_path / "f", b"third")
    assert payload_of(tmp_path / "f") == b"third"


def test_a_torn_sector_reaches_one_slot_only(tmp_path: Path) -> None:
    written(tmp_path / "f", b"first", b"second")
    overwrite(tmp_path / "f", 0, os.urandom(4096))
    assert payload_of(tmp_path / "f") == b"first"


def test_two_broken_slots_are_damage(tmp_path: Path) -> None:
    written(tmp_path / "f", b"first", b"second")
    flip(tmp_path / "f", 20)
    flip(tmp_path / "f", SLOT_BYTES + 20)
    with pytest.raises(DamagedError, match="neither of its two slots"):
        SlotFile(tmp_path / "f")


@pytest.mark.parametrize("size", [0, 100, SLOT_BYTES])
def test_a_file_whose_making_was_cut_is_filled_up(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(bytes(size))
    assert payload_of(tmp_path / "f") is None
    assert (tmp_path / "f").stat().st_size == 2 * SLOT_BYTES


def test_a_payload_too_long_is_refused(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "f")
    with pytest.raises(StorageError, match="do not fit"):
        file.write(bytes(SLOT_BYTES))
    file.close()


def test_a_failed_write_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SlotFile(tmp_path / "f")

    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(slots.os, "fdatasync", fails)
    with pytest.raises(StorageError, match="Input/output error"):
        file.write(b"x")
    assert file.payload is None
    file.close()


def hard_state(folder: Path) -> tuple[int, str | None]:
    state = HardState(folder)
    state.close()
    return state.term, state.vote


def test_term_and_vote_come_back(tmp_path: Path) -> None:
    assert hard_state(tmp_path) == (0, None)
    state = HardState(tmp_path)
    state.save(4, NodeId("n1"))
    state.save(5, None)
    state.close()
    assert hard_state(tmp_path) == (5, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("currTerm=7\nvoteLeader=n2\n", (7, "n2"), id="as java writes it"),
        pytest.param("#comment\ncurrTerm=7\nvoteLeader=\n", (7, None), id="no vote"),
        pytest.param("currTerm=-1\n", (0, None), id="no term yet"),
        pytest.param("", (0, None), id="empty"),
    ],
)
def test_javas_currterm_is_taken_over_once(tmp_path: Path, text: str, expected: object) -> None:
    (tmp_path / "currterm").write_text(text)
    assert hard_state(tmp_path) == expected
    (tmp_path / "currterm").write_text("currTerm=99\nvoteLeader=n0\n")
    assert hard_state(tmp_path) == expected


def test_a_crash_before_the_take_over_does_not_skip_it(tmp_path: Path) -> None:
    """Otherwise this member would vote again in a term in which Java has voted."""
    (tmp_path / "currterm").write_text("currTerm=7\nvoteLeader=n2\n")
    SlotFile(tmp_path / "hardstate").close()
    assert hard_state(tmp_path) == (7, "n2")


def test_a_currterm_that_is_no_number_is_damage(tmp_path: Path) -> None:
    (tmp_path / "currterm").write_text("currTerm=seven\n")
    with pytest.raises(DamagedError, match=r"currterm: damaged at byte 0.*seven"):
        HardState(tmp_path)


def test_a_hard_state_of_another_version_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "hardstate", b"\x93\x01\x02\x03")
    with pytest.raises(StorageError, match="another version"):
        HardState(tmp_path)
    written(tmp_path / "mark", b"\x93\x01\x02\x03")
    with pytest.raises(StorageError, match="another version"):
        MarkFile(tmp_path)


def test_the_mark_comes_back(tmp_path: Path) -> None:
    marks = MarkFile(tmp_path)
    assert (marks.present, marks.mark) == (False, Mark())
    marks.save(Mark(4, 500, 77, 3, clean=True, cut=9))
    marks.close()
    marks = MarkFile(tmp_path)
    assert (marks.present, marks.mark) == (True, Mark(4, 500, 77, 3, clean=True, cut=9))
    marks.close()


# --- identity -------------------------------------------------------------------------------------


def identity(folder: Path, data_folder: Path | None = None, **changes: Any) -> StoreIdentity:
    wanted: dict[str, Any] = {"group": "G", "self_id": "n0", "segment_bytes": 4096}
    return StoreIdentity(folder, data_folder=data_folder, **(wanted | changes))


def test_the_store_id_stays(tmp_path: Path) -> None:
    first = identity(tmp_path / "a")
    first.close()
    again = identity(tmp_path / "a")
    other = identity(tmp_path / "b")
    assert again.store_id == first.store_id != other.store_id
    again.close()
    other.close()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"group": "H"}, "belongs to group 'G', this node is configured as 'H'"),
        ({"self_id": "n1"}, "belongs to selfId 'n0'"),
        ({"segment_bytes": 8192}, "belongs to segmentBytes 4096"),
    ],
)
def test_another_nodes_store_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    identity(tmp_path).close()
    with pytest.raises(CallerError, match=text):
        identity(tmp_path, **changes)
    identity(tmp_path).close()  # the refusal has left no lock behind


def test_a_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    identity(tmp_path).close()
    path = tmp_path / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(CallerError, match="format version 2"):
        identity(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\xff"])
def test_a_broken_identity_is_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "identity.json").write_text(text, encoding="latin-1")
    with pytest.raises(DamagedError, match=r"identity\.json: damaged at byte 0"):
        identity(tmp_path)


_HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("name", "key"),
    [("store/lock", "storePathRootDir"), ("data", "storePathDLedgerCommitLog")],
)
def test_a_store_in_use_by_another_process_is_refused(tmp_path: Path, name: str, key: str) -> None:
    store, data = tmp_path / "store", tmp_path / "data"
    identity(store, data).close()
    argv = [sys.executable, "-c", _HOLD, str(tmp_path / name)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CallerError, match=f"in use by another process.*{key}"):
            identity(store, data)
        holder.communicate(b"")
    identity(store, data).close()
