"""Header classes: lenient reading, strict refusals, writing."""

import inspect
import json
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ledgermq.remoting import header_json
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.base import Header
from ledgermq.remoting.headers.client import HeartbeatResponse, UnregisterClientRequest
from ledgermq.remoting.headers.offset import InvokeResetOffsetRequest
from ledgermq.remoting.headers.pull import PullMessageRequest
from ledgermq.remoting.headers.query import QueryMessageRequest, ViewMessageRequest
from ledgermq.remoting.headers.send import (
    SendMessageRequest,
    SendMessageRequestV2,
    SendMessageResponse,
)
from ledgermq.remoting.headers.topic import TopicRequest

MODULES = (
    "send", "transaction", "pull", "offset", "client", "topic", "broker", "namesrv", "query",
)  # fmt: skip
CLASSES: list[type[Header]] = [
    cls
    for module in MODULES
    for _, cls in inspect.getmembers(
        import_module(f"ledgermq.remoting.headers.{module}"), inspect.isclass
    )
    if issubclass(cls, Header) and cls is not Header
]

LONG = {
    "producerGroup": "PG",
    "topic": "T",
    "defaultTopic": "TBW102",
    "defaultTopicQueueNums": "4",
    "queueId": "2",
    "sysFlag": "0",
    "bornTimestamp": "1795252810557",
    "flag": "0",
    "properties": "KEYS\x01k1",
    "reconsumeTimes": "0",
    "unitMode": "false",
    "batch": "true",
}
SHORT = dict(zip("abcdefghijkm", LONG.values(), strict=True))


def test_long_and_short_send_headers_read_the_same() -> None:
    by_long, by_short = SendMessageRequest.from_ext(LONG), SendMessageRequestV2.from_ext(SHORT)
    assert msgspec.structs.asdict(by_long) == msgspec.structs.asdict(by_short)
    assert by_long.producer_group == "PG"
    assert by_long.queue_id == 2
    assert by_long.properties == "KEYS\x01k1"
    assert by_long.batch is True
    assert by_long.max_reconsume_times is None


def test_writing_uses_wire_names_and_leaves_none_out() -> None:
    assert SendMessageRequestV2.from_ext(SHORT).to_ext() == SHORT
    assert SendMessageRequest.from_ext(LONG).to_ext() == LONG


def test_short_header_shares_every_field_of_the_long_one() -> None:
    assert SendMessageRequestV2.__struct_fields__ == SendMessageRequest.__struct_fields__
    assert all(len(name) == 1 for name in SendMessageRequestV2.__struct_encode_fields__)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False)],
)
def test_booleans_as_clients_send_them(text: str, value: bool) -> None:
    assert SendMessageRequest.from_ext({**LONG, "unitMode": text}).unit_mode is value


def test_unknown_fields_are_ignored() -> None:
    assert TopicRequest.from_ext({"topic": "t", "bname": "b", "lo": "true"}).topic == "t"


def test_a_topic_named_null_stays_a_topic() -> None:
    assert TopicRequest.from_ext({"topic": "null"}).topic == "null"


def test_an_empty_optional_number_is_absent() -> None:
    header = SendMessageRequest.from_ext({**LONG, "maxReconsumeTimes": "", "flag": "5"})
    assert header.max_reconsume_times is None
    assert header.flag == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"topic": None}, "'topic' is missing", id="missing"),
        pytest.param({"queueId": "x"}, "'queueId' cannot be 'x'", id="no number"),
        pytest.param({"queueId": ""}, "'queueId' cannot be ''", id="empty mandatory number"),
        pytest.param({"queueId": "1.5"}, "'queueId' cannot be '1.5'", id="fraction"),
        pytest.param({"queueId": "2147483648"}, "'queueId' cannot be", id="over 32 bits"),
        pytest.param({"queueId": "-2147483649"}, "'queueId' cannot be", id="under 32 bits"),
        pytest.param({"bornTimestamp": str(2**63)}, "'bornTimestamp' cannot be", id="over 64"),
        pytest.param({"reconsumeTimes": "x"}, "'reconsumeTimes' cannot", id="optional number"),
        pytest.param({"batch": "maybe"}, "'batch' cannot be 'maybe'", id="no boolean"),
    ],
)
def test_a_refusal_names_class_and_field(changes: dict[str, str | None], message: str) -> None:
    ext = {k: v for k, v in {**LONG, **changes}.items() if v is not None}
    with pytest.raises(PeerError, match=message) as caught:
        SendMessageRequest.from_ext(ext)
    assert caught.value.code == 1
    assert caught.value.remark.startswith("SendMessageRequest: field")


