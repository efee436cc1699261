"""Key-value pairs survive a restart, and a broken file is named."""

import asyncio
import json

import pytest

from ledgermq.namesrv.errors import KvStoreError
from ledgermq.namesrv.kv_config import MAX_TEXT_BYTES, KvConfig
from ledgermq.remoting.errors import PeerError


def loaded(path):
    kv = KvConfig(path)
    kv.load()
    return kv


async def test_pairs_are_there_after_a_restart_in_upstreams_format(tmp_path):
    path = tmp_path / "namesrv" / "kvConfig.json"
    kv = loaded(path)
    await kv.put("ORDER_TOPIC_CONFIG", "T", "a:4;b:4")
    await kv.put("ns", "k", "中文")

    assert json.loads(path.read_text()) == {
        "configTable": {"ORDER_TOPIC_CONFIG": {"T": "a:4;b:4"}, "ns": {"k": "中文"}}
    }
    again = loaded(path)
    assert again.get("ORDER_TOPIC_CONFIG", "T") == "a:4;b:4"
    assert again.namespace("ns") == {"k": "中文"}


async def test_a_deleted_pair_stays_deleted(tmp_path):
    path = tmp_path / "kvConfig.json"
    kv = loaded(path)
    await kv.put("ns", "k", "v")
    await kv.put("ns", "l", "w")
    await kv.delete("ns", "k")
    assert loaded(path).namespace("ns") == {"l": "w"}

    await kv.delete("ns", "l")
    await kv.delete("ns", "never there")

    assert json.loads(path.read_text()) == {"configTable": {}}


async def test_what_is_not_there(tmp_path):
    kv = loaded(tmp_path / "kvConfig.json")

    assert kv.get("ns", "k") is None
    assert kv.namespace("ns") == {}


async def test_changes_at_the_same_time_are_all_written(tmp_path):
    path = tmp_path / "kvConfig.json"
    kv = loaded(path)

    await asyncio.gather(*(kv.put("ns", f"k{i}", "v") for i in range(20)))

    assert len(loaded(path).namespace("ns")) == 20
    assert [p.name for p in tmp_path.iterdir()] == ["kvConfig.json"], "a .tmp was left behind"


async def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "kvConfig.json"
    kv = loaded(path)
    await kv.put("ns", "k", "old")
    (tmp_path / "kvConfig.json.tmp").mkdir()

    with pytest.raises(OSError, match="directory"):
        await kv.put("ns", "k", "new")

    assert loaded(path).get("ns", "k") == "old"


async def test_bounds(tmp_path):
    kv = KvConfig(tmp_path / "kvConfig.json", max_entries=1)
    await kv.put("ns", "k", "v")

    with pytest.raises(PeerError, match="raise maxKvEntries"):
        await kv.put("other", "k", "v")
    with pytest.raises(PeerError, match=f"more than {MAX_TEXT_BYTES} bytes"):
        await kv.put("ns", "k", "x" * MAX_TEXT_BYTES)

    await kv.put("ns", "k", "changed")
    assert kv.get("ns", "k") == "changed"


@pytest.mark.parametrize(
    "text",
    ["{", '{"configTable": [1]}', '{"configTable": {"ns": {"k": 1}}}'],
    ids=["cut short", "no table", "a number for a text"],
)
def test_a_broken_file_is_named_with_the_next_step(tmp_path, text):
    path = tmp_path / "kvConfig.json"
    path.write_text(text)

    with pytest.raises(KvStoreError, match=r"kvConfig\.json is no kvConfig\.json: .*move it away"):
        loaded(path)


def test_a_folder_in_its_place_is_named(tmp_path):
    with pytest.raises(KvStoreError, match=r"cannot read .*kvConfigPath"):
        loaded(tmp_path)


def test_an_empty_file_is_an_empty_table(tmp_path):
    path = tmp_path / "kvConfig.json"
    path.write_text("")

    assert loaded(path).namespace("ns") == {}
