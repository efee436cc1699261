"""A member's store: whose vote counts after which kind of start."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.host import Host
from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.dledger.store.begin import Begin
from ledgermq.dledger.store.member_store import MemberStore
from ledgermq.dledger.store.snapshots import Snapshot
from tests.unit.dledger.logs import (
    SEGMENT_BYTES,
    append,
    copied,
    entries,
    flip,
    open_small,
    overwrite,
    place,
    written,
)

BODIES = [bytes([65 + i]) * 900 for i in range(10)]
HOST = Host(boot_id="first")
AFTER_POWER_CUT = Host(boot_id="second")


def opened(folder: Path, **changes: Any) -> MemberStore:
    wanted: dict[str, Any] = {"group": "G", "self_id": "n0", "segment_bytes": SEGMENT_BYTES}
    return MemberStore(folder, None, **({"host": HOST} | wanted | changes))


def member(folder: Path, *, sync_flush: bool = True, clean: bool = False) -> None:
    """A store that was admitted, with ten entries, the first eight below the mark."""
    store = opened(folder, sync_flush=sync_flush)
    append(store.ledger, BODIES[:8])
    store.ledger.save_mark(7)
    append(store.ledger, BODIES[8:])
    store.hard_state.save(3, NodeId("n1"), Standing.MEMBER)
    store.close(9 if clean else None)


def standing_of(folder: Path, **changes: Any) -> Standing:
    store = opened(folder, **changes)
    assert (store.standing_reason == "") == (store.standing is Standing.MEMBER)
    assert store.hard_state.standing is store.standing, "on disk before anybody acts on it"
    store.close(None)
    return store.standing


def test_a_new_store_is_empty_until_a_leader_admits_it(tmp_path: Path) -> None:
    for _ in range(2):
        store = opened(tmp_path)
        assert (store.standing, store.ledger.end_index) == (Standing.EMPTY, -1)
        assert "made anew" in store.standing_reason
        store.close(-1)
    store = opened(tmp_path)
    append(store.ledger, BODIES)
    store.close(9)
    assert standing_of(tmp_path) is Standing.EMPTY
    member(tmp_path / "b")
    assert standing_of(tmp_path / "b") is Standing.MEMBER


def test_an_operator_may_say_that_it_is_a_member(tmp_path: Path) -> None:
    assert standing_of(tmp_path, bootstrap=True) is Standing.MEMBER
    assert standing_of(tmp_path) is Standing.MEMBER


def test_a_store_of_the_first_release_is_a_members(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES)
    ledger.close(9)
    (tmp_path / "begin").unlink()
    written(tmp_path / "hardstate", msgpack.packb((7, "n2")))
    text = '{"version": 1, "storeId": "x", "group": "G", "selfId": "n0", "segmentBytes": 4096}'
    (tmp_path / "identity.json").write_text(text)
    store = opened(tmp_path)
    assert (store.standing, store.store_id) == (Standing.MEMBER, "x")
    assert (store.hard_state.term, store.hard_state.vote) == (7, "n2")
    store.close(None)
    assert standing_of(tmp_path) is Standing.MEMBER


@pytest.mark.parametrize("voted", [True, False])
def test_a_log_without_identity_is_javas(tmp_path: Path, voted: bool) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES)
    ledger.close(9)
    for name in ("mark", "begin"):
        (tmp_path / name).unlink()
    if voted:
        (tmp_path / "currterm").write_text("currTerm=7\nvoteLeader=n2\n")
    store = opened(tmp_path)
    assert store.standing is Standing.MEMBER
    assert (store.hard_state.term, store.hard_state.vote) == ((7, "n2") if voted else (0, None))
    store.close(None)
    assert standing_of(tmp_path) is Standing.MEMBER


@pytest.mark.parametrize(
    ("sync_flush", "clean", "host", "expected"),
    [
        pytest.param(False, False, AFTER_POWER_CUT, Standing.LOST, id="async, power cut"),
        pytest.param(False, False, HOST, Standing.MEMBER, id="async, killed"),
        pytest.param(False, True, AFTER_POWER_CUT, Standing.MEMBER, id="async, stopped cleanly"),
        pytest.param(True, False, AFTER_POWER_CUT, Standing.MEMBER, id="sync, power cut"),
        pytest.param(False, False, Host(boot_id=""), Standing.LOST, id="async, nobody can tell"),
    ],
)
def test_a_loss_of_power(
    tmp_path: Path, sync_flush: bool, clean: bool, host: Host, expected: Standing
) -> None:
    member(tmp_path, sync_flush=sync_flush, clean=clean)
    # How it runs now does not matter, but how it ran.
    assert standing_of(tmp_path, host=host, sync_flush=not sync_flush) is expected
    if expected is Standing.LOST:
        assert standing_of(tmp_path, host=host) is Standing.LOST, "until it is admitted"
        assert standing_of(tmp_path, host=host, alone=True) is Standing.LOST


def rot(*names: str) -> Callable[[Path], None]:
    """Both slots of these files are broken."""

    def harm(folder: Path) -> None:
        for name in names:
            flip(folder / name, 20)
            flip(folder / name, 4096 + 20)

    return harm


def zero(*names: str) -> Callable[[Path], None]:
    return lambda folder: [overwrite(folder / n, 0, bytes(8192)) for n in names] and None


def remove(*names: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        for name in names:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            else:
                (folder / name).unlink()

    return harm


@pytest.mark.parametrize(
    ("harm", "expected", "text"),
    [
        (rot("hardstate"), Standing.DAMAGED, "hardstate: damaged"),
        (zero("hardstate"), Standing.DAMAGED, "hardstate is gone"),
        (remove("hardstate"), Standing.DAMAGED, "hardstate is gone"),
        (remove("hardstate", "data", "mark", "index"), Standing.EMPTY, "made anew"),
        (rot("mark"), Standing.LOST, "mark: damaged"),
        (zero("mark"), Standing.LOST, "mark is gone"),
        (remove("mark"), Standing.LOST, "mark is gone"),
        (remove("mark", "data", "index"), Standing.DAMAGED, "mark is gone"),
        (rot("life"), Standing.LOST, "life: damaged"),
        (zero("life"), Standing.LOST, "life is gone"),
        (rot("begin"), Standing.DAMAGED, "begin: damaged"),
        (rot("damage"), Standing.DAMAGED, "damage: damaged"),
        (remove("data"), Standing.DAMAGED, "the file is gone"),
        (remove("index"), Standing.MEMBER, ""),
        (remove("identity.json"), Standing.MEMBER, ""),
        (remove("life", "hardstate"), Standing.DAMAGED, "hardstate is gone"),
        (lambda f: flip(f / "identity.json", 30), Standing.DAMAGED, "identity.json: damaged"),
        (lambda f: flip(f / "hardstate", 20), Standing.MEMBER, ""),
        (lambda f: flip(f / "hardstate", 4096 + 20), Standing.MEMBER, ""),
    ],
)
def test_files_that_are_broken_or_gone(
    tmp_path: Path, harm: Callable[[Path], None], expected: Standing, text: str
) -> None:
    member(tmp_path, clean=True)
    harm(tmp_path)
    store = opened(tmp_path)
    assert (store.standing, text in store.standing_reason) == (expected, True)
    if expected is Standing.MEMBER:
        assert (store.hard_state.term, store.hard_state.vote) == (3, "n1")
    store.close(None)
    assert standing_of(tmp_path) is expected, "until it is admitted"
    if expected is Standing.DAMAGED:
        with pytest.raises(DamagedError, match=r"no other node.*--bootstrap"):
            opened(tmp_path, alone=True)
    assert standing_of(tmp_path, bootstrap=True, alone=True) is Standing.MEMBER


def test_the_worse_finding_counts(tmp_path: Path) -> None:
    member(tmp_path, sync_flush=False)
    flip(tmp_path / "identity.json", 30)
    store = opened(tmp_path, host=AFTER_POWER_CUT)
    assert (store.standing, "identity" in store.standing_reason) == (Standing.DAMAGED, True)
    store.close(None)


def filled_again(folder: Path, tmp_path: Path) -> None:
    """A leader's entries replace what is broken; then it is admitted."""
    leader = open_small(tmp_path / "leader")
    append(leader, BODIES)
    store = opened(folder)
    first = store.ledger.end_index + 1
    store.ledger.append_copied(copied(leader, first, 9), first)
    store.hard_state.save(4, None, Standing.MEMBER)
    store.close(None)
    assert standing_of(folder) is Standing.MEMBER
    store = opened(folder, alone=True)
    assert entries(store.ledger) == [(1, b) for b in BODIES]
    store.close(9)


