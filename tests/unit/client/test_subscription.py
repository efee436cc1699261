"""Tag expressions."""

import pytest

from ledgermq.client.errors import InvalidArgument
from ledgermq.client.subscription import Subscription, parse, retry_topic


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("*", set()),
        ("", set()),
        ("  ", set()),
        ("TagA", {"TagA"}),
        ("TagA || TagB", {"TagA", "TagB"}),
        ("TagA||TagB", {"TagA", "TagB"}),
        (" TagA ||  || TagA ", {"TagA"}),
        ("标签 || b", {"标签", "b"}),
    ],
)
def test_tags_of_an_expression(text, tags):
    assert Subscription("T", text, 1).tags == tags


def test_an_empty_expression_means_everything():
    assert Subscription("T", "", 1).expression == "*"


@pytest.mark.parametrize("text", ["||", " || || "])
def test_an_expression_without_a_tag_is_refused(text):
    with pytest.raises(InvalidArgument, match="TagA"):
        Subscription("T", text, 1)


def test_a_topic_is_needed():
    with pytest.raises(InvalidArgument, match="without a topic"):
        Subscription("", "*", 1)


@pytest.mark.parametrize(
    ("text", "tag", "wanted"),
    [
        ("*", "any", True),
        ("*", "", True),
        ("A || B", "A", True),
        ("A || B", "C", False),
        ("A", "", False),
        # "Aa" and "BB" have the same Java hash: brokers cannot tell them apart.
        ("Aa", "BB", False),
    ],
)
def test_wants_compares_the_text(text, tag, wanted):
    assert Subscription("T", text, 1).wants(tag) is wanted


def test_heartbeat_form():
    data = Subscription("T", "TagB || TagA", 42).to_data()
    assert data.topic == "T"
    assert data.sub_string == "TagB || TagA"
    assert data.tags_set == ["TagA", "TagB"]
    assert data.code_set == [2598919, 2598920]
    assert data.sub_version == 42
    assert data.expression_type == "TAG"


def test_parse_adds_the_retry_topic():
    subs = parse({"T": "A", "U": "*"}, "g", 1, retries=True)
    assert set(subs) == {"T", "U", "%RETRY%g"}
    assert subs["%RETRY%g"].expression == "*"
    assert retry_topic("g") == "%RETRY%g"


def test_parse_without_retries_takes_what_is_named():
    assert set(parse("T", "g", 1, retries=False)) == {"T"}


def test_parse_takes_a_single_topic():
    assert parse("T", "g", 1, retries=True)["T"].expression == "*"


def test_parse_needs_a_topic():
    with pytest.raises(InvalidArgument, match="group g subscribes to no topic"):
        parse({}, "g", 1, retries=True)
