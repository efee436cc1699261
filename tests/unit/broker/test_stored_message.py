"""A record read for storing it again."""

import pytest

from ledgermq.broker.stored_message import offset_id, read_stored
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message import SysFlag, decode_properties, pack_host

from .fakes import record


@pytest.mark.parametrize("born", ["10.0.0.9:5000", "[2001:db8::1]:5000"])
@pytest.mark.parametrize("store", ["10.0.0.3:30931", "[2001:db8::3]:30931"])
@pytest.mark.parametrize("name", ["T", "%RETRY%" + "g" * 121])
def test_every_layout(born: str, store: str, name: str) -> None:
    data = record(
        name,
        4711,
        properties={"TAGS": "TagA"},
        born_host=born,
        store_host=store,
        reconsume_times=3,
        prepared_transaction_offset=99,
    )
    message = read_stored(data)
    assert (message.topic, message.queue_id, message.body) == (name, 2, b"hello")
    assert decode_properties(message.properties) == {"TAGS": "TagA"}
    assert (message.flag, message.born_timestamp_ms) == (17, 1_700_000_000_123)
    assert message.born_host == pack_host(born)
    assert (message.reconsume_times, message.prepared_transaction_offset) == (3, 99)
    assert offset_id(data) == (pack_host(store) + (4711).to_bytes(8)).hex().upper()


def test_a_body_that_this_broker_cannot_read_stays_as_it_is() -> None:
    data = record("T", 0, body=b"not lz4", sys_flag=SysFlag.COMPRESSED | SysFlag.COMPRESSION_LZ4)
    message = read_stored(data)
    assert message.body == b"not lz4"
    assert message.sys_flag == SysFlag.COMPRESSED | SysFlag.COMPRESSION_LZ4


def test_no_record() -> None:
    with pytest.raises(PeerError):
        read_stored(b"x" * 200)
