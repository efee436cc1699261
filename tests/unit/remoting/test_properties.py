"""Configuration files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting.errors import CallerError
from ledgermq.remoting.properties import Property, parse

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
