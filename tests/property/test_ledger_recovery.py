"""Any history of a log, any harm to its files, any moment of a crash: a prefix comes back."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import event, given, settings
from hypothesis import strategies as st

from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.ids import Standing
from ledgermq.dledger.store import entry, segments
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.recovery import open_ledger, term_runs
from tests.unit.dledger.logs import append, crash, entries, flip, overwrite, place

SEGMENT_BYTES = 1024
Log = list[tuple[int, bytes]]

bodies = st.integers(1, SEGMENT_BYTES - 56).flatmap(
    lambda n: st.binary(min_size=1, max_size=8).map(lambda seed: (seed * n)[:n])
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(bodies, min_size=1, max_size=6)),
        st.tuples(st.just("cut"), st.integers(0, 30)),
        st.tuples(st.just("mark"), st.none()),
        st.tuples(st.just("reopen"), st.booleans()),
    ),
    max_size=10,
)


@contextmanager
def folder() -> Iterator[Path]:
    # In memory where that can be had: syncs count here, not their cost.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def opened(where: Path) -> Ledger:
    return open_ledger(where, SEGMENT_BYTES)


def run(where: Path, history: list[tuple[str, Any]]) -> tuple[Ledger, Log]:
    """Carry out a history; what the log must hold then."""
    ledger, expected = opened(where), []
    for term, (what, value) in enumerate(history, start=1):
        if what == "append":
            append(ledger, value, term)
            expected += [(term, b) for b in value]
        elif what == "cut":
            ledger.truncate(value)
            del expected[value:]
        elif what == "mark":
            ledger.save_mark(ledger.end_index)
        else:
            if value:
                ledger.close(0)
            else:
                crash(ledger)
            ledger = opened(where)
        assert ledger.end_index == len(expected) - 1
    return ledger, expected


def checked(ledger: Ledger) -> Log:
    """The log as the files have it; index and terms agree with it."""
    found = entries(ledger)
    assert [t for t, n in term_runs(ledger) for _ in range(n)] == [t for t, _ in found]
    return found


@given(steps)
@settings(deadline=None, max_examples=60)
def test_a_log_comes_back_as_it_was_left(history: list[tuple[str, Any]]) -> None:
    with folder() as where:
        ledger, expected = run(where, history)
        crash(ledger)
        ledger = opened(where)
        assert checked(ledger) == expected
        append(ledger, [b"goes on"], term=99)
        assert checked(ledger) == [*expected, (99, b"goes on")]
        ledger.close(0)


@given(steps, st.data())
@settings(deadline=None, max_examples=100)
def test_cache_and_files_agree(history: list[tuple[str, Any]], data: st.DataObject) -> None:
    with folder() as where:
        ledger, expected = run(where, history)
        if expected:
            first = data.draw(st.integers(0, len(expected) - 1))
            max_bytes = data.draw(st.integers(0, 3 * SEGMENT_BYTES))
            raw, reached = ledger.read_entries(first, ledger.end_index, max_bytes)
            found = ledger.cached_entries(first, ledger.end_index, max_bytes)
            if found is not None:
                assert found[0].startswith(raw)
                assert found[1] >= reached
        ledger.close(0)


@given(steps, st.lists(bodies, min_size=1, max_size=8), st.data())
@settings(deadline=None, max_examples=80)
def test_harm_past_the_mark_leaves_a_prefix(
    history: list[tuple[str, Any]], tail: list[bytes], data: st.DataObject
) -> None:
    with folder() as where:
        ledger, expected = run(where, history)
        ledger.save_mark(-1)
        append(ledger, tail, term=50)
        kept, whole = len(expected), expected + [(50, b) for b in tail]
        victim = data.draw(st.integers(kept, len(whole) - 1))
        path, at, size = place(ledger, victim)
        byte = at + data.draw(st.integers(0, size - 1))
        last_file = ledger.data.path_of(ledger.end_pos)
        crash(ledger)
        harm = data.draw(st.sampled_from(["cut", "zero", "flip"]))
        if harm == "cut" and path == last_file:
            os.truncate(path, byte)
        elif harm == "flip":
            flip(path, byte)
        else:
            overwrite(path, byte, bytes(SEGMENT_BYTES - byte))
        ledger = opened(where)
        if ledger.damage is not None:
            # Only where whole entries follow the broken one: then it was no torn tail.
            event("a lost tail")
            assert victim < len(whole) - 1
            assert (ledger.damage.path, ledger.damage.offset) == (path, at)
            assert ledger.standing_hint is Standing.LOST
            assert ledger.end_index == victim - 1
        event(harm)
        found = checked(ledger)
        assert kept <= len(found) <= len(whole)
        assert found == whole[: len(found)]
        append(ledger, [b"goes on"], term=99)
        crash(ledger)
        ledger = opened(where)
        assert checked(ledger) == [*found, (99, b"goes on")]
        ledger.close(0)


@given(steps, st.lists(bodies, min_size=1, max_size=8), st.data())
@settings(deadline=None, max_examples=80)
def test_harm_below_the_mark_is_damage_and_never_garbage(
    history: list[tuple[str, Any]], tail: list[bytes], data: st.DataObject
) -> None:
    with folder() as where:
        ledger, expected = run(where, history)
        append(ledger, tail, term=50)
        expected += [(50, b) for b in tail]
        victim = data.draw(st.integers(0, len(expected) - 1))
        path, at, size = place(ledger, victim)
        byte = at + data.draw(st.integers(0, size - 1))
        ledger.close(0)
        flip(path, byte)
        ledger = opened(where)
        damage = _first_damage(ledger, expected)
        crash(ledger)
        assert damage is not None, "a flipped bit was not noticed"
        assert (damage.path, damage.offset) == (path, at)


def _first_damage(ledger: Ledger, expected: Log) -> DamagedError | None:
    """Read entry by entry: each is as it was written, until one is known to be broken."""
    for index, (_, body) in enumerate(expected):
        if index > ledger.end_index:
            assert ledger.standing_hint is Standing.DAMAGED
            return ledger.damage
        try:
            raw, reached = ledger.read_entries(index, ledger.end_index, 1)
        except DamagedError as e:
            return e
        assert (raw[entry.HEADER_BYTES :], reached) == (body, index)
    return None


# --- a crash at any call of the system --------------------------------------------------------


class _PowerCut(BaseException):
    """The process is gone."""


@contextmanager
def cut_after(calls: int) -> Iterator[None]:
    """The k-th write, sync or removal does not happen, nor anything after it."""
    left = iter(range(calls))

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if next(left, None) is None:
                raise _PowerCut
            return real(*args)

        return call

    with (
        mock.patch.object(OsDisk, "pwrite", staticmethod(counted(os.pwrite))),
        mock.patch.object(OsDisk, "fdatasync", staticmethod(counted(os.fdatasync))),
        mock.patch.object(OsDisk, "remove", counted(OsDisk.remove)),
        mock.patch.object(segments, "_ZERO_CHUNK", bytes(200)),  # many small steps
    ):
        yield


@given(steps, st.lists(bodies, min_size=1, max_size=20), st.booleans(), st.data())
@settings(deadline=None, max_examples=100)
def test_a_crash_in_the_middle_of_a_cut(
    history: list[tuple[str, Any]], tail: list[bytes], marked: bool, data: st.DataObject
) -> None:
    with folder() as where:
        ledger, expected = run(where, history)
        append(ledger, tail, term=50)
        expected += [(50, b) for b in tail]
        if marked:
            ledger.save_mark(-1)
        first = data.draw(st.integers(0, len(expected) - 1))
        calls = data.draw(st.integers(0, 60))
        try:
            with cut_after(calls):
                ledger.truncate(first)
                event("the cut was through")
        except _PowerCut:
            event("crashed in the cut")
        crash(ledger)
        ledger = opened(where)
        found = checked(ledger)
        assert found in (expected, expected[:first])
        append(ledger, [b"goes on"], term=99)
        crash(ledger)
        ledger = opened(where)
        assert checked(ledger) == [*found, (99, b"goes on")]
        ledger.close(0)


@given(steps, st.lists(bodies, min_size=1, max_size=20), st.integers(0, 30))
@settings(deadline=None, max_examples=100)
def test_a_crash_in_the_middle_of_an_append(
    history: list[tuple[str, Any]], tail: list[bytes], calls: int
) -> None:
    with folder() as where:
        ledger, expected = run(where, history)
        try:
            with cut_after(calls):
                append(ledger, tail, term=50)
                ledger.save_mark(-1)
        except _PowerCut:
            event("crashed")
        crash(ledger)
        ledger = opened(where)
        found = checked(ledger)
        assert len(found) >= len(expected)
        assert found == (expected + [(50, b) for b in tail])[: len(found)]
        ledger.close(0)


@given(steps, st.integers(0, 40))
@settings(deadline=None, max_examples=60)
def test_a_crash_in_the_middle_of_a_start(history: list[tuple[str, Any]], calls: int) -> None:
    with folder() as where:
        ledger, expected = run(where, history)
        crash(ledger)
        try:
            with cut_after(calls):
                crash(opened(where))
        except _PowerCut:
            event("crashed")
        ledger = opened(where)
        assert checked(ledger) == expected
        ledger.close(0)
