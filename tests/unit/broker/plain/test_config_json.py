"""config/*.json: upstream's form written, everybody's read, what is broken named by its place."""

import json
from typing import Any

import pytest

from ledgermq.broker.config_json import BrokenJsonError, broken_row, pretty, read
from ledgermq.remoting.bodies.registration import TopicConfig
from tests.golden.captured import STORES, rebuild

JAVA = [store for store in STORES if store.startswith("plain")]
OFFSETS = b'{\n\t"offsetTable":{\n\t\t"A@g":{0:10,1:-5\n\t\t},\n\t\t"B@g":{}\n\t}\n}'


def test_bare_integer_keys_are_read_and_written_with_quotes() -> None:
    assert read(OFFSETS) == {"offsetTable": {"A@g": {"0": 10, "1": -5}, "B@g": {}}}
    table = {"offsetTable": {"A@g": {0: 10, 1: -5}, "B@g": {}}}
    assert pretty(table) == OFFSETS.replace(b"0:10", b'"0":10').replace(b"1:-5", b'"1":-5')


def test_texts_are_left_alone() -> None:
    text = r'{"a{1:2,3:4":"{5:6}","b\",7:8":[1,2,{9:"x"}], -1 : 0}'
    assert read(text.encode()) == {
        "a{1:2,3:4": "{5:6}",
        'b",7:8': [1, 2, {"9": "x"}],
        "-1": 0,
    }


def test_a_map_that_upstream_wrote_once_and_named_twice() -> None:
    found = read(
        b'{"t":{"A":{"attributes":{"k":"v"}},"B":{"attributes":{"$ref":"$.t.A.attributes"}}}}'
    )
    assert found == {"t": {name: {"attributes": {"k": "v"}} for name in "AB"}}


def test_fields_are_sorted_rows_are_not() -> None:
    text = pretty({"T": TopicConfig(topic_name="T"), "A": TopicConfig(topic_name='Ü"')})
    assert text.startswith(b'{\n\t"T":{\n\t\t"attributes":{},\n\t\t"order":false,\n\t\t"perm":6,')
    assert json.loads(text)["A"]["topicName"] == 'Ü"'
    assert "Ü".encode() in text


@pytest.mark.parametrize("store", JAVA)
def test_upstreams_files_come_out_as_they_were(store: str, tmp_path: Any) -> None:
    rebuild(store, tmp_path)
    names = ("topics.json", "subscriptionGroup.json", "consumerOffset.json", "consumerFilter.json")
    for name in names:
        data = (tmp_path / "config" / name).read_bytes()
        again = pretty(numbered(read(data)))
        if name == "consumerOffset.json":
            again = again.replace(b'{"0":', b"{0:").replace(b',"1":', b",1:")
        assert again == data


def numbered(tree: Any) -> Any:
    """Integer keys as integers, as our tables have them."""
    if not isinstance(tree, dict):
        return tree
    return {int(k) if k.isdigit() else k: numbered(v) for k, v in tree.items()}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"", "line 1, byte 0: Expecting value", id="empty"),
        pytest.param(bytes(100), "line 1, byte 0", id="zeros"),
        pytest.param(b"[]", "no JSON object", id="no object"),
        pytest.param(OFFSETS[:-1], f"line 7, byte {len(OFFSETS) - 1}", id="the end is cut off"),
        pytest.param(OFFSETS + b"\0", f"line 7, byte {len(OFFSETS)}: Extra data", id="more"),
        pytest.param(b'{"a":{0:1,1:2,\n2:x}}', "line 2, byte 17: Expecting value", id="value"),
        pytest.param(b'{0:1,\n"\xc3\xbc":1,2}', "line 2, byte 13", id="bytes are counted"),
        pytest.param(b'{"a":"\xff"}', "line 1, byte 6: no UTF-8", id="no text"),
        pytest.param(b'{"a":{"b":1,"b":1}}', "'b' stands twice", id="twice"),
        pytest.param(b'{"a":' * 100_000, "nested too deep", id="deep"),
        pytest.param(b'{"a":{"$ref":"$.x"}}', "names nothing", id="a bad reference"),
    ],
)
def test_what_is_broken_is_named(data: bytes, says: str) -> None:
    with pytest.raises(BrokenJsonError, match=says):
        read(data)


def test_the_place_of_a_row() -> None:
    assert str(broken_row(OFFSETS, "B@g", "bad")) == "line 5, byte 45: 'B@g': bad"
    assert str(broken_row(OFFSETS, "C@g", "bad")) == "'C@g': bad"
