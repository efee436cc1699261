"""One index file: its bytes, chains, cuts, and what a kill leaves."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ledgermq.broker.store.index_builder import IndexBuilder
from ledgermq.broker.store.index_file import ENTRY_BYTES, HEADER_BYTES, IndexFile, Search, Shape
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import DamagedError, DiskFullError
from ledgermq.remoting.errors import StorageError

from .indexes import EVER, FIRST_MS, BreakingDisk, Killed

SHAPE = Shape(slots=3, entries=12)


def key(number: int) -> tuple[int, int, int]:
    """Hash, physical offset, store time of the key that gets this entry number."""
    return (number % 5, 100 * number, FIRST_MS + 1000 * number)


def made(path: Path, count: int, disk: OsDisk | None = None) -> IndexFile:
    """A file with entries 1 to `count`, in two writes."""
    file = IndexFile(path, disk or OsDisk(), SHAPE)
    file.make()
    builder = IndexBuilder(file, file.header())
    for numbers in (range(1, count // 2 + 1), range(count // 2 + 1, count + 1)):
        builder.link([key(n) for n in numbers])
        builder.write()
    builder.close()
    return file


def search(
    file: IndexFile, key_hash: int, count: int = 99, times: tuple[int, int] = EVER
) -> list[int]:
    wanted = Search(key_hash, count, *times)
    file.search(wanted, file.header())
    return wanted.offsets


def test_upstreams_size() -> None:
    assert Shape(5_000_000, 20_000_000).size_bytes == 420_000_040


def test_a_new_file_is_sparse_and_empty(tmp_path: Path) -> None:
    file = IndexFile(tmp_path / "f", OsDisk(), Shape(5_000_000, 20_000_000))
    file.make()
    assert file.path.stat().st_size == 420_000_040
    assert file.path.stat().st_blocks * 512 < 1 << 20
    assert file.header() == (0, 0, 0, 0, 0, 1)


def test_the_bytes(tmp_path: Path) -> None:
    data = made(tmp_path / "f", 4).path.read_bytes()
    assert struct.unpack_from(">qqqqii", data) == (
        FIRST_MS + 1000, FIRST_MS + 4000, 100, 400, 3, 5,
    )  # fmt: skip
    assert struct.unpack_from(">iii", data, HEADER_BYTES) == (3, 4, 2), "the newest of each chain"
    at = HEADER_BYTES + 3 * 4 + ENTRY_BYTES
    assert list(struct.iter_unpack(">iqii", data[at : at + 4 * ENTRY_BYTES])) == [
        (1, 100, 0, 0), (2, 200, 1, 0), (3, 300, 2, 0), (4, 400, 3, 1),
    ]  # fmt: skip
    assert len(data) == SHAPE.size_bytes
    assert not data[at + 4 * ENTRY_BYTES :].strip(b"\0")


def test_newest_first(tmp_path: Path) -> None:
    file = made(tmp_path / "f", 11)
    assert search(file, 1) == [1100, 600, 100]
    assert search(file, 1, count=2) == [1100, 600]
    assert search(file, 6) == [], "of the same slot only"
    assert search(file, 4) == [900, 400]


@pytest.mark.parametrize(
    ("begin_s", "end_s", "found"),
    [
        pytest.param(6, 6, [600], id="both inclusive"),
        pytest.param(7, 10, [], id="between"),
        pytest.param(0, 0, [], id="before all"),
        pytest.param(12, 99, [], id="after all"),
        pytest.param(6.9, 99, [1100, 600], id="a second older: entries keep seconds only"),
        pytest.param(7.1, 99, [1100], id="over a second older"),
    ],
)
def test_times(tmp_path: Path, begin_s: float, end_s: float, found: list[int]) -> None:
    times = (FIRST_MS + int(begin_s * 1000), FIRST_MS + int(end_s * 1000))
    assert search(made(tmp_path / "f", 11), 1, times=times) == found


@pytest.mark.parametrize("count", range(1, 11))
@pytest.mark.parametrize("left", range(1, 11))
def test_a_cut_leaves_what_was_there_before(tmp_path: Path, count: int, left: int) -> None:
    if left > count:
        return
    file = made(tmp_path / "cut", count)
    header = file.cut(file.header(), left + 1)
    assert header == file.header()
    assert file.path.read_bytes() == made(tmp_path / "short", left).path.read_bytes()


def test_where_to_cut(tmp_path: Path) -> None:
    file = made(tmp_path / "f", 9)
    found = [file.first_from(pos, file.header()) for pos in (0, 100, 101, 900, 901)]
    assert found == [1, 1, 2, 9, 10]


def kills(action: Callable[[BreakingDisk], None]) -> int:
    """How many writes it takes."""
    disk = BreakingDisk()
    action(disk)
    return (1 << 60) - disk.writes_left


def test_a_kill_at_any_write_of_new_entries_adds_nothing(tmp_path: Path) -> None:
    def write(path: Path, disk: BreakingDisk, writes: int = 1 << 60) -> None:
        before = made(path, 5)
        builder = IndexBuilder(IndexFile(path, disk, SHAPE), before.header())
        builder.load()
        builder.link([key(n) for n in range(6, 10)])
        disk.writes_left = writes
        builder.write()

    five = made(tmp_path / "five", 5).path.read_bytes()
    for writes in range(kills(lambda disk: write(tmp_path / "x", disk))):
        path = tmp_path / f"killed-{writes}"
        with pytest.raises(Killed):
            write(path, BreakingDisk(), writes)
        file = IndexFile(path, OsDisk(), SHAPE)
        header = file.header()
        file.cut(header, header.next_entry)
        assert path.read_bytes() == five


def test_a_cut_that_was_killed_is_done_by_the_next(tmp_path: Path) -> None:
    def cut(path: Path, disk: BreakingDisk, writes: int = 1 << 60) -> None:
        file = IndexFile(path, disk, SHAPE)
        disk.writes_left = writes
        file.cut(file.header(), 4)

    made(tmp_path / "x", 9)
    total = kills(lambda disk: cut(tmp_path / "x", disk))
    wanted, whole = (made(tmp_path / str(n), n).path.read_bytes() for n in (3, 9))
    for writes in range(total):
        path = tmp_path / f"killed-{writes}"
        made(path, 9)
        with pytest.raises(Killed):
            cut(path, BreakingDisk(), writes)
        file = IndexFile(path, OsDisk(), SHAPE)
        header = file.cut(file.header(), 4)
        # What lies behind a blank entry is never looked at.
        blank = SHAPE.entry_at(5)
        assert path.read_bytes()[:blank] == wanted[:blank]
        builder = IndexBuilder(file, header)
        builder.load()
        builder.link([key(n) for n in range(4, 10)])
        builder.write()
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("at", "fmt", "value"),
    [
        pytest.param(36, ">i", -1, id="negative count"),
        pytest.param(36, ">i", 13, id="more entries than there is room for"),
        pytest.param(36, ">i", 8, id="a count that the last entry does not bear out"),
        pytest.param(32, ">i", 4, id="more slots in use than there are"),
        pytest.param(32, ">i", -1, id="negative slots"),
        pytest.param(16, ">q", 901, id="begin after the end"),
        pytest.param(16, ">q", 101, id="begin is not the first entry's"),
        pytest.param(24, ">q", 901, id="end is not the last entry's"),
    ],
)
def test_a_header_that_is_not_true(tmp_path: Path, at: int, fmt: str, value: int) -> None:
    file = made(tmp_path / "f", 9)
    data = bytearray(file.path.read_bytes())
    struct.pack_into(fmt, data, at, value)
    file.path.write_bytes(data)
    with pytest.raises(DamagedError, match=str(file.path)):
        file.header()


@pytest.mark.parametrize("size", [0, 39, 40, SHAPE.size_bytes - 1, SHAPE.size_bytes + 1])
def test_another_size(tmp_path: Path, size: int) -> None:
    file = made(tmp_path / "f", 9)
    with file.path.open("r+b") as f:
        f.truncate(size)
    with pytest.raises(DamagedError, match=f"{size} bytes, not {SHAPE.size_bytes}"):
        file.header()


# The chain of hash 1 goes by 9, 6, 4 and 1.
@pytest.mark.parametrize(
    ("field", "fmt", "value"),
    [
        pytest.param(0, ">i", 2, id="hash of another slot"),
        pytest.param(0, ">i", -3, id="negative hash"),
        pytest.param(4, ">q", 99, id="before the file's begin"),
        pytest.param(4, ">q", 1000, id="newer than the entry that led here"),
        pytest.param(12, ">i", -1, id="negative time"),
        pytest.param(16, ">i", 6, id="leads to itself"),
        pytest.param(16, ">i", 9, id="leads forward"),
        pytest.param(16, ">i", -1, id="leads nowhere"),
    ],
)
def test_a_chain_that_is_none(tmp_path: Path, field: int, fmt: str, value: int) -> None:
    file = made(tmp_path / "f", 9)
    data = bytearray(file.path.read_bytes())
    struct.pack_into(fmt, data, SHAPE.entry_at(6) + field, value)
    file.path.write_bytes(data)
    wanted = Search(1, 99, *EVER)
    with pytest.raises(DamagedError, match="entry 6"):
        file.search(wanted, file.header())
    assert wanted.offsets == [], "entry 9 is of another hash"


@pytest.mark.parametrize("head", [-1, 10, 11])
def test_a_slot_that_leads_nowhere(tmp_path: Path, head: int) -> None:
    file = made(tmp_path / "f", 9)
    data = bytearray(file.path.read_bytes())
    struct.pack_into(">i", data, HEADER_BYTES + 4, head)
    file.path.write_bytes(data)
    with pytest.raises(DamagedError, match=f"slot says {head}"):
        search(file, 1)
    with pytest.raises(DamagedError, match="slots"):
        IndexBuilder(file, file.header()).load()


def test_what_the_disk_refuses(tmp_path: Path) -> None:
    disk = BreakingDisk()
    file = IndexFile(tmp_path / "f", disk, SHAPE)
    with pytest.raises(StorageError, match="read failed: No such file"):
        file.header()
    file.make()
    builder = IndexBuilder(file, file.header())
    builder.link([key(n) for n in range(1, 10)])
    disk.is_full = True
    with pytest.raises(DiskFullError, match="no room left"):
        builder.write()
    disk.is_full = False
    builder.write()
    assert file.path.read_bytes() == made(tmp_path / "right", 9).path.read_bytes()


def test_slots_are_written_by_page(tmp_path: Path) -> None:
    shape = Shape(slots=1_000_000, entries=1000)
    file = IndexFile(tmp_path / "f", OsDisk(), shape)
    file.make()
    builder = IndexBuilder(file, file.header())
    hashes = [0, 5000, 5001, 300_000, 999_999, 5000]
    builder.link([(h, 10 * n, FIRST_MS) for n, h in enumerate(hashes, 1)])
    builder.write()
    assert file.path.stat().st_blocks * 512 < 1 << 20, "pages nobody uses stay holes"
    again = IndexBuilder(file, file.header())
    again.load()
    again.link([(300_000, 70, FIRST_MS), (0, 80, FIRST_MS), (4, 90, FIRST_MS)])
    again.write()
    header = file.header()
    assert (header.used_slots, header.next_entry) == (6, 10)
    found = {}
    for key_hash in {*hashes, 4}:
        wanted = Search(key_hash, 9, *EVER)
        file.search(wanted, header)
        found[key_hash] = wanted.offsets
    assert found == {
        0: [80, 10], 4: [90], 5000: [60, 20], 5001: [30], 300_000: [70, 40], 999_999: [50],
    }  # fmt: skip
