"""Stores that Java DLedger 0.3.1.2 wrote: opened, continued, opened again."""

from pathlib import Path

import pytest

from ledgermq.dledger.errors import DamagedError
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.hard_state import HardState
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.member_store import MemberStore
from ledgermq.dledger.store.recovery import open_ledger, term_runs
from ledgermq.remoting.message import peek_record
from tests.golden.captured import STORES, files, manifest, messages, rebuild
from tests.unit.dledger.logs import append, crash, entries, flip, head, overwrite

JAVA_STORES = [s for s in STORES if s.startswith("dledger")]


def rebuilt(store: str, tmp_path: Path) -> tuple[Path, int]:
    description = rebuild(store, tmp_path)
    folder = tmp_path / Path(description["entryIndex"]).parent
    return folder, description["mappedFileSizeCommitLog"]


def heads(ledger: Ledger) -> list[entry.EntryHeader]:
    found: list[entry.EntryHeader] = []
    while len(found) <= ledger.end_index:
        data, _ = ledger.read_entries(len(found), ledger.end_index, 1 << 20)
        found.extend(header for _, header in entry.walk(data))
    return found


@pytest.mark.parametrize("store", JAVA_STORES)
def test_every_entry_is_found_where_java_put_it(store: str, tmp_path: Path) -> None:
    folder, segment_bytes = rebuilt(store, tmp_path)
    ledger = open_ledger(folder, segment_bytes)
    headers = heads(ledger)
    assert {(h.chain_crc, h.body_crc, h.channel) for h in headers} == {(0, 0, 0)}
    offsets = [h.pos + entry.HEADER_BYTES for h in headers]
    assert offsets == [m["commitLogOffset"] for m in messages(store)]
    for header, (_, body) in zip(headers, entries(ledger), strict=True):
        assert peek_record(body, check_crc=True).physical_offset == header.pos + 48
    ledger.close(ledger.end_index)


@pytest.mark.parametrize("store", JAVA_STORES)
def test_opening_rebuilds_the_very_entry_index_that_java_wrote(store: str, tmp_path: Path) -> None:
    folder, segment_bytes = rebuilt(store, tmp_path)
    ledger = open_ledger(folder, segment_bytes)
    ledger.close(0)
    ((_, content),) = files(store, manifest(store)["entryIndex"])
    written = head(folder / "index" / "00000000000000000000", len(content) + 4096)
    assert written[: len(content)] == content
    assert not any(written[len(content) : len(content) + 4096])


@pytest.mark.parametrize("store", JAVA_STORES)
def test_the_log_goes_on_with_checksums(store: str, tmp_path: Path) -> None:
    folder, segment_bytes = rebuilt(store, tmp_path)
    ledger = open_ledger(folder, segment_bytes)
    before, end, last = entries(ledger), ledger.end_index, term_runs(ledger)[-1][0]
    crash(ledger)
    bodies = [b"x" * 20_000] * 4  # into the next segment
    for reopen in range(3):
        ledger = open_ledger(folder, segment_bytes)
        append(ledger, bodies, term=last + 1 + reopen)
        if reopen % 2:
            crash(ledger)
        else:
            ledger.close(0)
    ledger = open_ledger(folder, segment_bytes)
    assert entries(ledger)[: len(before)] == before
    ours = heads(ledger)[end + 1 :]
    assert len(ours) == 12
    assert all(h.chain_crc and h.body_crc for h in ours)
    assert ours[0].chain_crc == entry.chain_of(0, ours[0], bodies[0])
    ledger.close(0)


@pytest.mark.parametrize("store", JAVA_STORES)
def test_term_and_vote_of_java_count(store: str, tmp_path: Path) -> None:
    folder, segment_bytes = rebuilt(store, tmp_path)
    pairs = dict(line.split("=") for line in (folder / "currterm").read_text().splitlines())
    state = HardState(folder)
    assert (state.term, state.vote or "") == (int(pairs["currTerm"]), pairs["voteLeader"])
    ledger = open_ledger(folder, segment_bytes)
    assert term_runs(ledger)[-1][0] <= state.term
    ledger.close(0)
    state.close()


def test_a_log_whose_beginning_java_has_deleted_is_refused_and_kept(tmp_path: Path) -> None:
    folder, segment_bytes = rebuilt("dledger-4.9.5/clean", tmp_path)
    (folder / "data" / "00000000000000000000").unlink()
    ledger = open_ledger(folder, segment_bytes)
    assert "00000000000000000000: damaged at byte 0: the file is gone" in str(ledger.damage)
    crash(ledger)
    with pytest.raises(DamagedError, match=r"the file is gone.*the program that wrote it"):
        MemberStore(folder, None, group="G", self_id="n0", segment_bytes=segment_bytes)
    assert len(list((folder / "data").iterdir())) == 2


def test_a_broken_header_in_the_middle_is_no_torn_tail(tmp_path: Path) -> None:
    folder, segment_bytes = rebuilt("dledger-4.9.5/clean", tmp_path)
    path = folder / "data" / "00000000000000000000"
    flip(path, 7)
    with pytest.raises(DamagedError, match="damaged at byte 0: entry 0 is broken"):
        MemberStore(folder, None, group="G", self_id="n0", segment_bytes=segment_bytes)


def test_a_torn_last_entry_of_java_is_dropped(tmp_path: Path) -> None:
    folder, segment_bytes = rebuilt("dledger-4.9.5/kill9", tmp_path)
    ledger = open_ledger(folder, segment_bytes)
    end = ledger.end_index
    unit = ledger.index.get(end)
    assert unit is not None
    crash(ledger)
    (folder / "mark").unlink()
    overwrite(ledger.data.path_of(unit.pos), unit.pos % segment_bytes + 44, b"\0\0")
    overwrite(ledger.data.path_of(unit.pos), unit.pos % segment_bytes + 40, b"\0\0\0\0\0\0\0\1")
    ledger = open_ledger(folder, segment_bytes)
    assert ledger.end_index == end - 1
    ledger.close(0)
