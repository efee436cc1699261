"""Configuration files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting.errors import CallerError
from ledgermq.remoting.properties import Property, comment_above, parse, with_source

BROKER_CONF = """\
# a broker
brokerClusterName = RaftCluster
brokerName=RaftNode00
\t ! an old-style comment

namesrvAddr = 127.0.0.1:9876;127.0.0.1:9877  \r
dLegerPeers=n0-127.0.0.1:40911;n1-127.0.0.1:40912
empty =
equals=a=b=c
"""


def test_a_broker_file() -> None:
    assert parse(BROKER_CONF, "broker.conf") == [
        ("brokerClusterName", "RaftCluster", 2),
        ("brokerName", "RaftNode00", 3),
        ("namesrvAddr", "127.0.0.1:9876;127.0.0.1:9877", 6),
        ("dLegerPeers", "n0-127.0.0.1:40911;n1-127.0.0.1:40912", 7),
        ("empty", "", 8),
        ("equals", "a=b=c", 9),
    ]


def test_bytes_with_mark_and_windows_line_ends() -> None:
    data = b"\xef\xbb\xbfa=1\r\n\r\n# c\r\nb = \xe4\xb8\xad\r\n"
    assert parse(data, "f") == [Property("a", "1", 1), Property("b", "中", 4)]


def test_a_key_that_stands_twice_comes_twice() -> None:
    assert [p.value for p in parse("a=1\na=2", "f")] == ["1", "2"]


def test_a_hash_inside_a_value_is_no_comment() -> None:
    assert parse("color = #fff", "f") == [("color", "#fff", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a=1\nlisten port 9876", "f.conf:2: 'listen port 9876' has no '='", id="no ="),
        pytest.param("\n\n = x", "f.conf:3: no key before '='", id="no key"),
        pytest.param(b"a=1\nb=\xff", "f.conf:2: byte 0xff is not UTF-8", id="not UTF-8"),
    ],
)
def test_an_error_names_file_and_line(text: str | bytes, message: str) -> None:
    with pytest.raises(CallerError) as caught:
        parse(text, "f.conf")
    assert str(caught.value).startswith(message)


WORD = st.text(st.characters(codec="utf-8", exclude_characters="\n=#!\ufeff"), min_size=1).filter(
    lambda w: w == w.strip()
)


@given(st.lists(st.tuples(WORD, WORD)), st.sampled_from(["=", " = ", "\t=  "]))
def test_what_is_written_is_read(pairs: list[tuple[str, str]], equals: str) -> None:
    text = "\n".join(f"{k}{equals}{v}" for k, v in pairs)
    assert [(p.key, p.value) for p in parse(text.encode(), "f")] == pairs


# --- values that say where they are from ---------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("default", id="default"),
        pytest.param("command line", id="command line"),
        pytest.param("no effect", id="no effect"),
        pytest.param("environment NAMESRV_ADDR", id="environment"),
        pytest.param("/a/我的 b.conf:12", id="file"),
        pytest.param("/a  # b:3/c.conf:12", id="file named like a comment"),
    ],
)
@pytest.mark.parametrize("value", ["", "x", "x  # y", "x  # default", "#"])
def test_a_source_is_no_part_of_the_value(value: str, source: str) -> None:
    line = with_source("key", value, source)
    assert line.startswith(f"key={value}  # ")
    assert parse(line, "f") == [("key", value, 1)]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x # default", id="one blank"),
        pytest.param("x  #default", id="no blank after #"),
        pytest.param("x  # by default", id="other words"),
        pytest.param("x  # keep: 12 hours", id="a person's comment"),
        pytest.param("x  # environment", id="no variable"),
        pytest.param("x  # a.conf:12b", id="no line"),
        pytest.param("x  # default y", id="more behind"),
    ],
)
def test_another_comment_is_a_part_of_the_value(value: str) -> None:
    """As upstream reads it; who has written it by hand is told by the lint."""
    assert parse(f"key={value}", "f") == [("key", value, 1)]


@given(st.text(alphabet="ab #:1", max_size=12).map(str.strip), st.text("ab #:1.", min_size=1))
def test_every_value_comes_back_from_beside_its_source(value: str, name: str) -> None:
    source = f"/{name.strip()}:7"
    assert parse(with_source("key", value, source), "f") == [("key", value, 1)]


def test_the_comment_above_a_line() -> None:
    text = b"# far\n\n# one\n \t! two\na=1\nb=2\n# three\r\nc=3\n"
    assert comment_above(text, 5) == "# one ! two"
    assert comment_above(text, 6) == ""
    assert comment_above(text, 8) == "# three"
    assert comment_above(b"a=1", 1) == ""
