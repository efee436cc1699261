"""Any harm to any file of a member's store: it says so, does not vote, and is filled again."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import event, given, settings
from hypothesis import strategies as st

from ledgermq.dledger.errors import CallerError, DamagedError
from ledgermq.dledger.host import Host
from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.member_store import MemberStore
from ledgermq.dledger.store.recovery import open_ledger
from ledgermq.dledger.store.snapshots import Snapshot
from tests.unit.dledger.logs import MortalDisk, PowerCut, append, copied, crash

SEGMENT_BYTES = 1024
HOST = Host(boot_id="one", new_id=lambda: "an id")
Log = list[tuple[int, bytes]]

bodies = st.integers(1, SEGMENT_BYTES - 56).flatmap(
    lambda n: st.binary(min_size=1, max_size=8).map(lambda seed: (seed * n)[:n])
)
logs = st.lists(bodies, min_size=4, max_size=14)


@contextmanager
def folder() -> Iterator[Path]:
    # In memory where that can be had: syncs count here, not their cost.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def opened(where: Path, host: Host = HOST) -> MemberStore:
    return MemberStore(where, None, group="G", self_id="n0", segment_bytes=SEGMENT_BYTES, host=host)


@dataclass
class Story:
    """A member and a leader that hold the same.

    Attributes:
        log: (term, body) of every entry.
        marked: entries below the member's mark.
    """

    where: Path
    leader: Ledger
    log: Log
    marked: int

    def check(self, ledger: Ledger) -> DamagedError | None:
        """Read entry by entry: each is as it was written, until one is known to be broken."""
        assert ledger.end_index < len(self.log)
        for index in range(ledger.begin.index, ledger.end_index + 1):
            try:
                raw, reached = ledger.read_entries(index, ledger.end_index, 1)
                ledger.verify(index, 1)
            except DamagedError as e:
                return e
            wanted = self.leader.read_entries(index, len(self.log), 1)
            assert (raw, reached) == wanted
            assert raw[entry.HEADER_BYTES :] == self.log[index][1]
        return None


@contextmanager
def story(bodies: list[bytes], draw: st.DataObject) -> Iterator[Story]:
    """A member with a few terms, a mark somewhere, perhaps a moved begin; stopped or killed."""
    with folder() as where:
        leader = open_ledger(where / "leader", SEGMENT_BYTES)
        for at, body in enumerate(bodies):
            append(leader, [body], term=1 + at // 3)
        marked = draw.draw(st.integers(1, len(bodies)), label="marked")
        last = len(bodies) - 1
        store = opened(where / "n0")
        store.ledger.append_copied(copied(leader, 0, marked - 1), 0)
        store.hard_state.save(9, NodeId("n2"), Standing.MEMBER)
        store.ledger.save_mark(marked - 1)
        begins = [b for b in store.ledger.segment_begins() if 0 < b[1] <= marked - 1]
        if begins and draw.draw(st.booleans(), label="moved"):
            _, index = draw.draw(st.sampled_from(begins), label="begin")
            for at in (index - 1, min(index + 1, marked - 1)):
                store.snapshots.save(Snapshot(at, 1, b"state" * 9, complete=True))
            store.ledger.move_begin(index)
        if marked <= last:
            store.ledger.append_copied(copied(leader, marked, last), marked)
        clean = draw.draw(st.booleans(), label="clean")
        store.close(last if clean else None)
        log = [(1 + at // 3, body) for at, body in enumerate(bodies)]
        yield Story(where / "n0", leader, log, len(bodies) if clean else marked)
        crash(leader)


def files_of(where: Path) -> list[Path]:
    names = ("mark", "begin", "hardstate", "life", "damage", "identity.json")
    folders = ("data", "index", "snapshot")
    return [where / n for n in names] + [p for n in folders for p in sorted((where / n).iterdir())]


def harm(path: Path, draw: st.DataObject) -> str:
    """Change a file; what was done. Only bytes that are in use: the entry index is sparse."""
    with path.open("rb") as file:
        used = len(file.read(16384).rstrip(b"\0")) or 1
    at = draw.draw(st.integers(0, 1 << 20), label="at") % used
    what = draw.draw(st.sampled_from(["flip", "zero", "zero one", "cut", "remove"]), label="harm")
    if what == "remove" and path.suffix != ".json":
        path.unlink()
    elif what == "cut" and path.parent.name != "index":
        os.truncate(path, at)
    else:
        size = {"zero": draw.draw(st.integers(1, 5000), label="size")}.get(what, 1)
        with path.open("r+b") as file:
            file.seek(at)
            old = file.read(min(size, max(used - at, 1)))
            file.seek(at)
            file.write(bytes(len(old)) if "zero" in what else bytes([old[0] ^ 0x10]))
    return f"{path.parent.name if path.name.isdigit() else path.name}: {what}"


def settled(told: Story) -> MemberStore:
    """Start it, and start it again for as long as reads meet something broken."""
    for _ in range(4):
        store = opened(told.where)
        damage = told.check(store.ledger)
        if damage is None:
            return store
        store.note_damage(damage)
        store.close(None)
    raise AssertionError(f"it never settles: {damage}")


@given(logs, st.data())
@settings(deadline=None, max_examples=250)
def test_harm_to_any_file(bodies: list[bytes], draw: st.DataObject) -> None:
    with story(bodies, draw) as told:
        begin = opened(told.where)
        first = begin.ledger.begin.index
        begin.close(None)
        path = draw.draw(st.sampled_from(files_of(told.where)), label="file")
        event(harm(path, draw))
        try:
            store = settled(told)
        except CallerError as e:
            # A version that says "newer" is all that may be refused, and only where no CRC
            # vouches for it.
            if path.name != "identity.json" or "Install the ledgermq" not in str(e):
                raise
            return
        ledger, standing = store.ledger, store.standing
        event(f"{standing.name}")
        if ledger.begin.index == first:
            lost = ledger.end_index < len(told.log) - 1
            below = ledger.end_index < told.marked - 1
        else:
            lost = below = True
            assert ledger.end_index == -1
        if below:
            assert standing is Standing.DAMAGED
            assert ledger.damage is not None
        if standing is Standing.MEMBER:
            assert (store.hard_state.term, store.hard_state.vote) == (9, "n2")
        if lost:
            assert path.parent.name == "data" or below
        fill(store, told)
        crash(store.ledger) if draw.draw(st.booleans()) else store.ledger.close(0)
        again = opened(told.where)
        assert again.standing is Standing.MEMBER
        assert again.ledger.end_index == len(told.log) - 1
        assert told.check(again.ledger) is None
        again.close(len(told.log) - 1)


def fill(store: MemberStore, told: Story) -> None:
    """What a leader does with it: sends the entries it lacks, then admits it."""
    first = store.ledger.end_index + 1
    if first < len(told.log):
        store.ledger.append_copied(copied(told.leader, first, len(told.log) - 1), first)
    store.hard_state.save(10, None, Standing.MEMBER)
    store._suspect.close()
    store._life.close()
    store._identity.close()
    store.hard_state.close()


@given(logs, st.data(), st.lists(st.integers(0, 40), min_size=1, max_size=3))
@settings(deadline=None, max_examples=150)
def test_crashes_while_it_is_repaired(
    bodies: list[bytes], draw: st.DataObject, crashes: list[int]
) -> None:
    with story(bodies, draw) as told:
        path = draw.draw(st.sampled_from(sorted((told.where / "data").iterdir())), label="file")
        event(harm(path, draw))
        settled(told).close(None)
        for calls in crashes:
            disk = MortalDisk(calls)
            try:
                ledger = opened(told.where, replace(HOST, disk=disk)).ledger
                first = ledger.end_index + 1
                if first < len(told.log):
                    ledger.append_copied(copied(told.leader, first, len(told.log) - 1), first)
                ledger.save_mark(len(told.log) - 1)
            except PowerCut:
                event("cut")
            disk.close_all()
        store = settled(told)
        fill(store, told)
        store.ledger.close(0)
        again = opened(told.where)
        assert told.check(again.ledger) is None
        assert again.ledger.end_index == len(told.log) - 1
        again.close(0)
