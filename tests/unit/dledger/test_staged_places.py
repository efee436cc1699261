"""Places that were reserved; and the quick readers of entries and records beside plain ones."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.dledger.errors import CallerError
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.begin import Begin
from ledgermq.dledger.store.ledger import Ledger
from ledgermq.remoting import message_record
from ledgermq.remoting.message_record import RecordError, RecordPeek, encode_record, peek_record
from tests.support.fuzz import fuzzing, mutated
from tests.unit.dledger.logs import SEGMENT_BYTES, MortalDisk, append, crash, entries, open_small
from tests.unit.remoting.messages import HOSTS, INT32, INT64

LARGEST = SEGMENT_BYTES - entry.HEADER_BYTES - entry.BLANK_BYTES
NEW_BEGIN = Begin(50, 3 * SEGMENT_BYTES, 2, 77)


# --- reservations -----------------------------------------------------------------------------


def unit_pos(ledger: Ledger, index: int) -> int:
    unit = ledger.index.get(index)
    assert unit is not None
    return unit.pos


def drop_staged(ledger: Ledger) -> None:
    ledger.stage(1, bytes(200))
    ledger.drop_staged()
    ledger.stage(1, bytes(300))


def drop_what_was_staged_before(ledger: Ledger) -> None:
    ledger.drop_staged()


def truncate(ledger: Ledger) -> None:
    ledger.drop_staged()
    ledger.reserve(100)
    ledger.truncate(1)


def reset(ledger: Ledger) -> None:
    ledger.drop_staged()
    ledger.reserve(100)
    ledger.reset(NEW_BEGIN)


def stage_another_size(ledger: Ledger) -> None:
    ledger.stage(1, bytes(7))


def stage_the_same_size(ledger: Ledger) -> None:
    ledger.stage(1, bytes(100))


def reserve_another_size(ledger: Ledger) -> None:
    ledger.reserve(LARGEST)


def reserve_what_never_fits(ledger: Ledger) -> None:
    with pytest.raises(CallerError):
        ledger.reserve(LARGEST + 1)


def write(ledger: Ledger) -> None:
    ledger.write_staged()


def copy_from_a_leader(ledger: Ledger) -> None:
    at, index = ledger.reserve(30), ledger.staged_index + 1
    head, _ = entry.encode(index, 1, at, bytes(30), ledger._staged_chain)
    data = head + bytes(30)
    ledger.reserve(100)
    ledger.stage_copy(memoryview(data), 0, entry.decode(data))


@pytest.mark.parametrize(
    "change",
    [
        drop_staged, drop_what_was_staged_before, truncate, reset, stage_another_size,
        stage_the_same_size, reserve_another_size, reserve_what_never_fits, write,
        copy_from_a_leader,
    ],
)  # fmt: skip
@pytest.mark.parametrize("asked", [100, 101], ids=["the same size", "another size"])
def test_a_reservation_is_not_used_for_another_place(
    tmp_path: Path, change: Callable[[Ledger], None], asked: int
) -> None:
    ledger = open_small(tmp_path, disk=MortalDisk())
    append(ledger, [bytes(600)] * 3)
    ledger.stage(1, bytes(50))  # staged when the place is asked for, perhaps gone later
    ledger.reserve(100)
    change(ledger)
    wanted = ledger._place(entry.HEADER_BYTES + asked)  # the rule itself, without a memory
    index = ledger.stage(1, bytes(asked))
    assert unit_pos(ledger, index) == wanted
    ledger.write_staged()
    found = [h for _, h in entry.walk(ledger.read_entries(index, index, 1 << 20)[0])]
    assert [(h.log_index, h.pos, h.body_len) for h in found] == [(index, wanted, asked)]
    crash(ledger)


def test_what_is_staged_lies_where_reserve_said(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    for size in (1, LARGEST, 500, 500, LARGEST - 600, 3):
        pos = ledger.reserve(size)
        assert ledger.reserve(size) == pos  # asking takes nothing
        assert unit_pos(ledger, ledger.stage(1, bytes(size))) == pos
    ledger.write_staged()
    crash(ledger)


def test_an_empty_record_is_refused_whatever_was_reserved(tmp_path: Path) -> None:
    ledger = open_small(tmp_path)
    with pytest.raises(CallerError, match="at least 1 byte"):
        ledger.stage(1, b"")
    assert ledger.staged_index == -1
    crash(ledger)


@pytest.mark.parametrize("sizes", [[1, 0], [1, LARGEST + 1], [-1]])
def test_of_a_run_that_does_not_fit_nothing_is_staged(tmp_path: Path, sizes: list[int]) -> None:
    ledger = open_small(tmp_path)
    with pytest.raises(CallerError, match="cannot be stored"):
        ledger.reserve_run(sizes)
    with pytest.raises(CallerError, match="cannot be stored"):
        ledger.stage_run(1, [bytes(max(size, 0)) for size in sizes])
    assert ledger.staged_index == -1
    assert ledger.write_staged() == 0
    crash(ledger)


class Model:
    """What a log must be: (index, term, pos, body) of each entry, by rules told in a few lines."""

    def __init__(self) -> None:
        self.begin = Begin(0, 0, -1, 0)
        self.written: list[tuple[int, int, int, bytes]] = []
        self.staged: list[tuple[int, int, int, bytes]] = []

    def place(self, body_bytes: int) -> int:
        size = entry.HEADER_BYTES + body_bytes
        known = self.written + self.staged
        end = known[-1][2] + entry.HEADER_BYTES + len(known[-1][3]) if known else self.begin.pos
        into = end % SEGMENT_BYTES
        return (
            end if into + size + entry.BLANK_BYTES <= SEGMENT_BYTES else end - into + SEGMENT_BYTES
        )

    def stage(self, term: int, body: bytes) -> int:
        index = self.begin.index + len(self.written) + len(self.staged)
        self.staged.append((index, term, self.place(len(body)), body))
        return index


SIZES = st.sampled_from([1, 10, 10, 11, 900, 900, 1000, LARGEST - 900, LARGEST])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["reserve", "stage", "stage", "copy"]), SIZES),
        st.tuples(st.just("stage_run"), st.lists(SIZES, min_size=1, max_size=6)),
        st.tuples(st.sampled_from(["write", "drop", "reset"]), st.just(0)),
        st.tuples(st.just("truncate"), st.integers(0, 8)),
    ),
    max_size=25,
)


class Run:
    """A ledger and its model, step by step."""

    def __init__(self, folder: Path) -> None:
        self.ledger = open_small(folder, disk=MortalDisk())
        self.model = Model()
        self.bodies = 0

    def body(self, size: int) -> bytes:
        self.bodies += 1
        return bytes([self.bodies % 251 + 1]) * size

    def step(self, name: str, what: int | list[int]) -> None:
        getattr(self, name)(what)
        model = self.model
        assert self.ledger.staged_index == model.begin.index - 1 + len(model.written + model.staged)
        for index, _, pos, body in model.staged:
            unit = self.ledger.index.get(index)
            assert unit is not None
            assert (unit.pos, unit.size) == (pos, entry.HEADER_BYTES + len(body))

    def reserve(self, size: int) -> None:
        assert self.ledger.reserve(size) == self.model.place(size)

    def stage(self, size: int) -> None:
        body = self.body(size)
        assert self.ledger.stage(1, body) == self.model.stage(1, body)

    def stage_run(self, sizes: list[int]) -> None:
        bodies = [self.body(size) for size in sizes]
        places = self.ledger.reserve_run(sizes)
        index = [self.model.stage(1, body) for body in bodies][-1]
        assert places == [pos for _, _, pos, _ in self.model.staged[-len(sizes) :]]
        assert self.ledger.stage_run(1, bodies) == index

    def copy(self, size: int) -> None:
        body, pos = self.body(size), self.model.place(size)
        index = self.model.stage(1, body)
        head, _ = entry.encode(index, 1, pos, body, self.ledger._staged_chain)
        data = b"before" + head + body
        self.ledger.stage_copy(memoryview(data), 6, entry.decode(data, 6))

    def write(self, _: int) -> None:
        assert self.ledger.write_staged() == len(self.model.staged)
        self.model.written += self.model.staged
        self.model.staged = []

    def drop(self, _: int) -> None:
        self.ledger.drop_staged()
        self.model.staged = []

    def truncate(self, back: int) -> None:
        """As a follower does: nothing of its own is staged then, though places were asked for."""
        if not self.model.staged:
            kept = max(0, len(self.model.written) - back)
            self.ledger.truncate(self.model.begin.index + kept)
            del self.model.written[kept:]

    def reset(self, _: int) -> None:
        self.ledger.reset(NEW_BEGIN)
        self.model = Model()
        self.model.begin = NEW_BEGIN

    def check(self) -> None:
        self.write(0)
        model, ledger = self.model, self.ledger
        assert entries(ledger) == [(term, body) for _, term, _, body in model.written]
        assert [unit_pos(ledger, m[0]) for m in model.written] == [m[2] for m in model.written]


def test_places_are_those_of_a_simple_model() -> None:
    @fuzzing(150)
    @given(STEPS)
    def each(steps: list[tuple[str, int | list[int]]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run = Run(Path(folder))
            try:
                for name, what in steps:
                    run.step(name, what)
                run.check()
            finally:
                crash(run.ledger)

    each()


# --- entries ----------------------------------------------------------------------------------

TERMS = st.integers(0, 2**40)
CHAINS = st.sampled_from([0, 0, 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)
BODIES = st.binary(min_size=1, max_size=40)


def outcome(read: Callable[..., Any], *args: Any) -> Any:
    """What is read, or the sentence that refuses it."""
    try:
        return read(*args)
    except (entry.EntryError, RecordError) as e:
        return e.remark


def checked(data: bytes, at: int, chain: int) -> tuple[Any, Any]:
    """`check` and `check_whole` of the entry at `at`."""
    header = entry.decode(data, at)
    body = data[at + entry.HEADER_BYTES : at + header.size]
    view = memoryview(data)
    return outcome(entry.check, header, body, chain), outcome(
        entry.check_whole, view, at, header, chain
    )


@fuzzing(80)
@given(st.integers(0, 2**62), TERMS, st.integers(0, 2**62), BODIES, CHAINS, st.binary(max_size=9))
def test_both_checks_agree_about_an_entry_and_about_every_flipped_byte_of_it(
    index: int, term: int, pos: int, body: bytes, chain: int, around: bytes
) -> None:
    head, value = entry.encode(index, term, pos, body, chain)
    data, at = around + head + body + around, len(around)
    assert checked(data, at, chain) == (value, value)
    for wrong in {chain ^ 1, 0} - {chain}:
        plain, quick = checked(data, at, wrong)
        assert plain == quick == f"entry {index}: it does not continue the entry before it"
    for n in range(len(head + body)):
        changed = bytearray(data)
        changed[at + n] ^= 0x40
        if isinstance(outcome(entry.decode, bytes(changed), at), str):
            continue  # no entry any more: nobody checks it
        plain, quick = checked(bytes(changed), at, chain)
        assert plain == quick
        assert isinstance(quick, str), f"byte {n} counts for nothing"


@fuzzing(80)
@given(BODIES, st.sampled_from([0, 5]), st.booleans(), st.booleans())
def test_both_checks_agree_about_entries_of_java(
    body: bytes, chain: int, has_chain: bool, has_crc: bool
) -> None:
    data = bytearray(entry.encode(7, 3, 4096, body, chain)[0] + body)
    if not has_chain:
        data[36:40] = bytes(4)
    if not has_crc:
        data[40:44] = bytes(4)
    plain, quick = checked(bytes(data), 0, chain)
    assert plain == quick
    if not has_chain and not has_crc and not chain:
        assert quick == 0


def walked_plainly(data: bytes) -> tuple[list[tuple[int, entry.EntryHeader]], str | None]:
    """`walk`, with `decode` for each header."""
    found: list[tuple[int, entry.EntryHeader]] = []
    at = 0
    while at < len(data):
        try:
            header = entry.decode(data, at)
        except entry.EntryError as e:
            return found, e.remark
        if at + header.size > len(data):
            return found, f"entry {header.log_index} is cut short"
        found.append((at, header))
        at += header.size
    return found, None


def walked(data: bytes) -> tuple[list[tuple[int, entry.EntryHeader]], str | None]:
    found: list[tuple[int, entry.EntryHeader]] = []
    try:
        for each in entry.walk(data):
            found.append(each)  # noqa: PERF402 (what came before the error counts)
    except entry.EntryError as e:
        return found, e.remark
    return found, None


def chained(bodies: list[bytes]) -> bytes:
    parts, pos, chain = [], 0, 0
    for index, body in enumerate(bodies):
        head, chain = entry.encode(index, 1, pos, body, chain)
        parts += [head, body]
        pos += entry.HEADER_BYTES + len(body)
    return b"".join(parts)


STRETCHES = st.lists(BODIES, max_size=4).map(chained)


@fuzzing(80)
@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=3).map(chained))
def test_walk_of_cut_or_flipped_data_gives_up_where_decode_does(data: bytes) -> None:
    whole = walked_plainly(data)
    assert walked(data) == whole
    assert whole[1] is None
    for cut in range(len(data)):
        assert walked(data[:cut]) == walked_plainly(data[:cut])
    for at in range(len(data)):
        for mask in (0x01, 0x80):
            changed = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
            assert walked(changed) == walked_plainly(changed)


def test_walk_of_mangled_data_gives_up_where_decode_does() -> None:
    @fuzzing(400)
    @given(mutated(STRETCHES))
    def each(data: bytes) -> None:
        assert walked(data) == walked_plainly(data)

    each()


@pytest.mark.parametrize("body_bytes", [0, -1, -8])
def test_walk_gives_up_at_an_entry_without_a_body(body_bytes: int) -> None:
    data = chained([b"one", b"two", b"three"])
    at = entry.HEADER_BYTES + 3
    sizes = (entry.HEADER_BYTES + body_bytes).to_bytes(4), body_bytes.to_bytes(4, signed=True)
    changed = data[: at + 4] + sizes[0] + data[at + 8 : at + 44] + sizes[1] + data[at + 48 :]
    found, refusal = walked(changed)
    assert (found, refusal) == walked_plainly(changed)
    assert len(found) == 1
    assert refusal is not None
    assert refusal.endswith(f"body {body_bytes}")


def test_nothing_at_all_is_walked_to_its_end() -> None:
    assert walked(b"") == ([], None)


# --- records ----------------------------------------------------------------------------------

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "topic": st.binary(max_size=130),
    "queue_id": INT32,
    "flag": INT32,
    "queue_offset": INT64,
    "physical_offset": INT64,
    "sys_flag": st.sampled_from([0, 1, 4, 8, 0xC, 0x301]),
    "born_timestamp_ms": INT64,
    "born_host": HOSTS,
    "store_timestamp_ms": INT64,
    "store_host": HOSTS,
    "reconsume_times": INT32,
    "prepared_transaction_offset": INT64,
    "body": st.binary(max_size=20),
    "properties": st.binary(max_size=40) | st.integers(200, 600).map(bytes),
}
RECORDS = st.fixed_dictionaries(FIELDS).map(lambda fields: encode_record(**fields))
V4_RECORDS = RECORDS.filter(lambda r: not r[39] & 0x30)


def peeked(data: Any, at: int) -> tuple[Any, Any]:
    """What the record at `at` is with the quick part of `peek_record`, and without it."""
    quick = outcome(peek_record, data, at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message_record, "_peek_v4", lambda _buf, _at: None)
        return quick, outcome(peek_record, data, at)


@fuzzing(80)
@given(RECORDS, st.binary(max_size=5), st.binary(max_size=5), st.booleans())
def test_a_record_is_seen_the_same_by_the_quick_part(
    record: bytes, before: bytes, behind: bytes, is_view: bool
) -> None:
    data = before + record + behind
    quick, plain = peeked(memoryview(data) if is_view else data, len(before))
    assert quick == plain
    assert isinstance(quick, RecordPeek)
    assert (quick.size, type(quick.topic), type(quick.properties)) == (len(record), bytes, bytes)
    for at in (-1, len(data), len(data) + 3):
        quick, plain = peeked(data, at)
        assert isinstance(quick, str)
        assert quick == plain


@fuzzing(80)
@given(V4_RECORDS)
def test_a_cut_or_flipped_record_is_seen_the_same_by_the_quick_part(record: bytes) -> None:
    fixed = 88 + 1  # up to the body; what is flipped in long texts matters to nobody
    for cut in (*range(min(len(record), 100)), len(record) - 1):
        quick, plain = peeked(record[:cut], 0)
        assert isinstance(quick, str)
        assert quick == plain
    for at in (*range(fixed), *range(max(0, len(record) - 80), len(record))):
        for mask in (0x01, 0x10, 0x80):
            changed = record[:at] + bytes([record[at] ^ mask]) + record[at + 1 :]
            quick, plain = peeked(changed + bytes(200), 0)
            assert quick == plain


def test_a_mangled_record_is_seen_the_same_by_the_quick_part() -> None:
    @fuzzing(400)
    @given(mutated(st.lists(RECORDS, min_size=1, max_size=2).map(b"".join)), st.integers(0, 9))
    def each(data: bytes, at: int) -> None:
        for start in {0, at}:
            quick, plain = peeked(data, start)
            assert quick == plain

    each()


def test_the_quick_part_is_what_reads_nearly_all_records() -> None:
    """Else the tests above compare a thing with itself."""
    host = bytes(8)
    record = encode_record(
        topic=b"T", queue_id=1, flag=0, queue_offset=2, physical_offset=3, sys_flag=0,
        born_timestamp_ms=4, born_host=host, store_timestamp_ms=5, store_host=host,
        reconsume_times=0, prepared_transaction_offset=0, body=b"b", properties=b"p",
    )  # fmt: skip
    found = message_record._peek_v4(record, 0)
    assert found is not None
    assert (found.topic, found.properties, found.store_timestamp_ms) == (b"T", b"p", 5)
