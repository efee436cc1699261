"""The key index of the captured stores: made again from the commitlog, byte for byte."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.features.query import QueryService, register
from ledgermq.broker.store.index_file import IndexFile, Shape
from ledgermq.broker.store.key_index import Found, KeyIndex
from ledgermq.broker.store.record_keys import keys_in
from ledgermq.dledger.disk import OsDisk
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.message import decode_records, peek_record
from ledgermq.remoting.registry import ProcessorRegistry
from tests.golden.captured import (
    STORES,
    CapturedFrame,
    files,
    frames,
    manifest,
    messages,
    rebuild,
)
from tests.golden.test_stores import records

EVER = (0, 2**63 - 1)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def shape(store: str) -> Shape:
    settings = manifest(store)
    return Shape(settings["maxHashSlotNum"], settings["maxIndexNum"])


def put_all(index: KeyIndex, store: str, begin_pos: int = 0) -> None:
    for content, at, offset in records(store):
        if offset >= begin_pos:
            place = (offset, at, at + peek_record(content, at).size)
            index.put(keys_in(content, [place]).keys, offset)


@pytest.mark.parametrize("store", STORES)
async def test_made_from_the_log_it_is_what_java_made(
    store: str, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    slots, entries = shape(store)
    index = KeyIndex(tmp_path, OsDisk(), threads, slots=slots, entries=entries)
    assert await index.recover(0, 1 << 60, trusted=True) == 0
    put_all(index, store)
    await index.close()
    wanted = [content for _, content in files(store, "index")]
    ours = [(tmp_path / name).read_bytes() for name in OsDisk().names(tmp_path)]
    assert len(ours) == len(wanted) > 1
    for mine, java in zip(ours, wanted, strict=True):
        assert len(mine) == shape(store).size_bytes
        assert mine.rstrip(b"\0") == java.rstrip(b"\0")


@pytest.mark.parametrize("store", STORES)
async def test_javas_files_are_taken_over_and_gone_on_with(
    store: str, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    rebuild(store, tmp_path)
    paths = sorted((tmp_path / "index").iterdir())
    before = [path.read_bytes() for path in paths]
    headers = [IndexFile(path, OsDisk(), shape(store)).header() for path in paths]
    slots, entries = shape(store)
    index = KeyIndex(tmp_path / "index", OsDisk(), threads, slots=slots, entries=entries)
    position = await index.recover(0, 1 << 60, trusted=True)
    assert position == headers[-1].end_pos
    put_all(index, store, position)
    await index.flush()
    assert [path.read_bytes() for path in paths] == before

    expected: dict[tuple[str, str], list[int]] = {}
    for m in messages(store):
        if m["sysFlag"] & 0xC == 0xC:
            continue
        for key in filter(None, [m["properties"].get("UNIQ_KEY"), *(m["keys"] or "").split(" ")]):
            expected.setdefault((m["topic"], key), []).insert(0, m["commitLogOffset"])
    assert len(expected) > 30
    for (topic, key), offsets in expected.items():
        found = await index.query(topic, key, 64, *EVER)
        assert found == Found(offsets, headers[-1].end_ms, headers[-1].end_pos)
    assert (await index.query("GoldA", "no such key", 64, *EVER)).offsets == []
    await index.close()


def exchanges() -> list[tuple[RemotingCommand, CapturedFrame]]:
    return [(f.request, f) for f in frames() if f.request and f.request.code == 12]


class _Captured:
    """What Java's index said then."""

    def __init__(self, reply: RemotingCommand) -> None:
        self.offsets = [m.physical_offset for m in decode_records(reply.body)]
        self.ext = reply.ext

    async def query(self, *_: Any) -> Found:
        ends = [int(self.ext[f"indexLastUpdate{n}"]) for n in ("Timestamp", "Phyoffset")]
        return Found(self.offsets[::-1], *ends)


@pytest.mark.parametrize(("request_", "reply"), exchanges(), ids=lambda v: getattr(v, "name", ""))
async def test_a_query_is_answered_as_java_answered(
    request_: RemotingCommand, reply: CapturedFrame
) -> None:
    wanted = reply.command
    index = _Captured(wanted)

    async def read_record(offset: int) -> bytes | None:
        return wanted.body if offset in index.offsets else None

    registry = ProcessorRegistry()
    register(registry, QueryService(index, read_record))
    handler: Any = registry.get(12)
    nobody: Connection | None = None
    ours = await handler(nobody, request_)
    assert (ours.code, ours.ext, ours.body) == (wanted.code, wanted.ext, wanted.body)
    assert (ours.remark or "") == (wanted.remark or "")
