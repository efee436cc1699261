"""A plain commitlog after any harm, any crash, any loss of power: a prefix, or a refusal.

The record's CRC is of its body: a changed bit in a name or a property cannot be seen, by upstream
neither. Such a record is the one that was written but for that bit.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ledgermq.broker.plain.commit_log import CommitLog
from ledgermq.dledger.disk import Disk
from ledgermq.dledger.errors import DamagedError
from tests.sim.world import Loss, World
from tests.unit.broker.plain.plain_logs import (
    Records,
    file_of,
    mark,
    open_plain,
    put,
    records,
    stage,
)
from tests.unit.dledger.logs import MortalDisk, PowerCut, flip, overwrite
from tests.unit.remoting.messages import record

# Some sectors; a record may have several, too.
SEGMENT_BYTES = 2048
Message = tuple[int, int]  # length of the body, length of a property

messages = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 900)), min_size=1, max_size=6)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), messages),
        st.tuples(st.just("sync"), st.none()),
        st.tuples(st.just("mark"), st.integers(0, 3)),
        st.tuples(st.just("reopen"), st.booleans()),
        st.tuples(st.just("drop"), st.none()),
    ),
    max_size=10,
)


@contextmanager
def folder() -> Iterator[Path]:
    # In memory where that can be had: syncs count here, not their cost.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


class Life:
    """A log, what it must hold, and what of that is on disk."""

    def __init__(self, where: Path, disk: Disk | None = None) -> None:
        self.where = where
        self.disk = disk
        self.expected: Records = []
        self.synced = self.flushed = self.dispatched = 0
        self.log = self.open()

    def open(self, *, aborted: bool = True) -> CommitLog:
        self.log, self.recovered = open_plain(
            self.where, aborted=aborted, segment_bytes=SEGMENT_BYTES, disk=self.disk
        )
        return self.log

    def refusal(self, *, aborted: bool) -> DamagedError | None:
        try:
            self.open(aborted=aborted)
        except DamagedError as e:
            return e
        return None

    def run(self, history: list[tuple[str, Any]]) -> None:
        for what, value in history:
            getattr(self, what)(value)
        assert records(self.log) == self.expected

    def append(self, values: list[Message]) -> None:
        for body, prop in values:
            number = len(self.expected)
            properties = b"K\x01%d" % number + b"p" * prop + b"\x02"
            filling = bytes([97 + number % 26]) * body
            self.expected.append(stage(self.log, body=filling, properties=properties))
        self.log.write_staged()

    def sync(self, _: None = None) -> None:
        self.log.sync()
        self.synced = self.log.end_pos

    def mark(self, behind: int) -> None:
        self.sync()
        places = [pos for pos, _ in self.expected] or [self.log.end_pos]
        self.flushed = self.log.end_pos
        self.dispatched = places[-behind] if 0 < behind <= len(places) else self.flushed
        mark(self.where, self.flushed, self.dispatched, disk=self.disk, size=SEGMENT_BYTES)

    def reopen(self, clean: bool) -> None:
        if clean:
            self.mark(0)
        self.log.close()
        self.open(aborted=not clean)
        self.synced = self.log.end_pos
        assert self.recovered.truncated_bytes == 0

    def drop(self, _: None) -> None:
        starts = self.log.file_starts()
        if len(starts) > 1:
            self.log.drop_below(starts[1])
            self.expected = [(p, r) for p, r in self.expected if p >= starts[1]]


def goes_on(life: Life, found: Records) -> None:
    """What is appended now is there at the next start, behind what was found, and nothing else."""
    found = found + put(life.log, [b"goes on"])
    assert records(life.log) == found
    life.log.close()
    assert records(life.open()) == found
    life.log.close()


# --- as it was left -------------------------------------------------------------------------------


@given(steps)
@settings(deadline=None, max_examples=60)
def test_a_log_comes_back_as_it_was_left(history: list[tuple[str, Any]]) -> None:
    with folder() as where:
        life = Life(where)
        life.run(history)
        for pos, one in life.expected:
            cached = life.log.cached(pos, 1)
            assert cached is None or cached == one
        life.log.close()
        life.open()
        assert records(life.log) == life.expected
        goes_on(life, life.expected)


# --- harm -----------------------------------------------------------------------------------------

kinds = st.sampled_from(["flip", "zero", "zero to the end", "cut", "remove"])


def harmed(path: Path, kind: str, byte: int, count: int) -> range:
    """Harm a file; which bytes of it."""
    size = path.stat().st_size
    if kind == "flip":
        flip(path, byte)
        return range(byte, byte + 1)
    if kind == "zero":
        count = min(count, size - byte)
        overwrite(path, byte, bytes(count))
        return range(byte, byte + count)
    if kind == "zero to the end":
        overwrite(path, byte, bytes(size - byte))
    elif kind == "cut":
        os.truncate(path, byte)
    else:
        path.unlink()
        byte = 0
    return range(byte, size)


@given(steps, messages, messages, kinds, st.booleans(), st.integers(0, 3), st.data())
@settings(deadline=None, max_examples=250)
def test_after_any_harm_a_prefix_comes_back_or_file_and_byte_are_named(
    history: list[tuple[str, Any]],
    marked: list[Message],
    tail: list[Message],
    kind: str,
    aborted: bool,
    behind: int,
    data: st.DataObject,
) -> None:
    with folder() as where:
        life = Life(where)
        life.run(history)
        life.append(marked)
        life.mark(behind)
        if aborted:
            life.append(tail)
        end = life.log.end_pos
        life.log.close()
        pos = data.draw(st.integers(life.log.begin_pos, end - 1))
        path = file_of(where, pos, SEGMENT_BYTES)
        base = int(path.name)
        harm = harmed(path, kind, pos - base, data.draw(st.integers(1, 1500)))
        refusal = life.refusal(aborted=aborted)
        if refusal is not None:
            event(f"refused: {kind}")
            assert str(refusal.path) == str(path) or kind == "remove"
            assert refusal.offset in range(SEGMENT_BYTES)
            torn = aborted and kind != "remove" and base + harm.start >= life.flushed
            assert not torn, "a torn tail must not stop a start"
            return
        event(f"opened: {kind}")
        assert life.log.end_pos >= life.flushed
        checked = life.recovered.checked_from
        found = records_from(life.log, checked)
        wanted = [(p, r) for p, r in life.expected if p >= checked][: len(found)]
        assert [p for p, _ in found] == [p for p, _ in wanted]
        for (at, one), (_, original) in zip(found, wanted, strict=True):
            assert is_right(one, original, range(base + harm.start, base + harm.stop), at)
        put(life.log, [b"goes on"])
        life.log.close()
        life.open()
        assert [p for p, _ in records_from(life.log, checked)][: len(found)] == [
            p for p, _ in found
        ]
        life.log.close()


def records_from(log: CommitLog, pos: int) -> Records:
    """The records from `pos` on; what lies before was not looked at."""
    log.begin_pos = pos
    return records(log)


def is_right(one: bytes, original: bytes, harm: range, at: int) -> bool:
    """Whether a record is what was written, but for harm where no CRC looks."""
    body_end = 88 + int.from_bytes(original[84:88])
    sure = {*range(12), *range(28, 36), *range(84, body_end)}
    different = [i for i, (a, b) in enumerate(zip(one, original, strict=True)) if a != b]
    return all(at + i in harm and i not in sure for i in different)


@given(steps, messages, kinds, st.booleans(), st.data())
@settings(deadline=None, max_examples=120)
def test_harm_to_the_checkpoint_costs_no_message(
    history: list[tuple[str, Any]],
    last: list[Message],
    kind: str,
    aborted: bool,
    data: st.DataObject,
) -> None:
    with folder() as where:
        life = Life(where)
        life.run(history)
        life.append(last)
        life.mark(1)
        if aborted:
            life.append(last)
        life.log.close()
        byte, count = data.draw(st.integers(0, 150)), data.draw(st.integers(1, 4096))
        harmed(where / "checkpoint", kind, byte, count)
        life.open(aborted=aborted)
        assert records(life.log) == life.expected
        goes_on(life, life.expected)


# --- a crash --------------------------------------------------------------------------------------


@given(steps, messages, st.integers(0, 12))
@settings(deadline=None, max_examples=100)
def test_a_crash_at_any_call(
    history: list[tuple[str, Any]], tail: list[Message], calls: int
) -> None:
    with folder() as where:
        disk = MortalDisk()
        life = Life(where, disk)
        life.run(history)
        before = list(life.expected)
        disk.left = calls
        try:
            life.append(tail)
            life.mark(0)
        except PowerCut:
            event("crashed")
        disk.close_all()
        for left in (calls, 1 << 60):
            life.disk = disk = MortalDisk(left)
            try:
                life.open()
            except PowerCut:
                event("crashed at the start")
                disk.close_all()
        found = records(life.log)
        assert found[: len(before)] == before
        assert found == life.expected[: len(found)]
        goes_on(life, found)


# --- a loss of power ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", list(Loss))
@given(steps, messages, st.booleans(), st.integers(0, 1 << 16))
@settings(deadline=None, max_examples=60)
def test_after_a_loss_of_power_all_that_was_synced_is_there(
    loss: Loss, history: list[tuple[str, Any]], tail: list[Message], marked: bool, seed: int
) -> None:
    machine = World(seed).machine("a")
    life = Life(Path("/store"), machine.boot().disk)
    if marked:
        life.mark(0)  # as a broker does before it takes anything
    life.run(history)
    synced = life.synced
    life.append(tail)
    life.log.write_staged()
    for turn in range(3):
        machine.power_loss(loss)
        life.disk = machine.boot().disk
        life.open()
        found = records(life.log)
        assert [p for p, r in life.expected if p + len(r) <= synced] == [
            p for p, r in found if p + len(r) <= synced
        ]
        assert found == life.expected[: len(found)]
        event(f"{loss.value}: {'whole' if len(found) == len(life.expected) else 'cut'}")
        # Nothing is lost that was found, not even when the power fails at once.
        life.expected, synced = found, life.log.end_pos
        if turn == 1:
            life.append([(500, 900)])
            life.sync()
            synced = life.synced


def test_the_checks_of_this_file_can_fail() -> None:
    original = record(body=b"hello")
    assert is_right(original, original, range(0), 0)
    for at, sure in ((3, True), (30, True), (90, True), (40, False), (len(original) - 1, False)):
        other = bytearray(original)
        other[at] ^= 1
        assert is_right(bytes(other), original, range(1000), 0) is not sure
        assert not is_right(bytes(other), original, range(0), 0)
