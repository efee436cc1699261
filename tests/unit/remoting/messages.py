"""What tests of messages share: records with every field set, and strategies for them."""

from typing import Any

from hypothesis import strategies as st

from ledgermq.remoting.message import encode_record, pack_host

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Separators cannot be in a property; empty values are dropped.
WORD = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x01\x02"), min_size=1, max_size=12
)
PROPERTIES = st.dictionaries(WORD, WORD, max_size=4)
HOSTS = st.one_of(
    st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 65535)),
    st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 65535)),
).map(lambda h: h[0] + h[1].to_bytes(4))


def fields(**changes: Any) -> dict[str, Any]:
    """Arguments of `encode_record`, all different."""
    return {
        "topic": b"GoldTopic",
        "queue_id": 3,
        "flag": 7,
        "queue_offset": 11,
        "physical_offset": 4096,
        "sys_flag": 0,
        "born_timestamp_ms": 1_795_259_755_132,
        "born_host": pack_host("127.0.0.1:48026"),
        "store_timestamp_ms": 1_795_259_755_140,
        "store_host": pack_host("10.0.0.2:10911"),
        "reconsume_times": 2,
        "prepared_transaction_offset": 99,
        "body": b"hello",
        "properties": b"TAGS\x01TagA\x02KEYS\x01k1 k2\x02UNIQ_KEY\x01ID\x02",
        **changes,
    }


def record(**changes: Any) -> bytes:
    """A record with those fields."""
    return encode_record(**fields(**changes))