def broken(folder: Path, index: int) -> tuple[Path, int]:
    """Flip a bit below the mark that no start looks at."""
    store = opened(folder)
    path, at, _ = place(store.ledger, index)
    store.close(None)
    flip(path, at + 300)
    return path, at


def test_damage_found_by_a_read_is_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    member(folder)
    path, at = broken(folder, 5)
    store = opened(folder)
    assert store.standing is Standing.MEMBER
    with pytest.raises(DamagedError) as caught:
        store.ledger.read_entries(5, 9, 1)
    store.note_damage(caught.value)
    store.close(None)
    for _ in range(2):
        store = opened(folder)
        assert (store.standing, store.ledger.end_index) == (Standing.DAMAGED, 4)
        assert f"{path}: damaged at byte {at}" in store.standing_reason
        store.close(None)
    with pytest.raises(DamagedError, match="no other node"):
        opened(folder, alone=True)
    filled_again(folder, tmp_path)


def test_damage_that_is_gone_at_the_next_start(tmp_path: Path) -> None:
    """A cable, perhaps. It is not trusted, but nothing is cut."""
    member(tmp_path)
    path, at = broken(tmp_path, 5)
    store = opened(tmp_path)
    with pytest.raises(DamagedError) as caught:
        store.ledger.verify(5, 1)
    store.note_damage(caught.value)
    store.close(None)
    flip(path, at + 300)
    store = opened(tmp_path, alone=True)
    assert (store.standing, store.ledger.end_index) == (Standing.MEMBER, 9)
    store.note_damage(caught.value)
    store.close(None)
    store = opened(tmp_path)
    assert (store.standing, store.ledger.end_index) == (Standing.DAMAGED, 9)
    store.close(None)


