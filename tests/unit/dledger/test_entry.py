"""The 48-byte header, byte by byte."""

from zlib import crc32

import pytest

from ledgermq.dledger.store import entry

BODY = b"the record"


def header_bytes() -> bytes:
    return entry.encode(index=7, term=3, pos=4096, body=BODY, chain=5)[0]


@pytest.mark.parametrize(
    ("at", "size", "value"),
    [
        pytest.param(0, 4, 1, id="magic"),
        pytest.param(4, 4, 48 + len(BODY), id="size of header and body"),
        pytest.param(8, 8, 7, id="index"),
        pytest.param(16, 8, 3, id="term"),
        pytest.param(24, 8, 4096, id="pos"),
        pytest.param(32, 4, 0, id="channel"),
        pytest.param(40, 4, crc32(BODY), id="checksum of the body"),
        pytest.param(44, 4, len(BODY), id="length of the body"),
    ],
)
def test_layout(at: int, size: int, value: int) -> None:
    assert int.from_bytes(header_bytes()[at : at + size]) == value


def test_the_header_has_48_bytes_and_decodes() -> None:
    raw = header_bytes()
    assert len(raw) == entry.HEADER_BYTES == 48
    header = entry.decode(raw)
    assert (header.log_index, header.term, header.pos, header.size) == (7, 3, 4096, 58)


def test_the_chain_covers_the_entry_before() -> None:
    raw, chain = entry.encode(7, 3, 4096, BODY, 5)
    header = entry.decode(raw)
    assert entry.check(header, BODY, 5) == chain == header.chain_crc
    with pytest.raises(entry.EntryError, match="does not continue"):
        entry.check(header, BODY, 6)
    with pytest.raises(entry.EntryError, match="checksum differs"):
        entry.check(header, b"another!!!", 5)


def test_an_entry_of_java_has_no_checksums() -> None:
    header = entry.decode(header_bytes())._replace(chain_crc=0, body_crc=0)
    assert entry.check(header, b"anything", 0) == 0
    with pytest.raises(entry.EntryError, match="checksum differs"):
        entry.check(header, b"anything", 5)  # none of those follows one of ours


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param(header_bytes()[:47], "47 bytes are no entry header", id="too short"),
        pytest.param(bytes(48), "magic 0", id="zeros"),
        pytest.param(b"\0\0\0\2" + header_bytes()[4:], "magic 2", id="another magic"),
        pytest.param(header_bytes()[:44] + bytes(4), "body 0", id="no body"),
        pytest.param(header_bytes()[:44] + b"\0\0\0\x09", "body 9", id="sizes that differ"),
        pytest.param(header_bytes()[:44] + b"\xff\xff\xff\xff", "body -1", id="a negative size"),
    ],
)
def test_what_is_no_entry(raw: bytes, text: str) -> None:
    with pytest.raises(entry.EntryError, match=text):
        entry.decode(raw)


def test_walk_gives_whole_entries_only() -> None:
    raw = header_bytes() + BODY
    assert [at for at, _ in entry.walk(raw + raw)] == [0, 58]
    with pytest.raises(entry.EntryError, match="cut short"):
        list(entry.walk(raw + raw[:-1]))


def test_the_marker_of_a_segments_end() -> None:
    assert entry.blank(300) == b"\xff\xff\xff\xff\x00\x00\x01\x2c"
    assert entry.is_blank(entry.blank(8) + b"more")
    assert not entry.is_blank(entry.blank(8)[:7])
    assert not entry.is_blank(header_bytes())