def test_names_that_are_no_camel_case() -> None:
    assert UnregisterClientRequest(client_id="c").to_ext() == {"clientID": "c"}
    assert HeartbeatResponse().to_ext() == {
        "IS_SUPPORT_HEART_BEAT_V2": "true",
        "IS_SUB_CHANGE": "true",
    }
    query = QueryMessageRequest.from_ext(
        {
            "topic": "t",
            "key": "k",
            "maxNum": "5",
            "beginTimestamp": "0",
            "endTimestamp": str(2**63 - 1),
            "_UNIQUE_KEY_QUERY": "true",
        }
    )
    assert query.unique_key_query
    reply = SendMessageResponse(msg_id="m", queue_id=1, queue_offset=2, msg_region="r")
    assert reply.to_ext() == {
        "msgId": "m",
        "queueId": "1",
        "queueOffset": "2",
        "MSG_REGION": "r",
    }


def test_defaults_of_a_reset_request() -> None:
    header = InvokeResetOffsetRequest.from_ext(
        {"topic": "t", "group": "g", "timestamp": "-1", "isForce": "true"}
    )
    assert (header.queue_id, header.offset) == (-1, -1)


def _values(field: msgspec.structs.FieldInfo) -> st.SearchStrategy[object]:
    kind = str(field.type)
    if "bool" in kind:
        value: st.SearchStrategy[object] = st.booleans()
    elif "int" in kind:
        bits = 31 if str(2**31 - 1) in kind else 63
        value = st.integers(-(2**bits), 2**bits - 1)
    else:
        value = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    return st.none() | value if "None" in kind else value


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
@settings(max_examples=15)
@given(data=st.data())
def test_every_header_survives(cls: type[Header], data: st.DataObject) -> None:
    values = {f.name: data.draw(_values(f), f.name) for f in msgspec.structs.fields(cls)}
    header = cls(**values)
    ext = header.to_ext()
    assert all(type(v) is str for v in ext.values())
    assert cls.from_ext(ext) == header


@given(
    st.sampled_from(CLASSES),
    st.dictionaries(st.sampled_from([*LONG, *SHORT, "offset"]), st.text(max_size=5)),
)
def test_random_fields_give_a_header_or_a_peer_error(
    cls: type[Header], ext: dict[str, str]
) -> None:
    with suppress(PeerError):
        cls.from_ext(ext)


def test_a_pull_of_an_old_client() -> None:
    header = PullMessageRequest.from_ext(
        {
            "consumerGroup": "g",
            "topic": "t",
            "queueId": "0",
            "queueOffset": "7",
            "maxMsgNums": "32",
            "sysFlag": "2",
            "commitOffset": "0",
            "suspendTimeoutMillis": "15000",
            "subVersion": "0",
        }
    )
    assert header.expression_type is None
    assert header.queue_offset == 7


def test_a_refusal_quotes_the_beginning_of_a_long_value() -> None:
    with pytest.raises(PeerError) as caught:
        ViewMessageRequest.from_ext({"offset": "\0" * 1_000_000})
    assert len(caught.value.remark) < 1000
    assert "1000000 characters" in caught.value.remark


# --- read at once, or field by field ----------------------------------------------------------

_EXT = st.dictionaries(
    st.sampled_from([*"abcdefghijklmn", "x"]),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.sampled_from(["", "0", "1", "-7", "true", "2147483648", "T", "ü\x01v\x02", "1.0"]),
        st.lists(st.just(1), max_size=1),
    ),
    max_size=14,
)


def _outcome(read: Callable[[], Header]) -> object:
    try:
        return read()
    except PeerError as e:
        return type(e), e.code, e.remark


@given(ext=_EXT, minimal=st.booleans())
def test_a_header_reads_the_same_whether_its_fields_were_read_before(
    ext: dict[str, object], minimal: bool
) -> None:
    # What the class does not know is not looked at.
    assume(not isinstance(ext.get("x"), list))
    if minimal:
        ext = {**dict.fromkeys("abc", "t"), **dict.fromkeys("defgh", "3"), **ext}
    raw = json.dumps({"code": 310, "extFields": ext}).encode()
    fresh, read = header_json.decode(raw, b""), header_json.decode(raw, b"")
    assert _outcome(lambda: SendMessageRequestV2.of(fresh)) == _outcome(
        lambda: SendMessageRequestV2.from_ext(read.ext)
    )


def test_one_field_is_found_without_the_others() -> None:
    command = header_json.decode(b'{"code":310,"extFields":{"a":"x","lmqHop":"1"}}', b"")
    assert command.field("lmqClient") is None
    assert command.raw_ext, "nobody has read them"
    assert command.field("lmqHop") == "1"
    assert (command.raw_ext, command.ext) == (b"", {"a": "x", "lmqHop": "1"})