def test_a_wrong_unit_of_the_entry_index_costs_a_restart_only(tmp_path: Path) -> None:
    member(tmp_path)
    path = tmp_path / "index" / "00000000000000000000"
    flip(path, 3 * 32 + 10)
    store = opened(tmp_path)
    with pytest.raises(DamagedError) as caught:
        store.ledger.verify(3, 1)
    assert (caught.value.path, caught.value.offset) == (path, 3 * 32)
    store.note_damage(caught.value)
    store.close(None)
    store = opened(tmp_path)
    assert store.standing is Standing.MEMBER
    assert [store.ledger.verify(i, 1) for i in range(10)] == list(range(1, 11))
    assert entries(store.ledger) == [(1, b) for b in BODIES]
    store.close(9)


def test_damage_elsewhere_is_none_of_the_stores_business(tmp_path: Path) -> None:
    member(tmp_path)
    store = opened(tmp_path)
    for path in (tmp_path / "consumequeue" / "00000000000000000000", tmp_path / "x", "nowhere"):
        store.note_damage(DamagedError(path, 4, "x"))
    store.close(None)
    assert standing_of(tmp_path) is Standing.MEMBER


def test_a_log_without_the_snapshot_of_its_begin(tmp_path: Path) -> None:
    member(tmp_path)
    store = opened(tmp_path)
    store.snapshots.save(Snapshot(6, 1, b"state", complete=True))
    store.ledger.move_begin(4)
    store.close(9)
    store = opened(tmp_path)
    assert (store.standing, store.ledger.begin.index) == (Standing.MEMBER, 4)
    assert store.snapshots.newest == Snapshot(6, 1, b"state", complete=True)
    store.close(9)
    flip(tmp_path / "snapshot" / f"{6:020d}", 40)
    store = opened(tmp_path)
    assert (store.standing, store.ledger.begin) == (Standing.DAMAGED, Begin())
    assert store.ledger.end_index == -1
    assert "begins at entry 4, and no intact snapshot" in store.standing_reason
    store.snapshots.save(Snapshot(7, 1, b"state", complete=False))
    store.ledger.reset(Begin(4, 4096, 1, 5))
    store.close(3)
    assert standing_of(tmp_path) is Standing.DAMAGED
    store = opened(tmp_path)
    assert (store.ledger.begin.index, store.ledger.damage) == (4, None)
    store.close(3)


def test_a_store_that_cannot_be_opened_is_let_go(tmp_path: Path) -> None:
    member(tmp_path, clean=True)
    path = tmp_path / "data" / "00000000000000000000"
    path.rename(tmp_path / "elsewhere")
    for _ in range(2):  # the second finds no lock of the first
        with pytest.raises(DamagedError, match="the file is gone"):
            opened(tmp_path, alone=True)
    (tmp_path / "elsewhere").rename(path)
    store = opened(tmp_path)
    assert len(entries(store.ledger)) == 10
    store.ledger.stage(1, b"never written")
    store.close(9)
    store = opened(tmp_path)
    assert (store.ledger.end_index, store.ledger.marks.mark.clean) == (9, False)
    store.close(None)


def test_ids_are_the_hosts(tmp_path: Path) -> None:
    store = opened(tmp_path, host=replace(HOST, new_id=lambda: "made by the host"))
    assert store.store_id == "made by the host"
    store.close(None)
