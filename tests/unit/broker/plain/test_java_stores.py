"""Stores that a Java broker has written, opened by a master of ours."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ledgermq.remoting.message import decode_records
from tests.golden.captured import messages, rebuild
from tests.support.plain import PlainBroker

from .plain_logs import open_plain, put


@pytest.mark.parametrize("kind", ["clean", "kill9"])
@pytest.mark.parametrize("queues", [True, False])
async def test_a_store_of_java_is_served(tmp_path: Path, kind: str, queues: bool) -> None:
    store = f"plain-4.9.5/{kind}"
    broker = PlainBroker(tmp_path)
    description = rebuild(store, broker.folder)
    sizes = {
        "mapped_file_size_commit_log": _size(description, "commitlog/"),
        "mapped_file_size_consume_queue": _size(description, "consumequeue/"),
    }
    if not queues:
        shutil.rmtree(broker.folder / "consumequeue")
    await broker.start(**sizes)
    wanted: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for message in messages(store):
        if message["sysFlag"] & 0xC not in (0x4, 0xC):
            wanted.setdefault((message["topic"], message["queueId"]), []).append(message)
    rows = {(r.topic, r.queue_id): r for r in broker.master.dispatcher.queues.rows()}
    assert rows.keys() == wanted.keys()
    for (topic, queue_id), expected in wanted.items():
        row = rows[topic, queue_id]
        assert (row.min_offset, row.max_offset) == (0, len(expected))
        reader = broker.app.reader
        found = await reader.find_later(
            topic, queue_id, 0, max_count=10_000, max_bytes=1 << 30, codes=None
        )
        data = await reader.read(topic, queue_id, found)
        assert data is not None
        assert [m.physical_offset for m in decode_records(data)] == [
            m["commitLogOffset"] for m in expected
        ]
        assert [m.queue_offset for m in decode_records(data)] == list(range(len(expected)))
    await broker.restart(kill=True)
    assert {(r.topic, r.queue_id): r for r in broker.master.dispatcher.queues.rows()} == rows
    await broker.__aexit__()


def _size(description: dict[str, Any], folder: str) -> int:
    sizes: set[int] = {f["size"] for f in description["files"] if f["path"].startswith(folder)}
    (size,) = sizes
    return size


async def test_a_topic_that_java_deleted_and_made_again_begins_anew(tmp_path: Path) -> None:
    broker = PlainBroker(tmp_path)
    broker.folder.mkdir()
    log, _ = open_plain(broker.folder, segment_bytes=64 << 10)
    for offset in range(5):
        put(log, [b"old%d" % offset], queue_offset=offset, topic=b"T", queue_id=0)
    for offset in range(3):
        put(log, [b"new%d" % offset], queue_offset=offset, topic=b"T", queue_id=0)
    log.sync()
    log.close()
    await broker.start()
    assert await broker.bodies() == [b"new0", b"new1", b"new2"]
    assert await broker.send("T", b"x") == 3
    await broker.restart(kill=True)
    assert len(await broker.bodies()) == 4
    await broker.__aexit__()
