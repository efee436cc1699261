"""Term, vote and standing, the durable mark, and whose a store is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest

from ledgermq.dledger.errors import CallerError, DamagedError, StorageError
from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.dledger.store.begin import BeginFile
from ledgermq.dledger.store.hard_state import HardState, Mark, MarkFile
from ledgermq.dledger.store.identity import StoreIdentity
from ledgermq.dledger.store.life import LifeFile, SuspectFile
from ledgermq.dledger.store.slots import SlotFile
from tests.unit.dledger.logs import flip, written


def hard_state(folder: Path) -> tuple[int, str | None]:
    state = HardState(folder)
    state.close()
    return state.term, state.vote


def test_term_vote_and_standing_come_back(tmp_path: Path) -> None:
    assert hard_state(tmp_path) == (0, None)
    for term, vote, standing in (
        (4, NodeId("n1"), Standing.EMPTY),
        (5, None, Standing.DAMAGED),
        (5, NodeId("n2"), Standing.MEMBER),
    ):
        state = HardState(tmp_path)
        state.save(term, vote, standing)
        assert (state.term, state.vote, state.standing) == (term, vote, standing)
        state.close()
        state = HardState(tmp_path)
        assert (state.term, state.vote, state.standing) == (term, vote, standing)
        assert (state.present, state.earlier_form) == (True, False)
        state.close()


def test_a_hard_state_without_standing_is_a_members(tmp_path: Path) -> None:
    """As the first release wrote it."""
    written(tmp_path / "hardstate", msgpack.packb((7, "n2")))
    state = HardState(tmp_path)
    assert (state.term, state.vote, state.standing) == (7, "n2", Standing.MEMBER)
    assert (state.present, state.earlier_form) == (True, True)
    state.close()


def test_a_hard_state_that_nobody_can_read_is_known_as_such(tmp_path: Path) -> None:
    state = HardState(tmp_path)
    state.save(4, NodeId("n1"), Standing.MEMBER)
    state.close()
    flip(tmp_path / "hardstate", 20)
    flip(tmp_path / "hardstate", 4096 + 20)
    (tmp_path / "currterm").write_text("currTerm=7\nvoteLeader=n2\n")
    state = HardState(tmp_path)
    assert (state.term, state.vote, state.present) == (0, None, False)
    assert "hardstate: damaged at byte 0" in str(state.damage)
    state.save(5, None, Standing.DAMAGED)
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
def test_javas_currterm_is_taken_over_once(tmp_path: Path, text: str, expected: Any) -> None:
    (tmp_path / "currterm").write_text(text)
    state = HardState(tmp_path)
    assert (state.term, state.vote, state.present) == (*expected, False)
    state.save(state.term, state.vote, Standing.MEMBER)
    state.close()
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


@pytest.mark.parametrize(
    ("name", "opener"),
    [
        ("hardstate", HardState),
        ("mark", MarkFile),
        ("begin", BeginFile),
        ("life", LifeFile),
        ("damage", SuspectFile),
    ],
)
def test_files_of_another_program_are_refused(tmp_path: Path, name: str, opener: Any) -> None:
    written(tmp_path / name, msgpack.packb([99, 1, 2]))
    with pytest.raises(CallerError, match=f"{name} has format version 99.*Install the ledgermq"):
        opener(tmp_path)
    for stranger in ([1], [], 5, "x", ["x", 1, 2, 3]):
        written(tmp_path / name, msgpack.packb(stranger))
        with pytest.raises(StorageError, match="another program"):
            opener(tmp_path)


def test_the_mark_comes_back(tmp_path: Path) -> None:
    marks = MarkFile(tmp_path)
    assert (marks.present, marks.mark) == (False, Mark())
    marks.save(Mark(4, 500, 77, 3, clean=True, cut=9))
    marks.close()
    marks = MarkFile(tmp_path)
    assert (marks.present, marks.mark) == (True, Mark(4, 500, 77, 3, clean=True, cut=9))
    marks.close()


def test_a_mark_of_the_first_release_is_read(tmp_path: Path) -> None:
    written(tmp_path / "mark", msgpack.packb((4, 500, 77, 3, True, 9)))
    marks = MarkFile(tmp_path)
    assert marks.mark == Mark(4, 500, 77, 3, clean=True, cut=9)
    marks.close()


# --- identity -------------------------------------------------------------------------------------


def identity(folder: Path, data_folder: Path | None = None, **changes: Any) -> StoreIdentity:
    wanted: dict[str, Any] = {"group": "G", "self_id": "n0", "segment_bytes": 4096}
    return StoreIdentity(folder, data_folder=data_folder, **(wanted | changes))


def made(folder: Path) -> Path:
    store = identity(folder)
    store.save()
    store.close()
    return folder / "identity.json"


def test_the_store_id_stays(tmp_path: Path) -> None:
    first = identity(tmp_path / "a")
    assert (first.found, first.damage) == (False, None)
    first.save()
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
    made(tmp_path)
    with pytest.raises(CallerError, match=text):
        identity(tmp_path, **changes)
    identity(tmp_path).close()  # the refusal has left no lock behind


def test_a_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 3}))
    with pytest.raises(CallerError, match=r"identity\.json has format version 3; .* up to 2"):
        identity(tmp_path)


def test_a_store_of_the_first_release_is_taken(tmp_path: Path) -> None:
    values = {"version": 1, "storeId": "abc", "group": "G", "selfId": "n0", "segmentBytes": 4096}
    (tmp_path / "identity.json").write_text(json.dumps(values))
    store = identity(tmp_path)
    assert (store.store_id, store.found, store.damage) == ("abc", True, None)
    store.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\xff", "5", '{"version": "x"}'])
def test_a_broken_identity_is_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "identity.json").write_text(text, encoding="latin-1")
    store = identity(tmp_path)
    assert "identity.json: damaged at byte 0" in str(store.damage)
    assert store.store_id
    store.save()
    store.close()
    again = identity(tmp_path)
    assert (again.store_id, again.damage) == (store.store_id, None)
    again.close()


def test_a_changed_letter_of_the_identity_is_noticed(tmp_path: Path) -> None:
    path = made(tmp_path)
    text = path.read_text()
    path.write_text(text.replace('"group": "G"', '"group": "H"'))
    store = identity(tmp_path)
    assert "check does not fit" in str(store.damage)
    store.close()


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
