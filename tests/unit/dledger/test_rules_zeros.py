"""Zeros are written ahead of the log's end by a thread, and never over an entry."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.store.recovery import open_ledger
from ledgermq.dledger.store.zero_ahead import ZeroAhead
from tests.unit.dledger.logs import append, entries

MIB = 1 << 20


class SlowThread(OsDisk):
    """Writes of other threads wait for `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def pwrite(self, fd: int, data: Any, offset: int) -> int:  # type: ignore[override]
        if threading.current_thread() is not threading.main_thread():
            assert self.go.wait(20)
        return os.pwrite(fd, data, offset)


@pytest.mark.parametrize("released", [0.0, 0.05], ids=["at once", "while the append waits"])
def test_zeros_that_come_late_are_under_the_entry(released: float, tmp_path: Path) -> None:
    disk = SlowThread()
    with ThreadPoolExecutor(1) as pool:
        ledger = open_ledger(tmp_path, 32 * MIB, disk=disk)
        ledger.zero_ahead = ZeroAhead(ledger.data, pool)
        append(ledger, [b"a"])  # the thread begins 2 MiB behind it
        timer = threading.Timer(released, disk.go.set)
        timer.start()
        append(ledger, [b"b" * (3 * MIB)])
        timer.join()
        ledger.zero_ahead.settle()
        assert entries(ledger) == [(1, b"a"), (1, b"b" * (3 * MIB))]
        ledger.close(0)
