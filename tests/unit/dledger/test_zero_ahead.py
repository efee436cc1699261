"""Zeros ahead of the log's end: they cost no entry, and no disk that is not there."""

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.store.recovery import open_ledger
from ledgermq.dledger.store.zero_ahead import ZeroAhead
from tests.unit.dledger.logs import append, crash, entries

MIB = 1 << 20


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def blocks_bytes(folder: Path) -> int:
    return sum(p.stat().st_blocks * 512 for p in (folder / "data").iterdir())


def test_entries_written_through_the_zeros_are_all_there(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    ledger = open_ledger(tmp_path, 16 * MIB)
    ledger.zero_ahead = ZeroAhead(ledger.data, pool)
    bodies = [bytes([i]) * (900 << 10) for i in range(40)]
    for body in bodies:
        append(ledger, [body])
    ledger.truncate(30)
    append(ledger, bodies[:10])
    expected = [(1, b) for b in bodies[:30] + bodies[:10]]
    assert entries(ledger) == expected
    ledger.close(0)
    ledger = open_ledger(tmp_path, 16 * MIB)
    assert entries(ledger) == expected
    crash(ledger)


def test_a_fresh_segment_stays_small(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    ledger = open_ledger(tmp_path, 1 << 30)
    ledger.zero_ahead = ZeroAhead(ledger.data, pool)
    append(ledger, [b"x"])
    ledger.zero_ahead.settle()
    assert 8 * MIB <= blocks_bytes(tmp_path) <= 12 * MIB
    ledger.close(0)


def test_an_append_that_catches_up_waits(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(tmp_path, 32 * MIB)
    ledger.zero_ahead = ZeroAhead(ledger.data, pool)
    released, real = threading.Event(), os.pwrite

    def pwrite(fd: int, data: Any, at: int) -> int:
        if threading.current_thread() is not threading.main_thread():
            assert released.wait(20)
        return real(fd, data, at)

    monkeypatch.setattr(OsDisk, "pwrite", staticmethod(pwrite))
    append(ledger, [b"a"])
    timer = threading.Timer(0.05, released.set)
    timer.start()
    append(ledger, [b"b" * (3 * MIB)])
    timer.join()
    assert entries(ledger) == [(1, b"a"), (1, b"b" * (3 * MIB))]
    ledger.close(0)


def test_no_room_for_zeros_is_no_matter(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(tmp_path, 32 * MIB)
    ledger.zero_ahead = ZeroAhead(ledger.data, pool)
    real = os.pwrite

    def pwrite(fd: int, data: Any, at: int) -> int:
        if threading.current_thread() is not threading.main_thread():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(OsDisk, "pwrite", staticmethod(pwrite))
    for body in (b"a", b"b"):
        append(ledger, [body])
        ledger.zero_ahead.settle()
    assert entries(ledger) == [(1, b"a"), (1, b"b")]
    ledger.close(0)
