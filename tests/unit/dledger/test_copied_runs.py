"""A follower takes a push's entries in one go: as if it had looked at each of them alone."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledgermq.dledger.store import entry
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.dledger.store.walked import Walked
from tests.support.fuzz import fuzzing
from tests.unit.dledger.logs import SEGMENT_BYTES, append, copied, crash, entries, open_small

# Some fill a file of 4096 bytes, most do not; 948 and 4040 leave nothing but the marker's 8 bytes.
SIZES = st.sampled_from([1, 2, 40, 300, 948, 1000, 2000, 4040]) | st.integers(1, 600)
BODIES = st.lists(SIZES, min_size=1, max_size=9)


def one_by_one(ledger: Ledger, data: bytes) -> None:
    for at, header in entry.walk(data):
        ledger.stage_copy(memoryview(data), at, header)


def in_one_go(ledger: Ledger, data: bytes) -> None:
    ledger.stage_copies(Walked(data))


def outcome(folder: Path, before: bytes, data: bytes, take: object) -> tuple[object, ...]:
    """What a log holds after `before` and then `data`, and why it took no more."""
    ledger = open_small(folder)
    if before:
        ledger.append_copied(before, 0)
    refusal = ""
    try:
        assert callable(take)
        take(ledger, data)
    except entry.EntryError as e:
        refusal = e.remark
    ledger.write_staged()
    units = [ledger.index.get(index) for index in range(ledger.end_index + 1)]
    found = entries(ledger), units, ledger.end_pos, ledger.chain, refusal
    crash(ledger)
    return found


@fuzzing(120)
@given(BODIES, st.integers(0, 3), st.none() | st.tuples(st.integers(0, 9), st.integers(0, 60)))
@example([4040, 1, 2], 0, None)
@example([10, 10, 10], 1, (2, 36))
@example([10, 10, 10], 0, (1, 41))
def test_in_one_go_is_as_one_by_one(
    sizes: list[int], known: int, flipped: tuple[int, int] | None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        leader = open_small(folder / "leader")
        for n, size in enumerate(sizes):
            append(leader, [bytes([65 + n]) * size], term=1 + n // 3)
        known = min(known, len(sizes) - 1)
        before = copied(leader, 0, known - 1) if known else b""
        data = bytearray(copied(leader, known, len(sizes) - 1))
        crash(leader)
        if flipped is not None:
            at, header = list(entry.walk(bytes(data)))[flipped[0] % (len(sizes) - known)]
            data[at + flipped[1] % header.size] ^= 0x04
        try:
            list(entry.walk(bytes(data)))
        except entry.EntryError:
            return  # refused before anything is staged
        whole = outcome(folder / "a", before, bytes(data), in_one_go)
        assert whole == outcome(folder / "b", before, bytes(data), one_by_one)
        assert bool(whole[-1]) == (flipped is not None)


@pytest.mark.parametrize(
    ("pos", "size", "body_crc"),
    [
        pytest.param(51, 10, None, id="in its place"),
        pytest.param(52, 10, None, id="elsewhere"),
        pytest.param(51, SEGMENT_BYTES - 51 - 56, None, id="up to the marker"),
        pytest.param(51, SEGMENT_BYTES - 51 - 55, None, id="into the marker"),
        pytest.param(51, SEGMENT_BYTES, None, id="across two files"),
        pytest.param(51, 10, 7, id="with the checksum of another body"),
    ],
)
def test_an_entry_whose_chain_is_right_must_be_right_besides(
    tmp_path: Path, pos: int, size: int, body_crc: int | None
) -> None:
    first, chain = entry.encode(0, 1, 0, b"one", 0)
    body = bytes(size)
    header = entry.decode(entry.encode(1, 1, pos, body, chain)[0])
    if body_crc is not None:
        header = header._replace(body_crc=body_crc)
    header = header._replace(chain_crc=entry.chain_of(chain, header, body))
    data = first + b"one" + entry._HEADER.pack(*header) + body
    whole = outcome(tmp_path / "a", b"", data, in_one_go)
    assert whole == outcome(tmp_path / "b", b"", data, one_by_one)


@pytest.mark.parametrize("skipped", [0, 1, 4, 5])
def test_a_push_that_begins_before_the_end_adds_what_is_new(tmp_path: Path, skipped: int) -> None:
    leader, follower = open_small(tmp_path / "leader"), open_small(tmp_path / "follower")
    append(leader, [bytes([65 + n]) * 700 for n in range(6)])
    if skipped:
        follower.append_copied(copied(leader, 0, skipped - 1), 0)
    data = copied(leader, 0, 5)
    follower.append_copied(data, skipped, Walked(data))
    assert entries(follower) == entries(leader)
    crash(leader)
    crash(follower)


def test_entries_of_java_in_a_push_are_taken(tmp_path: Path) -> None:
    """A leader whose log Java began sends them on as they are: without checksums."""
    follower = open_small(tmp_path)
    data, pos = b"", 0
    for index, body in enumerate((b"one", b"two")):
        head = bytearray(entry.encode(index, 1, pos, body, 0)[0])
        head[36:44] = bytes(8)
        data += bytes(head) + body
        pos += entry.HEADER_BYTES + len(body)
    head, _ = entry.encode(2, 1, pos, b"ours", 0)
    follower.append_copied(data + head + b"ours", 0)
    assert [body for _, body in entries(follower)] == [b"one", b"two", b"ours"]
    crash(follower)
