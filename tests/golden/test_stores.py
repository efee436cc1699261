"""Captured stores: every commitlog record, read and written again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledgermq.remoting.message import (
    MAGIC_BLANK,
    RecordError,
    decode_record,
    encode_record,
    host_text,
    java_hash,
    pack_host,
    parse_offset_msg_id,
    peek_record,
)
from tests.golden.captured import STORES, digest, files, manifest, messages, rebuild

DLEDGER_HEADER_BYTES = 48


def records(store: str) -> Iterator[tuple[bytes, int, int]]:
    """(file content, place in it, physical offset) of every record, in log order."""
    header = DLEDGER_HEADER_BYTES if manifest(store)["kind"] == "dledger" else 0
    for base, content in files(store, manifest(store)["commitlog"]):
        at = 0
        while at + 8 <= len(content):
            first, second = content[at : at + 4], content[at + 4 : at + 8]
            if first in (b"\xff\xff\xff\xff", b"\0\0\0\0") or int.from_bytes(second) == MAGIC_BLANK:
                break
            yield content, at + header, base + at + header
            at += header + peek_record(content, at + header).size


@pytest.mark.parametrize("store", STORES)
def test_every_record_reads_as_the_independent_reader_read_it(store: str) -> None:
    expected = messages(store)
    found = list(records(store))
    assert len(found) == len(expected)
    for (content, at, offset), want in zip(found, expected, strict=True):
        message = decode_record(content, at)
        assert message.physical_offset == offset
        assert parse_offset_msg_id(want["offsetMsgId"]).offset == offset
        assert message.msg_id == (want["msgId"] or want["offsetMsgId"])
        assert _as_json(message) == {name: want[name] for name in _as_json(message)}
        if want["body"] is not None:
            assert message.body.hex() == want["body"]


def _as_json(message: Any) -> dict[str, Any]:
    return {
        "topic": message.topic,
        "queueId": message.queue_id,
        "queueOffset": message.queue_offset,
        "commitLogOffset": message.physical_offset,
        "storeSize": message.store_size,
        "msgId": message.properties.get("UNIQ_KEY"),
        "offsetMsgId": message.offset_msg_id,
        "tags": message.tag or None,
        "keys": " ".join(message.keys) or None,
        "flag": message.flag,
        "sysFlag": message.sys_flag,
        "reconsumeTimes": message.reconsume_times,
        "preparedTransactionOffset": message.prepared_transaction_offset,
        "bornTimestamp": message.born_timestamp_ms,
        "storeTimestamp": message.store_timestamp_ms,
        "bornHost": message.born_host,
        "storeHost": message.store_host,
        "body_sha256": hashlib.sha256(message.body).hexdigest(),
        "properties": message.properties,
    }


@pytest.mark.parametrize("store", STORES)
def test_every_record_is_written_back_byte_for_byte(store: str) -> None:
    for (content, at, _), want in zip(records(store), messages(store), strict=True):
        raw = content[at : at + want["storeSize"]]
        body_at = 88
        written = encode_record(
            topic=want["topic"].encode(),
            queue_id=want["queueId"],
            flag=want["flag"],
            queue_offset=want["queueOffset"],
            physical_offset=want["commitLogOffset"],
            sys_flag=want["sysFlag"],
            born_timestamp_ms=want["bornTimestamp"],
            born_host=pack_host(want["bornHost"]),
            store_timestamp_ms=want["storeTimestamp"],
            store_host=pack_host(want["storeHost"]),
            reconsume_times=want["reconsumeTimes"],
            prepared_transaction_offset=want["preparedTransactionOffset"],
            body=raw[body_at : body_at + want["stored_body_len"]],
            properties=want["properties_raw"].encode(),
        )
        assert written == raw


@pytest.mark.parametrize("store", STORES)
def test_peek_agrees_with_the_whole_record(store: str) -> None:
    for (content, at, _), want in zip(records(store), messages(store), strict=True):
        peek = peek_record(memoryview(content), at, check_crc=True)
        assert peek == (
            want["storeSize"],
            want["queueId"],
            want["queueOffset"],
            want["commitLogOffset"],
            want["sysFlag"],
            want["storeTimestamp"],
            want["preparedTransactionOffset"],
            want["topic"].encode(),
            want["properties_raw"].encode(),
        )


@pytest.mark.parametrize("store", STORES)
def test_one_changed_body_byte_is_noticed(store: str) -> None:
    content, at, _ = next(records(store))
    damaged = bytearray(content)
    damaged[at + 88] ^= 1
    with pytest.raises(RecordError, match="CRC"):
        decode_record(damaged, at)
    with pytest.raises(RecordError, match="CRC"):
        peek_record(damaged, at, check_crc=True)


@pytest.mark.parametrize("store", STORES)
def test_queue_units_hold_the_hash_of_the_tags(store: str) -> None:
    by_offset = {m["commitLogOffset"]: m for m in messages(store)}
    checked = 0
    for folder in manifest(store)["dirs"]:
        if not folder.startswith("consumequeue/Gold"):
            continue
        for _, content in files(store, folder):
            for at in range(0, len(content) - 19, 20):
                if content[at + 8 : at + 12] == bytes(4):
                    break  # nothing written from here on
                tags = by_offset[int.from_bytes(content[at : at + 8])]["tags"]
                code = int.from_bytes(content[at + 12 : at + 20], signed=True)
                assert code == (java_hash(tags) if tags else 0)
                checked += 1
    assert checked > 20


@pytest.mark.parametrize("store", STORES)
def test_the_captured_bytes_are_those_of_the_manifest(store: str, tmp_path: Path) -> None:
    rebuild(store, tmp_path)
    for entry in manifest(store)["files"]:
        path = tmp_path / entry["path"]
        assert path.stat().st_size == entry["size"]
        if entry["size"] < 1 << 20:
            assert digest(path.read_bytes(), entry["size"]) == entry["sha256"]
    assert host_text(pack_host("127.0.0.1:10911")) == "127.0.0.1:10911"
