"""The reader of fastjson's dialect."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.fastjson import FastJsonError, loads, size_within

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def dialect(value: object) -> str:
    """Write as fastjson does: integer-like keys bare, keys that are JSON objects as objects."""
    if isinstance(value, dict):
        items = (f"{_key(k)}:{dialect(v)}" for k, v in value.items())
        return "{" + ",".join(items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dialect, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if key[:1] in "{-0123456789" and key else json.dumps(key, ensure_ascii=False)


@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_standard_documents_read_as_json_does(
    document: object, ascii_only: bool, indent: int | str | None
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    assert loads(text.encode()) == document


@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_the_tolerant_reader_reads_standard_documents_too(
    document: object, ascii_only: bool, indent: int | str | None
) -> None:
    text = json.dumps({"d": document}, ensure_ascii=ascii_only, indent=indent)
    # One bare key is enough for the slow way.
    assert loads("{1:" + text + "}") == {"1": {"d": document}}


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.dictionaries(
            st.integers(-(2**63), 2**63 - 1).map(str)
            | st.builds(
                lambda t, q: json.dumps(
                    {"queueId": q, "topic": t}, separators=(",", ":"), ensure_ascii=False
                ),
                TEXT,
                st.integers(0, 99),
            ),
            inner,
            max_size=3,
        ),
        max_leaves=10,
    )
)
def test_the_dialect_reads_as_the_same_document_with_quoted_keys(document: object) -> None:
    assert loads(dialect(document)) == document


def test_integer_keys_become_digits() -> None:
    assert loads(b'{0:"a", -1:"b" , 12 : [1]}') == {"0": "a", "-1": "b", "12": [1]}


def test_object_keys_become_sorted_compact_json() -> None:
    data = '{{"topic":"t","queueId":0,"brokerName":"中"}:{"maxOffset":1}, {}:2}'
    assert loads(data.encode()) == {
        '{"brokerName":"中","queueId":0,"topic":"t"}': {"maxOffset": 1},
        "{}": 2,
    }


def test_blanks_and_what_cpp_leaves_at_the_end() -> None:
    assert loads(b"\r\n\t {1:2} \n\0") == {"1": 2}
    assert loads(b'{"a":1}\n') == {"a": 1}


def test_a_comma_at_an_end_is_an_error() -> None:
    with pytest.raises(FastJsonError, match="a key expected"):
        loads("{1:2,}")
    with pytest.raises(FastJsonError, match="a value expected"):
        loads("[1,]")


def test_words_and_numbers() -> None:
    document = loads("{1:[true,false,null,0,-5,1.5,-2e3,1E+2,123456789012345678901234567890]}")
    assert document == {
        "1": [True, False, None, 0, -5, 1.5, -2000.0, 100.0, 123456789012345678901234567890]
    }


def test_escapes() -> None:
    assert loads(r'{1:"\"\\\/\b\f\n\r\t\u4e2d\ud83d\ude00"}') == {"1": '"\\/\b\f\n\r\t中😀'}
    assert loads('{1:"raw \n tab \t"}') == {"1": "raw \n tab \t"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "a value expected at character 0", id="empty"),
        pytest.param("{", "a key expected at character 1", id="open object"),
        pytest.param("[1", "',' or ']' expected at character 2", id="open array"),
        pytest.param("{1:2", "',' or '}' expected at character 4", id="object cut"),
        pytest.param("{1 2}", "':' expected at character 3", id="no colon"),
        pytest.param("{x:2}", "a key expected at character 1", id="bare word as a key"),
        pytest.param("{1:2} x", "more after the document's end at character 6", id="two documents"),
        pytest.param('{1:"abc', "a text without end at character 3", id="open text"),
        pytest.param(r'{1:"\x41"}', "a text with a bad escape at character 3", id="bad escape"),
        pytest.param(r'{1:"\ud800"}', "a text with a bad escape at character 3", id="half a pair"),
        pytest.param("{1:NaN}", "a value expected at character 3", id="NaN"),
        pytest.param("{1:-}", "a value expected at character 3", id="minus alone"),
        pytest.param("[" * 65, "nested deeper than 64 at character 65", id="deep"),
        pytest.param("{{{", "an object as key within a key at character 2", id="deep keys"),
        pytest.param("[" * 500_000, "nested deeper than 64", id="very deep"),
        pytest.param("9" * 5000, "more after the document's end at character 400", id="long"),
    ],
)
def test_errors_say_what_and_where(text: str, message: str) -> None:
    with pytest.raises(FastJsonError) as caught:
        loads(text)
    assert message in caught.value.remark
    assert caught.value.code == 1


def test_text_that_is_no_utf8() -> None:
    with pytest.raises(FastJsonError, match="not UTF-8"):
        loads(b'{"a":"\xff"}')
    with pytest.raises(FastJsonError, match="not UTF-8"):
        loads('{"a":"\ud800"}')


def test_sixty_four_levels_are_read() -> None:
    assert loads("[" * 63 + "{1:2}" + "]" * 63)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param('{"a":{"b":[{"x":1}]},"r":{"$ref":"$.a.b[0]"}}', "a.b.0", id="path"),
        pytest.param('{"a":{"b":[{"x":1}]},"r":{"$ref":"$.a"}}', "a", id="member"),
        pytest.param('[{"x":1},{"r":{"$ref":"$[0]"}}]', "0", id="array root"),
        pytest.param('{"r":{"$ref":"$.a"},"a":[1]}', "a", id="forward"),
    ],
)
def test_a_reference_is_the_object_it_names(text: str, path: str) -> None:
    root = loads(text)
    target: object = root
    for step in path.split("."):
        target = target[int(step) if step.isdigit() else step]  # type: ignore[index]
    holder = root[1] if isinstance(root, list) else root
    assert isinstance(holder, dict)
    assert holder["r"] is target


def test_references_to_what_encloses_them() -> None:
    root = loads('{"o":{"me":{"$ref":"@"},"up":{"$ref":".."},"top":{"$ref":"$"}}}')
    assert isinstance(root, dict)
    inner = root["o"]
    assert inner["me"] is inner
    assert inner["up"] is root
    assert inner["top"] is root


def test_a_reference_in_a_list() -> None:
    root = loads('{"a":{"x":1},"l":[{"$ref":"$.a"},{"$ref":"$.a"}]}')
    assert isinstance(root, dict)
    assert root["l"] == [{"x": 1}, {"x": 1}]


def test_what_only_looks_like_a_reference_stays() -> None:
    document = {"a": {"$ref": 5}, "b": {"$ref": "$.a", "c": 1}, "t": "$ref"}
    assert loads(json.dumps(document)) == document


@pytest.mark.parametrize(
    "path",
    ["$.nothing", "$.a[0]", "$.l[9]", "$.l.x", "$.l[0].y", "a", "", "$x", "$.l[", "$.l[x]", "$..a"],
)
def test_a_reference_to_nothing_is_an_error(path: str) -> None:
    text = json.dumps({"a": {"x": 1}, "l": [1], "r": {"$ref": path}})
    with pytest.raises(FastJsonError, match=r"names nothing|is no path"):
        loads(text)


def test_a_reference_to_a_reference_is_an_error() -> None:
    with pytest.raises(FastJsonError, match="names another reference"):
        loads('{"a":{"$ref":"$.b"},"b":{"$ref":"$.a"}}')
    with pytest.raises(FastJsonError, match="is no path"):
        loads('{"a":{"$ref":".."}}')


def test_size_counts_every_visit() -> None:
    assert size_within([1, [2, {"a": 3}]], 6)
    assert not size_within([1, [2, {"a": 3}]], 5)
    assert not size_within(loads('{"a":{"$ref":"$"}}'), 10_000)
    levels = ['"l0":[1,1]'] + [
        f'"l{n}":[{{"$ref":"$.l{n - 1}"}},{{"$ref":"$.l{n - 1}"}}]' for n in range(1, 60)
    ]
    assert not size_within(loads("{" + ",".join(levels) + "}"), 10_000)


@given(st.text(alphabet='{}[]:,"\\$ref.@01-eE x\n', max_size=60))
def test_random_text_gives_a_document_or_a_peer_error(text: str) -> None:
    with suppress(PeerError):
        loads(text)


@given(st.binary(max_size=60))
def test_random_bytes_give_a_document_or_a_peer_error(data: bytes) -> None:
    with suppress(PeerError):
        loads(data)


@pytest.mark.parametrize("depth", [2, 8, 60])
def test_a_key_within_a_key_is_no_bomb(depth: int) -> None:
    """Text in text in text: each level would double the escapes of the one before."""
    with pytest.raises(FastJsonError, match="within a key"):
        loads("{" * depth + '{"a":1}' + ":1}" * depth)
    assert loads('{{"a":1}:{{"b":2}:3}}') == {'{"a":1}': {'{"b":2}': 3}}


def test_the_slow_reader_has_a_bound() -> None:
    with pytest.raises(FastJsonError, match=r"more than 100000 values"):
        loads("[" + "1," * 200_000)
