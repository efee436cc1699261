"""What a log gives out: entries as they were written, or an error that names what is broken."""

import os
from pathlib import Path

import pytest

from ledgermq.dledger.errors import DamagedError, StorageError
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.recovery import open_ledger
from tests.unit.dledger.logs import (
    BODIES,
    append,
    crash,
    entries,
    flip,
    open_small,
    overwrite,
    place,
)


@pytest.mark.parametrize("first", range(10))
@pytest.mark.parametrize("max_bytes", [0, 947, 948, 949, 3000, 1 << 20])
def test_cache_and_files_agree(tmp_path: Path, first: int, max_bytes: int) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES[:3])
    append(ledger, BODIES[3:4])
    append(ledger, BODIES[4:])
    for last in range(first, 12):
        data, reached = ledger.read_entries(first, last, max_bytes)
        found = ledger.cached_entries(first, last, max_bytes)
        assert found is not None
        assert first <= reached <= found[1] <= min(last, 9)
        assert found[0].startswith(data)
        assert len(found[0]) == 948 * (found[1] - first + 1)
        assert len(found[0]) <= max(max_bytes, 948)
        in_segment = 4 - first % 4
        assert reached - first + 1 == min(in_segment, found[1] - first + 1)
    ledger.close(0)


def test_an_entry_beyond_the_end_is_no_answer(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES[:1])
    with pytest.raises(StorageError, match=r"entry 1 is not in the log, which holds 0\.\.0"):
        ledger.read_entries(1, 1, 100)
    assert ledger.cached_entries(1, 1, 100) is None
    ledger.close(0)


HEADER_FIELDS = {"magic": 3, "size": 7, "index": 15, "term": 23, "pos": 31, "channel": 35}


@pytest.mark.parametrize("byte", [*HEADER_FIELDS.values(), 36, 40, 47, 48, 500, 947])
def test_a_flipped_bit_is_named_not_returned(tmp_path: Path, byte: int) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES)
    ledger.save_mark(9)
    path, at, _ = place(ledger, 5)
    flip(path, at + byte)
    data, reached = ledger.read_entries(4, 9, 1 << 20)
    assert (len(data), reached) == (948, 4)  # what is before it can still be had
    with pytest.raises(DamagedError) as caught:
        ledger.read_entries(5, 9, 1 << 20)
    assert (caught.value.path, caught.value.offset) == (path, at)
    assert "Restart the node: the leader fills it again" in str(caught.value)
    crash(ledger)


@pytest.mark.parametrize("byte", [36, 37, 38, 39])
def test_a_rotten_chain_value_is_blamed_on_its_own_entry(tmp_path: Path, byte: int) -> None:
    """It is entry 6 that does not check, but entry 5 that is broken."""
    ledger = open_small(tmp_path)
    append(ledger, BODIES)
    path, at, _ = place(ledger, 5)
    flip(path, at + byte)
    for first in (5, 6):
        with pytest.raises(DamagedError) as caught:
            ledger.read_entries(first, 9, 1)
        assert (caught.value.path, caught.value.offset) == (path, at)
    assert ledger.read_entries(7, 9, 1)[1] == 7
    crash(ledger)


@pytest.mark.parametrize("byte", [3, 4, 11, 15, 19])
def test_a_rotten_unit_is_blamed_on_the_entry_index(tmp_path: Path, byte: int) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES)
    ledger.save_mark(9)
    path = tmp_path / "index" / "00000000000000000000"
    flip(path, 5 * 32 + byte)
    with pytest.raises(DamagedError) as caught:
        ledger.read_entries(5, 9, 1)
    assert (caught.value.path, caught.value.offset) == (path, 5 * 32)
    assert "Restart the node: the entry index is made anew" in str(caught.value)
    crash(ledger)


@pytest.mark.parametrize("max_bytes", [1, 948 * 2, 1 << 20])
def test_a_check_walks_over_all(tmp_path: Path, max_bytes: int) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES)
    ledger.save_mark(9)
    at = 0
    while at <= ledger.end_index:
        reached = ledger.verify(at, max_bytes)
        assert at < reached <= 10
        at = reached
    assert ledger.verify(10, max_bytes) == 10
    path, offset, _ = place(ledger, 7)
    flip(path, offset + 900)
    at = 0
    with pytest.raises(DamagedError) as caught:  # noqa: PT012 - which step finds it is no matter
        while at < 10:
            at = ledger.verify(at, max_bytes)
    assert (caught.value.path, caught.value.offset) == (path, offset)
    crash(ledger)


def test_damage_before_the_entry_is_named_too(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    append(ledger, BODIES)
    path, at, size = place(ledger, 4)
    overwrite(path, at, bytes(size))
    with pytest.raises(DamagedError, match=f"{path}: damaged at byte {at}"):
        ledger.read_entries(5, 9, 1)
    overwrite(path, at, entry.encode(7, 1, 4096, BODIES[4], 0)[0])
    with pytest.raises(DamagedError, match="entry 4 is not here"):
        ledger.read_entries(5, 9, 1)
    crash(ledger)


def test_an_entry_larger_than_any_read(tmp_path: Path) -> None:
    size = (5 << 20) + 7
    ledger = open_ledger(tmp_path, 8 << 20)
    big = os.urandom(size)
    append(ledger, [b"a", big, b"b"])
    crash(ledger)
    overwrite(tmp_path / "data" / "00000000000000000000", 49 + 48 + 4_900_000, b"????")
    ledger = open_ledger(tmp_path, 8 << 20)
    assert "entry 1 is broken, entry 2 behind it" in str(ledger.damage)
    crash(ledger)
    overwrite(tmp_path / "data" / "00000000000000000000", 49 + 48, big)
    ledger = open_ledger(tmp_path, 8 << 20)
    assert entries(ledger, max_bytes=1) == [(1, b"a"), (1, big), (1, b"b")]
    ledger.close(0)
